"""Numbers as electronic notebooks export them: ``>10000``, ``1,250``, ``0,35``, ``12 ± 3 nM``."""

import html
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from gfn_design.errors import InputError

MOLAR = {"m": 0.0, "mm": -3.0, "um": -6.0, "nm": -9.0, "pm": -12.0}  # powers of ten
BLANKS = ("", "na", "n/a", "nd", "n.d.", "nan", "none", "null", "-", "--", "?", "nt", "n.t.", "tbd")
_SIGN = r"(?P<sign>[<>]=?|[≤≥~=≈]|ca\.?|approx\.?)?"
_NUMBER = r"(?P<number>[-+]?(?:\d[\d.,' \u00a0]*|[.,]\d+)(?:[eE][-+]?\d+)?)"
_ERROR = r"(?:(?:±|\+/-|\+-)\s*[\d.,]+|\([\d.,]+\))?"
_READING = re.compile(rf"\s*{_SIGN}\s*{_NUMBER}\s*{_ERROR}\s*(?P<unit>[%A-Za-zµμ]\S*)?\s*")
_UNIT = re.compile(r"(?<![A-Za-z])(p?[mnuµμ]?M|nmol/L|[uµμ]mol/L|mmol/L|mol/L)(?![A-Za-z])")


class Reading(NamedTuple):
    """A number, and whether the truth lies beyond it.

    Attributes:
        value: The number.
        limit: ``<`` if the truth is below it, ``>`` if above, else empty.
        unit: As it stands in the cell; empty if none does.
    """

    value: float
    limit: str = ""
    unit: str = ""


def is_blank(cell: str) -> bool:
    """Whether a cell says that nothing was measured."""
    return cell.strip().lower() in BLANKS


def has_decimal_commas(cells: Sequence[str]) -> bool:
    """Whether commas of a column are decimal: some cell has one, and not before three digits."""
    for cell in cells:
        match = _READING.fullmatch(html.unescape(cell))
        number = match["number"].strip() if match else ""
        if "," in number and "." in number:
            if number.rindex(",") > number.rindex("."):
                return True
        elif "," in number and not re.fullmatch(r"[-+]?[1-9]\d{0,2}(,\d{3})+", number):
            return True
    return False


def read_number(cell: str, commas: bool = False) -> Reading:
    """What a cell says.

    Args:
        cell: As it is in the file.
        commas: Whether a comma is decimal, else it parts thousands. Where it is, points part
            thousands if a comma follows or they stand before three digits, else are decimal too.

    Raises:
        InputError: It holds no number.
    """
    match = _READING.fullmatch(html.unescape(cell))
    if match is None:
        raise InputError("is not a number")
    text = re.sub(r"[' \u00a0]", "", match["number"])
    if not commas:
        text = text.replace(",", "")
    elif "," in text or re.fullmatch(r"[-+]?[1-9]\d{0,2}(\.\d{3})+", text):
        text = text.replace(".", "").replace(",", ".")
    try:
        value = float(text)
    except ValueError:
        raise InputError("is not a number") from None
    if not math.isfinite(value):
        raise InputError("is not a finite number")
    sign = (match["sign"] or "").replace("≤", "<").replace("≥", ">")
    limit = sign[0] if sign[:1] in ("<", ">") else ""
    return Reading(value, limit, (match["unit"] or "").strip("()[]"))


def unit_in(text: str) -> str:
    """The molar unit that a column's name or a cell states, as ``nM``; empty if none."""
    text = text.replace("_", " ")
    found = list(_UNIT.finditer(text))
    sure = [m for m in found if re.search(r"[(\[]\s*$", text[: m.start()])]  # in brackets
    sure += [m for m in found if not text[m.end() :].strip(" )]")]  # or at the end
    sure += [m for m in found if m[1] != "M"]  # a mere M may be anything
    return as_written(sure[0][1]) if sure else ""


def as_written(unit: str) -> str:
    """A molar unit as we write it: ``nM``, ``uM``; others as they are."""
    plain = unit.strip().replace("µ", "u").replace("μ", "u").replace("mol/L", "M")
    known = {name.lower(): name for name in ("M", "mM", "uM", "nM", "pM")}
    return plain if plain in ("M", "mM") else known.get(plain.lower(), plain)


class Conversion:
    """From numbers as they were measured to those that are learned from.

    Args:
        to: ``pIC50`` or any other p and name, which is -log10 of a molar number; ``log10``;
            ``neglog10``, which is minus that; None leaves them as they are.

    Raises:
        InputError: It is none of these.
    """

    def __init__(self, to: str | None) -> None:
        self.to = to
        self.is_molar = to is not None and re.fullmatch(r"p[A-Z][\w/]*", to) is not None
        if to is not None and not self.is_molar and to not in ("log10", "neglog10"):
            raise InputError(
                f"--to takes pIC50 (or pKi, pEC50, ...: minus log10 of a molar number), log10 or "
                f"neglog10 (minus that), got '{to}'"
            )

    def name(self, column: str) -> str:
        """What the quantity is called afterwards."""
        if self.to is None:
            return column
        return self.to if self.is_molar else f"{self.to} {column}"

    def __call__(self, reading: Reading, unit: str) -> Reading:
        """One number; limits turn round where the sign does.

        Args:
            reading: As it was measured.
            unit: Of it; the cell's own wins.

        Raises:
            InputError: It is not positive, or in a unit that is not molar.
        """
        if self.to is None:
            return reading
        if reading.value <= 0:
            raise InputError(f"is {reading.value:g}, of which there is no logarithm")
        value = math.log10(reading.value)
        if self.is_molar:
            own = as_written(reading.unit or unit)
            if own.lower() not in MOLAR:
                raise InputError(f"is in '{own}', which is not molar")
            value += MOLAR[own.lower()]
        if self.to == "log10":
            return Reading(value, reading.limit)
        turned = {"<": ">", ">": "<", "": ""}
        return Reading(-value, turned[reading.limit])
