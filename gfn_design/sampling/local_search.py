"""Better objects next to good ones: take a part of an object off, and build it anew."""

from functools import partial

import torch
from torch import Tensor

from gfn_design.described import Described
from gfn_design.environments.base import Environment
from gfn_design.errors import InputError
from gfn_design.policies.policy import Policy
from gfn_design.sampling.histories import sample_backward
from gfn_design.sampling.trajectories import (
    LogRewardFunction,
    Sampler,
    Trajectories,
    concatenate,
    sample,
)
from gfn_design.tensors import where_rows


class LocalSearch(Described):
    """Fills a batch with neighbours of its best objects (Kim et al. 2024).

    Of a batch of n, n / (rounds + 1) trajectories are drawn as ever. In each round every one of
    them is walked back by the backward policy for a share of its steps and built anew from there;
    it is replaced where the new object is better. All proposals, better or not, are learned from,
    so a batch has as many objects, and reward calls, as without.

    Args:
        rounds: Of proposals; the batch size must be a multiple of rounds + 1.
        share: Of the steps that is undone, above 0 and at most 1.
    """

    def __init__(self, rounds: int = 7, share: float = 0.25) -> None:
        if rounds < 1 or not 0 < share <= 1:
            raise InputError(
                f"rounds must be at least 1 and share above 0 and at most 1, got {rounds} and "
                f"{share}"
            )
        self.rounds, self.share = rounds, share

    def check(self, environment: Environment, batch_size: int) -> None:
        """Refuse what cannot be searched."""
        if not environment.fixed_length:
            raise InputError(
                f"local search needs objects with equally many steps, got {environment.describe()}"
            )
        if batch_size % (self.rounds + 1):
            raise InputError(
                f"batches.size must be a multiple of {self.rounds + 1}, the rounds of the local "
                f"search and one, got {batch_size}"
            )

    @torch.no_grad()
    def fill(
        self,
        environment: Environment,
        policy: Policy,
        sampler: Sampler,
        reward: LogRewardFunction,
        first: Trajectories,
        uniform: Tensor,
    ) -> Trajectories:
        """The first trajectories and all proposals, with their log-rewards.

        Args:
            environment: What is built.
            policy: Its backward policy takes apart.
            sampler: Builds anew.
            reward: log R of objects.
            first: Drawn already, with log-rewards.
            uniform: The randomness, ``float[rounds * 2 * n, max_steps]`` in [0, 1).
        """
        steps = environment.max_steps
        kept = steps - max(1, round(self.share * steps))
        best, everything = first, first
        for noise in uniform.view(self.rounds, 2, len(first.actions), steps):
            old = sample_backward(environment, policy, best.objects, noise[0])
            rest = sample(environment, sampler, noise[1, :, kept:], old.states[:, kept])
            new = Trajectories(
                torch.cat([old.states[:, :kept], rest.states], 1),
                torch.cat([old.actions[:, :kept], rest.actions], 1),
                torch.cat([old.backward_actions[:, :kept], rest.backward_actions], 1),
                old.alive,
                reward(rest.objects),
            )
            everything = concatenate(everything, new)
            better = new.log_reward > best.log_reward
            best = Trajectories(*map(partial(where_rows, better), new, best))
        return everything
