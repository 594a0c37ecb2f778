"""The sEH proxy of Bengio et al. (2021): a message-passing network on the atoms of a molecule."""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfn_design.errors import InputError
from gfn_design.rewards.answers import ScoringError

if TYPE_CHECKING:
    from rdkit.Chem import Mol

FEATURES, WIDTH, STEPS = 71, 64, 12
ELEMENTS = {1: 0, 6: 1, 7: 2, 8: 3, 9: 4}  # H C N O F; what is none of these is feature 5
OTHER, AROMATIC, HYBRID, HYDROGENS, NUMBER, STEM = 5, 9, 10, 13, 14, 70
HEAVIEST = STEM - NUMBER  # barium, the last element with a feature of its own
BONDS = 5  # single, double, triple, aromatic, and a bond of none of these kinds
AT_ONCE = 256  # molecules; more at once are no faster


class Atoms(NamedTuple):
    """Molecules as one graph.

    Attributes:
        features: ``float32[atoms, 71]``.
        edges: ``int64[2, edges]``, from and to, both directions of every bond.
        kinds: ``int64[edges]``, kind of bond.
        molecule: ``int64[atoms]``, rising.
    """

    features: Tensor
    edges: Tensor
    kinds: Tensor
    molecule: Tensor


class SEHProxy(nn.Module):
    """Predicted binding to soluble epoxide hydrolase; dimensionless, 4 is average, 8 very good.

    Fitted by Bengio et al. to 4 - (min(0, Vina score in kcal/mol) + 8.6) / 1.10. In each of 12
    steps an atom takes the mean of its neighbours' states, each multiplied by the matrix of the
    bond, and a gated unit updates it; Set2Set sums up the atoms.

    The weights have two readings. The original one adds ``x @ root`` for the atom itself: this is
    the function that was trained, and it agrees with docking. Ports of the code read the same
    matrix as the weight of a linear layer, ``x @ root.T``, and much published work uses that.

    Args:
        weights: The file of weights (see datasets/seh_mpnn); None finds or refuses it.
        transposed: The second reading.
    """

    matrices: Tensor
    root: Tensor
    bias: Tensor

    def __init__(self, weights: Path | None = None, transposed: bool = False) -> None:
        super().__init__()
        from safetensors import SafetensorError
        from safetensors.torch import load_file
        from torch_geometric.nn.aggr import Set2Set

        from gfn_design.files.registry import locate

        path = locate("seh_mpnn") if weights is None else weights
        self.embed = nn.Linear(FEATURES, WIDTH)
        self.gate = nn.GRUCell(WIDTH, WIDTH)
        self.sum_up = Set2Set(WIDTH, processing_steps=3)
        self.out = nn.Linear(2 * WIDTH, 1)
        try:
            w = load_file(path)
            hidden = F.leaky_relu(
                _bond_features() @ w["conv.edge_nn.0.weight"].T + w["conv.edge_nn.0.bias"]
            )
            matrices = hidden @ w["conv.edge_nn.2.weight"].T + w["conv.edge_nn.2.bias"]
            matrices = matrices.view(BONDS, WIDTH, WIDTH)
            root = w["conv.root"].T if transposed else w["conv.root"]
            self.register_buffer("matrices", matrices, persistent=False)
            self.register_buffer("root", root.contiguous(), persistent=False)
            self.register_buffer("bias", w["conv.bias"], persistent=False)
            for layer, name in ((self.embed, "lin0"), (self.out, "lin3")):
                layer.load_state_dict({p: w[f"{name}.{p}"] for p in ("weight", "bias")})
            recurrent = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            self.gate.load_state_dict({p: w[f"gru.{p}_l0"] for p in recurrent})
            self.sum_up.lstm.load_state_dict(
                {f"{p}_l0": w[f"set2set.lstm.{p}_l0"] for p in recurrent}
            )
        except (SafetensorError, KeyError, RuntimeError, OSError) as error:
            raise InputError(f"{path}: holds no weights of the sEH proxy ({error})") from error
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(
        self, molecules: Sequence["Mol"], stems: Sequence[Sequence[int]] | None = None
    ) -> Tensor:
        """Scores of RDKit molecules, ``float32[molecules]`` on the device of the weights.

        Args:
            molecules: With hydrogens implicit, as `rdkit.Chem.MolFromSmiles` makes them.
            stems: Of each molecule the atoms where it could grow on, which training had flagged;
                None flags none, as is usual for finished molecules.

        Raises:
            ScoringError: A molecule has no atom, or one heavier than barium.
        """
        scores = []
        for start in range(0, len(molecules), AT_ONCE):
            part = molecules[start : start + AT_ONCE]
            flags = None if stems is None else stems[start : start + AT_ONCE]
            scores.append(self._score(_atoms(part, flags), len(part)))
        return torch.cat(scores) if scores else self.bias[:0]

    def _score(self, atoms: Atoms, n: int) -> Tensor:
        features, (start, end), kinds, molecule = (x.to(self.bias.device) for x in atoms)
        # What an atom receives along bonds of one kind is summed before it meets the kind's matrix.
        pairs, pair = (kinds * len(features) + end).unique(return_inverse=True)
        kind, receiver = pairs // len(features), pairs % len(features)
        sizes = kind.bincount(minlength=BONDS).tolist()
        share = 1 / end.bincount(minlength=len(features)).clamp(min=1)[:, None]
        state = F.leaky_relu(self.embed(features))
        for _ in range(STEPS):
            sums = state.new_zeros(len(pairs), WIDTH).index_add_(0, pair, state[start])
            parts = zip(sums.split(sizes), self.matrices, strict=True)
            messages = torch.cat([part @ matrix for part, matrix in parts])
            mean = torch.zeros_like(state).index_add_(0, receiver, messages) * share
            state = self.gate(F.leaky_relu(mean + state @ self.root + self.bias), state)
        return self.out(self.sum_up(state, molecule, dim_size=n)).squeeze(1)


def _bond_features() -> Tensor:
    return torch.eye(BONDS)[:, : BONDS - 1]


def _atoms(molecules: Sequence["Mol"], stems: Sequence[Sequence[int]] | None) -> Atoms:
    numbers: list[int] = []
    columns: list[tuple[int, int]] = []  # features that are 1, by atom
    hydrogens: list[int] = []
    starts: list[int] = []
    ends: list[int] = []
    kinds: list[int] = []
    sizes: list[int] = []
    hybrid, bonds = _codes()
    first = 0
    for molecule in molecules:
        for atom in molecule.GetAtoms():
            place, number = first + atom.GetIdx(), atom.GetAtomicNum()
            if not 1 <= number <= HEAVIEST:
                raise ScoringError(f"knows no element {atom.GetSymbol()}")
            numbers.append(number)
            hydrogens.append(atom.GetTotalNumHs(includeNeighbors=True))
            if (kind := hybrid.get(atom.GetHybridization())) is not None:
                columns.append((place, HYBRID + kind))
            if atom.GetIsAromatic():
                columns.append((place, AROMATIC))
        size = molecule.GetNumAtoms()
        if size == 0:
            raise ScoringError("scores no molecule without atoms")
        for bond in molecule.GetBonds():
            a, b = first + bond.GetBeginAtomIdx(), first + bond.GetEndAtomIdx()
            starts += (a, b)
            ends += (b, a)
            kinds += [bonds.get(bond.GetBondType(), BONDS - 1)] * 2
        if molecule.GetNumBonds() == 0:
            starts.append(first)
            ends.append(first)
            kinds.append(BONDS - 1)
        sizes.append(size)
        first += size
    if stems is not None:
        offsets = [0, *torch.tensor(sizes).cumsum(0).tolist()]
        columns += [
            (offset + atom, STEM)
            for (offset, _), flagged in zip(pairwise(offsets), stems, strict=True)
            for atom in flagged
        ]
    features = torch.zeros(first, FEATURES)
    every = torch.arange(first)
    atomic = torch.tensor(numbers)
    element = torch.full((HEAVIEST + 1,), OTHER)
    element[list(ELEMENTS)] = torch.tensor(list(ELEMENTS.values()))
    features[every, element[atomic]] = 1
    features[every, NUMBER - 1 + atomic] = 1
    features[:, HYDROGENS] = torch.tensor(hydrogens, dtype=torch.float32)
    if columns:
        rows, ones = torch.tensor(columns).T
        features[rows, ones] = 1
    molecule_of = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return Atoms(features, torch.tensor([starts, ends]), torch.tensor(kinds), molecule_of)


@cache
def _codes() -> tuple[dict[object, int], dict[object, int]]:
    from rdkit.Chem import BondType, HybridizationType

    hybrid = (HybridizationType.SP, HybridizationType.SP2, HybridizationType.SP3)
    bonds = (BondType.SINGLE, BondType.DOUBLE, BondType.TRIPLE, BondType.AROMATIC)
    return {x: i for i, x in enumerate(hybrid)}, {x: i for i, x in enumerate(bonds)}
