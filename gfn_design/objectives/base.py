"""How policies learn: the contract of an objective."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from gfn_design.guides import Guide
from gfn_design.sampling.trajectories import Scored, Trajectories


class Objective(nn.Module):
    """Named losses of a batch of trajectories; their sum is minimised.

    An objective sees log-probabilities and values, never an environment. It owns what is no
    function of a state: the estimate of log Z. A new objective overrides `forward` and sets the
    class attributes.

    Args:
        log_z: The first estimate of log Z, in nats. Where the head is ``flow`` or ``edges``,
            log Z is that of the source, and no parameter.
        min_log_reward: Smaller log-rewards count as this one in the losses (never in the target
            of an evaluation); -12 in the paper's code, -inf switches it off.

    Attributes:
        on_policy: The trajectories must come from the policy being trained.
        head: What ``Scored.value`` holds, for which a network is built: a ``critic``'s expected
            cost to the end, or the log ``flow`` through a state; None needs neither. ``edges``
            needs neither, and reads the forward policy's logits as log flows in ``Scored.edges``.
        repeats: Though on-policy, made for several updates with a batch.
        copy_rate: If a number, ``then`` is scored by a copy of the networks that goes so far
            towards them at each update, instead of by the policy that drew the trajectories.
        trains_backward: A learned backward policy gets its gradient from these losses.
        needs_policy: ``Scored.log_policy`` must hold the log-probabilities of all actions.
        scores_states: ``Scored.log_reward_at`` must hold the log-reward of every state, which
            every state of the environment must have.
        single_steps: May learn from steps without their trajectories, as of a `PrioritizedReplay`:
            counts each by ``Scored.weight``, and leaves what each is wrong by in `errors`.
        errors: ``[batch, steps]``, of the latest losses.
    """

    on_policy: ClassVar[bool] = False
    repeats: ClassVar[bool] = False
    copy_rate: float | None = None
    head: ClassVar[Literal["critic", "flow", "edges"] | None] = None
    trains_backward: ClassVar[bool] = True
    needs_policy: ClassVar[bool] = False
    scores_states: ClassVar[bool] = False
    single_steps: ClassVar[bool] = False
    errors: Tensor

    log_z: nn.Parameter
    min_log_reward: float

    def __init__(self, log_z: float = 0.0, min_log_reward: float = -12.0) -> None:
        super().__init__()
        if self.head not in ("flow", "edges"):
            self.log_z = nn.Parameter(torch.tensor(float(log_z)))
        self.min_log_reward = min_log_reward

    def forward(self, now: Scored, then: Scored) -> dict[str, Tensor]:
        """The losses of trajectories.

        Args:
            now: Scored by the present policy, with gradients.
            then: Scored by the policy that drew them, without.
        """
        raise NotImplementedError


class BackwardObjective(nn.Module):
    """Named losses that train the backward policy alone, beside an objective for the forward one.

    Args:
        guide: See `gfn_design.guides`; the step's probability under it comes as
            ``Scored.log_guide``.

    Attributes:
        walks_back: Learns from histories that the backward policy draws of the objects just built;
            otherwise from the trajectories that built them.
        on_policy: Takes one update for each batch.
        needs_critic: ``Scored.backward_value`` must hold a critic's expected cost from the state
            that each step enters back to the source.
        copy_rate: If a number, what the forward policy's objective sees of the backward policy is
            a copy that goes so far towards it at each update.
        min_log_reward: Smaller log-rewards count as this one, where they are learned from.
    """

    min_log_reward: float = -float("inf")
    walks_back: ClassVar[bool] = True
    on_policy: ClassVar[bool] = False
    needs_critic: ClassVar[bool] = False
    copy_rate: float | None = None

    def __init__(self, guide: Guide | None = None) -> None:
        super().__init__()
        self.guide = guide

    def recall(self, drawn: Trajectories, uniform: Tensor) -> Trajectories | None:
        """What to learn from instead of the batch just drawn; None is that batch.

        Args:
            drawn: The batch just drawn.
            uniform: Randomness, ``float[batch, max_steps]`` in [0, 1).
        """
        return None

    def forward(self, now: Scored, then: Scored, log_z: Tensor) -> dict[str, Tensor]:
        """The losses of trajectories, stored from the source on as always.

        Args:
            now: Scored by the present policies, with gradients.
            then: The same as constants.
            log_z: The present estimate of log Z, a constant.
        """
        raise NotImplementedError
