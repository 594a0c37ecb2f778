"""Single steps of earlier batches, learned from again the more often the more wrong they are."""

from typing import Any

import torch
from torch import Tensor

from gfn_design.environments.base import Environment
from gfn_design.errors import InputError
from gfn_design.policies.policy import Policy
from gfn_design.sampling.replay import Replay
from gfn_design.sampling.trajectories import Trajectories

MIN_ERROR = 1e-6  # added to an error, so that every step may be drawn again


def steps_of(drawn: Trajectories) -> tuple[Trajectories, Tensor]:
    """Every step of some trajectories in a transition of two steps, and which of the two it is.

    A step needs the value of the state that it enters, which its next step leaves; the
    last step of a trajectory comes with the one before it, if there is one.

    Returns:
        The transitions, and ``int64[transitions]``, 0 or 1.
    """
    states, actions, backward_actions, alive, log_reward = drawn
    row, time = alive.nonzero(as_tuple=True)
    length, steps = alive.sum(1)[row, None], alive.shape[1]
    start = torch.minimum(time, (length[:, 0] - 2).clamp(min=0))
    at = start[:, None] + torch.arange(3 if steps > 1 else 2, device=row.device)
    row, real = row[:, None], at[:, :-1] < length
    edge = at[:, :-1].clamp(max=steps - 1)
    transitions = Trajectories(
        states[row, at.clamp(max=steps)],
        actions[row, edge].where(real, 0),
        backward_actions[row, edge].where(real, 0),
        real,
        log_reward[row[:, 0]],
    )
    return transitions, time - start


class PrioritizedReplay(Replay):
    """Keeps the latest steps, and learns from those alone (Schaul et al. 2016).

    So does Q-Much of the paper. Each update draws steps with probabilities in proportion to
    error^exponent, the error being that of the objective when the step was last drawn, and the
    largest ever if it is new. What that distorts is made good by weights, by degrees: (number of
    steps x probability)^-beta over the largest in the update, beta rising from 0 to 1.

    Args:
        size: Steps that each update learns from.
        capacity: Steps that are kept, the oldest dropped first.
        exponent: From 0, which draws from all alike.
        anneal: Updates over which beta rises.
    """

    def __init__(
        self,
        size: int = 256,
        capacity: int = 100_000,
        exponent: float = 0.5,
        anneal: int = 2000,
    ) -> None:
        super().__init__(size, capacity)
        if exponent < 0 or anneal < 1:
            raise InputError(
                f"exponent must not be negative and anneal at least 1, got {exponent} and {anneal}"
            )
        self.exponent, self.anneal = exponent, anneal
        self.transitions: list[Tensor] = []  # of `steps_of`, `capacity` rows each
        self.scale = torch.zeros(capacity, dtype=torch.float64)  # error^exponent
        self.count, self.updates, self.largest = 0, 0, 1.0
        self.rows = torch.zeros(0, dtype=torch.int64)  # drawn last

    def __len__(self) -> int:
        return min(self.count, self.capacity)

    def keep(self, drawn: Trajectories) -> None:
        transitions, which = steps_of(drawn)
        new = [x[-self.capacity :] for x in (*transitions, which)]
        self._room(new)
        place = self.count + torch.arange(len(new[0]), device=new[0].device)
        for kept, x in zip(self.transitions, new, strict=True):
            kept[place % self.capacity] = x
        self.scale[place % self.capacity] = self.largest**self.exponent
        self.count += len(place)

    def _room(self, like: list[Tensor]) -> None:
        if not self.transitions:
            self.transitions = [x.new_zeros(self.capacity, *x.shape[1:]) for x in like]

    def recall(
        self, environment: Environment, policy: Policy, which: Tensor, uniform: Tensor
    ) -> tuple[Trajectories, Tensor | None]:
        n, scale = len(self), self.scale[: len(self)]
        upper = scale.cumsum(0)
        rows = torch.searchsorted(upper, which.double() * upper[-1], right=True).clamp(max=n - 1)
        beta = min(1.0, self.updates / self.anneal)
        weight = (n * scale[rows] / upper[-1]) ** -beta
        self.rows, self.updates = rows, self.updates + 1
        *fields, step = (x[rows] for x in self.transitions)
        transitions = Trajectories(*fields)
        weights = torch.zeros_like(transitions.alive, dtype=torch.float32)
        weights[torch.arange(len(rows), device=rows.device), step] = (weight / weight.max()).to(
            weights
        )
        return transitions, weights

    def note_errors(self, errors: Tensor) -> None:
        """Take note of the errors, ``[size, 2]``, of the transitions drawn last."""
        step = self.transitions[-1][self.rows]
        error = errors.gather(1, step[:, None])[:, 0].abs() + MIN_ERROR
        self.scale[self.rows] = error.double() ** self.exponent
        self.largest = max(self.largest, float(error.max()))

    def forget(self) -> None:
        self.transitions, self.count, self.updates, self.largest = [], 0, 0, 1.0
        self.scale = torch.zeros_like(self.scale)

    def to(self, device: torch.device) -> None:
        self.transitions = [x.to(device) for x in self.transitions]
        self.scale, self.rows = self.scale.to(device), self.rows.to(device)

    def state_dict(self) -> dict[str, Any]:
        kept = [x[: len(self)].clone() for x in (*self.transitions, self.scale)]
        counts = {"count": self.count, "updates": self.updates, "largest": self.largest}
        return {"kept": kept, **counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        *transitions, scale = state["kept"]
        self._room(transitions)
        for kept, x in zip([*self.transitions, self.scale], [*transitions, scale], strict=True):
            kept[: len(x)] = x
        self.count, self.updates, self.largest = state["count"], state["updates"], state["largest"]
