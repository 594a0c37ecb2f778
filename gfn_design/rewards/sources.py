"""Where somebody's function is, and what is in its files."""

import hashlib
import importlib.util
import re
import shlex
import sys
import types
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from gfn_design.errors import InputError


def name_of(function: Callable[..., Any]) -> str:
    """How a sentence calls a function."""
    while isinstance(function, partial):
        function = function.func
    name: str = getattr(function, "__qualname__", type(function).__name__)
    module = sys.modules.get(getattr(function, "__module__", ""))
    file = getattr(module, "__file__", None)
    return f"{Path(file).name}:{name}" if file else name


def importable(function: Any) -> tuple[str, dict[str, Any]]:
    """Where another process finds a function, and with which arguments it is called.

    Raises:
        InputError: It is defined within another function or at a prompt, or is none.
    """
    arguments: dict[str, Any] = {}
    while isinstance(function, partial) and not function.args:
        function, arguments = function.func, function.keywords | arguments
    name = getattr(function, "__qualname__", "<>")
    module = sys.modules.get(getattr(function, "__module__", ""))
    file = getattr(module, "__file__", None)
    if "<" in name or module is None or file is None:
        raise InputError(
            f"{name_of(function)} cannot be found by another process, which n_workers, timeout and "
            "dask need; define it by its name in a file of its own"
        )
    is_packaged = "." in module.__name__ and importlib.util.find_spec(module.__name__) is not None
    return f"{module.__name__}.{name}" if is_packaged else f"{file}:{name}", arguments


def content_of(what: str, arguments: dict[str, Any] | None = None) -> str:
    """Who scores, by content: a function with its file, or a command with the files it names."""
    names = [what, *_words(what), *re.split(r"[\s:]+", what), what.rpartition(":")[0]]
    files = [Path(name) for name in dict.fromkeys(names) if is_file(name)]
    words = [what, *(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)]
    words.append(repr(sorted((arguments or {}).items())))
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # no command, but the name of a function
        return []


def is_file(name: str) -> bool:
    """Whether a text is the path of a file, and not too long to be one."""
    with suppress(OSError, ValueError):
        return Path(name).is_file()
    return False


def content_of_function(function: Callable[..., Any]) -> str:
    """`content_of` a function, or of what is called like one."""
    plain: Any = function
    arguments: dict[str, Any] = {}
    while isinstance(plain, partial):
        plain, arguments = plain.func, plain.keywords | arguments
    module = sys.modules.get(getattr(plain, "__module__", None) or type(plain).__module__)
    file = getattr(module, "__file__", None) or ""
    name = getattr(plain, "__qualname__", type(plain).__qualname__)
    if not isinstance(plain, types.FunctionType | type):
        held = {k: repr(v) for k, v in getattr(plain, "__dict__", {}).items()}
        # A repr with an address is another one in each process, and says nothing.
        arguments |= {k: v for k, v in held.items() if not re.search(r" at 0x[0-9a-f]+", v)}
    return content_of(f"{file}:{name}", arguments)
