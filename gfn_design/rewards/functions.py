"""Functions that score, in this process or in others, where they may hang and be ended.

Another process runs `gfn_design.rewards.worker`, to which a line is a batch.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from gfn_design.errors import InputError
from gfn_design.rewards.answers import ScoringError
from gfn_design.rewards.asker import Here, Worker
from gfn_design.rewards.child import Child, Restarted
from gfn_design.rewards.dask import DaskWorker
from gfn_design.rewards.sources import importable

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
        return [DaskWorker(dask, path, arguments, timeout)]
    return [FunctionWorker(path, arguments, timeout) for _ in range(max(n_workers, 1))]
