"""The command as a person meets it: a whole run, and one sentence for every mistake."""

import csv
import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from gfn_design.__main__ import main
from gfn_design.config import load
from gfn_design.config.root import ROOT

SHIPPED = Path(__file__).parents[1] / "configs"
METHODS, PROBLEMS, GRIDS, RESULTS = (
    sorted((SHIPPED / name).glob("*.yaml")) for name in ("methods", "paper", "compare", "results")
)
CONFIGS = sorted(set(SHIPPED.rglob("*.yaml")) - {*METHODS, *PROBLEMS, *GRIDS, *RESULTS})

TINY = """
evaluate_every: 10
candidates: 30
model:
  environment: {class_path: Sequence, init_args: {alphabet: DNA, length: 3}}
  objective: {class_path: ActorCritic}
  networks:
    network: {class_path: MLP, init_args: {width: 16, depth: 1}}
    critic: {class_path: MLP, init_args: {width: 16, depth: 1}}
  batches: {size: 16}
data: {class_path: KmerData, init_args: {table: table.csv, normalise: false}}
trainer: {max_steps: 20, log_every_n_steps: 5, enable_progress_bar: false, accelerator: cpu}
"""

KMERS = ["".join(letters) for letters in itertools.product("ACGT", repeat=3)]


def write_table(path: Path, **changes: str) -> None:
    """Every 3-mer, its score the number of As plus one half; `changes` replace cells."""
    rows = [(kmer, changes.get(kmer, str(kmer.count("A") + 0.5))) for kmer in KMERS]
    path.write_text("sequence,score\n" + "".join(f"{k},{v}\n" for k, v in rows))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    write_table(tmp_path / "table.csv")
    return tmp_path


@pytest.fixture
def run(here):
    """A finished run of 20 batches."""
    assert main(["fit", "--config", "tiny.yaml", "--output", "run"]) == 0
    return here / "run"


def refused(arguments: list[str], capsys) -> str:
    """The one sentence that a bad input is answered with."""
    capsys.readouterr()
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("gfn-design: ")
    assert len(error.splitlines()) == 1
    return error


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_fit_leaves_one_folder_with_everything(run, capsys):
    files = {path.name for path in run.iterdir()}
    assert files == {
        "README.md",
        "candidates.csv",
        "candidates.fasta",
        "checkpoints",
        "config.yaml",
        "curve.png",
        "distribution.png",
        "evaluation.yaml",
        "log.csv",
        "logo.png",
    }
    assert set(re.findall(r"`([\w./]+\.\w+)`", (run / "README.md").read_text())) >= {
        name for name in files if "." in name and name != "README.md"
    }
    rows = rows_of(run / "log.csv")
    assert {"reward", "distinct", "log_z", "D_TV", "trajectories"} <= set(rows[0])
    assert [r["trajectories"] for r in rows if r["D_TV"]] == ["0.0", "160.0", "320.0"]
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 0
    lines = dict(line.split()[:2] for line in capsys.readouterr().out.splitlines())
    written = yaml.safe_load((run / "evaluation.yaml").read_text())
    assert float(lines["D_TV"]) == pytest.approx(written["D_TV"], abs=1e-4)
    assert {"D_JSD", "log_z_error", "accuracy", "effective", "modes"} <= set(lines)


def test_the_same_command_goes_on_and_ends_where_one_long_run_ends(here, run):
    assert (
        main(["fit", "--config", "tiny.yaml", "--output", "whole", *["--trainer.max_steps", "40"]])
        == 0
    )
    assert (
        main(["fit", "--config", "tiny.yaml", "--output", "run", *["--trainer.max_steps", "40"]])
        == 0
    )
    first, second = (
        torch.load(here / name / "checkpoints" / "last.ckpt", weights_only=True)
        for name in ("whole", "run")
    )
    for name, value in first["state_dict"].items():
        assert torch.equal(value, second["state_dict"][name]), name
    assert (here / "whole" / "candidates.csv").read_text() == (run / "candidates.csv").read_text()
    logs = [rows_of(here / n / "log.csv") for n in ("whole", "run")]
    assert [r["step"] for r in logs[0]] == [r["step"] for r in logs[1]]
    assert [r["D_TV"] for r in logs[0]] == [r["D_TV"] for r in logs[1]]


def test_a_run_killed_between_checkpoints_goes_on_from_the_last_one(here):
    """What the log has beyond the checkpoint is written again, once."""
    options = ["--config", "tiny.yaml", "--checkpoint_every", "10"]
    assert main(["fit", *options, "--output", "whole"]) == 0
    script = (
        "import os, sys\n"
        "from gfn_design.gflownet import GFlowNet\n"
        "next_step = GFlowNet.next_step\n"
        "def killed(self):\n"
        "    if int(self.tally.draws) == 17: os._exit(9)\n"
        "    return next_step(self)\n"
        "GFlowNet.next_step = killed\n"
        "from gfn_design.__main__ import main\n"
        f"main({['fit', *options, '--output', 'cut']!r})\n"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 9
    assert (here / "cut" / "checkpoints" / "last.ckpt").exists()
    assert not (here / "cut" / "candidates.csv").exists()
    assert main(["fit", *options, "--output", "cut"]) == 0
    for name in ("candidates.csv", "log.csv", "evaluation.yaml"):
        assert (here / "cut" / name).read_text() == (here / "whole" / name).read_text(), name


@pytest.mark.parametrize("trajectories", [160, 320])
def test_a_run_killed_in_an_evaluation_makes_up_for_it(here, trajectories):
    """Its checkpoint has been written by then, in the middle of training or at its end."""
    options = ["--config", "tiny.yaml", "--checkpoint_every", "10"]
    script = (
        "import os\n"
        "from gfn_design.gflownet import GFlowNet\n"
        "validate = GFlowNet.validation_step\n"
        "def killed(self, batch, i):\n"
        f"    if self.tally.trajectories == {trajectories}: os._exit(9)\n"
        "    return validate(self, batch, i)\n"
        "GFlowNet.validation_step = killed\n"
        "from gfn_design.__main__ import main\n"
        f"main({['fit', *options, '--output', 'cut']!r})\n"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 9
    for folder in ("cut", "whole"):
        assert main(["fit", *options, "--output", folder]) == 0
    for name in ("log.csv", "evaluation.yaml"):
        assert (here / "cut" / name).read_text() == (here / "whole" / name).read_text(), name


def test_sample_writes_distinct_scored_sorted_candidates(run, capsys):
    assert main(["sample", str(run), "-n", "50", "--output", "designs"]) == 0
    assert "50 distinct candidates" in capsys.readouterr().out
    rows = rows_of(Path("designs/candidates.csv"))
    assert len({row["sequence"] for row in rows}) == len(rows) == 50
    rewards = [float(row["reward"]) for row in rows]
    assert rewards == sorted(rewards, reverse=True)
    for row in rows:
        assert float(row["score"]) == row["sequence"].count("A") + 0.5
    fasta = Path("designs/candidates.fasta").read_text().splitlines()
    assert fasta[1::2] == [row["sequence"] for row in rows]
    assert all(line.startswith(">candidate_") for line in fasta[::2])
    assert main(["sample", str(run), "-n", "100", "--output", "all"]) == 0
    assert "fewer than the 100 asked for" in capsys.readouterr().out
    assert Path("all/candidates.csv").read_text().count("\n") == 65


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "--config", "nowhere.yaml"], r"nowhere\.yaml"),
        (["--max_steps", "3"], r"unknown key 'max_steps'; did you mean 'trainer\.max_steps'\?"),
        (["--lr", "3"], r"unknown key 'lr'; did you mean 'model\.optimiser\.lr'\?"),
        (["--problems", "3"], r"this is a comparison; run it with gfn-design compare"),
        (["--model.batch_size", "3"], r"'model\.batch_size' is model\.batches\.size now"),
        (["--model.backward", "learned"], r"'model\.backward' learned is LearnedBackward now"),
        (["--model.batchs.size", "3"], r"'model\.batchs'; did you mean 'model\.batches'"),
        (["--trainer.max_steps", "many"], r"'trainer\.max_steps' must be an int, got 'many'"),
        (["--model.environment.order", "up"], r"'append' or 'prepend-append' or 'any'"),
        (["--model.environment.length", "4"], r"length 3, but the environment builds length 4"),
        (["--model.objective", "ActorCrit"], r"did you mean 'ActorCritic'"),
        (["--data.table", "nowhere.csv"], r"nowhere\.csv: no such file"),
        (["--trainer.devices", "0"], r"trainer: "),
        (["--trainer.accelerator", "gpu"], r"trainer: "),
        (["--seed", "-1"], r"seed must be from 0"),
        (["--checkpoint_every", "0"], r"checkpoint_every must be at least 1"),
        (["--evaluate_every", "0"], r"evaluate_every must be at least 1"),
        (["--matmul_precision", "low"], r"one of highest, high, medium, got 'low'"),
        (["--trainer.max_steps", "0"], r"max_steps of 1 or more"),
        (["--trainer.fast_dev_run", "true"], r"no fast_dev_run"),
        (["--model.optimiser.lr", "-1"], r"must not be negative"),
        (["--model.objective.policy_lambda", "7"], r"must be from 0 to 1"),
        (["--data.exponent", "-1"], r"exponent and best_reward must be positive"),
        (["--frobnicate", "1"], r"unknown key 'frobnicate'"),
        (["--model.batches.size"], r"--model\.batches\.size needs a value"),
        (["fit"], r"--config"),
        (["frob"], r"invalid choice: 'frob'"),
        (["evaluate", "nowhere"], r"nowhere: holds no run"),
        (["sample", "nowhere", "-n", "0"], r"-n must be at least 1"),
        (["demo", "--factor", "NOPE"], r"no factor 'NOPE'"),
        (["check", "nowhere.py:X"], r"nowhere\.py"),
    ],
)
def test_mistakes_are_answered_with_one_sentence_and_leave_nothing(
    here, capsys, arguments, message
):
    if arguments[0].startswith("--"):
        arguments = ["fit", "--config", "tiny.yaml", "--output", "new", *arguments]
    before = contents(here)
    assert re.search(message, refused(arguments, capsys))
    assert contents(here) == before


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"AAC": "nan"}, r"row 2 .*'nan' is not a finite number"),
        ({"ACC": "-0.3"}, r"score of ACC is -0\.3, but a reward must be positive"),
        ({"AAG": "3\nANA,1"}, r"letter 'N' in 'ANA'"),
    ],
)
def test_a_bad_table_is_refused_before_anything_is_written(here, capsys, cell, message):
    write_table(here / "table.csv", **cell)
    error = refused(["fit", "--config", "tiny.yaml", "--output", "new"], capsys)
    assert "table.csv" in error
    assert re.search(message, error)
    assert not (here / "new").exists()


SCORES = """
def ok(texts): return [1.0 + text.count("A") for text in texts]
def column(texts): return [[1.0] for text in texts]
def nothing(texts): return None
def words(texts): return ["good" for text in texts]
def zero(texts): return [0.0 for text in texts]
"""


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("column", r"scores.py:column returned \[1.0\] and not a number, given '\w{3}'"),
        ("nothing", "returned None"),
        ("words", "returned 'good' and not a number"),
        ("zero", "is not a positive number"),
        ("missing", "missing"),
    ],
)
def test_a_bad_score_function_is_refused_before_anything_is_written(
    here, capsys, function, message
):
    (here / "scores.py").write_text(SCORES)
    own = ["--data", "FunctionData", "--data.function", f"scores.py:{function}"]
    error = refused(["fit", "--config", "tiny.yaml", "--output", "new", *own], capsys)
    assert re.search(message, error)
    assert not (here / "new").exists()


def test_a_run_is_opened_from_anywhere(here, monkeypatch, capsys):
    """Files that a configuration names beside itself are found from every folder."""
    (here / "scores.py").write_text(SCORES)
    own = ["--data", "FunctionData", "--data.function", "scores.py:ok"]
    assert main(["fit", "--config", "tiny.yaml", "--output", "own", *own]) == 0
    assert main(["fit", "--config", "tiny.yaml", "--output", "table"]) == 0
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    assert main(["evaluate", "../own"]) == 0
    assert main(["sample", str(here / "table"), "-n", "5"]) == 0
    monkeypatch.chdir(here / "own")
    more = ["--trainer.max_steps", "25"]
    assert main(["fit", "--config", "config.yaml", "--output", ".", *more]) == 0


def test_a_start_that_failed_does_not_block_its_folder(here):
    """Only a folder with something learned in it is kept from other configurations."""
    (here / "new").mkdir()
    (here / "new" / "config.yaml").write_text("seed: 5")
    assert main(["fit", "--config", "tiny.yaml", "--output", "new"]) == 0


def test_a_file_is_no_folder(here, run, capsys):
    (here / "file").write_text("important")
    for command in (["fit", "--config", "tiny.yaml"], ["sample", "run", "-n", "5"]):
        assert "is a file" in refused([*command, "--output", "file"], capsys)
    assert (here / "file").read_text() == "important"


def test_keys_are_listed(here, capsys):
    assert main(["fit", "--config", "tiny.yaml", "--keys"]) == 0
    out = capsys.readouterr().out
    for key in ("trainer.max_steps", "model.environment.order", "data.exponent", "model.batches"):
        assert f"  {key}" in out


def test_a_folder_with_something_else_is_never_written_into(here, run, capsys):
    (here / "mine").mkdir()
    (here / "mine" / "thesis.txt").write_text("important")
    assert "holds no run" in refused(["fit", "--config", "tiny.yaml", "--output", "mine"], capsys)
    assert contents(here / "mine") == {"thesis.txt": b"important"}
    before = contents(run)
    other = ["fit", "--config", "tiny.yaml", "--output", "run", "--model.batches.size", "8"]
    assert "another 'model' section" in refused(other, capsys)
    assert contents(run) == before


def test_a_checkpoint_of_another_environment_or_network_is_refused(here, run, capsys):
    text = (run / "config.yaml").read_text()
    for old, new, message in [
        ("length: 3", "length: 4", "was trained on Sequence"),
        ("width: 16", "width: 8", "not those of the configuration"),
    ]:
        assert old in text
        (run / "config.yaml").write_text(text.replace(old, new))
        before = contents(run)
        assert message in refused(["evaluate", "run"], capsys)
        assert message in refused(["sample", "run", "-n", "5"], capsys)
        assert message in refused(["fit", "--config", "run/config.yaml", "--output", "run"], capsys)
        assert contents(run) == before


def test_a_damaged_checkpoint_is_refused_and_kept(here, run, capsys):
    path = run / "checkpoints" / "last.ckpt"
    whole = path.read_bytes()
    torch.save({"a": 1}, here / "other.pt")
    for damaged in (
        whole[: len(whole) // 2],
        b"",
        b"no checkpoint",
        (here / "other.pt").read_bytes(),
    ):
        path.write_bytes(damaged)
        before = contents(run)
        for command in (
            ["evaluate", "run"],
            ["sample", "run", "-n", "5"],
            ["fit", "--config", "tiny.yaml", "--output", "run", "--trainer.max_steps", "30"],
        ):
            assert "last.ckpt" in refused(command, capsys)
        assert contents(run) == before
    shutil.rmtree(run / "checkpoints")
    assert "no checkpoint" in refused(["evaluate", "run"], capsys)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_shipped_configuration_is_valid(path):
    assert {"model", "data", "trainer"} <= set(load([path], [], ROOT))


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda path: path.stem)
@pytest.mark.parametrize("method", METHODS, ids=lambda path: path.stem)
def test_every_method_goes_with_every_problem_of_the_paper(problem, method):
    """As a configuration; a reward guide, say, wants strings, which it says when built."""
    assert {"model", "data", "trainer"} <= set(load([problem, method], [], ROOT))


GRID = """
model:
  environment: {class_path: Hypergrid, init_args: {ndim: 2, height: 4}}
data: {class_path: HypergridData}
"""


@pytest.mark.parametrize("method", METHODS, ids=lambda path: path.stem)
def test_every_shipped_method_trains(method, here):
    (here / "grid.yaml").write_text(GRID)
    grid = ["--config", "grid.yaml"] if method.stem == "mdb_u" else []
    tiny = ["--trainer.max_steps", "6", "--model.batches.replay.size", "8"]
    if "Replay" not in method.read_text():
        tiny = tiny[:2]
    assert main(["fit", "--config", "tiny.yaml", *grid, "--config", str(method), *tiny]) == 0
    assert next(here.joinpath("runs").glob(f"*{method.stem}"), None)


def test_help_and_mistakes_are_answered_without_torch():
    for arguments in (
        ["--help"],
        ["fit", "--help"],
        ["compare", "--help"],
        ["fit", "--config", str(CONFIGS[0]), "--x", "1"],
    ):
        script = (
            "import sys; from gfn_design.__main__ import main\n"
            f"try: main({arguments!r})\n"
            "except SystemExit: pass\n"
            "print([m for m in ('torch', 'lightning', 'numpy') if m in sys.modules])"
        )
        out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert out.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_the_demo_works_visibly(here, capsys):
    """It halves the exact D_TV at least; here with fewer batches than by default."""
    from gfn_design import commands

    short = (commands.DEMOS / "dna.yaml").read_text().replace("max_steps: 800", "max_steps: 400")
    (here / "dna.yaml").write_text(short)
    demos, commands.DEMOS = commands.DEMOS, here
    try:
        assert main(["demo", "--output", "demo"]) == 0
    finally:
        commands.DEMOS = demos
    out = capsys.readouterr().out
    start, end = map(float, re.search(r"D_TV went from ([\d.]+) to ([\d.]+)", out).groups())
    assert end < start / 2
    assert "equally likely designs" in out
    best = rows_of(here / "demo" / "candidates.csv")[0]
    assert best["sequence"] in ("ATGTTTAC", "GTAAACAT")  # the consensus of FOXA1, either strand


def test_the_keys_of_a_part_are_listed(capsys):
    """Such as a method, which is no whole configuration."""
    assert main(["fit", "-c", "methods/rl_u", "--keys"]) == 0
    assert "model.objective.policy_lambda" in capsys.readouterr().out


def test_shipped_configurations_are_listed_and_found(here, capsys):
    assert main(["configs"]) == 0
    assert "six6/rl_u " in capsys.readouterr().out
    options = ["--trainer.max_steps", "2", "--candidates", "0", "--output", "shipped"]
    assert main(["fit", "-c", "hypergrid/64x64_tb_u", *options]) == 0
    said = refused(["fit", "-c", "hypergrid/64x64_tb", "--output", "none"], capsys)
    assert "no such file, and no configuration of that name" in said
    assert "did you mean bits/rl_u or" in refused(["fit", "-c", "rl_u", "--output", "x"], capsys)


def test_a_run_is_no_comparison(here, capsys):
    assert main(["compare", "-c", "tiny.yaml", "--output", "grid"]) == 2
    assert "train it with gfn-design fit" in capsys.readouterr().err
