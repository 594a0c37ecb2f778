"""Cards of designs: what each is, how far it is as wanted, and what is nearest to it."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from gfn_design.errors import InputError
from gfn_design.results.changes import change_of_sequences
from gfn_design.results.drawings import drawn
from gfn_design.rewards.desirability import desirability, limits
from gfn_design.rewards.proxy_values import Predictor

if TYPE_CHECKING:
    from gfn_design.data.base import DataModule

Cells = dict[str, str]


class Wish(NamedTuple):
    """A term of the reward.

    Attributes:
        title: A column of the candidates.
        want: In words.
    """

    title: str
    want: str

    @property
    def bound(self) -> float | None:
        """The one limit that it has, None if it has none or two."""
        finite = [x for x in limits(self.want) if math.isfinite(x)]
        return finite[0] if len(finite) == 1 else None


class Value(NamedTuple):
    """What a design has of a wish.

    Attributes:
        title: Of the term.
        text: Its value.
        want: In words.
        worth: From 0 to 1, as a percentage.
        met: Whether it is as wanted.
    """

    title: str
    text: str
    want: str
    worth: int
    met: bool


class Card(NamedTuple):
    """All there is to say of one design.

    Attributes:
        rank: 1 is the best.
        text: SMILES or sequence.
        picture: A source of an ``img``; empty for sequences.
        letters: A sequence, as pairs of a letter and whether the nearest measured one has another.
        values: Of each wish.
        expected: What the proxy says, in words; empty without one.
        nearest: The measured object nearest to it, in words; empty without one.
        nearest_picture: A source of an ``img``.
        change: From that one to this one, in words.
        alerts: Substructures that are known for trouble.
        path: How it was built.
    """

    rank: str
    text: str
    picture: str
    letters: list[tuple[str, bool]]
    values: list[Value]
    expected: str
    nearest: str
    nearest_picture: str
    change: str
    alerts: str
    path: str


def wishes_of(data: "DataModule") -> list[Wish]:
    """What a reward asks for, term by term; none if it is made otherwise."""
    titles, terms = getattr(data, "titles", []), getattr(data, "terms", [])
    return [Wish(title, term.wanted()) for title, term in zip(titles, terms, strict=True)]


def text_of(row: Cells) -> str:
    """The SMILES or the sequence of a row."""
    return row.get("smiles") or row.get("sequence") or row.get("object") or ""


def cards_of(
    rows: Sequence[Cells], wishes: Sequence[Wish], predictors: Sequence[Predictor], symbols: bool
) -> list[Card]:
    """A card for each row of ``candidates.csv``, with what its first proxy finds nearest."""
    nearest: list[str | None] = [None] * len(rows)
    if predictors and rows:
        proxy = predictors[0].proxy
        places = proxy.predict([text_of(row) for row in rows]).nearest.tolist()
        nearest = [proxy.about.texts[place] for place in places]
    pairs = zip(rows, nearest, strict=True)
    return [card_of(row, wishes, predictors, symbols, other) for row, other in pairs]


def card_of(
    row: Cells,
    wishes: Sequence[Wish],
    predictors: Sequence[Predictor],
    symbols: bool,
    other: str | None = None,
) -> Card:
    """A card by a row of ``candidates.csv``.

    Args:
        row: Its cells by column.
        wishes: Of the reward.
        predictors: That were asked.
        symbols: Whether designs are sequences.
        other: The measured object nearest to it, None without one.
    """
    text = text_of(row)
    expected = nearest = change = ""
    if predictors and f"{predictors[0].name}_second" in row:
        name = predictors[0].name
        expected = (
            f"{name} {row[name]}, from {row[f'{name}_low']} to {row[f'{name}_high']} (80 %); "
            f"second opinion {row[f'{name}_second']}"
        )
        label, measured = row[f"{name}_nearest"], row[f"{name}_nearest_measured"]
        nearest = f"{label}, measured {measured}, similarity {row[f'{name}_similarity']}"
    picture = nearest_picture = ""
    letters: list[tuple[str, bool]] = []
    if row.get("smiles"):
        found = drawn(text, other)
        picture, nearest_picture, change = found.design, found.nearest, found.change
    elif symbols:
        change = "" if other is None else change_of_sequences(text, other)
        letters = marked(text, other)
    return Card(
        row.get("rank", ""),
        text,
        picture,
        letters,
        [value for wish in wishes if (value := _value(wish, row)) is not None],
        expected,
        nearest,
        nearest_picture,
        change,
        row.get("alerts", ""),
        row.get("path", ""),
    )


def marked(text: str, other: str | None) -> list[tuple[str, bool]]:
    """Letters, each with whether another sequence has something else there."""
    from difflib import SequenceMatcher

    if other is None:
        return [(letter, False) for letter in text]
    found = []
    for what, _, _, start, end in SequenceMatcher(None, other, text, autojunk=False).get_opcodes():
        found += [(letter, what != "equal") for letter in text[start:end]]
    return found


def _value(wish: Wish, row: Cells) -> Value | None:
    import torch

    try:
        number = float(row.get(wish.title, ""))
        worth = float(desirability(wish.want)(torch.tensor([number], dtype=torch.float64))[0])
    except (ValueError, InputError):
        return None
    low, high = limits(wish.want)
    met = low <= number <= high
    return Value(wish.title, f"{number:.4g}", wish.want, round(100 * min(worth, 1.0)), met)
