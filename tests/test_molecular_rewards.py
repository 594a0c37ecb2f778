"""Rewards of molecules: properties, ramps, the sEH proxy; functions and programs that fail."""

import csv
import gzip
import importlib.util
import json
import math
import os
import pickle
import re
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from common import model_of
from rdkit import Chem
from rdkit.Chem import QED, Crippen, Descriptors, rdMolDescriptors
from rdkit.Chem.FilterCatalog import FilterCatalog, FilterCatalogParams

from gfn_design import InputError, MoleculeData, Term
from gfn_design.data.functions import CommandData, FunctionData
from gfn_design.environments.molecules.chains import block_smiles
from gfn_design.environments.sequences.sequence import Sequence
from gfn_design.files.registry import MODEL_SOURCES, locate
from gfn_design.objectives.balance import TrajectoryBalance
from gfn_design.rewards.answers import ScoringError
from gfn_design.rewards.asker import Here
from gfn_design.rewards.desirability import combined, desirability
from gfn_design.rewards.functions import function_workers
from gfn_design.rewards.programs import ProgramWorker
from gfn_design.rewards.properties import PropertyValues, alerts, known
from gfn_design.rewards.scorer import Scorer
from gfn_design.rewards.seh import SEHProxy

ASPIRIN, CAFFEINE = "CC(=O)Oc1ccccc1C(=O)O", "Cn1c(=O)c2c(ncn2C)n(C)c1=O"
QUINONE = "O=C1C=CC(=O)C=C1"
MOLECULES = [ASPIRIN, CAFFEINE, QUINONE, "CCO", "[NH4+]", "C"]


@pytest.fixture(scope="session")
def data_folder():
    if not os.environ.get("GFN_DESIGN_DATA"):
        pytest.skip("GFN_DESIGN_DATA names no folder with the public data")
    return Path(os.environ["GFN_DESIGN_DATA"])


def chains(length=2):
    return Sequence("QM9", length, order="append")


# Desirability.


@pytest.mark.parametrize(
    ("want", "values"),
    [
        ("2..4 within 0.5", {2: 1, 4: 1, 3: 1, 1.5: 0.5, 4.5: 0.5, 1: 1 / 16, 5.5: 2**-9}),
        ("2..4", {2: 1, 1.5: 0.5, 4.5: 0.5}),  # a quarter of the range
        (">= 0.6", {0.6: 1, 7: 1, 0.45: 0.5, 0.3: 1 / 16}),  # a quarter of the bound
        ("≥0.6 within .1", {0.5: 0.5}),
        ("<= 3", {3: 1, -9: 1, 3.75: 0.5}),
        ("<= -8 within 1", {-8: 1, -7: 0.5}),
        ("0..0 within 1", {0: 1, -1: 0.5, 1: 0.5}),
        ("maximise 4..8", {3: 0, 4: 0, 5: 0.25, 8: 1, 9: 1}),
        ("minimize -12 .. -6", {-13: 1, -12: 1, -9: 0.5, -6: 0, 0: 0}),
        ("/ 8", {8: 1, 10: 1.25, 4: 0.5, -1: 0}),
        ("1e-1..2.5e0 within 1", {0.1: 1, 3.5: 0.5}),
    ],
)
def test_desirability(want, values):
    x = torch.tensor(list(values), dtype=torch.float64)
    assert desirability(want)(x).tolist() == pytest.approx(list(values.values()), abs=1e-12)


@pytest.mark.parametrize(
    ("want", "message"),
    [
        ("good", "'good' does not say what is wanted; write a range"),
        ("> 3", "does not say what is wanted"),
        ("2..", "does not say what is wanted"),
        ("4..2", "'4..2': the first number must be the smaller one"),
        ("maximise 3..3", "the first number must be the smaller one"),
        ("<= 0", "'<= 0': say how far outside .* as in '<= 0 within 1'"),
        ("2..4 within 0", "'2..4 within 0': say how far .* as in '2..4 within 1'"),
        ("/ 0", "the unit must be positive"),
    ],
)
def test_desirability_refuses(want, message):
    with pytest.raises(InputError, match=message):
        desirability(want)


def test_combinations_are_weighted_means():
    d = torch.tensor([[0.25, 1.0, 0.5], [0.0, 1.0, 1.0]], dtype=torch.float64)
    weights = torch.tensor([2.0, 1.0, 1.0], dtype=torch.float64)
    assert combined(d, weights, "sum").tolist() == pytest.approx([0.5, 0.5])
    assert combined(d, weights, "product").tolist() == pytest.approx([(0.0625 * 0.5) ** 0.25, 0])


# Properties.


def test_properties_are_those_of_rdkit():
    from rdkit.Contrib.SA_Score import sascorer

    by_name = {
        "QED": QED.qed,
        "SA": sascorer.calculateScore,
        "logP": Crippen.MolLogP,
        "tpsa": rdMolDescriptors.CalcTPSA,
        "MW": Descriptors.MolWt,
        "rings": rdMolDescriptors.CalcNumRings,
        "aromatic_rings": rdMolDescriptors.CalcNumAromaticRings,
        "HBD": rdMolDescriptors.CalcNumHBD,
        "BertzCT": Descriptors.BertzCT,
    }
    found = PropertyValues([(name,) for name in by_name])(MOLECULES)
    for smiles, row in zip(MOLECULES, found, strict=True):
        mol = Chem.MolFromSmiles(smiles)
        assert row == pytest.approx([f(mol) for f in by_name.values()]), smiles


def test_known_values():
    """Published: QED of aspirin 0.55, TPSA 63.6 A^2, mass 180.16 Da; caffeine has 2 rings."""
    aspirin, caffeine = PropertyValues([["QED"], ["TPSA"], ["MW"], ["rings"]])([ASPIRIN, CAFFEINE])
    assert aspirin == pytest.approx([0.55, 63.6, 180.16, 1], abs=0.005)
    assert caffeine[3] == 2


def test_alerts_are_counted_and_named():
    parameters = FilterCatalogParams()
    parameters.AddCatalog(FilterCatalogParams.FilterCatalogs.PAINS)
    names = [
        hit.GetDescription()
        for hit in FilterCatalog(parameters).GetMatches(Chem.MolFromSmiles(QUINONE))
    ]
    counts = PropertyValues([["PAINS"], ["brenk"]])([QUINONE, "CCO"])
    assert counts[0][0] == len(names) == 1
    assert counts[0][1] >= 1
    assert counts[1] == [0, 0]
    assert alerts(QUINONE)[0] == f"PAINS: {names[0]}"
    assert alerts("CCO") == []


def test_similarity_to_a_reference():
    values = PropertyValues([["similarity", ASPIRIN]])([ASPIRIN, "OC(=O)c1ccccc1OC(C)=O", "CCO"])
    assert values[0] == values[1] == [1.0]
    assert 0 < values[2][0] < 0.3


def test_every_property_has_a_value_for_aspirin():
    names = [n for n in known() if n not in ("similarity", "seh", "seh_transposed")]
    assert len(names) > 200
    (row,) = PropertyValues([(name,) for name in names])([ASPIRIN])
    assert all(map(math.isfinite, row))


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ([["QDE"]], "no property 'QDE'; did you mean QED"),
        ([["xxxxxxxx"]], "no property 'xxxxxxxx'; There are QED, SA"),
        ([["similarity"]], "similarity needs a reference"),
        ([["similarity", "C1CC"]], "RDKit reads no molecule in the reference 'C1CC'"),
    ],
)
def test_properties_refuse(properties, message):
    with pytest.raises(InputError, match=message):
        PropertyValues(properties)


# The sEH proxy.


def test_seh_proxy_reproduces_the_published_network(data_folder):
    """509 molecules, both readings, without and with flags on the atoms where they could grow."""
    with (data_folder / "seh_mpnn/test_vectors.csv").open() as file:
        rows = list(csv.DictReader(file))
    molecules = [Chem.MolFromSmiles(row["smiles"]) for row in rows]
    stems = [[int(atom) for atom in row["stem_atoms"].split()] for row in rows]
    for transposed, column in ((False, "pred_root"), (True, "pred_root_transposed")):
        proxy = SEHProxy(transposed=transposed)
        for flags, name in ((None, column), (stems, f"{column}_stems")):
            wanted = torch.tensor([float(row[name]) for row in rows])
            assert (proxy(molecules, flags) - wanted).abs().max() < 1e-4


def test_seh_readings_against_docking_and_potency(data_folder):
    """What the card says: the original reading agrees with docking, neither ranks potency well."""
    with (data_folder / "seh_mpnn/docking_check.csv").open() as file:
        docked = list(csv.DictReader(file))
    vina = np.array([float(row["vina_kcal_mol"]) for row in docked])
    target = 4 - (np.minimum(0, vina) + 8.6) / 1.10
    with gzip.open(data_folder / "seh_chembl/seh_chembl_ic50.csv.gz", "rt") as file:
        measured = list(csv.DictReader(file))
    potency = [float(row["pic50_median"]) for row in measured]
    for name, column, error, r, rho in (
        ("pred_root_stems", "seh_mpnn_pred", 0.50, 0.83, 0.18),
        ("pred_root_transposed_stems", "seh_mpnn_pred_transposed", 1.86, 0.28, 0.28),
    ):
        score = np.array([float(row[name]) for row in docked])
        assert ((score - target) ** 2).mean() == pytest.approx(error, abs=0.005)
        assert np.corrcoef(score, target)[0, 1] == pytest.approx(r, abs=0.005)
        some = measured[::20]  # the network itself on some, its published values on all
        proxy = SEHProxy(transposed="transposed" in name)
        found = proxy([Chem.MolFromSmiles(row["smiles"]) for row in some]).numpy()
        assert found == pytest.approx([float(row[column]) for row in some], abs=1e-4)
        assert spearman([float(row[column]) for row in measured], potency) == pytest.approx(
            rho, abs=0.005
        )


def spearman(x, y):
    def rank(v):
        _, place, count = np.unique(v, return_inverse=True, return_counts=True)
        return (count.cumsum() - (count - 1) / 2)[place]

    return np.corrcoef(rank(x), rank(y))[0, 1]


def test_seh_proxy_does_not_depend_on_the_batch(data_folder):
    proxy = SEHProxy()
    molecules = [Chem.MolFromSmiles(smiles) for smiles in MOLECULES]
    together = proxy(molecules)
    alone = torch.cat([proxy([molecule]) for molecule in molecules])
    assert torch.allclose(together, alone, atol=1e-5)
    assert proxy([]).shape == (0,)
    order = list(range(molecules[0].GetNumAtoms()))[::-1]
    turned = Chem.RenumberAtoms(molecules[0], order)
    assert torch.allclose(proxy([turned]), together[:1], atol=1e-5)


def test_seh_proxy_refuses(data_folder, tmp_path):
    with pytest.raises(ScoringError, match="knows no element Pt"):
        SEHProxy()([Chem.MolFromSmiles("[Pt]")])
    (tmp_path / "weights.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match=r"weights.safetensors: holds no weights"):
        SEHProxy(tmp_path / "weights.safetensors")


def test_seh_weights_are_verified_by_what_they_hold(data_folder, tmp_path, monkeypatch):
    from safetensors.numpy import load_file, save_file

    source = MODEL_SOURCES["seh_mpnn"]
    tensors = load_file(data_folder / source.file)
    monkeypatch.delenv("GFN_DESIGN_DATA")
    monkeypatch.setenv("GFN_DESIGN_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"make it with datasets/seh_mpnn/prepare.py"):
        locate("seh_mpnn")
    save_file(tensors, tmp_path / source.download, {"by": "another writer"})
    assert locate("seh_mpnn") == tmp_path / source.download
    tensors["conv.root"][0, 0] += 1
    save_file(tensors, tmp_path / source.download)
    with pytest.raises(InputError, match="not the published"):
        locate("seh_mpnn")


@pytest.mark.parametrize("protocol", [3, 5])
def test_prepare_script_of_seh(data_folder, tmp_path, protocol):
    """Of a file with the layout of the public one, which is read and never loaded."""
    from safetensors.numpy import load_file

    path = Path(__file__).parents[1] / "datasets" / "seh_mpnn" / "prepare.py"
    if not path.exists():
        pytest.skip("datasets/ belongs to the repository and not to the source package")
    spec = importlib.util.spec_from_file_location("prepare_seh_mpnn", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    source = MODEL_SOURCES["seh_mpnn"]
    tensors = load_file(data_folder / source.file)
    found = [np.zeros(3, np.float32) for _ in range(script.ARRAYS)]
    for place, (name, _) in script.SHAPES.items():
        found[place] = tensors[name]
    original, output = tmp_path / "best_params.pkl.gz", tmp_path / source.download
    original.write_bytes(gzip.compress(pickle.dumps(found, protocol), 1))
    script.prepare(original, output)
    assert source.found_content(output) == source.content_sha256
    found[2] = found[2].T.copy()
    original.write_bytes(gzip.compress(pickle.dumps(found, protocol), 1))
    output.unlink()
    with pytest.raises(InputError, match="does not hold the published weights"):
        script.prepare(original, output)
    assert list(tmp_path.iterdir()) == [original]
    original.write_bytes(b"no pickle")
    with pytest.raises(InputError, match="cannot be read as a compressed pickle"):
        script.prepare(original, output)


# Molecules that are good in several ways.


def test_molecule_data_combines_terms():
    environment = chains()
    terms = [Term("QED"), Term("SA", "<= 3", 2), Term("logP", "0..2 within 1")]
    data = MoleculeData(terms, exponent=4, scale=2, minimum=0.01)
    objects = environment.encode(["c1ccccc1 C1CCNC1", "O O", "CCC c1ccccc1"])
    smiles = block_smiles(environment.decode(objects))
    wanted = []
    for text in smiles:
        ((qed, sa, logp),) = PropertyValues([["QED"], ["SA"], ["logP"]])([text])
        parts = [
            qed,
            2 ** -((max(0, sa - 3) / 0.75) ** 2),
            2 ** -((max(0, -logp, logp - 2)) ** 2),
        ]
        score = (parts[0] * parts[1] ** 2 * parts[2]) ** 0.25
        wanted.append(4 * math.log(max(score, 0.01)) + math.log(2))
    assert data.make_reward(environment)(objects).tolist() == pytest.approx(wanted, rel=1e-5)
    both = MoleculeData(terms, "sum").make_reward(environment).score(objects)
    assert both.shape == (3,)
    assert (both >= data.make_reward(environment).score(objects)).all()  # the means' inequality


def test_columns_have_every_term():
    environment = chains()
    data = MoleculeData([Term("SA", "<= 3"), Term("QED", name="beauty")])
    texts = ["c1ccccc1 C1CCNC1", "O O"]
    columns = data.columns(environment, texts)
    smiles = block_smiles(texts)
    found = PropertyValues([["SA"], ["QED"]])(smiles)
    assert columns["SA"] == [f"{row[0]:.6g}" for row in found]
    assert columns["beauty"] == [f"{row[1]:.6g}" for row in found]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MoleculeData([]), "there are no terms"),
        (lambda: MoleculeData([Term("QED")], "max"), "combine must be product or sum"),
        (lambda: MoleculeData([Term("QED"), Term("qed")]), "two terms are called QED"),
        (lambda: Term(), "one of property, function, command and proxy"),
        (lambda: Term("QED", command="cat"), "one of property, function, command and proxy"),
        (lambda: Term("logP"), "say what is wanted of logP"),
        (lambda: Term("logP", "2-4"), "want of logP: '2-4' does not say"),
        (lambda: Term("QED", weight=0), "weight of QED must be positive, got 0"),
        (lambda: Term("QED", reference="CCO"), "a reference goes with similarity, not with QED"),
        (lambda: MoleculeData([Term("QED")], failed="go"), "failed must be stop or floor"),
        (lambda: MoleculeData([Term("QED")], n_workers=-1), "n_workers must not be negative"),
        (
            lambda: MoleculeData([Term("QED")]).make_reward(Sequence("DNA", 4)),
            "needs molecules, got Sequence",
        ),
    ],
)
def test_molecule_data_refuses(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_workers_give_the_same_values_and_end_with_the_run():
    terms = [Term("QED"), Term("SA", "<= 3")]
    here = MoleculeData(terms).values(MOLECULES)
    data = MoleculeData(terms, n_workers=2)
    assert torch.equal(data.values(MOLECULES), here)
    children = [worker._child.process for worker in data.scorers[0].asker.workers]
    assert [child.poll() for child in children] == [None, None]
    data.teardown("fit")
    assert None not in [child.poll() for child in children]
    assert torch.equal(data.values([*MOLECULES, "CCC"])[:-1], here)  # started anew
    data.teardown("fit")


def test_the_molecule_without_atoms_has_no_values():
    data = MoleculeData([Term("QED"), Term("SA", "<= 3")], "sum")
    values = data.values(["", "CCO"])
    assert values[0].isnan().all()
    assert data.score(values)[0] == 0
    assert data.score(values)[1] > 0


def test_what_is_no_molecule_is_named_or_floored():
    with pytest.raises(InputError, match=r"^RDKit reads no molecule, given 'C1CC'; mend it"):
        MoleculeData([Term("QED")]).values(["CCO", "C1CC", "C(("])
    data = MoleculeData([Term("QED")], failed="floor")
    assert data.values(["CCO", "C1CC", "C1CC", "C(("]).isnan().flatten().tolist() == [
        False,
        True,
        True,
        True,
    ]
    assert data.counts() == {"scored": 3, "failed": 2}


# Functions that fail.


OWN = (
    """
import os, sys, time
import torch

def good(texts):
    print("a function may print")
    return [float(len(t)) for t in texts]
def short(texts): return [1.0 for t in texts if t != "CCO"]
def one(texts): return [1.0]
def none(texts): return None
def hole(texts): return [None if t == "CCO" else 1.0 for t in texts]
def nan(texts): return [float("nan") if t == "CCO" else 1.0 for t in texts]
def word(texts): return ["good" if t == "CCO" else 1.0 for t in texts]
def column(texts): return torch.ones(len(texts), 1)
def tensor(texts): return torch.ones(len(texts))
def raising(texts): return [1 / (t != "CCO") for t in texts]
def hanging(texts):
    if "CCO" in texts:
        time.sleep(600)
    return [1.0] * len(texts)
def dying(texts):
    if "CCO" in texts:
        print("out of luck", file=sys.stderr)
        os._exit(3)
    return [1.0] * len(texts)
def times(texts, factor=1.0): return [factor * len(t) for t in texts]
CALLS = []
def expiring(texts):
    CALLS.append(texts)
    if len(CALLS) > 4:
        raise OSError("licence expired")
    return [1.0] * len(texts)
def flaky(texts):
    import pathlib
    mark = pathlib.Path(__file__).with_name("tried")
    if not mark.exists():
        mark.touch()
        raise RuntimeError("not yet")
    return [1.0] * len(texts)
""".replace("import torch\n", "")
    .replace("torch.ones(len(texts), 1)", "[[1.0] for t in texts]")
    .replace("def tensor(texts): return torch.ones(len(texts))\n", "")
)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Functions of a file, as a configuration names them."""
    from gfn_design.config import import_class

    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return lambda name: import_class(f"own.py:{name}")


TEXTS = ["C", "CC", "CCO", "CCN"]
SENTENCES = {
    "short": r"returned 0 numbers for 1 text, given 'CCO'",
    "one": r"returned 1 number for 4 texts, given 'C' and 3 more",
    "none": r"returned None and not one number for each text, given 'C'",
    "hole": r"returned None and not a number, given 'CCO'",
    "nan": r"returned nan and not a finite number, given 'CCO'",
    "word": r"returned 'good' and not a number, given 'CCO'",
    "column": r"returned \[1.0\] and not a number, given 'C'",
    "raising": r"raised ZeroDivisionError \(division by zero; own.py, line 14\), given 'CCO'",
}


@pytest.mark.parametrize("name", SENTENCES)
def test_a_bad_function_stops_with_a_sentence(own, name):
    score = FunctionData(own(name)).scorers[0]
    with pytest.raises(
        InputError, match=f"^own.py:{name} {SENTENCES[name]}; mend it, or set failed"
    ):
        score(TEXTS)


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        (name, TEXTS if name in ("none", "column") else ["CCO"])
        for name in SENTENCES
        if name != "one"
    ],
)
def test_a_bad_function_costs_the_items_at_fault_alone(own, name, bad, caplog):
    data = FunctionData(own(name), minimum=0.5, failed="floor")
    rows = data.scorers[0](TEXTS)
    assert [text for text, row in zip(TEXTS, rows, strict=True) if row is None] == bad
    assert data.counts() == {"scored": 4, "failed": len(bad)}
    assert len(caplog.messages) == 1
    assert f"own.py:{name} " in caplog.messages[0]
    assert f"given '{bad[0]}'; such texts count as the minimum" in caplog.messages[0]
    data.teardown("fit")
    assert f"failed for {len(bad)} of 4 texts" in caplog.messages[1]


def test_in_another_process_the_sentences_are_the_same(own):
    """And what the function prints is no answer."""
    names = [name for name in SENTENCES if name not in ("none", "short", "hole", "nan")]
    for name in names:
        data = FunctionData(own(name), timeout=60)
        with pytest.raises(InputError) as told:
            data.scorers[0](TEXTS)
        assert str(told.value).startswith(f"own.py:{name} ")
        with pytest.raises(InputError) as told_here:
            FunctionData(own(name)).scorers[0](TEXTS)
        assert str(told.value) == str(told_here.value)
    data = FunctionData(own("good"), n_workers=1)
    assert data.scorers[0](TEXTS) == [(1.0,), (2.0,), (3.0,), (3.0,)]
    data.teardown("fit")


def test_a_hanging_function_is_ended(own, caplog):
    """Ten minutes early: it would sleep for longer than any test may take."""
    data = FunctionData(own("hanging"), timeout=1, minimum=0.5, failed="floor")
    assert data.scorers[0](TEXTS) == [(1.0,), (1.0,), None, (1.0,)]
    assert caplog.messages[0].startswith("own.py:hanging took longer than 1 s, given 'CCO'; such")
    assert data.scorers[0](["CCO", "CCCC"]) == [None, (1.0,)]  # remembered: not asked again
    assert data.counts() == {"scored": 5, "failed": 1}
    data.teardown("fit")


def test_a_function_that_ends_its_process_is_started_anew(own):
    data = FunctionData(own("dying"), n_workers=2, minimum=0.5, failed="floor")
    assert data.scorers[0](TEXTS) == [(1.0,), (1.0,), None, (1.0,)]
    data.teardown("fit")
    with pytest.raises(
        InputError,
        match=r"own.py:dying ended with exit code 3 before it had answered, saying 'out of luck', "
        "given 'CCO'",
    ):
        FunctionData(own("dying"), n_workers=1).scorers[0](TEXTS)


def test_retries(own):
    assert FunctionData(own("flaky"), retries=1).scorers[0](TEXTS) == [(1.0,)] * 4
    Path("tried").unlink()
    with pytest.raises(InputError, match=r"own.py:flaky raised RuntimeError \(not yet"):
        FunctionData(own("flaky")).scorers[0](TEXTS)


def test_arguments_of_a_function_reach_its_process(own):
    data = FunctionData(partial(own("times"), factor=2.0), n_workers=1)
    assert data.scorers[0](["CC"]) == [(4.0,)]
    data.teardown("fit")


def test_a_file_that_cannot_be_imported_is_named(tmp_path):
    (tmp_path / "broken.py").write_text("raise OSError('no licence')")
    from gfn_design.rewards.functions import FunctionWorker

    worker = FunctionWorker(f"{tmp_path}/broken.py:score", {}, 60)
    with pytest.raises(InputError, match=r"broken.py:score raised OSError \(no licence; broken.py"):
        worker(["C"])()
    worker.close()


def test_what_another_process_cannot_find_is_refused():
    with pytest.raises(InputError, match="cannot be found by another process"):
        FunctionData(lambda texts: [1.0] * len(texts), timeout=1)
    with pytest.raises(InputError, match="cannot be sent to another process"):
        function_workers(partial(spearman, y=object()), 1, None)


def test_failed_floor_needs_a_minimum():
    with pytest.raises(InputError, match="failed: floor needs a minimum"):
        FunctionData(len, failed="floor")
    with pytest.raises(InputError, match="timeout must be positive"):
        FunctionData(spearman, timeout=0)


# The cache.


def test_a_text_is_scored_once():
    asked = []

    def score(texts):
        asked.append(list(texts))
        return [float(len(text)) for text in texts]

    scorer = Scorer("score", [Here(score)], cache_size=3)
    assert scorer(["A", "BB", "A", "BB"]) == [(1.0,), (2.0,), (1.0,), (2.0,)]
    assert scorer(["BB", "CCC"]) == [(2.0,), (3.0,)]
    assert asked == [["A", "BB"], ["CCC"]]
    scorer(["D", "E"])  # of five, the latest three are kept
    assert len(scorer._cache) == 3
    scorer(["CCC", "A"])
    assert asked[2:] == [["D", "E"], ["A"]]
    assert scorer.scored == 5  # each text once, however often it was forgotten


# Programs.


PROGRAM = """
import sys, time
for line in sys.stdin:
    text = line.strip()
    if text == "CCO":
        {what}
    print(len(text))
"""


@pytest.fixture
def program(tmp_path):
    """A command that reads texts and writes their lengths, but for CCO."""

    def make(what="pass"):
        file = tmp_path / "program.py"
        file.write_text(PROGRAM.format(what=what))
        return f"{sys.executable} {file}"

    return make


def test_a_program_scores_and_stays_open(program):
    data = CommandData(program())
    scorer = data.scorers[0]
    assert scorer(TEXTS) == [(1.0,), (2.0,), (3.0,), (3.0,)]
    process = scorer.asker.workers[0]._child.process
    assert scorer(["CCCCC"]) == [(5.0,)]
    assert scorer.asker.workers[0]._child.process is process
    data.teardown("fit")
    assert process.poll() is not None


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("time.sleep(600)", r"took longer than 2 s, given 'CCO'"),
        ("sys.exit('no pocket found')", r"ended with exit code 1 .*'no pocket found', given 'CCO'"),
        ("print('error!'); continue", r"wrote 'error!' and not a number, given 'CCO'"),
        ("print('nan'); continue", r"returned nan and not a finite number, given 'CCO'"),
        ("sys.stdout.buffer.write(b'\\xff\\n'); sys.stdout.flush(); continue", "wrote '.' and not"),
    ],
)
def test_a_program_that_fails(program, caplog, what, message):
    timeout = 2 if "sleep" in what else 60
    data = CommandData(program(what), minimum=0.5, timeout=timeout, retries=0, failed="floor")
    assert data.scorers[0](TEXTS) == [(1.0,), (2.0,), None, (3.0,)]
    assert re.match(rf"'.*program.py' {message}", caplog.messages[0])
    assert data.counts() == {"scored": 4, "failed": 1}
    data.teardown("fit")


def test_a_program_that_fails_stops_a_run(program):
    scorer = CommandData(program("print('error!'); continue")).scorers[0]
    message = "program.py' wrote 'error!' and not a number, given 'CCO'; mend it, or set failed"
    with pytest.raises(InputError, match=message):
        scorer(TEXTS)


def test_a_program_that_talks_too_much_is_not_misread(program):
    """An answer too many would be taken for that of the next text."""
    scorer = CommandData(program("print('3'); print('4')"), retries=0, timeout=20).scorers[0]
    with pytest.raises(InputError, match="wrote the line '4' without being asked"):
        scorer(["CCO"]), scorer(["CC"]), scorer.settle()  # mostly at once, at the end for certain


def test_a_program_that_is_not_there():
    with pytest.raises(InputError, match="'no-such-program' cannot be started"):
        CommandData("no-such-program").scorers[0](["C"])
    with pytest.raises(InputError, match="the command is empty"):
        CommandData(" ")
    with pytest.raises(InputError, match="cannot be read"):
        CommandData("'open")
    with pytest.raises(InputError, match="n_workers must be at least 1"):
        CommandData("cat", n_workers=0)


def test_more_texts_than_a_pipe_holds():
    """Nobody waits for the other: what is written and read does not fit into a pipe at once."""
    worker = ProgramWorker("cat", 60)
    texts = [str(10**15 + i) for i in range(20_000)]
    assert worker(texts)() == [float(text) for text in texts]
    worker.close()


def test_children_do_not_outlive_python(tmp_path):
    """Not even one that hangs, and not after an exception."""
    (tmp_path / "own.py").write_text(OWN)
    code = f"""
        from gfn_design.config import import_class
        from gfn_design.rewards.functions import function_workers
        function = import_class({str(tmp_path / "own.py")!r} + ":hanging")
        (worker,) = function_workers(function, 1, None)
        worker(["C"])()
        worker(["CCO"])
        print(worker._child.process.pid, flush=True)
        raise KeyboardInterrupt
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60
    )
    assert "KeyboardInterrupt" in done.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


# All together.


def test_functions_get_smiles_of_molecules(own):
    seen = []

    def score(texts):
        seen.extend(texts)
        return [1.0] * len(texts)

    environment = chains()
    module = model_of(environment, TrajectoryBalance()).use(FunctionData(score))
    module.log_reward(environment.encode(["C O", "c1ccccc1 C1CCNC1"]))
    assert seen == ["CO", "c1ccc(C2CCNC2)cc1"]


CONFIG = """
model:
  environment: {class_path: Sequence, init_args: {alphabet: QM9, length: 2, order: append}}
  objective: {class_path: TrajectoryBalance}
data:
  class_path: MoleculeData
  init_args:
    exponent: 4
    failed: floor
    terms:
      - {property: QED}
      - {property: SA, want: <= 3, weight: 2}
      - {property: similarity, reference: c1ccccc1CN, weight: 0.5}
      - {property: BRENK, name: alert}
      - {function: "own.py:raising", want: / 1}
trainer: {max_steps: 3, log_every_n_steps: 1, accelerator: cpu, enable_progress_bar: false}
evaluate_every: 3
candidates: 200
"""


def test_a_chemists_configuration(own, capsys):
    """A molecule that the function fails for gets the minimum, and the run goes on."""
    from gfn_design.__main__ import main

    Path("own.yaml").write_text(CONFIG)
    Path("own.py").write_text(OWN.replace('"CCO"', '"CO"'))
    assert main(["fit", "--config", "own.yaml", "--output", "run"]) == 0
    with Path("run/candidates.csv").open() as file:
        rows = list(csv.DictReader(file))
    by_smiles = {row["smiles"]: row for row in rows}
    assert list(rows[0])[2:8] == ["smiles", "QED", "SA", "similarity", "alert", "raising"]
    assert float(by_smiles["CO"]["log_reward"]) == pytest.approx(4 * math.log(1e-3), abs=1e-3)
    assert by_smiles["CO"]["raising"] == ""
    best = rows[0]
    values = [float(best[c]) for c in ("QED", "SA", "similarity", "alert")]
    found = PropertyValues([["QED"], ["SA"], ["similarity", "c1ccccc1CN"], ["BRENK"]])(
        [best["smiles"]]
    )
    assert values == pytest.approx(found[0], rel=1e-5)
    with Path("run/log.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["failed"]) == 1
    assert 10 < float(last["scored"]) <= 121

    for old, new, message in (
        ("property: SA", "propety: SA", r"unknown key 'data.terms.1.propety'; did you mean"),
        ("<= 3", "< 3", "data.terms.1: want of SA: '< 3' does not say"),
        ("QED", "QDE", "data.terms.0: there is no property 'QDE'; did you mean QED"),
    ):
        Path("bad.yaml").write_text(CONFIG.replace(old, new))
        assert main(["fit", "--config", "bad.yaml", "--output", "bad"]) == 2
        assert message in capsys.readouterr().err
        assert not Path("bad").exists()


def test_floor_keeps_a_run_alive_and_stop_ends_it(own, capsys):
    from gfn_design.__main__ import main

    text = CONFIG.replace("    failed: floor\n", "").replace('"own.py:raising"', '"own.py:none"')
    Path("own.yaml").write_text(text)
    assert main(["fit", "--config", "own.yaml", "--output", "run"]) == 2
    assert "own.py:none returned None and not one number" in capsys.readouterr().err
    assert not Path("run").exists()


@pytest.mark.slow
def test_stop_ends_a_run_that_goes_on_when_mended(own, capsys):
    """The sentence, exit code 2, and a checkpoint from before."""
    from gfn_design.__main__ import main

    data = {"class_path": "FunctionData", "init_args": {"function": "own.py:expiring"}}
    data["init_args"]["cache_size"] = 0
    text = CONFIG.partition("data:")[0] + f"data: {json.dumps(data)}\n"
    text += CONFIG[CONFIG.index("trainer:") : CONFIG.index("evaluate_every")]
    text = text.replace("max_steps: 3", "max_steps: 8")
    text += "checkpoint_every: 1\nevaluate_every: 8\ncandidates: 20\n"
    Path("own.yaml").write_text(text)
    assert main(["fit", "--config", "own.yaml", "--output", "run"]) == 2
    error = capsys.readouterr().err
    assert "own.py:expiring raised OSError (licence expired; own.py, line " in error
    assert Path("run/checkpoints/last.ckpt").exists()
    own("expiring").__globals__["CALLS"].clear()
    Path("own.py").write_text(OWN)
    own("expiring").__globals__["CALLS"] = type("Forgetful", (list,), {"append": len})()
    assert main(["fit", "--config", "own.yaml", "--output", "run"]) == 0
    assert Path("run/candidates.csv").exists()


def test_a_call_has_so_many_texts_at_most():
    sizes = []

    def score(texts):
        sizes.append(len(texts))
        return [1.0] * len(texts)

    scorer = Scorer("score", [Here(score), Here(score)])
    assert scorer([str(i) for i in range(1300)]) == [(1.0,)] * 1300
    assert sizes == [512, 512, 138, 138]


def test_a_worker_speaks_json(tmp_path):
    """The protocol, seen from outside: one line for a batch, whatever the function prints."""
    (tmp_path / "own.py").write_text(OWN)
    what = {"path": f"{tmp_path}/own.py:good", "arguments": {}}
    done = subprocess.run(
        [sys.executable, "-m", "gfn_design.rewards.worker"],
        input=f'{json.dumps(what)}\n["C", "CC"]\n',
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert [json.loads(x) for x in done.stdout.splitlines()] == [
        {"answers": []},
        {"answers": [1.0, 2.0]},
    ]
    assert "a function may print" in done.stderr
