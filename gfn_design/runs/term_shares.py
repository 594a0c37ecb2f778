"""What of each wish is met, term by term, and by how far the best is off where nothing meets it."""

import math
import re
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from gfn_design.data.base import DataModule
from gfn_design.environments.base import Environment
from gfn_design.evaluation.by_chance import Chance
from gfn_design.rewards.desirability import limits
from gfn_design.rewards.proxy_values import Predictor


def by_term(drawn: Chance, environment: Environment, data: DataModule) -> Iterator[str]:
    """A line for each wish: which part of all meets it, or how far the best is from it.

    Args:
        drawn: Objects that stand for all, or are all.
        environment: What is built.
        data: That has the wishes.
    """
    values = data.term_values(environment, drawn.objects)
    if values is None:
        return
    for (title, want), column in zip(data.wishes(), values.cpu().unbind(1), strict=True):
        wish = f"{title} {want}"
        low, high = limits(want)
        met = (column >= low) & (column <= high)
        if met.any():
            yield f"  {wish}: {drawn.share(met)[0]:.3g} of them"
            continue
        best = _nearest(column[column.isfinite()], low, high)
        yield (
            f"  {wish}: none of the {len(column):,}; the nearest has {best:.4g}"
            f"{_of_measured(getattr(data, 'predictors', []), title, low, high)}"
        )


def _nearest(column: Tensor, low: float, high: float) -> float:
    """The value that is least far from a range."""
    if not len(column):
        return math.nan
    off = (low - column).clamp(min=0) + (column - high).clamp(min=0)
    return float(column[off.argmin()])


def _of_measured(predictors: Sequence[Predictor], title: str, low: float, high: float) -> str:
    """How many of the measured objects of a proxy are in a range, if the wish is about it."""
    for proxy, _, name, _ in predictors:
        if re.fullmatch(rf"{re.escape(name)}(_low|_high)?", title):
            about = proxy.about
            exact = np.array(about.limits) == 0
            values = np.array(about.values)[exact]
            inside = int(((values >= low) & (values <= high)).sum())
            return f"; {inside:,} of your own {len(values):,} do, measured"
    return ""


def near_run(objects: Tensor) -> Chance:
    """Objects that a run draws: each counts once."""
    return Chance(objects, torch.zeros(len(objects), dtype=torch.float64))
