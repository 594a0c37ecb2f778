"""Hold configuration values against the types that constructors declare.

`plan` is the one walk over a configuration. It raises at the first value that does not fit, and
returns the values with every object to build as a `Call`, so that building needs no types.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gfn_design.config import renamed, schema, source
from gfn_design.errors import InputError


@dataclass(frozen=True)
class Call:
    """An object to build; one that is `partial` the program completes later."""

    class_path: str
    arguments: dict[str, Any]
    key: str
    partial: bool


@dataclass(frozen=True)
class Key:
    """The place of a value in a configuration, and which file gave each place."""

    path: tuple[str, ...] = ()
    origins: Mapping[tuple[str, ...], str] = field(default_factory=dict)

    def __truediv__(self, name: object) -> "Key":
        return Key((*self.path, str(name)), self.origins)

    def __str__(self) -> str:
        return ".".join(self.path)

    def error(self, text: str, is_mismatch: bool = False) -> "_KeyError":
        """An error that names the file."""
        above = (self.path[:end] for end in range(len(self.path), -1, -1))
        origin = next((self.origins[path] for path in above if path in self.origins), "")
        return _KeyError(f"{origin}: {text}" if origin else text, self.path, is_mismatch)

    def mismatch(self, expected: str, value: object) -> "_KeyError":
        """An error that says what was expected here and what was found."""
        found = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:60]}…"
        return self.error(f"'{self}' must be {expected}, got {found}", is_mismatch=True)


class _KeyError(InputError):
    def __init__(self, text: str, path: tuple[str, ...], is_mismatch: bool) -> None:
        super().__init__(text)
        self.path, self.is_mismatch = path, is_mismatch


@dataclass(frozen=True)
class Wanted:
    """The kind of object that is wanted at some place.

    Args:
        base: A class to inherit from, if one is asked for.
        default: The object section that is meant where no class is named, if there is one.
        later: How many first arguments the program gives later, -1 for any; None: it is built now.
    """

    base: str = ""
    default: Mapping[str, Any] = field(default_factory=dict)
    later: int | None = None


def plan(
    value: Any, kind: ast.expr | None, file: Path, key: Key, default: str = schema.REQUIRED
) -> Any:
    """Check one value and say how to build it.

    Args:
        value: As YAML gave it.
        kind: The annotation of the parameter it is for.
        file: Where that annotation is written.
        key: The place of the value.
        default: The parameter's default, as source.
    """
    name, items = _split(kind)
    first = items[0] if items else None
    match name:
        case "Any" | "object":
            return _untyped(value, key)
        case "None" | "bool" | "int" | "str" | "float":
            accepted = {"None": ["NoneType"], "float": ["float", "int"]}.get(name, [name])
            if type(value).__name__ in accepted:
                return value
        case "Path":
            if isinstance(value, str | Path):
                return Path(value)
        case "Literal":
            if repr(value) in map(ast.unparse, items):
                return value
        case "Annotated":
            return plan(value, first, file, key, default)
        case "Union":
            return _union(value, items, file, key, default)
        case "tuple" | "Tuple":
            if isinstance(value, list | tuple):
                is_open = first is None or ast.unparse(items[-1]) == "..."
                kinds = [first] * len(value) if is_open else items
                if len(kinds) == len(value):
                    pairs = enumerate(zip(value, kinds, strict=True))
                    return tuple(plan(it, of, file, key / place) for place, (it, of) in pairs)
        case "list" | "List" | "Sequence" | "Iterable" | "Collection" if items or name == "list":
            if isinstance(value, list | tuple):
                return [plan(it, first, file, key / place) for place, it in enumerate(value)]
        case "dict" | "Dict" | "Mapping":
            if isinstance(value, Mapping):
                return _mapping(value, items, file, key)
        case "Callable":
            later = len(first.elts) if isinstance(first, ast.List) else -1
            base = _base(source.resolve(items[-1], file)) if items else ""
            return plan_object(value, Wanted(base, _default_object(default, file), later), key)
        case _:
            found = source.resolve(kind, file) if kind else None
            if found and isinstance(found.node, ast.ClassDef):
                usual = _default_object(default, file)
                if not usual and schema.is_dataclass(found.node):  # plain values need no class_path
                    usual = {"class_path": source.importable(found), "init_args": {}}
                return plan_object(value, Wanted(_base(found), usual), key)
            if found and isinstance(found.node, ast.expr):  # a type alias
                return plan(value, found.node, found.file, key, default)
            return _untyped(value, key)
    raise key.mismatch(_expected(kind, file), value)


def _union(value: Any, items: list[ast.expr], file: Path, key: Key, default: str) -> Any:
    errors = []
    for item in items:
        try:
            return plan(value, item, file, key, default)
        except _KeyError as error:
            if _split(item)[0] != "None":
                errors.append(error)
    is_telling = [
        error.path != key.path or not (error.is_mismatch or isinstance(value, str))
        for error in errors
    ]
    if any(is_telling) or len(errors) == 1:
        raise errors[is_telling.index(True) if any(is_telling) else 0]
    raise key.mismatch(" or ".join(_expected(item, file) for item in items), value)


def _untyped(value: Any, key: Key) -> Any:
    if isinstance(value, Mapping):
        if isinstance(value.get("class_path"), str):
            return plan_object(value, Wanted(), key)
        return {name: _untyped(item, key / name) for name, item in value.items()}
    if isinstance(value, list):
        return [_untyped(item, key / place) for place, item in enumerate(value)]
    return value


def plan_object(value: Any, wanted: Wanted, key: Key) -> Call:
    """Check `{class_path, init_args}`, a class path alone, or arguments of the default class."""
    renamed.check_value(key, value)
    section = {"class_path": value} if isinstance(value, str) else value
    if isinstance(section, Mapping) and "class_path" not in section and wanted.default:
        section = section if "init_args" in section else {"init_args": section}
        given = section["init_args"] or {}
        known = wanted.default["init_args"]
        arguments = {**known, **given} if isinstance(given, Mapping) else given
        section = {**wanted.default, **section, "init_args": arguments}
    if not isinstance(section, Mapping) or not isinstance(section.get("class_path"), str):
        raise key.mismatch(f"{article(wanted.base or 'object')} given by its class_path", value)
    for name in section:
        if name not in ("class_path", "init_args"):
            given = f"unknown key '{key / name}' beside class_path"
            raise (key / name).error(f"{given}; arguments go under init_args")
    return plan_call(section["class_path"], section.get("init_args"), wanted, key)


def plan_call(class_path: str, values: Any, wanted: Wanted, key: Key) -> Call:
    """Check a class and its arguments."""
    try:
        taken = schema.signature(class_path, wanted.base)
    except InputError as error:
        raise key.error(f"'{key}': {error}") from error
    is_function = taken.definition is not None and isinstance(
        taken.definition.node, ast.FunctionDef
    )
    if is_function and wanted.later is None:  # which building would call, whatever it does
        what = article(wanted.base) if wanted.base else "a class"
        raise key.error(f"'{key}' must be {what}, got the function '{class_path}'")
    if wanted.base and source.derives(taken.definition, wanted.base) is False:
        known = ", ".join(schema.known(wanted.base)) or "none"
        text = f"'{key}' must be {article(wanted.base)}, got '{class_path}'. Known classes: {known}"
        raise key.error(text)
    if not isinstance(values, Mapping | None):
        raise key.mismatch(f"a mapping of arguments of {class_path}", values)
    values = values or {}
    ordered = [name for name, it in taken.parameters.items() if it.positional]
    later = ordered[: max(wanted.later or 0, 0)]
    for name in values:
        if name in later:
            raise (key / name).error(f"'{key / name}' is supplied by the program; leave it out")
        if name not in taken.parameters and not taken.open:
            renamed.check_key(key / name)
            choices = [it for it in taken.parameters if it not in later]
            known = schema.hint(str(name), choices, "keys", f"{key}.")
            raise (key / name).error(f"unknown key '{key / name}'{known}")
    missing = [
        f"'{key / name}'"
        for name, it in taken.parameters.items()
        if it.default == schema.REQUIRED and name not in {*values, *later}
    ]
    if missing and wanted.later != -1:
        raise key.error(f"missing {', '.join(missing)}, required by {class_path}")
    arguments = {}
    for name, value in values.items():
        it = taken.parameters.get(name)
        arguments[name] = (
            plan(value, it.annotation, it.file, key / name, it.default)
            if it
            else _untyped(value, key / name)
        )
    return Call(class_path, arguments, str(key), wanted.later is not None)


def _mapping(value: Mapping[Any, Any], items: list[ast.expr], file: Path, key: Key) -> Any:
    first, last = (items[0], items[-1]) if items else (None, None)
    for it in value:
        plan(it, first, file, key / it)
    return {it: plan(of, last, file, key / it) for it, of in value.items()}


def _base(found: source.Definition | None) -> str:
    """The name that a class must inherit from; none for a protocol and what is no class."""
    if found is None or not isinstance(found.node, ast.ClassDef) or found.name == "Any":
        return ""
    return "" if "Protocol" in map(source.last_name, found.node.bases) else found.name


def _default_object(default: str, file: Path) -> dict[str, Any]:
    """A default that is a class, or `partial(Class, key=value)`, as an object section."""
    if default == schema.REQUIRED:
        return {}
    expression: ast.expr = ast.parse(default, mode="eval").body
    keywords: list[ast.keyword] = []
    if isinstance(expression, ast.Call) and source.last_name(expression) == "partial":
        keywords = expression.keywords
        expression = expression.args[0]
    found = source.resolve(expression, file)
    if found is None or isinstance(found.node, ast.FunctionDef):
        return {}
    if isinstance(found.node, ast.expr):  # a constant
        return _default_object(ast.unparse(found.node), found.file)
    try:
        values = {it.arg: ast.literal_eval(it.value) for it in keywords}
    except ValueError:
        return {}
    return {"class_path": source.importable(found), "init_args": values}


def _split(kind: ast.expr | None) -> tuple[str, list[ast.expr]]:
    """An annotation as a name and what stands in its brackets."""
    match kind:
        case None:
            return "Any", []
        case ast.Constant(value=None):
            return "None", []
        case ast.Constant(value=str(text)):
            return _split(ast.parse(text, mode="eval").body)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return "Union", [*(_split(left)[1] if isinstance(left, ast.BinOp) else [left]), right]
        case ast.Subscript(slice=index):
            items = index.elts if isinstance(index, ast.Tuple) else [index]
            name = source.last_name(kind)
            return ("Union", [*items, ast.Constant(None)]) if name == "Optional" else (name, items)
    return source.last_name(kind), []


def _expected(kind: ast.expr | None, file: Path) -> str:
    """An annotation in words."""
    name, items = _split(kind)
    match name:
        case "Union":
            return " or ".join(_expected(item, file) for item in items)
        case "Literal":
            return " or ".join(map(ast.unparse, items))
        case "None":
            return "null"
        case "Callable" if items:
            return _expected(items[-1], file)
    found = source.resolve(kind, file) if kind and not items else None
    if found and isinstance(found.node, ast.Subscript | ast.BinOp):  # a type alias
        return _expected(found.node, found.file)
    return article(ast.unparse(kind) if kind and items else name)


def article(noun: str) -> str:
    """The noun with its article."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"
