"""Train into the folder of a run, or go on there."""

import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.utilities import rank_zero_only

from gfn_design.config import build_arguments, dump
from gfn_design.data.base import DataModule
from gfn_design.errors import InputError
from gfn_design.evaluation.evaluate import Evaluation
from gfn_design.files.checkpoints import CheckpointFiles, latest_checkpoint, load_checkpoint
from gfn_design.files.objects import write_whole_aside
from gfn_design.files.run_folder import (
    CHECKPOINT,
    CONFIG,
    LOG,
    PREVIOUS,
    README,
    has_checkpoint,
    locked,
)
from gfn_design.files.whole import make_folder, remove_parts, write_whole
from gfn_design.gflownet import GFlowNet
from gfn_design.results.candidates import Candidate
from gfn_design.runs.guard import Guard
from gfn_design.runs.log import CSVLog, Progress
from gfn_design.runs.report import report
from gfn_design.runs.run import Run, build, check_folder, restore
from gfn_design.runs.saving import SaveLast
from gfn_design.runs.stopping import Stopped, Stops
from gfn_design.sampling.noise import EVALUATION

MATMUL_PRECISIONS = ("highest", "high", "medium")
README_TEXT = Path(__file__).with_name("run_readme.md")


def fit(config: Mapping[str, Any], folder: Path) -> tuple[Run, Evaluation, list[Candidate]]:
    """Train into `folder`; on a folder that holds the same run, go on where it stopped.

    Args:
        config: A checked configuration (see `gfn_design.config`).
        folder: Of the run; made if missing.

    Raises:
        InputError: The folder holds something else, or a part cannot be built.
    """
    folder = folder.absolute()  # once: a score may change the directory
    with ExitStack() as stack:
        stops = stack.enter_context(Stops())
        try:
            return _fit(config, folder, stops, stack)
        except (Stopped, SystemExit) as stopped:  # or what Lightning makes of it
            if not stops.requested:
                raise
            hint = "nothing was saved, since no batch was finished"
            if has_checkpoint(folder):
                hint = "the same command goes on from the last whole batch"
            raise Stopped(hint, stops.requested) from stopped


def _fit(
    config: Mapping[str, Any], folder: Path, stops: Stops, stack: ExitStack
) -> tuple[Run, Evaluation, list[Candidate]]:
    check_folder(config, folder)
    is_locked = rank_zero_only.rank == 0 and folder.is_dir()  # type: ignore[attr-defined]
    if is_locked:
        stack.enter_context(locked(folder))
    trainer, module, data = prepare(config, folder, stops)
    if trainer.is_global_zero:
        make_folder(folder)
        if not is_locked:
            _claim(folder, stack)
        _write_down(config, folder, module, data)
    data.keep_in(folder)
    if trainer.is_global_zero:
        data.begin()
    resume = None
    if has_checkpoint(folder):
        resume = str(latest_checkpoint(folder)[0])
        if trainer.is_global_zero:
            _complete(trainer, module)
    with _lightning_said():
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    if not trainer.is_global_zero:
        raise SystemExit(0)  # the first process alone writes what follows
    _keep_the_good(folder, module, trainer)
    run = Run(folder, dict(config), module.eval())
    return run, *report(run, int(config.get("candidates", 1000)))


def _keep_the_good(folder: Path, module: GFlowNet, trainer: Trainer) -> None:
    """Go back to before a run gamed its proxy, if it did."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    guard = next((it for it in callbacks if isinstance(it, Guard)), None)
    if guard is None:
        return
    if guard.reason is not None:
        content = load_checkpoint(guard.good)
        restore(module, content, guard.good)
        write_whole(folder / CHECKPOINT, guard.good.read_bytes())
        print(
            f"\nstopped, since {guard.reason}; kept: the checkpoint of batch "
            f"{content['global_step']:,}, the last before that. Ask less of the proxy, more "
            "of its domain (domain: true, use: bound), or measure some of what was built since. A "
            "smaller evaluate_every looks more often; guard: false trains on all the same"
        )
    guard.good.unlink(missing_ok=True)


def _claim(folder: Path, stack: ExitStack) -> None:
    """Take a folder that was not there before."""
    stack.enter_context(locked(folder))
    if has_checkpoint(folder):  # of another process, which was quicker
        raise InputError(
            f"{folder}: another process has trained into this folder meanwhile; give the "
            "same command again to go on from there"
        )


def _write_down(
    config: Mapping[str, Any], folder: Path, module: GFlowNet, data: DataModule
) -> None:
    """Leave in the folder what is known of a run before it begins."""
    remove_parts(folder)
    remove_parts(folder / CHECKPOINT.parent)
    write_whole(folder / CONFIG, dump(config))
    remarks = [f"{remark[0].upper()}{remark[1:]}." for remark in data.remarks()]
    for remark in remarks:
        print(remark)
    about = ["", "## The data of this run", "", *remarks, ""] if remarks else []
    write_whole(folder / README, "\n".join([README_TEXT.read_text().rstrip(), *about, ""]))
    if module.fine_tune is not None and module.fine_tune.aside:
        write_whole_aside(module.fine_tune.aside, folder / "known_set_aside.csv")


@contextmanager
def _lightning_said() -> Iterator[None]:
    """Make sentences of what Lightning refuses when it is too late for `Trainer` to do so."""
    try:
        yield
    except InputError:
        raise
    except MisconfigurationException as error:
        raise InputError(f"trainer: {_in_one_line(error)}") from error
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1].filename
        parts = Path(last).parts
        if "lightning" not in parts or "gfn_design" in parts:
            raise
        raise InputError(f"trainer: {_in_one_line(error)}") from error


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _complete(trainer: Trainer, module: GFlowNet) -> None:
    """Log the evaluation that was due at the checkpoint, if the run was killed before its end."""
    log, every = trainer.loggers[0], getattr(trainer, "val_check_interval", None)
    assert isinstance(log, CSVLog)
    assert log.resume_step is not None
    batches = log.resume_step * trainer.accumulate_grad_batches
    due = trainer.limit_val_batches and isinstance(every, int) and batches % every == 0
    if due and "reward_calls" not in log.rows.get(log.resume_step - 1, {}):
        metrics = module.tally.calls() | module.evaluate().metrics
        rounded = {name: float(np.float32(x)) for name, x in metrics.items()}  # as Lightning does
        log.log_metrics(rounded, log.resume_step - 1)


def prepare(
    config: Mapping[str, Any], folder: Path, stops: Stops | None = None
) -> tuple[Trainer, GFlowNet, DataModule]:
    """Build everything that `fit` needs, and write nothing.

    Raises:
        InputError: As in `fit`.
    """
    check_folder(config, folder)
    products = config.get("matmul_precision", "highest")
    if products not in MATMUL_PRECISIONS:
        given = ", ".join(MATMUL_PRECISIONS)
        raise InputError(f"matmul_precision must be one of {given}, got '{products}'")
    torch.set_float32_matmul_precision(products)
    module, data = build(config)
    step = None
    if has_checkpoint(folder):
        path, content = latest_checkpoint(folder)
        restore(module, content, path)  # the Trainer does it again, when it is too late
        step = content["global_step"]
    # Bad data, and a reward that does not work, are found before anything is written.
    if folder.is_dir():
        data.keep_in(folder)
    room = data.room()
    if step is None and room is not None and room < module.batch_size:
        raise InputError(
            f"the budget of scores has room for {room:,}, which is less than a batch "
            f"({module.batch_size:,}); give a larger budget, or a smaller model.batches.size"
        )
    module.use(data)
    if step is None:
        module.begin()
    if room is None:
        module(8, EVALUATION, 0)
    return _trainer(config, folder, stops, step, room is not None), module, data


def _trainer(
    config: Mapping[str, Any], folder: Path, stops: Stops | None, step: int | None, spends: bool
) -> Trainer:
    """The Trainer of a run, with the log, the checkpoints and the bar of one.

    Args:
        config: Of the run.
        folder: Of the run.
        stops: Who may want to stop.
        step: Of the checkpoint that is gone on from.
        spends: Scores are limited, so that none is spent on evaluating.
    """
    options = build_arguments(config.get("trainer"), "lightning.pytorch.Trainer", "trainer")
    loggers, callbacks, plugins = (
        _several(options.pop(name, None)) for name in ("logger", "callbacks", "plugins")
    )
    if options.get("max_steps") == 0 or options.get("fast_dev_run"):
        raise InputError("trainer: a run needs max_steps of 1 or more and no fast_dev_run")
    if spends:
        options["limit_val_batches"] = 0
    every, evaluate_every, seconds = _intervals(config)
    own_bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
    bar = [Progress()] if options.get("enable_progress_bar", True) and not own_bar else []
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        plugins.append(CheckpointFiles(folder / CHECKPOINT, folder / PREVIOUS))
    defaults = {
        "max_steps": 1000,
        "max_epochs": -1,
        "log_every_n_steps": 50,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "val_check_interval": evaluate_every,
        "check_val_every_n_epoch": None,
        "default_root_dir": str(folder if "::" not in str(folder) else folder.anchor),
    }
    if torch.backends.mps.is_available():
        defaults["accelerator"] = "cpu"  # exact evaluation needs float64, which MPS has not
    try:
        return Trainer(
            **(defaults | options),
            logger=[CSVLog(folder / LOG, step), *loggers],
            callbacks=[
                *([Guard(folder)] if config.get("guard", True) else []),
                SaveLast(folder / CHECKPOINT, every, seconds, stops),
                *bar,
                *callbacks,
            ],
            plugins=plugins,
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise InputError(f"trainer: {_in_one_line(error)}") from error


def _intervals(config: Mapping[str, Any]) -> tuple[int, int, float]:
    """Batches between checkpoints and between evaluations, and seconds between checkpoints."""
    every = int(config.get("checkpoint_every", 500))
    evaluate_every = int(config.get("evaluate_every", 100))
    seconds = float(config.get("checkpoint_seconds", 60.0))
    for name, number in (("checkpoint_every", every), ("evaluate_every", evaluate_every)):
        if number < 1:
            raise InputError(f"{name} must be at least 1, got {number}")
    if int(config.get("candidates", 1000)) < 0:
        raise InputError(f"candidates must not be negative, got {config['candidates']}")
    if not seconds > 0:
        raise InputError(f"checkpoint_seconds must be positive, got {seconds}")
    return every, evaluate_every, seconds


def _several(given: Any) -> list[Any]:
    """What the Trainer takes as one, several, or None; True and False ask for its defaults."""
    if given is None or isinstance(given, bool):
        return []
    return list(given) if isinstance(given, list | tuple) else [given]
