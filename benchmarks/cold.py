"""Measure what a person waits for: from the start of a fresh process to the end of N batches.

Usage: python benchmarks/cold.py [--full] [--only TEXT] [--rounds N] [--output FILE]

Each library trains as in speed.py, ours through Lightning's Trainer with log, checkpoints and
progress bar, as `gfn-design fit` does and as it is shipped; `ours compiled` with
``speed: {compiled: true}``. A run is a process of its own: imports, building, compiling, training.
With `empty` caches every compiler begins anew, in a folder of its own; with `warm` ones a process
before has done the same. (JAX keeps nothing unless it is told where, torchgfn compiles nothing.)
Runs go in turns, round after round, and the medians are written to cold.csv. Nothing else should
run meanwhile. Mean lengths of trajectories are set as in speed.py, by a bias found beforehand.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median

from speed import MORE, QUICK, WORKERS, Work, machine, peer_python, thread_settings

BATCHES = (300, 2_000, 20_000)
NAMES = (
    *("SIX6, batch 16", "SIX6, batch 128", "QM9, batch 16", "QM9, batch 128"),
    *("hypergrid 64x64, batch 16, trained", "hypergrid 20x20x20x20, batch 16, trained"),
)
COMPILED = "ours compiled"
FOLDERS = ("TORCHINDUCTOR_CACHE_DIR", "XDG_CACHE_HOME")  # where compilers keep what they made


class Library:
    """How a library is run.

    Args:
        name: ``ours``, ``ours compiled``, ``gfnx`` or ``torchgfn``.
        python: Its interpreter.
        threads: That it may use.
    """

    def __init__(self, name: str, python: str, threads: int) -> None:
        self.name, self.python, self.threads = name, python, threads
        self.stops: dict[str, float | None] = {}

    def run(self, work: Work, batches: int, folder: Path) -> tuple[float, dict]:
        """Seconds until so many batches are done, and what was said; inf if it died."""
        ours = self.name.startswith("ours")
        task = {
            "work": asdict(work),
            "level": "trainer" if ours else "step",
            "threads": self.threads,
            "options": {"compiled": self.name == COMPILED},
            "cold": batches,
            "stop": self.stops.get(work.name),
        }
        kept = {name: str(folder / name) for name in FOLDERS} if ours else {}
        began = time.monotonic()
        worker = WORKERS / f"{'ours' if ours else self.name}_worker.py"
        with subprocess.Popen(
            [self.python, worker, json.dumps(task)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | thread_settings(self.threads) | kept,
        ) as process:
            assert process.stdout
            line = process.stdout.readline()
            seconds = time.monotonic() - began
            _, errors = process.communicate()
        if not line:
            print(f"{self.name} died at {work.name}: {errors.strip().splitlines()[-1:]}")
            return float("inf"), {}
        return seconds, json.loads(line)

    def find_stop(self, work: Work) -> None:
        """The bias of the stop logit, which no run is to spend time on."""
        if work.target_length is not None and work.name not in self.stops:
            with tempfile.TemporaryDirectory() as folder:
                self.stops[work.name] = self.run(work, 0, Path(folder))[1].get("stop")


def measure(work: Work, batches: int, libraries: list[Library], rounds: int) -> list[dict]:
    """Rows of the table, of one work and so many batches."""
    seconds: dict[tuple[str, str], list[float]] = {}
    for library in libraries:
        library.find_stop(work)
    for _ in range(rounds):
        for library in libraries:
            with tempfile.TemporaryDirectory() as folder:
                for cache in ("empty", "warm") if library.name == COMPILED else ("empty",):
                    took, _ = library.run(work, batches, Path(folder))
                    seconds.setdefault((library.name, cache), []).append(took)
    rows = []
    for (name, cache), took in seconds.items():
        row = {"work": work.name, "batches": batches, "library": name, "cache": cache}
        rows.append(row | {"seconds": round(median(took), 2)})
        spread = f"{min(took):.1f} to {max(took):.1f}"
        told = f"| {work.name:41} | {batches:7,} | {name:13} | {cache:5} | {median(took):7.1f} "
        print(f"{told}| {spread:>15} |", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="20,000 batches too, and torchgfn's")
    parser.add_argument("--only", default="", metavar="TEXT", help="works with TEXT in their name")
    parser.add_argument("--libraries", default="ours,gfnx,torchgfn", help="and 'ours compiled'")
    parser.add_argument("--batches", help="as 300,2000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("cold.csv"))
    args = parser.parse_args()
    counts = BATCHES if args.full else BATCHES[:2]
    if args.batches:
        counts = tuple(map(int, args.batches.split(",")))
    works = [work for work in QUICK + MORE if work.name in NAMES and args.only in work.name]
    libraries = []
    for name in args.libraries.split(","):
        python = sys.executable if name.startswith("ours") else peer_python(name)
        if python is not None:
            libraries.append(Library(name, python, args.threads))
    print(machine())
    print(f"Seconds from a fresh process to the end, medians of {args.rounds}.\n")
    print("| work | batches | library | cache | seconds | range |\n|---|---|---|---|---|---|")
    rows = []
    for work in works:
        for batches in counts:
            rows += measure(work, batches, libraries, args.rounds)
            with args.output.open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)


if __name__ == "__main__":
    main()
