"""How a backward policy learns by itself, beside an objective for the forward policy."""

from functools import reduce
from typing import Any, ClassVar

from torch import Tensor

from gfn_design.errors import InputError
from gfn_design.objectives.actor_critic import check_lambdas, lambda_sum
from gfn_design.objectives.base import BackwardObjective
from gfn_design.objectives.guides import Guide
from gfn_design.ranks import total
from gfn_design.sampling.log_probabilities import StepLogProbs
from gfn_design.sampling.trajectories import Trajectories, concatenate


def guide_log_probs(then: StepLogProbs) -> Tensor:
    """log-probability of each step that the backward policy should undo: the guide's, if any."""
    return then.log_pf if then.log_guide is None else then.log_guide


class BackwardActorCritic(BackwardObjective):
    """RL-B of the paper, RL-G with a guide: policy gradient of the costs of walking back.

    A step back costs log P_B - log P_F, or log P_B - log P_G with a guide; histories of an object
    then become as likely as the forward policy, or the guide, makes them (Niu et al. 2024, eq. 9).

    Args:
        guide: Where trajectories should lead through; None takes the forward policy.
        policy_lambda: Decay of the temporal differences that make up an advantage.
        critic_lambda: The same for the targets of the critic.
    """

    on_policy: ClassVar[bool] = True
    needs_critic: ClassVar[bool] = True

    def __init__(
        self,
        guide: Guide | None = None,
        policy_lambda: float = 1.0,
        critic_lambda: float = 1.0,
    ) -> None:
        super().__init__(guide)
        check_lambdas(policy_lambda, critic_lambda)
        self.policy_lambda, self.critic_lambda = policy_lambda, critic_lambda

    def forward(self, now: StepLogProbs, then: StepLogProbs, log_z: Tensor) -> dict[str, Tensor]:
        assert then.backward_value is not None
        assert now.backward_value is not None
        value = then.backward_value  # of the state each step enters, that is leaves when undone
        earlier = value.roll(1, 1)
        earlier[:, 0] = 0  # the source
        cost = then.log_pb - guide_log_probs(then)
        difference = (cost + earlier - value).where(then.moves, 0).flip(1)  # time runs backwards
        advantage = lambda_sum(difference, self.policy_lambda).flip(1)
        moves = total(then.moves.sum()).clamp(min=1)
        advantage = (advantage - total((advantage * then.moves).sum()) / moves) * then.moves
        target = value + lambda_sum(difference, self.critic_lambda).flip(1)
        error = (target - now.backward_value).square() * then.moves
        return {
            "policy": (advantage * now.log_pb).sum(1).mean(),
            "critic": error.sum(1).mean(),
        }


class BackwardBalance(BackwardObjective):
    """Balance of histories, by which only the backward policy learns (Shen et al. 2023).

    log Z + log P_F(trajectory) = log R(x) + log P_B(trajectory | x) for trajectories drawn back
    from x; with a guide its probability takes the place of P_F, or if it is one of the ways to a
    given x, log P_G(trajectory | x) = log P_B(trajectory | x). What is the same for all ways to x
    has no expected gradient, but makes the gradient noisy.

    Args:
        guide: Where trajectories should lead through; None takes the forward policy.
    """

    def forward(self, now: StepLogProbs, then: StepLogProbs, log_z: Tensor) -> dict[str, Tensor]:
        known = guide_log_probs(then)
        if self.guide is not None and self.guide.of_object:
            return {"balance": (known.where(then.moves, 0) - now.log_pb).sum(1).square().mean()}
        known = known.where(then.moves, then.log_pf).sum(1)
        residual = log_z + known - then.log_reward - now.log_pb.sum(1)
        return {"balance": residual.square().mean()}


class TrajectoryLikelihood(BackwardObjective):
    """The likelihood of the forward policy's trajectories (TLM, Gritsaev et al. 2025).

    With replay, exploration or local search it is that of all the trajectories learned from. The
    forward policy learns from a slow copy of the backward policy, as in the paper.

    Args:
        largest: A trajectory counts at most this many nats.
        rate: How far the slow copy goes towards the backward policy at each update, above 0; 0.25
            on grids and 0.1 on bit sequences in the paper. 1 takes no copy.
    """

    walks_back: ClassVar[bool] = False

    def __init__(self, largest: float = 1e4, rate: float = 0.25) -> None:
        super().__init__()
        if not 0 < rate <= 1:
            raise InputError(f"rate must be above 0 and at most 1, got {rate}")
        self.largest, self.copy_rate = largest, rate if rate < 1 else None

    def forward(self, now: StepLogProbs, then: StepLogProbs, log_z: Tensor) -> dict[str, Tensor]:
        return {"likelihood": (-now.log_pb.sum(1)).clamp(max=self.largest).mean()}


class PessimisticLikelihood(TrajectoryLikelihood):
    """The likelihood of trajectories of the latest batches (pessimistic; Jang et al. 2024).

    The paper makes several updates with a batch each; this makes one with all of them together.

    Args:
        memory: Batches that are kept.
        recalled: Of them, drawn with replacement, learned from with each batch; at most as many as
            a batch has trajectories.
        largest: A trajectory counts at most this many nats.
    """

    def __init__(self, memory: int = 20, recalled: int = 8, largest: float = 1e4) -> None:
        super().__init__(largest, rate=1.0)
        if memory < 1 or recalled < 1:
            raise InputError(f"memory and recalled must be at least 1, got {memory} and {recalled}")
        self.memory, self.recalled = memory, recalled
        self.batches: list[Trajectories] = []

    def recall(self, drawn: Trajectories, uniform: Tensor) -> Trajectories:
        before = self.batches[1 - self.memory :] if self.memory > 1 else []
        here = [Trajectories(*(x.to(uniform.device) for x in batch)) for batch in before]
        self.batches = [*here, drawn]
        chosen = (uniform[: self.recalled, 0] * len(self.batches)).long().tolist()
        return reduce(concatenate, [self.batches[k] for k in chosen])

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        state_dict.pop(f"{prefix}_extra_state", None)  # where memories were once
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def forget(self) -> None:
        super().forget()
        self.batches = []

    def memories(self) -> list[list[Tensor]]:
        return [[x.cpu() for x in batch] for batch in self.batches]

    def remember(self, memories: list[list[Tensor]]) -> None:
        self.batches = [Trajectories(*batch) for batch in memories]
