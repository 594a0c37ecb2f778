"""What constructors take, as their source says: typed constructors are the schema of a run."""

import ast
import difflib
import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gfn_design.config import source
from gfn_design.config.source import Definition, last_name, resolve
from gfn_design.errors import InputError

REQUIRED = "<required>"  # not a Python expression, so no default reads like it


@dataclass(frozen=True)
class Parameter:
    """One argument of a constructor, as it is written in `file`."""

    name: str
    annotation: ast.expr | None
    default: str  # source text or REQUIRED
    doc: str
    file: Path
    positional: bool = True


@dataclass(frozen=True)
class Signature:
    """What a class or function takes; `open` if it may take more than the listed parameters."""

    class_path: str
    file: Path
    summary: str
    parameters: dict[str, Parameter]
    open: bool
    definition: Definition


def signature(class_path: str, base: str = "") -> Signature:
    """What a class takes, or a function.

    Args:
        class_path: `package.module.Class`, `path/to/file.py:Class` or a name in gfn_design.
        base: The kind of class that is wanted, to suggest the right ones.
    """
    file, colon, _ = class_path.rpartition(":")
    if colon and not (file.endswith(".py") and Path(file).is_file()):
        raise InputError(f"no Python file '{file}' for class '{class_path}'")
    found = source.find(class_path)
    if found is None:
        name = re.split("[.:]", class_path)[-1]
        prefix = class_path.removesuffix(name)
        choices = (not prefix and known(base)) or source.siblings(class_path)
        raise InputError(f"unknown class '{class_path}'{hint(name, choices, 'classes', prefix)}")
    parameters, is_open = _constructor(found) or ({}, False)
    summary = _docstring(found.node).partition("\n")[0]
    return Signature(class_path, found.file, summary, parameters, is_open, found)


def known(base: str) -> list[str]:
    """The classes that gfn_design exports and that inherit from one called `base`."""
    names = [name for name in source.siblings(base) if name != base]
    return [name for name in names if source.derives(source.find(name), base)]


def hint(name: str, choices: Iterable[str], noun: str, prefix: str = "") -> str:
    """The end of a sentence about an unknown name: which was meant, which there are."""
    choices = list(choices)
    near = difflib.get_close_matches(name, choices, n=1)
    listed = f" Known {noun}: {', '.join(choices) or 'none'}"
    if not near:
        return f".{listed}"
    return f"; did you mean '{prefix}{near[0]}'?{listed if len(choices) <= 20 else ''}"


def _constructor(found: Definition) -> tuple[dict[str, Parameter], bool] | None:
    """The parameters and whether there may be more; None if a class defines no constructor."""
    node, file = found.node, found.file
    if isinstance(node, ast.FunctionDef):
        return _arguments(node, file, _argument_docs(node)), node.args.kwarg is not None
    if not isinstance(node, ast.ClassDef):
        return {}, True  # made at run time
    docs = _argument_docs(node)
    if is_dataclass(node):
        return _fields(node, file, docs), False
    for line in reversed(node.body):
        if isinstance(line, ast.FunctionDef) and line.name == "__init__":
            _, *parameters = _arguments(line, file, docs | _argument_docs(line)).items()
            return dict(parameters), line.args.kwarg is not None
    for parent in node.bases:
        if last_name(parent) not in source.ROOT_CLASSES:
            base = resolve(parent, file)
            inherited = _constructor(base) if base else ({}, True)
            if inherited:
                return inherited
    return None


def _arguments(node: ast.FunctionDef, file: Path, docs: dict[str, str]) -> dict[str, Parameter]:
    given = node.args
    positional = [*given.posonlyargs, *given.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(given.defaults))
    defaults += [*given.defaults, *given.kw_defaults]
    parameters = {}
    for it, default in zip([*positional, *given.kwonlyargs], defaults, strict=True):
        text = ast.unparse(default) if default else REQUIRED
        doc, is_positional = docs.get(it.arg, ""), it in positional
        parameters[it.arg] = Parameter(it.arg, it.annotation, text, doc, file, is_positional)
    return parameters


def _fields(node: ast.ClassDef, file: Path, docs: dict[str, str]) -> dict[str, Parameter]:
    """The fields of a dataclass, inherited ones first."""
    fields: dict[str, Parameter] = {}
    for parent in reversed(node.bases):
        base = resolve(parent, file)
        if base and isinstance(base.node, ast.ClassDef) and is_dataclass(base.node):
            fields |= _fields(base.node, base.file, _argument_docs(base.node))
    for line in node.body:
        match line:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=kind, value=value):
                text = ast.unparse(value) if value else REQUIRED
                if last_name(kind) in ("ClassVar", "KW_ONLY") or "init=False" in text:
                    continue
                if value and last_name(value) == "field" and "default" not in text:
                    text = REQUIRED
                fields[name] = Parameter(name, kind, text, docs.get(name, ""), file)
    return fields


def is_dataclass(node: ast.ClassDef) -> bool:
    """Whether a class is decorated as one."""
    return "dataclass" in map(last_name, node.decorator_list)


def _docstring(node: ast.AST) -> str:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return ast.get_docstring(node) or ""
    return ""


def _argument_docs(node: ast.AST) -> dict[str, str]:
    """The entries of a Google-style `Args:` section, each on one line."""
    section = re.search(r"^Args:\n((?:[ \t].*\n|\n)*)", _docstring(node) + "\n", re.MULTILINE)
    body = textwrap.dedent(section[1]) if section else ""
    _, *parts = re.split(r"^\**(\w+)(?: \(.*?\))?:", body, flags=re.MULTILINE)
    return {
        name: " ".join(text.split()) for name, text in zip(parts[::2], parts[1::2], strict=True)
    }
