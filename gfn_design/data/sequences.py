"""What a biologist wants of sequences: to bind this and not that, a share of GC, a length."""

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gfn_design.data.functions import ScoredData
from gfn_design.data.molecules import TAKEN
from gfn_design.data.proxy_terms import check_titles, predictors_of, proxies_of, with_domains
from gfn_design.data.sequence_terms import SequenceTerm, path_of, value_of
from gfn_design.data.shown import OnOff, Windows
from gfn_design.environments.base import Environment
from gfn_design.environments.sequences.edits import Edits
from gfn_design.environments.sequences.sequence import Sequence
from gfn_design.errors import InputError
from gfn_design.rewards.automaton import RewardAutomaton
from gfn_design.rewards.desirability import has_bounds, limits, loosened
from gfn_design.rewards.functions import function_workers
from gfn_design.rewards.motif_window import MotifWindow
from gfn_design.rewards.programs import ProgramWorker
from gfn_design.rewards.proxy_values import ProxyValues, check_kind, use_of
from gfn_design.rewards.reward import Reward
from gfn_design.rewards.scorer import Scorer
from gfn_design.rewards.sequence_automaton import automaton_of
from gfn_design.rewards.sequence_score import Asked, SequenceScore
from gfn_design.rewards.sources import content_of, content_of_function, name_of
from gfn_design.rewards.windows import BestWindow, TableWindow

CACHE = 100_000  # sequences that are remembered with what functions and programs say


class SequenceData(ScoredData):
    """Sequences that are good in several ways: a mean of desirabilities, each in its own units.

    Every term turns a value into a desirability, 1 where it is as wanted. Their weighted geometric
    mean is the score of a sequence, which is low if one of them is; R(x) = scale * score^exponent.
    Values are rounded to levels before, in steps of equal change of the log of the desirability,
    and never across the limit of what is wanted: so an automaton can follow them, and log Z, the
    distance of what is sampled from the target, and how often it should be as wanted are exact at
    any length. Of means over windows, functions and programs no automaton knows; they are taken as
    they are, and the truth is not known.

    Args:
        terms: What is wanted (see `SequenceTerm`).
        exponent: The inverse temperature beta; larger prefers the best sequences more.
        scale: Factor of every reward.
        minimum: Smaller desirabilities count as this one.
        levels: About how many of each term.
        n_workers: Processes for each function, that score at the same time; 0 scores in this one.
        timeout: Seconds that a number of a program, or a call (of at most 512 sequences) of a
            function in other processes, may take; None waits.
        retries: How often a sequence that failed is tried again.
        failed: ``stop`` ends the run at the first sequence that a function or program cannot
            score; ``floor`` counts such a value as the minimum, and says how many there were.
        budget: End when every function and program has scored so many distinct sequences. None
            scores all that is asked for.
    """

    def __init__(
        self,
        terms: list[SequenceTerm],
        exponent: float = 1.0,
        scale: float = 1.0,
        minimum: float = 1e-3,
        levels: int = 16,
        n_workers: int = 0,
        timeout: float | None = None,
        retries: int = 0,
        failed: Literal["stop", "floor"] = "stop",
        budget: int | None = None,
    ) -> None:
        if not terms:
            raise InputError("there are no terms; say what is wanted, as in {factor: FOXA1}")
        if levels < 2:
            raise InputError(f"levels must be at least 2, got {levels}")
        if not 0 < minimum < 1:
            raise InputError(f"minimum must lie between 0 and 1, got {minimum}")
        terms = with_domains(terms, predictors := predictors_of(terms))
        titles = [term.title() for term in terms]
        check_titles(titles, (*TAKEN, "as_wanted", "changes"))
        self._asked = _scorers(terms, n_workers, timeout, (retries, failed, CACHE), budget)
        super().__init__([*dict.fromkeys(scorer for scorer, _ in self._asked.values())])
        self.predictors = predictors
        self.terms, self.titles = tuple(terms), titles
        self.exponent, self.scale, self.minimum, self.levels = exponent, scale, minimum, levels
        self._remarks: list[str] = []

    def remarks(self) -> list[str]:
        return self._remarks

    def prepare_data(self) -> None:
        for term in self.terms:
            if term.table is not None or term.mutants is not None:
                path_of(term)  # finds or downloads it, on one process

    def make_reward(self, environment: Environment) -> Reward:
        return Reward(self.score_of(environment), self.exponent, self.scale)

    def score_of(self, environment: Environment) -> SequenceScore:
        """The score of what an environment builds.

        Raises:
            InputError: The terms are about other sequences.
        """
        if not isinstance(environment, Sequence | Edits) or environment.separator:
            raise InputError(f"SequenceData needs sequences, got {environment.describe()}")
        values, self._remarks = [], []
        for path in proxies_of(self.terms):
            check_kind(path, "".join(environment.symbols), environment.describe())
        for place, term in enumerate(self.terms):
            asked = None
            if place in self._asked:
                scorer, which = self._asked[place]
                asked = Asked(scorer, _texts_of(environment), which)
            value, remark = value_of(term, environment, asked)
            values.append(value)
            self._remarks += [remark] if remark else []
        wants, weights = [term.want for term in self.terms], [term.weight for term in self.terms]
        score = SequenceScore(
            environment.letters_of, values, self.titles, wants, weights, self.levels, self.minimum
        )
        if score.gap:
            self._remarks.append(
                f"values are rounded to about {self.levels} levels, by which log R is at most "
                f"{self.exponent * score.gap:.2g} nats lower than of values as they are"
            )
        return score

    def automaton(self, environment: Environment) -> RewardAutomaton | None:
        if not isinstance(environment, Sequence | Edits):
            return None
        score = self.score_of(environment)
        reward = Reward(score, self.exponent, self.scale)
        firm = [has_bounds(term.want) for term in self.terms]
        return automaton_of(score, reward, environment.rules(), self.titles, firm)

    def as_wanted(self, environment: Environment, objects: Tensor) -> Tensor:
        score = self.score_of(environment)
        return self.hits(score.values_of(score.read(objects).cpu()))

    def term_values(self, environment: Environment, objects: Tensor) -> Tensor:
        score = self.score_of(environment)
        return score.values_of(score.read(objects).cpu())

    def wishes(self) -> list[tuple[str, str]]:
        return [(t.title(), t.want.partition(" within")[0]) for t in self.terms]

    def loosened(self, amount: float) -> "SequenceData":
        other = copy(self)
        other.terms = tuple(replace(t, want=loosened(t.want, amount)) for t in self.terms)
        return other

    def columns(self, environment: Environment, texts: list[str]) -> dict[str, list[str]]:
        """The value of every term, and whether all are as wanted."""
        score = self.score_of(environment)
        values = score.values_of(score.read(environment.encode(texts)).cpu())
        hits = self.hits(values).tolist()
        named = zip(self.titles, values.T.tolist(), strict=True)
        columns = {title: [f"{x:.6g}" for x in column] for title, column in named}
        columns |= self.proxy_columns(texts)
        return columns | {"as_wanted": ["yes" if hit else "no" for hit in hits]}

    def windows(self, environment: Environment, texts: list[str]) -> Windows | None:
        for title, term in zip(self.titles, self.score_of(environment).terms, strict=True):
            if isinstance(term, BestWindow):
                assert isinstance(environment, Sequence | Edits)
                letters = environment.letters_of(environment.encode(texts))
                best = term.best_windows(letters.cpu())
                found = [
                    "".join(environment.symbols[letter] for letter in row) for row in best.tolist()
                ]
                name = f"the best windows of {title}"
                if isinstance(term, MotifWindow):
                    name += f" ({term.motif.source})"
                return Windows(name, found, isinstance(term, MotifWindow), term.both_strands)
        return None

    def on_off(self, environment: Environment, texts: list[str]) -> OnOff | None:
        values = self.score_of(environment).terms
        tables = [i for i, value in enumerate(values) if isinstance(value, TableWindow)][:2]
        if len(tables) < 2:
            return None
        both = [value for value in values if isinstance(value, TableWindow)][:2]
        if both[0].width != both[1].width:
            return None
        assert isinstance(environment, Sequence | Edits)
        letters = environment.letters_of(environment.encode(texts)).cpu()
        first, second = (limits(self.terms[i].want) for i in tables)
        return OnOff(
            (self.titles[tables[0]], self.titles[tables[1]]),
            np.stack([table.of_windows(table.words()).numpy(force=True) for table in both], 1),
            np.stack([table(letters).numpy(force=True) for table in both], 1),
            (first, second),
        )

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
        hits = self.as_wanted(environment, objects).double()
        found = super().measure(environment, objects, probability, wanted)
        found["hit_rate"] = float((hits * probability.cpu()).sum())
        if wanted is not None:
            found["target_hit_rate"] = float((hits * wanted.cpu()).sum())
        return found


def _scorers(
    terms: list[SequenceTerm],
    n_workers: int,
    timeout: float | None,
    rest: tuple[int, Literal["stop", "floor"], int],
    budget: int | None,
) -> dict[int, tuple[Scorer, int]]:
    """Who is asked for a term's value, by the term's place, and which of the answers it is."""
    asked: dict[int, tuple[Scorer, int]] = {}
    for path in proxies_of(terms):
        places = [i for i, term in enumerate(terms) if term.proxy == path]
        uses = [use_of(terms[i].use, terms[i].want) for i in places]
        arguments = {"path": path, "uses": uses}
        limit = timeout if n_workers else None
        workers = function_workers(ProxyValues(path, uses), n_workers, limit, arguments)
        who = content_of(path, arguments)
        scorer = Scorer(path, workers, len(places), *rest, None, who)
        asked |= {place: (scorer, which) for which, place in enumerate(places)}
    for place, term in enumerate(terms):
        if term.function is not None:
            workers = function_workers(term.function, n_workers, timeout)
            who = content_of_function(term.function)
            scorer = Scorer(name_of(term.function), workers, None, *rest, budget, who)
            asked[place] = scorer, 0
        elif term.command is not None:
            worker, who = ProgramWorker(term.command, timeout), content_of(term.command)
            asked[place] = Scorer(f"'{term.command}'", [worker], None, *rest, budget, who), 0
    return asked


def _texts_of(environment: Sequence | Edits) -> Callable[[Tensor], list[str]]:
    """How sequences ``int64[batch, length]`` are written."""
    return lambda letters: environment.decode(environment.states_of(letters))
