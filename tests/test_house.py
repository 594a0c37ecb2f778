"""The house itself: who may know of whom, how large a part is, what is said in one place alone."""

import ast
import inspect
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, FrameType

import pytest
from lightning.pytorch import Trainer
from torch import Tensor

from gfn_design import GFlowNet, Hypergrid, HypergridData, Speed, TrajectoryBalance
from gfn_design.config import import_class, source

ROOT = Path(__file__).parents[1]
DOCS = ROOT.glob("docs/**/*.md")
PROGRAMS = sorted([*ROOT.glob("benchmarks/**/*.py"), *DOCS, ROOT / "README.md"])
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))


PACKAGE = ROOT / "gfn_design"
MODULES = sorted(PACKAGE.rglob("*.py"))
LARGEST, LONGEST = 300, 60  # lines of a module, and of a function


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """The modules of the package that a module imports, at once or later; not for types alone."""
    names, found = {name_of(module) for module in MODULES}, set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gfn_design"):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in names else node.module or "")
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


def circle(graph: dict[str, set[str]]) -> list[str]:
    """What is left when whatever imports nothing that is left is taken away, again and again."""
    left = dict(graph)
    while free := [name for name, others in left.items() if not (others - {name}) & left.keys()]:
        for name in free:
            del left[name]
    return sorted(left)


def folder_of(module: str) -> str:
    first, *rest = module.removeprefix("gfn_design.").split(".")
    return first if rest or (PACKAGE / first).is_dir() else f"{first}.py"


# The package itself names what it exports, and imports it later.
GRAPH = {name_of(path): imported(path) for path in MODULES if path != PACKAGE / "__init__.py"}


def test_no_module_imports_what_imports_it() -> None:
    assert circle(GRAPH) == []


def test_no_folder_imports_what_imports_it() -> None:
    folders: dict[str, set[str]] = {}
    for module, others in GRAPH.items():
        near = {folder_of(other) for other in others if other in GRAPH}
        folders.setdefault(folder_of(module), set()).update(near)
    assert circle(folders) == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_are_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= LARGEST
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < LONGEST, node.name


@pytest.mark.parametrize(
    ("word", "places"),
    [
        ("is_compiling", ("gfn_design/fast/", "gfn_design/policies/products.py")),
        ("_batches_that_stepped", ("gfn_design/fast/lightning_counts.py",)),
        ("epoch_loop", ("gfn_design/fast/lightning_counts.py",)),
        ("torch.compile(", ("gfn_design/fast/compiled.py",)),
        (
            "gfn_design.fast",
            ("gfn_design/fast/", "gfn_design/gflownet.py", "gfn_design/__main__.py"),
        ),
    ],
)
def test_speed_is_known_of_in_one_place(word: str, places: tuple[str, ...]) -> None:
    for path in MODULES:
        name = str(path.relative_to(ROOT))
        assert word not in path.read_text() or name.startswith(places), name


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


# What a newcomer reads of one default training step, in the order of README; the rest is called by
# what it does: it counts, rewards, keeps the randomness, decides, builds.
READ = [
    "gflownet.py",
    "training/learner.py",
    "training/engine.py",
    "sampling/trajectories.py",
    "sampling/log_probabilities.py",
    "objectives/balance.py",
]
CALLED = re.compile(
    r"(designer|ranks|tensors|training/(tally|task|rewarding|log_rows)|objectives/penalty|"
    r"sampling/(noise|seen_objects)|(policies|environments|rewards|data)/\w+)\.py"
)


def test_a_default_step_can_be_read() -> None:
    """Six files, of which fewer than 300 lines are run, of at most seven classes."""
    run: set[CodeType] = set()

    class Watched(GFlowNet):
        def training_step(self, nth: int, batch_idx: int) -> Tensor:
            sys.setprofile(watch if batch_idx == 3 else None)
            try:
                return super().training_step(nth, batch_idx)
            finally:
                sys.setprofile(None)

    def watch(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(PACKAGE)):
            run.add(frame.f_code)

    model = Watched(Hypergrid(2, 8), TrajectoryBalance(), speed=Speed(fast=False))
    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    trainer = Trainer(
        max_steps=5, limit_val_batches=0, accelerator="cpu", **dict.fromkeys(off, False)
    )
    trainer.fit(model, datamodule=HypergridData())
    lines, classes = Counter[str](), set[str]()
    for code in run:
        if not code.co_name.startswith("<"):
            path = Path(code.co_filename).relative_to(PACKAGE).as_posix()
            lines[path] += len(inspect.getsourcelines(code)[0])
            if path in READ and "." in code.co_qualname:
                classes.add(code.co_qualname.split(".")[0])
    others = {path for path in lines if not CALLED.fullmatch(path)}
    assert others == set(READ)
    assert sum(lines[path] for path in READ) < 300
    assert len(classes) <= 7, classes  # that do something; what they hand on is plain tuples
    said = re.search(r"To read it: (.*?) each a page", (ROOT / "README.md").read_text(), re.DOTALL)
    assert said is not None
    places = [said[1].find(Path(path).stem) for path in READ]
    assert places[0] > -1
    assert places == sorted(places)


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))], ids=str)
def test_no_page_waits_for_numbers(path: Path) -> None:
    """No line is a word in capitals alone, as one leaves it where a table should come."""
    assert not re.search(r"^[A-Z]{4,}$", path.read_text(), re.MULTILINE)
