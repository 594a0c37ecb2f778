"""Several processes that train one policy: what they tell each other besides gradients."""

import io
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from gfn_design.errors import InputError
from gfn_design.untraced import untraced

T = TypeVar("T")
_training = False


def begin() -> None:
    """From here on all ranks do the same, until `end`: before and after, one may work alone."""
    global _training
    _training = dist.is_available() and dist.is_initialized()


def end() -> None:
    """Each rank works for itself again."""
    global _training
    _training = False


def world() -> int:
    """How many processes train together, while they do; else 1."""
    return dist.get_world_size() if _training else 1


def total(x: Tensor) -> Tensor:
    """The sum of `x` over all ranks, with its gradient; `x` where there is but one."""
    return _total(x) if world() > 1 else x


def average(x: Tensor) -> Tensor:
    """The mean of `x` over all ranks, with its gradient; `x` where there is but one."""
    return _total(x) / world() if world() > 1 else x


def largest(x: Tensor) -> Tensor:
    """The maximum of `x` over all ranks, a constant."""
    return _largest(x) if world() > 1 else x


@untraced("ranks talk to each other")
def _total(x: Tensor) -> Tensor:
    return cast(Tensor, _Total.apply(x))


@untraced("ranks talk to each other")
def _largest(x: Tensor) -> Tensor:
    x = x.detach().clone()
    dist.all_reduce(x, dist.ReduceOp.MAX)
    return x


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.detach().clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # each rank's loss has a part in it
        gradient = gradients[0].clone()
        dist.all_reduce(gradient)
        return gradient


def joined(x: Tensor) -> Tensor:
    """`x` of all ranks, rank after rank, which may have different lengths."""
    return x if world() == 1 else torch.cat([part.to(x) for part in gathered(x)])


def gathered(content: Any) -> list[Any]:
    """What each rank has: tensors and plain containers, which are sent as a checkpoint is."""
    if world() == 1:
        return [content]
    written = io.BytesIO()
    torch.save(content, written)
    device = _device()
    mine = torch.frombuffer(bytearray(written.getvalue()), dtype=torch.uint8).to(device)
    sizes = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(world())]
    dist.all_gather(sizes, torch.tensor([len(mine)], device=device))
    most = max(int(size) for size in sizes)
    parts = [mine.new_zeros(most) for _ in sizes]
    dist.all_gather(parts, torch.cat([mine, mine.new_zeros(most - len(mine))]))
    return [
        torch.load(
            io.BytesIO(part[: int(size)].cpu().numpy().tobytes()),
            map_location="cpu",
            weights_only=True,
        )
        for part, size in zip(parts, sizes, strict=True)
    ]


def together(function: Callable[[], T]) -> T:
    """What a function returns, unless it fails on one of the ranks: then it fails on all.

    Else the others would wait for it for ever.

    Raises:
        InputError: That of the first rank on which there was one; `shared` on the others.
    """
    if world() == 1:
        return function()
    error: InputError | None = None
    try:
        answer = function()
    except InputError as caught:
        error = caught
    failed = torch.tensor([error is not None], dtype=torch.int64, device=_device())
    dist.all_reduce(failed)
    if not int(failed):
        return answer
    said = [text for text in gathered("" if error is None else str(error)) if text]
    told = InputError(said[0])
    told.shared = True
    raise told from error


def _device() -> torch.device:
    """Where the ranks' back end can send from."""
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
