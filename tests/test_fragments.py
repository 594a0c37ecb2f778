"""Molecules from fragments: the contract, exact counts of copies, exact laws over molecules."""

import json
import logging
import math
import os
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import torch
from common import model_of
from lightning.pytorch import Trainer
from rdkit import Chem

from gfn_design.__main__ import main
from gfn_design.config import build_section
from gfn_design.config.check import Object
from gfn_design.contract.check import check_environment
from gfn_design.contract.check_states import ContractError
from gfn_design.data.functions import FunctionData
from gfn_design.environments.molecules.attachment import Piece, mark, outline
from gfn_design.environments.molecules.automorphisms import count_automorphisms
from gfn_design.environments.molecules.fragments import Fragments
from gfn_design.environments.molecules.mining import mine
from gfn_design.environments.molecules.vocabulary import (
    DRUGLIKE,
    Fragment,
    marked,
    read_vocabulary,
    vocabulary,
    write_vocabulary,
)
from gfn_design.errors import InputError
from gfn_design.evaluation.exact import push_forward, target_distribution
from gfn_design.objectives.balance import ModifiedDetailedBalance, TrajectoryBalance
from gfn_design.policies.mlp import MLP
from gfn_design.policies.policy import Policy
from gfn_design.results.candidates import draw_candidates
from gfn_design.sampling.histories import sample_backward
from gfn_design.sampling.seen_objects import object_keys
from gfn_design.sampling.trajectories import sample
from gfn_design.training.rewarding import REJECTED

BENZENE = "[*]c1c([*])c([*])c([*])c([*])c1[*]"
METHANE = "[*]C([*])([*])[*]"
ENTRIES = (  # joined to what is there by one point alone
    Fragment("CO", (1, 0, 0, 0), 0),
    Fragment("CO", (0, 1), 0),
    Fragment("c1ccncc1", (1, 0), 1),
    Fragment("C", (0,), 0),
)
VOCABULARIES = {
    "ambiguous": {"fragments": ["[*]C", "[*]CC[*]", "[*]O[*]"], "max_blocks": 3},
    "benzene": {"fragments": [BENZENE, "[*]F"], "max_blocks": 2},
    "cyclohexane": {"fragments": ["[*]C1C([*])C([*])C([*])C([*])C1[*]"], "max_blocks": 2},
    "methane": {"fragments": [METHANE], "max_blocks": 3},
    "entries": {"fragments": ENTRIES, "max_blocks": 3, "min_blocks": 2},
    "core": {
        "fragments": ["[*]C", "[*]CC[*]", "[*]O[*]"],
        "max_blocks": 3,
        "core": "[*:1]c1ccc([*:2])cc1",
    },
    "bare core": {"fragments": ["[*]C"], "max_blocks": 1, "core": "[*]c1ccccc1"},
    "closed early": {"fragments": ["[*]F", "[*]C[*]"], "max_blocks": 4, "min_blocks": 3},
    "capped": {
        "fragments": ["[*]C", "[*]CC[*]", "[*]O[*]", "[*]C([*])[*]"],
        "max_blocks": 4,
        "min_blocks": 2,
        "closed": True,
    },
    "capped core": {
        "fragments": ["[*]C", "[*]O[*]"],
        "max_blocks": 5,
        "min_blocks": 4,
        "core": "[*]c1ccc([*])cc1",
        "closed": True,
    },
}


def environment(name: str, **options) -> Fragments:
    return Fragments(**(VOCABULARIES[name] | options))


@pytest.mark.parametrize("name", VOCABULARIES)
def test_environment_keeps_the_contract(name: str) -> None:
    check_environment(environment(name), examples=3)


@pytest.mark.slow
def test_a_large_vocabulary_keeps_the_contract() -> None:
    check_environment(Fragments(min_blocks=3), examples=3, brute_force_limit=50)


class NoCorrection(Fragments):
    """Takes every state for a molecule of its own."""

    def log_states_per_object(self, objects: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(objects), dtype=torch.float64)


def test_the_contract_finds_copies_that_are_not_counted() -> None:
    with pytest.raises(
        ContractError, match="exp\\(log_states_per_object\\) finished states are the same"
    ):
        check_environment(NoCorrection(**VOCABULARIES["ambiguous"]), examples=1)


# ---- Copies --------------------------------------------------------------------------------------

MORE = {
    "chains": {"fragments": ["[*]C[*]", "[*]CC[*]", "[*]CCC[*]"], "max_blocks": 4},
    "rings": {
        "fragments": ["[*]c1cc([*])cc([*])c1", "[*]C1CCC([*])CC1", "[*]c1ccccc1", "[*]C"],
        "max_blocks": 3,
    },
    "branched": {"fragments": ["[*]C([*])[*]", "[*]C(C)C", "[*]C"], "max_blocks": 4},
    "whole": {"fragments": ["[*]C(F)(F)F", "[*]C([*])([*])F", "[*]F"], "max_blocks": 4},
    "charges": {
        "fragments": ["[*]C[NH3+]", "[*]c1cc[nH]c1", "[*]n1ccc([*])c1", "[*]C(=O)[O-]"],
        "max_blocks": 3,
        "min_blocks": 2,
    },
    "symmetric core": {"fragments": ["[*]C", "[*]C[*]"], "max_blocks": 5, "core": BENZENE},
    "capped": {
        "fragments": ["[*]C([*])[*]", "[*]C[*]", "[*]C", "[*]CC"],
        "max_blocks": 4,
        "closed": True,
    },
    "capped links": {
        "fragments": (
            Fragment("C=O", (0, 0), None, (frozenset({1}), frozenset({1}))),
            Fragment("NC", (0, 0), None, (frozenset({5}), frozenset({5}))),
            Fragment("N", (0,), None, (frozenset({5}),)),
            Fragment("CC=O", (1,), None, (frozenset({1}),)),
            Fragment("C=O", (0,), None, (frozenset({1}),)),
        ),
        "max_blocks": 4,
        "closed": True,
    },
}


def finished(environment: Fragments) -> torch.Tensor:
    """All finished states, each once."""
    layers = push_forward(environment, lambda states, legal: legal.double().log())
    return torch.cat([layer.objects for layer in layers]).unique(dim=0)


@pytest.mark.parametrize("name", MORE)
def test_copies_are_the_states_that_spell_the_same_molecule(name: str) -> None:
    environment = Fragments(**MORE[name])
    states = finished(environment)
    texts = environment.decode(states)
    count = Counter(texts)
    assert len(count) < len(texts)
    expected = torch.tensor([count[text] for text in texts], dtype=torch.float64)
    assert torch.allclose(environment.log_states_per_object(states).exp(), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("smiles", "automorphisms"),
    [
        ("C", 1),
        ("CC", 2),
        ("CC(C)(C)C", 24),
        ("c1ccccc1", 12),
        ("Cc1ccc(C)cc1", 4),
        ("c1ccc(-c2ccccc2)cc1", 8),
        ("FC(F)(F)C(F)(F)F", 72),
        ("C1CCC2(CC1)CCCCC2", 8),
        ("C12C3C4C1C5C2C3C45", 48),  # cubane
        ("OC(=O)c1ccccc1OC(C)=O", 1),
        ("CC(C)(C)c1cc(C(C)(C)C)cc(C(C)(C)C)c1", 6 * 6**3),
    ],
)
def test_automorphisms(smiles: str, automorphisms: int) -> None:
    assert count_automorphisms(outline(Chem.MolFromSmiles(smiles))) == automorphisms


def reward(texts: list[str]) -> list[float]:
    """Nothing a molecule's copies follow from."""
    return [1.0 + 2 * text.count("O") + 3 * text.count("F") + len(text) % 3 for text in texts]


@pytest.mark.parametrize(
    "vocabulary",
    [
        {"fragments": ["[*]C", "[*]CC[*]", "[*]O"], "max_blocks": 3},
        {"fragments": ["[*]c1cc([*])cc([*])c1", "[*]F", "[*]C"], "max_blocks": 3},
    ],
    ids=["ambiguous", "symmetric"],
)
@pytest.mark.parametrize("corrected", [True, False])
def test_molecules_are_built_with_probability_of_their_reward(
    vocabulary: dict, corrected: bool
) -> None:
    """D_TV is over molecules: states are grouped by what they spell."""
    environment = (Fragments if corrected else NoCorrection)(**vocabulary)
    network = partial(MLP, width=64, depth=2)
    module = model_of(
        environment, TrajectoryBalance(), network, batch_size=128, lr=1e-2, draw_seed=1
    )
    trainer = Trainer(
        max_steps=100 if corrected else 40,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(module, datamodule=FunctionData(reward))
    target, metrics = module.target, module.evaluate().metrics
    texts = environment.decode(target.objects)
    assert len(set(texts)) == len(texts)  # the target is over molecules
    wanted = torch.tensor(reward(texts), dtype=torch.float64)
    assert torch.allclose(target.probability, wanted / wanted.sum())
    if corrected:
        assert metrics["D_TV"] < 0.02
        assert metrics["log_z_error"] < 0.05
    else:
        assert metrics["D_TV"] > 0.3


@pytest.mark.parametrize("frequency", [0.0, 1.0])
def test_usual_fragments_weigh_more_if_asked(frequency: float) -> None:
    """The target by hand: the reward times count / mean count of every fragment."""
    counts = {"[*]C": 6, "[*]N[*]": 2, "[*]F": 1}
    fragments = tuple(marked(text)._replace(times=count) for text, count in counts.items())
    environment = Fragments(fragments, max_blocks=2, frequency=frequency)
    module = model_of(environment, TrajectoryBalance())
    module.use(FunctionData(reward))
    target = module.target
    assert target is not None
    by_mean = {"C": 2.0, "N": 2 / 3, "F": 1 / 3}
    expected = {}
    for text in environment.decode(target.objects):
        weight = math.prod(by_mean[letter] for letter in text if letter.isalpha())
        expected[text] = reward([text])[0] * weight**frequency
    assert {"CC", "CF", "CN", "C"} <= set(expected)
    total = sum(expected.values())
    found = dict(zip(environment.decode(target.objects), target.probability.tolist(), strict=True))
    assert found == pytest.approx({text: value / total for text, value in expected.items()})


def test_a_sampled_evaluation_knows_of_copies() -> None:
    """The bound on log Z, which every policy keeps and is near for a policy that is near."""
    environment = Fragments(["[*]C", "[*]CC[*]", "[*]O"], max_blocks=2, numbered=0)
    assert environment.n_states is None
    data = FunctionData(lambda texts: [1.0] * len(texts))
    network = partial(MLP, width=8, depth=1)
    metrics = model_of(environment, TrajectoryBalance(), network).use(data).evaluate().metrics
    molecules = set(
        environment.decode(finished(Fragments(["[*]C", "[*]CC[*]", "[*]O"], max_blocks=2)))
    )
    log_z = torch.tensor(float(len(molecules))).log().item()
    assert log_z - 1.5 < metrics["log_z_bound"] < log_z
    assert metrics["distinct_share"] == pytest.approx(len(molecules) / 2048)


def test_candidates_are_distinct_molecules() -> None:
    environment = environment_of_chains()
    data = FunctionData(lambda texts: [1.0] * len(texts))
    network = partial(MLP, width=8, depth=1)
    module = model_of(environment, TrajectoryBalance(), network).use(data)
    candidates, _ = draw_candidates(module, 8)
    texts = [candidate.text for candidate in candidates]
    assert len(set(texts)) == len(texts) == 8
    assert all(candidate.log_reward == 0 for candidate in candidates)  # R, not a state's share


def environment_of_chains() -> Fragments:
    return Fragments(["[*]C[*]", "[*]CC[*]", "[*]O[*]"], max_blocks=4)


def test_equal_molecules_have_equal_keys() -> None:
    environment = environment_of_chains()
    states = finished(environment)
    texts, keys = environment.decode(states), object_keys(environment, states).tolist()
    assert len(set(zip(texts, keys, strict=True))) == len(set(texts)) == len(set(keys))


def test_objectives_that_score_every_state_are_refused() -> None:
    with pytest.raises(InputError, match="several states are one object"):
        model_of(environment_of_chains(), ModifiedDetailedBalance())


# ---- Texts ---------------------------------------------------------------------------------------


def draw(environment: Fragments, n: int) -> torch.Tensor:
    """Objects of a random policy."""
    policy = Policy(environment, partial(MLP, width=8, depth=1))
    return sample(environment, policy, torch.rand(n, environment.max_steps)).objects


def test_druglike_molecules_are_read_again() -> None:
    environment = Fragments("druglike", max_blocks=7, min_blocks=3, numbered=0)
    texts = environment.decode(draw(environment, 200))
    again = environment.encode(texts)
    assert environment.decode(again) == texts
    for text in texts:
        assert Chem.MolToSmiles(Chem.MolFromSmiles(text)) == text
    # And from known molecules one can walk back to the source.
    policy = Policy(environment, partial(MLP, width=8, depth=1))
    history = sample_backward(environment, policy, again, torch.rand(200, environment.max_steps))
    assert torch.equal(history.objects, again)
    assert torch.equal(history.states[:, 0], environment.initial(200))


def test_known_molecules_are_written_with_fragments() -> None:
    environment = Fragments("druglike", max_blocks=6, numbered=0)
    texts = ["O=C(Nc1ccccc1)c1ccc(N2CCOCC2)nc1", "C[C@H](c1ccccc1)N1CCNCC1"]
    assert environment.decode(environment.encode(texts)) == [
        Chem.CanonSmiles(texts[0]),
        "CC(c1ccccc1)N1CCNCC1",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("CCCN(", r"'CCCN\(' is not a SMILES that RDKit reads"),
        ("", "'' holds no atom"),
        ("CC.O", "'CC.O' is several molecules"),
        ("C1CCCCCCC1", "'C1CCCCCCC1' cannot be built of 1 to 4 fragments of fragments"),
        ("CCCCCCCCC", "cannot be built"),  # too long
    ],
)
def test_encode_refuses(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        environment_of_chains().encode([text])


# ---- A kept core, and what is forbidden ------------------------------------------------------


def test_every_sample_contains_the_core() -> None:
    core = "O=C(N[*:1])c1ccc([*:2])cc1"
    environment = Fragments("druglike", max_blocks=5, core=core, numbered=0)
    texts = environment.decode(draw(environment, 10_000))
    scaffold = Chem.MolFromSmarts("O=C(N)c1ccccc1")
    distinct = set(texts)
    assert len(distinct) > 1000
    assert all(Chem.MolFromSmiles(text).HasSubstructMatch(scaffold) for text in distinct)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"core": "c1ccc([*:1]"}, r"core: 'c1ccc\(\[\*:1\]' is not a SMILES that RDKit reads"),
        ({"core": "c1ccccc1"}, r"core: 'c1ccccc1' has no attachment point; mark one or more"),
        ({"core": "[*]C=[*]"}, r"core: .* every \[\*\] must be on one single bond"),
        ({"core": "[*]C.[*]O"}, "core: .* is several molecules"),
        ({"core": "[*][*]"}, "has no atom but its attachment points"),
        ({"core": "[*]CN", "forbidden": ["N"]}, r"core: '\[\*\]CN' holds 'N', which is forbidden"),
        ({"forbidden": ["N(("]}, r"forbidden: 'N\(\(' is neither a SMARTS that RDKit reads"),
        ({"forbidden": ["*"]}, "every fragment holds a forbidden substructure"),
        ({"max_blocks": 0}, "min_blocks must be from 1 to max_blocks, got 1 and 0"),
        ({"min_blocks": 10}, "min_blocks must be from 1 to max_blocks, got 10 and 9"),
        (
            {"fragments": ["[*]C", "[*]F"], "min_blocks": 3},
            "no fragment has two points, so that some molecules end with 2 blocks; min_blocks is 3",
        ),
    ],
)
def test_constructor_refuses(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Fragments(**options)


def test_forbidden_fragments_are_left_out_and_other_molecules_rejected(caplog) -> None:
    parts = ["[*]C", "[*]O[*]", "[*]C#N", "[*]CC[*]"]
    environment = Fragments(parts, max_blocks=3, forbidden=["C#N", "OO", "[OH]"])
    assert [piece.fragment.smiles for piece in environment.pieces] == ["C", "O", "CC"]  # OH may go
    peroxide, ether = environment.encode(["COO", "COC"])[:, None]
    assert environment.rejected_for(torch.cat([peroxide, ether])) == ["OO", None]
    data = FunctionData(lambda texts: [1.0] * len(texts))
    network = partial(MLP, width=8, depth=1)
    module = model_of(environment, TrajectoryBalance(), network).use(data)
    assert module.log_reward(torch.cat([peroxide, ether])).tolist() == [-REJECTED, 0]
    shares = module.learned_reward()(ether).double() + environment.log_states_per_object(ether)
    assert float(shares) == pytest.approx(0, abs=1e-6)
    with caplog.at_level(logging.WARNING):
        candidates, _ = draw_candidates(module, 20)
    assert not any("OO" in candidate.text or candidate.text == "CO" for candidate in candidates)
    assert "of " in caplog.text
    assert "OO (" in caplog.text


# ---- Vocabularies --------------------------------------------------------------------------------


def test_points_are_marked_and_listed() -> None:
    assert marked("[*]c1ccc([*])nc1") == Fragment("c1ccncc1", (1, 4))
    assert marked("[1*]C([2*])([*:3])C") == Fragment("CC", (0, 0, 0)) or marked(
        "[1*]C([2*])([*:3])C"
    ) == Fragment("CC", (1, 1, 1))
    assert marked("[*]n1cccc1").smiles == "c1cc[nH]c1"
    assert marked("[*][N+](=O)[O-]").smiles == "O=[NH+][O-]"
    for smiles in DRUGLIKE:
        fragment = marked(smiles)
        assert Piece(marked(mark(fragment))).name == Piece(fragment).name


def test_the_embedded_vocabulary() -> None:
    assert 20 <= len(vocabulary("druglike")) <= 40
    assert Fragments(max_blocks=2).n_states < 20_000
    assert Fragments(numbered=1000).n_states is None


@pytest.fixture
def data_folder():
    if not os.environ.get("GFN_DESIGN_DATA"):
        pytest.skip("GFN_DESIGN_DATA names no folder with the public data")
    return Path(os.environ["GFN_DESIGN_DATA"])


def test_published_vocabularies(data_folder) -> None:
    blocks, whole = vocabulary("seh_105"), vocabulary("seh_72")
    assert (len(blocks), len(whole)) == (105, 72)
    assert all(block.entry == 0 for block in blocks)
    published = read_vocabulary(data_folder / "seh_mpnn" / "fragments_72.json")
    assert [(f.smiles, sorted(f.points)) for f in published] == [
        (f.smiles, list(f.points)) for f in whole
    ]
    environment = Fragments("seh_105", max_blocks=8, min_blocks=2, numbered=0)
    states = draw(environment, 50)
    texts = environment.decode(states)
    assert environment.decode(environment.encode(texts)) == texts
    assert (environment.log_states_per_object(states) >= 0).all()


@pytest.mark.parametrize("entries", [True, False])
def test_copies_of_published_fragments(data_folder, entries: bool) -> None:
    """By enumeration of molecules of two, of some of the fragments."""
    some = vocabulary("seh_105")[::4] if entries else vocabulary("seh_72")[::3]
    environment = Fragments(some, max_blocks=2)
    states = finished(environment)
    texts = environment.decode(states)
    count = Counter(texts)
    states, texts = states[::5], texts[::5]
    expected = torch.tensor([count[text] for text in texts]).double()
    assert torch.allclose(environment.log_states_per_object(states).exp(), expected, rtol=1e-9)


def test_the_original_file_of_blocks_is_read(tmp_path: Path, data_folder, monkeypatch) -> None:
    from gfn_design.files import registry

    published = json.loads((data_folder / "seh_mpnn" / "blocks_pdb_105.json").read_text())
    names = {str(i): block["smiles"] for i, block in enumerate(published["blocks"])}
    stems = {str(i): block["stems"] for i, block in enumerate(published["blocks"])}
    path = tmp_path / "blocks_PDB_105.json"
    path.write_text(json.dumps({"block_name": {}, "block_smi": names, "block_r": stems}))
    expected = vocabulary("seh_105")
    monkeypatch.delenv("GFN_DESIGN_DATA")
    monkeypatch.setenv("GFN_DESIGN_CACHE", str(tmp_path))
    assert registry.locate("seh_105") == path  # by its content
    assert vocabulary("seh_105") == expected


def test_files_of_ones_own(tmp_path: Path) -> None:
    expected = (Fragment("c1ccncc1", (1, 4)), Fragment("CO", (1,)))
    smi, table, listed = (tmp_path / name for name in ("a.smi", "b.csv", "c.json"))
    smi.write_text("[*]c1ccc([*])nc1 pyridine\n\nCO[*]\n")
    assert read_vocabulary(smi) == expected
    table.write_text("smiles,points,entry\nc1ccncc1,1 4,\nCO,1 0,0\n[*]N,,\n")
    assert read_vocabulary(table) == (
        expected[0],
        Fragment("CO", (1, 0), 1),
        Fragment("N", (0,)),
    )
    listed.write_text(json.dumps(["[*]c1ccc([*])nc1", {"smiles": "CO", "points": [1]}]))
    assert read_vocabulary(listed) == expected
    write_vocabulary(ENTRIES, table)
    assert read_vocabulary(table) == ENTRIES
    section = {"class_path": "Fragments", "init_args": {"fragments": str(smi), "max_blocks": 3}}
    built = build_section(section, Object("Environment"), "environment")
    assert built.describe() == Fragments(["[*]c1ccc([*])nc1", "CO[*]"], 3).describe()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.smi", "[*]C\n[*]c1cc\n", r"a\.smi, line 2: '\[\*\]c1cc' is not a SMILES"),
        ("a.smi", "[*]C\n\nCC\n", r"a\.smi, line 3: 'CC' has no attachment point"),
        ("a.smi", "\n", r"a\.smi: holds nothing"),
        ("a.csv", "name,points\nC,0\n", r"a\.csv: .* no column 'smiles'"),
        ("a.csv", "smiles,points\nC,one\n", r"a\.csv, row 1: points must be places of atoms"),
        ("a.csv", "smiles,points,entry\nCC,0,1\n", r"a\.csv, row 1: .*entry one of them"),
        ("a.csv", "smiles,points,entry\n[*]CC,,1\n", r"a\.csv, row 1: an entry is one of"),
        ("a.json", "{", r"a\.json: cannot be read"),
        ("a.json", "[3]", r"a\.json, entry 1: expected a SMILES"),
        ("a.json", '["[*]C"', r"a\.json: cannot be read"),
        ("a.csv", "smiles,points\nCC,2\n", r"fragment 1: 'CC' has 2 atoms, counted from 0; got p"),
        ("a.csv", "smiles,points\nCF,1\n", r"fragment 1: 'CF': atom 1 has no valence left"),
        ("a.csv", "smiles,points\nC,0 0 0 0 0\n", r"'C': atom 0 has no valence left"),
        ("a.csv", "smiles,points\n[CH2]C,0\n", r"must have no dummy atom and no open valence"),
        ("a.smi", "[*]CO\nOC[*]\n", r"fragment 2: 'CO' with these points is there already"),
    ],
)
def test_bad_vocabularies_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        Fragments(str(tmp_path / name))


def test_unknown_vocabulary() -> None:
    with pytest.raises(InputError, match=r"zinc: no such file, and no vocabulary of that name"):
        Fragments("zinc")


DRUGS = (
    "CC(=O)Oc1ccccc1C(=O)O",
    "COc1ccc(CCN2CCN(c3ccccc3)CC2)cc1",
    "Cc1ccc(S(=O)(=O)NC(=O)NN2CC3CCCC3C2)cc1",
    "CN(C)CCOC(c1ccccc1)c1ccccc1",
)


def test_fragments_are_mined() -> None:
    every = mine(DRUGS, at_least=1)
    assert every == mine(DRUGS, at_least=1)
    counts = [fragment.times for fragment in every]
    assert counts == sorted(counts, reverse=True)
    assert mine(DRUGS, at_least=3) == [fragment for fragment in every if fragment.times >= 3]
    environment = Fragments(tuple(every), max_blocks=9, numbered=0)
    assert environment.decode(environment.encode(DRUGS)) == list(map(Chem.CanonSmiles, DRUGS))
    with pytest.raises(InputError, match="no BRICS fragment is found 9 times or more"):
        mine(DRUGS, at_least=9)
    with pytest.raises(InputError, match=r"mine\.smi, molecule 2: 'C\(' is not a SMILES"):
        mine(["CC", "C("], where="mine.smi")


def test_mine_writes_a_vocabulary(tmp_path: Path, capsys) -> None:
    molecules, output = tmp_path / "mine.smi", tmp_path / "mine_fragments.csv"
    molecules.write_text("\n".join(DRUGS))
    assert main(["mine", str(molecules), "--at_least", "1"]) == 0
    found = read_vocabulary(output)
    assert found == tuple(mine(DRUGS, at_least=1))
    assert f"{len(found)} fragments" in capsys.readouterr().out
    molecules.write_text("CCO\nC1CC\n")
    assert main(["mine", str(molecules), "--output", str(tmp_path / "a.csv")]) == 2
    assert "mine.smi: no BRICS fragment is found 2 times or more" in capsys.readouterr().err
    assert not (tmp_path / "a.csv").exists()
    assert main(["mine", str(molecules), "--output", str(tmp_path / "a.smi")]) == 2


def test_hydrogens_follow_the_joins() -> None:
    assert Piece(Fragment("O=PO", (1,))).hydrogens[1] == [0, 1]  # three bonds become five
    assert Piece(Fragment("C", (0, 0))).hydrogens == [[4, 3, 2]]
    assert Piece(Fragment("c1cc[nH]c1", (3,))).hydrogens[3] == [1, 0]


# ---- Graphs --------------------------------------------------------------------------------------


def test_graphs_show_blocks_and_points() -> None:
    environment = Fragments(["[*]C[*]", "[*]O", "[*]c1cc([*])cc([*])c1"], max_blocks=4)
    (state,) = environment.encode(["Cc1cccc(O)c1"])
    moves = environment.legal(state[None])[0, : environment.n_moves].nonzero()[:, 0]
    picked, _ = environment.step(state[None], moves[:1])
    graph = environment.to_graph(torch.cat([environment.initial(1), state[None], picked]))
    assert graph.batch.tolist() == [1, 1, 1, 2, 2, 2]
    assert graph.slot.tolist() == [0, 1, 2] * 2
    assert graph.graph_features.tolist() == [[0, 0], [0, 3], [1, 3]]
    codes = graph.nodes[:, 1:]
    assert (codes[:3] != codes[3:]).sum() == 1
    assert codes[3:][codes[:3] != codes[3:]].tolist() == [3]
    assert (codes[:3] == 2).sum() == 4  # two bonds have four ends
    assert graph.edges.shape == (2, 8)
    ends = {tuple(edge) for edge in graph.edges.T.tolist()}
    assert {(b, a) for a, b in ends} == ends
    for features, sizes in (
        (graph.nodes, environment.node_sizes),
        (graph.edge_features, environment.edge_sizes),
        (graph.graph_features, environment.graph_sizes),
    ):
        assert features.shape[1] == len(sizes)
        assert (features < torch.tensor(sizes)).all()
        assert (features >= 0).all()
    slots = environment.n_slots
    assert environment.forward_layout.actions(slots) == environment.n_actions
    assert environment.backward_layout.actions(slots) == environment.n_backward_actions


def test_target_is_over_molecules() -> None:
    environment = environment_of_chains()
    target = target_distribution(environment, lambda objects: torch.zeros(len(objects)))
    states = finished(environment)
    assert len(target.indices) == len(states)
    assert len(target.objects) == len(set(environment.decode(states)))
    equal = torch.full((len(states),), 1 / len(states), dtype=torch.float64)
    count = Counter(environment.decode(states))
    texts = environment.decode(target.objects)
    expected = [count[text] / len(states) for text in texts]
    assert target.of_objects(equal).tolist() == pytest.approx(expected)


def test_the_least_reward_is_that_of_an_object():
    """A state whose share is less than the least reward keeps its share."""
    environment = environment_of_chains()
    objective = TrajectoryBalance(min_log_reward=-1.0)
    module = model_of(environment, objective).use(FunctionData(lambda texts: [0.9] * len(texts)))
    states = finished(environment)
    share = module.learned_reward()(states).double()
    torch.testing.assert_close(
        share, math.log(0.9) - environment.log_states_per_object(states), atol=1e-6, rtol=0
    )
    assert float(share.min()) < -1
    low = model_of(environment, TrajectoryBalance(min_log_reward=-1.0))
    low.use(FunctionData(lambda texts: [1e-3] * len(texts)))
    floored = low.learned_reward()(states).double()
    torch.testing.assert_close(
        floored, -1 - environment.log_states_per_object(states), atol=1e-6, rtol=0
    )
