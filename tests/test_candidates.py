"""Candidates: what is said of molecules, files that other tools open, diverse picks."""

import csv
from itertools import combinations

import numpy as np
import pytest
import torch
from common import model_of
from rdkit import Chem
from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator
from rdkit.DataStructs import TanimotoSimilarity

from gfn_design import (
    ActorCritic,
    BlocksData,
    Hypergrid,
    HypergridData,
    InputError,
    MotifData,
    Sequence,
)
from gfn_design.evaluation.exact import terminating_distribution
from gfn_design.files.objects import read_molecules
from gfn_design.results.candidates import draw_candidates
from gfn_design.results.files import write_candidates
from gfn_design.results.molecules import describe, diversity, farthest
from gfn_design.results.picking import pick_diverse

ASPIRIN, CAFFEINE = "CC(=O)Oc1ccccc1C(=O)O", "Cn1c(=O)c2c(ncn2C)n(C)c1=O"


@pytest.fixture(scope="module")
def blocks():
    """An untrained module on chains of blocks whose values are random."""
    torch.manual_seed(0)
    data = BlocksData("qm9")
    data._values = torch.rand(11**5)
    return model_of(Sequence("QM9", 5), ActorCritic(), exact_limit=0).use(data)


def test_what_is_said_of_known_molecules(tmp_path):
    reference = tmp_path / "known.csv"
    reference.write_text(f"name,SMILES\naspirin,{ASPIRIN}\ncaffeine,{CAFFEINE}\n")
    known = read_molecules(reference).rows
    said = describe([CAFFEINE, "OC(=O)c1ccccc1O", "CCO"], known)
    assert said["inchikey"][0] == "RYYVLZVUVIJVGH-UHFFFAOYSA-N"
    assert said["scaffold"][1:] == ["c1ccccc1", ""]
    assert said["nearest"][:2] == ["caffeine", "aspirin"]
    assert said["nearest_similarity"][0] == "1.000"
    assert 0.2 < float(said["nearest_similarity"][1]) < 1
    assert said["alerts"][2] == ""
    assert "quinone" in describe(["O=C1C=CC(=O)C=C1"])["alerts"][0].lower()


def test_references_are_csv_or_smi(tmp_path):
    (tmp_path / "a.smi").write_text(f"{ASPIRIN} aspirin tablet\n\n{CAFFEINE}\n")
    known = [("aspirin tablet", ASPIRIN), (CAFFEINE, CAFFEINE)]
    assert [(x.name, x.text) for x in read_molecules(tmp_path / "a.smi").rows] == known
    (tmp_path / "a.tsv").write_text(f"smiles\tid\n{ASPIRIN}\tA1\n")
    assert [(x.name, x.text) for x in read_molecules(tmp_path / "a.tsv").rows] == [("A1", ASPIRIN)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "name,formula\na,b\n", "has no column of SMILES"),
        (
            "a.smi",
            "C1CC\n",
            "RDKit reads; the first row, 'C1CC', is not a SMILES",
        ),
        ("a.smi", "\n", "holds no molecule"),
        ("b.smi", None, "cannot be read"),
    ],
)
def test_a_bad_reference_is_refused(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_molecules(tmp_path / name)


def test_molecules_are_written_in_files_that_rdkit_opens(blocks, tmp_path):
    candidates, _ = draw_candidates(blocks, 40)
    files = write_candidates(candidates, blocks, tmp_path)
    names = ["candidates.csv", "candidates.smi", "candidates.sdf", "candidates.png"]
    assert [path.name for path in files] == names
    with files[0].open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, molecule in zip(rows, Chem.SDMolSupplier(str(files[2])), strict=True):
        assert Chem.MolToSmiles(molecule) == Chem.CanonSmiles(row["smiles"])
        assert {name: molecule.GetProp(name) for name in row} == row
    lines = files[1].read_text().splitlines()
    assert [line.split()[0] for line in lines] == [row["smiles"] for row in rows]
    assert files[3].read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)  # no part is left


def test_no_reference_for_what_is_no_molecule(tmp_path):
    module = model_of(Sequence("DNA", 3), ActorCritic()).use(MotifData())
    with pytest.raises(InputError, match="a reference is for molecules"):
        write_candidates(draw_candidates(module, 3)[0], module, tmp_path / "x", tmp_path / "y")
    assert not (tmp_path / "x").exists()


def test_the_log_probability_of_a_candidate_is_near_the_exact_one():
    torch.manual_seed(1)
    module = model_of(Sequence("DNA", 4), ActorCritic()).use(MotifData())
    candidates, draws = draw_candidates(module, 100)
    indices, exact = terminating_distribution(module.environment, module.policy)
    states = module.environment.encode([c.text for c in candidates])
    places = torch.searchsorted(indices, module.environment.state_index(states))
    found = torch.tensor([c.log_probability for c in candidates])
    assert (found - exact[places].log()).abs().mean() < 0.1
    assert sum(c.draws for c in candidates) <= draws


def test_picked_molecules_are_the_farthest_by_brute_force(blocks):
    candidates, _ = draw_candidates(blocks, 30)
    chosen = [c.text for c in pick_diverse(candidates, blocks, 5, "top:1000")[0]]
    generator = GetMorganGenerator(radius=2, fpSize=2048)
    texts = blocks.data.columns(blocks.environment, [c.text for c in candidates])["smiles"]
    prints = [generator.GetFingerprint(Chem.MolFromSmiles(text)) for text in texts]
    distance = np.array([[1 - TanimotoSimilarity(a, b) for b in prints] for a in prints])
    picked = [0]
    for place in farthest(texts, 5)[1:]:
        nearest = distance[:, picked].min(1)
        assert nearest[place] == pytest.approx(nearest.max())
        picked.append(place)
    assert chosen == [candidates[i].text for i in sorted(picked)]
    pairs = [distance[i, j] for i, j in combinations(range(len(prints)), 2)]
    assert diversity(texts) == pytest.approx(np.mean(pairs))


def test_picked_sequences_differ_in_many_letters():
    torch.manual_seed(2)
    module = model_of(Sequence("DNA", 6), ActorCritic()).use(MotifData())
    candidates, _ = draw_candidates(module, 200)
    picked, _ = pick_diverse(candidates, module, 4, "top:1000")
    assert picked[0] == candidates[0]
    least = min(
        sum(x != y for x, y in zip(a.text, b.text, strict=True)) for a, b in combinations(picked, 2)
    )
    assert least >= 5  # four words of six letters can differ everywhere
    assert len(pick_diverse(candidates, module, 1000)[0]) == 200
    grid = model_of(Hypergrid(2, 4), ActorCritic()).use(HypergridData())
    with pytest.raises(InputError, match="--pick is for molecules and sequences"):
        pick_diverse(draw_candidates(grid, 3)[0], grid, 2)
