"""What a residual costs."""

from typing import Literal, cast, get_args

import torch
from torch import Tensor

from gfn_design.errors import InputError

Shape = Literal["square", "huber", "linex", "cosh"]
MAX_RESIDUAL = 40.0  # beyond it an exponential goes on along its tangent


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
        top = residual.clamp(max=MAX_RESIDUAL)
        return 2 * (top.expm1() + top.exp() * (residual - top) - residual)
    size = residual.abs()
    top = size.clamp(max=MAX_RESIDUAL)
    return 4 * (top / 2).sinh().square() + 2 * top.sinh() * (size - top)


def check_shape(shape: str) -> Shape:
    """`shape`, if it is one."""
    if shape not in get_args(Shape):
        raise InputError(f"shape must be one of {', '.join(get_args(Shape))}, got '{shape}'")
    return cast(Shape, shape)
