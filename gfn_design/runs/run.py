"""A run is one folder: train into it, open it again, evaluate it, draw candidates from it."""

import csv
import logging
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.utilities import rank_zero_only

from gfn_design.config import build_arguments, build_section, dump, load
from gfn_design.config.root import ROOT
from gfn_design.data.base import DataModule
from gfn_design.environments.sequence import Sequence
from gfn_design.errors import InputError
from gfn_design.evaluation.evaluate import Evaluation
from gfn_design.files.checkpoints import CheckpointFiles, latest_checkpoint
from gfn_design.files.objects import write_whole_aside
from gfn_design.files.run_folder import (
    CHECKPOINT,
    CONFIG,
    LOCK,
    LOG,
    PREVIOUS,
    README,
    has_checkpoint,
    locked,
)
from gfn_design.files.whole import PART, make_folder, remove_parts, whole_files, write_whole
from gfn_design.gflownet import GFlowNet
from gfn_design.results import molecules, plots
from gfn_design.results.candidates import Candidate, draw_candidates, smiles_of, write_into
from gfn_design.runs.log import CSVLog, Progress
from gfn_design.runs.saving import SaveLast
from gfn_design.runs.stopping import Stopped, Stops
from gfn_design.sampling.noise import EVALUATION
from gfn_design.training.divergence import are_finite

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # no hints and advertisements

MATMUL_PRECISIONS = ("highest", "high", "medium")

README_TEXT = Path(__file__).with_name("run_readme.md")


class Run(NamedTuple):
    """A trained module with its data, opened from a run's folder."""

    folder: Path
    config: dict[str, Any]
    module: GFlowNet


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
    _check_folder(config, folder)
    rank = rank_zero_only.rank  # type: ignore[attr-defined]
    is_locked = rank == 0 and folder.is_dir()
    if is_locked:
        stack.enter_context(locked(folder))
    trainer, module, data = prepare(config, folder, stops)
    if trainer.is_global_zero:
        make_folder(folder)
        if not is_locked:
            stack.enter_context(locked(folder))
            if has_checkpoint(folder):  # of another process, which was quicker
                raise InputError(
                    f"{folder}: another process has trained into this folder meanwhile; give the "
                    "same command again to go on from there"
                )
        remove_parts(folder)
        remove_parts(folder / CHECKPOINT.parent)
        write_whole(folder / CONFIG, dump(config))
        remarks = [f"{remark[0].upper()}{remark[1:]}." for remark in data.remarks()]
        for remark in remarks:
            print(remark)
        about = ["", "## The data of this run", "", *remarks, ""] if remarks else []
        write_whole(folder / README, "\n".join([README_TEXT.read_text().rstrip(), *about, ""]))
    data.keep_in(folder)
    if trainer.is_global_zero:
        data.begin()
    if trainer.is_global_zero and module.start is not None and module.start.aside:
        write_whole_aside(module.start.aside, folder / "known_set_aside.csv")
    resume = None
    if has_checkpoint(folder):
        resume = str(latest_checkpoint(folder)[0])
        if trainer.is_global_zero:
            _complete(trainer, module)
    with _lightning_said():
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    if not trainer.is_global_zero:
        raise SystemExit(0)  # the first process alone writes what follows
    run = open_run(folder)
    return run, *report(run, int(config.get("candidates", 1000)))


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


def first_logged(folder: Path, column: str) -> float | None:
    """The first number that a run's log has in a column."""
    if not (folder / LOG).exists():
        return None
    with (folder / LOG).open(newline="") as file:
        return next((float(row[column]) for row in csv.DictReader(file) if row.get(column)), None)


def prepare(
    config: Mapping[str, Any], folder: Path, stops: Stops | None = None
) -> tuple[Trainer, GFlowNet, DataModule]:
    """Build everything that `fit` needs, and write nothing.

    Raises:
        InputError: As in `fit`.
    """
    _check_folder(config, folder)
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
            f"({module.batch_size:,}); give a larger budget, or a smaller model.batch_size"
        )
    module.use(data)
    if step is None:
        module.begin()
    if room is None:
        module(8, EVALUATION, 0)
    options = build_arguments(config.get("trainer"), "lightning.pytorch.Trainer", "trainer")
    loggers = _several(options.pop("logger", None))
    callbacks = _several(options.pop("callbacks", None))
    own_bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
    if room is not None:
        options["limit_val_batches"] = 0  # nothing is spent on evaluating
    bar = [Progress()] if options.get("enable_progress_bar", True) and not own_bar else []
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
    if options.get("max_steps") == 0 or options.get("fast_dev_run"):
        raise InputError("trainer: a run needs max_steps of 1 or more and no fast_dev_run")
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
    plugins = _several(options.pop("plugins", None))
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        plugins.append(CheckpointFiles(folder / CHECKPOINT, folder / PREVIOUS))
    if torch.backends.mps.is_available():
        defaults["accelerator"] = "cpu"  # exact evaluation needs float64, which MPS has not
    try:
        trainer = Trainer(
            **(defaults | options),
            logger=[CSVLog(folder / LOG, step), *loggers],
            callbacks=[SaveLast(folder / CHECKPOINT, every, seconds, stops), *bar, *callbacks],
            plugins=plugins,
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise InputError(f"trainer: {_in_one_line(error)}") from error
    return trainer, module, data


def _several(given: Any) -> list[Any]:
    """What the Trainer takes as one, several, or None; True and False ask for its defaults."""
    if given is None or isinstance(given, bool):
        return []
    return list(given) if isinstance(given, list | tuple) else [given]


def _check_folder(config: Mapping[str, Any], folder: Path) -> None:
    """A folder is new, or holds a run that differs at most in how long and where it trains."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; choose another --output")
    if not folder.exists() or all(x.name == LOCK or x.suffix == PART for x in folder.iterdir()):
        return
    if not (folder / CONFIG).exists():
        raise InputError(f"{folder}: is not empty and holds no run; choose another --output")
    if not has_checkpoint(folder):
        return  # stopped before anything was learned
    there = _lasting(yaml.safe_load((folder / CONFIG).read_text()) or {})
    here = _lasting(yaml.safe_load(dump(config)) or {})
    for section in ("seed", "model", "data"):
        if there.get(section) != here.get(section):
            raise InputError(
                f"{folder}: holds a run with another '{section}' section; choose another --output, "
                "or give that run's configuration to go on with it"
            )


def _lasting(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without what of its data may change: how much, and where, is scored."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                k: kept(v) for k, v in value.items() if k not in ("budget", "n_workers", "dask")
            }
        return [kept(item) for item in value] if isinstance(value, list) else value

    return config | {"data": kept(config.get("data"))}


def build(config: Mapping[str, Any]) -> tuple[GFlowNet, DataModule]:
    """The module and the data that a checked configuration describes."""
    seed = int(config.get("seed", 0))
    if not 0 <= seed < 2**32:
        raise InputError(f"seed must be from 0 to {2**32 - 1}, got {seed}")
    seed_everything(seed, verbose=False)
    module = build_section(config["model"], ROOT["model"], "model")
    return module, build_section(config["data"], ROOT["data"], "data")


def open_run(folder: Path) -> Run:
    """Build the module of a run, load its last checkpoint and give it its reward.

    Raises:
        InputError: The folder holds no run, or its checkpoint does not fit.
    """
    if not (folder / CONFIG).exists():
        raise InputError(f"{folder}: holds no run (no {CONFIG} in it)")
    folder = folder.absolute()
    config = load([folder / CONFIG], [], ROOT)
    path, checkpoint = latest_checkpoint(folder)
    module, data = build(config)
    restore(module, checkpoint, path)
    data.keep_in(folder)
    data.count_on((checkpoint.get("ranks") or [{}])[0].get("data", {}))
    return Run(folder, config, module.eval().use(data))


def restore(module: GFlowNet, checkpoint: dict[str, Any], path: Path) -> None:
    """Load weights into `module`.

    Raises:
        InputError: The checkpoint is from another environment, or from other networks.
    """
    try:
        module.on_load_checkpoint(checkpoint)
        module.load_state_dict(checkpoint["state_dict"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (RuntimeError, KeyError) as error:
        raise InputError(
            f"{path}: its networks or its objective are not those of the configuration"
        ) from error
    if not are_finite(module.parameters()):
        raise InputError(
            f"{path}: its weights are not finite numbers; train anew with a lower learning rate"
        )


def report(run: Run, n: int) -> tuple[Evaluation, list[Candidate]]:
    """Evaluate, draw `n` candidates, and write files and pictures into the run's folder."""
    if run.module.data.room() is None:
        print("evaluating ...", flush=True)
        evaluation = run.module.evaluate()
    else:  # which would cost scores
        evaluation = Evaluation(run.module.data.counts(), None, None)
    print(f"drawing {n:,} candidates ...", flush=True)
    candidates: list[Candidate] = []
    if n:
        candidates, _ = draw_candidates(run.module, n)
    print("describing them ...", flush=True)
    smiles = smiles_of(candidates, run.module)
    if smiles:
        evaluation.metrics.update(molecules.summary(smiles, [c.score for c in candidates]))
    run.module.data.settle()
    rounded = {name: round(value, 6) for name, value in evaluation.metrics.items()}
    with whole_files(run.folder) as folder:
        if candidates:
            write_into(folder, candidates, run.module)
        (folder / "evaluation.yaml").write_text(yaml.safe_dump(rounded, sort_keys=False))
        _draw(run, evaluation, candidates, folder)
    return evaluation, candidates


def _draw(run: Run, evaluation: Evaluation, candidates: list[Candidate], folder: Path) -> None:
    """Write the pictures of a run into a folder."""
    if evaluation.target is not None:
        ax = plots.axes(5.5, 4.5)
        plots.plot_distribution(evaluation, ax)
        plots.save(ax, folder / "distribution.png")
    ax = plots.axes()
    if plots.plot_curve(run.folder / LOG, ax):
        plots.save(ax, folder / "curve.png")
    environment = run.module.environment
    if isinstance(environment, Sequence) and not environment.separator and candidates:
        ax = plots.axes(max(4.0, 0.5 * environment.length), 2.5)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # logomaker's own use of pandas
            plots.plot_logo(candidates, run.module, ax)
        plots.save(ax, folder / "logo.png")
