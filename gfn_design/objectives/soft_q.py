"""Soft Q-learning: balance of each step against a slowly moving copy of the networks."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from gfn_design.errors import InputError
from gfn_design.objectives.balance import step_flows
from gfn_design.objectives.base import Objective
from gfn_design.sampling.log_probabilities import StepLogProbs


class SoftQ(Objective):
    """Munchausen soft Q-learning with a dueling network (Tiapkin et al. 2024; Q-Much of the paper).

    A step earns log P_B, the last one log R more. Q(s, a) = V(s) + kappa log P_F(a | s), V being
    the value network and kappa = 1 / (1 - munchausen), regresses on log P_B + V'(s') + munchausen *
    max(kappa log P_F'(a | s), lowest), where ' means the slow copy; V of the source is log Z.

    Args:
        munchausen: Weight of the policy's own log-probability in the reward, from 0, which is the
            soft DQN, to below 1.
        lowest: Smaller log-probabilities count as this one, in nats.
        rate: How far the slow copy goes towards the networks at each update, from above 0 to 1.
        min_log_reward: Smaller log-rewards count as this one; None is 50 nats below log of the mean
            reward of the first batch.
        log_z: Added to the network's V, in nats; None finds what makes it end as the log-rewards
            of the first batch.
    """

    value_kind: ClassVar[Literal["critic", "flow", "edges"] | None] = "flow"
    trains_backward: ClassVar[bool] = False
    single_steps: ClassVar[bool] = True

    def __init__(
        self,
        munchausen: float = 0.15,
        lowest: float = -100.0,
        rate: float = 0.25,
        min_log_reward: float | None = None,
        log_z: float | None = None,
    ) -> None:
        super().__init__(log_z, min_log_reward)
        if not 0 <= munchausen < 1 or not lowest < 0:
            given = f"{munchausen} and {lowest}"
            raise InputError(
                f"munchausen must be from 0 to below 1 and lowest negative, got {given}"
            )
        if not 0 < rate <= 1:
            raise InputError(f"rate must be above 0 and at most 1, got {rate}")
        self.munchausen, self.lowest, self.copy_rate = munchausen, lowest, rate

    def forward(self, now: StepLogProbs, then: StepLogProbs) -> dict[str, Tensor]:
        kappa = 1 / (1 - self.munchausen)
        bonus = (kappa * then.log_pf).clamp(min=self.lowest)
        following = step_flows(then)[:, 1:]  # log R after the last step
        target = then.log_pb + following + self.munchausen * bonus
        error = (now.value + kappa * now.log_pf - target).where(now.alive, 0)
        self.errors = error.detach()
        loss = F.huber_loss(error, torch.zeros_like(error), reduction="none")
        if now.weight is not None:
            loss = loss * now.weight
        return {"q": loss.sum(1).mean()}
