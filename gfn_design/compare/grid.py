"""What a comparison consists of: problem x method x seed, each cell an ordinary run.

Read and checked without importing torch, like the configuration of a run.
"""

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gfn_design.config import check, read, signature
from gfn_design.config.compose import Config
from gfn_design.config.paths import absolute_paths, config_file
from gfn_design.config.plan import Key
from gfn_design.config.root import ROOT
from gfn_design.config.schema import hint
from gfn_design.errors import InputError

KEYS = ("problems", "methods", "seeds", "trajectories", "evaluate_every", "base", "baseline")
NAME = re.compile(r"[\w+-][\w.+-]*")  # of a folder
# What the grid decides, so that all methods get the same. A problem may be a run's file, which says
# how long that is; there these are the grid's where it is silent.
LENGTH = ("trainer", "max_steps")
PROBLEMS_TOO = {
    ("seed",): "seeds",
    ("evaluate_every",): "evaluate_every",
    LENGTH: "trajectories",
}
DECIDED = {
    ("model", "draw_seed"): "seeds",
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
    trajectories: int
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
        trajectories: Problem -> of each of its runs.
        cells: All runs, seed by seed, so that a comparison cut short has whole seeds.
    """

    file: Path
    config: dict[str, Any]
    problems: list[str]
    methods: list[str]
    seeds: list[int]
    trajectories: dict[str, int]
    cells: list[Cell]


def load_grid(file: Path) -> Grid:
    """Read a comparison and check every run of it against the constructors that will take it.

    Args:
        file: YAML with `problems` and `methods` (name -> part of a run's configuration, or a YAML
            file that holds it, or a list of these), `seeds` (how many, or a list), and optionally
            `trajectories` of each run and `evaluate_every` so many trajectories (else each problem
            says it, as runs do), `base`, what all runs share, and `baseline`, which all others are
            compared with. A run is `base`, then its problem, then its method, later ones winning.

    Raises:
        InputError: Something is missing, misspelt or does not fit; the message names file and key.
    """
    config = read([file])
    of_a_run = " (this is a run: train it with gfn-design fit)" * ("problems" not in config)
    for name in config:
        if name not in KEYS:
            raise InputError(f"{file}: unknown key '{name}'{hint(name, KEYS, 'keys')}{of_a_run}")
    problems, methods = (_parts(config, name, file) for name in ("problems", "methods"))
    seeds = _seeds(config.get("seeds"), file)
    if config.get("baseline", next(iter(methods))) not in methods:
        raise InputError(
            f"{file}: 'baseline' must be one of the methods {', '.join(methods)}, got "
            f"'{config['baseline']}'"
        )
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
    merged, lengths = {}, {}
    for problem, of_problem in problems.items():
        name = f"{file}: problems.{problem}"
        shared = Config(name)
        shared.add(base, f"{file}: base")
        shared.add(of_problem, name)
        trajectories, every = _length(config, shared, file, name)
        lengths[problem] = trajectories
        for method, of_method in methods.items():
            run = Config(f"{file}: problem '{problem}' with method '{method}'")
            run.add(base, f"{file}: base")
            run.add(_without(of_problem, PROBLEMS_TOO), name)
            run.add(of_method, f"{file}: methods.{method}")
            _check(run)
            merged[problem, method] = _timed(run, trajectories, every)
    cells = [
        Cell(problem, method, seed, lengths[problem], _seeded(run, method, seed))
        for seed in seeds
        for (problem, method), run in merged.items()
    ]
    return Grid(file, absolute_paths(config), list(problems), list(methods), seeds, lengths, cells)


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
    """What YAML files hold where they are given by their names; several parts are merged."""
    if isinstance(part, str) and part.endswith((".yaml", ".yml")):
        return dict(read([config_file(Path(part))]))
    if isinstance(part, list):
        parts, merged = [_read(each) for each in part], Config("")
        if not all(isinstance(each, dict) for each in parts):
            return part
        for each in parts:
            merged.add(each, "")
        return dict(merged)
    return part


def _length(
    config: Mapping[str, Any], shared: Mapping[str, Any], file: Path, name: str
) -> tuple[int, int]:
    """Trajectories of each run of a problem, and from one evaluation to the next."""
    counts = []
    for key, place in (("trajectories", LENGTH), ("evaluate_every", ("evaluate_every",))):
        if key in config:
            counts.append(_count(config[key], f"{file}: '{key}'"))
        elif _has(shared, place):
            steps, batch, updates = (
                _count(number, f"{name}: '{where}'")
                for number, where in (
                    (_at(shared, place), ".".join(place)),
                    (_of_batches(shared, "size"), "model.batches.size"),
                    (_of_batches(shared, "updates"), "model.batches.updates"),
                )
            )
            counts.append(steps // updates * batch)
        else:
            raise InputError(
                f"{file}: '{key}' must be a positive whole number, or each problem must set "
                f"'{'.'.join(place)}'; {name} does not"
            )
    if counts[0] % counts[1]:
        where = file if {"trajectories", "evaluate_every"} <= config.keys() else name
        raise InputError(
            f"{where}: 'trajectories' must be a multiple of 'evaluate_every', or the end would not "
            f"be evaluated; got {counts[0]} and {counts[1]}"
        )
    return counts[0], counts[1]


def _count(number: Any, name: str) -> int:
    if type(number) is not int or number < 1:
        raise InputError(f"{name} must be a positive whole number, got {number!r}")
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


def _at(config: Any, place: tuple[str, ...]) -> Any:
    for name in place:
        config = config[name]
    return config


def _without(config: dict[str, Any], places: Iterable[tuple[str, ...]]) -> dict[str, Any]:
    """The configuration without what is at some places."""
    for *above, last in places:
        if _has(config, (*above, last)):
            inside = {k: v for k, v in _at(config, tuple(above)).items() if k != last}
            config = config | {above[0]: inside} if above else inside
    return config


def _check(run: Config) -> None:
    check(run, ROOT)
    for place, decided in (PROBLEMS_TOO | DECIDED).items():
        if _has(run, place):
            key = Key(place, run.origins)
            raise key.error(f"'{key}' is not for a single run to set; '{decided}' decides it")


def _timed(run: Config, trajectories: int, every: int) -> dict[str, Any]:
    """The run with its length, which the file gives in trajectories, in updates."""
    key = Key(("model", "batches", "size"), run.origins)
    batch, updates = (_of_batches(run, name) for name in ("size", "updates"))
    for name, number in (("trajectories", trajectories), ("evaluate_every", every)):
        if batch < 1 or number % batch:
            raise key.error(f"'{key}' {batch} does not divide '{name}' {number}; change either")
    return absolute_paths(
        {
            **run,
            "evaluate_every": every // batch * updates,
            "trainer": {**(run.get("trainer") or {}), "max_steps": trajectories // batch * updates},
        }
    )


def _of_batches(run: Mapping[str, Any], name: str) -> int:
    """A number that the batches of a model take, or its default."""
    given = (run.get("model") or {}).get("batches") or {}
    default = signature("gfn_design.Batches").parameters[name].default
    return given.get("init_args", given).get(name, ast.literal_eval(default))


def _seeded(run: dict[str, Any], method: str, seed: int) -> dict[str, Any]:
    """The run with its seeds.

    Equal networks of two methods start equal, which pairs the runs of one seed. Their draws differ:
    with the same ones, two names of one method would agree exactly.
    """
    draws = int.from_bytes(hashlib.sha256(f"{method}/{seed}".encode()).digest()[:4])
    return {"seed": seed, **run, "model": {**run["model"], "draw_seed": draws}}
