"""What is where in the folder of a run, and who works there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gfn_design.errors import InputError

CONFIG, LOG, README = "config.yaml", "log.csv", "README.md"
CHECKPOINT = Path("checkpoints", "last.ckpt")
PREVIOUS = Path("checkpoints", "previous.ckpt")  # the one before, in case the last is damaged
LOCK = ".lock"


def has_checkpoint(folder: Path) -> bool:
    """Whether something was saved there, be it damaged."""
    return (folder / CHECKPOINT).exists() or (folder / PREVIOUS).exists()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from training into a folder; the lock ends with this process at most.

    Args:
        folder: That exists.

    Raises:
        InputError: Another process trains there.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on Windows
        yield
        return
    try:
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to ({error.strerror})") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{folder}: another process is training into this folder; wait for it or stop it, "
                "or choose another --output"
            ) from error
        except OSError:  # a file system without locks
            pass
        try:
            yield
        finally:
            with suppress(OSError):
                os.unlink(folder / LOCK)
    finally:
        os.close(handle)
