"""RL-T of the paper: a natural gradient whose length is set by how far the policy may move."""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.optim import Adam, Optimizer

from gfn_design.environments.base import Environment
from gfn_design.errors import InputError
from gfn_design.objectives.actor_critic import ActorCritic
from gfn_design.policies.policy import Policy
from gfn_design.ranks import average, total
from gfn_design.sampling.distinct_states import distinct
from gfn_design.sampling.log_probabilities import StepLogProbs
from gfn_design.sampling.trajectories import Trajectories
from gfn_design.tensors import masked_log_softmax
from gfn_design.training.divergence import DivergenceError, are_finite
from gfn_design.training.natural_gradient import conjugate_gradient, fisher_product


class TrustRegion(ActorCritic):
    """Policy gradient with a trust region (RL-T of the paper; Schulman et al. 2015).

    The forward policy goes along the conjugate-gradient solution d of (F + damping) d = gradient,
    F being the Fisher matrix of its actions, so far that the quadratic model of the divergence
    from the old policy is `delta`; then half as far, until the divergence itself is at most `delta`
    and the surrogate has fallen, or back to where it was. Critic and log Z learn as in
    `ActorCritic`. A schedule of learning rates shortens the steps likewise.

    Args:
        delta: Divergence from the old policy in nats: of a trajectory in the quadratic model, and
            at most the mean KL(new || old) of the visited states, as in the paper's code.
        damping: Added to the Fisher matrix's diagonal.
        conjugate_steps: Of conjugate gradients.
        backtracks: Halvings of a step before it is given up.
        fisher_share: Share of the batch's trajectories that the Fisher matrix is taken from; less
            is faster.
        policy_lambda: Decay of the temporal differences that make up an advantage, 0 to 1.
        critic_lambda: The same for the critic's targets; 1 takes the costs as they came.
        log_z: The first estimate of log Z, in nats; None finds it in the first batch.
        min_log_reward: Smaller log-rewards count as this one; None is 50 nats below log of the mean
            reward of the first batch.
        critic_loss: ``returns`` fits the critic to its targets; ``sub_balance`` to the balance of
            all sub-trajectories.
    """

    brings_optimizer: ClassVar[bool] = True

    then: StepLogProbs

    def __init__(
        self,
        delta: float = 0.01,
        damping: float = 1e-3,
        conjugate_steps: int = 10,
        backtracks: int = 10,
        fisher_share: float = 1.0,
        policy_lambda: float = 0.99,
        critic_lambda: float = 1.0,
        log_z: float | None = None,
        min_log_reward: float | None = None,
        critic_loss: Any = "returns",
    ) -> None:
        super().__init__(policy_lambda, critic_lambda, log_z, min_log_reward, critic_loss)
        if not delta > 0 or damping < 0 or not 0 < fisher_share <= 1:
            given = f"{delta}, {damping} and {fisher_share}"
            raise InputError(
                "delta must be positive, damping not negative and fisher_share from 0 to 1, got "
                f"{given}"
            )
        if conjugate_steps < 1 or backtracks < 1:
            given = f"{conjugate_steps} and {backtracks}"
            raise InputError(f"conjugate_steps and backtracks must be at least 1, got {given}")
        self.delta, self.damping = delta, damping
        self.conjugate_steps, self.backtracks = conjugate_steps, backtracks
        self.fisher_share = fisher_share

    def optimizer(
        self,
        groups: list[dict[str, Any]],
        environment: Environment,
        policy: Policy,
        latest: Callable[[], Trajectories],
    ) -> Optimizer:
        return TrustRegionAdam(groups, environment, policy, self, latest)

    def forward(self, now: StepLogProbs, then: StepLogProbs) -> dict[str, Tensor]:
        self.then = then  # for the steps of the trust region
        return super().forward(now, then)


class Visits(NamedTuple):
    """What a policy did, and how well, in the states of a batch.

    Attributes:
        states: ``int64[n, *state_shape]``, each once.
        legal: ``bool[n, n_actions]``.
        rows: ``int64[steps]``, which of the states each step left.
        actions: ``int64[steps]``.
        advantage: ``[steps]``, over the number of trajectories.
        few: How many of the steps the Fisher matrix is taken from, those of the first
            trajectories, and how many those are.
    """

    states: Tensor
    legal: Tensor
    rows: Tensor
    actions: Tensor
    advantage: Tensor
    few: tuple[int, int]


def visits(environment: Environment, objective: TrustRegion, drawn: Trajectories) -> Visits:
    """Sort a batch's steps by the state they leave."""
    then = objective.then
    advantage, _, _ = objective.advantages(then)
    states, rows = distinct(environment, drawn.states[:, :-1], then.alive)
    alive, n = then.alive, len(then.alive)
    few = max(1, round(objective.fisher_share * n))
    return Visits(
        states,
        environment.legal(states),
        rows[alive],
        drawn.actions[alive],
        advantage[alive] / n,
        (int(alive[:few].sum()), few),
    )


class TrustRegionAdam(Adam):
    """Steps of a trust region for the forward policy, Adam for all others.

    The gradient that ``backward`` left in the forward policy is taken for that of the surrogate.

    Args:
        params: Parameter groups; the trust region takes its own out of them.
        environment: What is built.
        policy: With a network of its own for the forward policy.
        objective: The size of the region, and more.
        batch: Gives the trajectories that the gradients are from.
        options: Of Adam.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        environment: Environment,
        policy: Policy,
        objective: TrustRegion,
        batch: Callable[[], Trajectories],
        **options: Any,
    ) -> None:
        self.environment, self.objective, self.batch = environment, objective, batch
        self.network = policy.forward_policy
        super().__init__(params, **options)

    @property
    def report(self) -> dict[str, float]:
        """Divergence and share of the latest step; saved with it, since the next batch logs it."""
        return cast(dict[str, float], self._group.get("report", {}))

    @property
    def _group(self) -> dict[str, Any]:
        return next(group for group in self.param_groups if group["name"] == "policy")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of the trust region and one of Adam, after `closure`, whose loss it gives."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        parameters = list(self.network.parameters())
        gradient = torch.cat([gradient_of(p).flatten() for p in parameters])
        if not are_finite([gradient]):
            raise DivergenceError(
                "learning broke: the gradient of the policy is not finite; look at the reward, and "
                "at networks of your own (what was saved before is kept)"
            )
        for p in parameters:
            p.grad = None  # which Adam passes over
        seen = visits(self.environment, self.objective, self.batch())  # before log Z moves
        super().step()
        self._move(gradient, seen)
        return loss

    def _move(self, gradient: Tensor, seen: Visits) -> None:
        objective, parameters = self.objective, list(self.network.parameters())
        counts = torch.bincount(seen.rows, minlength=len(seen.states)).float()
        steps, trajectories = seen.few
        part = torch.bincount(seen.rows[:steps], minlength=len(seen.states)).float()
        used = part > 0
        weight = part[used] / trajectories
        product, old_log_probs = fisher_product(
            self.network, seen.states[used], seen.legal[used], weight
        )

        def damped(v: Tensor) -> Tensor:
            return average(product(v)) + objective.damping * v

        direction = conjugate_gradient(damped, gradient, objective.conjugate_steps)
        slope = float(direction.dot(gradient))
        self._group["report"] = {"kl": 0.0, "step": 0.0}
        if not slope > 0:
            return
        # d F d = d g at the solution: half of it, scaled, is the modelled divergence.
        step = self._rate() * (2 * objective.delta / slope) ** 0.5 * direction
        old = parameters_to_vector(parameters)
        if len(weight) < len(seen.states):
            old_log_probs = self._log_probs(seen)
        start = old_log_probs[seen.rows, seen.actions]
        before = float(average(seen.advantage.sum()))
        for halving in range(objective.backtracks):
            vector_to_parameters(old - 0.5**halving * step, parameters)
            log_probs = self._log_probs(seen)
            ratio = (log_probs[seen.rows, seen.actions] - start).exp()
            surrogate = float(average((ratio * seen.advantage).sum()))
            terms = log_probs.exp() * (log_probs - old_log_probs)
            terms = terms.where(seen.legal, 0).sum(-1)
            kl = float(total((terms * counts).sum()) / total(counts.sum()))
            if surrogate < before and kl <= objective.delta:
                self._group["report"] = {"kl": kl, "step": 0.5**halving}
                return
        vector_to_parameters(old, parameters)

    def _rate(self) -> float:
        """How far a schedule has brought the policy's learning rate down, of 1."""
        group = self._group
        return float(group["lr"] / group["initial_lr"]) if group.get("initial_lr") else 1.0

    def _log_probs(self, seen: Visits) -> Tensor:
        logits = self.network(seen.states)[:, : seen.legal.shape[1]]
        return masked_log_softmax(logits.float(), seen.legal)


def gradient_of(p: Tensor) -> Tensor:
    """The gradient of a parameter, zero if nothing reached it."""
    return torch.zeros_like(p) if p.grad is None else p.grad
