"""Reading tables that give every k-mer of an alphabet one number.

A k-mer's *index* is its number in base ``len(alphabet)``, first letter most significant, so that
``AAAAAAAA`` is 0 and ``TTTTTTTT`` 65,535 for DNA. Everything here is indexed by content, never by
row: published tables list strands, duplicates and orders of their own.
"""

import math
import re
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gfn_design.errors import InputError
from gfn_design.files.texts import Line, read_text, rows

_WORDS = {"true": 1.0, "false": 0.0}


class KmerTable(NamedTuple):
    """One number per row, as the file lists them; ``partners`` holds the other strand."""

    path: Path
    sequences: list[str]
    partners: list[str] | None
    scores: NDArray[np.float64]

    def where(self, row: int) -> str:
        """Where a person finds the row (counted from 0 here, from 1 in the words)."""
        if self.path.suffix.lower() == ".parquet":
            return f"{self.path}, row {row + 1}"
        # Only an error needs the line, so the file is read again instead of keeping all lines.
        line, _ = next(islice(rows(read_text(self.path), self.path), row + 1, None))
        return f"{self.path}, row {row + 1} (line {line})"


class Columns(NamedTuple):
    """What a table holds, column by column."""

    names: list[str]
    values: list[list[Any]]


def read_table(path: str | Path, score: str | None = None) -> KmerTable:
    """Read k-mers and one number each from a parquet, .csv, .tsv or .txt file (text also .gz).

    The k-mers stand in the first column named sequence, kmer or 8-mer, else in the first column;
    a column reverse_complement, or a second one of the same name, holds the other strand.

    Args:
        path: The file.
        score: The column of numbers; case, spaces, '-' and '_' do not matter. Without it the
            E-score is taken, or the only numeric column.
    """
    path = Path(path)
    columns = read_columns(path)
    plain = [re.sub(r"[-_ ]", "", name).lower() for name in columns.names]
    usual = r"sequence|seq|kmer|\d+mer|site|oligo|probe|word"
    named = (i for i, name in enumerate(plain) if re.fullmatch(usual, name))
    first = next(named, 0)
    strands = [i for i, name in enumerate(plain) if name in (plain[first], "reversecomplement")]
    strands = [first, *(i for i in strands if i != first)][:2]
    texts = [columns.values[i] for i in strands]
    if set(map(type, chain(*texts))) != {str}:
        row, kmer = next((r, k) for t in texts for r, k in enumerate(t) if not isinstance(k, str))
        raise InputError(f"{path}, row {row + 1} holds {kmer!r} where a k-mer should be.")
    chosen = columns.values[score_column(path, columns, plain, strands, score)]
    scores = np.fromiter(map(number_of, chosen), np.float64, len(chosen))
    table = KmerTable(path, texts[0], texts[1] if texts[1:] else None, scores)
    # Scores end up in float32, where 1e300 is as infinite as inf itself.
    bad = np.flatnonzero(~(np.abs(scores) <= np.finfo(np.float32).max))
    if bad.size:
        raise InputError(f"{table.where(bad[0])}: {chosen[bad[0]]!r} is not a finite number.")
    return table


def kmer_scores(
    path: str | Path, alphabet: str = "ACGT", score: str | None = None
) -> NDArray[np.float32]:
    """The table as one array of ``len(alphabet) ** length`` scores, in index order.

    Every k-mer must be there; repeats are fine if they agree (some tables list the palindromes
    twice). A second strand's column gives its k-mers the row's score.

    Args:
        path: The file, as for ``read_table``.
        alphabet: The letters, in index order; their lower case is accepted too.
        score: The column of numbers, as for ``read_table``.
    """
    table = read_table(path, score)
    index, length = content_index(table, alphabet)
    total, rows = len(alphabet) ** length, len(table.sequences)
    present = np.unique(index)
    if present.size < total:
        # The first gap: where the sorted indices run ahead of 0, 1, 2, …
        first = int(np.argmax(np.append(present, total) != np.arange(present.size + 1)))
        letters = [alphabet[first // len(alphabet) ** k % len(alphabet)] for k in range(length)]
        raise InputError(
            f"{path} lacks {total - present.size:,} of the {total:,} k-mers of length {length} "
            f"over {alphabet}, the first being {''.join(reversed(letters))}; every k-mer needs a "
            f"row, or, for DNA, its other strand in a column 'reverse_complement'."
        )
    values = np.tile(table.scores.astype(np.float32), index.size // rows)
    scores = np.empty(total, np.float32)
    scores[index] = values
    conflict = np.flatnonzero(scores[index] != values)
    if conflict.size:
        same = np.flatnonzero(index == index[conflict[0]])
        one = same[0]
        other = same[values[same] != values[one]][0]
        raise InputError(
            f"{table.where(one % rows)} and row {other % rows + 1} give the same k-mer "
            f"{table.sequences[one % rows]} different scores, {values[one]} and {values[other]}."
        )
    return scores


def read_modes(path: str | Path, column: str, alphabet: str = "ACGT") -> NDArray[np.int64]:
    """The indices of the k-mers whose boolean ``column`` is true, ascending."""
    table = read_table(path, column)
    bad = np.flatnonzero((table.scores != 0) & (table.scores != 1))
    if bad.size:
        raise InputError(f"{table.where(bad[0])}: column '{column}' is neither true nor false.")
    index, _ = content_index(table, alphabet)
    return np.unique(index[np.tile(table.scores == 1, index.size // len(table.sequences))])


def diverse_modes(
    scores: NDArray[np.floating], count: int, alphabet_size: int, length: int, distance: int = 2
) -> NDArray[np.int64]:
    """The best k-mers that pairwise differ in at least ``distance`` letters, best first.

    Visits k-mers by descending score (equal ones by ascending index), keeps each that is far
    enough from all kept before, and stops at ``count``.
    """
    if scores.shape != (alphabet_size**length,):
        raise ValueError(f"Expected {alphabet_size**length} scores, got shape {scores.shape}.")
    places = alphabet_size ** np.arange(length, dtype=np.int64)
    letters = np.arange(alphabet_size)[:, None]
    taken = np.zeros(alphabet_size**length, bool)
    kept: list[int] = []
    for best in np.argsort(-scores, kind="stable"):
        if len(kept) == count:
            break
        if taken[best]:
            continue
        kept.append(int(best))
        ball = np.array([best])  # grows by one substitution a round; includes its centre
        for _ in range(distance - 1):
            digits = ball[:, None] // places % alphabet_size
            swapped = ball[:, None, None] + (letters - digits[:, None]) * places
            ball = np.unique(swapped)
        taken[ball] = True
    return np.array(kept, np.int64)


def content_index(table: KmerTable, alphabet: str) -> tuple[NDArray[np.int64], int]:
    """Index of every row's k-mer, then of every other strand; and the length of the k-mers."""
    lengths = np.fromiter(map(len, table.sequences), np.int64, len(table.sequences))
    length = int(np.bincount(lengths).argmax())  # the commonest, so that the odd one is blamed
    if not 0 < length * math.log2(len(alphabet)) < 62:
        raise InputError(f"{table.path} holds k-mers of {length} letters, not a complete table.")
    digits = _digits(table, table.sequences, alphabet, length)
    for letters, paired in (("ACGT", "TGCA"), ("ACGU", "UGCA")):
        if table.partners is not None and sorted(alphabet) == sorted(letters):
            pairing = np.array([alphabet.index(paired[letters.index(a)]) for a in alphabet])
            other = _digits(table, table.partners, alphabet, length)
            wrong = np.flatnonzero((other != pairing[digits][:, ::-1]).any(axis=1))
            if wrong.size:
                raise InputError(
                    f"{table.where(wrong[0])}: {table.partners[wrong[0]]} is not the reverse "
                    f"complement of {table.sequences[wrong[0]]}."
                )
            digits = np.concatenate([digits, other])
    places = len(alphabet) ** np.arange(length - 1, -1, -1, dtype=np.int64)
    return digits @ places, length


def _digits(table: KmerTable, kmers: list[str], alphabet: str, length: int) -> NDArray[np.int8]:
    """Letters as numbers, shape (rows, length)."""
    if set(map(len, kmers)) != {length}:
        odd = next(row for row, kmer in enumerate(kmers) if len(kmer) != length)
        raise InputError(
            f"{table.where(odd)}: k-mer '{kmers[odd]}' has {len(kmers[odd])} letters, but the "
            f"others have {length}."
        )
    number = np.full(256, -1, np.int8)
    # The last wins: the alphabet's own letters, and of DNA and RNA the other's T and U before.
    alike = alphabet.translate(str.maketrans("TU", "UT")) if len(alphabet) == 4 else alphabet
    for letters in (alike.lower(), alike, alphabet.lower(), alphabet):
        number[list(letters.encode("ascii"))] = np.arange(len(alphabet))
    # A letter outside ASCII becomes one '?', so rows keep their length and it is reported below.
    digits = number[np.frombuffer("".join(kmers).encode("ascii", "replace"), np.uint8)]
    digits = digits.reshape(-1, length)
    wrong = np.argwhere(digits < 0)
    if wrong.size:
        row, position = wrong[0]
        raise InputError(
            f"{table.where(row)}: letter '{kmers[row][position]}' in '{kmers[row]}' is not in "
            f"the alphabet {alphabet}."
        )
    return digits


def number_of(value: object) -> float:
    """The value as a float, NaN if it is none; true and false are 1 and 0."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return _WORDS.get(str(value).lower(), math.nan)


def score_column(
    path: Path, columns: Columns, plain: list[str], strands: list[int], score: str | None
) -> int:
    """Which column holds the numbers: the one named, the E-score, or the only one."""
    free = [i for i in range(len(plain)) if i not in strands]
    wanted = "escore" if score is None else re.sub(r"[-_ ]", "", score).lower()
    matching = [i for i in free if plain[i] == wanted]
    if not matching and score is None:
        # A lone column is the one meant even if its first value is broken: the row is then named.
        matching = free if len(free) == 1 else [i for i in free if _numeric(columns.values[i][0])]
        matching = matching if len(matching) == 1 else []
    if not matching:
        lack = f"column '{score}'" if score else "E-score column and not exactly one numeric column"
        raise InputError(f"{path} has no {lack}; name one of its columns {columns.names}.")
    return matching[0]


def _numeric(value: object) -> bool:
    return str(value).lower() not in _WORDS and not math.isnan(number_of(value))


def read_columns(path: Path) -> Columns:
    """All of a table.

    Raises:
        InputError: It is none, or has no rows.
    """
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty.")
    if path.suffix.lower() == ".parquet":
        columns = _read_parquet(path)
    elif suffix in (".csv", ".tsv", ".txt"):
        columns = _read_text(path)
    else:
        raise InputError(f"{path} must end in .parquet, .csv, .tsv or .txt (text also in .gz).")
    if not columns.names or not columns.values or not columns.values[0]:
        raise InputError(f"{path} has no rows of data.")
    return columns


def _read_parquet(path: Path) -> Columns:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} is not a parquet file, or it is damaged.") from error
    return Columns(table.column_names, [c.to_numpy().tolist() for c in table.columns])


def _read_text(path: Path) -> Columns:
    table = rows(read_text(path), path)
    header = next(table, Line(0, [])).cells
    if any(_numeric(name) for name in header):
        raise InputError(f"{path} must start with a line of column names, not with data.")
    values: list[list[Any]] = [[] for _ in header]
    # In batches: a million row lists alive at once cost seconds of garbage collection.
    while batch := list(islice(table, 4096)):
        for line, row in batch:
            if len(row) != len(header):
                raise InputError(
                    f"{path}, line {line} has {len(row)} columns, but the first line has "
                    f"{len(header)}."
                )
        fields = (row for _, row in batch)
        for column, part in zip(values, zip(*fields, strict=True), strict=True):
            column.extend(cell.strip() for cell in part)
    return Columns([name.strip() for name in header], values)
