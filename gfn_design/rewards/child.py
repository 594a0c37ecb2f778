"""Processes that read lines and write lines, and end with all that they started."""

import os
import queue
import shlex
import signal
import subprocess
import threading
import weakref
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import BinaryIO

from gfn_design.errors import InputError
from gfn_design.rewards.answers import ScoringError

END_SECONDS = 5.0  # for a program to end when its input has


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
        self._ended = False  # its output has
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
            line = None if self._ended else self._lines.get(timeout=timeout)
        except queue.Empty:
            raise ScoringError(f"took longer than {timeout:g} s") from None
        if line is None:
            self._ended = True
            self._readers[1].join(1)
            last = [e for e in (x.decode(errors="replace").strip() for x in self._errors) if e]
            said = f", saying '{last[-1]}'" if last else ""
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(1)
            code = self.process.returncode
            raise ScoringError(f"ended with exit code {code} before it had answered{said}")
        return line

    def waiting(self, seconds: float = 0.0) -> str | None:
        """A line that nobody has read yet, if there is one before its output or the time ends."""
        with suppress(queue.Empty):
            line = None if self._ended else self._lines.get(seconds > 0, seconds or None)
            self._ended = self._ended or line is None
            return line
        return None

    def finish(self) -> str | None:
        """End its input, and return a line that it still writes, if any."""
        with suppress(OSError, ValueError):
            assert self.process.stdin
            self.process.stdin.close()
        return self.waiting(END_SECONDS)


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
    """End a process and what it has started, which may outlive it."""
    for kind in ("SIGTERM", "SIGKILL"):
        with suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, getattr(signal, kind))
            else:
                process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
            if not _has_group(process.pid):
                break
    for reader in readers:
        reader.join(1)
    with suppress(OSError):
        assert process.stdin
        process.stdin.close()


def _has_group(number: int) -> bool:
    """Whether anything is left of a process and what it has started."""
    try:
        os.killpg(number, 0)
    except (OSError, AttributeError):
        return False
    return True


class Restarted:
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
