"""What is where in the folder of a run, and who works there."""

import os
from collections.abc import Callable, Iterator
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
    handle = _taken(folder, lambda h: fcntl.flock(h, fcntl.LOCK_EX | fcntl.LOCK_NB))
    try:
        yield
    finally:
        with suppress(OSError):
            os.unlink(folder / LOCK)
        os.close(handle)


def _taken(folder: Path, lock: Callable[[int], None]) -> int:
    """The handle of the lock's file, which nobody else has locked."""
    while True:
        try:
            handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise InputError(f"{folder}: cannot be written to ({error.strerror})") from error
        try:
            lock(handle)
        except BlockingIOError as error:
            os.close(handle)
            raise InputError(
                f"{folder}: another process is training into this folder; wait for it or stop it, "
                "or choose another --output"
            ) from error
        except OSError:  # a file system without locks
            return handle
        with suppress(FileNotFoundError):  # or who had it before has removed it meanwhile
            if os.path.samestat(os.fstat(handle), os.stat(folder / LOCK)):
                return handle
        os.close(handle)
