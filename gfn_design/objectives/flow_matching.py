"""Flows of edges that match in every state."""

from math import log
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gfn_design.errors import InputError
from gfn_design.objectives.base import Objective
from gfn_design.objectives.penalty import Shape, check_shape, penalty
from gfn_design.ranks import total, world
from gfn_design.sampling.log_probabilities import StepLogProbs


class FlowMatching(Objective):
    """What flows into a state flows out of it (Bengio et al. 2021).

    The forward policy's logits are the log flows of its actions. All parents of every visited state
    are evaluated, which costs as many times more as there are backward actions. What flows out of
    an object by its last step is its reward.

    Args:
        smallest: Flows, over that of e^log_z, are compared after adding it.
        min_log_reward: Smaller log-rewards count as this one; None is 50 nats below log of the mean
            reward of the first batch.
        shape: What a residual costs: ``square``, ``huber``, ``linex`` or ``cosh``.
        log_z: Added to the network's log F, in nats; None finds what makes it end as the
            log-rewards of the first batch.
    """

    value_kind: ClassVar[Literal["critic", "flow", "edges"] | None] = "edges"
    trains_backward: ClassVar[bool] = False

    def __init__(
        self,
        smallest: float = 1e-6,
        min_log_reward: float | None = None,
        shape: Shape = "square",
        log_z: float | None = None,
    ) -> None:
        super().__init__(log_z, min_log_reward)
        if not smallest > 0:
            raise InputError(f"smallest must be positive, got {smallest}")
        self.log_smallest, self.shape = log(smallest), check_shape(shape)

    def forward(self, now: StepLogProbs, then: StepLogProbs) -> dict[str, Tensor]:
        assert now.edges is not None
        taken, into, out = now.edges
        reward = now.log_reward[:, None].expand_as(taken)
        out = torch.where(now.stops, reward, out)  # counts where the last step moves
        floor = torch.full_like(into, self.log_smallest)
        residual = torch.logaddexp(into, floor) - torch.logaddexp(out, floor)
        matched = penalty(residual.where(now.moves, 0), self.shape).sum()
        last = now.stops & ~now.moves
        stopped = penalty((taken - reward).where(last, 0), self.shape).sum()
        # The mean number over the ranks, whose gradients are averaged.
        return {
            "flow": matched / (total(now.moves.sum()).clamp(min=1) / world()),
            "reward": stopped / (total(last.sum()).clamp(min=1) / world()),
        }
