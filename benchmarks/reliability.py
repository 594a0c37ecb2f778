"""Interrupt runs in every way, go on, and see that each ends as one that nobody touched.

Usage: python benchmarks/reliability.py [--kills 100] [--signals 50] [--demos 10] [--seed S]

Ten methods learn four problems. Each run is ended again and again at a random moment: by SIGKILL,
by a disk that is filled up (and then SIGKILL, where the run has not ended by itself), or by a
signal that saves; then it goes on. At its end every file must be equal, byte by byte, and every
weight, bit by bit, to those of the run without interruptions. TMPDIR is on another file system
throughout. The demo of DNA is stopped at random moments likewise. Prints a table, and what failed;
the exit code is 1 if anything did.

The small disk is a tmpfs, which root alone may mount; where that is refused, the column says so.
"""

import argparse
import contextlib
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
import yaml

from gfn_design.files.checkpoints import load_checkpoint
from gfn_design.files.run_folder import CHECKPOINT

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from processes import Command  # noqa: E402  (the tests' own harness)

METHODS = ["tb_replay", "db_b", "subtb_b", "fm", "vargrad", "rl_u", "rl_b", "rl_t", "ppo", "q_much"]
PROBLEMS = {
    "hypergrid": (
        {"class_path": "Hypergrid", "init_args": {"ndim": 2, "height": 8}},
        {"class_path": "HypergridData", "init_args": {"r0": 0.01}},
    ),
    "DNA": (
        {"class_path": "Sequence", "init_args": {"alphabet": "DNA", "length": 5}},
        {"class_path": "MotifData", "init_args": {"factor": "FOXA1", "exponent": 0.5}},
    ),
    "networks": (
        {"class_path": "DAG", "init_args": {"nodes": 3}},
        {"class_path": "BayesianNetworkData", "init_args": {"edges": 3, "samples": 50}},
    ),
    "molecules": (
        {"class_path": "Fragments", "init_args": {"fragments": "druglike", "max_blocks": 3}},
        {"class_path": "MoleculeData", "init_args": {"terms": [{"property": "QED"}]}},
    ),
}
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGXCPU")
DISK = 24 * 2**20  # bytes of the small disk
OWN = {"config.yaml", "scores.sqlite", ".lock"}  # files that tell of the place or the order


def write_configs(folder: Path, problem: str, method: str) -> None:
    """``run.yaml`` and ``method.yaml`` of a run of a few seconds."""
    environment, data = PROBLEMS[problem]
    network = {"class_path": "MLP", "init_args": {"width": 32, "depth": 2}}
    content = {
        "model": {"environment": environment, "networks": {"network": network, "critic": network}},
        "data": data,
        "candidates": 20,
        "evaluate_every": 30,
        "checkpoint_every": 7,
        "trainer": {
            "max_steps": 60,
            "accelerator": "cpu",
            "log_every_n_steps": 5,
            "enable_progress_bar": False,
        },
    }
    content["model"].setdefault("batches", {})["size"] = 16
    (folder / "run.yaml").write_text(yaml.safe_dump(content))
    shutil.copy(ROOT / "configs" / "methods" / f"{method}.yaml", folder / "method.yaml")


ARGUMENTS = ("fit", "--config", "run.yaml", "--config", "method.yaml", "--output")


def start(folder: Path, output: Path, *arguments: str) -> Command:
    """The command on this folder, with its temporary files on another file system."""
    return Command(*(arguments or (*ARGUMENTS, output)), folder=folder, TMPDIR=elsewhere())


def elsewhere() -> str:
    """A folder for temporary files that is not on the disk of the runs, where there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else tempfile.gettempdir()


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A disk that a few files fill, or None where one may not be mounted."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=False)


def fill(disk: Path) -> Path:
    """Takes all that is left of a disk."""
    path = disk / "filler"
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 65536)
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
        while True:
            file.write(b"x")
    return path


def steps(output: Path) -> int:
    """Batches that the last checkpoint has, 0 if there is none."""
    if not (output / CHECKPOINT).exists():
        return 0
    return load_checkpoint(output / CHECKPOINT)["global_step"]


def finished_files(folder: Path) -> dict[Path, bytes]:
    """What a run has written for people, by the names of the files."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    chosen = (path for path in paths if path.name not in OWN and path.suffix != ".ckpt")
    return {path.relative_to(folder): path.read_bytes() for path in chosen}


def difference(ours: Path, theirs: Path) -> str:
    """The first thing in which two finished runs differ, or nothing."""
    found, wanted = finished_files(ours), finished_files(theirs)
    if found.keys() != wanted.keys():
        return f"other files: {sorted(map(str, found.keys() ^ wanted.keys()))}"
    for name in sorted(wanted):
        if found[name] != wanted[name]:
            lines = zip(found[name].split(b"\n"), wanted[name].split(b"\n"), strict=False)
            apart = next((pair for pair in lines if pair[0] != pair[1]), "in length")
            return f"{name} differs: {str(apart)[:600]}"
    last, other = load_checkpoint(ours / CHECKPOINT), load_checkpoint(theirs / CHECKPOINT)
    if last["global_step"] != other["global_step"]:
        return f"{last['global_step']} batches, not {other['global_step']}"
    for weight, value in other["state_dict"].items():
        if not torch.equal(last["state_dict"][weight], value):
            return f"{weight} differs"
    return ""


def interrupt(kind: str, command: Command, disk: Path | None, draw: random.Random) -> str:
    """Ends a run that is under way; what went wrong, or nothing.

    Raises:
        ProcessLookupError: It had ended by itself.
    """
    if kind == "disk" and disk is not None:
        filler = fill(disk)
        command.process.join(draw.uniform(0.2, 2.0))
        ended = command.process.exitcode
        command.kill()
        filler.unlink()
        if ended not in (None, 2, 0) or "Traceback" in command.said:
            return f"the full disk ended it with {ended}: {command.said[-300:]}"
    elif kind in SIGNALS:
        number = getattr(signal, kind)
        command.signal(number)
        code = command.wait(60)
        if code == 0:  # it was at its end already
            raise ProcessLookupError(errno.ESRCH)
        if code not in (128 + number, -number) or "Traceback" in command.said:
            return f"{kind} ended it with {code}: {command.said[-300:]}"
    else:
        command.kill()
    return ""


class Campaign:
    """Interrupts runs of all methods on all problems in turns, and counts."""

    def __init__(self, folder: Path, disk: Path | None, draw: random.Random) -> None:
        self.folder, self.disk, self.draw = folder, disk, draw
        self.done: Counter[str] = Counter()
        self.failed: list[str] = []

    def run(self, kinds: list[str]) -> None:
        """Spreads interruptions of these kinds evenly over all pairs of problem and method."""
        pairs = [(problem, method) for problem in PROBLEMS for method in METHODS]
        self.draw.shuffle(kinds)
        self.draw.shuffle(pairs)
        for index, (problem, method) in enumerate(pairs):
            mine = kinds[index :: len(pairs)]
            if mine:
                self.one(problem, method, mine)

    def one(self, problem: str, method: str, kinds: list[str]) -> None:
        """A run without interruptions, and one with these."""
        name = f"{problem}-{method}"
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        write_configs(folder, problem, method)
        before = time.monotonic()
        whole = start(folder, folder / "whole")
        if whole.wait(300) != 0:
            self.failed.append(f"{name}: {whole.said[-300:]}")
            return
        lasts = time.monotonic() - before
        output = (self.disk or folder) / folder.name / "broken"
        output.parent.mkdir(exist_ok=True)
        for kind in kinds:
            if said := self.interrupted(folder, output, kind, lasts):
                self.failed.append(f"{name}, {kind}: {said}")
        last = start(folder, output)
        if last.wait(300) != 0:
            self.failed.append(f"{name}: {last.said[-300:]}")
        elif said := difference(output, folder / "whole"):
            self.failed.append(f"{name}: after {kinds}, {said}")
        else:
            self.done["runs that ended equal"] += 1
        print(f"{name}: {', '.join(kinds)}; failures so far {len(self.failed)}", flush=True)
        shutil.rmtree(output.parent, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)

    def interrupted(self, folder: Path, output: Path, kind: str, lasts: float) -> str:
        """One interruption, which finds the run at work; what went wrong, or nothing."""
        for _ in range(20):
            at = steps(output)
            command = start(folder, output)
            command.process.join(self.draw.uniform(0.1, 0.9) * lasts)
            if command.process.exitcode is None:
                with contextlib.suppress(ProcessLookupError):
                    said = interrupt(kind, command, self.disk, self.draw)
                    self.done[kind] += 1
                    if kind in SIGNALS and not said and steps(output) < at:
                        said = f"{at} batches were saved, and then {steps(output)}"
                    return said
            command.kill()
            shutil.rmtree(output, ignore_errors=True)  # it had ended: begin again
        return "it always ended too early"


def demos(folder: Path, number: int, draw: random.Random, failed: list[str]) -> int:
    """Stops the demo of DNA at random moments, once by SIGINT and once by SIGKILL each."""
    before = time.monotonic()
    whole = start(folder, folder, "demo", "--output", str(folder / "whole"))
    if whole.wait(900) != 0:
        failed.append(f"demo: {whole.said[-300:]}")
        return 0
    lasts, stops = time.monotonic() - before, 0
    for index in range(number):
        output = folder / f"demo-{index}"
        for number_of_signal in (signal.SIGINT, signal.SIGKILL):
            command = start(folder, folder, "demo", "--output", str(output))
            command.process.join(draw.uniform(0.0, 1.0) * lasts)
            if command.process.exitcode is None:
                command.signal(number_of_signal)
                command.wait(60)
                stops += 1
        command = start(folder, folder, "demo", "--output", str(output))
        if command.wait(900) != 0:
            failed.append(f"demo: {command.said[-300:]}")
        elif said := difference(output, folder / "whole"):
            failed.append(f"demo: {said}")
        print(f"demo {index}: failures so far {len(failed)}", flush=True)
    return stops


def main() -> int:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="a quarter of them full disks")
    parser.add_argument("--signals", type=int, default=50)
    parser.add_argument("--demos", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name, small_disk(Path(name, "disk")) as disk:
        campaign = Campaign(Path(name), disk, draw)
        full = options.kills // 4 if disk is not None else 0
        kinds = ["disk"] * full + ["SIGKILL"] * (options.kills - full)
        campaign.run(kinds)
        campaign.run([SIGNALS[index % len(SIGNALS)] for index in range(options.signals)])
        if options.demos:
            stops = demos(Path(name), options.demos, draw, campaign.failed)
            campaign.done["stops of the demo"] = stops
    print("| interruption | times |\n|---|---|")
    for kind, times in sorted(campaign.done.items()):
        print(f"| {kind} | {times} |")
    if disk is None:
        print("No small disk could be mounted, so none was filled.")
    print(f"\n{len(campaign.failed)} failures", *campaign.failed, sep="\n")
    return 1 if campaign.failed else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
