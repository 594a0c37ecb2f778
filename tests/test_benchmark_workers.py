"""The programs that measure our speed still train what they say: each level, a loop or not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
WORK = {
    "kind": "string",
    "alphabet_size": 2,
    "length": 3,
    "order": "append",
    "width": 8,
    "depth": 1,
    "batch_size": 4,
    "target_length": None,
}


def spoken(script, *arguments, turns="0.2\nend\n"):
    """What a program says, line by line, to a turn of a fifth of a second."""
    done = subprocess.run(
        [sys.executable, BENCHMARKS / script, *arguments],
        input=turns,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("batches", [0, 5])
def test_ours_trains_from_a_cold_start(batches):
    task = {"work": WORK, "level": "trainer", "threads": 1, "options": {"compiled": False}}
    (done,) = spoken("workers/ours_worker.py", json.dumps(task | {"cold": batches}), turns="")
    assert done["done"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("level", "compiled"), [("rollout", False), ("step", True), ("trainer", False)]
)
def test_ours_trains_in_turns(level, compiled):
    """The compiled step is a loop of several batches; the others say what they need not."""
    task = {"work": WORK, "level": level, "threads": 1, "options": {"compiled": compiled}}
    ready, turn, end = spoken("workers/ours_worker.py", json.dumps(task))
    assert ready["ready"]
    assert turn["iterations"] > 0
    assert end["peak_mb"] > 0


def test_phases_steps_as_training_does(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import phases

    module = phases.module(letters=2, length=3, batch_size=4, order="append")
    before = module.tally.draws
    assert phases.stepper(module)() == 1
    assert module.tally.draws == before + 1
