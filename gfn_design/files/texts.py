"""Text files as people have them: any usual encoding, any usual separator."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from gfn_design.errors import InputError
from gfn_design.files.tables import as_meant

MOST_BYTES = 2 * 2**30  # of a file, unpacked
MOST_ROWS = 20_000_000
LONGEST = 10**6  # letters of a cell
SEPARATORS = ",;\t|"


class Line(NamedTuple):
    """A row of a table, and the line of the file that it ends on."""

    number: int
    cells: list[str]


def read_bytes(path: Path) -> bytes:
    """What a file holds, unpacked if it ends in .gz.

    Raises:
        InputError: It cannot be read, or is too large.
    """
    try:
        packed = path.suffix.lower() == ".gz"
        with gzip.open(path) if packed else path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({reason})") from error
    if len(content) > MOST_BYTES:
        raise InputError(f"{path}: is larger than {MOST_BYTES // 2**30} GB; give a part of it")
    return content


def read_text(path: Path) -> str:
    """A file as text: UTF-8, UTF-16 if it says so or looks like it, else Windows-1252.

    Raises:
        InputError: It cannot be read, or is no text.
    """
    content = read_bytes(path)
    start = content[:2000]
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    elif start and start[1::2].count(0) > len(start) // 4:
        encoding = "utf-16-le"
    elif start and start[::2].count(0) > len(start) // 4:
        encoding = "utf-16-be"
    else:
        encoding = "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
    if "\x00" in text:
        raise InputError(f"{path}: is no text file; give a table as CSV, or lines of text")
    return text


def rows(text: str, path: Path) -> Iterator[Line]:
    """The rows of a table that are not blank, its header first; the separator is found out.

    Args:
        text: Of the file.
        path: For messages.

    Raises:
        InputError: It is no such table, or has too many rows.
    """
    lines = io.StringIO(text, newline="")
    first = next((line for line in lines if line.strip()), "")
    separator = max(SEPARATORS, key=lambda it: first.count(it))  # the first of equal ones: a comma
    lines.seek(0)
    csv.field_size_limit(LONGEST)
    reader = csv.reader(lines, delimiter=separator)
    try:
        for cells in islice(reader, MOST_ROWS + 2):
            if any(cell.strip() for cell in cells):
                yield Line(reader.line_num, [as_meant(cell) for cell in cells])
        if next(reader, None) is not None:
            raise InputError(f"{path}: has more than {MOST_ROWS:,} rows; give a part of it")
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: cannot be read ({error})") from error


def plain(name: str) -> str:
    """A column's name without case, spaces and signs: ``IC50 (nM)`` is ``ic50nm``."""
    return "".join(letter for letter in name.lower() if letter.isalnum())
