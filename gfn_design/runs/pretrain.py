"""A run that teaches a policy what a library looks like, and how well it learned that."""

import math
from pathlib import Path
from typing import Any

import torch

from gfn_design.data.library import LibraryData
from gfn_design.evaluation.evaluate import estimated_log_probability, log_probability_of
from gfn_design.runs.run import open_run

TESTED = 512  # objects held out, of which the likelihood is found


def pretraining(config: dict[str, Any], file: Path, most: int | None) -> dict[str, Any]:
    """A configuration of a run that learns from a library.

    Args:
        config: Of a run, whose environment and networks it has.
        file: The library.
        most: So many of its objects are taken.
    """
    model = {k: v for k, v in config.get("model", {}).items() if k not in ("fine_tune", "backward")}
    model["objective"] = {"class_path": "MaximumLikelihood"}
    library = {"file": str(file)} | ({} if most is None else {"most": most})
    return {
        **{k: v for k, v in config.items() if k not in ("model", "data")},
        "model": model,
        "data": {"class_path": "LibraryData", "init_args": library},
    }


def usual_model(file: Path, length: int, most: int | None, write: str) -> dict[str, Any]:
    """SELFIES or SMILES with the symbols of a library, read by a recurrent network."""
    from gfn_design.environments.molecules.selfies import symbols_of
    from gfn_design.environments.molecules.smiles import smiles_symbols_of

    mined = symbols_of if write == "selfies" else smiles_symbols_of
    return {
        "model": {
            "environment": {
                "class_path": write.capitalize(),
                "init_args": {"alphabet": mined(str(file), most), "max_length": length},
            },
            "networks": {"network": {"class_path": "GRU", "init_args": {"width": 256}}},
            "optimiser": {"lr": 2e-3},
        },
        "trainer": {"max_steps": 2000},
        "evaluate_every": 500,
    }


@torch.no_grad()
def held_out_likelihood(folder: Path) -> str:
    """A line on how likely a run finds what was held out."""
    module = open_run(folder).module
    data = module.data
    assert isinstance(data, LibraryData)
    some = data.kept_back(module.environment)[:TESTED].to(module.device)
    found, exactly = log_probability_of(module, some), "exactly"
    if found is None:
        found, exactly = estimated_log_probability(module, some), "estimated from ten histories"
    steps = module.engine.log_probabilities(module.policy, _walked(module, some)).alive.sum(1)
    per_step = float(-found.sum() / steps.sum())
    return (
        f"held out: {-float(found.mean()):.2f} nats for each object, {per_step:.3f} for each step "
        f"({math.exp(per_step):.1f} choices), {exactly}"
    )


def _walked(module: Any, objects: torch.Tensor) -> Any:
    from gfn_design.sampling.histories import sample_backward

    noise = torch.zeros(len(objects), module.environment.max_steps, device=module.device)
    return sample_backward(module.environment, module.policy, objects, noise)
