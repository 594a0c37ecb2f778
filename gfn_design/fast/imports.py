"""Lightning without what it brings along and training does not use.

Lightning imports torchmetrics, which imports matplotlib and SciPy's signal processing, and it
imports torch's tracer, Dynamo, to ask whether a model is one that it compiled. That takes two of
the three seconds until a command begins, so commands import Lightning with something in the places
of these three, and take it away again: whoever imports them later gets them as they are.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

SPINS = "1000"  # some microseconds
KEPT = "__dynamo_disable"  # where torch keeps a function that Dynamo was told to leave alone
PLACES = ("matplotlib", "scipy.signal", "torch._dynamo")


class _Later(ModuleType):
    """A module that is imported when something in it is asked for."""

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self.__name__), name)


class _OfDynamo(type):
    """What Dynamo compiled is an instance of this class, as it is of Dynamo's own."""

    def __instancecheck__(cls, thing: object) -> bool:
        dynamo = sys.modules.get("torch._dynamo")
        return dynamo is not None and isinstance(thing, dynamo.OptimizedModule)


class _Compiled(metaclass=_OfDynamo):
    pass


class _Quickly(Loader, MetaPathFinder):
    """Loads Lightning as its own loader does, with something in the places of others."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "lightning":
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        specs = (finder.find_spec(name, path, target) for finder in others)
        found = next((spec for spec in specs if spec is not None), None)
        if found is not None and found.loader is not None:
            self.own = found.loader
            found.loader = self
        return found

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        sys.meta_path.remove(self)
        assert module.__spec__
        module.__loader__ = module.__spec__.loader = self.own
        before = set(sys.modules)
        if any(name in before for name in ("torchmetrics", *PLACES)):
            self.own.exec_module(module)
            return
        try:
            with _in_their_places():
                self.own.exec_module(module)
        except Exception:  # another version, say, which asks for more
            for name in set(sys.modules) - before:
                if name.partition(".")[0] in ("lightning", "torchmetrics"):
                    del sys.modules[name]
            self.own.exec_module(module)
            return
        plots: Any = sys.modules["torchmetrics.utilities.plot"]
        plots.matplotlib, plots.plt = _Later("matplotlib"), _Later("matplotlib.pyplot")
        for function in _kept_from_dynamo():
            vars(function)[KEPT] = function


def quickly() -> None:
    """From here on Lightning is imported so, by whoever needs it first.

    And threads that wait for another one sleep soon, unless the person says otherwise: where
    something else keeps a core busy, they would keep theirs from whom they wait for.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    there = any(isinstance(finder, _Quickly) for finder in sys.meta_path)
    if not there and "lightning" not in sys.modules:
        sys.meta_path.insert(0, _Quickly())


def dynamo() -> None:
    """Import Dynamo, and let it know what it is to leave alone. To be called before compiling."""
    import_module("torch._dynamo")
    for function in _kept_from_dynamo():
        if vars(function).get(KEPT) is function:
            del vars(function)[KEPT]


def _kept_from_dynamo() -> list[Any]:
    """What optimizers import Dynamo for, only to tell it to leave them alone."""
    from torch.optim import Optimizer

    found = [getattr(method, "__wrapped__", None) for method in vars(Optimizer).values()]
    return [inner for inner in found if inner is not None]


@contextmanager
def _in_their_places() -> Iterator[None]:
    """Modules with as much in them as is asked for while Lightning is imported."""
    axes, plots = SimpleNamespace(Axes=object), SimpleNamespace(Figure=object)
    plots.style = SimpleNamespace(context=_unchanged)
    colours = SimpleNamespace(Colormap=object)
    modules: dict[str, dict[str, Any]] = {
        "matplotlib": {"axes": axes, "pyplot": plots, "colors": colours},
        "matplotlib.axes": vars(axes),
        "matplotlib.pyplot": vars(plots),
        "scipy.signal": {"hamming": None},
        "torch._dynamo": {"OptimizedModule": _Compiled, "disable": _disable},
    }
    for name, content in modules.items():
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(content)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


@contextmanager
def _unchanged(*_: Any, **__: Any) -> Iterator[None]:
    yield


def _disable(function: Callable[..., Any] | None = None, *_: Any, **__: Any) -> Any:
    return (lambda inner: inner) if function is None else function
