"""Ehrlich functions, beside the genetic algorithm of the package that publishes them.

    python benchmarks/ehrlich.py [--seeds 3] [--labels 50000] [--holo holo/bin/python]

Labels are distinct strings whose worth was asked, infeasible ones of the genetic algorithm among
them. Prints a row for each setting and method: labels at the first optimum, run by run, and how
many distinct optima were found by the end. `--holo` names a Python with "numpy<2", botorch and
pytorch-holo==0.0.5; without it there are only our rows. Some minutes of one core for each run.
"""

import argparse
import json
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Trainer

from gfn_design import (
    GRU,
    Batches,
    EhrlichData,
    EhrlichSequence,
    GFlowNet,
    Networks,
    Optimiser,
    TrajectoryBalance,
)

SETTINGS = ((4, 12, 2, 4), (4, 32, 4, 4), (32, 32, 4, 4), (32, 64, 4, 4))
SIZE, UPDATES, EXPONENT, RATE = 128, 4, 24.0, 3e-3
WORKER = Path(__file__).parent / "workers" / "holo_worker.py"


class Found(NamedTuple):
    """What a run found.

    Attributes:
        asked: Distinct strings.
        first: How many there were at the first optimum; None without any.
        optima: Distinct ones.
    """

    asked: int
    first: int | None
    optima: int


class Watched(GFlowNet):
    """Counts strings as they are drawn, and ends at enough of them."""

    def watch(self, labels: int) -> None:
        self.labels, self.strings, self.optima = labels, set[Any](), set[Any]()
        self.first: int | None = None

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        drawn = self.learner.latest().objects
        assert isinstance(self.environment, EhrlichSequence)
        worth = self.environment.worth(drawn).tolist()
        for row, value in zip(map(tuple, drawn.tolist()), worth, strict=True):
            self.strings.add(row)
            if value == 1 and row not in self.optima:
                self.optima.add(row)
                self.first = self.first or len(self.strings)
        if len(self.strings) >= self.labels:
            self.trainer.should_stop = True


def ours(setting: tuple[int, ...], seed: int, labels: int) -> Found:
    torch.manual_seed(seed)
    model = Watched(
        EhrlichSequence(*setting),
        TrajectoryBalance(),
        Networks(partial(GRU, width=128)),
        batches=Batches(SIZE, updates=UPDATES),
        optimiser=Optimiser(RATE),
        draw_seed=seed,
    )
    model.watch(labels)
    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    steps = 3 * UPDATES * labels // SIZE  # at most: strings may be drawn again
    trainer = Trainer(
        max_steps=steps, limit_val_batches=0, accelerator="cpu", **dict.fromkeys(off, False)
    )
    trainer.fit(model, datamodule=EhrlichData(EXPONENT))
    return Found(len(model.strings), model.first, len(model.optima))


def theirs(python: str, setting: tuple[int, ...], seed: int, labels: int) -> Found:
    task = json.dumps({"setting": setting, "seed": seed, "labels": labels})
    command = [python, str(WORKER), task]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{WORKER.name} failed:\n{done.stderr}")
    return Found(**json.loads(done.stdout.splitlines()[-1]))


def row(setting: tuple[int, ...], method: str, runs: list[Found]) -> str:
    first = ", ".join("none" if x.first is None else f"{x.first:,}" for x in runs)
    optima = statistics.median(x.optima for x in runs)
    return f"| {setting} | {method} | {first} | {optima:,.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--labels", type=int, default=50_000)
    parser.add_argument("--holo", help="a Python that has pytorch-holo")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| letters, length, motifs, elements | method | labels at the first optimum | optima |")
    print("|---|---|---|---|", flush=True)
    for setting in SETTINGS:
        labels = min(options.labels, setting[0] ** setting[1] // 100)
        runs = [ours(setting, seed, labels) for seed in range(options.seeds)]
        print(row(setting, "TB, GRU", runs), flush=True)
        if options.holo:
            found = [theirs(options.holo, setting, seed, labels) for seed in range(options.seeds)]
            print(row(setting, "genetic algorithm", found), flush=True)


if __name__ == "__main__":
    sys.exit(main())
