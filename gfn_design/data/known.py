"""Known objects, which are learned from besides what is sampled."""

import logging
from pathlib import Path

import torch
from torch import Tensor

from gfn_design.environments.base import Environment
from gfn_design.errors import InputError
from gfn_design.files.objects import SetAside, evenly, read_molecules, read_texts

_log = logging.getLogger(__name__)


def read_known(
    environment: Environment, path: Path, most: int | None = None
) -> tuple[Tensor, list[SetAside]]:
    """The objects in a file that can be built, ``int64[n, *state_shape]``, and the other rows.

    Args:
        environment: That is to build them.
        most: So many of its rows are looked at, evenly; None is all.
        path: A table with a column of SMILES or sequences, SMILES, FASTA, or one on each line.

    Raises:
        InputError: It cannot be read, or none of them can be built.
    """
    aside: list[SetAside] = []
    if environment.molecules:
        read_in = read_molecules(path, most=most)
        rows, aside = read_in.rows, [*read_in.aside]
    else:
        rows = evenly(read_texts(path), most)
    objects = []
    for row in rows:
        try:
            state = environment.encode([row.text])
            if not is_object(environment, state):
                raise InputError(f"'{row.text}' is not finished")
        except InputError as error:
            remedy = "leave it out, or take fragments, letters or a length that can build it"
            aside.append(SetAside(row.line, row.text, f"cannot be built: {error}", remedy))
            continue
        objects.append(state)
    if not objects:
        raise InputError(
            f"{path}: none of {len(aside):,} known objects can be built; the first, in line "
            f"{aside[0].line}: {aside[0].reason}"
        )
    if aside:
        _log.warning(
            "%s: %s of %s known objects are learned from, the others cannot be built or read; "
            "the first, in line %s: %s",
            path,
            f"{len(objects):,}",
            f"{len(objects) + len(aside):,}",
            aside[0].line,
            aside[0].reason,
        )
    return torch.cat(objects), aside


def is_object(environment: Environment, state: Tensor) -> bool:
    """Whether one state, ``int64[1, *state_shape]``, is a finished object."""
    legal = environment.legal(state)[0]
    return not bool(legal.any()) if environment.fixed_length else bool(legal[-1])
