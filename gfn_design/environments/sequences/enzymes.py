"""Restriction enzymes, by name: what they cut."""

import csv
from difflib import get_close_matches
from functools import cache
from importlib.resources import files

from gfn_design.environments.sequences.letters import NUCLEOTIDES
from gfn_design.errors import InputError


@cache
def sites_by_name() -> dict[str, tuple[str, str]]:
    """Names of enzymes that can be bought, in lower case, and each with its recognition site.

    From REBASE (Roberts et al. 2023, rebase.neb.com); IUPAC letters, without the cuts.
    """
    text = files(__package__).joinpath("enzymes.csv").read_text()
    rows = csv.DictReader(text.splitlines())
    return {row["enzyme"].lower(): (row["enzyme"], row["site"]) for row in rows}


def site_of(name: str) -> str | None:
    """The site of an enzyme, in any case; None if there is none of that name."""
    found = sites_by_name().get(name.lower())
    return None if found is None else found[1]


def site_or_letters(motif: str) -> str:
    """The site of an enzyme, or the letters of a motif of DNA or RNA.

    Raises:
        InputError: It is neither.
    """
    if (site := site_of(motif)) is not None:
        return site
    if motif and {*motif.upper()} <= {*"ACGTU", *NUCLEOTIDES}:
        return motif
    near = get_close_matches(motif.lower(), sites_by_name(), 3, 0.6)
    named = " or ".join(sites_by_name()[name][0] for name in near)
    known = f"; did you mean {named}?" if near else ""
    raise InputError(
        f"'{motif}' is no motif (letters A, C, G, T and IUPAC's {' '.join(NUCLEOTIDES)}) and no "
        f"restriction enzyme that is known{known}"
    )
