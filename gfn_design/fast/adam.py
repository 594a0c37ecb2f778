"""Adam as plain arithmetic: `torch.optim` cannot be traced into a loop."""

from typing import Any

from torch import Tensor


def scales_of(group: dict[str, Any], time: int) -> list[float]:
    """What `adam` needs of a group for update number `time`.

    Found out here: a kernel would find the powers anew for each parameter.
    """
    beta1, beta2 = group["betas"]
    growth = (1 - beta2**time) ** -0.5
    return [group["lr"] / (1 - beta1**time), growth, 1 - beta1, 1 - beta2, group["eps"]]


def adam(
    scales: Tensor, gradient: Tensor, value: Tensor, mean: Tensor, square: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Parameters after an update, and the means that Adam keeps (Kingma and Ba 2015).

    Args:
        scales: ``float[5]``: the learning rate, corrected for the first mean's beginning at zero;
            what the root of the second is multiplied by for the same reason; the share of a new
            gradient in either mean; and what is added to the root.
        gradient: Of the parameters.
        value: The parameters.
        mean: Of their gradients.
        square: Mean of the gradients' squares.
    """
    rate, growth, new, new_square, eps = scales.unbind()
    mean = mean + new * (gradient - mean)
    square = square + new_square * (gradient.square() - square)
    return value - rate * mean / (square.sqrt() * growth + eps), mean, square
