"""The house itself: whatever imports the package finds what it asks for."""

import ast
import json
import re
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from gfn_design.config import import_class, source

ROOT = Path(__file__).parents[1]
DOCS = ROOT.glob("docs/**/*.md")
PROGRAMS = sorted([*ROOT.glob("benchmarks/**/*.py"), *DOCS, ROOT / "README.md"])
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))


def code_of(path: Path) -> Iterator[str]:
    """The Python in a file."""
    if path.suffix == ".py":
        yield path.read_text()
    elif path.suffix == ".ipynb":
        cells = json.loads(path.read_text())["cells"]
        for cell in cells:
            if cell["cell_type"] == "code":
                lines = "".join(cell["source"]).splitlines()
                yield "\n".join(line for line in lines if not line.lstrip().startswith(("!", "%")))
    else:
        yield from re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)


@pytest.mark.parametrize("path", [*PROGRAMS, *NOTEBOOKS], ids=lambda x: str(x.relative_to(ROOT)))
def test_what_is_imported_from_the_package_is_there(path: Path) -> None:
    for code in code_of(path):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gfn_design"):
                module = import_module(node.module)
                for alias in node.names:
                    name = f"{node.module}.{alias.name}"
                    is_module = hasattr(module, "__path__") and find_spec(name) is not None
                    assert is_module or hasattr(module, alias.name), name


def test_a_public_name_is_found_by_a_module_that_it_was_in_before() -> None:
    assert import_class("gfn_design.environments.fragments.Fragments").__name__ == "Fragments"
    found = source.find("gfn_design.environments.fragments.Fragments")
    assert found is not None
    assert source.find("gfn_design.environments.fragments.Nothing") is None
