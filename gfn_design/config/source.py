"""Find classes and functions in source files: nothing is imported, so nothing is slow.

A module is looked up on disk and parsed; imports, star imports, aliases and lazy export tables
(`_EXPORTS`, public name -> module) are followed from file to file.
"""

import ast
import functools
import importlib.util
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from gfn_design.errors import InputError

PACKAGE = "gfn_design"  # where a name without a dot is looked up
ROOT_CLASSES = {"object", "ABC", "Generic", "Protocol", "Module"}  # take nothing; torch.nn's Module


class Definition(NamedTuple):
    """What a name stands for: a class, a function, or the right-hand side of an assignment."""

    name: str
    file: Path
    node: ast.ClassDef | ast.FunctionDef | ast.expr


class _Import(NamedTuple):
    module: str
    level: int
    names: tuple[str, ...]


_Names = dict[str, ast.ClassDef | ast.FunctionDef | ast.expr | _Import]


def find(class_path: str) -> Definition | None:
    """What `package.module.Name`, an exported `Name` or `path/to/file.py:Name` stands for."""
    base, name = _place(class_path)
    return _member(base, (name,)) if base else None


def siblings(class_path: str) -> list[str]:
    """The classes and functions of the module, or exported by the package, of a class path."""
    base, _ = _place(class_path)
    file = _file(base) if base else None
    names = _names(file) if file else {}
    table = names.get("_EXPORTS")
    if isinstance(table, ast.Dict):
        return [name for name in ast.literal_eval(table) if name[0].isupper()]
    is_package = file is not None and file.stem == "__init__"
    return [
        name
        for name, it in names.items()
        if (isinstance(it, ast.ClassDef | ast.FunctionDef) and name[0] != "_")
        or (isinstance(it, _Import) and is_package and name[0].isupper())
    ]


def resolve(expression: ast.expr, file: Path) -> Definition | None:
    """What a name, `a.b.c` or `a.b.c[...]`, written in `file` stands for, if that can be told."""
    if isinstance(expression, ast.Subscript):
        return resolve(expression.value, file)
    text = ast.unparse(expression).strip("'")  # an annotation may be quoted
    base = file.parent if file.stem == "__init__" else file.with_suffix("")
    return _member(base, tuple(text.split("."))) if re.fullmatch(r"[\w.]+", text) else None


def importable(found: Definition) -> str:
    """A class path for a definition."""
    parts, folder = [found.file.stem, found.name], found.file.parent
    if not (folder / "__init__.py").is_file():
        return f"{found.file}:{found.name}"
    while (folder / "__init__.py").is_file():
        parts, folder = [folder.name, *parts], folder.parent
    return ".".join(part for part in parts if part != "__init__")


def derives(found: Definition | None, base: str) -> bool | None:
    """Whether a class is or inherits from one called `base`; None where that cannot be told."""
    if found is None or not isinstance(found.node, ast.ClassDef):
        return None
    parents = {last_name(parent): parent for parent in found.node.bases}
    if base == found.name or base in parents:
        return True
    answers = [
        name not in ROOT_CLASSES and derives(resolve(parent, found.file), base)
        for name, parent in parents.items()
    ]
    return True if True in answers else None if None in answers else False


def last_name(expression: ast.expr) -> str:
    """`c` of `a.b.c`, `a.b.c[...]` and `a.b.c(...)`."""
    match expression:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(value=inner) | ast.Call(func=inner):
            return last_name(inner)
    return ""


def _place(class_path: str) -> tuple[Path | None, str]:
    """The module of a class path, as a path without its suffix, and the name in it."""
    file, colon, name = class_path.rpartition(":")
    if colon:
        return Path(file.removesuffix(".py")), name
    module, _, name = class_path.rpartition(".")
    return _base(present(module)), name


def present(module: str) -> str:
    """The module, or the package itself for what it exports and had in another module before."""
    if module.startswith(f"{PACKAGE}."):
        base = _base(module)
        return module if base and _file(base) else PACKAGE
    return module or PACKAGE


def _base(module: str) -> Path | None:
    """The path of a module without its suffix; only its top-level package is asked for."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return Path(top, *rest)  # perhaps in the current directory
    folders = [*(spec.submodule_search_locations or ()), (spec.origin or "").removesuffix(".py")]
    return Path(folders[0], *rest)


def _file(base: Path) -> Path | None:
    candidates = (base / "__init__.py", base.with_name(f"{base.name}.py"))
    return next((file for file in candidates if file.is_file()), None)


def _member(
    base: Path, names: tuple[str, ...], seen: frozenset[tuple[Path, str]] = frozenset()
) -> Definition | None:
    """What dotted `names` mean in the module at `base`; `seen` ends circular imports.

    A submodule goes before what the package calls by its name: no need to parse the package.
    """
    name, rest = names[0], names[1:]
    if rest and ((base / name).is_dir() or _file(base / name)):
        return _member(base / name, rest, seen)
    file = _file(base)
    if file is None or (file, name) in seen:
        return None
    seen |= {(file, name)}
    known = _names(file)
    found = known.get(name)
    if isinstance(found, ast.Name | ast.Attribute):  # Name = other_name
        other = _member(base, (*ast.unparse(found).split("."), *rest), seen)
        return other or Definition(name, file, found)
    if found and not isinstance(found, _Import):
        return None if rest else Definition(name, file, found)
    links = [found] if found else [known[star] for star in known if star[0] == "*"]
    for link in links:
        assert isinstance(link, _Import)
        origin = (
            file.absolute().parents[link.level - 1].joinpath(*link.module.split("."))
            if link.level
            else _base(link.module)
        )
        wanted = (*(name if part == "*" else part for part in link.names), *rest)
        if origin and wanted and (definition := _member(origin, wanted, seen)):
            return definition
    return None


def _names(file: Path) -> _Names:
    return _parse(file, file.stat().st_mtime_ns)


@functools.cache
def _parse(file: Path, _modified: int) -> _Names:
    try:
        with warnings.catch_warnings(action="ignore"):  # a stray "\d" in somebody's file
            tree = ast.parse(file.read_bytes())
    except SyntaxError as error:
        message = f"{file}: line {error.lineno}: not valid Python ({error.msg})"
        raise InputError(message) from error
    names = _bind(tree.body)
    table = names.get("_EXPORTS")
    if isinstance(table, ast.Dict):
        lazy = {name: _Import(at, 0, (name,)) for name, at in ast.literal_eval(table).items()}
        return {**lazy, **names}
    return names


def _bind(statements: Iterable[ast.stmt]) -> _Names:
    """What top-level statements define; the first branch of an `if` or `try` wins."""
    names: _Names = {}
    for statement in statements:
        match statement:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                names[name] = statement
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                names[name] = value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                names[name] = value
            case ast.Import(names=aliases):
                for it in aliases:
                    module = it.name if it.asname else it.name.partition(".")[0]
                    names[it.asname or module] = _Import(module, 0, ())
            case ast.ImportFrom(module=module, names=aliases, level=level):
                for it in aliases:
                    name = f"*{module}" if it.name == "*" else it.asname or it.name
                    names[name] = _Import(module or "", level, (it.name,))
            case ast.If():
                names |= _bind(statement.orelse) | _bind(statement.body)
            case ast.Try():
                handlers = [line for handler in statement.handlers for line in handler.body]
                names |= _bind(handlers) | _bind(statement.orelse) | _bind(statement.body)
    return names
