"""The other end of `FunctionWorker`: read batches of texts from the input, write answers.

Every line is JSON: first ``{"path", "arguments"}``, then a list of texts at a time. The replies are
``{"answers": ...}``, ``{"error": ...}`` if a batch failed, ``{"refused": ...}`` if nothing will do.
"""

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, TextIO

from gfn_design.config import import_class
from gfn_design.errors import InputError
from gfn_design.rewards.answers import ScoringError, call, raised


def main() -> None:
    """Answer until the input ends."""
    # What the function prints must not be taken for a reply: it goes to the error output.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    what = json.loads(sys.stdin.readline())
    try:
        function = _find(what["path"], what["arguments"])
    except InputError as error:
        _reply(out, {"refused": str(error)})
        return
    except Exception as error:  # importing somebody's file may raise anything
        _reply(out, {"refused": f"{what['path']} {raised(error)}, when it was imported"})
        return
    _reply(out, {"answers": []})
    for line in sys.stdin:
        texts = json.loads(line)
        try:
            answers = call(function, texts)
            _reply(out, {"answers": [_plain(answer) for answer in answers]})
        except InputError as error:
            _reply(out, {"refused": str(error)})
        except ScoringError as error:
            _reply(out, {"error": str(error)})
        except Exception as error:
            _reply(out, {"error": raised(error)})


def _find(path: str, arguments: dict[str, Any]) -> Callable[[list[str]], Any]:
    found = import_class(path)
    if isinstance(found, type):
        return found(**arguments)
    return partial(found, **arguments) if arguments else found


def _plain(answer: Any) -> Any:
    """An answer as JSON has it; what is none is judged by the one who asked."""
    if answer is None or isinstance(answer, str | list | tuple | int):
        return answer
    if getattr(answer, "ndim", 0):
        return repr(answer)[:200]
    try:
        return float(answer)
    except (TypeError, ValueError, OverflowError):
        return repr(answer)[:200]


def _reply(out: TextIO, reply: dict[str, Any]) -> None:
    out.write(json.dumps(reply) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
