"""Instantiate what a configuration describes; here imports happen."""

import functools
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from gfn_design.config import source
from gfn_design.config.check import Spec, plan_section
from gfn_design.config.plan import Call, Key, Wanted, plan_call
from gfn_design.errors import InputError


def build_section(section: Any, spec: Spec, key: str) -> Any:
    """The object or value that a section describes.

    Args:
        section: The section as it stands in a configuration.
        spec: What the section is, as in the root mapping.
        key: The name of the section, for messages.
    """
    return _build(plan_section(section, spec, Key((key,))))


def build_arguments(section: Any, class_path: str, key: str) -> dict[str, Any]:
    """The built arguments of a class, for a caller who may add others before calling it."""
    planned = plan_call(class_path, section, Wanted(later=-1), Key((key,)))
    return {name: _build(value) for name, value in planned.arguments.items()}


def import_class(class_path: str) -> Callable[..., Any]:
    """The class or function at a class path, in any of the forms that `signature` takes."""
    file, colon, name = class_path.rpartition(":")
    if colon:
        return getattr(_import_file(Path(file).resolve()), name)
    module, _, name = class_path.rpartition(".")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a user's own package
    return getattr(importlib.import_module(source.present(module)), name)


def _import_file(file: Path) -> ModuleType:
    """Import a file once, by a name that no package has and that every process agrees on.

    What has imported it by its own name already has the same classes; and what imports it so
    later, where no other module has the name.
    """
    there = sys.modules.get(file.stem)
    if there is not None and Path(getattr(there, "__file__", None) or "").resolve() == file:
        return there
    name = f"{file.stem}_{hashlib.sha256(bytes(file)).hexdigest()[:8]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec
        assert spec.loader
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        folder, here = str(file.parent), os.getcwd()
        sys.path.insert(0, folder)  # its neighbours can be imported, as by `python file.py`
        try:
            spec.loader.exec_module(module)
            own = importlib.util.find_spec(file.stem)  # with its folder in the path
            if own is not None and own.origin == str(file):
                sys.modules.setdefault(file.stem, module)
        except BaseException:
            del sys.modules[name]
            raise
        finally:
            sys.path.remove(folder)
            if folder not in sys.path:  # for what is imported when a function is called
                sys.path.append(folder)
            os.chdir(here)
    return sys.modules[name]


def _build(node: Any) -> Any:
    match node:
        case Call():
            try:
                target = import_class(node.class_path)
            except ImportError as error:
                message = f"{node.key}: '{node.class_path}' cannot be imported ({error})"
                raise InputError(message) from error
            arguments = _build(node.arguments)
            if node.partial:
                return functools.partial(target, **arguments)
            try:
                return target(**arguments)
            except (TypeError, ValueError) as error:
                raise InputError(f"{node.key}: {' '.join(str(error).split())}") from error
            except Exception as error:  # somebody else's class may raise anything
                words = " ".join(str(error).split())[:300]
                raise InputError(
                    f"{node.key}: {node.class_path} cannot be made, {type(error).__name__}: {words}"
                ) from error
        case dict():
            return {name: _build(it) for name, it in node.items()}
        case list() | tuple():
            return type(node)(map(_build, node))
    return node
