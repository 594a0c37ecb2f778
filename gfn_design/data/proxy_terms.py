"""Terms that are what a proxy says: each brings the wish that it may be asked."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from gfn_design.errors import InputError
from gfn_design.rewards.proxy_values import column_of, wanted_similarity

SomeTerm = TypeVar("SomeTerm", bound=Any)  # of molecules or of sequences


def proxies_of(terms: Sequence[Any]) -> list[str]:
    """The files of the proxies of some terms, each once."""
    return list(dict.fromkeys(term.proxy for term in terms if term.proxy is not None))


def with_domains(terms: Sequence[SomeTerm]) -> list[SomeTerm]:
    """Terms, and for each proxy that is to be asked in its domain alone one that says so."""
    more, there = [], {(term.proxy, term.use) for term in terms if term.proxy is not None}
    for term in terms:
        wanted = (term.proxy, "similarity")
        if term.proxy is not None and term.domain and wanted not in there:
            want, name = wanted_similarity(term.proxy), column_of(term.proxy, "similarity")
            more.append(replace(term, use="similarity", want=want, name=name, domain=False))
            there.add(wanted)
    return [*terms, *more]


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
