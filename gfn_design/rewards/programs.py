"""Programs of any kind that score: they read texts, one a line, and answer each by a line."""

import re
import shlex
from collections.abc import Callable
from functools import partial
from typing import Any

from gfn_design.errors import InputError
from gfn_design.rewards.answers import Answer, Refusal, ScoringError
from gfn_design.rewards.child import Child, Restarted

PROTOCOL = "1"  # of lines, see docs/programs.md
GRACE = 0.005  # seconds in which a line too many is mostly there
BABBLE = 3  # texts in a row to which a program writes what is no answer


class ProgramWorker(Restarted):
    """A program that reads texts, one a line, and writes an answer for each, one a line.

    It stays open from batch to batch: it must answer before it sees the end of its input, and flush
    what it writes (a Python program does).

    Args:
        command: As a shell would take it, without pipes.
        timeout: Seconds that each answer may take.
        value: The name of the number that is the score, where there are several; None takes the
            first.
    """

    def __init__(self, command: str, timeout: float | None, value: str | None = None) -> None:
        super().__init__(timeout)
        self.value = value
        self._latest: list[str] = []  # texts of the call before
        self._babble: list[str] = []  # texts in a row to which it wrote no answer
        try:
            self.command = shlex.split(command)
        except ValueError as error:
            raise InputError(f"the command '{command}' cannot be read ({error})") from error
        if not self.command:
            raise InputError("the command is empty; name a program and its arguments")

    def __call__(self, texts: list[str]) -> Callable[[], list[Any]]:
        if self._child is None or not self._child.is_alive:
            self.close()
            variables = {"PYTHONUNBUFFERED": "1", "GFN_DESIGN_PROTOCOL": PROTOCOL}
            self._child = Child(self.command, variables)
        child, unasked = self._child, self._child.waiting()
        before, self._latest = self._latest, texts
        if unasked is None:
            child.write(texts)
        return partial(self._answers, child, texts, unasked, before)

    def settle(self) -> None:
        """End the program, and see whether it writes more than it was asked for.

        Raises:
            ScoringError: It does.
        """
        if self._child is None:
            return
        unasked = self._child.finish()
        before, self._latest = self._latest, []
        self.close()
        if unasked is not None and before:
            raise ScoringError(_surplus(unasked), doubtful=before)

    def close(self) -> None:
        super().close()
        self._latest = []

    def _answers(
        self, child: Child, texts: list[str], unasked: str | None, before: list[str]
    ) -> list[Any]:
        done: list[Any] = []
        try:
            if unasked is None:
                done.extend(self._answer(child, text) for text in texts)
                unasked, before = child.waiting(GRACE), texts
            if unasked is not None:
                raise ScoringError(_surplus(unasked), doubtful=before)
        except ScoringError as error:
            self.close()
            raise ScoringError(str(error), done, error.doubtful) from None
        return done

    def _answer(self, child: Child, text: str) -> Any:
        line = child.read(self.timeout)
        answer = parsed(line, self.value)
        if answer is not None:
            self._babble = []
            return answer
        what = f"wrote '{line[:60]}' and not a number"
        self._babble = [*self._babble, *([] if text in self._babble else [text])]
        if len(self._babble) >= BABBLE:
            raise InputError(
                f"'{shlex.join(self.command)}' {what} for each of {BABBLE} texts in a row, and was "
                "started anew each time; it must write one line with its answer for each text, and "
                "everything else to its standard error"
            )
        raise ScoringError(what)


def _surplus(line: str) -> str:
    return f"wrote the line '{line[:60]}' without being asked"


def parsed(line: str, value: str | None = None) -> float | Answer | Refusal | None:
    """The answer in a line, or None if it is none.

    A number; several, between blanks, commas or semicolons, each as ``name=number`` or all without
    names; or ``error: reason`` for a text that cannot be scored.

    Args:
        line: What a program wrote.
        value: The name of the number that is the score.
    """
    if line.lower().startswith("error:"):
        return Refusal(line[6:].strip() or "no reason given")
    names, numbers = [], []
    for place, word in enumerate(re.split(r"[,;\s]+", line.strip(" \t,;")), 1):
        name, equals, number = word.rpartition("=")
        try:
            numbers.append(float(number))
        except ValueError:
            return None
        names.append(name if equals else f"value_{place}")
    if len(numbers) == 1 and value is None and names == ["value_1"]:
        return numbers[0]
    if len(set(names)) < len(names):
        return None
    first = 0
    if value is not None:
        if value not in names:
            return None
        first = names.index(value)
    order = [first, *(i for i in range(len(names)) if i != first)]
    return Answer(tuple(numbers[i] for i in order), tuple(names[i] for i in order))
