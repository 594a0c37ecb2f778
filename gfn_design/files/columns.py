"""Which column of a table is meant: by its name, or by what it holds."""

import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from gfn_design.errors import InputError
from gfn_design.files.texts import Line, plain

SMILES = (
    *("smiles", "canonicalsmiles", "isomericsmiles", "cxsmiles", "smi", "structure", "molecule"),
    *("mol", "smilesstring", "compoundsmiles", "compoundstructure", "ligandsmiles", "rdkitsmiles"),
    *("structuresmiles", "smilescanonical"),
)
SEQUENCES = ("object", "sequence", "seq", "design", "text", "kmer", "site", "oligo", "peptide")
NAMES = (
    *("name", "id", "compound", "compoundid", "compoundname", "moleculename", "title", "chemblid"),
    *("moleculechemblid", "identifier", "code", "entry", "entryid", "cpd", "cpdid", "cpdnumber"),
    *("compoundnumber", "peptideid", "peptidename", "sequenceid", "oligoid", "construct", "clone"),
    *("sample", "sampleid", "batchid", "well", "molid", "number"),
)
LOOKED_AT = 50  # cells that tell what a column holds


def place_of(
    header: Sequence[str],
    column: str | None,
    usual: Sequence[str],
    body: Sequence[Line],
    holds: Callable[[str], bool] | None,
    path: Path,
) -> int:
    """Which column is meant.

    Args:
        header: The names of all.
        column: Its name; case, spaces and signs do not matter. None finds it.
        usual: Its usual names, as `plain` has them, the most usual first.
        body: The rows below the header.
        holds: Says of a cell whether it could be of this column; None takes the first one.
        path: For messages.

    Raises:
        InputError: There is no such column.
    """
    names = [plain(name) for name in header]
    if column is not None:
        return named(header, column, path)
    found = next((names.index(name) for name in usual if name in names), None)
    if found is not None:
        return found
    if holds is None:
        return 0
    for place in range(len(names)):
        if mostly(cells_of(body, place), holds):
            return place
    raise InputError(
        f"{path}: has no column of SMILES; its columns are {listed(header)}; name the one that is "
        "meant, as in --column NAME"
    )


def named(header: Sequence[str], column: str, path: Path) -> int:
    """The place of a column by its name.

    Raises:
        InputError: There is no such column; near names are told.
    """
    names = [plain(name) for name in header]
    wanted = plain(column)
    if wanted in names:
        return names.index(wanted)
    near = [name for name in names if wanted and (name.startswith(wanted) or wanted in name)]
    near += difflib.get_close_matches(wanted, names, n=2)
    shown = " or ".join(repr(header[names.index(name)]) for name in dict.fromkeys(near))
    hint = f"did you mean {shown}?" if shown else f"its columns are {listed(header)}"
    raise InputError(f"{path}: has no column '{column}'; {hint}")


def one_word(name: str) -> str:
    """A name without what columns and configurations do not hold."""
    return re.sub(r"\W+", "_", name).strip("_") or "value"


def listed(header: Sequence[str]) -> str:
    """The names of columns, for a sentence."""
    return ", ".join(repr(name) for name in header)


def cells_of(body: Sequence[Line], place: int) -> list[str]:
    """The first cells of a column that are not blank."""
    cells = (line.cells[place].strip() for line in body if place < len(line.cells))
    return [cell for cell in cells if cell][:LOOKED_AT]


def mostly(cells: Sequence[str], holds: Callable[[str], bool]) -> bool:
    """Whether most cells are of a kind; numbers are of none."""
    good = [cell for cell in cells if not cell.isdigit() and holds(cell)]
    return bool(cells) and len(good) > len(cells) / 2


def reads(text: str) -> bool:
    """Whether RDKit reads a text as SMILES."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        return Chem.MolFromSmiles(text) is not None
