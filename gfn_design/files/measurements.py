"""A table of measurements, as a notebook exports it, read into what can be learned from."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, get_args

from gfn_design.errors import InputError
from gfn_design.files.columns import (
    NAMES,
    SEQUENCES,
    SMILES,
    cells_of,
    listed,
    mostly,
    named,
    reads,
)
from gfn_design.files.measured import LETTERS, Kind, Measured, is_cleaned, merged
from gfn_design.files.measurement_rows import Reader
from gfn_design.files.readings import is_blank, read_number
from gfn_design.files.texts import Line, plain, read_text, rows

COUNTED = (  # columns of numbers that are hardly what was measured
    *("n", "measurements", "round", "nmeasurements", "replicates", "line", "spread", "group"),
    *("mw", "rank", "molweight", "molecularweight", "logp", "clogp", "tpsa", "psa", "hbd", "hba"),
    *("heavyatoms", "qed", "charge", "sd", "std", "sem", "stdev", "error", "well", "plate"),
    *("length", "purity"),
)
ENDPOINTS = (  # how the names of what is measured begin, as `plain` has them
    *("pic50", "ic50", "pki", "ki", "pkd", "kd", "pec50", "ec50", "pchembl", "standardvalue"),
    *("potency", "activity", "affinity", "log10mic", "mic", "escore", "score", "fitness"),
    *("brightness", "expression", "value", "inhibition"),
)


class Columns(NamedTuple):
    """How a table is to be read; None finds it out.

    Attributes:
        column: The column of SMILES or sequences.
        value: The column of numbers.
        to: What the numbers are converted to (see `Conversion`).
        unit: Of the numbers, as ``nM``.
        kind: What the objects are: ``molecules``, ``DNA``, ``RNA`` or ``protein``.
        strands: ``both`` takes a stretch of DNA and its other strand as one.
    """

    column: str | None = None
    value: str | None = None
    to: str | None = None
    unit: str | None = None
    kind: Kind | None = None
    strands: str = "both"


def read_measurements(path: Path, asked: Columns | None = None) -> Measured:
    """The measurements in a table: cleaned, converted, those of one object merged.

    Args:
        path: CSV, TSV or another text table, or parquet; a cleaned table is read as it is.
        asked: What is known of it.

    Raises:
        InputError: It cannot be read; a column cannot be found; or no row can be used.
    """
    asked = asked or Columns()
    if asked.kind is not None and asked.kind not in get_args(Kind):
        raise InputError(f"kind must be one of {', '.join(get_args(Kind))}, got '{asked.kind}'")
    table = _lines(path)
    if len(table) < 2:
        raise InputError(f"{path}: has no rows below its header")
    header, body = table[0].cells, table[1:]
    at, kind = _objects(header, body, asked, path)
    value_at = _values(header, body, asked, at, path)
    reader = Reader(header, body, (at, value_at), kind, asked.to, asked.unit, path)
    found, aside = reader.read()
    notes = reader.notes()
    kept, more = merged(found, kind, asked.strands)
    aside += [row for row in more.aside]
    if not kept:
        first = aside[0]
        raise InputError(
            f"{path}: no row can be used; the first, in line {first.line}: '{first.text[:60]}' "
            f"{first.reason} ({first.remedy})"
        )
    quantity = reader.convert.name(header[value_at].strip())
    return Measured(kind, quantity, kept, sorted(aside), [*notes, *more.notes], len(body))


def _lines(path: Path) -> list[Line]:
    if path.suffix.lower() in (".xlsx", ".xls", ".ods"):
        raise InputError(f"{path}: is a workbook; export the sheet as CSV")
    if path.suffix.lower() != ".parquet":
        return list(rows(read_text(path), path))
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise InputError(f"{path}: cannot be read as parquet ({error})") from error
    columns = [["" if x is None else str(x) for x in c.to_pylist()] for c in table.columns]
    body = (Line(i, list(row)) for i, row in enumerate(zip(*columns, strict=True), 2))
    return [Line(1, list(table.column_names)), *body]


def _objects(
    header: Sequence[str], body: Sequence[Line], asked: Columns, path: Path
) -> tuple[int, Kind]:
    """Which column holds the objects, and what they are."""
    if asked.column is not None:
        at = named(header, asked.column, path)
        return at, asked.kind or _kind(cells_of(body, at), header[at], path)
    names = [plain(name) for name in header]
    smiles_at = next((names.index(name) for name in SMILES if name in names), None)
    if smiles_at is not None and asked.kind in (None, "molecules"):
        cells = cells_of(body, smiles_at)
        return smiles_at, "molecules" if mostly(cells, reads) else _guess(cells) or "molecules"
    sequences_at = next((names.index(name) for name in SEQUENCES if name in names), None)
    if sequences_at is not None and asked.kind != "molecules":
        return sequences_at, asked.kind or _most_like(cells_of(body, sequences_at))
    for at in range(len(header)):
        kind = asked.kind or _guess(cells_of(body, at))
        if kind is not None and mostly(cells_of(body, at), _fits(kind)):
            return at, kind
    raise InputError(
        f"{path}: has no column of SMILES or sequences; its columns are {listed(header)}; name "
        "the one that is meant, as in --column NAME"
    )


def _fits(kind: Kind) -> Callable[[str], bool]:
    """Whether a cell could be an object of a kind."""
    return reads if kind == "molecules" else partial(_spells, LETTERS[kind])


def _spells(letters: str, text: str) -> bool:
    plain_text = "".join(text.split()).upper()
    return len(plain_text) > 2 and set(plain_text) <= {*letters, "T", "U"}


def _guess(cells: Sequence[str]) -> Kind | None:
    """What most cells are."""
    for kind in ("DNA", "RNA", "molecules", "protein"):
        if mostly(cells, _fits(kind)):
            return _nucleic(cells, kind)
    return None


def _nucleic(cells: Sequence[str], kind: Kind) -> Kind:
    """The kind, but RNA where U is among the letters and T is not."""
    letters = set("".join(cells).upper())
    return "RNA" if kind == "DNA" and "U" in letters and "T" not in letters else kind


def _most_like(cells: Sequence[str]) -> Kind:
    """What sequences are, though most may hold strange letters."""
    kinds: tuple[Kind, ...] = ("DNA", "RNA", "protein")
    for kind in kinds:
        if mostly(cells, _fits(kind)):
            return _nucleic(cells, kind)
    return max(kinds, key=lambda kind: sum(map(_fits(kind), cells)))


def _kind(cells: Sequence[str], name: str, path: Path) -> Kind:
    if (kind := _guess(cells)) is None:
        shown = f"'{cells[0][:40]}'" if cells else "nothing"
        raise InputError(
            f"{path}: column '{name}' holds neither SMILES nor sequences, as {shown}; say what it "
            "is, as in --kind protein"
        )
    return kind


def _values(
    header: Sequence[str], body: Sequence[Line], asked: Columns, at: int, path: Path
) -> int:
    """Which column holds the numbers."""
    if asked.value is not None:
        return named(header, asked.value, path)
    if is_cleaned(header):
        return 2
    names = [plain(name) for name in header]
    others = {at, *(i for i, name in enumerate(names) if name in (*NAMES, *COUNTED))}
    some = [i for i in range(len(header)) if i not in others and _is_number(cells_of(body, i))]
    ends = [i for end in ENDPOINTS for i in some if names[i].startswith(end)]
    if len(some) == 1:
        return some[0]
    if len(set(ends)) == 1:
        return ends[0]
    shown = listed([header[i] for i in ends or some]) if some else "none"
    raise InputError(
        f"{path}: say which column was measured, as in --value NAME; columns of numbers: {shown}"
    )


def _is_number(cells: Sequence[str]) -> bool:
    def number(cell: str) -> bool:
        try:
            read_number(cell)
        except InputError:
            return is_blank(cell)
        return True

    return sum(map(number, cells)) > 0.6 * len(cells) > 0
