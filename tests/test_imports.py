"""What a command imports, and that those who need the rest get it as it is."""

import subprocess
import sys
import textwrap

import pytest

QUICKLY = "from gfn_design.fast import imports\nimports.quickly()\nimport lightning\nimport sys\n"


def run(code, quickly=True):
    """What a fresh Python prints."""
    code = (QUICKLY if quickly else "import sys\n") + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_lightning_comes_without_plots_signals_and_dynamo():
    names = ("torch._dynamo", "matplotlib", "scipy.signal")
    assert run(f"print([name for name in {names} if name in sys.modules])") == "[]"


def test_it_may_be_said_twice():
    """As where a notebook calls one command after another."""
    code = "from gfn_design.fast import imports\nimports.quickly()\n" + QUICKLY
    code += "print(len([x for x in sys.meta_path if isinstance(x, imports._Quickly)]))"
    assert run(code, quickly=False) == "0"


def test_it_is_the_whole_of_lightning():
    code = """
        import lightning.pytorch, lightning.fabric, importlib.util
        print(lightning.pytorch.Trainer.__name__, importlib.util.find_spec("lightning").origin)
        print(sorted(name for name in sys.modules if name.partition(".")[0] == "lightning"))
        print(sorted(vars(lightning.pytorch)))
    """
    slowly = run("import lightning\n" + textwrap.dedent(code), quickly=False)
    assert run(code) == slowly


def test_whoever_needs_the_rest_gets_it():
    code = """
        import matplotlib.pyplot, scipy.signal, torch._dynamo, torch
        assert scipy.signal.hilbert and matplotlib.axes.Axes and torch._dynamo.disable
        f = torch.compile(lambda x: x + 1, backend="eager")
        print(f(torch.zeros(1)).item())
    """
    assert run(code) == "1.0"


def test_metrics_can_be_plotted():
    code = """
        import matplotlib, torch
        matplotlib.use("Agg")
        from torchmetrics import MeanMetric
        metric = MeanMetric()
        metric.update(torch.tensor(2.0))
        figure, ax = metric.plot()
        print(type(figure).__name__, type(ax).__name__)
    """
    assert run(code) == "Figure Axes"


def test_lightning_knows_a_compiled_module():
    code = """
        import torch
        from lightning.fabric.wrappers import OptimizedModule
        plain = torch.nn.Linear(1, 1)
        before = isinstance(plain, OptimizedModule)
        made = torch.compile(plain, backend="eager")
        print(before, isinstance(plain, OptimizedModule), isinstance(made, OptimizedModule))
    """
    assert run(code) == "False False True"


def test_optimizers_are_left_alone_by_dynamo_once_it_comes():
    code = """
        import torch
        w = torch.nn.Parameter(torch.zeros(1))
        torch.optim.SGD([w])
        assert "torch._dynamo" not in sys.modules
        imports.dynamo()
        made = torch.optim.SGD([w], lr=0.1)
        made.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))]})
        inner = torch.optim.Optimizer.add_param_group.__wrapped__
        print(vars(inner)["__dynamo_disable"] is not inner)
    """
    assert run(code) == "True"


@pytest.mark.parametrize("name", ["matplotlib", "torch._dynamo"])
def test_nothing_is_put_in_the_place_of_what_is_there(name):
    code = f"import {name}\nimport torch._dynamo\n" + QUICKLY + "print(torch._dynamo.disable)"
    assert "_in_their" not in run(code, quickly=False)


def test_a_version_that_asks_for_more_is_imported_as_it_is():
    code = """
        from gfn_design.fast import imports
        imports._disable = None  # what is there cannot be called
        imports.quickly()
        import lightning
        from lightning.pytorch.callbacks import Callback
        print("torch._dynamo" in sys.modules, "matplotlib" in sys.modules, Callback.__name__)
    """
    assert run(code, quickly=False) == "True True Callback"


def test_untraced_functions_are_left_alone_when_somebody_compiles():
    code = """
        import torch
        from gfn_design.untraced import keep_untraced, untraced

        @untraced("it is counted in Python")
        def counted(x):
            "Docs."
            counts.append(torch.compiler.is_compiling())
            return x + 1

        counts = []
        assert counted(torch.zeros(1)) == 1 and counted.__doc__ == "Docs."
        assert "torch._dynamo" not in sys.modules
        keep_untraced()
        f = torch.compile(lambda x: counted(x * 2) * 3, backend="eager")
        print(f(torch.ones(1)).item(), f(torch.ones(1)).item(), counts)
    """
    assert run(code) == "9.0 9.0 [False, False, False]"
