"""Balance conditions: losses that vanish when the policy samples in proportion to the reward."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from gfn_design.objectives.base import Objective
from gfn_design.objectives.penalty import Shape, check_shape, penalty
from gfn_design.ranks import total
from gfn_design.sampling.log_probabilities import StepLogProbs


class Balance(Objective):
    """A condition that whole trajectories, or their steps, meet where sampling is right.

    Args:
        log_z: The first estimate of log Z, in nats; None finds it in the first batch.
        min_log_reward: Smaller log-rewards count as this one; None is 50 nats below log of the mean
            reward of the first batch.
        shape: What a residual costs: ``square``, ``huber``, ``linex`` or ``cosh``.
    """

    def __init__(
        self,
        log_z: float | None = None,
        min_log_reward: float | None = None,
        shape: Shape = "square",
    ) -> None:
        super().__init__(log_z, min_log_reward)
        self.shape = check_shape(shape)


class TrajectoryBalance(Balance):
    """log Z + log P_F(trajectory) = log R(x) + log P_B(trajectory | x) (Malkin et al. 2022).

    Arguments are those of `Balance`.
    """

    def forward(self, now: StepLogProbs, then: StepLogProbs) -> dict[str, Tensor]:
        residual = self.log_z + (now.log_pf - now.log_pb).sum(1) - now.log_reward
        return {"balance": penalty(residual, self.shape).mean()}


class LogVariance(Balance):
    """The variance of log R + log P_B - log P_F over a batch, zero at balance (Zhang et al. 2023).

    Needs no log Z; the estimate that is reported follows the mean, which gives the policies no
    gradient. Arguments are those of `Balance`; it is a difference from the mean that costs.
    """

    least_batch: ClassVar[int] = 2

    def forward(self, now: StepLogProbs, then: StepLogProbs) -> dict[str, Tensor]:
        estimate = now.log_reward + (now.log_pb - now.log_pf).sum(1)
        mean = total(estimate.sum()) / total(torch.tensor(float(len(estimate))).to(estimate))
        return {
            "balance": penalty(mean - estimate, self.shape).mean(),
            "log_z": (self.log_z - mean.detach()).square(),
        }


def step_flows(steps: StepLogProbs) -> Tensor:
    """log F of every state of a trajectory, log R after its last step: ``[batch, steps + 1]``."""
    following = torch.cat([steps.value[:, 1:], torch.zeros_like(steps.value[:, :1])], dim=1)
    reward = steps.log_reward[:, None]
    return torch.cat([steps.value[:, :1], torch.where(steps.stops, reward, following)], dim=1)


class DetailedBalance(Objective):
    """log F(s) + log P_F(s' | s) = log F(s') + log P_B(s | s') at every step (Bengio et al. 2023).

    F is a network, R(x) after the last step; log Z is log F of the source.

    Args:
        min_log_reward: Smaller log-rewards count as this one; None is 50 nats below log of the mean
            reward of the first batch.
        shape: What a residual costs: ``square``, ``huber``, ``linex`` or ``cosh``.
        log_z: Added to the network's log F, in nats; None finds what makes it end as the
            log-rewards of the first batch.
    """

    value_kind: ClassVar[Literal["critic", "flow", "edges"] | None] = "flow"

    def __init__(
        self,
        min_log_reward: float | None = None,
        shape: Shape = "square",
        log_z: float | None = None,
    ) -> None:
        super().__init__(log_z, min_log_reward)
        self.shape = check_shape(shape)

    def forward(self, now: StepLogProbs, then: StepLogProbs) -> dict[str, Tensor]:
        flow = step_flows(now)
        residual = flow[:, :-1] + now.log_pf - flow[:, 1:] - now.log_pb
        cost = penalty(residual.where(now.alive, 0), self.shape)
        return {"balance": cost.sum(1).mean()}


class ModifiedDetailedBalance(Balance):
    """Detailed balance without F, where one may stop in every state (Deleu et al. 2022).

    R(s) P_F(s' | s) P_F(stop | s') = R(s') P_B(s | s') P_F(stop | s). The reward is asked once for
    every state of a trajectory. log Z is not learned: that of a state is log R - log P_F(stop), and
    what is reported follows its mean at the source. Arguments are those of `Balance`.
    """

    needs_policy: ClassVar[bool] = True
    scores_states: ClassVar[bool] = True

    def forward(self, now: StepLogProbs, then: StepLogProbs) -> dict[str, Tensor]:
        assert now.log_policy is not None
        assert now.log_reward_at is not None
        # The flow through a state is what stops there, over the share that does.
        flow = now.log_reward_at - now.log_policy[..., -1]
        moves = now.alive & ~now.stops
        following = torch.cat([flow[:, 1:], flow[:, -1:]], dim=1)
        residual = (flow + now.log_pf - following - now.log_pb).where(moves, 0)
        return {
            "balance": penalty(residual, self.shape).sum(1).mean(),
            "log_z": (self.log_z - flow[:, 0].mean().detach()).square(),
        }
