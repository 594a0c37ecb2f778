"""Ehrlich functions as a reward, and as an exact target where they are small."""

import numpy as np
import torch
from torch import Tensor, nn

from gfn_design.data.base import DataModule
from gfn_design.environments.base import Environment
from gfn_design.environments.sequences.ehrlich import EhrlichSequence
from gfn_design.errors import InputError
from gfn_design.rewards.automaton import RewardAutomaton
from gfn_design.rewards.ehrlich_automaton import followed
from gfn_design.rewards.reward import Reward


class EhrlichData(DataModule):
    """R(x) = max(worth, minimum)^exponent of the strings of an `EhrlichSequence`.

    A string is as wanted if its worth is 1, the optimum.

    Args:
        exponent: The inverse temperature beta; larger prefers the best strings more.
        minimum: Smaller worths count as this one, above 0: a string without any element of one
            motif is worth nothing.
    """

    def __init__(self, exponent: float = 8.0, minimum: float = 1e-3) -> None:
        super().__init__()
        if not 0 < minimum < 1:
            raise InputError(f"minimum must lie between 0 and 1, got {minimum}")
        self.exponent, self.minimum = exponent, minimum

    def make_reward(self, environment: Environment) -> Reward:
        return Reward(_Worth(_strings(environment)), self.exponent, 1.0, self.minimum)

    def automaton(self, environment: Environment) -> RewardAutomaton:
        strings = _strings(environment)
        following, present, lost = followed(strings)
        worth = strings.worth_of(torch.from_numpy(present)).prod(1)
        reward = Reward(nn.Identity(), self.exponent, 1.0, self.minimum)
        log_reward = reward.log_of(worth.float()).double().numpy(force=True)
        ends = np.zeros((strings.length + 1, len(following)), dtype=bool)
        ends[-1] = ~lost
        fits = np.ones((strings.length, following.shape[1]), dtype=bool)
        spends = np.zeros(fits.shape, dtype=np.int64)
        hits = (worth == 1).numpy(force=True)[None, None]
        return RewardAutomaton(
            following[None],
            log_reward[None],
            fits,
            ends,
            hits,
            ("the optimum",),
            spends,
            (0, 0),
            firm=(False,),
        )

    def as_wanted(self, environment: Environment, objects: Tensor) -> Tensor:
        return (_Worth(_strings(environment))(objects) == 1).cpu()

    def columns(self, environment: Environment, texts: list[str]) -> dict[str, list[str]]:
        """The worth of each string."""
        worth = _Worth(_strings(environment))(environment.encode(texts))
        return {"worth": [f"{x:.6g}" for x in worth.tolist()]}

    def measure(
        self, environment: Environment, objects: Tensor, probability: Tensor, wanted: Tensor | None
    ) -> dict[str, float]:
        """How often what is built, and what should be, is an optimum; and the mean worth."""
        worth = _Worth(_strings(environment))(objects).cpu().double()
        best = (worth == 1).double()
        found = {
            "hit_rate": float(best @ probability.cpu()),
            "mean_worth": float(worth @ probability.cpu()),
        }
        if wanted is not None:
            found["target_hit_rate"] = float(best @ wanted.cpu())
        return found


class _Worth(nn.Module):
    """The function, of states."""

    def __init__(self, strings: EhrlichSequence) -> None:
        super().__init__()
        self.worth = strings.worth  # not the environment itself, which is no part of a reward

    def forward(self, objects: Tensor) -> Tensor:
        return self.worth(objects).float()


def _strings(environment: Environment) -> EhrlichSequence:
    if not isinstance(environment, EhrlichSequence):
        raise InputError(
            f"EhrlichData is about strings of EhrlichSequence, got {environment.describe()}"
        )
    return environment
