"""Checkpoints on disk: whole at every moment, and read without running code."""

import io
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO

from gfn_design.errors import InputError
from gfn_design.files.run_folder import CHECKPOINT, PREVIOUS
from gfn_design.files.whole import make_folder, write_whole

_log = logging.getLogger(__name__)


class CheckpointFiles(CheckpointIO):
    """Writes checkpoints beside their place, and moves them there when they are on the disk.

    Paths are taken as they are; Lightning's own takes ``a::b`` for an address.

    Args:
        keep: A checkpoint of which the one before is kept.
        previous: Where.
    """

    def __init__(self, keep: Path, previous: Path) -> None:
        self.keep, self.previous = keep, previous

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        path = Path(path)
        make_folder(path.parent)
        content = io.BytesIO()
        torch.save(checkpoint, content)
        before = path == self.keep and path.exists()
        spare = self.previous.with_suffix(".spare")
        if before:  # a second name of it, as the first is to be replaced in one go
            with suppress(OSError):
                spare.unlink(missing_ok=True)
                os.link(path, spare)
        write_whole(path, content.getvalue())
        if before and spare.exists():
            spare.replace(self.previous)

    def load_checkpoint(
        self,
        path: Any,
        map_location: Callable[..., Any] | None = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        return load_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint: tensors and plain containers, never code.

    Raises:
        InputError: The file is missing, cut short or no checkpoint.
    """
    if not path.exists():
        raise InputError(f"{path}: there is no checkpoint; train the run first")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file makes torch raise is not foreseen
        raise InputError(
            f"{path}: cannot be read as a checkpoint (cut short or damaged); put back a copy, or "
            "train into another --output"
        ) from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise InputError(f"{path}: is a torch file but no checkpoint of a GFlowNet")
    return checkpoint


def latest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The last checkpoint of a run and its content; the one before, if the last is damaged.

    Raises:
        InputError: There is none that can be read.
    """
    path = folder / CHECKPOINT
    try:
        return path, load_checkpoint(path)
    except InputError as error:
        if not (folder / PREVIOUS).exists():
            raise
        try:
            content = load_checkpoint(folder / PREVIOUS)
        except InputError:
            raise error from None
        _log.warning("%s; going on from the one before, %s", error, folder / PREVIOUS)
        return folder / PREVIOUS, content
