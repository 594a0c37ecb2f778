"""Comparisons: what a grid may hold, how it goes on, and what its numbers are allowed to say."""

import csv
import fcntl
import itertools
import math
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from common import section

from gfn_design.__main__ import main
from gfn_design.compare.grid import load_grid
from gfn_design.compare.statistics import BASELINE, BEST, SAME, judge, largest_gaps

DEMO = Path(__file__).parents[1] / "configs" / "compare" / "demo.yaml"
RESULTS = DEMO.parents[1] / "results"

GRID = """
problems:
  threes:
    model: {environment: {class_path: Sequence, init_args: {alphabet: DNA, length: 3}}}
    data: {class_path: KmerData, init_args: {table: table.csv, normalise: false}}
methods:
  TB: {model: {objective: TrajectoryBalance}}
  own: {model: {objective: "own.py:Own"}}
seeds: [7]
trajectories: 640
evaluate_every: 320
base:
  candidates: 10
  checkpoint_every: 10
  model:
    networks: {network: {class_path: MLP, init_args: {width: 16, depth: 1}}}
    batches: {size: 16}
  trainer: {log_every_n_steps: 5, enable_progress_bar: false, accelerator: cpu}
"""

OWN = """
import time

from gfn_design import Objective


class Own(Objective):
    def forward(self, now, then):
        time.sleep(0.05)
        estimate = now.log_reward + (now.log_pb - now.log_pf).sum(1)
        return {"variance": estimate.var(), "log_z": (self.log_z - estimate.mean().detach()) ** 2}


class Broken(Own):
    def forward(self, now, then):
        raise RuntimeError("a loss\\nof two lines")
"""

KMERS = ["".join(letters) for letters in itertools.product("ACGT", repeat=3)]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.yaml").write_text(GRID)
    (tmp_path / "own.py").write_text(OWN)
    rows = [f"{kmer},{kmer.count('A') + 0.5}\n" for kmer in KMERS]
    (tmp_path / "table.csv").write_text("sequence,score\n" + "".join(rows))
    return tmp_path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def changed(**changes: object) -> str:
    """The grid with other values at dotted keys, `__` standing for the dot."""
    grid = yaml.safe_load(GRID)
    for key, value in changes.items():
        *above, last = key.split("__")
        place = grid
        for name in above:
            place = place[name]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return yaml.safe_dump(grid, sort_keys=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frob": 1}, r"grid\.yaml: unknown key 'frob'"),
        ({"methods": None}, r"'methods' must give at least one name"),
        ({"methods__TB": "TrajectoryBalance"}, r"'methods\.TB' must be a part"),
        ({"methods__TB": "none.yaml"}, r"none\.yaml: no such file"),
        ({"methods__../x": {}}, r"'methods\.\.\./x' names a folder"),
        ({"base": 3}, r"'base' must be a part"),
        ({"seeds": 0}, r"'seeds' must be how many"),
        ({"seeds": [1, 1]}, r"'seeds' must be how many .* different ones"),
        ({"seeds": [-1]}, r"'seeds' must be how many"),
        ({"trajectories": "many"}, r"'trajectories' must be a positive whole number, got 'many'"),
        (
            {"trajectories": None},
            r"or each problem must set 'trainer\.max_steps'; grid\.yaml: problems\.threes does not",
        ),
        (
            {"trajectories": None, "problems__threes__trainer": {"max_steps": 0}},
            r"problems\.threes: 'trainer\.max_steps' must be a positive whole number, got 0",
        ),
        (
            {"trajectories": None, "problems__threes__trainer": {"max_steps": 30}},
            r"problems\.threes: .*multiple of 'evaluate_every'.*; got 480 and 320",
        ),
        ({"methods__TB": ["none.yaml", {}]}, r"none\.yaml: no such file"),
        ({"methods__TB": [{}, 3]}, r"'methods\.TB' must be a part"),
        ({"methods__TB__trainer": {"max_steps": 9}}, r"methods\.TB: 'trainer\.max_steps'"),
        ({"trajectories": 1000}, r"'trajectories' must be a multiple of 'evaluate_every'"),
        (
            {"methods__TB__model__batches": {"size": 48}},
            r"methods\.TB: 'model\.batches\.size' 48 does not divide 'trajectories' 640",
        ),
        (
            {"methods__TB__model__batches": {"size": 640}},
            r"'model\.batches\.size' 640 does not divide 'evaluate_every' 320",
        ),
        (
            {"methods__TB__model__bach_size": 8},
            r"grid\.yaml: methods\.TB: unknown key 'model\.bach_size'; did you mean",
        ),
        ({"methods__TB__model__objective": "TrajectoryBalanc"}, r"methods\.TB: .*'TrajectoryBal"),
        ({"methods__own__model__objective": "own.py:Oww"}, r"unknown class 'own\.py:Oww'"),
        ({"problems__threes__data": None}, r"problem 'threes' with method 'TB': missing .*'data'"),
        ({"base__seed": 3}, r"grid\.yaml: base: 'seed' .*'seeds' decides it"),
        (
            {"methods__TB__model__draw_seed": 3},
            r"methods\.TB: 'model\.draw_seed' .*'seeds' decides it",
        ),
        ({"base__trainer__max_steps": 9}, r"'trainer\.max_steps' .*'trajectories' decides it"),
        ({"base__trainer__limit_val_batches": 0}, r"'evaluate_every' decides it"),
        (
            {"methods__TB__trainer": {"accumulate_grad_batches": 2}},
            r"'threes' with method 'TB': would draw 1,280 trajectories and not 640",
        ),
        ({"methods__TB__data": {}}, r"'methods\.TB' sets 'data', which all methods must share"),
        ({"methods__TB__model__environment": {}}, r"'methods\.TB' sets 'model\.environment'"),
        ({"base__candidates": "x"}, r"grid\.yaml: base: 'candidates' must be an int"),
        (
            {"methods__TB__model__optimiser": {"lr": -1.0}},
            r"'threes' with method 'TB': .*must not be negative",
        ),
        (
            {"base__trainer__devices": 0},
            r"problem 'threes' with method 'TB': trainer: ",
        ),
        ({"problems__threes__data__init_args__table": "no.csv"}, r"no\.csv: no such file"),
    ],
)
def test_mistakes_are_answered_with_one_sentence_and_start_nothing(here, capsys, changes, message):
    (here / "grid.yaml").write_text(changed(**changes))
    before = sorted(here.rglob("*"))
    assert main(["compare", "--config", "grid.yaml", "--output", "new"]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("gfn-design: ")
    assert len(error.splitlines()) == 1
    assert re.search(message, error), error
    assert [p for p in sorted(here.rglob("*")) if "__pycache__" not in p.parts] == before


def test_other_mistakes(here, capsys):
    assert main(["compare", "--config", "grid.yaml", "--jobs", "0"]) == 2
    assert "--jobs must be at least 1" in capsys.readouterr().err
    assert main(["compare"]) == 2
    assert "--config" in capsys.readouterr().err
    (here / "mine").mkdir()
    (here / "mine" / "thesis.txt").write_text("important")
    assert main(["compare", "--config", "grid.yaml", "--output", "mine"]) == 2
    assert "something else than a comparison" in capsys.readouterr().err
    assert [p.name for p in (here / "mine").iterdir()] == ["thesis.txt"]


def test_a_run_is_the_base_then_its_problem_then_its_method(here):
    (here / "grid.yaml").write_text(
        changed(
            methods__other="other.yaml",
            problems__threes__model__optimiser={"lr": 0.25},
            base__model__optimiser={"lr": 0.125},
            seeds=2,
        )
    )
    (here / "other.yaml").write_text(
        "model: {objective: ActorCritic, optimiser: {lr: 0.5}, batches: {size: 32}}"
    )
    grid = load_grid(Path("grid.yaml"))
    assert [(c.seed, c.method) for c in grid.cells] == [
        *((0, "TB"), (0, "own"), (0, "other")),
        *((1, "TB"), (1, "own"), (1, "other")),
    ]
    tb, own, other = (cell.config for cell in grid.cells[:3])
    assert tb["model"]["optimiser"]["lr"] == own["model"]["optimiser"]["lr"] == 0.25
    assert other["model"]["optimiser"]["lr"] == 0.5
    assert tb["trainer"] == yaml.safe_load(GRID)["base"]["trainer"] | {"max_steps": 40}
    assert (tb["evaluate_every"], other["evaluate_every"]) == (20, 10)
    assert other["trainer"]["max_steps"] == 20
    assert own["model"]["objective"] == f"{here / 'own.py'}:Own"
    assert tb["data"]["init_args"]["table"] == str(here / "table.csv")


def test_a_problem_may_be_the_file_of_a_run_which_says_how_long_it_is(here):
    """The grid's own numbers win, and methods with other batches draw as many trajectories."""
    (here / "run.yaml").write_text(
        """
        seed: 5
        evaluate_every: 10
        model:
          environment: {class_path: Sequence, init_args: {alphabet: DNA, length: 3}}
          objective: DetailedBalance
          batches: {size: 32}
        data: {class_path: KmerData, init_args: {table: table.csv, normalise: false}}
        trainer: {max_steps: 50, log_every_n_steps: 7}
        """
    )
    length = {"model": {"environment": {"init_args": {"length": 2}}}, "trainer": {"max_steps": 20}}
    changes = {
        "problems": {"whole": "run.yaml", "changed": ["run.yaml", length]},
        "methods": {
            "few": {"model": section({"objective": "TrajectoryBalance", "batch_size": 16})}
        },
        "base__model": {},
    }
    own = changed(**changes, trajectories=None, evaluate_every=None)
    (here / "grid.yaml").write_text(own)
    grid = load_grid(Path("grid.yaml"))
    assert grid.trajectories == {"whole": 1600, "changed": 640}
    whole, other = (cell.config for cell in grid.cells)
    assert (whole["seed"], whole["evaluate_every"], whole["trainer"]["max_steps"]) == (7, 20, 100)
    assert (other["evaluate_every"], other["trainer"]["max_steps"]) == (20, 40)
    assert whole["trainer"]["log_every_n_steps"] == 7
    assert whole["model"]["objective"] == "TrajectoryBalance"
    assert other["model"]["environment"]["init_args"] == {"alphabet": "DNA", "length": 2}

    (here / "grid.yaml").write_text(changed(**changes, trajectories=320, evaluate_every=160))
    shorter = load_grid(Path("grid.yaml"))
    assert shorter.trajectories == {"whole": 320, "changed": 320}
    config = shorter.cells[0].config
    assert (config["evaluate_every"], config["trainer"]["max_steps"]) == (10, 20)


def test_methods_share_the_seed_of_networks_and_never_their_draws(here):
    copies = {name: {"model": {"objective": "TrajectoryBalance"}} for name in ("A", "B")}
    (here / "grid.yaml").write_text(changed(methods=copies, seeds=3))
    cells = load_grid(Path("grid.yaml")).cells
    assert [cell.config["seed"] for cell in cells] == [0, 0, 1, 1, 2, 2]
    assert len({cell.config["model"]["draw_seed"] for cell in cells}) == 6
    assert cells == load_grid(Path("grid.yaml")).cells


def test_the_shipped_grid_is_valid_and_checked_without_torch():
    script = (
        "import sys; from pathlib import Path\n"
        "from gfn_design.compare.grid import load_grid\n"
        f"print(len(load_grid(Path({str(DEMO)!r})).cells))\n"
        "print([m for m in ('torch', 'lightning', 'numpy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert out.stdout.splitlines() == ["12", "[]"]


def test_a_comparison_that_was_stopped_goes_on_and_one_that_failed_says_so(here, capsys):
    """Stopped in its second run by Ctrl-C; what is there then is what one run at a time gives."""
    command = ["compare", "--config", "grid.yaml", "--output", "out", "--jobs", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "gfn_design", *command],
        stderr=subprocess.PIPE,
        text=True,
        # A shell ignores Ctrl-C for what it starts in the background, these tests for instance.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    first, second = Path("out/runs/threes/TB/7"), Path("out/runs/threes/own/7")
    for _ in range(1200):
        if (second / "checkpoints" / "last.ckpt").exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert "the same command goes on" in process.communicate()[1]
    assert process.returncode == 130
    with Path("out/.lock").open() as lock:  # which every process of the comparison would hold
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert not (second / "evaluation.yaml").exists()
        assert main(command) == 2
        assert "is at work here" in capsys.readouterr().err
    finished = {p: p.stat().st_mtime_ns for p in first.rglob("*")}

    (here / "grid.yaml").write_text(changed(methods__bad={"model": {"objective": "own.py:Broken"}}))
    assert main(command) == 1
    captured = capsys.readouterr()
    assert "threes, bad, seed 7: " in captured.err
    assert {p: p.stat().st_mtime_ns for p in first.rglob("*")} == finished
    for run in (first, second):
        whole = here / "whole" / run
        assert main(["fit", "--config", str(run / "config.yaml"), "--output", str(whole)]) == 0
        for name in ("log.csv", "evaluation.yaml", "config.yaml"):
            assert (run / name).read_text() == (whole / name).read_text(), name

    results = rows_of(here / "out" / "results.csv")
    assert {row["method"] for row in results} == {"TB", "own"}
    d_tv = [row for row in results if row["metric"] == "D_TV"]
    assert [int(row["trajectories"]) for row in d_tv] == [0, 320, 640] * 2
    assert [int(row["reward_calls"]) for row in d_tv] == [0, 320, 640] * 2
    end = yaml.safe_load((second / "evaluation.yaml").read_text())["D_TV"]
    assert float(d_tv[-1]["value"]) == pytest.approx(end, abs=1e-5)
    table = (here / "out" / "table.md").read_text()
    assert "| own | 1 of 1 | 640 |" in table
    assert "| bad | 0 of 1 |" in table
    assert "threes, bad, seed 7: of two lines" in table
    assert {row["verdict"].partition(":")[0] for row in rows_of(here / "out" / "verdicts.csv")} == {
        "not tested",
        "worse",
    }
    for name in ("table.tex", "curve-threes.png", "curve-threes.svg", "README.md"):
        assert (here / "out" / name).stat().st_size > 100

    (here / "own.py").write_text(OWN + "\n# another objective by the same name\n")
    assert main(command) == 2
    assert "was run with another" in capsys.readouterr().err


def test_reward_calls_are_counted_and_updates_are_no_trajectories(here):
    """Two updates with each batch ask nothing more; states that are scored on the way do."""
    from gfn_design.compare.runner import points

    hypergrid = {"class_path": "Hypergrid", "init_args": {"ndim": 2, "height": 4}}
    (here / "grid.yaml").write_text(
        changed(
            problems={"grid": {"model": {"environment": hypergrid}, "data": "HypergridData"}},
            methods={
                "twice": {"model": section({"objective": "TrajectoryBalance", "updates": 2})},
                "states": {"model": {"objective": "ModifiedDetailedBalance"}},
            },
            trajectories=160,
            evaluate_every=80,
        )
    )
    for cell in load_grid(Path("grid.yaml")).cells:
        (here / "run.yaml").write_text(yaml.safe_dump(cell.config))
        assert main(["fit", "--config", "run.yaml", "--output", cell.method]) == 0
    twice, states = points(here / "twice"), points(here / "states")
    assert [p.trajectories for p in twice] == [p.reward_calls for p in twice] == [0, 80, 160]
    assert [p.trajectories for p in states] == [0, 80, 160]
    assert states[-1].reward_calls >= 2 * 160


@pytest.mark.parametrize("grid", sorted(RESULTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_grids_of_the_results_are_valid(grid, monkeypatch):
    monkeypatch.chdir(RESULTS.parents[1])
    cells = load_grid(grid).cells
    assert {cell.seed for cell in cells} == {0, 1, 2}


def simulated(rng: random.Random, means: dict[str, float], seeds: range, noise: str) -> dict:
    """Final D_TV of every method and seed: a part that a seed's networks share, and noise."""
    draw = {
        "normal": lambda: rng.gauss(0, 0.01),
        "skewed": lambda: 0.005 * math.exp(rng.gauss(0, 1)),
    }[noise]
    shared = {seed: rng.gauss(0, 0.005) for seed in seeds}
    return {m: {s: mean + shared[s] + draw() for s in seeds} for m, mean in means.items()}


@pytest.mark.parametrize("noise", ["normal", "skewed"])
@pytest.mark.parametrize("copies", [2, 4, 13])
@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("baseline", [None, "A"])
def test_copies_of_one_method_are_told_apart_in_5_percent_of_problems_at_most(
    n, copies, noise, baseline
):
    """Any of a family: beside the best, or beside a baseline; 1,000 problems of each kind."""
    rng, false, beside = random.Random(n * copies), 0, BASELINE if baseline else BEST
    means = dict.fromkeys("ABCDEFGHIJKLM"[:copies], 0.2)
    for _ in range(1000):
        found = judge(simulated(rng, means, range(n), noise), range(n), True, baseline)
        false += any(v.better for v in found.verdicts if v.beside == beside)
    # Beside a baseline skewed noise is called a difference in up to 7 %, as docs/compare.md says.
    level = 0.07 if baseline and noise == "skewed" else 0.05
    assert false / 1000 <= level + 3 * 0.0069


def test_differences_are_found():
    """With 3 seeds and 13 methods: of three standard deviations half, of ten all."""
    rng, names = random.Random(0), "ABCDEFGHIJKLM"
    for size, share in ((3, 0.5), (10, 0.95)):
        found = found_beside_baseline = 0
        for _ in range(300):
            means = {m: 0.2 + size * 0.01 * (m != "A") for m in names}
            judgement = judge(simulated(rng, means, range(3), "normal"), range(3), True, "A")
            for v in judgement.verdicts:
                if v.beside == BEST:
                    found += v.text == "worse" and v.other == "A"
                else:
                    found_beside_baseline += v.text == "worse"
        assert found / 300 / 12 >= share
        assert found_beside_baseline / 300 / 12 >= share


def test_the_largest_gaps_agree_with_the_tables():
    """Of Tukey's range, 3 means and 10 degrees of freedom: 3.877; of Dunnett's: 2.57."""
    import numpy as np

    assert np.quantile(largest_gaps(3, 10, True), 0.95) * 2**0.5 == pytest.approx(3.877, abs=0.03)
    assert np.quantile(largest_gaps(3, 10, False), 0.95) == pytest.approx(2.57, abs=0.02)
    assert np.quantile(largest_gaps(2, 2, False), 0.95) == pytest.approx(4.303, abs=0.06)


def test_equal_runs_are_not_told_apart_and_failed_ones_lose():
    same = {"A": dict.fromkeys(range(3), 0.25), "B": dict.fromkeys(range(3), 0.25)}
    (verdict,) = judge(same, range(3), True).verdicts
    assert (verdict.text, verdict.p, verdict.better) == (SAME, 1.0, "")
    rounded = same | {"B": dict.fromkeys(range(3), 0.250001)}
    assert judge(rounded, range(3), True).verdicts[0].text == SAME
    for broken in ({0: 0.1, 1: 0.1}, {0: 0.1, 1: 0.1, 2: math.nan}):
        found = judge(same | {"B": broken}, range(3), True)
        (verdict,) = found.verdicts
        assert verdict.text == "worse: 1 of 3 runs failed"
        assert (verdict.better, found.best) == ("A", "A")
        assert math.isnan(verdict.p)
        assert found.is_won
    assert judge(same, [0], True).verdicts[0].text.startswith("not tested: one seed")


def test_an_uneven_spread_is_said():
    values = {m: {s: 0.2 + 0.001 * s for s in range(3)} for m in "ABC"}
    values["D"] = {0: 0.1, 1: 0.3, 2: 0.5}
    assert "D spreads" in judge(values, range(3), True).remarks[0]
    assert not judge({m: values[m] for m in "ABC"}, range(3), True).remarks


def synthetic(
    values: dict[str, list[float]], calls: dict[str, int] | None = None, metric: str = "D_TV"
) -> dict:
    """Results as a comparison reads them from its runs."""
    from gfn_design.compare.runner import Point

    def run(method: str, end: float) -> list:
        at_end = Point(100, (calls or {}).get(method, 100), {metric: end})
        return [Point(0, 0, {metric: 0.9}), at_end]

    return {m: {s: run(m, x) for s, x in enumerate(ends)} for m, ends in values.items()}


def test_tables_name_the_best_only_where_the_test_does(here):
    from gfn_design.compare.grid import Grid
    from gfn_design.compare.report import _latex, _markdown, assess

    grid = Grid(Path("g"), {}, ["p"], ["A", "B", "C"], [0, 1, 2], {"p": 100}, [])
    clear = {"A": [0.1, 0.11, 0.1], "B": [0.5, 0.51, 0.52], "C": [0.9, 0.91, 0.91]}
    problem = assess("p", synthetic(clear), grid.seeds)
    found = [(v.method, v.other, v.text) for v in problem.judgement.verdicts]
    assert found == [("B", "A", "worse"), ("C", "A", "worse")]
    lines = _markdown(problem, grid).splitlines()
    table = [[c.strip() for c in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    assert table[0] == ["method", "runs", "reward calls", "D_TV"]
    assert table[2:] == [
        ["A", "3 of 3", "100", "**0.1033 ± 0.0033**"],
        ["B", "3 of 3", "100", "0.5100 ± 0.0058"],
        ["C", "3 of 3", "100", "0.9067 ± 0.0033"],
    ]
    tex = _latex(problem, grid).splitlines()
    assert r"A & 3 of 3 & 100 & \textbf{0.1033 $\pm$ 0.0033} \\" in tex
    assert {line.count("&") for line in tex if line.endswith(r"\\")} == {3}

    bound = assess("p", synthetic(clear, metric="log_z_bound"), grid.seeds)
    assert [v.better for v in bound.judgement.verdicts] == ["C", "C"]  # larger is better
    assert [line[:3] for line in _markdown(bound, grid).splitlines() if "**" in line] == ["| C"]
    unknown = assess("p", synthetic(clear, metric="other"), grid.seeds)
    texts = [v.text for v in unknown.judgement.verdicts]
    assert texts
    assert all(text.startswith("not tested: no metric") for text in texts)

    close = clear | {"B": [0.11, 0.1, 0.1]}
    assert "**" not in _markdown(assess("p", synthetic(close), grid.seeds), grid)
    unequal = assess("p", synthetic(clear, {"A": 200}), grid.seeds)
    assert "unequal reward calls" in unequal.judgement.verdicts[-1].text
    assert "**0.51" in _markdown(unequal, grid)  # of those that can be compared
    lost = _markdown(assess("p", synthetic(clear | {"A": [0.1, 0.11]}), grid.seeds), grid)
    assert "| A | 2 of 3 |" in lost
    assert "A beside B: worse: 1 of 3 runs failed" in lost
    assert "**0.51" in lost  # a method that failed does not forbid a winner
    assert "not tested" in _markdown(assess("p", {"A": {}, "B": {}}, grid.seeds), grid)
    against = assess("p", synthetic(clear), grid.seeds, "B").judgement.verdicts
    assert [(v.method, v.text) for v in against if v.beside == BASELINE] == [
        ("A", "better"),
        ("C", "worse"),
    ]
