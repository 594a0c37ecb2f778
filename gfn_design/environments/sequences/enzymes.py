"""Restriction enzymes, by name: what they cut."""

import csv
from functools import cache
from importlib.resources import files


@cache
def sites() -> dict[str, str]:
    """The recognition sites of enzymes that can be bought, by their names in lower case.

    From REBASE (Roberts et al. 2023, rebase.neb.com); IUPAC letters, without the cuts.
    """
    text = files(__package__).joinpath("enzymes.csv").read_text()
    return {row["enzyme"].lower(): row["site"] for row in csv.DictReader(text.splitlines())}


def site_of(name: str) -> str | None:
    """The site of an enzyme, in any case; None if there is none of that name."""
    return sites().get(name.lower())
