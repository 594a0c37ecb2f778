"""Compilation as an option: faster where a compiler is, the same results everywhere."""

import logging
from collections.abc import Callable
from typing import Any

import torch

OPTIONS: dict[str, Any] = {"cpp_wrapper": True}  # calls kernels from C++
logger = logging.getLogger(__name__)


class Compiled:
    """A function that `torch.compile` compiles for each shape of its arguments, at the first call.

    Where that fails, for want of a C++ compiler say, the function runs as it is, and one line in
    the log says why.

    Args:
        function: Pure, with shapes that follow from those of its arguments.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.run: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns."""
        try:
            self.run = self.run or torch.compile(self.function, dynamic=False, options=OPTIONS)
            return self.run(*arguments)
        except Exception as error:  # whatever a compiler chain may raise
            answer = self.function(*arguments)  # raises what is not the compiler's fault
            reason = str(error).strip().splitlines() or [type(error).__name__]
            logger.warning("%s runs uncompiled: %s", self.function.__name__, reason[0])
            self.run = self.function
            return answer
