"""How policies learn: the contract of an objective."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gfn_design.config.renamed import check_attributes
from gfn_design.described import Described
from gfn_design.errors import InputError
from gfn_design.objectives.guides import Guide
from gfn_design.sampling.log_probabilities import StepLogProbs
from gfn_design.sampling.trajectories import Trajectories

if TYPE_CHECKING:
    from gfn_design.environments.base import Environment
    from gfn_design.policies.policy import Policy

DEPTH = 50.0  # nats below the mean reward, under which objects are equally worthless


class Objective(Described, nn.Module):
    """Named losses of a batch of trajectories; their sum is minimised.

    An objective sees log-probabilities and values, never an environment (but for what an
    `optimizer` of its own needs). It owns what is no
    function of a state: the estimate of log Z. A new objective overrides `forward` and sets the
    class attributes.

    What it sees of rewards is log R - `log_scale`, so that a factor of the reward changes nothing
    in what is learned.

    Args:
        log_z: The first estimate of log Z, in nats; None finds it in the first batch. It is 0 in
            the paper's code. Where `value_kind` is ``flow`` or ``edges`` this is added to what the
            network says, and None finds what makes its flows end as the rewards.
        min_log_reward: Smaller log-rewards count as this one in the losses (never in the target
            of an evaluation). None is 50 nats below log of the mean reward of the first batch; it
            is -12 in the paper's code, and -inf switches it off.

    Attributes:
        log_scale: What is taken off every log-reward that is learned from, in nats.
        floor: Log-rewards below it count as it.
        calibrated: Whether the first batch has been seen, or need not be.
        on_policy: The trajectories must come from the policy being trained.
        value_kind: What a state is valued by, in ``StepLogProbs.value``: a ``critic``'s
            expected cost to the end, or the log ``flow`` through a state; None needs neither.
            ``edges`` needs neither, and reads the forward policy's logits as log flows in
            ``StepLogProbs.edges``.
        repeats: Though on-policy, made for several updates with a batch.
        copy_rate: If a number, ``then`` is what a copy of the networks says, that goes
            so far towards them at each update, not what the policy said that drew the trajectories.
        trains_backward: A learned backward policy gets its gradient from these losses.
        needs_policy: ``StepLogProbs.log_policy`` must hold the log-probabilities of all actions.
        scores_states: ``StepLogProbs.log_reward_at`` must hold the log-reward of every state, which
            every state of the environment must have.
        single_steps: May learn from steps without their trajectories, as of a `PrioritizedReplay`:
            counts each by ``StepLogProbs.weight``, and leaves what each is wrong by in `errors`.
        errors: ``[batch, steps]``, of the latest losses.
        least_batch: Trajectories that a batch must have for anything to be learned.
        from_library: Learns from the objects of a `LibraryData`, not from what is drawn.
        brings_optimizer: Updates the networks otherwise than by a gradient step; see `optimizer`.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        check_attributes(cls, {"head": "value_kind"})

    on_policy: ClassVar[bool] = False
    repeats: ClassVar[bool] = False
    copy_rate: float | None = None
    value_kind: ClassVar[Literal["critic", "flow", "edges"] | None] = None
    trains_backward: ClassVar[bool] = True
    needs_policy: ClassVar[bool] = False
    scores_states: ClassVar[bool] = False
    single_steps: ClassVar[bool] = False
    least_batch: ClassVar[int] = 1
    brings_optimizer: ClassVar[bool] = False
    from_library: ClassVar[bool] = False
    errors: Tensor

    log_z: nn.Parameter
    log_scale: Tensor
    floor: Tensor
    calibrated: Tensor

    def __init__(self, log_z: float | None = None, min_log_reward: float | None = None) -> None:
        super().__init__()
        for name, value in (("log_z", log_z), ("min_log_reward", min_log_reward)):
            if value is not None and (math.isnan(value) or value == math.inf):
                raise InputError(f"{name} must be a number of nats, or left out, got {value}")
        if log_z == -math.inf:
            raise InputError(f"log_z must be a finite number of nats, or left out, got {log_z}")
        scale = 0.0
        if self.value_kind in ("flow", "edges"):
            scale = log_z or 0.0
        else:
            self.log_z = nn.Parameter(torch.tensor(float(log_z or 0.0)))
        self.finds_scale, self.finds_floor = log_z is None, min_log_reward is None
        floor = -math.inf if min_log_reward is None else min_log_reward
        self.register_buffer("log_scale", torch.tensor(scale))
        self.register_buffer("floor", torch.tensor(float(floor)))
        self.register_buffer("calibrated", torch.tensor(not (self.finds_scale or self.finds_floor)))

    def optimizer(
        self,
        groups: list[dict[str, Any]],
        environment: "Environment",
        policy: "Policy",
        latest: Callable[[], Trajectories],
    ) -> Optimizer:
        """What updates the networks, of an objective that `brings_optimizer`.

        Args:
            groups: Of parameters, by name, with their learning rates.
            environment: What is built.
            policy: That learns.
            latest: Gives the trajectories that gradients are from.
        """
        raise NotImplementedError(f"{type(self).__name__} brings no optimizer")

    def scale_of(self, first: StepLogProbs) -> Tensor:
        """What the scale should be by each trajectory of a first batch, in nats: ``[batch]``.

        An estimate of log Z; of flows, what makes those of a new network, which are near 1, end as
        the rewards.
        """
        if self.value_kind == "edges":
            return first.log_reward
        ratio = first.log_pb - first.log_pf
        if self.value_kind == "flow":
            ratio = (ratio - first.value).where(first.stops, 0)
        return first.log_reward + ratio.sum(1)

    @torch.no_grad()
    def calibrate(self, scale: Tensor, mean_reward: Tensor) -> None:
        """Take from the first batch what was not given.

        Args:
            scale: See `scale_of`.
            mean_reward: log of the mean reward of its objects, in nats.
        """
        if self.finds_scale:
            self.log_scale.copy_(scale)
        if self.finds_floor:
            self.floor.copy_(mean_reward - DEPTH)
        self.calibrated.fill_(True)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        # What was saved before there was a scale is of scale 1, and has a floor of its own.
        before = {"log_scale": 0.0, "floor": float(self.floor), "calibrated": True}
        for name, value in before.items():
            state_dict.setdefault(prefix + name, torch.tensor(value))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def forward(self, now: StepLogProbs, then: StepLogProbs) -> dict[str, Tensor]:
        """The losses of trajectories.

        Args:
            now: What the present policy says, with gradients.
            then: What the policy said that drew them, without.
        """
        raise NotImplementedError


class BackwardObjective(Described, nn.Module):
    """Named losses that train the backward policy alone, beside an objective for the forward one.

    Args:
        guide: See `gfn_design.objectives.guides`; the step's probability under it comes as
            ``StepLogProbs.log_guide``.

    Attributes:
        walks_back: Learns from histories that the backward policy draws of the objects just built;
            otherwise from the trajectories that built them.
        on_policy: Takes one update for each batch.
        needs_critic: ``StepLogProbs.backward_value`` must hold a critic's expected cost from the
            state that each step enters back to the source.
        copy_rate: If a number, what the forward policy's objective sees of the backward policy is
            a copy that goes so far towards it at each update.
    """

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

    def memories(self) -> list[list[Tensor]]:
        """What this rank remembers of earlier batches, for a checkpoint."""
        return []

    def remember(self, memories: list[list[Tensor]]) -> None:
        """Go on from a checkpoint."""

    def forget(self) -> None:
        """There is another reward: keep nothing of earlier batches."""
        if self.guide is not None:
            self.guide.forget()

    def forward(self, now: StepLogProbs, then: StepLogProbs, log_z: Tensor) -> dict[str, Tensor]:
        """The losses of trajectories, stored from the source on as always.

        Args:
            now: What the present policies say, with gradients.
            then: The same as constants.
            log_z: The present estimate of log Z, less `Objective.log_scale`; a constant.
        """
        raise NotImplementedError
