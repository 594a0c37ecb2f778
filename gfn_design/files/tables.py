"""Text tables: written so that a spreadsheet shows them and runs nothing."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that a spreadsheet would run


def harmless(cell: str) -> str:
    """A cell as it is, with an apostrophe before it if a spreadsheet would take it for a formula.

    Numbers stay numbers.
    """
    if not cell.startswith(FORMULA):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def as_meant(cell: str) -> str:
    """A cell as it was before `harmless`."""
    return cell[1:] if cell.startswith("'") and harmless(cell[1:]) == cell else cell


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV that `write_table` wrote, each its cells by column, as they were meant."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {as_meant(name): as_meant(cell or "") for name, cell in row.items() if name}
            for row in csv.DictReader(file)
        ]


def write_table(path: Path, columns: Mapping[str, Sequence[str]]) -> None:
    """Write columns of equal length as CSV, with `harmless` cells."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(map(harmless, columns))
        writer.writerows([*map(harmless, row)] for row in zip(*columns.values(), strict=True))
