"""The command ``gfn-design``: a thin front that checks everything before torch is imported."""

import sys

from gfn_design.answering import answered
from gfn_design.command_line import parser
from gfn_design.errors import InputError


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    0; 1 if runs of a comparison failed; 2 for a mistake in the input, or a disk that is full or
    not to be written to; 128 and the number of the signal if stopped, 130 by Ctrl-C.
    """
    return answered(lambda: _run(arguments))


TAKE_KEYS = ("fit", "finetune", "check", "feasible", "pretrain")  # of a configuration


def _run(arguments: list[str] | None) -> int:
    known, rest = parser().parse_known_args(arguments)
    overrides = _overrides(rest)
    if overrides and known.command not in TAKE_KEYS:
        raise InputError(
            f"unknown option --{overrides[0][0]}; see gfn-design {known.command} --help"
        )
    from gfn_design import commands
    from gfn_design.fast import imports

    imports.quickly()
    return commands.COMMANDS[known.command](known, overrides)


def _overrides(rest: list[str]) -> list[tuple[str, str]]:
    """``--a.b value`` and ``--a.b=value`` as pairs."""
    pairs, words = [], iter(rest)
    for word in words:
        if not word.startswith("--"):
            raise InputError(f"unexpected argument '{word}'; see gfn-design --help")
        name, equals, value = word[2:].partition("=")
        if not equals:
            value = next(words, "")
            if not value or value.startswith("--"):
                raise InputError(f"option --{name} needs a value, as in --{name} 100")
        pairs.append((name, value))
    return pairs


if __name__ == "__main__":
    sys.exit(main())
