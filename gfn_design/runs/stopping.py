"""A run that is told to stop saves its last whole batch first."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGXCPU")  # SIGUSR1: a scheduler's time is up


class Stopped(KeyboardInterrupt):  # no error
    """A run was told to stop.

    Args:
        hint: What goes on from where.
        number: Of the signal.
    """

    def __init__(self, hint: str = "", number: int = signal.SIGINT) -> None:
        super().__init__(hint)
        self.exit_code = 128 + number


class Stops:
    """Takes signals for a wish to stop, granted where nothing is lost.

    While `is_safe` says so that is at once; else whoever trains looks at `requested` after each
    batch. A second Ctrl-C is granted at once too. Signals that are ignored, as by nohup, stay so.

    Attributes:
        requested: The number of the signal that came first; 0 if none has.
        is_safe: Whether all that was learned is saved.
    """

    def __init__(self) -> None:
        self.requested = 0
        self.is_safe: Callable[[], bool] = lambda: True
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stops":
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def install(self) -> None:
        """Listen, also where Lightning has begun to do so instead; only in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        for name in NAMES:
            number = getattr(signal, name, None)  # Windows has not all
            if number is None or signal.getsignal(number) == signal.SIG_IGN:
                continue
            before = signal.signal(number, self._heard)
            if before != self._heard:
                self._before.setdefault(number, before)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        again = bool(self.requested)
        self.requested = self.requested or number
        if self.is_safe() or (again and number == signal.SIGINT):
            raise Stopped("", self.requested)
        if not again:  # printing might be what was interrupted
            os.write(2, b"\nstopping when this batch is done (Ctrl-C again: at once) ...\n")
