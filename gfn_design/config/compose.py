"""Compose a run's configuration from YAML files and dotted flags."""

import functools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from gfn_design.config.check import Root, check
from gfn_design.errors import InputError

_COMMAND_LINE = "command line"
_OBJECT_KEYS = {"class_path", "init_args"}
_EXPONENT = re.compile(r"[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$")  # 1e-3

Overrides = Iterable[tuple[str, str]]  # ("trainer.max_steps", "100"); values are YAML


class Config(dict[str, Any]):
    """A configuration that remembers which file, or the command line, gave each key."""

    def __init__(self, origin: str) -> None:
        super().__init__()
        self.origins: dict[tuple[str, ...], str] = {(): origin}

    def add(self, sections: Mapping[str, Any], origin: str) -> None:
        """Merge sections into this configuration, key by key; they win."""
        self.update(_merge(self, sections, (), origin, self.origins))


def load(paths: Iterable[str | Path], overrides: Overrides, root: Root) -> Config:
    """Read a configuration and check it against the constructors that will take it."""
    config = read(paths, overrides)
    check(config, root)
    return config


def read(paths: Iterable[str | Path], overrides: Overrides = ()) -> Config:
    """Merge YAML files key by key, later ones winning, then dotted flags.

    Args:
        paths: YAML files.
        overrides: Flags; the level `init_args` may be left out of a key, and whatever their order
            a class is set before its arguments.
    """
    files = [str(path) for path in paths]
    config = Config(", ".join(files) or _COMMAND_LINE)
    for path in files:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{path}: cannot be read ({reason})") from error
        sections = _parse(text, path)
        if not isinstance(sections, dict | None):
            found = type(sections).__name__
            raise InputError(f"{path}: must hold a mapping of sections, got a {found}")
        config.add(sections or {}, path)
    flags = [(_levels(key), _parse(text, f"{_COMMAND_LINE}: '{key}'")) for key, text in overrides]
    for levels, value in sorted(flags, key=lambda flag: len(flag[0])):
        nested = functools.reduce(lambda inner, name: {name: inner}, reversed(levels), value)
        config.add(nested, _COMMAND_LINE)
    return config


def dump(config: Mapping[str, Any]) -> str:
    """The configuration as YAML that `read` reads back, without the defaults that it leaves out."""
    return yaml.dump(dict(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _levels(key: str) -> list[str]:
    levels = [name for name in key.split(".") if name != "init_args"]
    return levels[:-1] if levels[-1:] == ["class_path"] else levels


def _merge(
    old: Any, new: Any, path: tuple[str, ...], origin: str, origins: dict[tuple[str, ...], str]
) -> Any:
    """`new` over `old`; arguments given without a class go to the object that is there."""
    if isinstance(old, dict) and isinstance(new, str) and new == old.get("class_path"):
        return old
    if isinstance(old, str) and isinstance(new, dict):
        old = {"class_path": old}
    if not isinstance(new, dict):
        origins[path] = origin
        return new
    is_other = isinstance(old, dict) and new.get("class_path") not in (None, old.get("class_path"))
    if not isinstance(old, dict) or is_other:
        origins[path] = origin
        old = {}
    elif old.keys() & _OBJECT_KEYS and not new.keys() & _OBJECT_KEYS:
        new = {"init_args": new}
    merged = dict(old)
    for name, value in new.items():
        below = path if name == "init_args" else (*path, str(name))
        merged[name] = _merge(old.get(name), value, below, origin, origins)
    return merged


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key cannot be given twice and 1e-3 is a number."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
                problem = f"duplicate key '{key.value}'"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add((key.tag, str(key.value)))
        return node


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads: text that looks like 1e-3 is quoted, nothing is aliased."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _yaml in (_Loader, _Dumper):
    _yaml.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))


def _parse(text: str, origin: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or error
        lines = text.splitlines()
        written = lines[mark.line] if mark and mark.line < len(lines) else ""
        hint = "; a text that begins with [ is put in quotes" if text.startswith("[") else ""
        if re.search(r":\s*[<>]", written):
            hint = "; a text that begins with > or < is put in quotes, as in want: '>= 7'"
        raise InputError(f"{origin}: {line}not valid YAML ({problem}){hint}") from error
    except RecursionError as error:
        raise InputError(f"{origin}: is nested too deeply; expected a configuration") from error
    except (ValueError, TypeError, AttributeError, OverflowError) as error:  # of odd scalars
        raise InputError(f"{origin}: not valid YAML ({error})") from error
