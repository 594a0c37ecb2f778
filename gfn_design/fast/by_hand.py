"""The gradient of an MLP by hand, from what its layers gave of each state.

A small batch takes as long as there are operations: autograd's own way takes three times as many.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gfn_design.policies.mlp import MLP, Layer
from gfn_design.policies.policy import Policy
from gfn_design.policies.products import FEW_COMPILED, SlotEmbedding, product_of_few_columns


def goes_by_hand(policy: object) -> TypeGuard[Policy]:
    """Whether the gradient of a policy's answers may be found so, where it is asked for at all.

    A subclass of `MLP` may answer otherwise, and under autocast answers are of another precision
    than the weights that a gradient multiplies them with.
    """
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    network = policy.forward_policy if isinstance(policy, Policy) else None
    return (
        type(network) is MLP
        and isinstance(policy, Policy)
        and policy.members == 1
        and not torch.is_autocast_enabled(network.embedding.weight.device.type)
    )


def logits_by_hand(network: MLP, states: Tensor, recorded: Sequence[Tensor]) -> Tensor:
    """What a network gives, with its gradient.

    Args:
        network: Whose answers they are.
        states: ``int64[n, *state_shape]``.
        recorded: What each layer gave of them, ``float[n, width]``.
    """
    layers = list(cast(Iterable[Layer], network.layers))
    parameters = [network.embedding.weight, network.embedding.bias]
    parameters += [p for layer in layers for p in (layer.weight, layer.bias)]
    return cast(Tensor, _Logits.apply(network.embedding, states, recorded, *parameters))


class _Logits(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        embedding: SlotEmbedding,
        states: Tensor,
        recorded: Sequence[Tensor],
        *parameters: Tensor,
    ) -> Tensor:
        ctx.embedding, ctx.states, ctx.recorded = embedding, states, recorded
        ctx.save_for_backward(*parameters)
        return recorded[-1].view_as(recorded[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        wanted, weights = ctx.needs_input_grad[3:], ctx.saved_tensors[::2]
        found: list[Tensor | None] = [None] * len(wanted)
        for i in range(len(weights) - 1, 0, -1):
            before = ctx.recorded[i - 1]
            found[2 * i] = product_of_few_columns(before.relu().t(), gradient)
            found[2 * i + 1] = gradient.sum(0)
            if not any(wanted[: 2 * i]):
                break
            gradient = torch.ops.aten.threshold_backward(gradient @ weights[i].t(), before, 0)
        else:
            found[0] = _of_embedding(ctx.embedding, ctx.states, gradient)
            found[1] = gradient.sum(0)
        return (
            None,
            None,
            None,
            *(x if is_wanted else None for x, is_wanted in zip(found, wanted, strict=True)),
        )


def _of_embedding(embedding: SlotEmbedding, states: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of an embedding's weight: a blank slot's is zero."""
    found = torch.zeros_like(embedding.weight)
    if embedding.columns <= FEW_COMPILED:
        torch.mm(embedding.one_hot(states).t(), gradient, out=found[:-1])
        return found
    for rows in embedding.rows(states).unbind(1):
        found.index_add_(0, rows, gradient)
    found[-1] = 0
    return found
