"""Functions that score, in this process or in others, where they may hang and be ended.

Another process runs `gfn_design.rewards.worker`, to which a line is a batch.
"""

import hashlib
import importlib.util
import json
import os
import re
import shlex
import sys
import types
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from gfn_design.errors import InputError
from gfn_design.rewards.answers import ScoringError
from gfn_design.rewards.asker import Here, Worker
from gfn_design.rewards.child import Child, Restarted

START_SECONDS = 120.0  # for a process that imports somebody's file; torch alone may take 20


class FunctionWorker(Restarted):
    """A function in a process of its own, which is killed when it takes too long.

    Args:
        path: Where it is, ``file.py:name`` or ``package.module.name``; a class is called first.
        arguments: Given to the class, or with each call of the function; plain values.
        timeout: Seconds that a batch may take.
    """

    def __init__(self, path: str, arguments: dict[str, Any], timeout: float | None) -> None:
        super().__init__(timeout)
        try:
            self.what = json.dumps({"path": path, "arguments": arguments})
        except (TypeError, ValueError) as error:
            raise InputError(
                f"the arguments of {path} cannot be sent to another process ({error}); give "
                "numbers, texts, lists and mappings of them, or leave out n_workers and timeout"
            ) from error
        self.path, self._is_ready = path, False

    def __call__(self, texts: list[str]) -> Callable[[], list[Any]]:
        lines = [json.dumps(texts)]
        if self._child is None or not self._child.is_alive:
            self.close()
            path = os.pathsep.join(filter(None, sys.path))
            variables = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
            command = [sys.executable, "-m", "gfn_design.rewards.worker"]
            self._child, self._is_ready = Child(command, variables), False
            lines.insert(0, self.what)
        self._child.write(lines)
        return partial(self._answers, self._child)

    def _answers(self, child: Child) -> list[Any]:
        if not self._is_ready:
            try:
                self._reply(child, START_SECONDS)
            except ScoringError as error:
                raise InputError(f"{self.path} {error}, when it was imported") from error
            self._is_ready = True
        return self._reply(child, self.timeout)

    def _reply(self, child: Child, timeout: float | None) -> Any:
        try:
            reply = json.loads(child.read(timeout))
        except ScoringError:
            self.close()
            raise
        if "refused" in reply:
            raise InputError(reply["refused"])
        if "error" in reply:
            raise ScoringError(reply["error"])
        return reply["answers"]


def function_workers(
    function: Callable[[list[str]], Sequence[Any]],
    n_workers: int,
    timeout: float | None,
    arguments: dict[str, Any] | None = None,
    dask: str | None = None,
) -> list[Worker]:
    """A function here, in `n_workers` processes, at least one if there is a time-out, or on Dask.

    Of an object that is called like a function, other processes make their own by `arguments`.

    Raises:
        InputError: Another process could not find the function.
    """
    if n_workers < 0:
        raise InputError(f"n_workers must not be negative, got {n_workers}")
    if dask is not None and n_workers:
        raise InputError("n_workers and dask are two places to score; leave out one of them")
    if not n_workers and timeout is None and dask is None:
        return [Here(function)]
    kind: Any = type(function)
    path, arguments = importable(function if arguments is None else partial(kind, **arguments))
    if dask is not None:
        from gfn_design.rewards.dask import DaskWorker

        return [DaskWorker(dask, path, arguments, timeout)]
    return [FunctionWorker(path, arguments, timeout) for _ in range(max(n_workers, 1))]


def name_of(function: Callable[..., Any]) -> str:
    """How a sentence calls a function."""
    while isinstance(function, partial):
        function = function.func
    name: str = getattr(function, "__qualname__", type(function).__name__)
    module = sys.modules.get(getattr(function, "__module__", ""))
    file = getattr(module, "__file__", None)
    return f"{Path(file).name}:{name}" if file else name


def importable(function: Any) -> tuple[str, dict[str, Any]]:
    """Where another process finds a function, and with which arguments it is called.

    Raises:
        InputError: It is defined within another function or at a prompt, or is none.
    """
    arguments: dict[str, Any] = {}
    while isinstance(function, partial) and not function.args:
        function, arguments = function.func, function.keywords | arguments
    name = getattr(function, "__qualname__", "<>")
    module = sys.modules.get(getattr(function, "__module__", ""))
    file = getattr(module, "__file__", None)
    if "<" in name or module is None or file is None:
        raise InputError(
            f"{name_of(function)} cannot be found by another process, which n_workers, timeout and "
            "dask need; define it by its name in a file of its own"
        )
    is_packaged = "." in module.__name__ and importlib.util.find_spec(module.__name__) is not None
    return f"{module.__name__}.{name}" if is_packaged else f"{file}:{name}", arguments


def content_of(what: str, arguments: dict[str, Any] | None = None) -> str:
    """Who scores, by content: a function with its file, or a command with the files it names."""
    names = [what, *_words(what), *re.split(r"[\s:]+", what), what.rpartition(":")[0]]
    files = [Path(name) for name in dict.fromkeys(names) if _is_file(name)]
    words = [what, *(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)]
    words.append(repr(sorted((arguments or {}).items())))
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # no command, but the name of a function
        return []


def _is_file(name: str) -> bool:
    with suppress(OSError, ValueError):
        return Path(name).is_file()
    return False


def content_of_function(function: Callable[..., Any]) -> str:
    """`content_of` a function, or of what is called like one."""
    plain: Any = function
    arguments: dict[str, Any] = {}
    while isinstance(plain, partial):
        plain, arguments = plain.func, plain.keywords | arguments
    module = sys.modules.get(getattr(plain, "__module__", None) or type(plain).__module__)
    file = getattr(module, "__file__", None) or ""
    name = getattr(plain, "__qualname__", type(plain).__qualname__)
    if not isinstance(plain, types.FunctionType | type):
        held = {k: repr(v) for k, v in getattr(plain, "__dict__", {}).items()}
        # A repr with an address is another one in each process, and says nothing.
        arguments |= {k: v for k, v in held.items() if not re.search(r" at 0x[0-9a-f]+", v)}
    return content_of(f"{file}:{name}", arguments)
