"""Run the cells of a grid, several at a time, each as a `gfn-design fit` of its own.

The process of a run is forked from one that has imported torch and Lightning and done nothing else,
which saves each the seconds that takes.
"""

import csv
import fcntl
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import NamedTuple

import yaml
from tqdm import tqdm

from gfn_design.answering import answered
from gfn_design.compare.grid import Cell, Grid, sources
from gfn_design.config import dump
from gfn_design.errors import InputError
from gfn_design.files.run_folder import CONFIG, LOG, has_checkpoint
from gfn_design.files.whole import make_folder, write_whole
from gfn_design.runs.telling import train_file
from gfn_design.runs.train import prepare

GRID, SOURCES, OUTPUT, LOCK = "compare.yaml", "sources.yaml", "output.txt", ".lock"
PROCESSES = multiprocessing.get_context("forkserver")
IMPORTS = [
    "gfn_design.runs.train",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "logomaker",
]


class Point(NamedTuple):
    """One evaluation of a run.

    Attributes:
        trajectories: Drawn so far.
        reward_calls: Objects that training has asked the reward of so far.
        metrics: Name -> value.
    """

    trajectories: int
    reward_calls: int
    metrics: dict[str, float]


def points(run: Path) -> list[Point]:
    """Every evaluation of a finished run, from its log."""
    with (run / LOG).open(newline="") as file:
        rows = list(csv.DictReader(file))
    end = yaml.safe_load((run / "evaluation.yaml").read_text())
    names = [name for name in end if name in rows[0]]  # of candidates it says more
    rows = [row for row in rows if row[names[0]]]
    return [
        Point(
            round(float(row["trajectories"])),
            round(float(row["reward_calls"])),
            {name: float(row[name]) for name in names},
        )
        for row in rows
    ]


def run_grid(grid: Grid, folder: Path, jobs: int) -> dict[Path, str]:
    """Do the runs that are not finished, `jobs` at a time, with one thread each.

    What was begun goes on from its last checkpoint. A run that fails does not stop the others.

    Returns:
        `Cell.path` of each run that failed -> the last line that it printed.

    Raises:
        InputError: A run cannot be built, or the folder holds something else; nothing was started.
        KeyboardInterrupt: Somebody stopped it; every process that was started is gone.
    """
    folder = folder.absolute()  # once: a score may change the directory
    if folder.is_file() or (folder.is_dir() and not _may_hold(folder)):
        raise InputError(
            f"{folder}: holds something else than a comparison; choose another --output"
        )
    todo = [cell for cell in grid.cells if not is_finished(cell, folder)]
    _try_out(todo, grid, folder)
    make_folder(folder)
    with (folder / LOCK).open("w") as lock:
        try:  # nobody has it; from now on it is shared with the runs, which may outlive this
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{folder}: another comparison, or a run of one that was killed, is at work here; "
                "wait for it or stop it"
            ) from error
        write_whole(folder / GRID, dump(grid.config))
        # As good as Ctrl-C, unless somebody (nohup) has said otherwise.
        others = (signal.SIGTERM, signal.SIGHUP)
        stops = [it for it in others if signal.getsignal(it) == signal.SIG_DFL]
        for stop in stops:
            signal.signal(stop, signal.default_int_handler)
        try:
            return _run(todo, grid, folder, jobs)
        except KeyboardInterrupt as stopped:
            raise KeyboardInterrupt("the same command goes on where it was") from stopped
        finally:
            for stop in stops:
                signal.signal(stop, signal.SIG_DFL)


def _may_hold(folder: Path) -> bool:
    """Whether a folder is empty, or is that of a comparison."""
    return (folder / GRID).exists() or not any(folder.iterdir())


def is_finished(cell: Cell, folder: Path) -> bool:
    """Whether this very run is there as a whole.

    Raises:
        InputError: Something was learned there by another run.
    """
    run = folder / cell.path
    if not has_checkpoint(run):
        return False
    for name, wanted in ((CONFIG, cell.config), (SOURCES, sources(cell.config))):
        there = (yaml.safe_load((run / name).read_text()) if (run / name).exists() else {}) or {}
        here = yaml.safe_load(dump(wanted))
        if there != here:
            parts = [part for part in {**there, **here} if there.get(part) != here.get(part)]
            raise InputError(
                f"{run}: was run with another {' and '.join(map(repr, parts))}; choose another "
                "--output, or remove that folder to run it again"
            )
    return (run / "evaluation.yaml").exists() and points(run)[-1].trajectories == cell.trajectories


def _try_out(cells: Iterable[Cell], grid: Grid, folder: Path) -> None:
    """Build each problem with each method once, which tells what no signature can."""
    first: dict[tuple[str, str], Cell] = {}
    for cell in cells:
        first.setdefault((cell.problem, cell.method), cell)
    for cell in first.values():
        name = f"{grid.file}: problem '{cell.problem}' with method '{cell.method}'"
        try:
            trainer, module, _ = prepare(cell.config, folder / cell.path)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
        each = module.batch_size * trainer.world_size * trainer.accumulate_grad_batches
        drawn = each * trainer.max_steps // module.learner.updates
        if drawn != cell.trajectories:
            raise InputError(
                f"{name}: would draw {drawn:,} trajectories and not {cell.trajectories:,}; set "
                "trainer.devices to 1, and accumulate no batches"
            )


def _run(todo: Iterable[Cell], grid: Grid, folder: Path, jobs: int) -> dict[Path, str]:
    waiting, failures = deque(todo), dict[Path, str]()
    running: dict[ForkServerProcess, Cell] = {}
    total = len(grid.cells)
    every = 0.5 if sys.stderr.isatty() else 15.0
    PROCESSES.set_forkserver_preload(IMPORTS)
    with tqdm(
        total=total, initial=total - len(waiting), unit="run", mininterval=every, ncols=80
    ) as bar:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    cell = waiting.popleft()
                    running[_start(cell, folder)] = cell
                wait([process.sentinel for process in running])
                for process in list(running):
                    if (code := process.exitcode) is not None:
                        cell = running.pop(process)
                        problem = _failure(folder / cell.path, code, cell.trajectories)
                        if problem:
                            failures[cell.path] = problem
                            tqdm.write(f"{cell}: {problem}", sys.stderr)
                        bar.update()
        finally:
            for process in running:  # a run bears being killed at any moment
                process.kill()
                with suppress(ProcessLookupError):  # and what it has started
                    os.killpg(process.pid or 0, signal.SIGKILL)
                process.join()
    return failures


def _start(cell: Cell, folder: Path) -> ForkServerProcess:
    run = folder / cell.path
    make_folder(run)
    write_whole(run / SOURCES, dump(sources(cell.config)))
    write_whole(run / CONFIG, dump(cell.config))
    process = PROCESSES.Process(target=_fit, args=(run.resolve(), (folder / LOCK).resolve()))
    process.start()
    return process


def _fit(run: Path, lock: Path) -> None:
    """In a process of its own: train the run whose configuration is in its folder."""
    os.setsid()  # Ctrl-C is for the comparison, which then ends its runs
    output = os.open(run / OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(output, stream.fileno())
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        sys.exit(answered(lambda: train_file(run / CONFIG, run)))


def _failure(run: Path, code: int, trajectories: int) -> str:
    """Why a run that has ended has failed, in one line; nothing if it has not."""
    if code == 0:
        drawn = points(run)[-1].trajectories
        return "" if drawn == trajectories else f"ended after {drawn:,} trajectories"
    if code < 0:
        return f"stopped by {signal.Signals(-code).name}"
    lines = [line.strip() for line in (run / OUTPUT).read_text(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), f"ended with exit code {code}")
