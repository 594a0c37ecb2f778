"""The page of results: where another library's curve is below ours, it says so."""

import importlib.util
from pathlib import Path

import pytest

from gfn_design.compare.grid import Grid
from gfn_design.compare.report import assess
from gfn_design.compare.runner import Point

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "results.py"


@pytest.fixture(scope="module")
def results():
    spec = importlib.util.spec_from_file_location("results", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_of(curve, calls=1):
    return [Point(at, calls * at, {"D_TV": d_tv, "modes": 3.0, "modes_known": 9.0})
            for at, d_tv in curve.items()]  # fmt: skip


def test_every_curve_beside_ours_is_there_and_runs_are_evaluated_where_it_was_recorded(results):
    for peer in (*results.OF_THE_PAPER, *results.OF_GFNX):
        grid = results.grid_of(peer.grid)
        (config,) = {
            (cell.config["evaluate_every"], cell.config["model"]["batches"]["size"])
            for cell in grid.cells
            if (cell.problem, cell.method) == (peer.problem, peer.method)
        }
        every, drawn = config[0] * config[1], grid.trajectories[peer.problem]
        recorded = results.curve_of(peer)
        assert recorded
        assert [at for at in recorded if at <= drawn and at % every] == []
        assert peer in results.OF_GFNX or max(recorded) == drawn


def test_a_point_above_another_curve_is_named_past_the_first_quarter_only(results, tmp_path):
    peer = next(it for it in results.OF_THE_PAPER if it.grid == "peers_rl_u")
    theirs = results.curve_of(peer)
    above = {12_800, 128_000, 256_000}
    curves = [
        {at: x + (0.05 if at in above else 0.0) + shift for at, x in theirs.items()}
        for shift in (-0.01, 0.0, 0.01)
    ]
    problem = assess(peer.problem, {peer.method: dict(enumerate(map(run_of, curves)))}, [0, 1, 2])
    found = results.beside(peer, problem)
    assert [it.trajectories for it in found] == sorted(theirs)[1:]
    assert {it.trajectories for it in found if it.difference > results.NOISE} == above
    assert [it.trajectories for it in found if not it.counts][-1] == 64_000
    bold = [line for line in results.peers_table(found).splitlines() if "**+0.050**" in line]
    assert [line.split("|")[1].strip() for line in bold] == ["128,000", "256,000"]

    results.PICTURES = tmp_path
    problems = {(it.grid, it.problem): problem for it in [peer]}
    text = results.peers_section([peer], problems, "theirs")
    assert "at 13 of 15 recorded points" in text
    assert "128,000 trajectories: 0.237 against 0.187" in text
    assert (tmp_path / f"peers-{peer.problem}.png").stat().st_size > 1000


def test_the_table_of_methods_says_what_was_not_tested_or_told_apart(results, tmp_path):
    ends = {"A": [0.1, 0.11, 0.1], "B": [0.11, 0.1, 0.1], "C": [0.9, 0.91, 0.91], "D": [0.05] * 3}
    runs = {
        m: {s: run_of({0: 0.95, 100: x}, 2 if m == "D" else 1) for s, x in enumerate(xs)}
        for m, xs in ends.items()
    }
    runs["E"] = {0: runs["A"][0]}
    results.PICTURES = tmp_path
    grid = Grid(Path("g"), {}, ["p"], list(runs), [0, 1, 2], {"p": 100}, [])
    text = results.methods_section("A problem", assess("p", runs, grid.seeds), grid)
    last = {line.split("|")[1].strip(): line.split("|")[-2].strip() for line in text.splitlines()
            if line.startswith("| ")}  # fmt: skip
    assert last == {
        "method": "beside A",
        "---": "---",
        "A": "lowest mean",
        "B": "not distinguishable",
        "C": "worse",
        "D": "more reward calls",
        "E": "worse: 2 of 3 runs failed",
    }
    assert "(1 of 3 runs)" in text
    del runs["E"]
    grid = grid._replace(methods=list(runs))
    text = results.methods_section("A problem", assess("p", runs, grid.seeds), grid)
    assert "| B | 100 | 0.1033 ± 0.0033 | 3 | not distinguishable |" in text
    assert "| C | 100 | 0.9067 ± 0.0033 | 3 | worse |" in text
    assert "modes of 9" in text
    assert "Of 2 methods that can be tested beside A, 1 are worse, and 1 are not" in text
