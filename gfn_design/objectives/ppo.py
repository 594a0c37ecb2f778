"""Several careful updates for each roll-out."""

from typing import ClassVar, Literal

from torch import Tensor

from gfn_design.errors import InputError
from gfn_design.objectives.actor_critic import ActorCritic
from gfn_design.sampling.log_probabilities import StepLogProbs

MAX_LOG_RATIO = 20.0  # log-ratios beyond it count as it


class ClippedPolicy(ActorCritic):
    """Proximal policy optimisation of the expected costs (Schulman et al. 2017).

    The cost of a step holds log P_F itself, so the divergence KL(new || old) of the actions joins
    the clipped surrogate with weight one: that is what a change of the policy adds to the costs
    (Niu et al. 2024, theorem 2). For a module with `updates` above 1.

    Args:
        clip: Ratios of probabilities count from 1 - clip to 1 + clip.
        policy_lambda: Decay of the temporal differences that make up an advantage, 0 to 1.
        critic_lambda: The same for the critic's targets; 1 takes the costs as they came.
        log_z: The first estimate of log Z, in nats; None finds it in the first batch.
        min_log_reward: Smaller log-rewards count as this one; None is 50 nats below log of the mean
            reward of the first batch.
        critic_loss: ``returns`` fits the critic to its targets; ``sub_balance`` to the balance of
            all sub-trajectories.
    """

    repeats: ClassVar[bool] = True
    needs_policy: ClassVar[bool] = True

    def __init__(
        self,
        clip: float = 0.2,
        policy_lambda: float = 0.99,
        critic_lambda: float = 1.0,
        log_z: float | None = None,
        min_log_reward: float | None = None,
        critic_loss: Literal["returns", "sub_balance"] = "returns",
    ) -> None:
        super().__init__(policy_lambda, critic_lambda, log_z, min_log_reward, critic_loss)
        if not 0 < clip < 1:
            raise InputError(f"clip must be between 0 and 1, got {clip}")
        self.clip = clip

    def surrogate(self, now: StepLogProbs, then: StepLogProbs, advantage: Tensor) -> Tensor:
        assert now.log_policy is not None
        assert then.log_policy is not None
        ratio = (now.log_pf - then.log_pf).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
        clipped = ratio.clamp(1 - self.clip, 1 + self.clip)
        worse = (ratio * advantage).maximum(clipped * advantage)  # of costs
        legal = then.log_policy > -float("inf")
        new = now.log_policy.where(legal, 0)
        change = (new.exp() * (new - then.log_policy.where(legal, 0))).where(legal, 0).sum(-1)
        return (worse + change.where(then.alive, 0)).sum(1).mean()
