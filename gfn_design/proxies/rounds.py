"""The next round: new measurements beside the old ones, and what was predicted of them."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gfn_design.errors import InputError
from gfn_design.files.columns import one_word
from gfn_design.files.measured import Measured, Measurement, merged, same_object
from gfn_design.files.seals import SEALED, sealed_on
from gfn_design.files.structures import parent_smiles
from gfn_design.files.tables import read_table
from gfn_design.proxies.fit import SIDES
from gfn_design.proxies.limits import errors


def appended(old: Measured, new: Measured, strands: str, path: Path) -> Measured:
    """Both tables as one; the rows of the new one are of the next round.

    Args:
        old: A cleaned table.
        new: What was measured since.
        strands: ``both`` or ``given``, of DNA.
        path: Of the old one, for messages.

    Raises:
        InputError: They are of other objects, or of another quantity.
    """
    if old.kind != new.kind:
        raise InputError(f"{path}: holds {old.kind}, but the new table {new.kind}")
    if old.quantity != new.quantity:
        raise InputError(
            f"{path}: holds {old.quantity}, but the new table {new.quantity}; convert it alike, by "
            "--to, or name its column, by --value"
        )
    last = max((int(row.round) for row in old.rows if row.round.isdecimal()), default=1)
    rows = [row._replace(round=str(last + 1)) for row in new.rows]
    kept, more = merged([*old.rows, *rows], old.kind, strands)
    known = {same_object(row.text, old.kind, strands) for row in old.rows}
    again = sum(same_object(row.text, old.kind, strands) in known for row in rows)
    values = {same_object(row.text, old.kind, strands): row.value for row in old.rows}
    if again == len(rows) and all(
        math.isclose(values[same_object(row.text, old.kind, strands)], row.value, rel_tol=1e-6)
        for row in rows
    ):
        raise InputError(
            f"{path}: holds all {len(rows):,} of the new measurements already, with the same "
            "values; they seem to have been appended before"
        )
    note = f"round {last + 1}: {len(rows):,} objects, {again:,} of which were measured before"
    return Measured(
        old.kind,
        old.quantity,
        kept,
        [*new.aside, *more.aside],
        [*new.notes, note, *more.notes],
        new.n_rows,
    )


def scored(folder: Path, new: Measured, strands: str) -> list[str]:
    """How right the sealed predictions of a folder were, by what was measured since.

    Args:
        folder: That ``gfn-design sample`` wrote, with predictions of a proxy.
        new: What was measured.
        strands: ``both`` or ``given``, of DNA.

    Raises:
        InputError: There are no such predictions, or they were changed.
    """
    day = sealed_on(folder)
    rows = read_table(folder / SEALED)
    names = [c.removesuffix("_second") for c in (rows[0] if rows else ()) if c.endswith("_second")]
    if not names:
        raise InputError(f"{folder / SEALED}: holds no predictions of a proxy")
    name = _predicted(names, new.quantity, folder)
    predicted = {}
    for row in rows:
        text = row.get("smiles") or row.get("sequence") or ""
        text = parent_smiles(text) if new.kind == "molecules" else text
        predicted[same_object(text, new.kind, strands)] = row
    found: list[tuple[Measurement, dict[str, str]]] = [
        (it, predicted[key])
        for it in new.rows
        if (key := same_object(it.text, new.kind, strands)) in predicted
    ]
    lines = [f"predictions sealed on {day}: {len(found):,} of {len(predicted):,} were measured"]
    if not found:
        return lines
    return [*lines, *_compared(found, name)]


def _predicted(names: Sequence[str], quantity: str, folder: Path) -> str:
    """What the predictions of a quantity are called."""
    wanted = one_word(quantity)
    fit = [name for name in names if name == wanted] or [
        name for name in names if name.startswith(f"{wanted}_")
    ]
    if len(fit) != 1:
        raise InputError(
            f"{folder / SEALED}: predicts {' and '.join(names)}, but what was measured is called "
            f"{quantity}; convert it alike, by --to, or give its column the same name"
        )
    return fit[0]


def _compared(found: Sequence[tuple[Measurement, dict[str, str]]], name: str) -> list[str]:
    """How right predictions were, in lines."""
    values = np.array([it.value for it, _ in found])
    mean, low, high = (
        np.array([float(row[c]) for _, row in found]) for c in (name, f"{name}_low", f"{name}_high")
    )
    sides = np.array([SIDES[it.limit] for it, _ in found], dtype=np.int8)
    # Of a limit it is known on which side of it the truth is.
    fits = ((low <= values) | (sides > 0)) & ((values <= high) | (sides < 0))
    inside, error = int(fits.sum()), errors(mean, values, sides)
    expected = 0.8 * len(found)
    odd = abs(inside - expected) > 2 * math.sqrt(0.16 * len(found))
    lines = [
        f"  {inside:,} of them lie within their 80 % intervals ({expected:.0f} were expected"
        f"{'; the proxy is surer, or less sure, than it should be' if odd else ''})"
    ]
    wrong = [row for (it, row), fit in zip(found, fits, strict=True) if it.limit and not fit]
    if wrong:
        lines.append(
            f"  {len(wrong):,} of {int((sides != 0).sum()):,} that are known as limits lie beyond "
            f"their intervals, such as {wrong[0].get('smiles') or wrong[0].get('sequence')}, "
            f"predicted {float(wrong[0][name]):.2f}"
        )
    bias = "too high" if error.mean() > 0 else "too low"
    lines.append(
        f"  predictions were {abs(error.mean()):.2f} {bias} on average, and off by "
        f"{np.sqrt((error**2).mean()):.2f}; measured were {values.min():.2f} to {values.max():.2f}"
    )
    return lines
