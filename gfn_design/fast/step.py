"""A training step as one function, that a compiler can make one graph of."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call, grad
from torch.optim import Optimizer

from gfn_design.environments.base import Environment
from gfn_design.fast.early_states import EarlyStates
from gfn_design.fast.log_probabilities import DistinctStates, distinct_states, log_probabilities
from gfn_design.fast.prefixes import Reader, reads_prefixes
from gfn_design.fast.recorded_layers import RecordedAnswers
from gfn_design.fast.rollout import RollOut
from gfn_design.policies.mlp import MLP
from gfn_design.policies.policy import Policy
from gfn_design.sampling.log_probabilities import PolicyLike, StepLogProbs
from gfn_design.sampling.trajectories import LogRewardFunction, Sampler, Trajectories
from gfn_design.training.engine import Batch, Gradients, Losses, Noise, Parts, total_loss
from gfn_design.training.extras import EngineWithExtras


class Known(NamedTuple):
    """What is known of a batch before its losses are found.

    Attributes:
        early: The states that the first steps may leave.
        states: Where states of the batch are equal.
        recorded: What the layers of the network gave of the distinct states.
    """

    early: EarlyStates | None = None
    states: DistinctStates | None = None
    recorded: Sequence[Tensor] | None = None


class EngineOfBatch(EngineWithExtras):
    """Draws by a roll-out, and uses what is known of the batch that is learned from.

    Args:
        parts: What learns.
        rollout: Draws.
        known: Of the batch.
        recorder: What draws in the policy's place, if it is not the policy.
    """

    def __init__(
        self,
        parts: Parts,
        rollout: RollOut,
        known: Known = Known(),  # noqa: B008
        recorder: RecordedAnswers | None = None,
    ) -> None:
        super().__init__(parts)
        self.rollout, self.known, self.recorder = rollout, known, recorder

    def sampler(self) -> Sampler:
        if self.recorder is not None:
            return self.recorder
        policy = self.parts.policy
        return Reader(policy) if self.parts.search is None and reads_prefixes(policy) else policy

    def sample(self, policy: Sampler, uniform: Tensor) -> Trajectories:
        return self.rollout.sample(policy, uniform)

    def log_probabilities(
        self, policy: PolicyLike, trajectories: Trajectories, all_actions: bool = False
    ) -> StepLogProbs:
        environment = self.parts.environment
        return log_probabilities(environment, policy, trajectories, all_actions, *self.known)


class Differentiated:
    """The losses of a batch, and in a compiled graph their gradient as well.

    One graph for both is faster than autograd's two.

    Args:
        parts: With the parameters to differentiate by.
        rollout: Draws.
    """

    def __init__(self, parts: Parts, rollout: RollOut) -> None:
        self.function = LossOfBatch(parts, rollout)

    def __call__(self, batch: Batch, known: Known) -> tuple[Losses, Gradients | None]:
        """The losses, and the gradients of their sum; None where autograd will find them."""
        if not torch.compiler.is_compiling():
            with torch.enable_grad():
                return self.function(batch, known)[1], None
        trained = {name: p for name, p in self.function.named_parameters() if p.requires_grad}
        values = {name: p.detach() for name, p in trained.items()}
        find = grad(functional_call, 1, has_aux=True)
        gradients, losses = find(self.function, values, (batch, known))
        # Laid out as parameters are: fused Adam on a CPU reads both in the order of their memory.
        return losses, [(p, gradients[name].contiguous()) for name, p in trained.items()]


class OfParts(nn.Module):
    """A function of parameters that `functional_call` can replace: those of the parts."""

    def __init__(self, parts: Parts, rollout: RollOut) -> None:
        super().__init__()
        self.parts, self.rollout = parts, rollout
        for name, part in parts._asdict().items():
            if isinstance(part, nn.Module):
                self.add_module(name, part)


class LossOfBatch(OfParts):
    """The sum of the losses of a batch, and the losses."""

    def forward(self, batch: Batch, known: Known) -> tuple[Tensor, Losses]:
        losses = EngineOfBatch(self.parts, self.rollout, known).losses(batch)
        return total_loss(losses), losses


def drawn(parts: Parts, rollout: RollOut, noise: Noise, reward: LogRewardFunction) -> Any:
    """A batch, and what is known of it.

    That is what the network gave, if lengths are fixed: else a roll-out drops what has stopped. A
    subclass of `MLP` may give something else than its last layer does, and under autocast answers
    are of another precision than the weights that a gradient multiplies them with.
    """
    environment, policy = parts.environment, parts.policy
    records = (
        environment.fixed_length
        and (rollout.early is not None or environment.n_states is None)
        and type(policy.forward_policy) is MLP
        and policy.members == 1
        and parts.search is None
        and not torch.is_autocast_enabled(noise.drawn.device.type)
    )
    recorder = RecordedAnswers(policy) if records else None
    batch = EngineOfBatch(parts, rollout, recorder=recorder).draw(noise, reward)
    if recorder is None:
        return batch, Known(rollout.early if torch.compiler.is_compiling() else None)
    answers = recorder.of_distinct_states(batch.drawn.objects, rollout.early)
    return batch, Known(rollout.early, None, answers)


def asked_once(environment: Environment, policy: Policy, trajectories: Trajectories) -> Known:
    """What is known of trajectories when each distinct state has been asked about.

    Args:
        environment: What is built.
        policy: Of which `goes_by_hand` is true.
        trajectories: However they were drawn.
    """
    states = distinct_states(environment, policy.shared, trajectories)
    with torch.no_grad():
        answers = cast(MLP, policy.forward_policy).layer_outputs(states.left)
    return Known(None, states, answers)


def whole_step(
    learn: Differentiated, noise: Noise, reward: LogRewardFunction
) -> tuple[Batch, Losses, Gradients | None]:
    """What one training step does but for the update."""
    parts, rollout = learn.function.parts, learn.function.rollout
    batch, known = drawn(parts, rollout, noise, reward)
    return batch, *learn(batch, known)


class _Carry(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: Any, *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return loss.view_as(loss)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return None, None, *torch._foreach_mul(ctx.gradients, gradient)


def loss_of(losses: Losses, gradients: Gradients | None = None) -> Tensor:
    """The sum of the losses, whose ``backward`` gives the parameters their gradients.

    Args:
        losses: By name.
        gradients: Of the sum, where they are known already.
    """
    loss = total_loss(losses)
    if gradients is None:
        return loss
    parameters, values = zip(*gradients, strict=True)
    return cast(Tensor, _Carry.apply(loss, values, *parameters))


def set_gradients(optimizer: Optimizer, losses: Losses, gradients: Gradients | None) -> None:
    """Leave the gradient of the losses' sum, and nothing else, in the parameters' ``grad``."""
    if gradients is None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        found = torch.autograd.grad(total_loss(losses), parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, found, strict=True):
            parameter.grad = gradient
    else:
        for parameter, gradient in gradients:
            parameter.grad = gradient
