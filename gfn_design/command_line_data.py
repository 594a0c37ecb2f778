"""What the command line takes of the commands that begin from a table of measurements."""

import argparse
from pathlib import Path


def _table(command: argparse.ArgumentParser) -> None:
    """How a table is read."""
    command.add_argument("--column", metavar="NAME", help="of SMILES or sequences (default: found)")
    command.add_argument("--value", metavar="NAME", help="of what was measured (default: found)")
    command.add_argument(
        "--kind",
        choices=("molecules", "DNA", "RNA", "protein"),
        help="of the objects (default: as they look)",
    )
    command.add_argument(
        "--strands",
        choices=("both", "given"),
        default="both",
        help="of DNA: both strands are one object, or each its own (default: both)",
    )


def _data(command: argparse.ArgumentParser) -> None:
    """Options of data."""
    command.add_argument("table", type=Path, metavar="TABLE", help="CSV, TSV or parquet")
    _table(command)
    command.add_argument("--unit", metavar="UNIT", help="of the numbers: M, mM, uM, nM or pM")
    command.add_argument(
        "--to",
        metavar="QUANTITY",
        help="convert: pIC50, pKi, ... (minus log10 of molar numbers), log10 or neglog10",
    )
    command.add_argument(
        "--append",
        type=Path,
        metavar="CLEAN",
        help="a cleaned table of earlier rounds, which the new one is put beside",
    )
    command.add_argument(
        "--predicted",
        type=Path,
        metavar="FOLDER",
        help="that sample wrote before: say how right its sealed predictions were",
    )
    command.add_argument(
        "--output", type=Path, metavar="FILE.csv", help="default: TABLE with _clean.csv"
    )
    command.epilog = (
        "numbers may be written as >10000, 1,250 or 12 +- 3 nM; rows that cannot be used are "
        "written to TABLE_set_aside.csv with line, reason and remedy"
    )


def _proxy(command: argparse.ArgumentParser) -> None:
    """Options of proxy."""
    command.add_argument(
        "table", type=Path, metavar="TABLE", help="that `gfn-design data` wrote, or like it"
    )
    _table(command)
    command.add_argument(
        "--model",
        action="append",
        metavar="FILE.py:FUNCTION",
        help="compare a regressor of scikit-learn too, which this function returns",
    )
    command.add_argument(
        "--networks",
        action="store_true",
        help="compare an ensemble of neural networks too, which takes some minutes",
    )
    command.add_argument(
        "--anyway", action="store_true", help="take the best model though the mean is as good"
    )
    command.add_argument("--output", type=Path, metavar="FOLDER", help="default: TABLE with _proxy")
    command.add_argument("--overwrite", action="store_true", help="a proxy that is there")


COMMANDS = {
    "data": (_data, "clean a table of measurements; say whether there is anything to learn"),
    "proxy": (_proxy, "learn to predict what was measured; say how far to trust it"),
}
