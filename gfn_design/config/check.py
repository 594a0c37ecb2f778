"""Check a configuration against the sections a run has, and list what they take."""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import GenericAlias, UnionType
from typing import Any

from gfn_design.config import renamed, schema
from gfn_design.config.plan import Key, Wanted, article, plan, plan_call, plan_object


@dataclass(frozen=True)
class Object:
    """Marks a section that is itself an object, `{class_path, init_args}`, of some kind."""

    base: str


Spec = str | Object | type | UnionType | GenericAlias  # str: the class whose arguments it holds
Root = Mapping[str, Spec]  # section -> what it is


def check(config: Mapping[str, Any], root: Root) -> None:
    """Raise an `InputError` for the first value that its constructor would not take.

    Args:
        config: What `read` returned, or any nested mapping.
        root: What every section is. Scalar sections may be absent, and those given by a class path
            if all its arguments are optional.
    """
    key = Key((), getattr(config, "origins", {}))
    for name in config:
        if name not in root:
            where = _elsewhere(str(name), root) or schema.hint(str(name), root, "keys")
            raise (key / name).error(f"unknown key '{name}'{where}")
    for name, spec in root.items():
        if name not in config and isinstance(spec, Object):
            raise key.error(f"missing section '{name}', which must be {article(spec.base)}")
        if name in config or isinstance(spec, str):
            plan_section(config.get(name), spec, key / name)


def _elsewhere(name: str, root: Root) -> str:
    """Where a key belongs that stands outside of its section."""
    if name in ("problems", "methods"):
        return ": this is a comparison; run it with gfn-design compare"
    if now := renamed.of_key(f"model.{name}"):
        return f"; did you mean '{now}'?"
    for section, spec in root.items():
        if isinstance(spec, str) and name in schema.signature(spec).parameters:
            return f"; did you mean '{section}.{name}'?"
    return ""


def plan_section(value: Any, spec: Spec, key: Key) -> Any:
    """Check one section and say how to build it."""
    if isinstance(spec, Object):
        return plan_object(value, Wanted(spec.base), key)
    if isinstance(spec, str):
        return plan_call(spec, value, Wanted(), key)
    annotation = ast.parse(_type_text(spec), mode="eval").body
    return plan(value, annotation, Path("root"), key)


def describe(root: Root) -> str:
    """Every section and its keys, one level deep: type, default and meaning."""
    lines = []
    for section, spec in root.items():
        if isinstance(spec, Object):
            lines.append(f"{section}: {' or '.join(schema.known(spec.base)) or spec.base}")
        elif not isinstance(spec, str):
            lines.append(f"{section}: {_type_text(spec)}")
        else:
            taken = schema.signature(spec)
            lines.append(f"{section}: {taken.summary}")
            for it in taken.parameters.values():
                kind = f": {ast.unparse(it.annotation)}" if it.annotation else ""
                default = "" if it.default == schema.REQUIRED else f" = {it.default}"
                doc = re.split(r"(?<=\.) ", it.doc)[0]
                lines.append(f"  {section}.{it.name}{kind}{default}{doc and '  # '}{doc}")
    return "\n".join(lines)


def _type_text(kind: type | UnionType | GenericAlias) -> str:
    return kind.__name__ if type(kind) is type else str(kind)
