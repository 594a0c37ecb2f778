"""Small molecules, atom by atom and bond by bond."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gfn_design.environments.graph import (
    ActionLayout,
    Graph,
    GraphEnvironment,
    dense_to_graph,
    slot_pairs,
)
from gfn_design.environments.molecules.molecular_graph import (
    CHARGED,
    VALENCES,
    Atomic,
    connected_orders,
    forms_per_symmetry,
    from_smiles,
    to_smiles,
)
from gfn_design.environments.numbering import Enumerated
from gfn_design.errors import InputError

TRIPLE = 3  # the highest order of a bond
AT_ONCE = 1024  # objects whose copies are counted at once, which bounds memory


class Atoms(GraphEnvironment, Enumerated):
    """Molecules of a few heavy atoms; hydrogens fill the valences that are left.

    A state holds, slot after slot, the element of each atom (-1 while blank), whether it is
    charged (0 or 1), and the order of the bond of each pair of atoms (0 to 3; the pairs are
    `slot_pairs`). Atoms are numbered in the order in which they were added, so each but the first
    has a bond to an earlier one, and every such numbered graph is a state: what is built is always
    one valid molecule. One step

    - begins with an atom, or adds one by a single bond to any atom that has a valence left;
    - raises the order of a bond by one, from none too, which closes a ring;
    - charges an atom: N and P then have four valences, O and S one, B four;
    - or stops, which is allowed everywhere but at the source.

    A step back removes the last atom where it hangs by one single bond, lowers the order of a bond
    where the later of its atoms keeps a bond to an earlier one, or takes a charge away.

    Molecules are written as RDKit's canonical SMILES. Many states are one molecule, which
    `log_states_per_object` counts: as many as ways to number its atoms so that each has an earlier
    neighbour, times its Kekule structures, over the symmetries of the (aromatic) molecule.
    Stereochemistry and isotopes are no part of a molecule here.

    Args:
        elements: Some of B, C, N, O, F, P, S, Cl, Br, I; with the lowest valence of each.
        max_atoms: Heavy atoms of the largest molecule, 2 to 12.
        charges: Whether atoms may be charged.
        numbered: States are numbered, for exact evaluation, if there are at most so many.
    """

    molecules, several_states = True, True
    valences: Tensor
    i: Tensor
    j: Tensor
    pair: Tensor
    before: Tensor
    slot: Tensor
    element: Tensor
    column: Tensor
    name: Tensor

    def __init__(
        self,
        elements: str | list[str] = "CNOF",
        max_atoms: int = 9,
        charges: bool = True,
        numbered: int = 5_000,
    ) -> None:
        super().__init__()
        self.elements, self.max_atoms, self.charges = tuple(elements), max_atoms, charges
        if unknown := [element for element in self.elements if element not in VALENCES]:
            known = ", ".join(VALENCES)
            raise InputError(f"elements must be some of {known}, got '{unknown[0]}'")
        if not self.elements or len(set(self.elements)) < len(self.elements):
            raise InputError(f"elements must be one or more different ones, got '{elements}'")
        if not 2 <= max_atoms <= 12:
            raise InputError(f"max_atoms must be 2 to 12, got {max_atoms}")
        n, kinds, n_pairs = max_atoms, len(self.elements), max_atoms * (max_atoms - 1) // 2
        self.n_slots = n
        self.forward_layout = ActionLayout(node=kinds + 1, pair=1, graph=kinds + 1)
        self.backward_layout = ActionLayout(node=1, pair=1, graph=1)
        self.n_actions = self.forward_layout.actions(n)
        self.n_backward_actions = self.backward_layout.actions(n)
        self.slot_sizes = (kinds,) * n + (2,) * n + (TRIPLE + 1,) * n_pairs
        # Valence without and with a charge; less than no bonds where there is no such ion. The
        # last column is that of a blank slot.
        neutral = [VALENCES[element] for element in self.elements]
        ion = [CHARGED[e][1] if charges and e in CHARGED else -1 for e in self.elements]
        self._tables(neutral, ion, n, kinds)
        most = max(neutral + ion)
        orders = min(n * most // 2, TRIPLE * n_pairs)
        ions = n if any(valence >= 0 for valence in ion) else 0
        self.max_steps = n + max(orders - (n - 1), 0) + ions + 1
        self.node_sizes = (kinds, 2, most + 1, n)
        self.edge_sizes, self.graph_sizes = (TRIPLE,), (n + 1,)
        self.number_states(numbered)

    def _tables(self, neutral: list[int], ion: list[int], n: int, kinds: int) -> None:
        valences = torch.tensor([[*neutral, 0], [*ion, -1]])
        i, j = slot_pairs(n)
        pair = torch.full((n, n), -1)
        pair[i, j] = pair[j, i] = torch.arange(len(i))
        # Of every action: the slot that it attaches to, the element that it adds, or else the
        # column of the state that it raises, and the backward action undoing it.
        removes, actions = n + len(i), []
        for s in range(n):
            actions += [(s, e, 0, removes) for e in range(kinds)]
            actions += [(-1, -1, n + s, s)]
        actions += [(-1, -1, 2 * n + p, n + p) for p in range(len(i))]
        actions += [(-1, e, 0, removes) for e in range(kinds)]
        actions += [(-1, -1, 0, 0)]
        names = ("slot", "element", "column", "name")
        tables = dict(zip(names, torch.tensor(actions).unbind(1), strict=True))
        tables |= {"valences": valences, "i": i, "j": j, "pair": pair}
        tables["before"] = torch.ones(n, n, dtype=torch.bool).tril(-1)
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def extra_repr(self) -> str:
        elements = " ".join(self.elements)
        return f"elements='{elements}', max_atoms={self.max_atoms}, charges={self.charges}"

    def parts(self, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Elements and charges of atoms, ``int64[batch, max_atoms]``, and orders of bonds.

        The orders are a symmetric matrix: ``int64[batch, max_atoms, max_atoms]``.
        """
        n = self.max_atoms
        elements, charged, bonds = states[:, :n], states[:, n : 2 * n], states[:, 2 * n :]
        return elements, charged, bonds[:, self.pair] * (self.pair >= 0)

    def initial(self, n: int) -> Tensor:
        atoms, others = self.max_atoms, len(self.slot_sizes) - self.max_atoms
        blank = torch.full((n, atoms), -1, device=self.pair.device)
        return torch.cat([blank, blank.new_zeros(n, others)], 1)

    def legal(self, states: Tensor) -> Tensor:
        elements, charged, orders = self.parts(states)
        used, begun = orders.sum(2), elements[:, :1] >= 0
        left = self.valences[charged, elements] > used
        attach = (left & (elements[:, -1:] < 0))[..., None].expand(-1, -1, len(self.elements))
        charge = (charged == 0) & (self.valences[1][elements] >= used)
        atom = torch.cat([attach, charge[..., None]], 2).flatten(1)
        below = states[:, 2 * self.max_atoms :] < TRIPLE
        bond = left[:, self.i] & left[:, self.j] & below
        return torch.cat([atom, bond, ~begun.expand(-1, len(self.elements)), begun], 1)

    def legal_backward(self, states: Tensor) -> Tensor:
        elements, charged, orders = self.parts(states)
        used, bonds = orders.sum(2), states[:, 2 * self.max_atoms :]
        discharge = (charged == 1) & (self.valences[0][elements] >= used)
        earlier = ((orders > 0) & self.before).sum(2)
        lower = (bonds > 1) | ((bonds == 1) & (earlier[:, self.i] > 1))
        last = ((elements >= 0).sum(1, keepdim=True) - 1).clamp(min=0)
        loose = used.gather(1, last) == (last > 0)  # the first atom has no bond when it is last
        loose = loose & (charged.gather(1, last) == 0) & (elements[:, :1] >= 0)
        return torch.cat([discharge, lower, loose], 1)

    def step(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        slot, element = self.slot[actions], self.element[actions]
        new = (states[:, : self.max_atoms] >= 0).sum(1).clamp(max=self.max_atoms - 1)
        raised = torch.where(element >= 0, new, self.column[actions])
        bond = 2 * self.max_atoms + self.pair[new, slot].clamp(min=0)
        where = torch.stack([raised, bond], 1)
        by = torch.stack([torch.where(element >= 0, element + 1, 1), (slot >= 0).long()], 1)
        return states.scatter_add(1, where, by), self.name[actions]

    def backward_step(self, states: Tensor, backward_actions: Tensor) -> tuple[Tensor, Tensor]:
        n, kinds, n_pairs = self.max_atoms, len(self.elements), len(self.i)
        elements, _, orders = self.parts(states)
        last = ((elements >= 0).sum(1) - 1).clamp(min=0)
        row = torch.arange(len(states), device=states.device)
        neighbour, element = orders[row, last].argmax(1), elements[row, last]
        removes, first = backward_actions == n + n_pairs, last == 0
        lowered = torch.where(removes, last, n + backward_actions)
        bond = 2 * n + self.pair[last, neighbour].clamp(min=0)
        where = torch.stack([lowered, bond], 1)
        by = torch.stack([torch.where(removes, element + 1, 1), (removes & ~first).long()], 1)
        attach = neighbour * (kinds + 1) + element
        begin = n * (kinds + 1) + n_pairs + element
        redo = torch.where(first, begin, attach).clamp(min=0)
        charge = backward_actions * (kinds + 1) + kinds
        raises = n * kinds + backward_actions  # n (kinds + 1) + pair
        redo = torch.where(removes, redo, torch.where(backward_actions < n, charge, raises))
        return states.scatter_add(1, where, -by), redo

    def to_graph(self, states: Tensor) -> Graph:
        """Atoms with element, charge, valence left and number; bonds with their order less one."""
        elements, charged, orders = self.parts(states)
        left = (self.valences[charged, elements] - orders.sum(2)).clamp(min=0)
        number = torch.arange(self.max_atoms, device=states.device).expand_as(left)
        nodes = torch.stack([elements, charged, left, number], 2)
        present = elements >= 0
        graph_features = present.sum(1, keepdim=True)
        return dense_to_graph(present, nodes, orders > 0, orders[..., None] - 1, graph_features)

    def _atomic(self, states: Tensor) -> list[Atomic]:
        n, molecules = self.max_atoms, []
        i, j = self.i.tolist(), self.j.tolist()
        for row in states.tolist():
            atoms = zip(row[:n], row[n : 2 * n], strict=True)
            bonds = zip(i, j, row[2 * n :], strict=True)
            molecules.append(
                Atomic(
                    tuple((self.elements[element], q) for element, q in atoms if element >= 0),
                    tuple(bond for bond in bonds if bond[2]),
                )
            )
        return molecules

    def decode(self, states: Tensor) -> list[str]:
        return [to_smiles(molecule) for molecule in self._atomic(states)]

    def encode(self, texts: Sequence[str]) -> Tensor:
        """One of the states of each molecule.

        Args:
            texts: SMILES, canonical or not; nothing for the source.

        Raises:
            InputError: RDKit reads no SMILES, or the molecule has more or other atoms or charges
                than this environment, an unpaired electron, or parts that are not joined.
        """
        n, element = self.max_atoms, {symbol: i for i, symbol in enumerate(self.elements)}
        states = self.initial(len(texts))
        for row, text in enumerate(texts):
            atoms, bonds = from_smiles(text)
            if len(atoms) > n:
                raise InputError(f"'{text}' has {len(atoms)} heavy atoms, expected at most {n}")
            for k, (symbol, charged) in enumerate(atoms):
                if symbol not in element:
                    known = " ".join(self.elements)
                    raise InputError(f"'{text}' has the element {symbol}, expected some of {known}")
                if charged and not self.charges:
                    raise InputError(f"'{text}' is charged, and charges is false")
                states[row, k], states[row, n + k] = element[symbol], charged
            for i, j, order in bonds:
                states[row, 2 * n + self.pair[i, j]] = order
        return states

    def log_states_per_object(self, objects: Tensor) -> Tensor:
        """log of the number of states that are the same molecule as each: ``float64[batch]``."""
        parts = [torch.ones(0, dtype=torch.float64, device=objects.device)]
        for part in objects.split(AT_ONCE):
            elements, _, orders = self.parts(part)
            forms = [forms_per_symmetry(molecule) for molecule in self._atomic(part)]
            numberings = connected_orders(orders > 0, (elements >= 0).sum(1))
            parts.append(numberings * numberings.new_tensor(forms))
        return torch.cat(parts).round().log()  # these are whole numbers
