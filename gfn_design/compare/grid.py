"""What a comparison consists of: problem x method x seed, each cell an ordinary run.

Read and checked without importing torch, like the configuration of a run.
"""

import ast
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gfn_design.commands import anchored
from gfn_design.config import check, read, signature
from gfn_design.config.compose import Config
from gfn_design.config.plan import Key
from gfn_design.config.root import ROOT
from gfn_design.config.schema import hint
from gfn_design.errors import InputError

KEYS = ("problems", "methods", "seeds", "trajectories", "evaluate_every", "base")
NAME = re.compile(r"[\w+-][\w.+-]*")  # of a folder
# What the grid itself decides, so that all methods get the same.
DECIDED = {
    ("seed",): "seeds",
    ("model", "seed"): "seeds",
    ("evaluate_every",): "evaluate_every",
    ("trainer", "max_steps"): "trajectories",
    ("trainer", "max_epochs"): "trajectories",
    ("trainer", "max_time"): "trajectories",
    ("trainer", "val_check_interval"): "evaluate_every",
    ("trainer", "check_val_every_n_epoch"): "evaluate_every",
    ("trainer", "limit_val_batches"): "evaluate_every",
}
OF_PROBLEMS = (("data",), ("model", "environment"))  # a method that changed them would have others


class Cell(NamedTuple):
    """One run of a grid."""

    problem: str
    method: str
    seed: int
    config: dict[str, Any]

    @property
    def path(self) -> Path:
        """Of the run, under the folder of the comparison."""
        return Path("runs", self.problem, self.method, str(self.seed))

    def __str__(self) -> str:
        return f"{self.problem}, {self.method}, seed {self.seed}"


class Grid(NamedTuple):
    """A comparison.

    Attributes:
        file: Where it was read from.
        config: As it was read, files named from the root.
        trajectories: Of each run.
        cells: All runs, seed by seed, so that a comparison cut short has whole seeds.
    """

    file: Path
    config: dict[str, Any]
    problems: list[str]
    methods: list[str]
    seeds: list[int]
    trajectories: int
    cells: list[Cell]


def load_grid(file: Path) -> Grid:
    """Read a comparison and check every run of it against the constructors that will take it.

    Args:
        file: YAML with `problems` and `methods` (name -> part of a run's configuration, or a YAML
            file that holds it), `seeds` (how many, or a list), `trajectories` of each run,
            `evaluate_every` so many trajectories, and optionally `base`, what all runs share. A run
            is `base`, then its problem, then its method, later ones winning.

    Raises:
        InputError: Something is missing, misspelt or does not fit; the message names file and key.
    """
    config = read([file])
    for name in config:
        if name not in KEYS:
            raise InputError(f"{file}: unknown key '{name}'{hint(name, KEYS, 'keys')}")
    problems, methods = (_parts(config, name, file) for name in ("problems", "methods"))
    trajectories = _count(config, "trajectories", file)
    every = _count(config, "evaluate_every", file)
    if trajectories % every:
        raise InputError(
            f"{file}: 'trajectories' must be a multiple of 'evaluate_every', or the end would not "
            f"be evaluated; got {trajectories} and {every}"
        )
    seeds = _seeds(config.get("seeds"), file)
    base = config.get("base") or {}
    if not isinstance(base, dict):
        raise InputError(f"{file}: 'base' must be a part of a run's configuration, got {base!r}")
    for method, part in methods.items():
        for place in OF_PROBLEMS:
            if _has(part, place):
                raise InputError(
                    f"{file}: 'methods.{method}' sets '{'.'.join(place)}', which all methods must "
                    "share; set it in 'problems'"
                )
    merged = {}
    for problem, of_problem in problems.items():
        for method, of_method in methods.items():
            run = Config(f"{file}: problem '{problem}' with method '{method}'")
            run.add(base, f"{file}: base")
            run.add(of_problem, f"{file}: problems.{problem}")
            run.add(of_method, f"{file}: methods.{method}")
            _check(run)
            merged[problem, method] = _timed(run, trajectories, every)
    cells = [
        Cell(problem, method, seed, _seeded(run, method, seed))
        for seed in seeds
        for (problem, method), run in merged.items()
    ]
    return Grid(file, anchored(config), list(problems), list(methods), seeds, trajectories, cells)


def sources(value: Any) -> dict[str, str]:
    """SHA-256 of every file that an anchored configuration names, by its path."""
    return {
        path: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in sorted(_files(value))
    }


def _files(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _files(item)
    elif isinstance(value, str):
        path = value.partition(":")[0]
        if Path(path).is_absolute() and Path(path).is_file():
            yield path


def _parts(config: Mapping[str, Any], name: str, file: Path) -> dict[str, dict[str, Any]]:
    """Named parts of a run's configuration."""
    parts = config.get(name)
    if not isinstance(parts, dict) or not parts:
        raise InputError(
            f"{file}: '{name}' must give at least one name with a part of a run's configuration, "
            f"got {parts!r}"
        )
    parts = {key: _read(part) for key, part in parts.items()}
    for key, part in parts.items():
        if not isinstance(key, str) or not NAME.fullmatch(key):
            raise InputError(
                f"{file}: '{name}.{key}' names a folder, so it must be made of letters, digits and "
                "any of . _ + - (in quotes if it looks like a number)"
            )
        if not isinstance(part, dict):
            raise InputError(
                f"{file}: '{name}.{key}' must be a part of a run's configuration, got {part!r}"
            )
    return parts


def _read(part: Any) -> Any:
    """What a YAML file holds, if the part is given by its name."""
    is_file = isinstance(part, str) and part.endswith((".yaml", ".yml"))
    return dict(read([part])) if is_file else part


def _count(config: Mapping[str, Any], name: str, file: Path) -> int:
    number = config.get(name)
    if type(number) is not int or number < 1:
        raise InputError(f"{file}: '{name}' must be a positive whole number, got {number!r}")
    return number


def _seeds(given: Any, file: Path) -> list[int]:
    seeds = list(range(given)) if type(given) is int else given
    is_list = isinstance(seeds, list) and all(type(s) is int and 0 <= s < 2**32 for s in seeds)
    if not is_list or not seeds or len(set(seeds)) < len(seeds):
        raise InputError(
            f"{file}: 'seeds' must be how many seeds, or a list of different ones from 0 to "
            f"{2**32 - 1}, got {given!r}"
        )
    return seeds


def _has(config: Any, place: tuple[str, ...]) -> bool:
    for name in place:
        if not isinstance(config, dict) or name not in config:
            return False
        config = config[name]
    return True


def _check(run: Config) -> None:
    check(run, ROOT)
    for place, decided in DECIDED.items():
        if _has(run, place):
            key = Key(place, run.origins)
            raise key.error(f"'{key}' is not for a single run to set; '{decided}' decides it")


def _timed(run: Config, trajectories: int, every: int) -> dict[str, Any]:
    """The run with its length, which the file gives in trajectories, in updates."""
    key = Key(("model", "batch_size"), run.origins)
    batch, updates = (_argument(run, name) for name in ("batch_size", "updates"))
    for name, number in (("trajectories", trajectories), ("evaluate_every", every)):
        if batch < 1 or number % batch:
            raise key.error(f"'{key}' {batch} does not divide '{name}' {number}; change either")
    return anchored(
        {
            **run,
            "evaluate_every": every // batch * updates,
            "trainer": {**(run.get("trainer") or {}), "max_steps": trajectories // batch * updates},
        }
    )


def _argument(run: Mapping[str, Any], name: str) -> int:
    """A number that the model takes, or its default."""
    default = signature("gfn_design.GFlowNet").parameters[name].default
    return run["model"].get(name, ast.literal_eval(default))


def _seeded(run: dict[str, Any], method: str, seed: int) -> dict[str, Any]:
    """The run with its seeds.

    Equal networks of two methods start equal, which pairs the runs of one seed. Their draws differ:
    with the same ones, two names of one method would agree exactly, and no test could tell how
    much of a difference is chance.
    """
    draws = int.from_bytes(hashlib.sha256(f"{method}/{seed}".encode()).digest()[:4])
    return {"seed": seed, **run, "model": {**run["model"], "seed": draws}}
