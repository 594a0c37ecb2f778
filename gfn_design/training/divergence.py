"""Learning that has broken: losses and weights that are no numbers any more."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from gfn_design.errors import InputError

WIDE = 1e4  # nats between the rewards of a batch, of which squares and gradients are beyond use


class DivergenceError(InputError):
    """A loss, a gradient or a weight is not a finite number; nothing can be learned any more."""


def are_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether all numbers in floating-point tensors are finite; waits for the device."""
    norms = torch._foreach_norm([x.detach() for x in tensors])
    return math.isfinite(float(torch.stack(list(norms)).sum())) if norms else True


def diverged(
    batch: int, losses: dict[str, float], log_reward: Tensor, learning_rate: float
) -> DivergenceError:
    """The sentence about a batch after which nothing can be learned.

    Args:
        batch: Its number, from 1.
        losses: Of it, by name.
        log_reward: Of its objects, in nats.
        learning_rate: Of the policy.
    """
    bad = next((name for name, loss in losses.items() if not math.isfinite(loss)), None)
    if bad is None:
        told = ", ".join(f"{name} {loss:.3g}" for name, loss in losses.items())
        what = f"its gradient is not finite (losses: {told})"
    else:
        what = f"the loss '{bad}' is {losses[bad]:g}"
    low, high = float(log_reward.min()), float(log_reward.max())
    if high - low > WIDE:
        cause = (
            f"its log-rewards reach from {low:.3g} to {high:.3g} nats, so give the reward a "
            "smaller exponent or a minimum"
        )
    elif batch <= 2:
        cause = (
            "it was so from the start, so look at the objective, the networks and the reward, "
            "above all at those of your own"
        )
    else:
        cause = (
            "most often a learning rate is too large, so set model.optimiser.lr lower than "
            f"{learning_rate:g} or trainer.gradient_clip_val: 1"
        )
    return DivergenceError(
        f"learning broke at batch {batch:,}: {what}; {cause} (what was saved before is kept)"
    )
