"""Can it be reached at all? What share of all objects is as wanted, before anything is trained."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from gfn_design.config import build_section
from gfn_design.config.check import Object
from gfn_design.config.root import ROOT
from gfn_design.data.base import DataModule
from gfn_design.environments.base import Environment
from gfn_design.errors import InputError
from gfn_design.evaluation.transfer import TransferTarget

EXPONENTS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # times the one that is configured


def feasible(config: Mapping[str, Any]) -> Iterator[str]:
    """Lines on what is wanted of what can be built; see `TransferTarget`.

    Args:
        config: Of a run; it is not trained.

    Raises:
        InputError: Nothing is as wanted, or the reward is none that an automaton can follow.
    """
    section = config["model"]["environment"]
    environment = build_section(section, Object("Environment"), "model.environment")
    data = build_section(config["data"], ROOT["data"], "data")
    yield from _of(environment, data)


def _of(environment: Environment, data: DataModule) -> Iterator[str]:
    data.prepare_data()
    data.ready(environment, torch.device("cpu"))
    automaton = data.automaton(environment)
    if automaton is None:
        raise InputError(
            f"whether {type(data).__name__} can be met is known of SequenceData with tables and "
            "motifs alone, of a Sequence; not of Edits, functions, programs, GC and length"
        )
    yield from data.remarks()
    target = TransferTarget(automaton)
    yield f"objects: {_power(target.log_size)}"
    for name, hit in zip(automaton.terms, automaton.hits, strict=True):
        yield f"as wanted by {name}: {target.share_of_objects(hit):.3g} of them"
    target.check()
    hits = automaton.all_hit
    share = target.share_of_objects(hits)
    yield f"as wanted by all: {share:.3g}, that is {_power(math.log(share) + target.log_size)}"
    yield "how often the exact target is as wanted, by exponent:"
    exponent = float(getattr(data, "exponent", 1.0))
    for factor in EXPONENTS:
        tried = automaton._replace(log_reward=automaton.log_reward * factor)
        rate = TransferTarget(tried).share(hits)
        here = "  (as configured)" if factor == 1 else ""
        yield f"  exponent {exponent * factor:g}: {rate:.3g}{here}"


def _power(log_number: float) -> str:
    """A number of which the natural logarithm is known."""
    if log_number < math.log(1e7):
        return f"{math.exp(log_number):,.0f}"
    return f"10^{log_number / np.log(10):.1f}"
