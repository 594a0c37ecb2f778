"""Tables of mutants of one protein or gene, and what was measured of each."""

import math
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gfn_design.environments.sequences.letters import Letters
from gfn_design.errors import InputError
from gfn_design.files.kmer_tables import number_of, read_columns, score_column

USUAL = r"mutations?|mutants?|variants?|substitutions?|genotype|aamutations|mut"
WILD = ("", "wt", "wildtype", "wild type", "_wt", "p.=")
CHANGE = re.compile(r"S?(?P<old>[A-Z])(?P<place>-?\d+)(?P<new>[A-Z*])")


class Mutants(NamedTuple):
    """What was measured.

    Attributes:
        places: ``int64[n, most]``, what each differs in from the wild type, counted from 0; -1
            after the last.
        letters: ``int64[n, most]``, what stands there, likewise.
        values: ``float64[n]``.
        aside: Rows that are no substitutions, such as stops.
    """

    places: NDArray[np.int64]
    letters: NDArray[np.int64]
    values: NDArray[np.float64]
    aside: int


def read_mutants(
    path: Path, wild_type: str, letters: Letters, first: int, score: str | None
) -> Mutants:
    """Read mutants from a parquet, .csv or .tsv file.

    They stand in a column called mutations or alike, else in the first: ``A108D:N144D``, with
    colons, commas, spaces or slashes between; empty or ``WT`` is the wild type. Or they are whole
    sequences, as long as the wild type.

    Args:
        path: The file.
        wild_type: What they are mutants of.
        letters: Its alphabet.
        first: The number that the table gives the first letter of the wild type.
        score: The column of what was measured; None takes the only numbers there are.

    Raises:
        InputError: A row is of another wild type, changes a place twice, or has no number.
    """
    columns = read_columns(path)
    plain = [re.sub(r"[-_ ]", "", name).lower() for name in columns.names]
    usual = rf"{USUAL}|sequence|seq"
    column = next((i for i, name in enumerate(plain) if re.fullmatch(usual, name)), 0)
    sequences = plain[column] in ("sequence", "seq")  # where nothing is nothing
    chosen = columns.values[score_column(path, columns, plain, [column], score)]
    found: list[list[tuple[int, int]]] = []
    values, aside = [], 0
    for row, (text, value) in enumerate(zip(columns.values[column], chosen, strict=True)):
        number = number_of(value)
        if not math.isfinite(number):
            raise InputError(f"{path}, row {row + 1}: {value!r} is not a finite number")
        written = "" if text is None and not sequences else str(text)
        changes = _changes(written, wild_type, letters, first, f"{path}, row {row + 1}")
        if changes is None:
            aside += 1
            continue
        found.append(changes)
        values.append(number)
    if not found:
        raise InputError(f"{path}: none of {aside:,} rows is a mutant by substitutions alone")
    most = max(1, max(map(len, found)))
    places, there = (np.full((len(found), most), -1) for _ in range(2))
    for row, changes in enumerate(found):
        for k, (place, letter) in enumerate(changes):
            places[row, k], there[row, k] = place, letter
    return Mutants(places, there, np.array(values), aside)


def _changes(
    text: str, wild_type: str, letters: Letters, first: int, where: str
) -> list[tuple[int, int]] | None:
    """Places and letters of what a row changes; None if it is no list of substitutions."""
    alphabet = "".join(letters.symbols)
    if text.strip().lower() in WILD:
        return []
    if len(text) == len(wild_type) and not any(x.isdigit() for x in text):
        pairs = enumerate(zip(letters.read(text), wild_type, strict=True))
        changed = [(place, new) for place, (new, old) in pairs if new != old]
        if any(new not in alphabet for _, new in changed):
            return None
        return [(place, alphabet.index(new)) for place, new in changed]
    changes: dict[int, int] = {}
    for part in re.split(r"[:,;/\s]+", text.strip()):
        match = CHANGE.fullmatch(letters.read(part))
        if match is None or match["new"] not in alphabet:
            return None
        place = int(match["place"]) - first
        if not 0 <= place < len(wild_type) or wild_type[place] != match["old"]:
            there = wild_type[place] if 0 <= place < len(wild_type) else "nothing"
            raise InputError(
                f"{where}: '{part}' is of another wild type, which has {there} there, if the first "
                f"letter has the number {first}; give the table's wild type, or set first"
            )
        if place in changes:
            raise InputError(f"{where}: '{text}' changes one place twice")
        changes[place] = alphabet.index(match["new"])
    # What puts the wild type's own letter changes nothing.
    return [(place, x) for place, x in changes.items() if alphabet[x] != wild_type[place]]
