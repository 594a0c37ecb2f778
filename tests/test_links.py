"""Ends of fragments that only fitting ends are joined to: mined, masked, counted."""

from collections import Counter
from functools import partial

import pytest
import torch
from common import model_of
from rdkit import Chem

from gfn_design import MoleculeData, TrajectoryBalance
from gfn_design.contract.check import check_environment
from gfn_design.data.molecules import Term
from gfn_design.environments.molecules import links
from gfn_design.environments.molecules.fragments import Fragments
from gfn_design.environments.molecules.mining import mine
from gfn_design.environments.molecules.vocabulary import (
    Fragment,
    marked,
    read_vocabulary,
    write_vocabulary,
)
from gfn_design.errors import InputError
from gfn_design.policies.mlp import MLP
from gfn_design.policies.policy import Policy
from gfn_design.sampling.trajectories import sample

SERIES = [
    "CC(=O)Nc1ccc(O)cc1",
    "COc1ccc(NC(=O)C2CCNCC2)cc1",
    "CS(=O)(=O)N1CCN(C(=O)c2ccncc2)CC1",
    "O=C(NCc1ccccc1)c1ccc(OC2CCOCC2)cc1",
    "CN(C)C(=O)c1ccc(NS(=O)(=O)c2ccccc2)cc1",
    "CC(C)Oc1ccc(C(=O)N2CCCC2)cc1",
]
# Two acids, two amines, an alcohol that nothing fits but a carbon of type 13 or 16.
SMALL = ["[1*]C(C)=O", "[1*]C(=O)C[4*]", "[5*]N([5*])C", "[5*]NC", "[3*]OC"]


def small(max_blocks=4, **options):
    linked = tuple(marked(text, "", True) for text in SMALL)
    return Fragments(linked, max_blocks=max_blocks, **options)


def test_what_fits_is_what_brics_says():
    assert links.fit(frozenset({1}), frozenset({5}))
    assert not links.fit(frozenset({1}), frozenset({1}))  # two acyls
    assert not links.fit(frozenset({5}), frozenset({5}))  # N-N
    assert links.fit(frozenset(), frozenset({5}))
    assert links.fit(frozenset({1, 8}), frozenset({16}))
    assert len(links.fitting()) > 60


def test_mined_fragments_keep_their_types_in_files_too(tmp_path):
    found = mine(SERIES, 1)
    by_smiles = {fragment.smiles: fragment for fragment in found}
    assert by_smiles["O=CO" if "O=CO" in by_smiles else "C1CCNC1"].links
    assert any(len(types) for fragment in found for types in fragment.links)
    write_vocabulary(found, tmp_path / "mined.csv")
    again = read_vocabulary(tmp_path / "mined.csv")
    assert list(again) == found
    free = mine(SERIES, 1, linked=False)
    assert not any(fragment.links for fragment in free)


def test_the_environment_keeps_the_contract():
    """Masks, undoing, and the number of ways to each molecule, by brute force."""
    check_environment(small(3))
    check_environment(small(3, min_blocks=2))
    check_environment(Fragments(tuple(mine(SERIES, 1)), max_blocks=3), examples=30)


def test_only_fitting_ends_are_ever_joined():
    """Of 2,000 random molecules every bond between fragments is one that BRICS cuts."""
    environment = Fragments(tuple(mine(SERIES, 1)), max_blocks=5)
    states = environment.initial(2000)
    going = torch.ones(2000, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    for _ in range(environment.max_steps):
        legal = environment.legal(states).double()
        assert legal.any(1).all()
        lots = legal * (1 + torch.rand(legal.shape, generator=generator))
        action = lots.argmax(1)
        going &= action != environment.stop
        after, _ = environment.step(states, action.where(going, 0))
        states = after.where(going[:, None], states)
    cut = 0
    for row in states.tolist():
        blocks = [row[k * 5 : (k + 1) * 5] for k in range(4)]
        for kind, parent, at, own in zip(*blocks, strict=True):
            if parent >= 0:
                mother, child = environment.every[blocks[0][parent]], environment.every[kind]
                ends = (
                    mother.links[mother.fragment.points[at]],
                    child.links[child.fragment.points[own]],
                )
                assert links.fit(*ends)
                cut += 1
    assert cut > 1000
    # What was there in half of the molecules without link types.
    groups = ("[NX3]-[NX3]", "[SX2H]", "N-[SX2]")
    unlikely = [Chem.MolFromSmarts(group) for group in groups]
    for text in environment.smiles(states):
        molecule = Chem.MolFromSmiles(text)
        assert not any(molecule.HasSubstructMatch(pattern) for pattern in unlikely), text


def test_probabilities_are_those_of_molecules_not_of_their_states():
    """Exact: with a reward of 1 each molecule is as likely as each other one in the target."""
    environment = small(3)
    module = model_of(environment, TrajectoryBalance())
    module.use(MoleculeData([Term(property="QED", want=">= 0 within 1")]))
    target = module.target
    assert target is not None
    texts = Counter(environment.decode(target.objects))
    assert set(texts.values()) == {1}
    torch.testing.assert_close(
        target.probability, torch.full_like(target.probability, 1 / len(texts))
    )


@pytest.mark.parametrize(
    ("fragments", "options", "said"),
    [
        ([("[3*]OC",), ("[5*]NC",)], {"min_blocks": 2, "max_blocks": 3}, "set it to 1"),
        ([("[1*]C(C)=O",), ("[5*]NC",), ("[5*]NC[8*]",)], {"min_blocks": 3}, "set it to 2 or less"),
        ([("[1*]C(C)=O",), ("[5*]NC[5*]",)], {"closed": True}, "no fragment fits that could cap"),
        (
            [("[1*]C(C)=O",), ("[5*]NC",), ("[5*]NC(N[5*])C[8*]",)],
            {"min_blocks": 3, "closed": True},
            "exactly one other",
        ),
    ],
)
def test_too_small_molecules_are_refused_beforehand(fragments, options, said):
    linked = tuple(marked(text, "", True) for (text,) in fragments)
    with pytest.raises(InputError, match=said):
        Fragments(linked, **options)


def test_what_is_open_is_capped_by_construction():
    environment = small(4, closed=True)
    policy = Policy(environment, partial(MLP, width=8, depth=1))
    states = sample(environment, policy, torch.rand(500, environment.max_steps)).objects
    lengths = (states[:, :4] >= 0).sum(1)
    assert lengths.min() == 2
    points = environment._points(environment._blocks(states))[1]
    assert not points.any()


def test_a_core_with_more_ends_than_blocks_is_refused():
    with pytest.raises(InputError, match="the smallest molecule has 3 blocks; set max_blocks to 3"):
        Fragments(["[*]C"], max_blocks=2, core="[*]c1ccc([*])cc1", closed=True)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("CN,0 1,,5", "2 points need as many links, got 1"),
        ("CN,0,,99", "link types are numbers from 1 to 16"),
        ("CN,0,,x", "cannot be read"),
    ],
)
def test_bad_links_are_one_sentence(row, said, tmp_path):
    (tmp_path / "f.csv").write_text(f"smiles,points,entry,links\n{row}\n")
    with pytest.raises(InputError, match=said):
        read_vocabulary(tmp_path / "f.csv")


def test_one_atom_has_one_set_of_links():
    with pytest.raises(InputError, match="the points of one atom must have the same links"):
        Fragments((Fragment("CNC", (1, 1), None, (frozenset({5}), frozenset({1}))),))
