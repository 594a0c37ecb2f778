"""Files of molecules or of other objects, as people have them: what can be read, and what not."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from gfn_design.errors import InputError
from gfn_design.files.columns import NAMES, SEQUENCES, SMILES, place_of, reads
from gfn_design.files.structures import Unusable, clean_structure
from gfn_design.files.tables import write_table
from gfn_design.files.texts import SEPARATORS, plain, read_text, rows
from gfn_design.files.whole import whole_files

TABLES = (".csv", ".tsv", ".tab")


class Row(NamedTuple):
    """A text of a file, its name there, and the line it is on."""

    text: str
    name: str
    line: int

    @property
    def where(self) -> str:
        """Where a person finds it."""
        return f"line {self.line}"


class SetAside(NamedTuple):
    """A row that is not used."""

    line: int
    text: str
    reason: str
    remedy: str


class Read(NamedTuple):
    """What is in a file.

    Attributes:
        rows: What can be used.
        aside: What cannot.
        salts: Of how many rows the largest part was taken.
    """

    rows: list[Row]
    aside: list[SetAside]
    salts: int = 0

    def told(self, path: Path) -> str:
        """One line about what was not taken as it is; empty if there is nothing to say."""
        parts = []
        if self.salts:
            parts.append(f"of {self.salts:,} salts the largest part is taken")
        if self.aside:
            line, text, reason, _ = self.aside[0]
            shown = f" '{text[:40]}'" if text else ""
            parts.append(
                f"{len(self.aside):,} of {len(self.rows) + len(self.aside):,} rows are set aside, "
                f"the first in line {line}:{shown} {reason}"
            )
        return f"{path}: {'; '.join(parts)}" if parts else ""


def write_aside(aside: Sequence[SetAside], path: Path) -> None:
    """Write the rows that were set aside, with line, reason and remedy, as CSV."""
    columns = {
        name: [str(getattr(row, name)) for row in aside]
        for name in ("line", "text", "reason", "remedy")
    }
    write_table(path, columns)


def write_whole_aside(aside: Sequence[SetAside], path: Path) -> None:
    """`write_aside`, in one go.

    Raises:
        InputError: It cannot be written.
    """
    with whole_files(path.parent) as part:
        write_aside(aside, part / path.name)


def read_molecules(path: Path, column: str | None = None, most: int | None = None) -> Read:
    """The molecules of a file: a table with a column of SMILES, or a SMILES and a name per line.

    Encodings and separators are found out, the column by its name or by what it holds. A row that
    RDKit does not read is set aside; of a salt the largest part is taken.

    Args:
        path: The file.
        column: The name of the column of SMILES; case, spaces and signs do not matter.
        most: So many rows are looked at, evenly; None is all.

    Raises:
        InputError: It cannot be read, has no column of SMILES, or no molecule.
    """
    from rdkit import rdBase

    with rdBase.BlockLogs():
        found = _cleaned(evenly(_listed(path, column, SMILES, reads), most))
    if not found.rows:
        first = found.aside[0] if found.aside else None
        more = f"; the first row, '{first.text[:60]}', {first.reason}" if first else ""
        table = "; a table needs a name in .csv" * (path.suffix.lower() not in TABLES)
        raise InputError(f"{path}: holds no molecule that RDKit reads{more}{table}")
    return found


def read_texts(path: Path) -> list[Row]:
    """The objects of a file as text: a column of a table, FASTA, or one on each line.

    Raises:
        InputError: The file cannot be read, or there is nothing in it.
    """
    found = [row for row in _listed(path, None, (*SEQUENCES, *SMILES), None) if row.text]
    if not found:
        raise InputError(f"{path}: holds no objects; give at least one")
    return found


def evenly(rows: list[Row], most: int | None) -> list[Row]:
    """So many rows at most, at equal distances."""
    if most is None or len(rows) <= most:
        return rows
    return [rows[i * len(rows) // most] for i in range(most)]


def _listed(
    path: Path,
    column: str | None,
    usual: Sequence[str],
    holds: Callable[[str], bool] | None,
) -> list[Row]:
    text = read_text(path)
    kind = Path(path.name.lower().removesuffix(".gz")).suffix
    lines = text.splitlines()
    is_table = column is not None or kind in TABLES
    lined = kind in (".smi", ".smiles", ".txt")
    if lined and not is_table and holds is not None:  # a table by another name
        first = next((line for line in lines if line.strip()), "")
        is_table = any(plain(cell) in usual for cell in re.split(f"[{SEPARATORS}]", first))
        is_table &= any(sign in first for sign in SEPARATORS) or kind == ".txt"
    if is_table:
        return _of_table(text, path, column, usual, holds)
    if lines and lines[0].startswith(">"):
        return _of_fasta(lines)
    found = []
    for number, line in enumerate(lines, 1):
        words = line.split(None, 1) if lined else [line.strip()]
        if words and words[0] and not words[0].startswith("#"):
            found.append(Row(words[0], words[-1].strip(), number))
    return found


def _of_fasta(lines: Sequence[str]) -> list[Row]:
    """Each sequence with the first word of its title; it may go over several lines."""
    found: list[Row] = []
    for number, line in enumerate(lines, 1):
        if line.startswith(">"):
            found.append(Row("", line[1:].strip().split(" ")[0], number))
        elif line.strip():
            row = found[-1]
            first = row.line if row.text else number
            found[-1] = row._replace(text=row.text + line.strip(), line=first)
    return [row._replace(name=row.name or row.text) for row in found if row.text]


def _of_table(
    text: str,
    path: Path,
    column: str | None,
    usual: Sequence[str],
    holds: Callable[[str], bool] | None,
) -> list[Row]:
    table = list(rows(text, path))
    header, body = (table[0].cells, table[1:]) if table else ([], [])
    names = [plain(name) for name in header]
    place = place_of(header, column, usual, body, holds, path)
    is_named = column is not None or not table or names[place] in usual
    if not is_named and (holds is None or holds(header[place].strip())):
        body = table  # whose first row is no header
    others = [names.index(name) for name in NAMES if name in names and names.index(name) != place]
    others += [i for i in range(len(names)) if i != place]
    name_at = others[0] if others else place
    found = []
    for number, cells in body:
        cell = cells[place].strip() if place < len(cells) else ""
        name = cells[name_at].strip() if name_at < len(cells) else ""
        found.append(Row(cell, name or cell, number))
    return found


def _cleaned(listed: list[Row]) -> Read:
    good: list[Row] = []
    aside: list[SetAside] = []
    salts = 0
    for row in listed:
        cleaned = clean_structure(row.text)
        if isinstance(cleaned, Unusable):
            aside.append(SetAside(row.line, row.text, cleaned.reason, cleaned.remedy))
            continue
        salts += cleaned.is_salt
        name = row.name if row.name != row.text else cleaned.smiles
        good.append(Row(cleaned.smiles, name, row.line))
    return Read(good, aside, salts)
