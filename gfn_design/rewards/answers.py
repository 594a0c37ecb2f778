"""What scorers answer: one number, or several, for each text, or why not."""

import math
import os
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

Row = tuple[float, ...]


class ScoringError(Exception):
    """Texts could not be scored; the message goes on where a sentence began with who failed.

    Args:
        text: Such as "took longer than 10 s".
        done: The answers for the first texts, where these are known.
        doubtful: Texts of an earlier call whose answers may be those of others.
    """

    def __init__(self, text: str, done: Sequence[Any] = (), doubtful: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.done, self.doubtful = list(done), list(doubtful)


class Answer(NamedTuple):
    """What a program says of a text: numbers, of which the first is the score, by name."""

    numbers: Row
    names: tuple[str, ...]


class Refusal(NamedTuple):
    """A text that a program says it cannot score."""

    reason: str


def call(function: Callable[[list[str]], Sequence[Any]], texts: list[str]) -> list[Any]:
    """What a function answers, one for each text.

    Raises:
        ScoringError: It has done something else.
    """
    given, here = [*texts], os.getcwd()
    try:
        answers = answers_for(texts, function(given))
    finally:
        if os.getcwd() != here:  # as wrappers of docking programs do
            os.chdir(here)
    if given != texts and len(given) == len(texts):
        raise ScoringError(
            "has changed the order of the texts it was given; it must work on a copy"
        )
    return answers


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
        got = f"{several(len(given), 'number')} for {several(len(texts), 'text')}"
        raise ScoringError(f"returned {got}")
    return given


def short(value: Any) -> str:
    """A value for a sentence: one line of some sixty letters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:60]} ..."


def listed(names: Sequence[str]) -> str:
    """Names for a sentence."""
    return ", ".join(names) if names else "one number"


def several(count: int, noun: str) -> str:
    """A count with its noun."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def raised(error: Exception) -> str:
    """An exception of somebody's function, with the place where it happened."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    words = f"{error}".strip().partition("\n")[0][:200] or "no message"
    return (
        f"raised {type(error).__name__} ({words}; {Path(last.filename).name}, line {last.lineno})"
    )


def told(error: Exception) -> ScoringError:
    """What came of a call, as a `ScoringError`."""
    if isinstance(error, ScoringError):
        return error
    told = ScoringError(raised(error))
    told.__cause__ = error
    return told


def number(value: Any) -> float:
    """An answer as a number.

    Raises:
        ScoringError: It is none, or not finite.
    """
    try:
        if isinstance(value, str) or getattr(value, "ndim", False):  # an array is no number
            raise TypeError
        number = float(value)
    except OverflowError as error:
        raise ScoringError("returned a whole number that is too large for a float") from error
    except (TypeError, ValueError) as error:
        raise ScoringError(f"returned {short(value)} and not a number") from error
    if not math.isfinite(number):
        raise ScoringError(f"returned {number} and not a finite number")
    return number
