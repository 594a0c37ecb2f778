"""Terms that are what a proxy says: each brings the wish that it may be asked."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from gfn_design.errors import InputError
from gfn_design.files.columns import one_word
from gfn_design.rewards.desirability import desirability
from gfn_design.rewards.proxy_values import (
    Predictor,
    column_of,
    opened,
    quantity_of,
    use_of,
    wanted_similarity,
)

SomeTerm = TypeVar("SomeTerm", bound=Any)  # of molecules or of sequences


def proxies_of(terms: Sequence[Any]) -> list[str]:
    """The files of the proxies of some terms, each once."""
    return list(dict.fromkeys(term.proxy for term in terms if term.proxy is not None))


def names_of(terms: Sequence[Any]) -> dict[str, str]:
    """What the proxies of terms are called, by their files: as what they predict.

    Where several predict what is called the same, the name of a term, or of the folder that a
    proxy is in, tells them apart.
    """
    paths = proxies_of(terms)
    quantities = {path: quantity_of(path) for path in paths}
    names: dict[str, str] = {}
    for path in paths:
        name = quantities[path]
        if list(quantities.values()).count(name) > 1:
            given = next((t.name for t in terms if t.proxy == path and t.name is not None), None)
            folder = Path(path).absolute().parent.name.removesuffix("_proxy")
            name = f"{name}_{one_word(given or folder)}"
        while name in names.values():
            name += "_"
        names[path] = name
    return names


def predictors_of(terms: Sequence[Any]) -> list[Predictor]:
    """The proxies of terms, each with its name and with what is wanted of it: more or less."""
    found = []
    for path, name in names_of(terms).items():
        own = [term for term in terms if term.proxy == path and term.use != "similarity"]
        signs = {_direction(term.wanted()) for term in own} - {0}
        found.append(Predictor(opened(path), path, name, signs.pop() if len(signs) == 1 else 0))
    return found


def _direction(want: str) -> int:
    """1 if a wish is for more, -1 if for less, 0 if for a range."""
    ends = desirability(want)(torch.tensor([-1e9, 1e9], dtype=torch.float64))
    return int((ends[1] - ends[0]).sign())


def with_domains(terms: Sequence[SomeTerm], predictors: Sequence[Predictor]) -> list[SomeTerm]:
    """Terms under names that are theirs alone, and what is wanted besides.

    That is, for each proxy that is to be asked in its domain alone, a term that says so.

    Args:
        terms: As they were given.
        predictors: Of these.
    """
    named, more, names = [], [], {it.path: it.name for it in predictors}
    there = {(term.proxy, term.use) for term in terms if term.proxy is not None}
    for term in terms:
        if term.proxy is None:
            named.append(term)
            continue
        title = term.name or column_of(names[term.proxy], use_of(term.use, term.wanted()))
        named.append(replace(term, name=title))
        wanted = (term.proxy, "similarity")
        if term.domain and wanted not in there:
            want, name = wanted_similarity(term.proxy), column_of(names[term.proxy], "similarity")
            more.append(replace(term, use="similarity", want=want, name=name, domain=False))
            there.add(wanted)
    return [*named, *more]


def check_titles(titles: Sequence[str], taken: Sequence[str]) -> None:
    """Refuse terms that would be one column of a file.

    Args:
        titles: Of all terms.
        taken: Columns that there are anyway.

    Raises:
        InputError: Two are called the same, or one as a column that there is.
    """
    if twice := [x for i, x in enumerate(titles) if x in titles[:i]]:
        raise InputError(f"two terms are called {twice[0]}; give one of them another name")
    if found := [x for x in titles if x in taken]:
        raise InputError(
            f"'{found[0]}' is a column of candidates.csv already; give that term another name"
        )
