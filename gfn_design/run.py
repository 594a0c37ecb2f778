"""A run is one folder: train into it, open it again, evaluate it, draw candidates from it."""

import csv
import logging
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer, seed_everything

from gfn_design.candidates import Candidate, draw_candidates, smiles_of, write_candidates
from gfn_design.config import build_arguments, build_section, dump, load
from gfn_design.config.root import ROOT
from gfn_design.data.base import DataModule
from gfn_design.environments.sequence import Sequence
from gfn_design.errors import InputError
from gfn_design.evaluation.evaluate import Evaluation
from gfn_design.gflownet import GFlowNet
from gfn_design.report import molecules, plots
from gfn_design.report.log import CSVLog, Progress, SaveLast
from gfn_design.sampling.noise import EVALUATION

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # no hints and advertisements

MATMUL_PRECISIONS = ("highest", "high", "medium")
CONFIG, CHECKPOINT, LOG = "config.yaml", Path("checkpoints", "last.ckpt"), "log.csv"

README = """\
# A run of gfn-design

| file | what it is |
|---|---|
| `config.yaml` | the configuration; `gfn-design fit --config config.yaml --output .` goes on |
| `log.csv` | one row per logged step: rewards, losses, distances to the target |
| `checkpoints/last.ckpt` | everything needed to go on or to sample |
| `evaluation.yaml` | distances to the target at the end |
| `candidates.csv`, `candidates.fasta` | distinct designs, best first, with score and reward |
| `candidates.smi`, `candidates.sdf`, `candidates.png` | molecules likewise; a picture |
| `distribution.png` | learned against target probability of every object |
| `curve.png` | progress against sampled trajectories |
| `logo.png` | sequence logo of the best candidates |

Files that make no sense for this environment are not there.

Candidates: `score` is what the reward is made of, before clip, exponent and scale (of a measured
table the normalised value); `draws` says how often a design was drawn, and `log_probability`, in
nats, how likely it is to be, as estimated from a few of its histories. A reward too large for a
float reads inf; `log_reward`, in nats, is what counts. Some data has more columns: `ddg` is a
binding energy in kcal/mol, and `site` the sequence with the E-box inside. Of molecules: `smiles`,
`inchikey`, `scaffold` (ring systems and what links them), `alerts` (what it has of the PAINS and
BRENK catalogues), `path` (what it grew through), every term of the reward in its own units; with
`sample --reference FILE` the `nearest` molecule of that file with its `nearest_similarity`
(Tanimoto's, 0 to 1).

In `log.csv`, `scored` counts what a function, a program or RDKit was asked for, without repeats,
and `failed` what could not be scored and counts as the minimum.

Evaluation: `D_TV` is half the sum over all objects of |learned - target| probability, 0 to 1;
`D_JSD` the Jensen-Shannon divergence, 0 to 0.69; `log_z_error` the error of the learned log Z;
`accuracy` the mean reward over the one it should be, at most 1; `effective` the number of equally
likely objects that would be as diverse; `modes` how many of the known modes training has met.
Where not all objects can be listed, from samples: `log_z_bound` is at most log Z and reaches it at
the target; `correlation` is that of held-out objects' probability with their reward, by rank. Of
molecules: `top_score` is the mean score of the 100 best candidates, `top_diversity` 1 minus the
mean Tanimoto similarity of their pairs, `scaffolds` how many ring systems with linkers all of them
have. Of graphs: `expected_shd` is the mean number of pairs of nodes that differ from the graph
behind the data, `edge_auroc` how well edge probabilities find its edges (0.5 is chance), and
`..._correlation` and `..._mse` compare probabilities of edges, paths and Markov blankets with the
exact ones.
"""


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
    trainer, module, data = prepare(config, folder)
    if trainer.is_global_zero:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).write_text(dump(config))
        (folder / "README.md").write_text(README)
    checkpoint = folder / CHECKPOINT
    resume = str(checkpoint) if checkpoint.exists() else None
    if resume and trainer.is_global_zero:
        _complete(trainer, module)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    except SystemExit as stopped:  # what Lightning makes of Ctrl-C
        saved = checkpoint.exists()
        hint = "the same command goes on from the last checkpoint" if saved else "nothing was saved"
        raise KeyboardInterrupt(hint) from stopped
    if not trainer.is_global_zero:
        raise SystemExit(0)  # the first process alone writes what follows
    run = open_run(folder)
    return run, *report(run, int(config.get("candidates", 1000)))


def _complete(trainer: Trainer, module: GFlowNet) -> None:
    """Log the evaluation that was due at the checkpoint, if the run was killed before its end."""
    log, every = trainer.loggers[0], trainer.val_check_interval
    assert isinstance(log, CSVLog)
    assert log.resume_step is not None
    batches = log.resume_step * trainer.accumulate_grad_batches
    due = trainer.limit_val_batches and isinstance(every, int) and batches % every == 0
    if due and "reward_calls" not in log.rows.get(log.resume_step - 1, {}):
        metrics = module.calls() | module.evaluate().metrics
        rounded = {name: float(np.float32(x)) for name, x in metrics.items()}  # as Lightning does
        log.log_metrics(rounded, log.resume_step - 1)


def first_logged(folder: Path, column: str) -> float | None:
    """The first number that a run's log has in a column."""
    with (folder / LOG).open(newline="") as file:
        return next((float(row[column]) for row in csv.DictReader(file) if row.get(column)), None)


def prepare(config: Mapping[str, Any], folder: Path) -> tuple[Trainer, GFlowNet, DataModule]:
    """Build everything that `fit` needs, and write nothing.

    Raises:
        InputError: As in `fit`.
    """
    _check_folder(config, folder)
    checkpoint = folder / CHECKPOINT
    products = config.get("matmul_precision", "highest")
    if products not in MATMUL_PRECISIONS:
        given = ", ".join(MATMUL_PRECISIONS)
        raise InputError(f"matmul_precision must be one of {given}, got '{products}'")
    torch.set_float32_matmul_precision(products)
    module, data = build(config)
    step = None
    if checkpoint.exists():
        content = load_checkpoint(checkpoint)
        restore(module, content, checkpoint)  # the Trainer does it again, when it is too late
        step = content["global_step"]
    # Bad data, and a reward that does not work, are found before anything is written.
    module.use(data)
    if step is None:
        module.begin()
    module(8, EVALUATION, 0)
    options = build_arguments(config.get("trainer"), "lightning.pytorch.Trainer", "trainer")
    loggers = _several(options.pop("logger", None))
    callbacks = _several(options.pop("callbacks", None))
    bar = [Progress()] if options.get("enable_progress_bar", True) else []
    every = int(config.get("checkpoint_every", 500))
    evaluate_every = int(config.get("evaluate_every", 100))
    for name, number in (("checkpoint_every", every), ("evaluate_every", evaluate_every)):
        if number < 1:
            raise InputError(f"{name} must be at least 1, got {number}")
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
        "default_root_dir": str(folder),
    }
    if torch.backends.mps.is_available():
        defaults["accelerator"] = "cpu"  # exact evaluation needs float64, which MPS has not
    try:
        trainer = Trainer(
            **(defaults | options),
            logger=[CSVLog(folder / LOG, step), *loggers],
            callbacks=[SaveLast(checkpoint, every), *bar, *callbacks],
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise InputError(f"trainer: {' '.join(str(error).split())}") from error
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
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / CONFIG).exists():
        raise InputError(f"{folder}: is not empty and holds no run; choose another --output")
    if not (folder / CHECKPOINT).exists():
        return  # stopped before anything was learned
    there = yaml.safe_load((folder / CONFIG).read_text()) or {}
    here = yaml.safe_load(dump(config)) or {}
    for section in ("seed", "model", "data"):
        if there.get(section) != here.get(section):
            raise InputError(
                f"{folder}: holds a run with another '{section}' section; choose another --output, "
                "or give that run's configuration to go on with it"
            )


def build(config: Mapping[str, Any]) -> tuple[GFlowNet, DataModule]:
    """The module and the data that a checked configuration describes."""
    seed = int(config.get("seed", 0))
    if not 0 <= seed < 2**32:
        raise InputError(f"seed must be from 0 to {2**32 - 1}, got {seed}")
    seed_everything(seed, verbose=False)
    module = build_section(config["model"], ROOT["model"], "model")
    return module, build_section(config["data"], ROOT["data"], "data")


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint: tensors and plain containers, never code.

    Raises:
        InputError: The file is missing, cut short or no checkpoint.
    """
    if not path.exists():
        raise InputError(f"{path}: there is no checkpoint; train the run first")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise InputError(
            f"{path}: cannot be read as a checkpoint (cut short or damaged); put back a copy, or "
            "train into another --output"
        ) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise InputError(f"{path}: is a torch file but no checkpoint of a GFlowNet")
    return checkpoint


def open_run(folder: Path) -> Run:
    """Build the module of a run, load its last checkpoint and give it its reward.

    Raises:
        InputError: The folder holds no run, or its checkpoint does not fit.
    """
    if not (folder / CONFIG).exists():
        raise InputError(f"{folder}: holds no run (no {CONFIG} in it)")
    config = load([folder / CONFIG], [], ROOT)
    checkpoint = load_checkpoint(folder / CHECKPOINT)
    module, data = build(config)
    restore(module, checkpoint, folder / CHECKPOINT)
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


def report(run: Run, n: int) -> tuple[Evaluation, list[Candidate]]:
    """Evaluate, draw `n` candidates, and write files and pictures into the run's folder."""
    evaluation = run.module.evaluate()
    candidates, _ = draw_candidates(run.module, n)
    write_candidates(candidates, run.module, run.folder)
    smiles = smiles_of(candidates, run.module)
    if smiles:
        evaluation.metrics.update(molecules.summary(smiles, [c.score for c in candidates]))
    rounded = {name: round(value, 6) for name, value in evaluation.metrics.items()}
    (run.folder / "evaluation.yaml").write_text(yaml.safe_dump(rounded, sort_keys=False))
    if evaluation.target is not None:
        ax = plots.axes(5.5, 4.5)
        plots.plot_distribution(evaluation, ax)
        plots.save(ax, run.folder / "distribution.png")
    ax = plots.axes()
    if plots.plot_curve(run.folder / LOG, ax):
        plots.save(ax, run.folder / "curve.png")
    environment = run.module.environment
    if isinstance(environment, Sequence) and not environment.separator and candidates:
        ax = plots.axes(max(4.0, 0.5 * environment.length), 2.5)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # logomaker's own use of pandas
            plots.plot_logo(candidates, run.module, ax)
        plots.save(ax, run.folder / "logo.png")
    return evaluation, candidates
