"""Predictions sealed before they are measured: nobody can change them unseen afterwards."""

import hashlib
import json
from datetime import date
from pathlib import Path

from gfn_design.errors import InputError

SEAL, SEALED = "seal.json", "candidates.csv"


def write_seal(folder: Path) -> Path:
    """Write down what a folder's candidates are, by their SHA-256, and on which day.

    Args:
        folder: That holds ``candidates.csv``.
    """
    found = hashlib.sha256((folder / SEALED).read_bytes()).hexdigest()
    path = folder / SEAL
    path.write_text(json.dumps({"file": SEALED, "sha256": found, "day": date.today().isoformat()}))
    return path


def sealed_on(folder: Path) -> str:
    """The day on which a folder's candidates were sealed.

    Raises:
        InputError: They were not, or have been changed since.
    """
    path = folder / SEAL
    if not path.is_file() or not (folder / SEALED).is_file():
        raise InputError(f"{folder}: holds no sealed predictions; gfn-design sample writes them")
    try:
        known = json.loads(path.read_text("utf-8"))
        digest, day = str(known["sha256"]), str(known["day"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    if hashlib.sha256((folder / SEALED).read_bytes()).hexdigest() != digest:
        raise InputError(
            f"{folder / SEALED}: is not what was sealed on {day}; put back that file, or leave out "
            "--predicted"
        )
    return day
