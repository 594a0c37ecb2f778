"""Motifs of transcription factors: from JASPAR 2026, which comes with pyjaspar, or from a file."""

import contextlib
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gfn_design.errors import InputError
from gfn_design.files.texts import read_text

RELEASE, YEAR = "JASPAR2026", "2026"
IDENTIFIER = re.compile(r"((?:MA|UN)\d{4})(?:\.(\d+))?", re.IGNORECASE)
FOUND = """
    SELECT m.ID, m.COLLECTION, m.BASE_ID, m.VERSION, m.NAME,
        (SELECT VAL FROM MATRIX_ANNOTATION a WHERE a.ID = m.ID AND a.TAG = 'tax_group')
    FROM MATRIX m JOIN MATRIX_VERSION v ON v.ID = m.ID WHERE v.RELEASE = ? AND
"""


class Motif(NamedTuple):
    """A position frequency matrix.

    Attributes:
        name: Of the factor.
        source: Where the matrix comes from.
        counts: ``float64[4, width]``, how often A, C, G and T were seen at each position.
        others: Further matrices of that name.
    """

    name: str
    source: str
    counts: np.ndarray
    others: tuple[str, ...] = ()

    @property
    def remark(self) -> str:
        """One sentence about which matrix this is."""
        others = f"; others of that name: {', '.join(self.others)}" if self.others else ""
        return f"the motif of {self.name} is {self.source} ({self.counts.shape[1]} wide){others}"


class _Entry(NamedTuple):
    number: int
    collection: str
    base: str
    version: int
    name: str
    group: str | None

    @property
    def matrix(self) -> str:
        return f"{self.base}.{self.version}"


def motif_of(factor: str) -> Motif:
    """The motif of a factor in JASPAR, or the one in a file.

    Raises:
        InputError: There is none.
    """
    path = Path(factor)
    if path.suffix and path.is_file():
        return read_motif(path)
    return jaspar_motif(factor)


def jaspar_motif(factor: str) -> Motif:
    """The matrix of a factor in JASPAR 2026.

    Args:
        factor: A matrix such as ``MA0148.5`` or ``MA0148``, or a name such as ``FOXA1`` or
            ``MYC::MAX``, in any case and order; of several matrices with one name the best curated
            collection counts, then vertebrates, then the newest.

    Raises:
        InputError: The database has no such factor.
    """
    from pyjaspar import jaspardb

    connection = jaspardb(release=RELEASE).conn
    with contextlib.closing(connection):
        given = IDENTIFIER.fullmatch(factor.strip())
        if given:
            base, version = given[1].upper(), given[2]
            found = _rows(connection, "m.BASE_ID = ?", base)
            found = [e for e in found if version is None or e.version == int(version)]
        else:
            names = {factor.strip(), "::".join(reversed(factor.strip().split("::")))}
            found = [
                e for name in names for e in _rows(connection, "m.NAME = ? COLLATE NOCASE", name)
            ]
        if not found:
            raise InputError(
                f"JASPAR 2026 has no factor '{factor[:60]}'{_near(connection, factor)}; give a "
                "name such as FOXA1, a matrix such as MA0148.5, or a file of your own (JASPAR, "
                "MEME, HOMER, TRANSFAC)"
            )
        found.sort(key=_preference)
        first = found[0]
        counts = _counts(connection, first.number)
        shown = tuple(sorted(e.matrix for e in found[1:]))
        return Motif(first.name, f"JASPAR 2026, {first.matrix}", counts, shown)


def _rows(connection: sqlite3.Connection, where: str, value: str) -> list[_Entry]:
    """Entries that fit; what a person gave is bound, never part of the query."""
    return [_Entry(*row) for row in connection.execute(FOUND + where, (YEAR, value))]


def _preference(entry: _Entry) -> tuple[bool, bool, int, int]:
    """Sorts the matrix to take first."""
    number = int(entry.base[2:])
    return entry.collection != "CORE", entry.group != "vertebrates", -number, -entry.version


def _near(connection: sqlite3.Connection, factor: str) -> str:
    """Names that begin alike, as a hint."""
    start = re.sub(r"[\W_]+", "", factor)[:3]
    if len(start) < 3:
        return ""
    names = {e.name for e in _rows(connection, "m.NAME LIKE ?", f"{start}%")}
    some = sorted(names)[:6]
    return f" (there are {', '.join(some)})" if some else ""


def _counts(connection: sqlite3.Connection, number: int) -> np.ndarray:
    cells = connection.execute("SELECT row, col, val FROM MATRIX_DATA WHERE ID = ?", (number,))
    placed = [("ACGT".index(row), col - 1, val) for row, col, val in cells]
    counts = np.zeros((4, max(col for _, col, _ in placed) + 1))
    for row, col, val in placed:
        counts[row, col] = val
    return counts


# ---- Files -------------------------------------------------------------------------------------


def read_motif(path: Path) -> Motif:
    """The first motif of a text file in the format of JASPAR, MEME, HOMER or TRANSFAC.

    Frequencies count as those of 100 sites, unless the file says how many there were.

    Raises:
        InputError: It is none of these.
    """
    text = read_text(path)
    for kind, read in READERS.items():
        try:
            found = read(text)
            matrix = np.array(found[1] if found else [], dtype=np.float64).T
        except (ValueError, IndexError):
            continue
        if found is not None and matrix.ndim == 2:
            name = found[0]
            if matrix.shape[0] != 4 or not matrix.shape[1] or (matrix < 0).any():
                continue
            if not (matrix.sum(0) > 0).all():
                continue
            return Motif(name or path.stem, f"{path.name}, {kind}", matrix)
    raise InputError(
        f"{path}: holds no motif; expected the text of JASPAR, MEME, HOMER or TRANSFAC"
    )


Found = tuple[str, list[list[float]]] | None
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


def _numbers(line: str) -> list[float]:
    return [float(x) for x in re.findall(NUMBER, line)]


def _meme(text: str) -> Found:
    if not re.match(r"\s*MEME version", text):
        return None
    name = re.search(r"^MOTIF[ \t]+(\S+)(?:[ \t]+(\S+))?", text, re.MULTILINE)
    head = re.search(r"^letter-probability matrix:(.*)$", text, re.MULTILINE)
    if name is None or head is None:
        return None
    width = re.search(r"w=\s*(\d+)", head[1])
    sites = re.search(r"nsites=\s*(\d+)", head[1])
    n = int(sites[1]) if sites and int(sites[1]) else 100
    rows: list[list[float]] = []
    for line in text[head.end() :].splitlines()[1:]:
        numbers = _numbers(line)
        if len(numbers) != 4 or (width and len(rows) == int(width[1])):
            break
        rows.append([n * x for x in numbers])
    if width and len(rows) != int(width[1]):  # a row is damaged or missing
        return None
    return name[2] or name[1], rows


def _homer(text: str) -> Found:
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines or not lines[0].startswith(">"):
        return None
    rows: list[list[float]] = []
    for line in lines[1:]:
        words = line.split()
        if line.startswith(">"):
            break
        if len(words) != 4:
            return None
        rows.append([100 * float(x) for x in words])
    if not rows or any(abs(sum(row) - 100) > 2 for row in rows):
        return None
    words = lines[0][1:].split("\t")
    return (words[1] if len(words) > 1 else words[0]).split("/")[0].strip(), rows


def _jaspar(text: str) -> Found:
    lines = [line for line in text.splitlines() if line.strip()]
    name = ""
    if lines and lines[0].startswith(">"):
        words = lines.pop(0)[1:].split()
        name = words[-1] if words else ""
    rows: dict[str, list[float]] = {}
    for letter, line in zip("ACGT", lines, strict=False):
        label = re.match(r"\s*([ACGT])\s*[\[\s|:]", line)
        if label and label[1] != letter:
            return None
        rows[letter] = _numbers(line.split("[")[-1] if "[" in line else line.lstrip(" ACGT|:"))
    if len(rows) < 4 or len({len(row) for row in rows.values()}) != 1 or len(rows["A"]) < 2:
        return None
    return name, [list(column) for column in zip(*rows.values(), strict=True)]


def _transfac(text: str) -> Found:
    name, started = "", False
    rows: list[list[float]] = []
    for line in text.splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] in ("ID", "NA", "BF") and len(words) > 1 and not name:
            name = words[1]
        elif words[0] in ("P0", "PO"):
            if [x.upper() for x in words[1:5]] != ["A", "C", "G", "T"]:
                return None
            started = True
        elif started and words[0].isdigit():
            if len(words) < 5:
                return None
            rows.append([float(x) for x in words[1:5]])
        elif started:
            break
    return (name, rows) if rows else None


READERS: dict[str, Callable[[str], Found]] = {
    "MEME": _meme,
    "TRANSFAC": _transfac,
    "HOMER": _homer,
    "JASPAR": _jaspar,
}
