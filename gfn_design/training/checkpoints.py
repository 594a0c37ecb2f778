"""What a checkpoint carries besides weights: whose it is, and what each process remembers."""

import logging
from typing import Any

from gfn_design.environments.base import Environment
from gfn_design.errors import InputError
from gfn_design.ranks import world

_log = logging.getLogger(__name__)


def check_environment_of(checkpoint: dict[str, Any], environment: Environment) -> None:
    """Refuse a checkpoint of another environment.

    Raises:
        InputError: It was trained on another one.
    """
    here, there = environment.describe(), checkpoint.get("environment")
    if here != there:
        raise InputError(
            f"the checkpoint was trained on {there or 'something unknown'}, but the "
            f"environment is {here}; use the environment it was trained on"
        )


def of_rank(checkpoint: dict[str, Any], rank: int, speaks: bool) -> dict[str, Any]:
    """What a process remembers of its own.

    Args:
        checkpoint: Of all of them.
        rank: Of the process.
        speaks: Say that there were more of them, or fewer.
    """
    each = checkpoint.get("ranks") or [checkpoint]  # that of one process, as it was before
    if len(each) != world() and speaks:
        _log.warning(
            "the checkpoint was saved by %s processes, and %s go on; what each remembers is "
            "taken from one of those, so the run is not the one it would have been",
            len(each),
            world(),
        )
    own: dict[str, Any] = each[rank % len(each)]
    return own
