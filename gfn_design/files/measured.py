"""Measurements of distinct objects, and the table they are kept in."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from gfn_design.files.objects import SetAside
from gfn_design.files.tables import write_table
from gfn_design.files.whole import whole_files

Kind = Literal["molecules", "DNA", "RNA", "protein"]
LETTERS = {"DNA": "ACGT", "RNA": "ACGU", "protein": "ACDEFGHIKLMNPQRSTVWY"}
FAR_APART = 0.5  # of two measurements of one object, in units of what is learned: worth a look
_PAIR = str.maketrans("ACGT", "TGCA")


class Measurement(NamedTuple):
    """What was measured of one object.

    Attributes:
        name: As people call it.
        text: Canonical SMILES, or a sequence in capitals.
        value: As it is learned from.
        limit: ``<`` if the truth is below the value, ``>`` if above, else empty.
        times: How often it was measured.
        spread: Between the largest and the smallest of these.
        line: Of the file, the first of them.
        round: Of experiments.
    """

    name: str
    text: str
    value: float
    limit: str = ""
    times: int = 1
    spread: float = 0.0
    line: int = 0
    round: str = "1"


class Measured(NamedTuple):
    """A cleaned table.

    Attributes:
        kind: What the objects are.
        quantity: What the numbers are called.
        rows: Each object once.
        aside: Rows that could not be used.
        notes: What was done to rows, a line each.
        n_rows: Of the file.
    """

    kind: Kind
    quantity: str
    rows: list[Measurement]
    aside: list[SetAside]
    notes: list[str]
    n_rows: int

    @property
    def texts(self) -> list[str]:
        """The objects."""
        return [row.text for row in self.rows]


class Merging(NamedTuple):
    """What became of objects that were measured several times."""

    aside: list[SetAside]
    notes: list[str]


def strand_key(text: str) -> str:
    """One name for a stretch of DNA and its other strand: the first of both by alphabet."""
    return min(text, other_strand(text))


def same_object(text: str, kind: Kind, strands: str = "both") -> str:
    """The same for texts of one object: of DNA both strands have one, unless they are as given."""
    return strand_key(text) if kind == "DNA" and strands == "both" else text


def other_strand(text: str) -> str:
    """The other strand of DNA, read in its own direction."""
    return text.translate(_PAIR)[::-1]


def merged(
    found: Sequence[Measurement], kind: Kind, strands: str = "both"
) -> tuple[list[Measurement], Merging]:
    """Each object once: the mean of its measurements, or the closest of its limits.

    Args:
        found: In the order of the file.
        kind: What they are.
        strands: ``both`` takes a stretch of DNA and its other strand as one object.
    """
    by_object: dict[str, list[Measurement]] = defaultdict(list)
    for row in found:
        by_object[same_object(row.text, kind, strands)].append(row)
    rows: list[Measurement] = []
    aside: list[SetAside] = []
    again, far, turned, against = 0, [], 0, []
    for group in by_object.values():
        turned += len({row.text for row in group}) > 1
        one = _merged(group)
        if one is None:
            first = group[0]
            lines = ", ".join(str(row.line) for row in group)
            reason = f"has limits that contradict each other: lines {lines}"
            aside.append(SetAside(first.line, first.text, reason, "measure it again"))
            continue
        rows.append(one)
        again += len(group) > 1
        if not one.limit and (lines := _against(one.value, group)):
            against.append(lines)
        if one.spread > FAR_APART:
            far.append((one.spread, [row.line for row in group]))
    notes = []
    if turned:
        notes.append(counted(turned, "are given on both strands: one object each"))
    if again:
        note = counted(again, "were measured more than once: the mean was taken")
        if far:
            spread, at = max(far)
            where = ", ".join(map(str, at[:4]))
            note += f"; {len(far):,} by more than {FAR_APART:g} apart, most of all {spread:.3g}"
            note += f" (lines {where}): look there"
        notes.append(note)
    if against:
        note = counted(len(against), "have limits that its numbers are beyond: these were taken")
        notes.append(f"{note} (lines {against[0]}): look there")
    if kind == "molecules" and (alike := _stereo(rows)):
        text = "have the drawing of another but for stereo marks, which models do not see"
        notes.append(counted(alike, text))
    return rows, Merging(aside, notes)


def counted(n: int, text: str) -> str:
    """``1 is a salt``, ``2 are salts``, of a text that begins with are, were or have."""
    verb, _, rest = text.partition(" ")
    one = {"are": "is", "were": "was", "have": "has"}
    return f"{n:,} {one[verb] if n == 1 else verb} {rest}"


def _merged(group: Sequence[Measurement]) -> Measurement | None:
    first = group[0]
    exact = [row for row in group if not row.limit]
    if exact:
        times = sum(row.times for row in exact)
        total = sum(row.value * row.times for row in exact)
        values = [row.value for row in exact]
        spread = max(max(values) - min(values), *(row.spread for row in exact))
        return first._replace(value=total / times, limit="", times=times, spread=spread)
    if len({row.limit for row in group}) > 1:
        return None
    closest = min if first.limit == "<" else max
    times = sum(row.times for row in group)
    return first._replace(value=closest(row.value for row in group), times=times)


def _against(value: float, group: Sequence[Measurement]) -> str:
    """The lines of limits that a number is beyond, and of the numbers; empty without any."""
    wrong = [
        row
        for row in group
        if (row.limit == "<" and value > row.value) or (row.limit == ">" and value < row.value)
    ]
    return ", ".join(str(row.line) for row in group) if wrong else ""


def _stereo(rows: Sequence[Measurement]) -> int:
    """How many molecules another one equals but for stereo marks."""
    from rdkit import Chem

    marked = [row.text for row in rows if any(sign in row.text for sign in "@/\\")]
    if not marked:
        return 0
    flat = [Chem.MolToSmiles(Chem.MolFromSmiles(t), isomericSmiles=False) for t in marked]
    there = {row.text for row in rows if not any(sign in row.text for sign in "@/\\")}
    seen: set[str] = set()
    alike = 0
    for text in flat:
        alike += text in seen or text in there
        seen.add(text)
    return alike


OWN = ("limit", "measurements", "spread", "group", "round", "line")  # of a cleaned table


def is_cleaned(header: Sequence[str]) -> bool:
    """Whether a table has the columns that `write_measured` writes: the third holds numbers."""
    return tuple(header[3:]) == OWN and header[0] == "name" and header[1] in ("smiles", "sequence")


def write_measured(measured: Measured, groups: Sequence[str], path: Path) -> None:
    """Write a cleaned table, which `read_measurements` reads as it is, in one go.

    Args:
        measured: What is written.
        groups: Scaffold or cluster of each row, which no test splits.
        path: A CSV.

    Raises:
        InputError: It cannot be written.
    """
    rows = measured.rows
    objects = "smiles" if measured.kind == "molecules" else "sequence"
    columns = {
        "name": [row.name for row in rows],
        objects: measured.texts,
        measured.quantity: [f"{row.value:.6g}" for row in rows],
        "limit": [row.limit for row in rows],
        "measurements": [str(row.times) for row in rows],
        "spread": [f"{row.spread:.3g}" for row in rows],
        "group": list(groups),
        "round": [row.round for row in rows],
        "line": [str(row.line) for row in rows],
    }
    with whole_files(path.parent) as part:
        write_table(part / path.name, columns)
