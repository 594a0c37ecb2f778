"""Functions that a compiler is to leave alone, without importing one."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch

Function = TypeVar("Function", bound=Callable[..., Any])
_kept: list[tuple[list[Callable[..., Any]], str]] = []


def untraced(reason: str) -> Callable[[Function], Function]:
    """As ``torch.compiler.disable(reason=reason)``, which takes effect with `keep_untraced`.

    torch imports Dynamo for its own, which takes most of a second, compiled or not.

    Args:
        reason: Why it cannot be compiled.
    """

    def mark(function: Function) -> Function:
        now: list[Callable[..., Any]] = [function]
        _kept.append((now, reason))

        @wraps(function)
        def inner(*arguments: Any, **options: Any) -> Any:
            return now[0](*arguments, **options)

        return cast(Function, inner)

    return mark


def keep_untraced() -> None:
    """Tell the compiler what to leave alone. To be called before compiling, as often as one likes.

    What is marked later is left alone at the next call.
    """
    while _kept:
        now, reason = _kept.pop()
        now[0] = torch.compiler.disable(now[0], reason=reason)
