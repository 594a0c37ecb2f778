"""A run is one folder: what it holds is built, and opened again."""

import csv
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from lightning.pytorch import seed_everything

from gfn_design.config import Config, build_section, check, dump, read
from gfn_design.config.renamed import upgraded
from gfn_design.config.root import ROOT
from gfn_design.data.base import DataModule
from gfn_design.designer import Designer
from gfn_design.errors import InputError
from gfn_design.files.checkpoints import latest_checkpoint
from gfn_design.files.run_folder import (
    CONFIG,
    LOCK,
    LOG,
    has_checkpoint,
)
from gfn_design.files.whole import PART
from gfn_design.gflownet import GFlowNet
from gfn_design.training.divergence import are_finite

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # no hints and advertisements


class Run(NamedTuple):
    """A trained module with its data, opened from a run's folder."""

    folder: Path
    config: dict[str, Any]
    module: Designer


def first_logged(folder: Path, column: str) -> float | None:
    """The first number that a run's log has in a column."""
    if not (folder / LOG).exists():
        return None
    with (folder / LOG).open(newline="") as file:
        return next((float(row[column]) for row in csv.DictReader(file) if row.get(column)), None)


def build(config: Mapping[str, Any]) -> tuple[GFlowNet, DataModule]:
    """The module and the data that a checked configuration describes."""
    seed = int(config.get("seed", 0))
    if not 0 <= seed < 2**32:
        raise InputError(f"seed must be from 0 to {2**32 - 1}, got {seed}")
    seed_everything(seed, verbose=False)
    module = build_section(config["model"], ROOT["model"], "model")
    if "exact_limit" in config:
        module.exact_limit = int(config["exact_limit"])
    return module, build_section(config["data"], ROOT["data"], "data")


def config_of(folder: Path) -> Config:
    """The configuration of a run, also one of the release before."""
    there = read([folder / CONFIG])
    config = Config(str(folder / CONFIG))
    config.add(upgraded(there), str(folder / CONFIG))
    check(config, ROOT)
    return config


def open_run(folder: Path, at: Mapping[str, float] | None = None) -> Run:
    """Build the module of a run, load its last checkpoint and give it its reward.

    Args:
        folder: Of the run.
        at: A setting of its conditions, by their names; None is as its data has it.

    Raises:
        InputError: The folder holds no run, its checkpoint does not fit, or it knows no such
            conditions.
    """
    if not (folder / CONFIG).exists():
        raise InputError(f"{folder}: holds no run (no {CONFIG} in it)")
    folder = folder.absolute()
    config = config_of(folder)
    path, checkpoint = latest_checkpoint(folder)
    module, data = build(config)
    restore(module, checkpoint, path)
    data.keep_in(folder)
    data.count_on((checkpoint.get("ranks") or [{}])[0].get("data", {}))
    opened: Designer = module.eval().use(data)
    return Run(folder, config, opened.at(**at) if at else opened)


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
            f"{path}: its networks or its objective are not those of the configuration (of long "
            "sequences the usual network was an MLP before, as in networks: {network: MLP})"
        ) from error
    if not are_finite(module.parameters()):
        raise InputError(
            f"{path}: its weights are not finite numbers; train anew with a lower learning rate"
        )


def check_folder(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse a folder that is neither new nor holds a run that differs in how long it trains alone.

    Raises:
        InputError: It holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; choose another --output")
    if not folder.exists() or all(x.name == LOCK or x.suffix == PART for x in folder.iterdir()):
        return
    if not (folder / CONFIG).exists():
        raise InputError(f"{folder}: is not empty and holds no run; choose another --output")
    if not has_checkpoint(folder):
        return  # stopped before anything was learned
    there = _lasting(upgraded(yaml.safe_load((folder / CONFIG).read_text()) or {}))
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
