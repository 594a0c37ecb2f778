"""Products with a Fisher matrix, and the solution of what they make up."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gfn_design.tensors import masked_log_softmax


def fisher_product(
    network: nn.Module, states: Tensor, legal: Tensor, weight: Tensor
) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """v to F v, F = sum over states of weight J^T (diag p - p p^T) J, J being that of the logits.

    J^T u is a backward pass, and linear in u: its derivative by u, along v, is J v. Unlike a pass
    in forward mode, that uses the activations of one evaluation for all products.

    Args:
        network: Gives the logits in its first columns.
        states: ``int64[n, *state_shape]``.
        legal: ``bool[n, n_actions]``.
        weight: ``[n]``.

    Returns:
        The product, and log p: ``float[n, n_actions]``.
    """
    parameters = list(network.parameters())
    sizes = [p.numel() for p in parameters]
    with torch.enable_grad(), TwiceDifferentiable():
        logits = network(states)[:, : legal.shape[1]]
        u = torch.zeros_like(logits, requires_grad=True)
        back = torch.autograd.grad(logits, parameters, u, create_graph=True)
    log_p = masked_log_softmax(logits.detach(), legal)
    p = log_p.exp()

    def product(v: Tensor) -> Tensor:
        parts = [part.view_as(x) for part, x in zip(v.split(sizes), parameters, strict=True)]
        (change,) = torch.autograd.grad(back, u, parts, retain_graph=True)
        change = p * (change - (p * change).sum(-1, keepdim=True))  # p is 0 where not legal
        image = torch.autograd.grad(logits, parameters, weight[:, None] * change, retain_graph=True)
        return torch.cat([x.flatten() for x in image])

    return product, log_p


class TwiceDifferentiable(TorchFunctionMode):
    """Sums of rows of an embedding go a slower way, the gradient of which has a derivative."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.embedding_bag and kwargs.get("mode") == "sum":
            rest = ("offsets", "max_norm", "per_sample_weights")
            if all(kwargs.get(name) is None for name in rest):
                return F.embedding(args[0], args[1], padding_idx=kwargs.get("padding_idx")).sum(1)
        return func(*args, **kwargs)


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], b: Tensor, steps: int, tolerance: float = 1e-10
) -> Tensor:
    """x with product(x) = b, nearly; what it has where the curvature is not positive.

    Args:
        product: A symmetric, positive definite matrix times a vector.
        b: The right-hand side.
        steps: At most.
        tolerance: Of the squared residual, relative to the square of `b`.
    """
    x, residual, direction = torch.zeros_like(b), b.clone(), b.clone()
    square = residual.dot(residual)
    enough = tolerance * float(square)
    for _ in range(steps):
        image = product(direction)
        curvature = direction.dot(image)
        if not float(curvature) > 0:
            break
        length = square / curvature
        x = x + length * direction
        residual = residual - length * image
        before, square = square, residual.dot(residual)
        if float(square) <= enough:
            break
        direction = residual + square / before * direction
    return x
