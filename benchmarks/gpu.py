"""Training steps on an NVIDIA GPU: uncompiled, compiled, and replayed as CUDA graphs.

Usage: python benchmarks/gpu.py [--seconds S] [--rounds N] [--only TEXT] [--gfnx PYTHON]
                                [--output FILE]

The works of speed.py, with the batches of a GPU. Each way of taking a step has turns, one after
another in every round; `trainer` is `graphs` within Lightning's Trainer. Of a step, a
profile of its own counts the kernels and adds up their time; busy is the share of that time in the
median time of a step. The learning rate is zero, so that trajectories stay as long as they are.

JAX for GPUs is not installed here; `--gfnx` names the Python of an environment that has gfnx and a
JAX that sees the GPU. gfnx does the same work then as in speed.py, after ours, with products in
float32 and with the precision that JAX takes by itself on a GPU, which is TF32.
"""

import argparse
import csv
import gc
import logging
import os
import sys
import tempfile
import warnings
from dataclasses import asdict
from pathlib import Path
from statistics import median
from time import perf_counter
from unittest.mock import patch

import torch
from lightning.pytorch import Callback, Trainer
from speed import WORKERS, Worker, hypergrid, strings
from torch.profiler import ProfilerActivity, profile

from gfn_design.fast import compiled
from gfn_design.fast.step import set_gradients
from gfn_design.runs.log import CSVLog, Progress
from gfn_design.runs.saving import SaveLast

sys.path.insert(0, str(WORKERS))
from ours_worker import Data, build

WORKS = [
    strings("SIX6", 4, 8, "append", 4096),
    hypergrid(2, 256, 128, "trained", 100),
    hypergrid(2, 256, 128, "young", 7),
    strings("QM9", 11, 5, "prepend-append", 4096),
]
# By name: whether a step is compiled and replayed, and how precise products are.
WAYS = {
    "eager": (False, False, "highest"),
    "compiled": (True, False, "highest"),
    "graphs": (True, True, "highest"),
    "graphs, TF32": (True, True, "high"),
}
LOGGED = 50  # steps between two rows
PROFILED = 100  # steps
PEERS = {"gfnx": {"JAX_DEFAULT_MATMUL_PRECISION": "highest"}, "gfnx, TF32": {}}


def stepper(work, is_compiled, replayed):
    """A function that takes one training step, without a Trainer; it is warm."""
    module = build({"work": asdict(work), "options": {"compiled": is_compiled}}, "cuda")
    optimizer = module.configure_optimizers()

    def step():
        _, losses, gradients = module.next_step()
        set_gradients(optimizer, losses, gradients)
        optimizer.step()
        if module.tally.draws % LOGGED == 0:
            module.catch_up()  # as each row of a log does

    options = compiled.AS_GRAPH if replayed else {}
    with patch.object(compiled, "AS_GRAPH", options):
        for _ in range(LOGGED):
            step()
    torch.cuda.synchronize()
    return step


def seconds_of(step, seconds):
    """Of a step, on average over so many seconds."""
    begun, steps = perf_counter(), 0
    while perf_counter() - begun < seconds:
        step()
        steps += 1
    torch.cuda.synchronize()
    return (perf_counter() - begun) / steps


def kernels_of(step):
    """How many kernels a step has, and the seconds that they take on the GPU."""
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(PROFILED):
            step()
        torch.cuda.synchronize()
    spent = [event for event in seen.events() if event.device_type.name == "CUDA"]
    return len(spent) / PROFILED, sum(e.device_time_total for e in spent) / PROFILED / 1e6


class Timed(Callback):
    """Notes how long training takes, once it is warm."""

    sees_several_batches = True

    def __init__(self, seconds):
        self.seconds, self.begun, self.each = seconds, None, None

    def on_train_batch_end(self, trainer, *_):
        if self.begun is None and trainer.global_step >= LOGGED:
            torch.cuda.synchronize()
            self.begun, self.step = perf_counter(), trainer.global_step
        elif self.begun is not None and perf_counter() - self.begun > self.seconds:
            torch.cuda.synchronize()
            taken = perf_counter() - self.begun
            self.each = taken / (trainer.global_step - self.step)
            trainer.should_stop = True


def trained(work, seconds):
    """Seconds that a batch takes with the Trainer of `gfn-design fit`."""
    module, timed = build({"work": asdict(work), "options": {}}, "cuda"), Timed(seconds)
    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            max_epochs=-1,
            log_every_n_steps=LOGGED,
            limit_val_batches=0,
            enable_model_summary=False,
            accelerator="gpu",
            devices=1,
            default_root_dir=folder,
            logger=CSVLog(Path(folder, "log.csv")),
            callbacks=[SaveLast(Path(folder, "last.ckpt"), 500), Progress(), timed],
        ).fit(module, datamodule=Data())
    return timed.each


def peer(python, settings, work, rounds, seconds):
    """Seconds that gfnx takes for a step, turn by turn; none if it fails."""
    settings = settings | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    with patch.dict(os.environ, settings), Worker("gfnx", python, work, "step", 1) as worker:
        worker.warm_up()
        for _ in range(rounds):
            worker.take_turn(seconds)
        return [1 / speed for speed in worker.speeds]


def measured(work, rounds, seconds, gfnx):
    """The rows of a work."""
    steps, taken = {}, {way: [] for way in WAYS}
    for way, (is_compiled, replayed, precision) in WAYS.items():
        torch.set_float32_matmul_precision(precision)
        begun = perf_counter()
        steps[way] = stepper(work, is_compiled, replayed)
        print(f"{work.name}, {way}: warm after {perf_counter() - begun:.0f} s", flush=True)
    for _ in range(rounds):
        for way, step in steps.items():
            torch.set_float32_matmul_precision(WAYS[way][2])
            taken[way].append(seconds_of(step, seconds))
    profiles = {}
    for way, step in steps.items():
        torch.set_float32_matmul_precision(WAYS[way][2])
        profiles[way] = kernels_of(step)
    torch.set_float32_matmul_precision("highest")
    taken["trainer"] = [trained(work, rounds * seconds)]
    if gfnx is not None:
        for way, settings in PEERS.items():
            if times := peer(gfnx, settings, work, rounds, seconds):
                taken[way] = times
    for way, times in taken.items():
        kernels, spent = profiles.get(way, ("", ""))
        yield {
            "work": work.name,
            "way": way,
            "iterations": f"{1 / median(times):.1f}",
            "lowest": f"{1 / max(times):.1f}",
            "highest": f"{1 / min(times):.1f}",
            "kernels": kernels and f"{kernels:.0f}",
            "busy": spent and f"{spent / median(times):.2f}",
        }


def main() -> None:
    parser = argparse.ArgumentParser(description="Training steps on an NVIDIA GPU.")
    parser.add_argument("--seconds", type=float, default=1.0, help="a turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each way")
    parser.add_argument("--only", default="", metavar="TEXT", help="works whose name has this")
    parser.add_argument("--gfnx", metavar="PYTHON", help="of gfnx, to be set beside")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("gpu.csv"))
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        parser.exit(2, "gpu.py: there is no NVIDIA GPU that this torch can use\n")
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    gpu = torch.cuda.get_device_name()
    print(f"{gpu}, torch {torch.__version__}, CUDA {torch.version.cuda}", flush=True)
    rows = []
    with arguments.output.open("w", newline="") as file:
        for work in WORKS:
            if arguments.only not in work.name:
                continue
            for row in measured(work, arguments.rounds, arguments.seconds, arguments.gfnx):
                if not rows:
                    writer = csv.DictWriter(file, ["gpu", *row])
                    writer.writeheader()
                rows.append(row)
                writer.writerow({"gpu": gpu} | row)
                file.flush()
            gc.collect()
            torch.cuda.empty_cache()
    if not rows:
        parser.exit(2, f"gpu.py: no work's name has '{arguments.only}' in it\n")
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(row.values()) + " |")


if __name__ == "__main__":
    main()
