"""Configurations are composed and checked from source, then built."""

import functools
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gfn_design import config as cfg
from gfn_design.config import Object, source
from gfn_design.errors import InputError

USER_FILE = '''
"""A user's own file."""

from __future__ import annotations

import functools
from abc import ABC
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Optional, Protocol, Union

import tiny
from missing_library import Missing

if TYPE_CHECKING:
    from tiny.worlds import World as Place
else:
    Place = object

Text = str
Number = Union[int, float]
Alias = Number


class World(ABC):
    """Where things are built."""


class Grid(World):
    """A grid.

    It has cells.

    Args:
        side: Cells in a
            row. All rows are alike.
        order (str): The order.

    Attributes:
        cells: None.
    """

    def __init__(
        self, side: int, order: Literal["append", "any"] = "append", *, deep: bool = False
    ) -> None:
        if side < 1:
            raise ValueError(f"side must be at least 1, got {side}")
        if deep and order == "any":
            raise TypeError("deep and any exclude each other")
        self.side, self.order = side, order


class SmallGrid(Grid):
    """A small grid."""


class Torus(SmallGrid):
    def __init__(self, twist: float = 0.0) -> None:
        super().__init__(2)
        self.twist = twist


class Shape(Protocol):
    def __call__(self, x: float) -> float: ...


class Clip:
    def __init__(self, at: float = 1.0) -> None:
        self.at = at


class Net:
    def __init__(self, world: World, outputs: int, width: int = 8, depth: int = 4) -> None:
        self.args = (world, outputs, width, depth)


class Strange(Missing):
    """Its constructor cannot be known."""


class Free:
    def __init__(self, name: str = "", **options: Any) -> None:
        self.name, self.options = name, options


@dataclass
class Base:
    """Fields.

    Args:
        rate: Per second.
    """

    count: ClassVar[int] = 0
    rate: float
    hidden: int = field(init=False, default=3)


@dataclass(order=True)
class Settings(Base):
    widths: list[int] = field(default_factory=list)
    names: tuple[str, ...] = field(kw_only=True)


SHALLOW = functools.partial(Net, depth=1)


class Model:
    """A model of everything."""

    def __init__(
        self,
        world: World,
        batch_size: int = 4,
        lr: float = 1e-3,
        fast: bool = False,
        name: str | None = None,
        net: Callable[[World, int], Net] = SHALLOW,
        critic: Callable[[World, int], Net] = partial(Net, width=3),
        plain: Optional[Callable[..., Net]] = None,
        path: Path | None = None,
        pair: tuple[int, float] = (1, 2.0),
        sizes: tuple[int, ...] = (),
        rows: Sequence[int] = (),
        table: dict[str, float] = {},
        shape: Shape = None,
        amount: Alias | None = 1,
        anything: Any = None,
        unknown: Missing = None,
        worlds: list[World] | World | None = None,
        untyped=None,
        spare: World = Grid,
        place: Place = None,
        far: tiny.worlds.World = None,
        inner: Grid.Inner = None,
        text: Text = "",
        made: Callable[[Any], Any] = partial(Net, depth=max(1, 2)),
        mixed: "Union[float, World]" = 1.0,
    ) -> None:
        self.__dict__.update({k: v for k, v in locals().items() if k != "self"})


def score(texts: list[str], weight: float = 1.0) -> list[float]:
    """The score of texts."""
    return [weight * len(text) for text in texts]


class Data:
    """Data.

    Args:
        score: Of texts.
    """

    def __init__(self, score: Callable[[list[str]], list[float]]) -> None:
        self.score = score
'''

PACKAGE_INIT = """
from importlib import import_module
from typing import Any, TYPE_CHECKING

_EXPORTS = {
    "World": "tiny.worlds",
    "Cube": "tiny.worlds",
    "Line": "tiny.worlds",
    "Model": "tiny.model",
    "help_me": "tiny.model",
}

if TYPE_CHECKING:
    from tiny.worlds import World


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(name)
    return getattr(import_module(_EXPORTS[name]), name)
"""

PACKAGE_FILES = {
    "__init__.py": PACKAGE_INIT,
    "worlds.py": (
        "class World: pass\n"
        "class Cube(World):\n"
        "    def __init__(self, side: int = 2): self.side = side\n"
        "class Line(Cube): pass\n"
        "class _Hidden(World): pass\n"
    ),
    "model.py": (
        "from . import worlds\n"
        "from .sub import World as Place\n"
        "class Model:\n"
        "    def __init__(self, world: worlds.World, other: Place = None): self.world = world\n"
        "def help_me(): pass\n"
    ),
    "sub/__init__.py": (
        "from tiny import sub\n"
        "from ..worlds import *\n"
        "try:\n    from ..worlds import World\nexcept ImportError:\n    World = None\n"
        "from tiny.sub import loop\n"
    ),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a user's file, and a package instead of gfn_design."""
    for name, text in PACKAGE_FILES.items():
        file = tmp_path / "site" / "tiny" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "mine.py").write_text(USER_FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(source, "PACKAGE", "tiny")
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tiny", "local")]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


ROOT: cfg.Root = {
    "model": "mine.py:Model",
    "world": Object("World"),
    "trainer": "lightning.pytorch.Trainer",
    "seed": int,
}
GRID = {"class_path": "mine.py:Grid", "init_args": {"side": 2}}


def load(*texts: str, flags: dict[str, str] | None = None, root: cfg.Root = ROOT) -> cfg.Config:
    """Load YAML texts, written to 1.yaml, 2.yaml, ..."""
    paths = [Path(f"{number}.yaml") for number, _ in enumerate(texts, 1)]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return cfg.load(paths, list((flags or {}).items()), root)


def model(**arguments: object) -> None:
    """Check arguments of Model."""
    cfg.check({"model": {"world": GRID, **arguments}}, {"model": ROOT["model"]})


def fails(message: str) -> "pytest.RaisesExc[InputError]":
    """Expect exactly this message."""
    return pytest.raises(InputError, match=f"^{re.escape(message)}$")


class TestSignature:
    def test_user_class(self) -> None:
        taken = cfg.signature("mine.py:Grid")
        assert taken.summary == "A grid."
        assert not taken.open
        assert list(taken.parameters) == ["side", "order", "deep"]
        side, order, deep = taken.parameters.values()
        assert (side.default, side.doc) == (cfg.REQUIRED, "Cells in a row. All rows are alike.")
        assert (order.default, order.doc) == ("'append'", "The order.")
        assert side.positional
        assert not deep.positional

    def test_inherited_constructor(self) -> None:
        assert list(cfg.signature("mine.py:SmallGrid").parameters) == ["side", "order", "deep"]
        assert list(cfg.signature("mine.py:Torus").parameters) == ["twist"]

    def test_class_without_constructor(self) -> None:
        assert cfg.signature("mine.py:World").parameters == {}
        assert not cfg.signature("mine.py:World").open

    def test_dataclass(self) -> None:
        parameters = cfg.signature("mine.py:Settings").parameters
        assert list(parameters) == ["rate", "widths", "names"]
        assert parameters["rate"].doc == "Per second."
        required = [name for name, it in parameters.items() if it.default == cfg.REQUIRED]
        assert required == ["rate", "names"]

    def test_function(self) -> None:
        taken = cfg.signature("mine.py:score")
        assert (taken.summary, list(taken.parameters)) == (
            "The score of texts.",
            ["texts", "weight"],
        )

    def test_open(self) -> None:
        assert cfg.signature("mine.py:Free").open
        assert cfg.signature("mine.py:Strange").open

    def test_exports(self) -> None:
        assert list(cfg.signature("Cube").parameters) == ["side"]
        assert cfg.signature("tiny.Cube").parameters == cfg.signature("Line").parameters
        assert cfg.known("World") == ["Cube", "Line"]

    def test_star_relative_and_circular_imports(self) -> None:
        assert list(cfg.signature("tiny.sub.Cube").parameters) == ["side"]
        with pytest.raises(InputError, match="unknown class"):
            cfg.signature("tiny.sub.loop")

    def test_package_in_the_current_directory(self, folder: Path) -> None:
        (folder / "local").mkdir()
        (folder / "local" / "part.py").write_text(
            "class Thing:\n    def __init__(self, a=1): ...\n"
        )
        assert list(cfg.signature("local.part.Thing").parameters) == ["a"]

    def test_edited_file(self, folder: Path) -> None:
        file = folder / "edited.py"
        file.write_text("def f(a): ...\n")
        assert list(cfg.signature("edited.py:f").parameters) == ["a"]
        file.write_text("def f(a, b): ...\n# longer\n")
        assert list(cfg.signature("edited.py:f").parameters) == ["a", "b"]

    @pytest.mark.parametrize(
        ("class_path", "names"),
        [
            ("torch.optim.Adam", ["params", "lr", "betas"]),
            ("torch.optim.lr_scheduler.StepLR", ["optimizer", "step_size", "gamma"]),
            ("torch.nn.Linear", ["in_features", "out_features", "bias"]),
            ("lightning.pytorch.Trainer", ["accelerator", "strategy", "devices"]),
            ("lightning.pytorch.callbacks.EarlyStopping", ["monitor", "min_delta", "patience"]),
        ],
    )
    def test_installed(self, class_path: str, names: list[str]) -> None:
        assert list(cfg.signature(class_path).parameters)[:3] == names

    def test_installed_docs(self) -> None:
        doc = cfg.signature("lightning.pytorch.Trainer").parameters["max_steps"].doc
        assert doc.startswith("Stop training after this number of steps.")

    @pytest.mark.parametrize(
        ("class_path", "message"),
        [
            ("Cubee", "unknown class 'Cubee'; did you mean 'Cube'?"),
            ("mine.py:Gird", "unknown class 'mine.py:Gird'; did you mean 'mine.py:Grid'?"),
            ("torch.optim.Adamm", "unknown class 'torch.optim.Adamm'; did you mean "),
            ("no_such_package.Thing", "unknown class 'no_such_package.Thing'. Known classes: none"),
            ("gone.py:Grid", "no Python file 'gone.py' for class 'gone.py:Grid'"),
            ("mine.txt:Grid", "no Python file 'mine.txt' for class 'mine.txt:Grid'"),
            ("", "unknown class ''. Known classes: World, Cube, Line, Model"),
            ("..x", "unknown class '..x'"),
        ],
    )
    def test_unknown(self, class_path: str, message: str) -> None:
        with pytest.raises(InputError, match=re.escape(message)):
            cfg.signature(class_path)

    def test_broken_file(self, folder: Path) -> None:
        (folder / "broken.py").write_text("x = 1\ndef f(:\n")
        with pytest.raises(InputError, match=r"broken\.py: line 2: not valid Python \("):
            cfg.signature("broken.py:f")


class TestRead:
    def test_later_files_win_key_by_key(self) -> None:
        config = load(
            "seed: 1\nmodel: {lr: 1, batch_size: 2, rows: [1, 2]}",
            "model: {lr: 3, rows: [4]}",
            flags={"model.world": "Cube", "world": "Cube"},
            root={"model": "tiny.Model", "world": Object("World"), "seed": int}
            | {"model": "mine.py:Free"},
        )
        assert config["model"] == {"lr": 3, "batch_size": 2, "rows": [4], "world": "Cube"}
        assert config["seed"] == 1

    def test_another_class_replaces_the_object(self) -> None:
        one, two = cfg.read([], [("a", "{class_path: A, init_args: {x: 1}}")]), "a.class_path"
        assert one["a"] == {"class_path": "A", "init_args": {"x": 1}}
        Path("1.yaml").write_text(cfg.dump(one))
        read = functools.partial(cfg.read, ["1.yaml"])
        assert read([(two, "B")])["a"] == "B"
        assert read([("a", "B")])["a"] == "B"
        assert read([("a", "{class_path: B, init_args: {y: 1}}")])["a"]["init_args"] == {"y": 1}
        same = {"class_path": "A", "init_args": {"x": 1, "y": 2}}
        assert read([(two, "A"), ("a.y", "2")])["a"] == same
        assert read([("a", "A"), ("a.init_args.y", "2")])["a"] == same
        assert read([("a", "{class_path: A, init_args: {y: 2}}")])["a"] == same

    def test_flags_reach_arguments(self) -> None:
        Path("1.yaml").write_text("a: Name\nb: {init_args: {x: 1}}\nc: {x: 1}")
        config = cfg.read(["1.yaml"], [("a.deep.x", "1"), ("b.x", "2"), ("c.x", "3")])
        assert config["a"] == {"class_path": "Name", "init_args": {"deep": {"x": 1}}}
        assert config["b"] == {"init_args": {"x": 2}}
        assert config["c"] == {"x": 3}

    def test_a_class_comes_before_its_arguments(self) -> None:
        config = cfg.read([], [("m.world.side", "3"), ("m.world.class_path", "Cube")])
        assert config == {"m": {"world": {"class_path": "Cube", "init_args": {"side": 3}}}}

    def test_the_last_flag_wins(self) -> None:
        assert cfg.read([], [("a", "1"), ("a", "2")]) == {"a": 2}

    def test_numbers(self) -> None:
        values = cfg.read([], [("a", "[1e-3, -1E+5, 1.5e3, .5e1, 1, 1.0, .inf, '1e-3', 1e, e1]")])
        assert values["a"] == [1e-3, -1e5, 1.5e3, 5.0, 1, 1.0, math.inf, "1e-3", "1e", "e1"]
        assert [type(value) for value in values["a"][:6]] == [float] * 4 + [int, float]

    def test_merge_keys_are_no_duplicates(self) -> None:
        config = cfg.read([], [("a", "{base: &b {x: 1, y: 2}, more: {<<: *b, x: 3}}")])
        assert config["a"]["more"] == {"x": 3, "y": 2}

    def test_empty(self) -> None:
        Path("1.yaml").write_text("# nothing\n")
        assert cfg.read(["1.yaml"]) == {}
        assert load("trainer:", root={"trainer": "lightning.pytorch.Trainer"}) == {"trainer": None}

    def test_dump_round_trip(self) -> None:
        shared = [1, 2]
        config = {"b": {"x": 1e-5, "y": "1e-5", "z": "β"}, "a": [shared, shared], "n": None}
        text = cfg.dump(config)
        assert text.index("b:") < text.index("a:")
        assert "&" not in text
        Path("1.yaml").write_text(text, encoding="utf-8")
        assert cfg.read(["1.yaml"]) == config

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a: 1\nb: [1,\n", "1.yaml: line 3: not valid YAML (expected the node content"),
            ("a: 1\nb: 2\na: 3\n", "1.yaml: line 3: not valid YAML (duplicate key 'a')"),
            ("a: {b: 1,\n b: 2}", "1.yaml: line 2: not valid YAML (duplicate key 'b')"),
            ("a: !!python/name:os.system", "1.yaml: line 1: not valid YAML (could not determine"),
            ("- a", "1.yaml: must hold a mapping of sections, got a list"),
            ("a: \x01", "1.yaml: not valid YAML (unacceptable character"),
        ],
    )
    def test_bad_yaml(self, text: str, message: str) -> None:
        with pytest.raises(InputError, match=re.escape(message)):
            load(text)

    def test_bad_files(self, folder: Path) -> None:
        with fails("no/run.yaml: cannot be read (No such file or directory)"):
            cfg.read(["no/run.yaml"])
        (folder / "latin.yaml").write_bytes(b"a: \xe9")
        with pytest.raises(InputError, match=r"^latin.yaml: cannot be read \('utf-8' codec"):
            cfg.read([Path("latin.yaml")])

    def test_bad_flag(self) -> None:
        with pytest.raises(
            InputError, match=r"^command line: 'a\.b': line 1: not valid YAML.*quotes"
        ):
            cfg.read([], [("a.b", "[1")])


class TestCheck:
    def test_messages_name_file_and_key(self) -> None:
        text = "model: {world: {class_path: mine.py:Grid, init_args: {side: 2}}}\nworld: Cube"
        load(text)
        with fails("2.yaml: unknown key 'trainer.max_step'; did you mean 'trainer.max_steps'?"):
            load(text, "trainer: {max_step: 3}")
        with fails("2.yaml: 'trainer.max_steps' must be an int, got 'many'"):
            load(text, "trainer: {max_steps: many}")
        with fails("command line: 'model.world.side' must be an int, got True"):
            load(text, flags={"model.world.side": "true"})
        with fails("1.yaml: unknown key 'world.size'; did you mean 'world.side'? Known keys: side"):
            load(text.replace("Cube", "{class_path: Cube, init_args: {size: 2}}"))
        with fails("1.yaml: missing 'model.world.side', required by mine.py:Grid"):
            load(text.replace("side: 2", ""), flags={"model.lr": "1"})
        with fails(
            "1.yaml: unknown key 'wrold'; did you mean 'world'? Known keys: "
            "model, world, trainer, seed"
        ):
            load(text.replace("\nworld", "\nwrold"))
        with fails("1.yaml: missing section 'world', which must be a World"):
            load(text.replace("\nworld: Cube", ""))
        with fails("1.yaml, 2.yaml: missing 'model.world', required by mine.py:Model"):
            load("world: Cube", "seed: 1")
        with fails("2.yaml: 'seed' must be an int, got 1.5"):
            load(text, "seed: 1.5")

    def test_sections_that_are_no_mappings(self) -> None:
        with fails("1.yaml: 'model' must be a mapping of arguments of mine.py:Model, got 3"):
            load("model: 3\nworld: Cube")
        with fails("1.yaml: 'world' must be a World given by its class_path, got 3"):
            load("model: {world: Cube}\nworld: 3", root=ROOT | {"model": "tiny.Model"})

    @pytest.mark.parametrize(
        "arguments",
        [
            {"lr": 1},
            {"lr": 0.5},
            {"fast": True},
            {"name": None},
            {"name": "x"},
            {"path": "a/b"},
            {"pair": [1, 2]},
            {"sizes": []},
            {"sizes": [1, 2, 3]},
            {"rows": [1]},
            {"table": {"a": 1.0}},
            {"amount": 2.5},
            {"amount": None},
            {"anything": {"a": [1, {"b": None}]}},
            {"unknown": 3},
            {"untyped": "x"},
            {"worlds": [GRID, "mine.py:Torus", "Cube"]},
            {"worlds": "Cube"},
            {"mixed": 2},
            {"inner": 2},
            {"mixed": GRID},
            {"net": "mine.py:Net"},
            {"net": {"class_path": "mine.py:Net", "init_args": {"width": 2}}},
            {"net": {"width": 2}},
            {"net": {"init_args": {"width": 2}}},
            {"critic": {"depth": 2}},
            {"spare": {"side": 2}},
            {"plain": {"class_path": "mine.py:Net", "init_args": {"outputs": 2}}},
            {"shape": {"class_path": "mine.py:Clip", "init_args": {"at": 2}}},
            {"world": {"class_path": "mine.py:Strange", "init_args": {"perhaps": 1}}},
            {"untyped": {"class_path": "mine.py:Free", "init_args": {"whatever": 1}}},
        ],
    )
    def test_accepted(self, arguments: dict[str, object]) -> None:
        model(**arguments)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"batch_size": 1.0}, "'model.batch_size' must be an int, got 1.0"),
            ({"batch_size": True}, "'model.batch_size' must be an int, got True"),
            ({"batch_size": None}, "'model.batch_size' must be an int, got None"),
            ({"lr": "1"}, "'model.lr' must be a float, got '1'"),
            ({"lr": False}, "'model.lr' must be a float, got False"),
            ({"fast": 1}, "'model.fast' must be a bool, got 1"),
            ({"name": 3}, "'model.name' must be a str, got 3"),
            ({"text": 3}, "'model.text' must be a str, got 3"),
            ({"place": 3}, "'model.place' must be a World given by its class_path, got 3"),
            ({"far": 3}, "'model.far' must be a World given by its class_path, got 3"),
            (
                {"worlds": [3]},
                "'model.worlds.0' must be a World given by its class_path, got 3",
            ),
            ({"path": 3}, "'model.path' must be a Path, got 3"),
            ({"pair": [1]}, "'model.pair' must be a tuple[int, float], got [1]"),
            ({"pair": [1, "x"]}, "'model.pair.1' must be a float, got 'x'"),
            ({"sizes": 1}, "'model.sizes' must be a tuple[int, ...], got 1"),
            ({"sizes": [1, "x"]}, "'model.sizes.1' must be an int, got 'x'"),
            ({"rows": "abc"}, "'model.rows' must be a Sequence[int], got 'abc'"),
            ({"table": [1]}, "'model.table' must be a dict[str, float], got [1]"),
            ({"table": {"a": "x"}}, "'model.table.a' must be a float, got 'x'"),
            ({"table": {1: 1.0}}, "'model.table.1' must be a str, got 1"),
            ({"amount": "x"}, "'model.amount' must be an int or a float, got 'x'"),
            ({"mixed": "x"}, "'model.mixed' must be a float or a World, got 'x'"),
            (
                {"mixed": {"class_path": "x"}},
                "'model.mixed': unknown class 'x'. Known classes: Cube, Line",
            ),
            (
                {"mixed": ["x" * 80]},
                f"'model.mixed' must be a float or a World, got ['{'x' * 58}…",
            ),
            ({"world": 3}, "'model.world' must be a World given by its class_path, got 3"),
            (
                {"world": {"side": 3}},
                "'model.world' must be a World given by its class_path, got {'side': 3}",
            ),
            (
                {"world": {"class_path": "Cube", "side": 3}},
                "unknown key 'model.world.side' beside class_path; arguments go under init_args",
            ),
            (
                {"world": {"class_path": "Cube", "init_args": [3]}},
                "'model.world' must be a mapping of arguments of Cube, got [3]",
            ),
            (
                {"world": "Cub"},
                "'model.world': unknown class 'Cub'; did you mean 'Cube'? "
                "Known classes: Cube, Line",
            ),
            (
                {"world": "mine.py:Net"},
                "'model.world' must be a World, got 'mine.py:Net'. Known classes: Cube, Line",
            ),
            (
                {"world": {"class_path": "mine.py:Grid", "init_args": {"side": 1, "order": "an"}}},
                "'model.world.order' must be 'append' or 'any', got 'an'",
            ),
            (
                {"worlds": ["Cub"]},
                "'model.worlds.0': unknown class 'Cub'; did you mean 'Cube'? "
                "Known classes: Cube, Line",
            ),
            (
                {"net": {"world": GRID}},
                "'model.net.world' is supplied by the program; leave it out",
            ),
            (
                {"net": {"with": 3}},
                "unknown key 'model.net.with'; did you mean 'model.net.width'? "
                "Known keys: width, depth",
            ),
            (
                {"made": {"depth": 1}},
                "'model.made' must be an object given by its class_path, got {'depth': 1}",
            ),
            ({"net": None}, "'model.net' must be a Net given by its class_path, got None"),
            (
                {"net": "mine.py:Grid"},
                "'model.net' must be a Net, got 'mine.py:Grid'. Known classes: none",
            ),
            (
                {"untyped": {"class_path": "mine.py:Gird"}},
                "'model.untyped': unknown class 'mine.py:Gird'; did you mean 'mine.py:Grid'? "
                "Known classes: World, Grid, SmallGrid, Torus, Shape, Clip, Net, Strange, Free, "
                "Base, Settings, Model, score, Data",
            ),
            ({3: 1}, "unknown key 'model.3'. Known keys: "),
        ],
    )
    def test_refused(self, arguments: dict[str, object], message: str) -> None:
        with pytest.raises(InputError, match=f"^{re.escape(message)}") as caught:
            cfg.check({"model": {"world": GRID, **arguments}}, {"model": ROOT["model"]})
        assert str(caught.value) == message or message.endswith("keys: ")

    def test_names_through_package_imports(self) -> None:
        root: cfg.Root = {"model": "Model"}
        cfg.check({"model": {"world": "Cube", "other": "Line"}}, root)
        with fails(
            "'model.other': unknown class 'Lin'; did you mean 'Line'? Known classes: Cube, Line"
        ):
            cfg.check({"model": {"world": "Cube", "other": "Lin"}}, root)

    def test_trainer(self) -> None:
        root: cfg.Root = {"trainer": "lightning.pytorch.Trainer"}
        stop = "lightning.pytorch.callbacks.EarlyStopping"
        good = {"class_path": stop, "init_args": {"monitor": "loss"}}
        for accepted in (
            {"precision": "16-mixed", "devices": "auto", "max_time": {"hours": 1}},
            {"callbacks": [good], "logger": False, "limit_val_batches": 0.5},
            {"callbacks": good, "default_root_dir": "runs", "deterministic": "warn"},
        ):
            cfg.check({"trainer": accepted}, root)
        with pytest.raises(
            InputError, match=r"^'trainer.precision' must be 64 or 32 or 16 or 'tra"
        ):
            cfg.check({"trainer": {"precision": 17}}, root)
        with fails(f"missing 'trainer.callbacks.0.monitor', required by {stop}"):
            cfg.check({"trainer": {"callbacks": [stop]}}, root)
        with pytest.raises(InputError, match=r"'trainer.callbacks.0' must be a Callback, got 'tor"):
            cfg.check({"trainer": {"callbacks": ["torch.optim.Adam"]}}, root)

    def test_scalar_sections(self) -> None:
        root: cfg.Root = {"a": float, "b": int | None, "c": list[int], "d": str | Path}
        cfg.check({"a": 1, "b": None, "c": [1], "d": "x"}, root)
        cfg.check({}, root)
        with fails("'c.0' must be an int, got 'x'"):
            cfg.check({"c": ["x"]}, root)

    def test_imports_nothing_heavy(self) -> None:
        Path("1.yaml").write_text(f"model: {{world: {GRID}}}\ntrainer: {{max_step: 3}}")
        code = (
            "import sys\n"
            "from gfn_design import config\n"
            "root = {'model': 'mine.py:Model', 'trainer': 'lightning.pytorch.Trainer'}\n"
            "config.signature('torch.optim.Adam')\n"
            "config.describe(root)\n"
            "try: config.load(['1.yaml'], [], root)\n"
            "except config.compose.InputError as error: print(error)\n"
            "heavy = {'torch', 'lightning', 'numpy', 'mine'} & set(sys.modules)\n"
            "assert not heavy, heavy\n"
        )
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "did you mean 'trainer.max_steps'" in done.stdout


def test_describe() -> None:
    text = cfg.describe({"world": Object("World"), "grid": "mine.py:Grid", "seed": int | None})
    assert text.splitlines() == [
        "world: Cube or Line",
        "grid: A grid.",
        "  grid.side: int  # Cells in a row.",
        "  grid.order: Literal['append', 'any'] = 'append'  # The order.",
        "  grid.deep: bool = False",
        "seed: int | None",
    ]
    assert "  trainer.max_steps: int = -1  # Stop" in cfg.describe({"trainer": ROOT["trainer"]})


class TestBuild:
    @pytest.fixture(autouse=True)
    def importable(self, folder: Path) -> None:
        text = USER_FILE.replace("from missing_library import Missing", "Missing = object")
        (folder / "mine.py").write_text(text)

    def test_round_trip(self) -> None:
        config = load(
            "model:\n"
            "  world: {class_path: mine.py:Grid, init_args: {side: 3}}\n"
            "  net: {class_path: mine.py:Net, init_args: {width: 5}}\n"
            "  path: a/b\n"
            "  pair: [1, 2]\n"
            "  sizes: [4, 5]\n"
            "  table: {a: 1}\n"
            "  worlds: [Cube, {class_path: mine.py:Torus, init_args: {twist: 1}}]\n"
            "  untyped: {x: [{class_path: mine.py:Free, init_args: {name: y, z: 1}}]}\n"
            "world: Line\n"
            "seed: 3\n",
            flags={"model.world.order": "any"},
        )
        built = cfg.build_section(config["model"], ROOT["model"], "model")
        assert (built.world.side, built.world.order) == (3, "any")
        assert type(built.world) is cfg.import_class("mine.py:Grid")
        assert built.net("w", 2).args == ("w", 2, 5, 4)
        assert (built.path, built.pair, built.sizes) == (Path("a/b"), (1, 2), (4, 5))
        assert built.table == {"a": 1}
        assert [type(it).__name__ for it in built.worlds] == ["Cube", "Torus"]
        assert built.untyped["x"][0].options == {"z": 1}
        assert type(cfg.build_section(config["world"], ROOT["world"], "world")).__name__ == "Line"
        assert cfg.build_section(config["seed"], ROOT["seed"], "seed") == 3

    def test_arguments_of_default_factories(self) -> None:
        flags = [("m.net.width", "9"), ("m.critic.depth", "7"), ("m.world", "Cube")]
        config = cfg.read([], [*flags, ("m.spare.side", "6")])
        built = cfg.build_section(config["m"], "mine.py:Model", "m")
        assert built.net("w", 2).args == ("w", 2, 9, 1)
        assert built.critic("w", 2).args == ("w", 2, 3, 7)
        assert built.spare.side == 6

    def test_function_as_factory(self) -> None:
        section = {"class_path": "mine.py:Data", "init_args": {"score": "mine.py:score"}}
        assert cfg.build_section(section, Object("Data"), "data").score(["ab"]) == [2.0]
        score = {"class_path": "mine.py:score", "init_args": {"weight": 3}}
        section["init_args"] = {"score": score}
        assert cfg.build_section(section, Object("Data"), "data").score(["ab"]) == [6]
        score["init_args"] = {"texts": []}
        with fails("'data.score.texts' is supplied by the program; leave it out"):
            cfg.build_section(section, Object("Data"), "data")

    def test_arguments_alone(self) -> None:
        built = cfg.build_arguments({"world": "Cube", "sizes": [1]}, "mine.py:Model", "model")
        assert built["world"].side == 2
        assert built["sizes"] == (1,)
        assert cfg.build_arguments(None, "mine.py:Free", "free") == {}

    def test_torch_factory(self) -> None:
        section = {"class_path": "torch.optim.Adam", "init_args": {"betas": [0.5, 0.9]}}
        made = cfg.build_arguments({"world": "Cube", "made": section}, "mine.py:Model", "m")["made"]
        adam = cfg.import_class("torch.optim.Adam")
        assert made.func is adam
        assert made.keywords == {"betas": (0.5, 0.9)}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"side": 0}, "model.world: side must be at least 1, got 0"),
            (
                {"side": 1, "order": "any", "deep": True},
                "model.world: deep and any exclude each other",
            ),
        ],
    )
    def test_constructor_errors(self, arguments: dict[str, object], message: str) -> None:
        world = {"class_path": "mine.py:Grid", "init_args": arguments}
        with fails(message):
            cfg.build_section({"world": world}, ROOT["model"], "model")

    def test_broken_import(self, folder: Path) -> None:
        (folder / "needs.py").write_text("import no_such_thing\nclass World: ...\n")
        for _ in range(2):
            with fails(
                "world: 'needs.py:World' cannot be imported (No module named 'no_such_thing')"
            ):
                cfg.build_section("needs.py:World", Object("World"), "world")

    def test_package_in_the_current_directory(self, folder: Path) -> None:
        (folder / "local").mkdir()
        (folder / "local" / "part.py").write_text("class World:\n    pass\n")
        built = cfg.build_section("local.part.World", Object("World"), "world")
        assert type(built).__module__ == "local.part"

    def test_a_file_is_imported_once(self, folder: Path) -> None:
        assert cfg.import_class("mine.py:Net") is cfg.import_class(f"{folder}/mine.py:Net")
