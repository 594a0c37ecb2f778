"""Other processes that score: functions that may hang, and programs of any kind.

A child process reads lines and writes lines. A program reads texts, one a line, and answers each
by a number on a line. A function runs in `gfn_design.rewards.worker`, where a line is a batch.
"""

import importlib.util
import json
import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from gfn_design.errors import InputError
from gfn_design.rewards.scorer import Here, ScoringError, Worker

START_SECONDS = 120.0  # for a process that imports somebody's file; torch alone may take 20


class Child:
    """A process that reads lines and writes lines; it ends with this object or with Python.

    It gets no Ctrl-C of its own, and is killed with all that it started.

    Args:
        command: The program and its arguments.
        variables: Of its environment, besides ours.

    Raises:
        InputError: There is no such program.
    """

    def __init__(self, command: list[str], variables: dict[str, str]) -> None:
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=os.environ | variables,
                start_new_session=True,
            )
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"'{shlex.join(command)}' cannot be started ({reason})") from error
        assert self.process.stdin
        assert self.process.stdout
        assert self.process.stderr
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._errors: deque[bytes] = deque(maxlen=20)
        # Threads read, since a pipe that is full blocks a child; they must not hold this object.
        self._readers = [
            threading.Thread(target=_read, args=(self.process.stdout, self._lines), daemon=True),
            threading.Thread(target=_keep, args=(self.process.stderr, self._errors), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        self.end = weakref.finalize(self, _end, self.process, self._readers)

    @property
    def is_alive(self) -> bool:
        """Whether it can still be asked."""
        return self.end.alive and self.process.poll() is None

    def write(self, lines: Iterable[str]) -> None:
        """Hand over lines, and do not wait until they are read."""
        text = "".join(f"{line}\n" for line in lines).encode()
        threading.Thread(target=_write, args=(self.process.stdin, text), daemon=True).start()

    def read(self, timeout: float | None) -> str:
        """The next line.

        Raises:
            ScoringError: None came within `timeout` seconds, or the process has ended.
        """
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            raise ScoringError(f"took longer than {timeout:g} s") from None
        if line is None:
            self._readers[1].join(1)
            last = [e for e in (x.decode(errors="replace").strip() for x in self._errors) if e]
            said = f", saying '{last[-1]}'" if last else ""
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(1)
            code = self.process.returncode
            raise ScoringError(f"ended with exit code {code} before it had answered{said}")
        return line

    def waiting(self) -> str | None:
        """A line that nobody has read yet."""
        with suppress(queue.Empty):
            return self._lines.get_nowait()
        return None


def _read(stream: BinaryIO, lines: "queue.SimpleQueue[str | None]") -> None:
    with stream:
        for line in stream:
            lines.put(line.decode(errors="replace").strip())
    lines.put(None)


def _keep(stream: BinaryIO, lines: deque[bytes]) -> None:
    with stream:
        lines.extend(stream)


def _write(stream: BinaryIO, text: bytes) -> None:
    with suppress(OSError, ValueError):  # it has ended, as the reader will find
        stream.write(text)
        stream.flush()


def _end(process: "subprocess.Popen[bytes]", readers: list[threading.Thread]) -> None:
    if process.poll() is None:
        for kind in ("SIGTERM", "SIGKILL"):
            with suppress(OSError):
                if hasattr(os, "killpg"):
                    os.killpg(process.pid, getattr(signal, kind))
                else:
                    process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.5)
                break
    for reader in readers:
        reader.join(1)
    with suppress(OSError):
        assert process.stdin
        process.stdin.close()


class _Restarted:
    """A worker with a child process that is started when needed, and anew after a failure."""

    def __init__(self, timeout: float | None) -> None:
        if timeout is not None and not timeout > 0:
            raise InputError(f"timeout must be positive, got {timeout}")
        self.timeout = timeout
        self._child: Child | None = None

    def close(self) -> None:
        if self._child is not None:
            self._child.end()
        self._child = None


class ProgramWorker(_Restarted):
    """A program that reads texts, one a line, and writes a number for each, one a line.

    It stays open from batch to batch: it must answer before it sees the end of its input, and flush
    what it writes (a Python program does).

    Args:
        command: As a shell would take it, without pipes.
        timeout: Seconds that each number may take.
    """

    def __init__(self, command: str, timeout: float | None) -> None:
        super().__init__(timeout)
        try:
            self.command = shlex.split(command)
        except ValueError as error:
            raise InputError(f"the command '{command}' cannot be read ({error})") from error
        if not self.command:
            raise InputError("the command is empty; name a program and its arguments")

    def __call__(self, texts: list[str]) -> Callable[[], list[float]]:
        if self._child is None or not self._child.is_alive:
            self.close()
            self._child = Child(self.command, {"PYTHONUNBUFFERED": "1"})
        child, unasked = self._child, self._child.waiting()
        if unasked is None:
            child.write(texts)
        return partial(self._answers, child, len(texts), unasked)

    def _answers(self, child: Child, n: int, unasked: str | None) -> list[float]:
        done: list[float] = []
        try:
            if unasked is not None:
                raise ScoringError(f"wrote the line '{unasked}' without being asked")
            while len(done) < n:
                line = child.read(self.timeout)
                try:
                    done.append(float(line))
                except ValueError:
                    text = f"wrote '{line[:60]}' and not a number"
                    raise ScoringError(text) from None
        except ScoringError as error:
            self.close()
            raise ScoringError(str(error), done) from None
        return done


class FunctionWorker(_Restarted):
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
        if self._child is None or not self._child.is_alive:
            self.close()
            path = os.pathsep.join(filter(None, sys.path))
            variables = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
            command = [sys.executable, "-m", "gfn_design.rewards.worker"]
            self._child, self._is_ready = Child(command, variables), False
            self._child.write([self.what])
        self._child.write([json.dumps(texts)])
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
) -> list[Worker]:
    """A function here, or in `n_workers` processes, at least one if there is a time-out.

    Of an object that is called like a function, other processes make their own by `arguments`.

    Raises:
        InputError: Another process could not find the function.
    """
    if n_workers < 0:
        raise InputError(f"n_workers must not be negative, got {n_workers}")
    if not n_workers and timeout is None:
        return [Here(function)]
    kind: Any = type(function)
    path, arguments = importable(function if arguments is None else partial(kind, **arguments))
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
            f"{name_of(function)} cannot be found by another process, which n_workers and timeout "
            "need; define it by its name in a file of its own"
        )
    is_packaged = "." in module.__name__ and importlib.util.find_spec(module.__name__) is not None
    return f"{module.__name__}.{name}" if is_packaged else f"{file}:{name}", arguments
