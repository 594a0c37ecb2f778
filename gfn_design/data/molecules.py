"""What a chemist wants of molecules: several properties at once, each in its own units."""

import math
from collections.abc import Mapping
from collections.abc import Sequence as Numbers
from typing import Literal

import torch
from torch import Tensor, nn

from gfn_design.data.functions import ScoredData
from gfn_design.data.molecule_terms import Term
from gfn_design.data.proxy_terms import check_titles, predictors_of, proxies_of, with_domains
from gfn_design.environments.base import Environment
from gfn_design.errors import InputError
from gfn_design.rewards.desirability import (
    combined,
    limits,
    multiplied,
)
from gfn_design.rewards.functions import function_workers
from gfn_design.rewards.programs import ProgramWorker
from gfn_design.rewards.properties import (
    PROXIES,
    PropertyValues,
    property_name,
)
from gfn_design.rewards.proxy_values import (
    ProxyValues,
    check_kind,
    use_of,
)
from gfn_design.rewards.reward import Reward
from gfn_design.rewards.scorer import Scorer
from gfn_design.rewards.sources import content_of, content_of_function, name_of
from gfn_design.untraced import untraced

TAKEN = (  # columns that candidates have anyway
    *("rank", "sequence", "object", "smiles", "inchikey", "scaffold", "alerts", "path", "nearest"),
    *("nearest_similarity", "score", "reward", "log_reward", "log_probability", "draws"),
)


class MoleculeData(ScoredData):
    """Molecules that are good in several ways: a mean of desirabilities, each in its own units.

    Every term turns a value into a desirability, 1 where it is as wanted. A molecule's score is
    their weighted geometric mean (``product``), which is low if one of them is, or their weighted
    arithmetic mean (``sum``). R(x) = scale * max(score(x), minimum)^exponent.

    Args:
        terms: What is wanted (see `Term`).
        combine: How the terms are put together.
        exponent: The inverse temperature beta; larger prefers the best molecules more.
        scale: Factor of every reward.
        minimum: Smaller scores count as this one; also the score of the molecule without atoms.
        n_workers: Processes that compute the properties at the same time, and as many for each
            function; 0 computes in this one. Each command is one process.
        timeout: Seconds that a number of a command, or a call (of at most 512 molecules) of a
            function or of properties in other processes, may take; None waits.
        retries: How often a molecule that failed is tried again.
        failed: ``stop`` ends the run at the first molecule that cannot be scored; ``floor`` gives
            such molecules the minimum, and counts them in the log.
        cache_size: How many molecules are remembered with their values, by canonical SMILES; values
            of functions and programs that took their time are kept in the run's folder besides.
        budget: End when every function and program has scored so many distinct molecules; nothing
            is spent on evaluating then. None scores all that is asked for.
    """

    def __init__(
        self,
        terms: list[Term],
        combine: Literal["product", "sum"] = "product",
        exponent: float = 1.0,
        scale: float = 1.0,
        minimum: float = 1e-3,
        n_workers: int = 0,
        timeout: float | None = None,
        retries: int = 0,
        failed: Literal["stop", "floor"] = "stop",
        cache_size: int = 100_000,
        budget: int | None = None,
    ) -> None:
        if not terms:
            raise InputError("there are no terms; say what is wanted, as in {property: QED}")
        if combine not in ("product", "sum"):
            raise InputError(f"combine must be product or sum, got '{combine}'")
        terms = with_domains(terms, predictors := predictors_of(terms))
        titles = [term.title() for term in terms]
        check_titles(titles, TAKEN)
        rest = (retries, failed, cache_size)
        asked = _scorers(terms, n_workers, timeout, rest, budget)
        super().__init__([scorer for _, scorer in asked])
        self.terms, self.titles, self.combine = terms, titles, combine
        self.exponent, self.scale, self.minimum = exponent, scale, minimum
        self._asked, self._wanted = asked, [term.desirability() for term in terms]
        self.predictors = predictors

    def prepare_data(self) -> None:
        names = {property_name(t.property) for t in self.terms if t.property is not None}
        if names & set(PROXIES):
            from gfn_design.files.registry import locate

            locate("seh_mpnn")  # on one process

    def make_reward(self, environment: Environment) -> Reward:
        if not environment.molecules:
            raise InputError(f"MoleculeData needs molecules, got {environment.describe()}")
        for path in proxies_of(self.terms):
            check_kind(path, "molecules", "molecules")
        return Reward(MoleculeScore(environment, self), self.exponent, self.scale, self.minimum)

    def values(self, smiles: Numbers[str]) -> Tensor:
        """The value of every term, ``float64[n, terms]``; NaN where there is none."""
        some = [i for i, text in enumerate(smiles) if text]
        values = torch.full((len(smiles), len(self.terms)), torch.nan, dtype=torch.float64)
        for places, scorer in self._asked:
            rows = scorer([smiles[i] for i in some])
            # Of several numbers of a program the first is the value.
            known = [(math.nan,) * len(places) if x is None else x[: len(places)] for x in rows]
            found = torch.tensor(known, dtype=torch.float64).view(-1, len(places))
            values[torch.tensor(some, dtype=torch.int64)[:, None], torch.tensor(places)] = found
        return values

    def score(self, values: Tensor, times: Mapping[str, Tensor] | None = None) -> Tensor:
        """The scores of molecules with values ``float64[n, terms]``; 0 where one is missing.

        Weights of terms are multiplied by `times`, by title, ``float[n]`` each.
        """
        parts = [d(x) for d, x in zip(self._wanted, values.nan_to_num().unbind(1), strict=True)]
        weights = torch.tensor([term.weight for term in self.terms], dtype=torch.float64)
        if times:
            weights = multiplied(weights, self.titles, times)
        score = combined(torch.stack(parts, 1), weights, self.combine)
        return score.where(values.isfinite().all(1), 0.0)

    def term_values(self, environment: Environment, objects: Tensor) -> Tensor:
        return self.values(environment.smiles(objects))

    def wishes(self) -> list[tuple[str, str]]:
        wants = (term.wanted().partition(" within")[0] for term in self.terms)
        return list(zip(self.titles, wants, strict=True))

    def as_wanted(self, environment: Environment, objects: Tensor) -> Tensor | None:
        if all(limits(term.wanted()) == (-math.inf, math.inf) for term in self.terms):
            return None  # the more the better
        values, good = self.values(environment.smiles(objects)), torch.ones(len(objects)).bool()
        for term, column in zip(self.terms, values.unbind(1), strict=True):
            low, high = limits(term.wanted())
            good &= (column >= low) & (column <= high)
        return good

    def columns(self, environment: Environment, texts: list[str]) -> dict[str, list[str]]:
        """The value of every term."""
        own = type(environment).smiles is not Environment.smiles
        smiles = environment.smiles(environment.encode(texts)) if own else texts
        values = self.values(smiles).T.tolist()
        found = {
            title: ["" if math.isnan(x) else f"{x:.6g}" for x in column]
            for title, column in zip(self.titles, values, strict=True)
        }
        return found | self.proxy_columns(smiles)


def _scorers(
    terms: list[Term],
    n_workers: int,
    timeout: float | None,
    rest: tuple[int, Literal["stop", "floor"], int],
    budget: int | None,
) -> list[tuple[list[int], Scorer]]:
    """Who is asked for the values of terms, with the places of these."""
    asked: list[tuple[list[int], Scorer]] = []
    known = [i for i, term in enumerate(terms) if term.property is not None]
    limit = timeout if n_workers else None
    if known:
        properties = [(str(terms[i].property), terms[i].reference or "") for i in known]
        find = PropertyValues(properties)  # here in any case, for it refuses what is unknown
        workers = function_workers(find, n_workers, limit, {"properties": properties})
        asked.append((known, Scorer("RDKit", workers, len(known), *rest)))
    for path in proxies_of(terms):
        places = [i for i, term in enumerate(terms) if term.proxy == path]
        uses = [use_of(terms[i].use, terms[i].wanted()) for i in places]
        arguments = {"path": path, "uses": uses}
        workers = function_workers(ProxyValues(path, uses), n_workers, limit, arguments)
        who = content_of(path, arguments)
        asked.append((places, Scorer(path, workers, len(places), *rest, None, who)))
    for i, term in enumerate(terms):
        if term.function is not None:
            workers = function_workers(term.function, n_workers, timeout)
            who = content_of_function(term.function)
            asked.append(([i], Scorer(name_of(term.function), workers, None, *rest, budget, who)))
        elif term.command is not None:
            worker, who = ProgramWorker(term.command, timeout), content_of(term.command)
            asked.append(([i], Scorer(f"'{term.command}'", [worker], None, *rest, budget, who)))
    return asked


class MoleculeScore(nn.Module):
    """The score of `MoleculeData`, of states.

    Args:
        environment: Writes molecules as SMILES.
        data: Finds their values.
    """

    def __init__(self, environment: Environment, data: MoleculeData) -> None:
        super().__init__()
        self.write, self.data = environment.smiles, data

    @untraced("this score is found in Python")
    def forward(self, objects: Tensor) -> Tensor:
        return self.at(objects, {})

    def at(self, objects: Tensor, times: Mapping[str, Tensor]) -> Tensor:
        """The same with other weights of terms: so many times theirs, for each object."""
        score = self.data.score(self.data.values(self.write(objects)), times)
        return score.to(objects.device, torch.float32)
