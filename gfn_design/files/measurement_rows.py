"""Row after row of a table of measurements: what each says, and what was done to it."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from gfn_design.errors import InputError
from gfn_design.files.columns import NAMES
from gfn_design.files.measured import LETTERS, Kind, Measurement, counted, is_cleaned
from gfn_design.files.objects import SetAside
from gfn_design.files.readings import (
    Conversion,
    Reading,
    as_written,
    has_decimal_commas,
    is_blank,
    read_number,
    unit_in,
)
from gfn_design.files.structures import Unusable, clean_structure
from gfn_design.files.texts import Line, plain

LIMITS = ("limit", "relation", "standardrelation", "qualifier", "operator", "modifier", "prefix")
ENDS_OF_PEPTIDES = re.compile(r"(?:(?:Ac|H|H2N|NH2)-)?([A-Za-z]+?)(?:-(?:NH2|OH|COOH|CONH2))?")
ENDS_OF_STRANDS = re.compile(r"(?:5['\u2019\u2032]?-?)?([A-Za-z]+?)(?:-?3['\u2019\u2032]?)?")
UNITS = ("unit", "units", "standardunits", "standardunit", "valueunits")


class Reader:
    """Reads row after row, and counts what it did.

    Args:
        header: The names of all columns.
        body: The rows below.
        places: Of the objects, and of the numbers.
        kind: What the objects are.
        to: What the numbers are converted to.
        unit: Of the numbers, if it is known.
        path: For messages.
    """

    def __init__(
        self,
        header: Sequence[str],
        body: Sequence[Line],
        places: tuple[int, int],
        kind: Kind,
        to: str | None,
        unit: str | None,
        path: Path,
    ) -> None:
        names = [plain(name) for name in header]
        at, value_at = places
        self.body, self.at, self.value_at, self.kind = body, at, value_at, kind
        self.name_at = next((names.index(n) for n in NAMES if n in names), at)
        self.limit_at = next((names.index(n) for n in LIMITS if n in names), None)
        self.unit_at = next((names.index(n) for n in UNITS if n in names), None)
        own = ("round", "measurements", "spread")
        cleaned = is_cleaned(header)
        self.own = [names.index(name) if cleaned else None for name in own]
        self.convert = Conversion(to)
        stated = unit_in(header[value_at])
        if unit and stated and as_written(unit) != stated:
            raise InputError(
                f"{path}: column '{header[value_at]}' says {stated}, but --unit {unit}; leave out "
                "--unit, or mend the name of the column"
            )
        self.unit = as_written(unit) if unit else stated
        cells = [line.cells[value_at] for line in body if value_at < len(line.cells)]
        self.commas = has_decimal_commas(cells)
        texts = [line.cells[at] for line in body if at < len(line.cells)]
        small = sum(text == text.lower() for text in texts)
        self.few_small = 0 < small < len(texts) / 2
        self.counts: Counter[str] = Counter()
        self.first: dict[str, int] = {}
        if self.convert.is_molar and not self.unit and self.unit_at is None:
            self._check_units(cells, header[value_at], path)

    def _check_units(self, cells: Sequence[str], name: str, path: Path) -> None:
        """Refuse numbers of which nobody says what they are."""
        values, units = [], 0
        for cell in cells:
            try:
                reading = read_number(cell, self.commas)
            except InputError:
                continue
            values.append(reading.value)
            units += bool(reading.unit)
        if not values or units > len(values) / 2:
            return
        if "%" in name or "percent" in name.lower():
            raise InputError(
                f"{path}: '{name}' is a percentage, of which there is no {self.convert.to}; leave "
                "out --to, or name another column by --value"
            )
        guess = "nM" if max(values) > 1000 else "uM" if max(values) > 1 else "M"
        raise InputError(
            f"{path}: the numbers of '{name}' span {min(values):g} to {max(values):g}, and nobody "
            f"says in which unit; it looks like {guess}: say --unit {guess} (or M, mM, uM, nM, pM)"
        )

    def _cell(self, line: Line, at: int | None) -> str:
        return line.cells[at].strip() if at is not None and at < len(line.cells) else ""

    def _count(self, what: str, line: int) -> None:
        self.counts[what] += 1
        self.first.setdefault(what, line)

    def read(self) -> tuple[list[Measurement], list[SetAside]]:
        """All rows that can be used, and those that cannot."""
        found: list[Measurement] = []
        aside: list[SetAside] = []
        for line in self.body:
            text, cell = self._cell(line, self.at), self._cell(line, self.value_at)
            if is_blank(cell):
                aside.append(SetAside(line.number, text, "was not measured", "give a number"))
                continue
            cleaned = self._cleaned(text, line.number)
            if isinstance(cleaned, Unusable):
                aside.append(SetAside(line.number, text, *cleaned))
                continue
            try:
                reading, own = self._reading(line, cell), self._own(line)
            except InputError as error:
                remedy = "write one number, as 12.5 or >10000"
                reason = f"has a number that cannot be used: '{cell[:30]}' {error}"
                aside.append(SetAside(line.number, text, reason, remedy))
                continue
            if reading.limit:
                self._count("limits", line.number)
            name = self._cell(line, self.name_at)
            name = cleaned if name in ("", text) else name
            found.append(Measurement(name, cleaned, reading.value, reading.limit, *own))
        return found, aside

    def _own(self, line: Line) -> tuple[int, float, int, str]:
        """What a cleaned table says besides: how often, how far apart, in which line and round."""
        nth, times, spread = (self._cell(line, at) for at in self.own)
        try:
            return int(float(times or 1)), float(spread or 0), line.number, nth or "1"
        except ValueError:
            raise InputError(f"was measured '{times}' times, '{spread}' apart") from None

    def _reading(self, line: Line, cell: str) -> Reading:
        reading = read_number(cell, self.commas)
        relation = self._cell(line, self.limit_at).strip("'\" ")
        if not reading.limit and relation[:1] in ("<", ">"):
            reading = reading._replace(limit=relation[0])
        return self.convert(reading, self._cell(line, self.unit_at) or self.unit)

    def _cleaned(self, text: str, line: int) -> str | Unusable:
        if self.kind == "molecules":
            from rdkit import Chem

            found = clean_structure(text)
            if isinstance(found, Unusable):
                return found
            if found.is_salt:
                self._count("salts", line)
            if found.is_mended:
                self._count("charged", line)
            return Chem.MolToSmiles(Chem.MolFromSmiles(found.smiles))
        letters = LETTERS[self.kind]
        bare = "".join(text.split())
        ends = ENDS_OF_PEPTIDES if self.kind == "protein" else ENDS_OF_STRANDS
        if (inner := ends.fullmatch(bare)) is not None and inner[1] != bare:
            self._count("ends", line)
            bare = inner[1]
        if self.kind == "protein" and self.few_small and bare and bare == bare.lower():
            return Unusable(
                "has small letters, which may mean D residues", "write capitals if they are L"
            )
        plain_text = bare.upper()
        if self.kind != "protein":
            other, own = ("U", "T") if self.kind == "DNA" else ("T", "U")
            if other in plain_text:
                self._count(f"{other} as {own}", line)
                plain_text = plain_text.replace(other, own)
        if not plain_text:
            return Unusable("no sequence", "add one, or leave it out")
        if bad := next((x for x in plain_text if x not in letters), None):
            what = "residue of the usual twenty" if self.kind == "protein" else "base"
            return Unusable(
                f"holds '{bad}', which is no {what}",
                f"write one letter for each, as in {letters[:4]}...",
            )
        return plain_text

    def notes(self) -> list[str]:
        """What was done to the rows, a line each."""
        said = {
            "salts": "are written as a salt or mixture: the parent was taken",
            "charged": "are written with charges: taken as neutral",
            "U as T": "are written with U: read as T",
            "T as U": "are written with T: read as U",
            "ends": "are written with ends, as Ac- and -NH2 or 5'- and -3': read without",
            "limits": "are known as a limit alone, and learned from as such",
        }
        return [
            f"{counted(self.counts[what], text)} (the first in line {self.first[what]})"
            for what, text in said.items()
            if self.counts[what]
        ]
