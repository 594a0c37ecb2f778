"""How a command ends: with its exit code, and a mistake with one sentence."""

import errno
import os
import sys
import time
import warnings
from collections.abc import Callable

from gfn_design.errors import InputError

OF_THE_MACHINE = {  # what a person mends outside of this program
    getattr(errno, name)
    for name in (
        "ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "ENAMETOOLONG", "EFBIG", "EMFILE", "ENFILE",
        "EIO", "ENOTDIR", "EISDIR", "ELOOP", "ESTALE", "ENODEV", "ENXIO", "EBUSY", "ENOMEM",
    )
    if hasattr(errno, name)
}  # fmt: skip


def answered(command: Callable[[], int]) -> int:
    """The exit code of a command, which raises what it has to say.

    Its own; 2 for a mistake in the input, or a disk that is full or not to be written to; 128 and
    the number of the signal if stopped, 130 by Ctrl-C.
    """
    # Lightning 2.6 with torch 2.13, and what it says of every short run
    for message in ("LeafSpec", "all_gather is deprecated", "than the logging interval"):
        warnings.filterwarnings("ignore", message=f".*{message}.*")
    try:
        return command()
    except InputError as error:
        _say(f"{error}", error.shared)
        return _ended(2)
    except KeyboardInterrupt as stopped:
        _say(f"stopped{'; ' if str(stopped) else ''}{stopped}", True)
        return _ended(getattr(stopped, "exit_code", 130))
    except BrokenPipeError:  # as of `gfn-design ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno not in OF_THE_MACHINE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"gfn-design: {where}{error.strerror}; mend that and try again", file=sys.stderr)
        return 2


def _say(text: str, shared: bool) -> None:
    """Tell the person; of processes that all say the same the first one does."""
    ranks = ("LOCAL_RANK", "RANK", "SLURM_PROCID")
    first = all(os.environ.get(name, "0") == "0" for name in ranks)
    if first or not shared:
        print(f"gfn-design: {text}", file=sys.stderr)
    if not first:  # whoever started this one ends it if it ends first
        parent, end = os.getppid(), time.monotonic() + 4
        while os.getppid() == parent and time.monotonic() < end:
            time.sleep(0.05)


def _ended(code: int) -> int:
    """The exit code; of processes that train together it is taken at once.

    Threads by which they speak may still wait for the others, and would abort an ordinary end.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code
