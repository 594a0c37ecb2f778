"""Measure training speed against gfnx and torchgfn, in turns on the same machine.

Usage: python benchmarks/speed.py [--full] [--only TEXT] [--output FILE]

Each library trains by trajectory balance (float32, Adam, a learned log Z and backward policy, one
MLP with two hidden layers of 256 ReLU units) on trajectories of its own policy. Level `rollout` is
sampling a batch and no more, `step` a whole iteration, `trainer` an iteration of ours within
Lightning's Trainer, which is set against the peers' `step`. On hypergrids the stop logit of every
library gets the bias with which trajectories are as long on average as early (young) or late
(trained) in training. The learning rate is zero, so that they stay so; Adam does its work still.

Each library has a process, and each peer a virtual environment (made on first use in .venv-bench).
Processes work in turns, so that whatever else the machine does slows all of them: a ratio is taken
in every round, and the median is given with the lowest and the highest. Nothing else should run
meanwhile all the same: PyTorch suffers more than JAX when threads have to share cores.
"""

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

import matplotlib.pyplot as plt
from matplotlib.patches import Patch

ROOT = Path(__file__).parents[1]
WORKERS = Path(__file__).parent / "workers"
PEERS = ("gfnx", "torchgfn")
COLOURS = ("#3b6fb6", "#e0903c")
OURS = "ours"
# Our levels that are measured together, and the level of the peers they are set against.
GROUPS = ((("rollout",), "rollout"), (("step", "trainer"), "step"))


@dataclass
class Work:
    name: str
    kind: str
    batch_size: int
    ndim: int | None = None
    height: int | None = None
    alphabet_size: int | None = None
    length: int | None = None
    order: str | None = None
    target_length: float | None = None
    width: int = 256
    depth: int = 2


def hypergrid(ndim: int, height: int, batch_size: int, when: str, target_length: float) -> Work:
    name = f"hypergrid {'x'.join([str(height)] * ndim)}, batch {batch_size}, {when}"
    return Work(
        name, "hypergrid", batch_size, ndim=ndim, height=height, target_length=target_length
    )


def strings(name: str, letters: int, length: int, order: str, batch_size: int) -> Work:
    name = f"{name}, batch {batch_size}"
    return Work(name, "string", batch_size, alphabet_size=letters, length=length, order=order)


QUICK = [
    hypergrid(2, 64, 16, "young", 17),
    hypergrid(2, 64, 16, "trained", 52),
    *(strings("SIX6", 4, 8, "append", batch_size) for batch_size in (16, 128)),
    *(strings("QM9", 11, 5, "prepend-append", batch_size) for batch_size in (16, 128)),
]
MORE = [
    hypergrid(4, 20, 16, "young", 9),
    hypergrid(4, 20, 16, "trained", 38),
    hypergrid(2, 128, 128, "young", 35),
    hypergrid(2, 128, 128, "trained", 100),
    hypergrid(2, 256, 128, "young", 7),
]


ROLLOUTS = ("hypergrid 64x64, batch 16, trained", "SIX6, batch 16")  # in the quick set


class Worker:
    """A library at one work and level, in a process of its own; once dead it says nothing more."""

    def __init__(self, library: str, python: str, work: Work, level: str, threads: int):
        self.library, self.level, self.work = library, level, work
        self.dead = False
        self.ready: dict = {}
        self.speeds: list[float] = []  # iterations per second, one a round
        self.peak_mb: float | None = None
        self.errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        task = {"work": asdict(work), "level": level, "threads": threads, "options": {}}
        self.process = subprocess.Popen(
            [python, WORKERS / f"{library}_worker.py", json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=os.environ | thread_settings(threads),
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.errors.close()

    @property
    def finished(self) -> bool:
        return self.peak_mb is not None

    def warm_up(self) -> None:
        self.ready = self._answer()

    def take_turn(self, seconds: float) -> None:
        if turn := self._ask(str(seconds)):
            self.speeds.append(turn["iterations"] / turn["seconds"])

    def finish(self) -> None:
        if end := self._ask("end"):
            self.peak_mb = end["peak_mb"]

    def _ask(self, order: str) -> dict:
        if self.dead:
            return {}
        with suppress(BrokenPipeError):  # a death is noticed by the missing answer
            print(order, file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict:
        if line := self.process.stdout.readline():
            return json.loads(line)
        self.dead, status = True, self.process.wait()
        self.errors.seek(0)
        last = ["", *filter(str.strip, self.errors)][-1].strip()
        what = f"{self.library} at {self.level} of {self.work.name}"
        print(f"{what} is left out, it died with status {status}: {last}", flush=True)
        return {}


def thread_settings(threads: int) -> dict[str, str]:
    settings = {"OMP_NUM_THREADS": str(threads)}
    if threads == 1:  # JAX chooses any other number by itself
        flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        settings["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
    return settings


def peer_python(peer: str) -> str | None:
    """The Python of a peer's virtual environment, made anew when its requirements have changed."""
    folder = ROOT / ".venv-bench" / peer
    requirements = WORKERS / f"{peer}-requirements.txt"
    python, stamp = str(folder / "bin" / "python"), folder / "requirements.txt"
    if stamp.exists() and stamp.read_text() == requirements.read_text():
        return python
    print(f"Making a virtual environment for {peer}.", file=sys.stderr)
    try:
        for command in (
            [sys.executable, "-m", "venv", "--clear", folder],
            [python, "-m", "pip", "install", "--quiet", "-r", requirements],
        ):
            subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        lines = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        print(f"{peer} is left out, its virtual environment could not be made: {lines[-1]}")
        return None
    stamp.write_text(requirements.read_text())
    return python


def measure(work: Work, levels: tuple, peer_level: str, pythons: dict, args) -> list[dict]:
    """Rows of the table: our levels of one work against the peers' level."""
    members = [(OURS, level) for level in levels]
    members += [(peer, peer_level) for peer in PEERS if peer in pythons]
    with ExitStack() as stack:
        workers = []
        for library, level in members:  # each is warm before the next begins to compile
            worker = Worker(library, pythons[library], work, level, args.threads)
            workers.append(stack.enter_context(worker))
            worker.warm_up()
        for _ in range(args.rounds):
            for worker in workers:
                worker.take_turn(args.seconds)
        for worker in workers:
            worker.finish()
    ours = [worker for worker in workers if worker.library == OURS and worker.finished]
    theirs = [worker for worker in workers if worker.library != OURS and worker.finished]
    return [compare(mine, other) for mine in ours for other in theirs]


def compare(ours: Worker, theirs: Worker) -> dict:
    """A row of the table."""
    ratios = [mine / other for mine, other in zip(ours.speeds, theirs.speeds, strict=True)]
    return {
        "work": ours.work.name,
        "level": ours.level,
        "peer": theirs.library,
        "ours": round(median(ours.speeds), 3),
        "theirs": round(median(theirs.speeds), 3),
        "ratio": round(median(ratios), 3),
        "ratio_low": round(min(ratios), 3),
        "ratio_high": round(max(ratios), 3),
        "ours_mb": round(ours.peak_mb),
        "theirs_mb": round(theirs.peak_mb),
        "ours_parameters": ours.ready["parameters"],
        "theirs_parameters": theirs.ready["parameters"],
        "ours_length": round(ours.ready["mean_length"], 1),
        "theirs_length": round(theirs.ready["mean_length"], 1),
        "ours_compile_s": round(ours.ready["compile_s"], 2),
        "theirs_compile_s": round(theirs.ready["compile_s"], 2),
    }


def machine() -> str:
    """Processor, cores and versions, in a line."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    ours = [f"{name} {version(name)}" for name in ("gfn-design", "torch", "lightning")]
    theirs = " ".join((WORKERS / f"{peer}-requirements.txt").read_text() for peer in PEERS).split()
    peers = [name.replace("==", " ") for name in theirs]
    python = f"Python {platform.python_version()}"
    return f"{model}, {os.cpu_count()} cores, {python}, {', '.join(ours)}; {', '.join(peers)}"


def show(rows: list[dict]) -> None:
    for r in rows:
        spread = f"{r['ratio_low']:.2f} to {r['ratio_high']:.2f}"
        print(
            f"| {r['work']:38} | {r['level']:7} | {r['peer']:8} | {r['ours']:8.1f} "
            f"| {r['theirs']:8.1f} | {r['ratio']:6.2f} | {spread:>16} |",
            flush=True,
        )


def save(rows: list[dict], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def draw(rows: list[dict], file: Path) -> None:
    """How many times as fast we train as each peer, work by work, with the range over rounds."""
    works = list(dict.fromkeys(row["work"] for row in rows))[::-1]
    figure, axes = plt.subplots(figsize=(8, 1.3 + 0.6 * len(works)), layout="constrained")
    thickness = 0.8 / len(PEERS)
    for row in rows:
        place = PEERS.index(row["peer"])
        height = works.index(row["work"]) + 0.4 - (place + 0.5) * thickness
        low, high = row["ratio_low"], row["ratio_high"]
        axes.barh(height, row["ratio"] - 1, 0.9 * thickness, left=1, color=COLOURS[place])
        axes.plot([low, high], [height, height], color="0.25", linewidth=1.2)
        axes.annotate(
            f"{row['ratio']:.1f}",
            (max(high, 1), height),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    left = min(0.8, *(0.9 * row["ratio_low"] for row in rows))
    right = max(2.5, *(1.3 * row["ratio_high"] for row in rows))
    axes.axvline(1, color="0.25", linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks(
        [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if left < tick < right]
    )
    axes.set_xlim(left, right)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set_yticks(range(len(works)), works)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.set_xlabel("training iterations per second, gfn-design over the peer")
    patches = [Patch(color=colour, label=peer) for peer, colour in zip(PEERS, COLOURS, strict=True)]
    figure.legend(handles=patches, loc="outside upper right", ncols=len(PEERS), frameon=False)
    figure.savefig(file, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="all works, and longer")
    parser.add_argument("--only", default="", metavar="TEXT", help="works with TEXT in their name")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("results.csv"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, help="turns of each process (4, full: 8)")
    parser.add_argument("--seconds", type=float, help="length of a turn (1, full: 3)")
    args = parser.parse_args()
    args.rounds = args.rounds or (8 if args.full else 4)
    args.seconds = args.seconds or (3 if args.full else 1.0)

    works = [work for work in (QUICK + MORE if args.full else QUICK) if args.only in work.name]
    if not works:
        parser.error(f"no work has '{args.only}' in its name")

    pythons = {OURS: sys.executable}
    pythons |= {peer: python for peer in PEERS if (python := peer_python(peer))}
    print(machine())
    turns = f"{args.rounds} turns of {args.seconds:g} s, {args.threads} threads"
    print(f"Iterations per second, medians of {turns}.\n")
    print("| work | level | peer | ours | theirs | ratio | range |\n|---|---|---|---|---|---|---|")
    rows = []
    for work in works:
        for levels, peer_level in GROUPS:
            if levels == ("rollout",) and not args.full and work.name not in ROLLOUTS:
                continue
            new = measure(work, levels, peer_level, pythons, args)
            show(new)
            rows += new
            if rows:
                save(rows, args.output)
    if training := [row for row in rows if row["level"] == "trainer"]:
        draw(training, args.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
