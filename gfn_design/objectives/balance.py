"""Balance conditions: losses that vanish when the policy samples in proportion to the reward."""

from math import inf, log
from typing import ClassVar, Literal, cast, get_args

import torch
from torch import Tensor

from gfn_design.errors import InputError
from gfn_design.objectives.base import Objective
from gfn_design.ranks import largest, total, world
from gfn_design.sampling.trajectories import Scored

Shape = Literal["square", "huber", "linex", "cosh"]
LARGEST = 40.0  # beyond it an exponential goes on along its tangent


def penalty(residual: Tensor, shape: Shape) -> Tensor:
    """What a residual costs: its square near zero, whatever the shape.

    - ``huber``: a line beyond one, which large residuals do not dominate;
    - ``linex``: 2 (exp x - x - 1), steep where the policy draws too much, flat where too little;
    - ``cosh``: 2 (cosh x - 1), steep on both sides.

    Residuals are log P_F over what it should be. However large, cost and slope are finite, and the
    slope never vanishes.
    """
    if shape == "square":
        return residual.square()
    if shape == "huber":
        size = residual.abs()
        return torch.where(size <= 1, residual.square(), 2 * size - 1)
    if shape == "linex":
        top = residual.clamp(max=LARGEST)
        return 2 * (top.expm1() + top.exp() * (residual - top) - residual)
    size = residual.abs()
    top = size.clamp(max=LARGEST)
    return 4 * (top / 2).sinh().square() + 2 * top.sinh() * (size - top)


def check_shape(shape: str) -> Shape:
    """`shape`, if it is one."""
    if shape not in get_args(Shape):
        raise InputError(f"shape must be one of {', '.join(get_args(Shape))}, got '{shape}'")
    return cast(Shape, shape)


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

    def forward(self, now: Scored, then: Scored) -> dict[str, Tensor]:
        residual = self.log_z + (now.log_pf - now.log_pb).sum(1) - now.log_reward
        return {"balance": penalty(residual, self.shape).mean()}


class LogVariance(Balance):
    """The variance of log R + log P_B - log P_F over a batch, zero at balance (Zhang et al. 2023).

    Needs no log Z; the estimate that is reported follows the mean, which gives the policies no
    gradient. Arguments are those of `Balance`; it is a difference from the mean that costs.
    """

    least_batch: ClassVar[int] = 2

    def forward(self, now: Scored, then: Scored) -> dict[str, Tensor]:
        estimate = now.log_reward + (now.log_pb - now.log_pf).sum(1)
        mean = total(estimate.sum()) / total(torch.tensor(float(len(estimate))).to(estimate))
        return {
            "balance": penalty(mean - estimate, self.shape).mean(),
            "log_z": (self.log_z - mean.detach()).square(),
        }


def step_flows(scored: Scored) -> Tensor:
    """log F of every state of a trajectory, log R after its last step: ``[batch, steps + 1]``."""
    following = torch.cat([scored.value[:, 1:], torch.zeros_like(scored.value[:, :1])], dim=1)
    reward = scored.log_reward[:, None]
    return torch.cat([scored.value[:, :1], torch.where(scored.stops, reward, following)], dim=1)


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

    head: ClassVar[Literal["critic", "flow", "edges"] | None] = "flow"

    def __init__(
        self,
        min_log_reward: float | None = None,
        shape: Shape = "square",
        log_z: float | None = None,
    ) -> None:
        super().__init__(log_z, min_log_reward)
        self.shape = check_shape(shape)

    def forward(self, now: Scored, then: Scored) -> dict[str, Tensor]:
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

    def forward(self, now: Scored, then: Scored) -> dict[str, Tensor]:
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


def piece_weights(alive: Tensor, weighting: Weighting, decay: float) -> Tensor:
    """How much the piece of a trajectory from state i to state j counts.

    ``[batch, steps + 1, steps + 1]``, zero where there is no such piece; all together sum to one,
    on average over the ranks.

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
    piece = reached[:, None, :] & (length > 0)  # from i to j > i, and state j exists
    if weighting.startswith("transition"):
        piece = piece & (length == 1)
    elif weighting == "trajectory":
        piece = piece & (length == alive.sum(1)[:, None, None])
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
    log_weight = log_weight.where(piece, -torch.inf)
    if own:
        return (log_weight.flatten(1).softmax(1) / n).view_as(piece)
    if world() == 1:
        return log_weight.flatten().softmax(0).view_as(piece)
    top = largest(log_weight.max())
    weight = (log_weight - top).exp()
    return weight / total(weight.sum()) * world()  # gradients are averaged


def piece_residuals(flow: Tensor, log_ratio: Tensor) -> Tensor:
    """log F(i) + sum of (log P_F - log P_B) from i to j - log F(j): ``[batch, i, j]``.

    Args:
        flow: log F of every state, ``[batch, steps + 1]``.
        log_ratio: log P_F - log P_B of every step, ``[batch, steps]``.
    """
    before = torch.cat([torch.zeros_like(flow[:, :1]), log_ratio.cumsum(1)], dim=1)
    level = flow - before
    return level[:, :, None] - level[:, None, :]


def piece_loss(
    flow: Tensor, scored: Scored, weighting: Weighting, decay: float, shape: Shape = "square"
) -> Tensor:
    """The weighted mean cost of all pieces of all trajectories."""
    weights = piece_weights(scored.alive, weighting, decay)
    residuals = piece_residuals(flow, scored.log_pf - scored.log_pb)
    return (weights * penalty(residuals.where(weights > 0, 0), shape)).sum()


def check_pieces(weighting: str, decay: float) -> Weighting:
    """`weighting`, if it is one, and `decay` is a positive number."""
    if not 0 < decay < inf:
        raise InputError(f"the decay of sub-trajectories must be positive, got {decay}")
    known = get_args(Weighting)
    if weighting not in known:
        raise InputError(f"weighting must be one of {', '.join(known)}, got '{weighting}'")
    return cast(Weighting, weighting)


class SubTrajectoryBalance(Objective):
    """Balance of every piece of a trajectory, between a state i and a later j (Madan et al. 2023).

    log F(i) + log P_F(piece) = log F(j) + log P_B(piece), F being R(x) after the last step. log Z
    is log F of the source. A piece of k steps counts

    - ``geometric_within``: decay^(k - 1), summing to the same for each trajectory;
    - ``geometric_within_long``: decay^-k, likewise, so that long pieces count most;
    - ``geometric``: decay^(k - 1) over the number of pieces of that length in the batch;
    - ``equal_within``, ``equal``: the same in each trajectory, in the batch;
    - ``trajectory``: only if it is the whole trajectory;
    - ``transition_within``, ``transition``: only if k is 1, the same in each trajectory, in the
      batch.

    Memory grows with the square of the number of steps.

    Args:
        decay: Lambda, above 0; above 1 long pieces count more.
        weighting: One of the above.
        min_log_reward: Smaller log-rewards count as this one; None is 50 nats below log of the mean
            reward of the first batch.
        shape: What a residual costs: ``square``, ``huber``, ``linex`` or ``cosh``.
        log_z: Added to the network's log F, in nats; None finds what makes it end as the
            log-rewards of the first batch.
    """

    head: ClassVar[Literal["critic", "flow", "edges"] | None] = "flow"

    def __init__(
        self,
        decay: float = 0.9,
        weighting: Weighting = "geometric_within",
        min_log_reward: float | None = None,
        shape: Shape = "square",
        log_z: float | None = None,
    ) -> None:
        super().__init__(log_z, min_log_reward)
        self.decay, self.weighting = decay, check_pieces(weighting, decay)
        self.shape = check_shape(shape)

    def forward(self, now: Scored, then: Scored) -> dict[str, Tensor]:
        flow = step_flows(now)
        return {"balance": piece_loss(flow, now, self.weighting, self.decay, self.shape)}


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

    head: ClassVar[Literal["critic", "flow", "edges"] | None] = "edges"
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

    def forward(self, now: Scored, then: Scored) -> dict[str, Tensor]:
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
