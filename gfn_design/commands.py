"""What each command does; heavy imports wait until the input has been checked."""

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

from gfn_design import commands_data, commands_run
from gfn_design.config import build_section, describe, load, read
from gfn_design.config import check as check_config
from gfn_design.config.check import Object
from gfn_design.config.paths import absolute_paths, config_file, shipped
from gfn_design.config.root import ROOT
from gfn_design.errors import InputError
from gfn_design.runs.telling import print_keys, train_and_tell

Overrides = list[tuple[str, str]]

LIKELIHOOD = {"class_path": "MaximumLikelihood"}
GENTLY = {"lr": 2e-4, "log_z_lr": 0.3}  # how a prior is gone on from
DEMOS = Path(__file__).with_name("demos")  # configurations


def fit(options: argparse.Namespace, overrides: Overrides) -> int:
    """Train a run, then evaluate it and draw candidates."""
    files = [config_file(path) for path in options.config or ()]
    if options.keys:
        print(describe(ROOT))
        for path in files:
            print(f"\nof the objects in {path}:")
            print_keys(read([path], []), "")
        return 0
    if not files:
        raise InputError("fit needs a configuration, as in: gfn-design fit --config FILE")
    config = load(files, [*overrides, *_of_run(options)], ROOT)
    if options.known is not None:
        known = {"class_path": "FineTuning", "init_args": {"known": str(options.known)}}
        config.add({"model": {"fine_tune": known}}, "--known")
        check_config(config, ROOT)
    train_and_tell(absolute_paths(config), options.output or _folder(*files))
    return 0


def _of_run(options: argparse.Namespace) -> Overrides:
    """The keys of a run that have options of their own."""
    given = {name: getattr(options, name) for name in ("seed", "checkpoint_every")}
    return [(name, str(value)) for name, value in given.items() if value is not None]


def finetune(options: argparse.Namespace, overrides: Overrides) -> int:
    """Train the policy of a run on a new reward."""
    old = options.run / "config.yaml"
    if not old.is_file():
        raise InputError(f"{options.run}: holds no run (no config.yaml in it) to start from")
    files = [config_file(path) for path in options.config or ()]
    new = read(files, [*overrides, *_of_run(options)])
    if "data" not in new:
        raise InputError("finetune needs a new reward, as in: --data KmerData --data.table pax6")
    from gfn_design.runs.run import config_of

    config = config_of(options.run)
    model = config["model"]
    model.pop("fine_tune", None)  # of a run that was fine-tuned itself
    if model["objective"] == LIKELIHOOD:  # which learns from a library, and asks no reward
        model["objective"] = {"class_path": "TrajectoryBalance"}
        model["optimiser"] = dict(GENTLY)
        if "optimiser" not in new.get("model", {}):
            print(f"learning rate {GENTLY['lr']:g}: a larger one would unlearn the prior")
    if options.way == "anchored":  # the prior takes the place of the backward policy
        model["backward"] = _without_its_own(model.get("backward"))
    given, own = (_class_of(x.get("environment")) for x in (new.get("model", {}), model))
    if given is not None and given != own:
        raise InputError(
            f"model.environment: fine-tuning keeps that of {options.run}; give the 'data' section "
            "alone"
        )
    start = {
        "run": str(options.run.resolve()),
        "way": options.way,
        "known": None if options.known is None else str(options.known.resolve()),
    }
    config.add({"model": {"fine_tune": {"class_path": "FineTuning", "init_args": start}}}, str(old))
    config.add(new, ", ".join(map(str, files)) or "command line")
    check_config(config, ROOT)
    name = f"{options.run.resolve().name}-finetuned-{_task(new['data'])}"
    name += "" if options.way == "all" else f"-{options.way}"
    train_and_tell(absolute_paths(config), options.output or Path("runs", name))
    return 0


def _class_of(section: Any) -> str | None:
    """The class that a section names, without where it is from."""
    path = section.get("class_path") if isinstance(section, dict) else section
    return None if path is None else str(path).rpartition(".")[2]


def _without_its_own(backward: Any) -> Any:
    """A backward policy that is shared still, or uniform."""
    given = backward.get("init_args") if isinstance(backward, dict) else None
    if given and given.get("shared"):
        return {"class_path": "LearnedBackward", "init_args": {"shared": True}}
    return {"class_path": "UniformBackward"}


def _task(data: Any) -> str:
    """A word for a data section: what the last text among its arguments names, else its class."""
    if isinstance(data, dict):
        named = [v for v in (data.get("init_args") or data).values() if isinstance(v, str)]
        data = named[-1] if named else data.get("class_path", "data")
    return re.sub(r"[^\w.-]+", "-", Path(str(data).removesuffix("Data")).stem).lower() or "data"


def _folder(config: Path, *others: Path) -> Path:
    """Where a configuration, of one or several files, puts its results unless told otherwise."""
    if others:
        return Path("runs", "-".join(path.stem for path in (config, *others)))
    parents = [part for part in config.parts[-2:-1] if part not in (".", "configs")]
    return Path("runs", "-".join([*parents, config.stem]))


def feasible(options: argparse.Namespace, overrides: Overrides) -> int:
    """Say whether what is wanted can be reached, and how often at which exponent."""
    config = load([config_file(path) for path in options.config], overrides, ROOT)
    from gfn_design.runs.feasible import feasible as lines

    for line in lines(absolute_paths(config), options.near):
        print(line, flush=True)
    return 0


def compare(options: argparse.Namespace, overrides: Overrides) -> int:
    """Run a grid of problems, methods and seeds, and say which differences are real."""
    jobs = os.cpu_count() or 1 if options.jobs is None else options.jobs
    if jobs < 1:
        raise InputError(f"--jobs must be at least 1, got {jobs}")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of each run; there are as many as cores
    from gfn_design.compare.grid import load_grid

    grid, folder = load_grid(config_file(options.config)), options.output or _folder(options.config)
    here = folder.absolute()
    print(f"checking {len(grid.cells)} runs ...", flush=True)
    from gfn_design.compare.report import write_report
    from gfn_design.compare.runner import run_grid

    failures = run_grid(grid, here, jobs)
    print(write_report(grid, here, failures))
    print(f"results are in {folder}/ (its README.md says what each file is)")
    return 1 if failures else 0


def mine(options: argparse.Namespace, overrides: Overrides) -> int:
    """Write the fragments of a file of molecules, for the environment Fragments."""
    from gfn_design.environments.molecules.mining import mine_file
    from gfn_design.environments.molecules.vocabulary import write_vocabulary
    from gfn_design.files.objects import write_whole_aside

    source: Path = options.molecules
    path = options.output or source.with_name(f"{source.stem}_fragments.csv")
    if path.suffix.lower() != ".csv":
        raise InputError(f"{path}: the fragments are written as CSV; give --output a name in .csv")
    found, read_in = mine_file(source, options.at_least, options.column, not options.any_link)
    write_vocabulary(found, path)
    if told := read_in.told(source):
        print(told)
    if read_in.aside:
        aside = path.with_name(f"{source.stem}_set_aside.csv")
        write_whole_aside(read_in.aside, aside)
        print(f"  all of them, with reasons: {aside}")
    if any("@" in row.text or "/" in row.text or "\\" in row.text for row in read_in.rows):
        print("stereo marks are left out: molecules are built without")
    print(f"{len(found)} fragments, the most frequent first:")
    for it in found[:10]:
        print(f"{it.times:>6}  {it.smiles}  points {' '.join(map(str, it.points))}")
    print(f"use them as --model.environment.fragments {path}")
    print("  with --model.environment.frequency 1 frequent ones weigh more; closed true caps ends")
    return 0


def configs(options: argparse.Namespace, overrides: Overrides) -> int:
    """List the configurations that come with the package."""
    known = shipped()
    wide = max(map(len, known))
    for name, file in known.items():
        lines = takewhile(lambda line: line.startswith("#"), file.read_text("utf-8").splitlines())
        about = " ".join(line.lstrip("# ").rstrip() for line in lines)
        print(f"{name:{wide}}  {re.split(r'(?<=[.;]) ', about)[0]}")
    return 0


def demo(options: argparse.Namespace, overrides: Overrides) -> int:
    """The main job on an embedded default, which needs neither download nor account."""
    # A second thread gains little on small networks, and loses much where the core is in use.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    flags, name = [("seed", str(options.seed))], options.factor or "FOXA1"
    if options.what == "molecules":
        if options.factor is not None:
            raise InputError("--factor is for the demo of dna")
        print("designing molecules that look like drugs (high QED) and are easy to make (low SA)")
        name = "molecules"
    else:
        flags.append(("data.factor", name))
        print(f"designing 8 letters of DNA that {name} binds (JASPAR 2026, both strands)")
    config = load([DEMOS / f"{options.what}.yaml"], flags, ROOT)
    train_and_tell(config, options.output or Path("runs", f"demo-{name}"))
    return 0


def check(options: argparse.Namespace, overrides: Overrides) -> int:
    """Run a user's environment through the contract suite."""
    root = {"environment": Object("Environment")}
    flags = [(f"environment.{name}", value) for name, value in overrides]
    config = load([], [("environment.class_path", options.environment), *flags], root)
    environment = build_section(config["environment"], root["environment"], "environment")
    from gfn_design.contract.check import ContractError, check_environment

    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", tempfile.gettempdir())
    try:
        check_environment(environment)
    except ContractError as error:  # of several lines: the rule, the state, what was expected
        print(f"gfn-design: {error}", file=sys.stderr)
        return 2
    print(f"{environment.describe()} keeps the contract")
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace, Overrides], int]] = {
    "data": commands_data.data,
    "proxy": commands_data.proxy,
    "fit": fit,
    "finetune": finetune,
    "sample": commands_run.sample,
    "evaluate": commands_run.evaluate,
    "report": commands_run.report,
    "pretrain": commands_run.pretrain,
    "compose": commands_run.compose,
    "compare": compare,
    "feasible": feasible,
    "mine": mine,
    "demo": demo,
    "check": check,
    "configs": configs,
}
