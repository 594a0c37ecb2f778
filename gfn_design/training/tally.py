"""What is counted while a module trains: batches, trajectories, rewards, distinct objects."""

import math
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from gfn_design.environments.base import Environment
from gfn_design.ranks import joined, together, world
from gfn_design.sampling.seen_objects import SeenObjects
from gfn_design.training.rewarding import check_rewards


class StepsTaken(NamedTuple):
    """What is left of several batches that were learned from at once.

    Attributes:
        objects: ``int64[batches, n, *state_shape]``.
        log_reward: ``float[batches, n]``.
        losses: Of the last batch, by name.
    """

    objects: Tensor
    log_reward: Tensor
    losses: dict[str, Tensor]


class Tally:
    """Counts what training does, and refuses rewards that nothing can be learned from.

    Args:
        environment: What is built.
        batch_size: Trajectories of a batch, on each device.

    Attributes:
        draws: Batches drawn so far, which key the randomness of the next.
        trajectories: Drawn so far on all devices: what methods are compared at.
        reward_calls: Objects and states that training has asked the reward of, likewise.
        asked: Of the reward in the latest batch, on this device.
        seen: The distinct objects so far.
        losses: Of the latest batch, as constants; None before there is one.
        log_reward: Of its objects.
    """

    def __init__(self, environment: Environment, batch_size: int) -> None:
        self.environment, self.batch_size = environment, batch_size
        self.draws = self.trajectories = self.reward_calls = self.asked = 0
        self.seen = SeenObjects(environment)
        self.losses: dict[str, Tensor] | None = None
        self.log_reward = torch.zeros(1)
        self._taken: StepsTaken | None = None
        self._unchecked: list[tuple[Tensor, Tensor]] = []  # objects and log R, on a GPU

    def check_rewards(self, objects: Tensor, log_reward: Tensor) -> None:
        """Refuse log-rewards that nothing can be learned from.

        Raises:
            InputError: One is NaN or infinite, or there is not one per object.
        """
        check_rewards(self.environment, objects, log_reward)

    def record_draw(self, objects: Tensor, log_reward: Tensor, asked: int) -> None:
        """Count a batch that was just drawn; on a GPU its rewards are looked at later.

        Args:
            objects: ``int64[batch, *state_shape]``, as they were drawn.
            log_reward: ``float[batch]``, of them, in nats.
            asked: How many objects and states the reward was asked of.
        """
        if objects.is_cuda:
            self._unchecked.append((objects.clone(), log_reward.clone()))
        else:
            together(lambda: self.check_rewards(objects, log_reward))
        self._count(objects, 1, asked)

    def record_losses(self, losses: dict[str, Tensor], log_reward: Tensor) -> None:
        """Note the losses of the latest batch, and the log-rewards they are of."""
        self.losses = {name: loss.detach() for name, loss in losses.items()}
        self.log_reward = log_reward

    def record_many(self, taken: StepsTaken) -> None:
        """Count batches that were learned from at once.

        Raises:
            InputError: A reward is NaN, infinite or not positive; nothing is counted then.
        """
        objects = taken.objects.flatten(0, 1)
        self.check_rewards(objects, taken.log_reward.flatten())
        self._count(objects, len(taken.objects), len(objects))
        self.record_losses(taken.losses, taken.log_reward[-1])
        self._taken = taken

    def pop_taken(self) -> StepsTaken | None:
        """Batches that were learned from at once, if they were the latest; only once."""
        taken, self._taken = self._taken, None
        return taken

    def _count(self, objects: Tensor, batches: int, asked: int) -> None:
        self.draws += batches
        self.trajectories += batches * self.batch_size * world()
        self.reward_calls += asked * world()
        self.asked = asked // batches
        self.seen.add(objects.clone())  # a compiled step may write the next ones there

    def flush(self) -> None:
        """Do what batches leave for when there is time: rows of the log, checkpoints, the end.

        Which objects are new is found out, and on a GPU whether the rewards are numbers: to look at
        every batch would be to wait for it.

        Raises:
            InputError: A reward is NaN, infinite or not positive.
        """
        if self._unchecked:  # and still unchecked if it is refused
            unchecked = [*map(torch.cat, zip(*self._unchecked, strict=True))]
            together(lambda: self.check_rewards(*unchecked))
            self._unchecked.clear()
        self.seen.update(joined)

    def calls(self) -> dict[str, float]:
        """What an evaluation is held against."""
        return {
            "trajectories": float(self.trajectories),
            "reward_calls": float(self.reward_calls),
        }

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint carries."""
        return {
            "found": self.seen.keys,
            "draws": self.draws,
            "trajectories": self.trajectories,
            "reward_calls": self.reward_calls,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.seen.keys, self.draws = cast(Tensor, state["found"]), int(state["draws"])
        self.trajectories = int(state["trajectories"])
        self.reward_calls = int(state["reward_calls"])


def are_numbers(losses: dict[str, Tensor]) -> bool:
    """Whether all losses are finite; waits for the device."""
    return math.isfinite(sum(float(loss.detach()) for loss in losses.values()))
