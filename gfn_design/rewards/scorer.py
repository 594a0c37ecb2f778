"""Scores of texts from functions that may fail: cached, tried again, and held to a policy."""

import functools
import logging
import math
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from gfn_design.errors import InputError

_log = logging.getLogger(__name__)

Row = tuple[float, ...]
Worker = Callable[[list[str]], Callable[[], Sequence[Any]]]
"""Takes texts, and returns what waits for the answers: so several workers can be at it at once."""

AT_ONCE = 512  # texts of one call, so that a time-out means the same in training and evaluation

Policy = Literal["stop", "floor"]


class ScoringError(Exception):
    """Texts could not be scored; the message goes on where a sentence began with who failed.

    Args:
        text: Such as "took longer than 10 s".
        done: The answers for the first texts, where these are known.
    """

    def __init__(self, text: str, done: Sequence[Any] = ()) -> None:
        super().__init__(text)
        self.done = list(done)


class Scorer:
    """Calls workers for texts it has not seen before, and decides what a failure means.

    Where a worker fails for several texts at once, they are given to it one by one, so that only
    those at fault are lost and the first of them can be named.

    Args:
        name: Who scores, as sentences begin with it.
        workers: Each takes an equal part of the texts.
        width: Each answer is a list of so many numbers; None: a number.
        retries: How often a text is tried again.
        failed: ``stop`` raises for the first text that cannot be scored; ``floor`` goes on without
            its numbers, logs the first such text and counts all.
        cache_size: Texts whose numbers are kept, the latest ones.

    Attributes:
        scored: Texts that workers were asked for, each batch's distinct ones.
        failures: Texts among them that could not be scored.
    """

    def __init__(
        self,
        name: str,
        workers: Sequence[Worker],
        width: int | None = None,
        retries: int = 0,
        failed: Policy = "stop",
        cache_size: int = 100_000,
    ) -> None:
        if failed not in ("stop", "floor"):
            raise InputError(f"failed must be stop or floor, got '{failed}'")
        if retries < 0:
            raise InputError(f"retries must not be negative, got {retries}")
        if cache_size < 0:
            raise InputError(f"cache_size must not be negative, got {cache_size}")
        self.name, self.workers, self.width = name, list(workers), width
        self.retries, self.failed, self.cache_size = retries, failed, cache_size
        self.scored = self.failures = 0
        self._cache: OrderedDict[str, Row | None] = OrderedDict()

    def __call__(self, texts: Sequence[str]) -> list[Row | None]:
        """The numbers of each text, None where there are none.

        Raises:
            InputError: A text cannot be scored, and the policy is to stop.
        """
        known = {text: self._cache[text] for text in texts if text in self._cache}
        fresh = [text for text in dict.fromkeys(texts) if text not in known]
        try:
            known |= zip(fresh, self._score(fresh), strict=True)
        except BaseException:  # Ctrl-C too: an answer that is still to come would be taken
            self.close()  # for that of the next question
            raise
        self._cache |= {text: known[text] for text in fresh}
        while len(self._cache) > self.cache_size:
            self._cache.popitem(last=False)
        return [known[text] for text in texts]

    def close(self) -> None:
        """End the workers' processes; the next call starts new ones."""
        for worker in self.workers:
            if (close := getattr(worker, "close", None)) is not None:
                close()

    def _score(self, texts: list[str]) -> list[Row | None]:
        rows: list[Row | None] = []
        workers = self.workers
        for first in range(0, len(texts), AT_ONCE * len(workers)):
            some = texts[first : first + AT_ONCE * len(workers)]
            bounds = [len(some) * i // len(workers) for i in range(len(workers) + 1)]
            parts = [some[start:end] for start, end in pairwise(bounds)]
            jobs = [(worker, part) for worker, part in zip(workers, parts, strict=True) if part]
            waiting = [(worker, part, worker(part)) for worker, part in jobs]
            self.scored += len(some)
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
            problem = _told(error)
            answers = problem.done
        rows: list[Row | None] = []
        for answer, text in zip(answers, texts, strict=False):
            try:
                rows.append(self._row(answer))
            except ScoringError as error:
                rows.append(self._alone(worker, text, error))
        if problem is not None:
            rest = texts[len(rows) :]
            rows += [self._alone(worker, text) for text in rest]
            if self.failed == "stop" and not self.retries:  # each was scored alone: what now?
                raise self._stop(problem, rest)
        return rows

    def _alone(self, worker: Worker, text: str, problem: ScoringError | None = None) -> Row | None:
        """Score one text; `problem` is what came of the first try, if there was one."""
        for _ in range(self.retries + (problem is None)):
            try:
                return self._row(answers_for([text], worker([text])())[0])
            except InputError:
                raise
            except Exception as error:
                problem = _told(error)
        assert problem is not None
        if self.failed == "stop":
            raise self._stop(problem, [text])
        if not self.failures:
            _log.warning(
                "%s %s, given '%s'; such texts count as the minimum, and are counted in the log",
                self.name,
                problem,
                text,
            )
        self.failures += 1
        return None

    def _row(self, answer: Any) -> Row:
        if self.width is None:
            return (_number(answer),)
        row = tuple(map(_number, answer))
        if len(row) != self.width:
            raise ScoringError(
                f"returned {_several(len(row), 'number')} for a text, not {self.width}"
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
        return functools.partial(self.function, texts)


def answers_for(texts: Sequence[str], answers: Iterable[Any] | None) -> list[Any]:
    """What a function returned, as a list of one answer for each text.

    Raises:
        ScoringError: It is no such thing.
    """
    if answers is None:
        raise ScoringError("returned None and not one number for each text")
    try:
        given = list(answers)
    except TypeError as error:
        kind = type(answers).__name__
        raise ScoringError(f"returned a {kind} and not one number for each text") from error
    if len(given) != len(texts):
        got = f"{_several(len(given), 'number')} for {_several(len(texts), 'text')}"
        raise ScoringError(f"returned {got}")
    return given


def _several(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def raised(error: Exception) -> str:
    """An exception of somebody's function, with the place where it happened."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    words = f"{error}".strip().partition("\n")[0] or "no message"
    return (
        f"raised {type(error).__name__} ({words}; {Path(last.filename).name}, line {last.lineno})"
    )


def _told(error: Exception) -> ScoringError:
    if isinstance(error, ScoringError):
        return error
    told = ScoringError(raised(error))
    told.__cause__ = error
    return told


def _number(value: Any) -> float:
    try:
        if isinstance(value, str) or getattr(value, "ndim", False):  # an array is no number
            raise TypeError
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ScoringError(f"returned {value!r} and not a number") from error
    if not math.isfinite(number):
        raise ScoringError(f"returned {number} and not a finite number")
    return number
