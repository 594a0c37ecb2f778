"""What is wanted: the data's reward, as it is given and as it is learned from, and its target."""

import logging

import torch
from torch import Tensor

from gfn_design.data.base import DataModule
from gfn_design.environments.base import Environment
from gfn_design.environments.sequences.words import TooManyStatesError
from gfn_design.evaluation.exact import Target, target_distribution
from gfn_design.evaluation.transfer import TransferTarget
from gfn_design.objectives.base import Objective
from gfn_design.policies.policy import Policy
from gfn_design.training.log_z import log_z_of
from gfn_design.training.rewarding import LearnedReward, score_objects

_log = logging.getLogger(__name__)


class Task:
    """The reward of a module, which belongs to a DataModule.

    Args:
        environment: What is built.
        policy: That learns it, and may have a prior.
        objective: Knows floor and scale.
    """

    def __init__(self, environment: Environment, policy: Policy, objective: Objective) -> None:
        self.environment, self.policy, self.objective = environment, policy, objective
        self._data: DataModule | None = None
        self._target: Target | None = None
        self._modes: Tensor | None = None
        self._transfer: tuple[TransferTarget | None] | None = None  # once it was asked for
        self._learned: LearnedReward | None = None

    @property
    def data(self) -> DataModule:
        """Owns the reward."""
        if self._data is None:
            raise TypeError(
                "GFlowNet takes its reward from a gfn_design DataModule; call "
                "trainer.fit(model, datamodule=...), or model.use(...) without a Trainer"
            )
        return self._data

    @property
    def has_data(self) -> bool:
        """Whether there is a reward yet."""
        return self._data is not None

    def take(self, data: DataModule) -> None:
        """Another reward has another target and other modes."""
        self._data, self._target, self._modes, self._learned = data, None, None, None
        self._transfer = None

    def score_objects(self, objects: Tensor) -> tuple[Tensor, Tensor]:
        """The data's score of objects, and log R in nats: ``float[batch]`` each.

        Raises:
            InputError: A reward is NaN, infinite or not positive, or there is not one per object.
        """
        return score_objects(self.environment, self.data.reward_on(objects.device), objects)

    def learned_reward(self, device: torch.device) -> LearnedReward:
        """log R of finished states as it is learned from; see `LearnedReward`."""
        reward = self.data.reward_on(device)
        if self._learned is None or self._learned.reward is not reward:
            learned = LearnedReward(
                reward, self.environment, self.objective, self.log_states_per_object
            )
            self._learned = learned
        return self._learned

    def log_states_per_object(self, objects: Tensor) -> Tensor:
        """log of among how many states each object's reward is shared: ``float64[batch]``.

        A prior has its own share for each state already.
        """
        copies = self.environment.log_states_per_object(objects)
        return copies if self.policy.prior is None else torch.zeros_like(copies)

    @property
    def log_z(self) -> float:
        """The estimate of log Z, in nats."""
        learned = log_z_of(self.environment, self.policy, self.objective)
        return float(learned) + float(self.objective.log_scale)

    def target(self, limit: int) -> Target | None:
        """The exact target, where the environment has at most `limit` states."""
        n_states = self.environment.n_states
        if self._target is None and n_states is not None and n_states <= limit:

            def log_reward(objects: Tensor) -> Tensor:
                return self.score_objects(objects)[1]

            target = target_distribution(self.environment, log_reward, self.policy.prior)
            self._target = target.cpu()
        return self._target

    def transfer_target(self) -> TransferTarget | None:
        """The exact target beyond enumeration, where an automaton follows the reward."""
        if self._transfer is None and self.policy.prior is None:
            try:
                automaton = self.data.automaton(self.environment)
            except TooManyStatesError as error:
                _log.warning("the exact target is not known: %s", error)
                automaton = None
            target = None if automaton is None else TransferTarget(automaton)
            if target is not None:
                target.check()
            self._transfer = (target,)
        return None if self._transfer is None else self._transfer[0]

    def modes(self) -> Tensor | None:
        """The objects that the data counts as modes, ``int64[modes, *state_shape]``."""
        if self._modes is None:
            self._modes = self.data.modes(self.environment)
        return self._modes
