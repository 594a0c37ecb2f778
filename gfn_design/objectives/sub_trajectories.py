"""Balance of sub-trajectories."""

from math import inf, log
from typing import ClassVar, Literal, cast, get_args

import torch
from torch import Tensor

from gfn_design.errors import InputError
from gfn_design.objectives.balance import step_flows
from gfn_design.objectives.base import Objective
from gfn_design.objectives.penalty import Shape, check_shape, penalty
from gfn_design.ranks import largest, total, world
from gfn_design.sampling.log_probabilities import StepLogProbs

Weighting = Literal[
    "geometric_within",
    "geometric_within_long",
    "geometric",
    "equal_within",
    "equal",
    "trajectory",
    "transition_within",
    "transition",
]


def sub_weights(alive: Tensor, weighting: Weighting, decay: float) -> Tensor:
    """How much the sub-trajectory from state i to state j counts.

    ``[batch, steps + 1, steps + 1]``, zero where there is none; all together sum to one, on
    average over the ranks.

    Args:
        alive: ``bool[batch, steps]``.
        weighting: See `SubTrajectoryBalance`.
        decay: Lambda there.
    """
    n, steps = alive.shape
    own = weighting.endswith("within") or weighting in ("geometric_within_long", "trajectory")
    reached = torch.cat([torch.ones_like(alive[:, :1]), alive], dim=1)
    time = torch.arange(steps + 1, device=alive.device)
    length = time - time[:, None]
    part = reached[:, None, :] & (length > 0)  # from i to j > i, and state j exists
    if weighting.startswith("transition"):
        part = part & (length == 1)
    elif weighting == "trajectory":
        part = part & (length == alive.sum(1)[:, None, None])
    # In logarithms, since powers of hundreds of steps leave the range of a float.
    log_weight = torch.zeros_like(length, dtype=torch.get_default_dtype())
    if weighting.startswith("geometric"):
        log_weight = log(decay) * (length.clamp(min=1) - 1).to(log_weight.dtype)
    if weighting == "geometric_within_long":
        log_weight = -log_weight
    if weighting == "geometric":  # of each length the mean over the batch, of all ranks
        longest = int(largest(torch.tensor(steps, device=alive.device)))
        every = torch.arange(longest + 1, device=alive.device)
        of_length = total((alive.sum(1, keepdim=True) + 1 - every).clamp(min=0).sum(0))
        log_weight = log_weight - of_length[length.clamp(min=0)].clamp(min=1).log()
    log_weight = log_weight.where(part, -torch.inf)
    if own:
        return (log_weight.flatten(1).softmax(1) / n).view_as(part)
    if world() == 1:
        return log_weight.flatten().softmax(0).view_as(part)
    top = largest(log_weight.max())
    weight = (log_weight - top).exp()
    return weight / total(weight.sum()) * world()  # gradients are averaged


def sub_residuals(flow: Tensor, log_ratio: Tensor) -> Tensor:
    """log F(i) + sum of (log P_F - log P_B) from i to j - log F(j): ``[batch, i, j]``.

    Args:
        flow: log F of every state, ``[batch, steps + 1]``.
        log_ratio: log P_F - log P_B of every step, ``[batch, steps]``.
    """
    before = torch.cat([torch.zeros_like(flow[:, :1]), log_ratio.cumsum(1)], dim=1)
    level = flow - before
    return level[:, :, None] - level[:, None, :]


def sub_loss(
    flow: Tensor, steps: StepLogProbs, weighting: Weighting, decay: float, shape: Shape = "square"
) -> Tensor:
    """The weighted mean cost of all sub-trajectories of all trajectories."""
    weights = sub_weights(steps.alive, weighting, decay)
    residuals = sub_residuals(flow, steps.log_pf - steps.log_pb)
    return (weights * penalty(residuals.where(weights > 0, 0), shape)).sum()


def check_weighting(weighting: str, decay: float) -> Weighting:
    """`weighting`, if it is one, and `decay` is a positive number."""
    if not 0 < decay < inf:
        raise InputError(f"the decay of sub-trajectories must be positive, got {decay}")
    known = get_args(Weighting)
    if weighting not in known:
        raise InputError(f"weighting must be one of {', '.join(known)}, got '{weighting}'")
    return cast(Weighting, weighting)


class SubTrajectoryBalance(Objective):
    """Balance of every sub-trajectory, between a state i and a later j (Madan et al. 2023).

    log F(i) + log P_F(part) = log F(j) + log P_B(part), F being R(x) after the last step. log Z
    is log F of the source. One of k steps counts

    - ``geometric_within``: decay^(k - 1), summing to the same for each trajectory;
    - ``geometric_within_long``: decay^-k, likewise, so that long sub-trajectories count most;
    - ``geometric``: decay^(k - 1) over the number of sub-trajectories of that length in the batch;
    - ``equal_within``, ``equal``: the same in each trajectory, in the batch;
    - ``trajectory``: only if it is the whole trajectory;
    - ``transition_within``, ``transition``: only if k is 1, the same in each trajectory, in the
      batch.

    Memory grows with the square of the number of steps.

    Args:
        decay: Lambda, above 0; above 1 long sub-trajectories count more.
        weighting: One of the above.
        min_log_reward: Smaller log-rewards count as this one; None is 50 nats below log of the mean
            reward of the first batch.
        shape: What a residual costs: ``square``, ``huber``, ``linex`` or ``cosh``.
        log_z: Added to the network's log F, in nats; None finds what makes it end as the
            log-rewards of the first batch.
    """

    value_kind: ClassVar[Literal["critic", "flow", "edges"] | None] = "flow"

    def __init__(
        self,
        decay: float = 0.9,
        weighting: Weighting = "geometric_within",
        min_log_reward: float | None = None,
        shape: Shape = "square",
        log_z: float | None = None,
    ) -> None:
        super().__init__(log_z, min_log_reward)
        self.decay, self.weighting = decay, check_weighting(weighting, decay)
        self.shape = check_shape(shape)

    def forward(self, now: StepLogProbs, then: StepLogProbs) -> dict[str, Tensor]:
        flow = step_flows(now)
        return {"balance": sub_loss(flow, now, self.weighting, self.decay, self.shape)}
