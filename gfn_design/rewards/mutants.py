"""What a mutant is worth, by those measured: a sum over its changes, bent at both ends."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gfn_design.errors import InputError
from gfn_design.rewards.mutant_tables import Mutants
from gfn_design.rewards.sequence_score import Summed

RIDGE = 0.03  # of the squares of effects, beside the sum of squared errors
HELD_OUT = 10  # one in so many is set aside, to see how well the others predict it
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

    Least squares with a ridge, by L-BFGS from zero, so that the same table gives the same model.
    What was never measured has the mean effect at its place, and if nothing was measured there,
    the mean of all: nothing is good for not being known.

    Args:
        mutants: What was measured.
        wild_type: Its letters, ``int64[longest]``.
        n_letters: Of the alphabet.

    Raises:
        InputError: There are too few.
    """
    n, longest = len(mutants.values), len(wild_type)
    if n < LEAST:
        raise InputError(f"{n} mutants are too few to learn from, expected {LEAST} at least")
    nothing = longest * n_letters
    codes = torch.from_numpy(mutants.places * n_letters + mutants.letters)
    codes = codes.masked_fill(torch.from_numpy(mutants.places < 0), nothing)
    values = torch.from_numpy(mutants.values)
    order = torch.from_numpy(np.random.default_rng(0).permutation(n))
    test, train = order[: n // HELD_OUT], order[n // HELD_OUT :]
    effects = torch.zeros(nothing, dtype=torch.float64, requires_grad=True)
    ends = torch.quantile(values[train], torch.tensor([0.02, 0.98], dtype=torch.float64))
    curve = torch.cat([torch.tensor([2.0], dtype=torch.float64), ends]).requires_grad_()

    def predicted(codes: Tensor) -> Tensor:
        every = torch.cat([effects, effects.new_zeros(1)])
        start, low, high = curve
        return low + (high - low) * (start + every[codes].sum(1)).sigmoid()

    def closure() -> Tensor:
        optimizer.zero_grad()
        error = (predicted(codes[train]) - values[train]).square().sum()
        loss = (error + RIDGE * effects.square().sum()) / len(train)
        torch.autograd.backward(loss)
        return loss

    optimizer = torch.optim.LBFGS([effects, curve], max_iter=STEPS, line_search_fn="strong_wolfe")
    with torch.enable_grad():
        optimizer.step(closure)
    with torch.no_grad():
        error = (predicted(codes[test]) - values[test]).square().mean()
        explained = 1 - float(error / values[test].var(correction=0))
    seen = torch.zeros(nothing, dtype=torch.bool)
    seen[codes[train][codes[train] < nothing]] = True
    seen = seen.view(longest, n_letters)
    table = effects.detach().view(longest, n_letters).masked_fill(~seen, torch.nan)
    of_place = table.nanmean(1, keepdim=True).nan_to_num(float(table.nanmean()))
    table = table.where(seen, of_place)
    table[torch.arange(longest), wild_type] = 0
    start, low, high = curve.tolist()
    return Bent(table, seen, start, low, high, explained)


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
