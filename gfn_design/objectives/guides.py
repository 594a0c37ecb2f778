"""Guides of a backward policy: which ways to an object lead through what is rewarded."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from gfn_design.described import Described
from gfn_design.environments.base import Environment
from gfn_design.environments.walks import every_state_is_an_object
from gfn_design.errors import InputError
from gfn_design.sampling.log_probabilities import StepLogProbs
from gfn_design.sampling.trajectories import LogRewardFunction, Trajectories

MAX_LOG_REWARD = 600.0  # of log-rewards, so that their sum is neither zero nor infinite


class Guide(Described, nn.Module):
    """A law of the steps that lead to an object, towards which a backward policy is trained.

    Attributes:
        of_object: The probabilities of all ways to one object sum to one; otherwise those of all
            trajectories do.
        scores_states: `forward` asks the reward of every state.
    """

    of_object: ClassVar[bool] = False
    scores_states: ClassVar[bool] = False

    def prepare(self, environment: Environment) -> None:
        """Refuse an environment that cannot be guided; make tables for it."""

    def observe(self, environment: Environment, objects: Tensor, log_reward: Tensor) -> None:
        """Learn from the objects of a batch, ``int64[batch, *state_shape]``."""

    def forget(self) -> None:
        """There is another reward: what was observed counts no more."""

    def forward(
        self,
        environment: Environment,
        trajectories: Trajectories,
        said: StepLogProbs,
        reward: LogRewardFunction,
    ) -> Tensor:
        """log P_G of each step, ``[batch, steps]``; anything where nothing moves.

        Args:
            environment: What is built.
            trajectories: Drawn back from objects.
            said: What the policy says of them, with ``log_policy``.
            reward: log R of objects.
        """
        raise NotImplementedError


class StopGuide(Guide):
    """The forward policy, made to stop almost never where the reward is small (Niu et al. 2024).

    For environments all of whose states are objects, such as hypergrids and graphs.

    Args:
        threshold: Rewards up to this one are small; R0 on a hypergrid.
        floor: The largest probability of stopping there; the other actions share the rest in
            proportion.
    """

    scores_states: ClassVar[bool] = True

    def __init__(self, threshold: float = 0.01, floor: float = 1e-5) -> None:
        super().__init__()
        if not threshold > 0 or not 0 < floor < 1:
            given = f"threshold {threshold} and floor {floor}"
            raise InputError(f"threshold must be positive and floor between 0 and 1, got {given}")
        self.largest, self.floor = math.log(threshold) + 1e-6, floor

    def prepare(self, environment: Environment) -> None:
        if not every_state_is_an_object(environment):
            raise InputError(
                "StopGuide needs an environment all of whose states are objects, got "
                f"{environment.describe()}; use RewardGuide for sequences of one length"
            )
        if environment.several_states:
            raise InputError(
                "StopGuide compares the reward of states, and in "
                f"{environment.describe()} several share the reward of one object"
            )

    def forward(
        self,
        environment: Environment,
        trajectories: Trajectories,
        said: StepLogProbs,
        reward: LogRewardFunction,
    ) -> Tensor:
        assert said.log_policy is not None
        here = trajectories.states[:, :-1]
        small = reward(here.flatten(0, 1)).view(here.shape[:2]) <= self.largest
        moves, stop = said.log_policy[..., :-1].logsumexp(-1), said.log_policy[..., -1]
        less = small & (stop > math.log(self.floor)) & said.moves
        return said.log_pf + torch.where(less, math.log1p(-self.floor) - moves, 0)


class RewardGuide(Guide):
    """Steps in proportion to the mean reward of all objects so far that contain what they build.

    An object contains the states on its ways from the source: the parts of a string that are
    filled alike (any order), or its substrings (prepend-append). Of the steps that stay inside the
    object, each is as likely as the mean reward of the observed objects that contain its end (Shen
    et al. 2023; Niu et al. 2024, section 4.3). A table has two numbers for each state; on several
    devices all count what all have drawn.

    Args:
        most_states: Refuse environments with more states.
    """

    of_object: ClassVar[bool] = True

    rewards: Tensor
    counts: Tensor

    def __init__(self, most_states: int = 50_000_000) -> None:
        super().__init__()
        self.most_states = most_states

    def prepare(self, environment: Environment) -> None:
        n = environment.n_states
        if not environment.fixed_length or n is None or n > self.most_states:
            raise InputError(
                f"RewardGuide needs strings with at most {self.most_states:,} states, got "
                f"{environment.describe()}"
            )
        device = environment.device
        self.register_buffer("rewards", torch.zeros(n, dtype=torch.float64, device=device))
        self.register_buffer("counts", torch.zeros(n, dtype=torch.float64, device=device))

    def forget(self) -> None:
        self.rewards.zero_()
        self.counts.zero_()

    def observe(self, environment: Environment, objects: Tensor, log_reward: Tensor) -> None:
        owner, index = _contained(environment, objects)
        reward = log_reward.double().clamp(-MAX_LOG_REWARD, MAX_LOG_REWARD).exp()
        self.rewards.index_add_(0, index, reward[owner])
        self.counts.index_add_(0, index, torch.ones_like(index, dtype=torch.float64))

    def forward(
        self,
        environment: Environment,
        trajectories: Trajectories,
        said: StepLogProbs,
        reward: LogRewardFunction,
    ) -> Tensor:
        n = environment.n_states
        assert n is not None
        here = trajectories.states[:, :-1]
        batch, steps = here.shape[:2]
        flat = here.flatten(0, 1)
        row, action = environment.legal(flat)[:, : environment.n_moves].nonzero(as_tuple=True)
        child, _ = environment.step(flat[row], action)
        index = environment.state_index(child)
        owner, inside = _contained(environment, trajectories.objects)
        known = (owner * n + inside).sort().values
        key = (row // steps) * n + index
        found = known[torch.searchsorted(known, key).clamp(max=len(known) - 1)] == key
        mean = self.rewards[index] / self.counts[index].clamp(min=1) * found
        score = mean.new_zeros(len(flat), environment.n_moves).index_put((row, action), mean)
        taken = score.gather(1, trajectories.actions.reshape(-1, 1))[:, 0]
        total = score.sum(1)
        return (taken.log() - total.log()).float().view(batch, steps)


def _contained(environment: Environment, objects: Tensor) -> tuple[Tensor, Tensor]:
    """The states on all ways to each object, itself among them, each once.

    Returns:
        Which object, and the number of the state: ``int64[n]`` each.
    """
    n = environment.n_states
    assert n is not None
    owner, states = torch.arange(len(objects), device=objects.device), objects
    owners, indices = [owner], [environment.state_index(states)]
    for _ in range(environment.max_steps):
        row, undo = environment.legal_backward(states).nonzero(as_tuple=True)
        if not len(row):
            break
        before, _ = environment.backward_step(states[row], undo)
        keys, place = (owner[row] * n + environment.state_index(before)).unique(return_inverse=True)
        some = torch.empty_like(keys).scatter_(0, place, torch.arange(len(row), device=row.device))
        states, owner = before[some], keys // n
        owners.append(owner)
        indices.append(keys % n)
    return torch.cat(owners), torch.cat(indices)
