"""What a biologist wants of sequences: to bind this and not that, a share of GC, a length."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from gfn_design.data.base import DataModule
from gfn_design.environments.base import Environment
from gfn_design.environments.sequences.edits import Edits
from gfn_design.environments.sequences.sequence import Sequence
from gfn_design.errors import InputError
from gfn_design.rewards.automaton import RewardAutomaton
from gfn_design.rewards.desirability import desirability, limits
from gfn_design.rewards.jaspar import motif_of
from gfn_design.rewards.reward import Reward
from gfn_design.rewards.sequence_automaton import automaton_of
from gfn_design.rewards.sequence_score import Length, SequenceScore, Share
from gfn_design.rewards.windows import BestWindow, MotifWindow, TableWindow

PROPERTIES = ("GC", "length")


@dataclass(frozen=True)
class SequenceTerm:
    """One thing that is wanted of sequences, and its ramp.

    Args:
        table: The best window by a measured table of k-mers: a data set known by name (``six6``),
            or a file. A table of DNA that lists one strand, or lacks a few k-mers, is completed.
        factor: The best window by a motif: of JASPAR (``FOXA1``, ``MA0148.5``), or a file; in
            units from the worst (0) to the best word of the matrix (1).
        property: ``GC``, the share of G and C; or ``length``.
        want: Such as ``>= 0.45``, ``<= 0.3``, ``0.4..0.6``, ``>= 0.4 within 0.05``,
            ``maximise 0..0.5``.
        strands: ``both`` reads the other strand as well, ``given`` does not.
        score: The column of scores of a table; None takes the E-score, or the only number.
        weight: In the mean over all terms.
        name: Of the term in files; None takes that of the table, the factor or the property.
    """

    table: str | None = None
    factor: str | None = None
    property: str | None = None
    want: str = "maximise 0..1"
    strands: Literal["both", "given"] = "both"
    score: str | None = None
    weight: float = 1.0
    name: str | None = None

    def __post_init__(self) -> None:
        if sum(x is not None for x in (self.table, self.factor, self.property)) != 1:
            raise InputError("a term of sequences needs one of table, factor and property")
        if self.property is not None and self.property not in PROPERTIES:
            known = " and ".join(PROPERTIES)
            raise InputError(f"'{self.property}' is no property of sequences; there are {known}")
        if self.strands not in ("both", "given"):
            raise InputError(f"strands must be both or given, got '{self.strands}'")
        if not (self.weight > 0 and math.isfinite(self.weight)):
            raise InputError(f"the weight of {self.title()} must be positive, got {self.weight}")
        try:
            desirability(self.want)
        except InputError as error:
            raise InputError(f"want of {self.title()}: {error}") from error

    def title(self) -> str:
        """What the term is called."""
        if self.name is not None:
            return self.name
        if self.table is not None:
            return Path(self.table).name.split(".")[0]
        return str(self.factor or self.property)


class SequenceData(DataModule):
    """Sequences that are good in several ways: a mean of desirabilities, each in its own units.

    Every term turns a value into a desirability, 1 where it is as wanted. Their weighted geometric
    mean is the score of a sequence, which is low if one of them is; R(x) = scale * score^exponent.
    Values are rounded to levels before, in steps of equal change of the log of the desirability,
    and never across the limit of what is wanted: so an automaton can follow them, and log Z, the
    distance of what is sampled from the target, and how often it should be as wanted are exact at
    any length.

    Args:
        terms: What is wanted (see `SequenceTerm`).
        exponent: The inverse temperature beta; larger prefers the best sequences more.
        scale: Factor of every reward.
        minimum: Smaller desirabilities count as this one.
        levels: About how many of each term.
    """

    def __init__(
        self,
        terms: list[SequenceTerm],
        exponent: float = 1.0,
        scale: float = 1.0,
        minimum: float = 1e-3,
        levels: int = 16,
    ) -> None:
        super().__init__()
        if not terms:
            raise InputError("there are no terms; say what is wanted, as in {factor: FOXA1}")
        if levels < 2:
            raise InputError(f"levels must be at least 2, got {levels}")
        if not 0 < minimum < 1:
            raise InputError(f"minimum must lie between 0 and 1, got {minimum}")
        titles = [term.title() for term in terms]
        if twice := [x for i, x in enumerate(titles) if x in titles[:i]]:
            raise InputError(f"two terms are called {twice[0]}; give one of them another name")
        self.terms, self.titles = tuple(terms), titles
        self.exponent, self.scale, self.minimum, self.levels = exponent, scale, minimum, levels
        self._remarks: list[str] = []

    def remarks(self) -> list[str]:
        return self._remarks

    def prepare_data(self) -> None:
        for term in self.terms:
            if term.table is not None:
                table_path(term.table)  # finds or downloads it, on one process

    def make_reward(self, environment: Environment) -> Reward:
        return Reward(self.score_of(environment), self.exponent, self.scale)

    def score_of(self, environment: Environment) -> SequenceScore:
        """The score of what an environment builds.

        Raises:
            InputError: The terms are about other sequences.
        """
        if not isinstance(environment, Sequence | Edits) or environment.separator:
            raise InputError(f"SequenceData needs sequences, got {environment.describe()}")
        self._remarks = []
        values = [self._value(term, environment) for term in self.terms]
        wants, weights = [term.want for term in self.terms], [term.weight for term in self.terms]
        return SequenceScore(
            environment.letters_of, values, self.titles, wants, weights, self.levels, self.minimum
        )

    def _value(self, term: SequenceTerm, environment: Sequence | Edits) -> nn.Module:
        letters = environment.letters
        if term.property is not None:
            if term.property == "GC" and not letters.is_nucleic:
                raise InputError(f"GC is about DNA and RNA, got {environment.describe()}")
            return Share(environment) if term.property == "GC" else Length(environment)
        both = term.strands == "both"
        if term.factor is not None:
            if not letters.is_nucleic:
                raise InputError(f"motifs are about DNA and RNA, got {environment.describe()}")
            motif = motif_of(term.factor)
            self._remarks.append(motif.remark)
            window: BestWindow = MotifWindow(motif, both)
        else:
            window = self._table(term, environment)
        if window.width > environment.min_length:
            raise InputError(
                f"{term.title()}: windows have {window.width} letters, and the shortest sequence "
                f"{environment.min_length}; make sequences longer"
            )
        return window

    def _table(self, term: SequenceTerm, environment: Sequence | Edits) -> BestWindow:
        from gfn_design.files.completed_tables import completed_scores
        from gfn_design.files.registry import SOURCES

        assert term.table is not None
        path, alphabet = table_path(term.table), "".join(environment.symbols).replace("U", "T")
        column = SOURCES[term.table].column if term.table in SOURCES else None
        pairs = environment.letters.is_nucleic
        scores, added = completed_scores(path, alphabet, term.score or column, pairs)
        if added:
            self._remarks.append(added)
        return TableWindow(scores, len(alphabet), pairs and term.strands == "both")

    def automaton(self, environment: Environment) -> RewardAutomaton | None:
        if not isinstance(environment, Sequence | Edits):
            return None
        score = self.score_of(environment)
        reward = Reward(score, self.exponent, self.scale)
        return automaton_of(score, reward, environment.rules(), self.titles)

    def columns(self, environment: Environment, texts: list[str]) -> dict[str, list[str]]:
        """The value of every term, and whether all are as wanted."""
        score = self.score_of(environment)
        values = score.values(environment.encode(texts).cpu())
        hits = self.hits(values).tolist()
        named = zip(self.titles, values.T.tolist(), strict=True)
        columns = {title: [f"{x:.6g}" for x in column] for title, column in named}
        return columns | {"as_wanted": ["yes" if hit else "no" for hit in hits]}

    def windows(self, environment: Environment, texts: list[str]) -> tuple[str, list[str]] | None:
        for title, term in zip(self.titles, self.score_of(environment).terms, strict=True):
            if isinstance(term, BestWindow):
                assert isinstance(environment, Sequence | Edits)
                letters = environment.letters_of(environment.encode(texts))
                best = term.best_windows(letters.cpu())
                found = [
                    "".join(environment.symbols[letter] for letter in row) for row in best.tolist()
                ]
                return f"the best windows of {title}", found
        return None

    def hits(self, values: Tensor) -> Tensor:
        """Which rows of values ``float64[n, terms]`` are as wanted: ``bool[n]``."""
        within = torch.ones(len(values), dtype=torch.bool)
        for term, column in zip(self.terms, values.unbind(1), strict=True):
            low, high = limits(term.want)
            within &= (column >= low) & (column <= high)
        return within

    def measure(
        self, environment: Environment, objects: Tensor, probability: Tensor, wanted: Tensor | None
    ) -> dict[str, float]:
        """How often what is built, and what should be, is as wanted in every term."""
        values = self.score_of(environment).values(objects.cpu())
        hits = self.hits(values).double()
        found = {"hit_rate": float((hits * probability.cpu()).sum())}
        if wanted is not None:
            found["target_hit_rate"] = float((hits * wanted.cpu()).sum())
        return found


def table_path(table: str) -> Path:
    """The file of a table, or of a data set of E-scores known by name.

    Raises:
        InputError: There is none.
    """
    from gfn_design.files.registry import SOURCES, locate

    known = [name for name, source in SOURCES.items() if source.holds == "E-scores"]
    if table in known:
        return locate(table)
    if not Path(table).is_file():
        raise InputError(
            f"{table}: no such file, and no table of that name ({', '.join(known[:8])}, ...)"
        )
    return Path(table)
