"""What many tests build: a module, of options by their own names."""

import os
from pathlib import Path

import pytest

from gfn_design import (
    Batches,
    GFlowNet,
    LearnedBackward,
    MaxEntropyBackward,
    Networks,
    Optimiser,
    Speed,
    UniformBackward,
)
from gfn_design.config.renamed import upgraded

GROUPS = {
    "networks": (Networks, {"network": "network", "critic": "critic"}),
    "batches": (
        Batches,
        {
            "batch_size": "size",
            "updates": "updates",
            "replay": "replay",
            "exploration": "exploration",
            "search": "search",
        },
    ),
    "optimiser": (
        Optimiser,
        {
            "lr": "lr",
            "critic_lr": "critic_lr",
            "log_z_lr": "log_z_lr",
            "optimizer": "factory",
            "schedule": "schedule",
        },
    ),
    "speed": (Speed, {"compiled": "compiled", "burst": "batches_per_step"}),
}


def backward_of(kind, objective=None):
    """The backward policy of a kind, with an objective of its own or not."""
    if kind in ("learned", "shared"):
        return LearnedBackward(objective, shared=kind == "shared")
    return {"uniform": UniformBackward, "max_entropy": MaxEntropyBackward}[kind]()


def grouped(options):
    """Arguments of `GFlowNet`, of options by name."""
    options = dict(options)
    backward = options.pop("backward", "uniform")
    objective = options.pop("backward_objective", None)
    groups = {
        name: kind(**{own: options.pop(flat) for flat, own in names.items() if flat in options})
        for name, (kind, names) in GROUPS.items()
    }
    if "start" in options:
        options["fine_tune"] = options.pop("start")
    return groups | {"backward": backward_of(backward, objective)} | options


def model_of(environment, objective, *networks, kind=GFlowNet, exact_limit=None, **options):
    """A module; `networks` are the one of policies and that of critics."""
    options |= dict(zip(("network", "critic", "backward"), networks, strict=False))
    module = kind(environment, objective, **grouped(options))
    if exact_limit is not None:
        module.exact_limit = exact_limit
    return module


def section(model):
    """The model section of a configuration, of options by their own names."""
    return upgraded({"model": model})["model"]


def data_at(name):
    """A file of the public data, or the test is skipped."""
    if not os.environ.get("GFN_DESIGN_DATA"):
        pytest.skip("GFN_DESIGN_DATA names no folder with the public data")
    return Path(os.environ["GFN_DESIGN_DATA"], name)
