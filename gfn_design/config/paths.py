"""Files that a configuration names."""

from pathlib import Path
from typing import Any


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
