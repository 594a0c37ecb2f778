"""Balance conditions: losses that vanish when the policy samples in proportion to the reward."""

from torch import Tensor

from gfn_design.objectives.base import Objective
from gfn_design.sampling.trajectories import Scored


class TrajectoryBalance(Objective):
    """log Z + log P_F(trajectory) = log R(x) + log P_B(trajectory | x) (Malkin et al. 2022).

    Args:
        log_z: The first estimate of log Z, in nats.
        min_log_reward: Smaller log-rewards count as this one.
    """

    def forward(self, now: Scored, then: Scored) -> dict[str, Tensor]:
        log_reward = now.log_reward.clamp(min=self.min_log_reward)
        residual = self.log_z + (now.log_pf - now.log_pb).sum(1) - log_reward
        return {"balance": residual.square().mean()}
