"""What a run leaves on the disk is whole at every moment, and a stop loses nothing."""

import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
import yaml
from common import section
from processes import Command, run

from gfn_design.errors import InputError
from gfn_design.files import whole
from gfn_design.files.checkpoints import CheckpointFiles, latest_checkpoint, load_checkpoint
from gfn_design.files.run_folder import CHECKPOINT, PREVIOUS, locked
from gfn_design.files.tables import harmless
from gfn_design.runs.log import CSVLog

DNA = {"alphabet": "DNA", "length": 10}
SLOWLY = """
import os, time

def score(texts):
    time.sleep(0.02)
    if os.environ.get("COUNT"):
        with open(os.environ["COUNT"], "a") as file:
            file.write("x")
    return [1.0 + text.count("A") for text in texts]
"""


def config(folder, max_steps=40, **more):
    """A small run whose every batch takes a fiftieth of a second."""
    (folder / "slowly.py").write_text(SLOWLY)
    content = {
        "model": section(
            {
                "environment": {"class_path": "Sequence", "init_args": DNA},
                "objective": "TrajectoryBalance",
                "network": {"class_path": "MLP", "init_args": {"width": 16, "depth": 1}},
                "batch_size": 8,
            }
        ),
        "exact_limit": 1000,
        "data": {"class_path": "FunctionData", "init_args": {"function": "slowly.py:score"}},
        "candidates": 10,
        "evaluate_every": 7,
        "checkpoint_every": 1000,
        "trainer": {
            "max_steps": max_steps,
            "accelerator": "cpu",
            "log_every_n_steps": 3,
            "enable_progress_bar": False,
        },
    }
    for key, value in more.items():
        content[key] = content.get(key, {}) | value if isinstance(value, dict) else value
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def weights(folder):
    content = load_checkpoint(folder / CHECKPOINT)
    return content["state_dict"], content["global_step"]


def assert_same_end(ours, theirs):
    """Two runs have the same weights, and all files the same content."""
    (left, step), (right, other) = weights(ours), weights(theirs)
    assert step == other
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    apart = {"checkpoints", "config.yaml", "scores.sqlite"}
    names = {path.name for path in theirs.iterdir()} - apart
    assert {path.name for path in ours.iterdir()} - apart == names
    for name in names:
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name


# Whole files.


def write_half(file):
    file.write("half")
    file.flush()
    raise OSError(28, "No space left on device")


def write_two_and_fail(folder):
    for name in "ab":
        (folder / name).write_text("after")
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("old", [None, "before"])
def test_a_file_that_cannot_be_finished_is_what_it_was(old, tmp_path):
    path = tmp_path / "file.txt"
    if old is not None:
        path.write_text(old)
    with pytest.raises(InputError, match="cannot be written"), whole.whole_file(path) as file:
        write_half(file)
    assert (path.read_text() if path.exists() else None) == old
    assert not list(tmp_path.glob(".*"))
    whole.write_whole(path, "after")
    assert path.read_text() == "after"


def test_files_come_together_or_not_at_all(tmp_path):
    (tmp_path / "a").write_text("before")
    with pytest.raises(InputError), whole.whole_files(tmp_path) as part:
        write_two_and_fail(part)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "before"}
    with pytest.raises(InputError), whole.whole_files(tmp_path / "new") as part:
        write_two_and_fail(part)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["x" * 300, "x" * 250])
def test_names_of_any_length(name, tmp_path):
    """A name that the system takes is taken; one that it does not is one sentence."""
    if len(name) > 255:
        with pytest.raises(InputError, match="cannot be written"):
            whole.write_whole(tmp_path / name, "x")
    else:
        whole.write_whole(tmp_path / name, "x")
        assert (tmp_path / name).read_text() == "x"


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-5.3", "-5.3"),
        ("-inf", "-inf"),
        ("C=C", "C=C"),
        ("", ""),
    ],
)
def test_no_cell_is_a_formula(cell, written):
    assert harmless(cell) == written


# Checkpoints.


def saved(tmp_path, steps=(1, 2)):
    files = CheckpointFiles(tmp_path / CHECKPOINT, tmp_path / PREVIOUS)
    for step in steps:
        files.save_checkpoint({"state_dict": {}, "global_step": step}, tmp_path / CHECKPOINT)
    return files


def test_the_checkpoint_before_is_kept(tmp_path):
    saved(tmp_path, (1, 2, 3))
    assert load_checkpoint(tmp_path / CHECKPOINT)["global_step"] == 3
    assert load_checkpoint(tmp_path / PREVIOUS)["global_step"] == 2
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {
        "last.ckpt",
        "previous.ckpt",
    }


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(share, tmp_path, caplog):
    saved(tmp_path)
    path = tmp_path / CHECKPOINT
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    used, found = latest_checkpoint(tmp_path)
    assert used == tmp_path / PREVIOUS
    assert found["global_step"] == 1
    assert "cut short or damaged" in caplog.text
    (tmp_path / PREVIOUS).write_bytes(b"")
    with pytest.raises(InputError, match=r"last\.ckpt: cannot be read as a checkpoint"):
        latest_checkpoint(tmp_path)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    files = saved(tmp_path)

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole.os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\)"):
        files.save_checkpoint({"state_dict": {}, "global_step": 3}, tmp_path / CHECKPOINT)
    assert load_checkpoint(tmp_path / CHECKPOINT)["global_step"] == 2
    assert load_checkpoint(tmp_path / PREVIOUS)["global_step"] == 1


def test_a_run_whose_last_checkpoint_is_damaged_goes_on_from_the_one_before(tmp_path):
    path = config(tmp_path, checkpoint_every=10)
    assert run("fit", "--config", path, "--output", "whole", folder=tmp_path)[0] == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "torn")
    last = tmp_path / "torn" / CHECKPOINT
    last.write_bytes(last.read_bytes()[:-100])
    code, said = run("fit", "--config", path, "--output", "torn", folder=tmp_path)
    assert code == 0
    assert "going on from the one before" in said
    assert_same_end(tmp_path / "torn", tmp_path / "whole")


def test_a_full_disk_is_a_sentence_and_loses_nothing(tmp_path):
    """No file may be larger than the limit, which checkpoints soon are; nothing is lost by it."""
    path = config(tmp_path, checkpoint_every=10)
    arguments = ("fit", "--config", path, "--output", "out", "--trainer.max_steps")
    assert run(*arguments, 20, folder=tmp_path)[0] == 0
    before = {x: x.read_bytes() for x in (tmp_path / "out").rglob("*") if x.is_file()}
    code, said = run(*arguments, 40, folder=tmp_path, TEST_FILE_BYTES="4000")
    assert code == 2
    assert "cannot be written (File too large)" in said or "scores cannot be kept there" in said
    assert "Traceback" not in said
    lasting = {x: y for x, y in before.items() if x.name not in ("log.csv", "config.yaml")}
    assert {x: x.read_bytes() for x in lasting} == lasting
    assert not [x for x in (tmp_path / "out").rglob("*.part")]
    assert run(*arguments, 40, folder=tmp_path)[0] == 0
    assert run(*arguments[:4], "other", *arguments[5:], 40, folder=tmp_path)[0] == 0
    assert_same_end(tmp_path / "out", tmp_path / "other")


@pytest.mark.parametrize(
    "arguments",
    [
        ("fit", "--config", "run.yaml", "--output"),
        ("sample", "done", "-n", "5", "--output"),
        ("demo", "--output"),
        ("mine", "some.smi", "--at_least", "1", "--output"),
    ],
    ids=lambda arguments: arguments[0],
)
@pytest.mark.parametrize("place", ["/proc/nowhere/x.csv", "y" * 300 + ".csv", "file/below.csv"])
def test_what_cannot_be_written_is_one_sentence(arguments, place, done):
    code, said = run(*arguments, place, folder=done)
    assert code == 2, said
    assert "Traceback" not in said
    assert len([line for line in said.splitlines() if line.startswith("gfn-design:")]) == 1


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A folder with a finished run."""
    folder = tmp_path_factory.mktemp("done")
    path = config(folder, max_steps=5)
    (folder / "file").write_text("")
    (folder / "some.smi").write_text("CC(=O)Nc1ccc(O)cc1\n")
    assert run("fit", "--config", path, "--output", "done", folder=folder)[0] == 0
    return folder


# The log.


def test_the_log_is_appended_to(tmp_path):
    """Of 300 rows, to half of which something is added; what was written is never touched again."""
    log = CSVLog(tmp_path / "log.csv")
    before, file = b"", None
    for step in range(300):
        log.log_metrics({"loss": step / 7}, step)
        if step % 2 == 0:
            log.log_metrics({"D_TV": step / 3}, step)
        now = (tmp_path / "log.csv").read_bytes() if step else b""
        assert now.startswith(before)
        if step > 2:
            assert (tmp_path / "log.csv").stat().st_ino == file
        if step > 1:
            file, before = (tmp_path / "log.csv").stat().st_ino, now
    log.finalize("success")
    rows = (tmp_path / "log.csv").read_text().splitlines()
    assert len(rows) == 301
    assert rows[0] == "step,loss,D_TV"
    assert rows[3] == f"2,{2 / 7},{2 / 3}"


@pytest.mark.parametrize("torn", ["", "4,0.5", "4,0.5,1,7\n", "\x00\x00", 'x,"'])
def test_a_torn_row_of_the_log_is_written_again(torn, tmp_path):
    log = CSVLog(tmp_path / "log.csv")
    for step in range(4):
        log.log_metrics({"loss": step, "more": 1}, step)
    log.finalize("success")
    whole_log = (tmp_path / "log.csv").read_bytes()
    with (tmp_path / "log.csv").open("a") as file:
        file.write(torn)
    again = CSVLog(tmp_path / "log.csv", 3)
    again.log_metrics({"loss": 4, "more": 1}, 4)
    again.finalize("success")
    assert (tmp_path / "log.csv").read_bytes() == whole_log + b"4,4,1\r\n"


def test_a_row_that_cannot_be_appended_is_not_there(tmp_path, monkeypatch):
    log = CSVLog(tmp_path / "log.csv")
    for step in range(3):
        log.log_metrics({"loss": step}, step)
    before = (tmp_path / "log.csv").read_bytes()
    real = os.truncate

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, text):
            self.file.write(text[: len(text) // 2])
            self.file.flush()

        def flush(self):
            raise OSError(28, "No space left on device")

    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda path, *x, **y: Full(opened(path, *x, **y)))
    with pytest.raises(InputError, match="No space left on device"):
        log.log_metrics({"loss": 3}, 3)
    monkeypatch.undo()
    assert real is os.truncate
    assert (tmp_path / "log.csv").read_bytes() == before


# One folder, one process, one place.


def test_a_second_process_on_one_folder_is_refused(tmp_path):
    path = config(tmp_path)
    (tmp_path / "out").mkdir()
    arguments = ("fit", "--config", path, "--output", "out", "--trainer.max_steps", 5)
    with locked(tmp_path / "out"):
        code, said = run(*arguments, folder=tmp_path)
    assert code == 2
    assert "another process is training into this folder" in said
    assert run(*arguments, folder=tmp_path)[0] == 0
    assert not (tmp_path / "out" / ".lock").exists()


def test_a_score_that_changes_directory_does_not_move_the_run(tmp_path):
    """As docking programs' wrappers do; every file is where it was wanted, in every command."""
    path = config(tmp_path, max_steps=3)
    text = (tmp_path / "slowly.py").read_text()
    (tmp_path / "slowly.py").write_text(text.replace("time.sleep(0.02)", "os.chdir('/')"))
    assert run("fit", "--config", path, "--output", "runs/chd", folder=tmp_path)[0] == 0
    assert (tmp_path / "runs/chd/candidates.csv").exists()
    arguments = ("sample", "runs/chd", "-n", "5", "--output", "drawn")
    assert run(*arguments, folder=tmp_path)[0] == 0
    assert (tmp_path / "drawn/candidates.csv").exists()
    assert not Path("/runs").exists()
    assert not Path("/drawn").exists()


@pytest.mark.parametrize("name", ["file:x", "a::b", "with space", "ü"])
def test_any_name_of_a_folder(name, tmp_path):
    path = config(tmp_path, max_steps=3)
    for _ in range(2):
        assert run("fit", "--config", path, "--output", name, folder=tmp_path)[0] == 0
        assert (tmp_path / name / CHECKPOINT).exists()
    known = {"slowly.py", "run.yaml", "output.txt", name, "__pycache__"}
    assert {x.name for x in tmp_path.iterdir()} <= known


def test_what_was_drawn_before_stays(done):
    """Without a folder the next free one is taken; one with candidates is not replaced unasked."""
    before = (done / "done/candidates.csv").read_bytes()
    for number in (1, 2):
        code, said = run("sample", "done", "-n", 5, folder=done)
        assert code == 0
        assert f"done/sample-{number}/candidates.csv" in said
    assert (done / "done/candidates.csv").read_bytes() == before
    arguments = ("sample", "done", "-n", 5, "--output", "done")
    code, said = run(*arguments, folder=done)
    assert code == 2
    assert "holds candidates already" in said
    assert (done / "done/candidates.csv").read_bytes() == before
    assert run(*arguments, "--overwrite", folder=done)[0] == 0
    assert (done / "done/candidates.csv").read_bytes() != before


# A stop saves.


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    path = config(folder)
    assert run("fit", "--config", path, "--output", "out", folder=folder)[0] == 0
    return folder


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGXCPU"])
def test_a_signal_saves_the_last_whole_batch(name, uninterrupted, tmp_path):
    """And the run that goes on ends as one that nobody stopped, file by file."""
    shutil.copy(uninterrupted / "slowly.py", tmp_path)
    shutil.copy(uninterrupted / "run.yaml", tmp_path)
    arguments = ("fit", "--config", "run.yaml", "--output", "out")
    number, count = getattr(signal, name), tmp_path / "count"
    command = Command(*arguments, folder=tmp_path, COUNT=str(count))
    command.wait_for(lambda: count.exists() and count.stat().st_size > 15)
    command.signal(number)
    assert command.wait() == 128 + number, command.said
    assert "goes on from the last whole batch" in command.said
    assert "Traceback" not in command.said
    assert 5 < weights(tmp_path / "out")[1] < 40
    assert run(*arguments, folder=tmp_path)[0] == 0
    assert_same_end(tmp_path / "out", uninterrupted / "out")


def test_a_stop_before_the_first_batch_says_so(tmp_path):
    path = config(tmp_path)
    text = (tmp_path / "slowly.py").read_text()
    (tmp_path / "slowly.py").write_text(text.replace("time.sleep(0.02)", "time.sleep(1.0)"))
    count = tmp_path / "count"
    arguments = ("fit", "--config", path, "--output", "out")
    command = Command(*arguments, folder=tmp_path, COUNT=str(count))
    command.wait_for(lambda: count.exists())
    command.signal(signal.SIGTERM)
    assert command.wait() == 128 + signal.SIGTERM
    assert "nothing was saved, since no batch was finished" in command.said


def test_slow_batches_are_each_saved(tmp_path):
    """So a kill in the middle of the next loses no batch that was paid for."""
    path = config(tmp_path)
    text = (tmp_path / "slowly.py").read_text()
    (tmp_path / "slowly.py").write_text(text.replace("time.sleep(0.02)", "time.sleep(2.1)"))
    count = tmp_path / "count"
    arguments = ("fit", "--config", path, "--output", "out", "--evaluate_every", 1000)
    command = Command(*arguments, folder=tmp_path, COUNT=str(count))
    last = tmp_path / "out" / CHECKPOINT
    command.wait_for(last.exists)
    command.kill()
    assert weights(tmp_path / "out")[1] in (1, 2)  # the first two may come together
