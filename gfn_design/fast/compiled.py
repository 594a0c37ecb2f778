"""Compilation as an option: faster where a compiler is, equal results up to rounding."""

import logging
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from gfn_design.fast import imports
from gfn_design.untraced import keep_untraced

ON_CPU: dict[str, Any] = {
    "cpp_wrapper": True,  # calls kernels from C++
    "cpp.min_chunk_size": 4096,  # numbers for a thread: fewer are sooner done by one than shared
}
AS_GRAPH: dict[str, Any] = {"triton.cudagraphs": True}
OPTIONS: dict[str, Any] = {
    # Functions and constants of modules do not change while a model trains; looking whether they
    # have costs as much as an update.
    "guard_filter_fn": torch.compiler.skip_guard_on_globals_unsafe,
}
logger = logging.getLogger(__name__)


State = tuple[Any, ...]


def repeat_while(more: Callable[..., Tensor], step: Callable[..., State], state: State) -> State:
    """``while more(*state): state = step(*state)``, in a compiled graph as well.

    There what `step` returns must have the shapes of what it is given, and be no view of it. The
    graph must return what comes out as it is: Inductor takes the memory of `state` for free after
    the loop, where the result may be.
    """
    if torch.compiler.is_compiling():
        from torch._higher_order_ops.while_loop import while_loop  # late: it brings Dynamo

        return cast(State, while_loop(more, step, state))
    while more(*state):
        state = step(*state)
    return state


def compiled(
    function: Callable[..., Any], dynamic: bool | None, fullgraph: bool = False, **options: Any
) -> Callable[..., Any]:
    """What `torch.compile` makes of a function, with the options of Inductor; see `Compiled`."""
    # Models of the same shapes share a graph. Torch stops at eight of a function, and the ninth
    # network that somebody tries in a process would run uncompiled.
    imports.dynamo()
    keep_untraced()
    dynamo = torch._dynamo.config
    dynamo.recompile_limit = max(dynamo.recompile_limit, 64)
    return torch.compile(function, dynamic=dynamic, fullgraph=fullgraph, options=OPTIONS | options)


_said: set[str] = set()


def warn(what: str, error: Exception) -> None:
    """Say in the log that something cannot be compiled, and why, but each reason once."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    reason = next((x.strip() for x in lines if x.strip().startswith("Explanation: ")), lines[0])
    if reason not in _said:
        _said.add(reason)
        logger.warning("%s cannot be compiled: %s", what, reason)


class Compiled:
    """A function that `torch.compile` compiles for the shapes of its arguments, at the first call.

    Where that fails, for want of a C++ compiler say, the function runs as it is; see `warn`.

    Args:
        function: Pure, with shapes that follow from those of its arguments.
        dynamic: Whether one graph serves all shapes; None is one for the first, and one for all
            others.
        replayed: On a GPU, a whole call is one launch (a CUDA graph) for each shape, and overwrites
            what the last call returned.
        **options: Of Inductor, on a CPU, besides `OPTIONS`.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        dynamic: bool | None = False,
        replayed: bool = False,
        **options: Any,
    ) -> None:
        self.function, self.dynamic, self.replayed = function, dynamic, replayed
        self.options = options
        self.run: Callable[..., Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A copy compiles a function of its own."""
        return self.__dict__ | {"run": None}

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns."""
        if self.run is not None:
            return self.run(*arguments)
        options = ON_CPU | self.options
        if any(isinstance(x, Tensor) and x.is_cuda for x in tree_leaves(arguments)):
            options = AS_GRAPH if self.replayed else {}
        run = compiled(self.function, self.dynamic, **options)
        try:
            answer = run(*arguments)
        except Exception as error:  # whatever a compiler chain may raise
            run = self.function
            answer = run(*arguments)  # raises what is not the compiler's fault
            warn(getattr(self.function, "__name__", type(self.function).__name__), error)
        self.run = run
        return answer
