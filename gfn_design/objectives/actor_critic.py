"""Policy gradients: flow balance as a reinforcement-learning problem (Niu et al. 2024)."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from gfn_design.errors import InputError
from gfn_design.objectives.balance import step_flows
from gfn_design.objectives.base import Objective
from gfn_design.objectives.sub_trajectories import check_weighting, sub_loss
from gfn_design.ranks import total
from gfn_design.sampling.log_probabilities import StepLogProbs


def lambda_sum(x: Tensor, decay: float) -> Tensor:
    """y[:, t] = sum over k >= t of decay^(k - t) x[:, k], for ``x[batch, steps]``."""
    if decay == 1:
        return x.flip(1).cumsum(1).flip(1)
    ahead = torch.arange(x.shape[1], device=x.device)
    ahead = ahead[:, None] - ahead  # k - t in row k, column t
    powers = torch.where(ahead >= 0, decay ** ahead.clamp(min=0).to(x.dtype), 0.0)
    with torch.autocast(x.device.type, enabled=False):  # costs of ten need more than eight bits
        return x @ powers


def check_lambdas(policy_lambda: float, critic_lambda: float) -> None:
    """Refuse decays that are not from 0 to 1."""
    if not (0 <= policy_lambda <= 1 and 0 <= critic_lambda <= 1):
        given = f"{policy_lambda} and {critic_lambda}"
        raise InputError(f"policy_lambda and critic_lambda must be from 0 to 1, got {given}")


def temporal_difference(cost: Tensor, value: Tensor) -> Tensor:
    """cost[t] + value[t + 1] - value[t], the value after the last step being zero."""
    following = torch.cat([value[:, 1:], torch.zeros_like(value[:, :1])], dim=1)
    return cost + following - value


def step_costs(steps: StepLogProbs, log_z: Tensor) -> Tensor:
    """log P_F - log P_B of each step, less log R - log Z at the last: ``[batch, steps]``.

    Their expected sum is KL(P_F || P_B R / Z) + log Z_estimate - log Z (Niu et al. 2024, eq. 6).
    """
    gain = (steps.log_reward - log_z)[:, None]
    return steps.log_pf - steps.log_pb - torch.where(steps.stops, gain, 0.0)


class ActorCritic(Objective):
    """RL-U of the paper: policy gradient of the expected costs, with a learned critic.

    The critic learns the expected cost to the end of the trajectory; the policy descends the
    advantage of its actions over it; log Z descends the mean cost of a trajectory.

    Args:
        policy_lambda: Decay of the temporal differences that make up an advantage; with 1 the
            gradient's expectation does not depend on the critic, smaller is steadier once the
            critic is right. The mean taken off a batch's advantages is of that same batch, which
            biases the gradient by a share of about 1 / batch size, with 1 too.
        critic_lambda: The same for the critic's targets; 1 takes the costs as they came.
        log_z: The first estimate of log Z, in nats; None finds it in the first batch.
        min_log_reward: Smaller log-rewards count as this one; None is 50 nats below log of the mean
            reward of the first batch.
        critic_loss: ``returns`` fits the critic to its targets; ``sub_balance`` to the balance of
            all sub-trajectories (Sub-EB, Niu et al. 2026), those of k steps counting
            critic_lambda^(k - 1), for which 0.9 is usual.
    """

    on_policy: ClassVar[bool] = True
    value_kind: ClassVar[Literal["critic", "flow", "edges"] | None] = "critic"
    trains_backward: ClassVar[bool] = False

    def __init__(
        self,
        policy_lambda: float = 0.99,
        critic_lambda: float = 1.0,
        log_z: float | None = None,
        min_log_reward: float | None = None,
        critic_loss: Literal["returns", "sub_balance"] = "returns",
    ) -> None:
        super().__init__(log_z, min_log_reward)
        check_lambdas(policy_lambda, critic_lambda)
        if critic_loss not in ("returns", "sub_balance"):
            raise InputError(f"critic_loss must be returns or sub_balance, got '{critic_loss}'")
        if critic_loss == "sub_balance":
            check_weighting("geometric_within", critic_lambda)
        self.policy_lambda, self.critic_lambda = policy_lambda, critic_lambda
        self.critic_loss = critic_loss

    def advantages(self, then: StepLogProbs) -> tuple[Tensor, Tensor, Tensor]:
        """Advantages less their mean, targets of the critic, and the mean cost of a trajectory."""
        cost = step_costs(then, self.log_z.detach())
        difference = temporal_difference(cost, then.value)
        advantage = lambda_sum(difference, self.policy_lambda)
        # Zero in padding: a mean, over the batches of all ranks.
        advantage = advantage - total(advantage.sum()) / total(then.alive.sum())
        target = then.value + lambda_sum(difference, self.critic_lambda)
        return advantage.where(then.alive, 0), target, cost.sum(1).mean()

    def surrogate(self, now: StepLogProbs, then: StepLogProbs, advantage: Tensor) -> Tensor:
        """The loss of the forward policy."""
        return (advantage * now.log_pf).sum(1).mean()

    def critic(self, now: StepLogProbs, then: StepLogProbs, target: Tensor) -> Tensor:
        """The loss of the critic."""
        if self.critic_loss == "returns":
            return ((target - now.value).square() * then.alive).sum(1).mean()
        # Minus the value is the log flow, over Z, that would balance the present policies.
        share = then.log_reward - self.log_z.detach()
        balanced = then._replace(value=-now.value, log_reward=share)
        flow = step_flows(balanced)
        return sub_loss(flow, balanced, "geometric_within", self.critic_lambda)

    def forward(self, now: StepLogProbs, then: StepLogProbs) -> dict[str, Tensor]:
        advantage, target, cost = self.advantages(then)
        return {
            "policy": self.surrogate(now, then, advantage),
            "critic": self.critic(now, then, target),
            "log_z": self.log_z * cost,
        }
