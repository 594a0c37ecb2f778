"""What a mutant is worth, by those measured: a sum over its changes, bent at both ends."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gfn_design.errors import InputError
from gfn_design.rewards.mutant_tables import Mutants
from gfn_design.rewards.sequence_score import Summed

RIDGES = (0.03, 0.3, 3.0)  # of the squares of effects, beside squared errors in units of variance
MANY = 5000  # mutants, of which the least ridge is enough,
HELD_OUT = 10  # and one in so many is set aside, to see how well the others predict it;
FOLDS = 5  # of fewer each is, once
FIRM = 1e-2  # how much the ends of the curve are held near those of the values
STEPS = 150
UNIT = 1 / 24  # of the sum: what an effect is rounded to, so that an automaton can follow it
DEEPEST = -8.0  # an effect that is worse is as bad
LEAST = 20  # mutants


class Bent(NamedTuple):
    """A model of mutants: low + (high - low) sigmoid(start + sum of effects).

    Attributes:
        effects: ``float64[longest, letters]``, of each substitution; 0 for the wild type's letter.
        seen: ``bool[longest, letters]``, those that were measured.
        start: Of the wild type.
        low: Of the worst.
        high: Of the best.
        explained: R2 of mutants that were set aside.
    """

    effects: Tensor
    seen: Tensor
    start: float
    low: float
    high: float
    explained: float


def fit_mutants(mutants: Mutants, wild_type: Tensor, n_letters: int) -> Bent:
    """Fit effects that add up, and a curve that bends the sum (Otwinowski et al. 2018).

    Least squares with a ridge, by L-BFGS from zero, so that the same table gives the same model; of
    fewer than 5,000 mutants with the ridge that is best in five-fold cross-validation, of more a
    tenth is set aside, to say how well it is predicted. What was never measured has the mean effect
    at its place, and if nothing was measured there, the mean of all: nothing is good for not being
    known.

    Args:
        mutants: What was measured.
        wild_type: Its letters, ``int64[longest]``.
        n_letters: Of the alphabet.

    Raises:
        InputError: There are too few, or they predict nothing of those set aside.
    """
    n, longest = len(mutants.values), len(wild_type)
    if n < LEAST:
        raise InputError(f"{n} mutants are too few to learn from, expected {LEAST} at least")
    nothing = longest * n_letters
    codes = torch.from_numpy(mutants.places * n_letters + mutants.letters)
    codes = codes.masked_fill(torch.from_numpy(mutants.places < 0), nothing)
    values = torch.from_numpy(mutants.values)
    order = torch.from_numpy(np.random.default_rng(0).permutation(n))
    ridges, folds = (RIDGES, FOLDS) if n < MANY else (RIDGES[:1], 1)
    size = n // (FOLDS if n < MANY else HELD_OUT)
    explained = []
    for ridge in ridges:
        errors, spread = [], []
        for fold in range(folds):
            test = order[fold * size : (fold + 1) * size]
            train = torch.cat([order[: fold * size], order[(fold + 1) * size :]])
            model = _fitted(codes[train], values[train], nothing, ridge)
            errors.append((_bent(codes[test], *model) - values[test]).square().sum())
            spread.append((values[test] - values[train].mean()).square().sum())
        explained.append(1 - float(sum(errors) / sum(spread)))
    best = int(np.argmax(explained))
    if explained[best] <= 0:
        raise InputError(
            f"a model of {n:,} mutants predicts those set aside no better than their mean does; "
            "measure more of them, or others"
        )
    if n < MANY:  # what was set aside is learned from in the end
        model, train = _fitted(codes, values, nothing, ridges[best]), order
    effects, curve = model
    seen = torch.zeros(nothing, dtype=torch.bool)
    seen[codes[train][codes[train] < nothing]] = True
    seen = seen.view(longest, n_letters)
    table = effects.view(longest, n_letters).masked_fill(~seen, torch.nan)
    of_place = table.nanmean(1, keepdim=True).nan_to_num(float(table.nanmean()))
    table = table.where(seen, of_place)
    table[torch.arange(longest), wild_type] = 0
    start, low, high = curve.tolist()
    return Bent(table, seen, start, low, high, explained[best])


def _bent(codes: Tensor, effects: Tensor, curve: Tensor) -> Tensor:
    """What a model says of mutants ``int64[n, most]``, whose last code changes nothing."""
    every = torch.cat([effects, effects.new_zeros(1)])
    start, low, high = curve
    return low + (high - low) * (start + every[codes].sum(1)).sigmoid()


def _fitted(codes: Tensor, values: Tensor, n_codes: int, ridge: float) -> tuple[Tensor, Tensor]:
    """Effects ``float64[codes]``, and where the curve starts, and its ends."""
    effects = torch.zeros(n_codes, dtype=torch.float64, requires_grad=True)
    ends = torch.quantile(values, torch.tensor([0.02, 0.98], dtype=torch.float64))
    curve = torch.cat([torch.tensor([2.0], dtype=torch.float64), ends]).requires_grad_()
    variance = values.var(correction=0).clamp(min=1e-12)

    def closure() -> Tensor:
        optimizer.zero_grad()
        error = (_bent(codes, effects, curve) - values).square().sum() / variance
        held = FIRM * len(values) * (curve[1:] - ends).square().sum() / variance
        loss = (error + held + ridge * effects.square().sum()) / len(values)
        torch.autograd.backward(loss)
        return loss

    optimizer = torch.optim.LBFGS([effects, curve], max_iter=STEPS, line_search_fn="strong_wolfe")
    with torch.enable_grad():
        optimizer.step(closure)
    return effects.detach(), curve.detach()


class MutantValue(Summed):
    """What a model says of mutants: ``float64[batch]``, in the units of what was measured.

    Args:
        model: Whose effects are rounded to a 24th.
    """

    def __init__(self, model: Bent) -> None:
        units = (model.effects.clamp(min=DEEPEST) / UNIT).round().long()
        super().__init__(units, min(model.low, model.high), max(model.low, model.high))
        self.model = model

    def of_sums(self, total: Tensor, length: Tensor) -> Tensor:
        model = self.model
        bent = (model.start + total.double() * UNIT).sigmoid()
        return model.low + (model.high - model.low) * bent
