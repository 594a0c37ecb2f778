"""Objects as plain data: the class and the arguments that they were made with, and back."""

import inspect
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from gfn_design.config.renamed import of_argument
from gfn_design.errors import InputError

NAMELESS = "no import path"  # what stands for a part that cannot be named


def show_constructor(kind: type) -> None:
    """Let help and `inspect` show what ``__init__`` takes, and not ``__new__``."""
    signature = inspect.signature(kind.__init__)  # type: ignore[misc]
    _, *others = signature.parameters.values()
    kind.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]


class Described:
    """Remembers the arguments it was made with, so that it can be made again."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        show_constructor(cls)

    def __new__(cls, *arguments: Any, **named: Any) -> Self:
        for name in named:
            now = of_argument(cls.__name__, name)
            if now and name not in inspect.signature(cls).parameters:
                raise InputError(f"{cls.__name__}: '{name}' is '{now}' now")
        made = super().__new__(cls)
        made.__dict__["_given"] = (arguments, named)
        return made

    def given_arguments(self) -> dict[str, Any]:
        """What it was made with, by name."""
        arguments, named = self.__dict__["_given"]
        signature = inspect.signature(type(self))
        bound = dict(signature.bind_partial(*arguments, **named).arguments)
        for name, parameter in signature.parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                bound |= bound.pop(name, {})
        return bound


def described(value: Any) -> Any:
    """A value as a configuration writes it; `NAMELESS` stands for what has no name.

    Args:
        value: Plain, or a container, a class or function, a partial, a group of options, or
            `Described`.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [described(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): described(item) for key, item in value.items()}
    if isinstance(value, partial) and not value.args:
        return {"class_path": path_of(value.func), "init_args": described(value.keywords)}
    if is_dataclass(value) and not isinstance(value, type):
        given = {field.name: getattr(value, field.name) for field in fields(value)}
        return {"class_path": path_of(type(value)), "init_args": described(given)}
    if isinstance(value, Described):
        return {"class_path": path_of(type(value)), "init_args": described(value.given_arguments())}
    return {"class_path": path_of(value)}


def path_of(what: Any) -> str:
    """Where something is imported from: a public name, ``module.Name`` or ``file.py:Name``.

    `NAMELESS` of what is defined within a function, at a prompt, or is no class or function.
    """
    import gfn_design

    name, module = getattr(what, "__qualname__", "<>"), getattr(what, "__module__", "")
    if module.startswith("gfn_design.") and name in gfn_design.__all__:
        return str(name)
    if "<" in name or "." in name:
        return NAMELESS
    loaded = sys.modules.get(module)
    file = getattr(loaded, "__file__", None)
    spec = getattr(loaded, "__spec__", None)
    if module == "__main__" or spec is None or (file and "." not in module and spec.parent == ""):
        return f"{Path(file).resolve()}:{name}" if file else NAMELESS
    return f"{module}.{name}"


def nameless(value: Any, place: str = "") -> list[str]:
    """Where in what `described` gave something has no name."""
    if isinstance(value, Mapping):
        own = [place] if value.get("class_path") == NAMELESS else []
        inner = value.get("init_args", value) if "class_path" in value else value
        below = [nameless(item, f"{place}.{key}".lstrip(".")) for key, item in inner.items()]
        return [*own, *(found for some in below for found in some)]
    if isinstance(value, list):
        return [found for i, item in enumerate(value) for found in nameless(item, f"{place}[{i}]")]
    return []
