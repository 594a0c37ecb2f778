"""Asks workers for the scores of texts, and holds what fails to a policy."""

import functools
import logging
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal

from gfn_design.errors import InputError
from gfn_design.rewards.answers import (
    Answer,
    Refusal,
    Row,
    ScoringError,
    answers_for,
    call,
    listed,
    number,
    several,
    told,
)

_log = logging.getLogger(__name__)

Worker = Callable[[list[str]], Callable[[], Sequence[Any]]]
"""Takes texts, and returns what waits for the answers: so several workers can be at it at once."""

AT_ONCE = 512  # texts of one call, so that a time-out means the same in training and evaluation

Policy = Literal["stop", "floor"]


class DoubtError(InputError):
    """The latest scores may be those of other texts.

    Args:
        name: Who scored.
        problem: What it did.

    Attributes:
        texts: Whose scores are not to be trusted.
    """

    def __init__(self, name: str, problem: ScoringError) -> None:
        self.texts = problem.doubtful
        super().__init__(
            f"{name} {problem}, so the scores of the latest {several(len(self.texts), 'text')}, "
            f"from '{self.texts[0]}' on, may be those of others; it must write one line for each "
            "text, and everything else to its standard error; the last checkpoint may hold what "
            "was learned from them"
        )


class Asker:
    """Gives texts to workers.

    Where a worker fails for several texts at once, they are given to it one by one, so that only
    those at fault are lost and the first of them can be named.

    Args:
        name: Who scores, as sentences begin with it.
        workers: Each takes an equal part of the texts.
        width: Each answer is a list of so many numbers; None: a number.
        retries: How often a text is tried again.
        failed: ``stop`` raises for the first text that cannot be scored; ``floor`` goes on without
            its numbers, and logs the first such text.

    Attributes:
        names: Of the numbers of a text, where there are several.
    """

    def __init__(
        self, name: str, workers: Sequence[Worker], width: int | None, retries: int, failed: Policy
    ) -> None:
        if failed not in ("stop", "floor"):
            raise InputError(f"failed must be stop or floor, got '{failed}'")
        if retries < 0:
            raise InputError(f"retries must not be negative, got {retries}")
        self.name, self.workers, self.width = name, list(workers), width
        self.retries, self.failed = retries, failed
        self.names: tuple[str, ...] = ()
        self._told = False

    def settle(self) -> None:
        """Make sure that nobody has said more than was asked.

        Raises:
            DoubtError: Somebody has.
        """
        for worker in self.workers:
            if (settle := getattr(worker, "settle", None)) is not None:
                try:
                    settle()
                except ScoringError as error:
                    raise DoubtError(self.name, error) from error

    def close(self) -> None:
        """End the workers' processes; the next call starts new ones."""
        for worker in self.workers:
            if (close := getattr(worker, "close", None)) is not None:
                close()

    def __call__(self, texts: list[str]) -> list[Row | None]:
        """The numbers of each text, None where there are none; see the errors of `Scorer`."""
        rows: list[Row | None] = []
        workers = self.workers
        for first in range(0, len(texts), AT_ONCE * len(workers)):
            some = texts[first : first + AT_ONCE * len(workers)]
            bounds = [len(some) * i // len(workers) for i in range(len(workers) + 1)]
            parts = [some[start:end] for start, end in pairwise(bounds)]
            jobs = [(worker, part) for worker, part in zip(workers, parts, strict=True) if part]
            waiting = [(worker, part, worker([*part])) for worker, part in jobs]
            rows += [row for job in waiting for row in self._settle(*job)]
        return rows

    def _settle(
        self, worker: Worker, texts: list[str], wait: Callable[[], Sequence[Any]]
    ) -> list[Row | None]:
        problem = None
        try:
            answers = answers_for(texts, wait())
        except InputError:
            raise
        except Exception as error:
            problem = told(error)
            answers = problem.done
            if problem.doubtful:
                raise DoubtError(self.name, problem) from error
        rows: list[Row | None] = []
        for answer, text in zip(answers, texts, strict=False):
            try:
                rows.append(self.row(answer))
            except ScoringError as error:
                rows.append(self._alone(worker, text, error))
        if problem is not None:
            rest = texts[len(rows) :]
            rows += [self._alone(worker, text) for text in rest]
            self._warn(problem, rest[0], "these texts were scored one by one, which takes longer")
            if self.failed == "stop" and not self.retries:  # each was scored alone: what now?
                raise self._stop(problem, rest)
        return rows

    def _alone(self, worker: Worker, text: str, problem: ScoringError | None = None) -> Row | None:
        """Score one text; `problem` is what came of the first try, if there was one."""
        for _ in range(self.retries + (problem is None)):
            try:
                return self.row(answers_for([text], worker([text])())[0])
            except InputError:
                raise
            except Exception as error:
                problem = told(error)
                if problem.doubtful:
                    raise DoubtError(self.name, problem) from error
        assert problem is not None
        if self.failed == "stop":
            raise self._stop(problem, [text])
        self._warn(problem, text, "such texts count as the minimum, and are counted in the log")
        return None

    def _warn(self, problem: ScoringError, text: str, what: str) -> None:
        """Say once what has gone wrong."""
        if not self._told:
            self._told = True
            _log.warning("%s %s, given '%s'; %s", self.name, problem, text, what)

    def row(self, answer: Any) -> Row:
        """The numbers of an answer.

        Raises:
            ScoringError: It holds none, or others than were wanted.
        """
        if isinstance(answer, Refusal):
            raise ScoringError(f"could not score it ({answer.reason})")
        if isinstance(answer, Answer):
            self.names = self.names or answer.names
            if answer.names != self.names:
                raise ScoringError(
                    f"wrote {listed(answer.names)} where it had written {listed(self.names)}"
                )
            return tuple(map(number, answer.numbers))
        if self.width is None:
            return (number(answer),)
        row = tuple(map(number, answer))
        if len(row) != self.width:
            raise ScoringError(
                f"returned {several(len(row), 'number')} for a text, not {self.width}"
            )
        return row

    def _stop(self, problem: ScoringError, texts: list[str]) -> InputError:
        more = f" and {len(texts) - 1} more" if len(texts) > 1 else ""
        return InputError(
            f"{self.name} {problem}, given '{texts[0]}'{more}; mend it, or set failed: floor to "
            "count such texts as the minimum"
        )


class Here:
    """A worker in this process, which nothing can interrupt."""

    def __init__(self, function: Callable[[list[str]], Sequence[Any]]) -> None:
        self.function = function

    def __call__(self, texts: list[str]) -> Callable[[], Sequence[Any]]:
        return functools.partial(call, self.function, texts)
