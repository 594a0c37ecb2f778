"""Files that a configuration names."""

from pathlib import Path
from typing import Any

from gfn_design.errors import InputError

PACKAGE = Path(__file__).parents[1]


def shipped_folder() -> Path:
    """Where the configurations are that come with the package."""
    inside = PACKAGE / "configs"
    return inside if inside.is_dir() else PACKAGE.parent / "configs"  # of a checkout


def shipped() -> dict[str, Path]:
    """The configurations that come with the package, by names such as ``six6/rl_u``."""
    folder = shipped_folder()
    files = sorted(folder.rglob("*.yaml"))
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}


def config_file(given: Path) -> Path:
    """A file that is there, or the one that is shipped by that name.

    Raises:
        InputError: There is neither.
    """
    if given.is_file():
        return given
    known = shipped()
    name = given.with_suffix("").as_posix() if given.suffix == ".yaml" else given.as_posix()
    for tried in (name, name.removeprefix("configs/")):
        if tried in known:
            return known[tried]
    near = [other for other in known if other.split("/")[-1] == name.split("/")[-1]]
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise InputError(
        f"{given}: no such file, and no configuration of that name comes with gfn-design{hint} "
        "(gfn-design configs lists them)"
    )


def absolute_paths(value: Any) -> Any:
    """A configuration in which every string that names a file names it from the root.

    A run is then the same wherever it is opened from.
    """
    if isinstance(value, dict):
        return {name: absolute_paths(item) for name, item in value.items()}
    if isinstance(value, list):
        return [absolute_paths(item) for item in value]
    if isinstance(value, str):
        path, colon, name = value.partition(":")
        if "." in path and Path(path).is_file():
            return f"{Path(path).resolve()}{colon}{name}"
    return value
