"""The page of a run: what it says of learning, its cards and charts, in a real browser."""

import csv
import importlib.util
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from test_proxies import QUICK, sequences, table

from gfn_design.__main__ import main
from gfn_design.errors import InputError
from gfn_design.files.measurements import read_measurements
from gfn_design.proxies.fit import fit_proxy
from gfn_design.results.acquisition import improvement
from gfn_design.results.cards import Wish, card_of, marked
from gfn_design.results.changes import change_of_molecules, change_of_sequences
from gfn_design.results.drawings import drawn
from gfn_design.results.health import findings, verdict
from gfn_design.rewards.proxy_values import Predictor

PEPTIDES = """
seed: 0
evaluate_every: 20
candidates: 60
model:
  environment:
    class_path: Sequence
    init_args: {{alphabet: protein, length: 12, min_length: 8, order: append}}
  objective: TrajectoryBalance
  networks: {{network: {{class_path: MLP, init_args: {{width: 64, depth: 1}}}}}}
  batches: {{size: 32}}
data:
  class_path: SequenceData
  init_args: {{terms: [{{proxy: {proxy}, want: ">= 1"}}], exponent: 4}}
trainer: {{max_steps: 60, accelerator: cpu, enable_progress_bar: false}}
"""
MOLECULES = """
seed: 0
evaluate_every: 20
candidates: 60
model:
  environment: {{class_path: Fragments, init_args: {{fragments: druglike, max_blocks: 3}}}}
  objective: TrajectoryBalance
  networks: {{network: {{class_path: MLP, init_args: {{width: 64, depth: 1}}}}}}
  batches: {{size: 32}}
data:
  class_path: MoleculeData
  init_args:
    terms: [{{proxy: {proxy}, want: ">= 1"}}, {{property: QED, want: ">= 0.5"}}]
    exponent: 2
trainer: {{max_steps: 40, accelerator: cpu, enable_progress_bar: false}}
"""


def molecules(folder):
    """Molecules of fragments, with a number that follows from their letters."""
    rng = np.random.default_rng(0)
    rings = ["c1ccccc1", "C1CCNCC1", "c1ccncc1", "C1CCCCC1", "c1ccoc1", "C1CCOCC1", "c1ccsc1"]
    ends = ["C", "CC", "OC", "C(=O)N", "F", "Cl", "C#N", "N(C)C"]
    path, rows = folder / "molecules.csv", ["name,smiles,activity"]
    for i in range(90):
        link, ring, end = rng.choice(["CC", "CN", "C(=O)N"]), rng.choice(rings), rng.choice(ends)
        smiles = f"{end}C{link}{ring}"
        value = smiles.lower().count("n") + smiles.count("O") + 0.2 * rng.normal()
        rows.append(f"M{i},{smiles},{value:.3f}")
    path.write_text("\n".join(rows))
    return path


@pytest.fixture(scope="module", params=["peptides", "molecules"])
def run(request, tmp_path_factory):
    """A run with a proxy, designs picked from it, and its page."""
    folder = tmp_path_factory.mktemp(request.param)
    path = table(folder, 150) if request.param == "peptides" else molecules(folder)
    fitted = fit_proxy(read_measurements(path), path, models=QUICK, anyway=True)
    fitted.proxy.save(folder / "proxy.safetensors")
    text = PEPTIDES if request.param == "peptides" else MOLECULES
    config = folder / "config.yaml"
    config.write_text(text.format(proxy=folder / "proxy.safetensors"))
    assert main(["fit", "--config", str(config), "--output", str(folder / "run")]) == 0
    pick = ["--pick", "8", "--pick_by", "ucb"]
    assert main(["sample", str(folder / "run"), "-n", "100", *pick]) == 0
    assert main(["report", str(folder / "run")]) == 0
    return request.param, folder / "run"


def opened(page, width, picture=None):
    """What a browser makes of a page."""
    if importlib.util.find_spec("PyQt6.QtWebEngineWidgets") is None:
        pytest.skip("no browser is installed")
    script = Path(__file__).with_name("browser.py")
    arguments = [sys.executable, str(script), str(page), str(width)]
    done = subprocess.run(
        arguments + ([str(picture)] if picture else []),
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode and "cannot open shared object file" in done.stderr:
        pytest.skip(f"the browser lacks a library: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_opens_in_a_browser_and_asks_for_nothing(run, width, tmp_path):
    _, folder = run
    found = opened(folder / "report.html", width, tmp_path / "page.png")
    assert found["loaded"]
    assert not found["said"]
    assert [url.rpartition("/")[2] for url in found["asked"]] == ["report.html"]
    assert found["broken"] == 0
    assert found["pictures"] > 5
    assert found["width"] <= width  # nothing to scroll sideways
    assert "Is it learning?" in found["text"]
    assert (tmp_path / "page.png").stat().st_size > 20_000


def test_the_page_is_one_small_file_with_all_that_was_asked(run):
    kind, folder = run
    text = (folder / "report.html").read_text("utf-8")
    assert len(text) < 5e6
    assert not re.search(r'(?:src|href)="(?!data:)', text)
    assert "<script" not in text
    assert text.count('class="card"') == 8
    assert "SHA-256 of proxy.safetensors" in text
    assert "&gt;= 1" in text
    assert "second opinion" in text
    with (folder / "sample-1" / "candidates.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    for row in rows:
        assert row["activity_nearest"] in text
        assert row["activity_change"]
        assert float(row["activity_low"]) < float(row["activity"]) < float(row["activity_high"])
        assert row["path" if kind == "molecules" else "sequence"]
    funnel = json.loads((folder / "sample-1" / "drawn.json").read_text())
    steps = [funnel[name] for name in ("draws", "valid", "distinct", "picked")]
    assert steps == sorted(steps, reverse=True)


def test_every_way_of_picking_picks_good_ones(run, capsys):
    _, folder = run
    means = {}
    for how in ("ucb", "ei", "thompson"):
        out = folder / f"by-{how}"
        picked = ["--pick", "6", "--pick_by", how, "--output", str(out), "--overwrite"]
        assert main(["sample", str(folder), "-n", "100", *picked]) == 0
        with (out / "candidates.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 6
        assert len({row.get("smiles") or row["sequence"] for row in rows}) == 6
        means[how] = np.mean([float(row["activity"]) for row in rows])
    texts = json.loads((folder / "by-ei" / "drawn.json").read_text())["texts"]
    from gfn_design.runs.run import open_run

    proxy = open_run(folder).module.data.predictors[0].proxy
    average = proxy.predict(texts).mean.mean()
    assert means["ucb"] > average - 0.5  # other wishes count too, and who is unsure is worth a try
    assert means["ei"] > average - 0.5
    assert means["thompson"] > average - 1


@pytest.mark.parametrize("how", ["ucb", "ei"])
def test_what_was_measured_is_not_picked(run, how):
    kind, folder = run
    if kind == "molecules":
        return
    from gfn_design.results.acquisition import pick_to_measure
    from gfn_design.results.candidates import Candidate
    from gfn_design.runs.run import open_run

    module = open_run(folder).module
    about = module.data.predictors[0].proxy.about
    best = [
        about.texts[i]
        for i in np.argsort(about.values)[::-1]
        if len(about.texts[i]) in range(8, 13)
    ]
    texts = best[:5] + sequences(20, seed=9, low=8, high=12)
    candidates = [Candidate(i, text, 1.0, 1.0, 0.0, 1, 0.0) for i, text in enumerate(texts, 1)]
    picked, said = pick_to_measure(candidates, module, 5, how)
    assert not {c.text for c in picked} & set(best)
    assert "of 25" in said
    with pytest.raises(InputError, match="all 5 candidates are measured already"):
        pick_to_measure(candidates[:5], module, 3, how)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--pick_by", "ei"], "give --pick too"),
        (["--pick", "3", "--pick_by", "ei", "--pick_from", "0.5"], "goes with picking by distance"),
    ],
)
def test_ways_of_picking_that_cannot_be(run, options, said, capsys):
    assert main(["sample", str(run[1]), "-n", "10", *options]) == 2
    assert said in capsys.readouterr().err


def test_a_page_needs_designs_and_a_name(run, tmp_path, capsys):
    assert main(["report", str(run[1]), "--designs", str(tmp_path)]) == 2
    assert "holds no candidates.csv" in capsys.readouterr().err
    assert main(["report", str(run[1]), "--output", str(tmp_path / "page.pdf")]) == 2
    assert "name in .html" in capsys.readouterr().err


def test_a_run_without_a_proxy_has_a_page_too(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text(
        """
model:
  environment: {class_path: Sequence, init_args: {alphabet: DNA, length: 6}}
  objective: TrajectoryBalance
data: {class_path: MotifData, init_args: {factor: FOXA1}}
candidates: 20
trainer: {max_steps: 20, accelerator: cpu, enable_progress_bar: false}
"""
    )
    assert main(["fit", "--config", str(config), "--output", str(tmp_path / "run")]) == 0
    assert main(["report", str(tmp_path / "run")]) == 0
    text = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "total variation" in text
    assert text.count('class="card"') == 20
    assert "The proxy" not in text


# What it says of learning


def predictor(name, error, sign=1):
    figures = SimpleNamespace(about=SimpleNamespace(figures={"rmse": error}))
    return Predictor(figures, "", name, sign)


def rows_of(**columns):
    length = max(map(len, columns.values()), default=0)
    return [
        {"trajectories": 100.0 * i} | {k: v[i] for k, v in columns.items() if i < len(v)}
        for i in range(length)
    ]


def states(rows, effective=0.5, distinct=0.9, proxy=()):
    found = findings(rows, effective, distinct, proxy)
    return {it.what: it.state for it in found}, verdict(found)[0]


def test_a_run_that_learns_is_said_to():
    level = [1 - math.exp(-i) for i in range(10)]
    rows = rows_of(mean_score=level, log_z=[8 + 2 * x for x in level], floored=[0.01] * 10)
    found, state = states(rows)
    assert set(found.values()) == {"good"}
    assert state == "good"


@pytest.mark.parametrize(
    ("rows", "options", "what", "state"),
    [
        (rows_of(mean_score=[0.5] * 5), {}, "the score of what is built", "bad"),
        (rows_of(mean_score=[0.1, 0.9, 0.3]), {}, "the score of what is built", "watch"),
        (rows_of(log_z=[0, 2, 4, 6, 8, 10.0]), {}, "log Z, the sum of all rewards", "bad"),
        (
            rows_of(log_z=[0.0] * 5, log_z_bound=[9.0] * 5),
            {},
            "log Z, the sum of all rewards",
            "bad",
        ),
        (rows_of(D_TV=[0.9, 0.8]), {}, "the distance to the target", "bad"),
        (rows_of(floored=[0.9]), {}, "rewards at the floor", "bad"),
        (rows_of(), {"effective": 0.01}, "how near samples are to the target", "watch"),
        (rows_of(), {"distinct": 0.05}, "diversity", "bad"),
        (
            rows_of(y=[5.0, 9.0], y_second=[5.0, 6.0]),
            {"proxy": [predictor("y", 1.0)]},
            "the second opinion on y",
            "bad",
        ),
        (
            rows_of(y=[7.0, 3.0], y_second=[7.0, 7.0]),
            {"proxy": [predictor("y", 1.0, -1)]},
            "the second opinion on y",
            "bad",
        ),
        (
            rows_of(y=[3.0, 5.0], y_second=[3.0, 3.0]),
            {"proxy": [predictor("y", 1.0, 0)]},
            "the second opinion on y",
            "bad",
        ),
        (rows_of(mean_score=[-10.0, -10.1]), {}, "the score of what is built", "bad"),
        (rows_of(mean_score=[-10.0, -2.0, -9.0]), {}, "the score of what is built", "watch"),
    ],
)
def test_what_goes_wrong_is_named_with_a_remedy(rows, options, what, state):
    found = {
        it.what: it
        for it in findings(
            rows,
            options.get("effective", 0.5),
            options.get("distinct", 0.9),
            options.get("proxy", ()),
        )
    }
    assert found[what].state == state
    assert found[what].remedy
    assert what in verdict([found[what]])[1]


def test_a_score_that_rises_below_zero_is_good():
    found, _ = states(rows_of(mean_score=[-10.0, -7.0, -5.0]))
    assert found["the score of what is built"] == "good"


def test_what_learns_from_a_library_raises_no_score():
    found = findings(rows_of(mean_score=[1.0, 1.0]), None, 0.9, (), rises=False)
    assert [it.what for it in found] == ["diversity"]


def test_less_of_what_both_models_expect_is_good():
    found = findings(rows_of(y=[7, 3.0], y_second=[7, 4.0]), 0.5, 0.9, [predictor("y", 2.0, -1)])
    assert {it.what: it.state for it in found}["the second opinion on y"] == "good"


# Cards


@pytest.mark.parametrize(
    ("design", "other", "words"),
    [
        ("Clc1ccccc1C", "FC(F)(F)c1ccccc1C", "C(F)(F)F to Cl"),
        ("Cc1ccccc1", "c1ccccc1", "with C"),
        ("c1ccccc1", "Cc1ccccc1", "without C"),
        ("CCO", "OCC", "the same"),
        ("c1ccccc1", "CCCCCCC", "another skeleton"),
    ],
)
def test_what_a_molecule_changes(design, other, words):
    from rdkit.Chem import MolFromSmiles

    assert change_of_molecules(MolFromSmiles(design), MolFromSmiles(other)).words == words


@pytest.mark.parametrize(
    ("design", "other", "words"),
    [
        ("KLLKR", "KLLKW", "W5R"),
        ("ACDEFG", "ACEFG", "+D after 2"),
        ("ACEFG", "ACDEFG", "D3-"),
        ("AAA", "AAA", "the same"),
    ],
)
def test_what_a_sequence_changes(design, other, words):
    assert change_of_sequences(design, other) == words
    assert "".join(letter for letter, _ in marked(design, other)) == design


def test_no_ring_is_torn_by_a_change():
    """A ring of the design that shares an atom with a chain of the other is new as a whole."""
    from rdkit.Chem import MolFromSmiles

    design, other = (
        MolFromSmiles("O=C(Nc1ccc(-c2ccccc2)cc1)NC1CCN(c2ccccc2)CC1"),
        MolFromSmiles("O=C(NC1CCN(c2ccccc2)CC1)N[C@H]1C[C@@H]1c1ccccc1"),
    )
    new = set(change_of_molecules(design, other).new)
    for ring in design.GetRingInfo().AtomRings():
        assert set(ring) <= new or not set(ring) & new


def test_a_drawing_marks_what_is_new():
    found = drawn("Cc1ccccc1O", "Cc1ccccc1")
    assert found.change == "with O"
    assert found.design.startswith("data:image/svg+xml;base64,")
    assert found.nearest
    assert not drawn("CCO", None).nearest


def test_a_card_says_which_wishes_are_met():
    row = {"rank": "1", "sequence": "ACGT", "GC": "0.5", "x": "3"}
    card = card_of(row, [Wish("GC", "0.4..0.6"), Wish("x", ">= 4"), Wish("none", ">= 1")], [], True)
    assert [(value.title, value.met) for value in card.values] == [("GC", True), ("x", False)]
    assert card.values[0].worth == 100
    assert 0 < card.values[1].worth < 100


def test_expected_improvement_is_the_mean_of_what_exceeds_the_best():
    rng = np.random.default_rng(0)
    mean, deviation = np.array([0.0, 1.0, 2.0]), np.array([1.0, 0.5, 0.1])
    draws = mean + deviation * rng.normal(size=(400_000, 3))
    expected = (draws - 1.2).clip(min=0).mean(0)
    assert improvement(mean, deviation, 1.2) == pytest.approx(expected, abs=0.01)
