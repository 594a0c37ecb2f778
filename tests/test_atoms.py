"""Molecules atom by atom: the contract, chemistry, and how many states are one molecule."""

import itertools
import math
from collections import Counter
from functools import partial

import pytest
import torch
from common import model_of
from rdkit import Chem

from gfn_design import (
    MLP,
    Atoms,
    FunctionData,
    InputError,
    TrajectoryBalance,
    check_environment,
)
from gfn_design.environments.molecules.molecular_graph import (
    Atomic,
    connected_orders,
    forms_per_symmetry,
    to_smiles,
)
from gfn_design.evaluation.evaluate import evaluate
from gfn_design.fast.step import set_gradients


def walked(environment, n, stops=0.0, seed=0):
    """States at the end of random walks; with `stops`, of any length."""
    random = torch.Generator().manual_seed(seed)
    states = environment.initial(n)
    going = torch.ones(n, dtype=torch.bool)
    for _ in range(environment.max_steps - 1):
        moves = environment.legal(states)[:, : environment.n_moves]
        going = going & moves.any(1) & (torch.rand(n, generator=random) >= stops)
        weight = moves.float()
        weight[:, environment.n_slots * (len(environment.elements) + 1) :] *= 3  # more bonds
        action = (weight + ~moves.any(1, keepdim=True)).multinomial(1, generator=random)[:, 0]
        after, _ = environment.step(states, action.where(going, 0))
        states = after.where(going[:, None], states)
    return states


@pytest.mark.parametrize(
    "environment",
    [Atoms("CO", 3), Atoms(["N", "O", "Cl"], 2), Atoms("BNS", 2), Atoms("CF", 4, charges=False)],
    ids=Atoms.describe,
)
def test_atoms_keep_the_contract(environment):
    """Which counts, in each whole graph, the states of every molecule."""
    check_environment(environment, examples=3)


@pytest.mark.parametrize("max_atoms", [5, 9])
def test_edges_of_large_molecules_are_one_to_one(max_atoms):
    environment = Atoms("CNOFS", max_atoms)
    states = torch.cat([walked(environment, 100), walked(environment, 100, 0.15)])
    for there, back, legal, legal_back in (
        (environment.step, environment.backward_step, "legal", "legal_backward"),
        (environment.backward_step, environment.step, "legal_backward", "legal"),
    ):
        mask = getattr(environment, legal)(states)
        if legal == "legal":
            mask = mask[:, : environment.n_moves]
        row, action = mask.nonzero(as_tuple=True)
        after, name = there(states[row], action)
        assert getattr(environment, legal_back)(after).gather(1, name[:, None]).all()
        again, renamed = back(after, name)
        assert torch.equal(again, states[row])
        assert torch.equal(renamed, action)
    assert (environment.legal_backward(states).any(1) == (states[:, 0] >= 0)).all()


def test_every_state_is_a_molecule_with_full_valences():
    environment = Atoms("CNOFS", 9)
    states = torch.cat([walked(environment, 100), walked(environment, 100, 0.15)])
    states = states[environment.legal(states)[:, environment.stop]]
    texts = environment.decode(states)
    for state, text in zip(states, texts, strict=True):
        molecule = Chem.MolFromSmiles(text)
        elements, charged, orders = environment.parts(state[None])
        left = environment.valences[charged, elements] - orders.sum(2)
        assert not any(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms())
        hydrogens = sum(atom.GetTotalNumHs() for atom in molecule.GetAtoms())
        assert (molecule.GetNumAtoms(), hydrogens) == (int((elements >= 0).sum()), int(left.sum()))
    assert environment.decode(environment.encode(texts)) == texts == environment.smiles(states)
    assert len(set(texts)) > 100


def whole_graph(environment):
    """All states, by walking."""
    seen = [layer := environment.initial(1)]
    known = {tuple(layer[0].tolist())}
    while len(layer):
        row, action = environment.legal(layer)[:, : environment.n_moves].nonzero(as_tuple=True)
        children = environment.step(layer[row], action)[0].unique(dim=0)
        new = [key not in known for key in map(tuple, children.tolist())]
        layer = children[new]
        known.update(map(tuple, layer.tolist()))
        seen.append(layer)
    return torch.cat(seen)


@pytest.mark.parametrize(
    ("environment", "states", "molecules"),
    [
        (Atoms("CNO", 3), 962, 278),
        (Atoms("CNO", 4, charges=False), 4613, 571),
        (Atoms("C", 5), 4104, 196),
    ],
    ids=str,
)
def test_copies_are_counted_on_all_graphs_of_few_atoms(environment, states, molecules):
    found = whole_graph(environment)
    assert len(found) == environment.n_states == states
    index = environment.state_index(found)
    assert index.sort().values.tolist() == list(range(states))
    objects = found[environment.legal(found)[:, environment.stop]]
    texts = environment.decode(objects)
    count = Counter(texts)
    assert len(count) == molecules
    expected = torch.tensor([count[text] for text in texts]).double()
    assert torch.allclose(environment.log_states_per_object(objects).exp(), expected, rtol=1e-12)


def states_of(environment, smiles):
    """The states of a molecule, found by numbering its Kekule structures in all ways."""
    found = set()
    molecule = Chem.MolFromSmiles(smiles)
    n = molecule.GetNumAtoms()
    forms = list(Chem.ResonanceMolSupplier(molecule, Chem.KEKULE_ALL))
    for form, order in itertools.product(forms, itertools.permutations(range(n))):
        place = {atom: k for k, atom in enumerate(order)}
        state = environment.initial(1)[0]
        earlier = {0}
        for atom in form.GetAtoms():
            k = place[atom.GetIdx()]
            state[k] = environment.elements.index(atom.GetSymbol())
            state[environment.n_slots + k] = int(atom.GetFormalCharge() != 0)
        for bond in form.GetBonds():
            i, j = place[bond.GetBeginAtomIdx()], place[bond.GetEndAtomIdx()]
            earlier.add(max(i, j))
            pair = max(i, j) * (max(i, j) - 1) // 2 + min(i, j)
            state[2 * environment.n_slots + pair] = int(bond.GetBondTypeAsDouble())
        if len(earlier) == n:
            found.add(tuple(state.tolist()))
    return found


@pytest.mark.parametrize(
    ("smiles", "copies"),
    [
        ("c1ccccc1", 16),  # 6 2^4 orders, 2 Kekule structures, 12 symmetries
        ("c1ccncc1", 96),
        ("C1CCCCC1", 8),
        ("O=[N+]([O-])c1cc[nH]c1", None),
        ("C[N+](C)(C)C", 2),  # N comes first or second
        ("Cc1cccc(C)c1", None),
    ],
)
def test_copies_of_molecules_of_many_numberings(smiles, copies):
    environment = Atoms("CNO", 8)
    state = environment.encode([smiles])
    if copies is None:
        n = Chem.MolFromSmiles(smiles).GetNumAtoms()
        orders = all_orders(environment.parts(state)[2][0] > 0, n)
        forms, symmetries = {"O=[N+]([O-])c1cc[nH]c1": (1, 1), "Cc1cccc(C)c1": (2, 2)}[smiles]
        copies = orders * forms // symmetries
    else:
        assert len(states_of(environment, smiles)) == copies
    assert float(environment.log_states_per_object(state)) == pytest.approx(
        math.log(copies), abs=1e-12
    )


def all_orders(adjacent, n):
    """In how many orders n vertices can be taken, each next to an earlier one; one by one."""
    count = 0
    stack = [{vertex} for vertex in range(n)]
    while stack:
        taken = stack.pop()
        if len(taken) == n:
            count += 1
        stack += [
            {*taken, vertex}
            for vertex in set(range(n)) - taken
            if any(adjacent[vertex, other] for other in taken)
        ]
    return count


def test_connected_orders_of_known_graphs():
    path = torch.zeros(5, 5, dtype=torch.bool)
    path[range(4), range(1, 5)] = True
    star = torch.zeros(5, 5, dtype=torch.bool)
    star[0, 1:] = True
    graphs = torch.stack([g | g.T for g in (path, star, ~torch.eye(5, dtype=torch.bool), path)])
    found = connected_orders(graphs, torch.tensor([5, 5, 5, 0]))
    assert found.tolist() == [16, 48, 120, 1]  # 2^4; the centre is first or second, 2 4!; 5!


@pytest.mark.parametrize(
    ("smiles", "count"),
    [("c1ccc2ccccc2c1", 3), ("Cc1ccccc1O", 2), ("c1ccc2[nH]ccc2c1", 2), ("c1cnc2ncccc2c1", 3)],
)
def test_kekule_structures_are_one_molecule(smiles, count):
    """All of them are written alike, so counting them counts states."""
    molecule = Chem.MolFromSmiles(smiles)
    forms = set()
    for form in Chem.ResonanceMolSupplier(molecule, Chem.KEKULE_ALL):
        atoms = tuple((atom.GetSymbol(), 0) for atom in form.GetAtoms())
        ends = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in form.GetBonds()]
        orders = [int(bond.GetBondTypeAsDouble()) for bond in form.GetBonds()]
        bonds = [(*pair, order) for pair, order in zip(ends, orders, strict=True)]
        forms.add(Atomic(atoms, tuple(bonds)))
    assert len(forms) == count
    assert {to_smiles(form) for form in forms} == {Chem.MolToSmiles(molecule)}
    (share,) = {forms_per_symmetry(form) for form in forms}
    symmetries = len(molecule.GetSubstructMatches(molecule, uniquify=False))
    assert share * symmetries == count


# ---- The molecule's probability ------------------------------------------------------------------


def worth(texts):
    """A score that differs between molecules."""
    return [1.0 + 2 * ("=" in text) + 4 * ("1" in text) + text.count("O") for text in texts]


def trained(environment, steps=350):
    """A model after so many batches, the learning rates falling to a twentieth."""
    model = model_of(
        environment,
        TrajectoryBalance(),
        network=partial(MLP, width=256, depth=2),
        batch_size=128,
        lr=1e-2,
        log_z_lr=0.3,
        draw_seed=0,
    ).use(FunctionData(worth))
    optimizer = model.configure_optimizers()
    for _ in range(steps):
        _, losses, gradients = model.next_step()
        set_gradients(optimizer, losses, gradients)
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] *= 0.05 ** (1 / steps)
    return model


class Uncorrected(Atoms):
    """Each state is given the whole reward of its molecule."""

    def log_states_per_object(self, objects):
        return torch.zeros(len(objects), dtype=torch.float64)


@pytest.mark.slow
def test_molecules_are_built_in_proportion_to_their_reward():
    """All graphs of up to three atoms of C and O, rings and charges among them."""
    environment = Atoms("CO", 3)
    right, wrong = (evaluate(trained(e)) for e in (environment, Uncorrected("CO", 3)))
    assert right.metrics["D_TV"] < 0.02
    assert wrong.metrics["D_TV"] > 0.1
    # Which is not for want of learning: a molecule of k states has k times its share.
    excess = (
        wrong.target.log_reward + environment.log_states_per_object(wrong.target.objects)
    ).softmax(0)
    assert float((wrong.probability - excess).abs().sum() / 2) < 0.02


# ---- Text ----------------------------------------------------------------------------------------


def test_text_of_states():
    environment = Atoms("CNO", 3)
    assert environment.decode(environment.initial(1)) == [""]
    assert torch.equal(environment.encode([""]), environment.initial(1))
    assert environment.decode(environment.encode(["OCC", "C(=O)[O-]"])) == ["CCO", "O=C[O-]"]
    assert environment.decode(environment.encode(["C[N+]#N", "[13CH4]"])) == ["C[N+]#N", "C"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("C1CC", "'C1CC' is no SMILES that RDKit reads"),
        ("CCCC", "'CCCC' has 4 heavy atoms, expected at most 3"),
        ("CF", "'CF' has the element F, expected some of C N O"),
        ("C.C", "'C.C' has parts that are not joined"),
        ("[CH3]", "'\\[CH3\\]' has C with 3 valences, expected 4"),
        ("[NH2-]", "'\\[NH2-\\]' has a charge of -1 on N, which has no such ion"),
    ],
)
def test_encode_refuses(text, message):
    with pytest.raises(InputError, match=message):
        Atoms("CNO", 3).encode([text])


def test_charges_can_be_left_out():
    with pytest.raises(InputError, match="is charged, and charges is false"):
        Atoms("CNO", 3, charges=False).encode(["C[O-]"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("CX",), "elements must be some of B, C, N, .*, got 'X'"),
        (("CC",), "elements must be one or more different ones, got 'CC'"),
        (("",), "elements must be one or more different ones, got ''"),
        (("CN", 1), "max_atoms must be 2 to 12, got 1"),
        (("CN", 13), "max_atoms must be 2 to 12, got 13"),
    ],
)
def test_constructor_refuses(arguments, message):
    with pytest.raises(InputError, match=message):
        Atoms(*arguments)
