"""How policies learn: the contract of an objective."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from gfn_design.sampling.trajectories import Scored


class Objective(nn.Module):
    """Named losses of a batch of trajectories; their sum is minimised.

    An objective sees log-probabilities and values, never an environment. It owns what is no
    function of a state: the estimate of log Z. A new objective overrides `forward` and sets the
    class attributes.

    Args:
        log_z: The first estimate of log Z, in nats.
        min_log_reward: Smaller log-rewards count as this one in the losses (never in the target
            of an evaluation); -12 in the paper's code, -inf switches it off.

    Attributes:
        on_policy: The trajectories must come from the policy being trained.
        needs_critic: A critic must be built; its values arrive as ``Scored.value``.
        trains_backward: A learned backward policy gets its gradient from these losses.
    """

    on_policy: ClassVar[bool] = False
    needs_critic: ClassVar[bool] = False
    trains_backward: ClassVar[bool] = True

    def __init__(self, log_z: float = 0.0, min_log_reward: float = -12.0) -> None:
        super().__init__()
        self.log_z = nn.Parameter(torch.tensor(float(log_z)))
        self.min_log_reward = min_log_reward

    def forward(self, now: Scored, then: Scored) -> dict[str, Tensor]:
        """The losses of trajectories.

        Args:
            now: Scored by the present policy, with gradients.
            then: Scored by the policy that drew them, without.
        """
        raise NotImplementedError
