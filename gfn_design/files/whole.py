"""Files that are whole at every moment: written beside their place, then moved there."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from gfn_design.errors import InputError

PART = ".part"  # the end of the names of what is not whole yet


def cannot_write(path: Path, error: OSError) -> InputError:
    """The sentence about a file that cannot be written."""
    if isinstance(error, FileExistsError | NotADirectoryError):
        return InputError(f"{path}: is a file, or below one; choose another name")
    reason = error.strerror or str(error)
    return InputError(
        f"{path}: cannot be written ({reason}); mend that, or choose another place; what was there "
        "before is still there"
    )


@contextmanager
def whole_file(path: Path, mode: str = "w", **options: Any) -> Iterator[IO[Any]]:
    """Open a file for writing that takes the place of `path` when the block ends well.

    The new content is on the disk before the old one is given up; if anything goes wrong the old
    one stays.

    Args:
        path: In a folder that exists.
        mode: ``w`` or ``wb``.
        **options: Of `open`; text is UTF-8.

    Raises:
        InputError: It cannot be written.
    """
    part = _part_of(path)
    if "b" not in mode:
        options = {"encoding": "utf-8"} | options
    try:
        with part.open(mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Replace what `path` holds by a text or bytes.

    Raises:
        InputError: It cannot be written.
    """
    with whole_file(path, "wb" if isinstance(content, bytes) else "w") as file:
        file.write(content)


@contextmanager
def whole_files(folder: Path) -> Iterator[Path]:
    """A folder to write files into, all of which are moved to `folder` when the block ends well.

    If anything goes wrong, `folder` holds what it held.

    Args:
        folder: Made if missing.

    Raises:
        InputError: They cannot be written.
    """
    made = make_folder(folder)
    part = _part_of(folder / "files")
    try:
        part.mkdir()
        yield part
        files = sorted(part.iterdir())
        for file in files:
            with file.open("rb") as written:
                os.fsync(written.fileno())
        for file in files:
            file.replace(folder / file.name)
        _sync_folder(folder)
    except OSError as error:
        name = Path(error.filename or folder)
        if name.parent == part:
            name = folder / name.name
        raise cannot_write(name, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if made:
            with suppress(OSError):
                folder.rmdir()  # if nothing came into it


def make_folder(folder: Path) -> bool:
    """Make a folder with its parents, if it is not there; returns whether that was so.

    Raises:
        InputError: It cannot be made.
    """
    if folder.is_dir():
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    return True


def remove_parts(folder: Path) -> None:
    """Clear away what was being written when a process was killed."""
    for part in folder.glob(f".*{PART}"):
        with suppress(OSError):
            shutil.rmtree(part) if part.is_dir() else part.unlink()


def _part_of(path: Path) -> Path:
    """A name beside `path` that nobody has, however long that of `path` is."""
    return path.parent / f".{secrets.token_hex(6)}{PART}"


def _sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where the system can."""
    with suppress(OSError, AttributeError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
