"""The update of a fused `torch.optim.Adam`, without what torch looks at each time.

Of a small network looking takes several times as long as the arithmetic; and torch imports its
tracer for it, which takes most of a second.
"""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam
from torch.optim import optimizer as of_torch


def suits(optimizer: Any) -> bool:
    """Whether an optimizer is one whose updates are made so: fused Adam, and nobody looks on."""
    hooks = (
        optimizer._optimizer_step_pre_hooks,
        optimizer._optimizer_step_post_hooks,
        of_torch._global_optimizer_pre_hooks,
        of_torch._global_optimizer_post_hooks,
    )
    return (
        type(optimizer) is Adam
        and not any(hooks)
        and all(
            group["fused"]
            and not (group["amsgrad"] or group["maximize"] or group["differentiable"])
            and not isinstance(group["lr"], Tensor)
            and all(p.dtype == torch.float32 and p.device.type == "cpu" for p in group["params"])
            for group in optimizer.param_groups
        )
    )


@torch.no_grad()
def update(optimizer: Adam) -> None:
    """As ``optimizer.step()``.

    Args:
        optimizer: That `suits`.
    """
    for group in optimizer.param_groups:
        parameters = [p for p in group["params"] if p.grad is not None]
        if not parameters:
            continue
        states = [_state(optimizer, p) for p in parameters]
        steps = [state["step"] for state in states]
        torch._foreach_add_(steps, 1)
        beta1, beta2 = group["betas"]
        torch._fused_adam_(
            parameters,
            [p.grad for p in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            steps,
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )
    optimizer._opt_called = True  # type: ignore[attr-defined]  # which schedulers of rates ask for


def _state(optimizer: Adam, parameter: Tensor) -> dict[str, Tensor]:
    """What Adam keeps of a parameter, made as it makes it."""
    state: dict[str, Tensor] = optimizer.state[parameter]
    if not state:
        state["step"] = torch.zeros((), dtype=torch.float32)
        state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
    return state
