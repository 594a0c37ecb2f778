"""What proxies say of texts, as rewards ask: bounds, similarities, second opinions."""

import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from gfn_design.errors import InputError
from gfn_design.files.columns import one_word
from gfn_design.files.measured import LETTERS
from gfn_design.proxies.proxy import Proxy, load_proxy
from gfn_design.rewards.desirability import limits

Number = Literal["low", "mean", "high", "similarity"]
Use = Literal["bound", "low", "mean", "high", "similarity"]
FALL = 4  # a similarity that is lower by a quarter of the edge counts half


class Predictor(NamedTuple):
    """A proxy that terms ask.

    Attributes:
        proxy: The model of measurements.
        path: Its file.
        name: What it predicts is called in files, as one word; no two are called the same.
        sign: 1 if more of it is wanted, -1 if less, 0 if neither.
    """

    proxy: Proxy
    path: str
    name: str
    sign: int


class ProxyValues:
    """Numbers of a proxy, of each of some texts.

    Args:
        path: Of the proxy's file.
        uses: Which numbers, in order: ``low``, ``mean`` and ``high`` of the interval that holds 80
            of 100 measurements; ``similarity`` to the nearest measured object.

    Raises:
        InputError: There is no such proxy, or it knows no such number.
    """

    def __init__(self, path: str, uses: Sequence[Number]) -> None:
        for use in uses:
            if use not in get_args(Number):
                raise InputError(f"use must be one of {', '.join(get_args(Number))}, got '{use}'")
        self.path, self.uses = path, tuple(uses)
        self.proxy = opened(path)

    def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        """One number for each use, of each text."""
        if not texts:
            return []
        found = self.proxy.predict(texts)
        columns = [getattr(found, use).tolist() for use in self.uses]
        return [list(row) for row in zip(*columns, strict=True)]


def use_of(asked: Use, want: str) -> Number:
    """Which number of a proxy is meant: its ``bound`` is the cautious end of the interval.

    The lower one where more is wanted, the upper one where less is, the mean of a range.

    Raises:
        InputError: There is no such number.
    """
    if asked not in get_args(Use):
        raise InputError(f"use must be one of {', '.join(get_args(Use))}, got '{asked}'")
    if asked != "bound":
        return asked
    low, high = limits(want)
    if math.isfinite(low) == math.isfinite(high):
        return "mean"
    return "low" if math.isfinite(low) else "high"


def opened(path: str) -> Proxy:
    """The proxy of a file, which is read once while it stays as it is."""
    changed = Path(path).stat().st_mtime_ns if Path(path).is_file() else 0
    return _opened(path, changed)


def digest_of(path: str) -> str:
    """The SHA-256 of a proxy's file, which is found once while it stays as it is."""
    return _digest(path, Path(path).stat().st_mtime_ns)


@lru_cache(maxsize=32)
def _digest(path: str, _changed: int) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@lru_cache(maxsize=8)
def _opened(path: str, _changed: int) -> Proxy:
    return load_proxy(Path(path))


def quantity_of(path: str) -> str:
    """What a proxy predicts, as one word."""
    return one_word(opened(path).about.quantity)


def column_of(name: str, use: str) -> str:
    """What a number of a proxy is called: ``pIC50``, ``pIC50_low``, ``pIC50_similarity``."""
    return name + ("" if use == "mean" else f"_{use}")


def wanted_similarity(path: str) -> str:
    """What is wanted of the similarity to a measured object, so that the proxy may be asked."""
    edge = opened(path).edge
    return f">= {edge:.3g} within {max(edge / FALL, 0.01):.3g}"


def check_kind(path: str, kind: str, what: str) -> None:
    """Refuse a proxy of other objects.

    Args:
        path: Of the proxy.
        kind: ``molecules``, or the letters of what is built.
        what: Is built, in words.

    Raises:
        InputError: It knows others.
    """
    own = opened(path).about.kind
    letters, nucleic = set(kind), set("ACGTU")
    if own == "molecules" or kind == "molecules":
        fits = own == kind
    elif own == "protein":  # some residues may be left out
        fits = letters <= set(LETTERS[own]) and not letters <= nucleic
    else:
        fits = letters == set(LETTERS[own])
    if not fits:
        raise InputError(f"{path}: is a proxy of {own}, but what is built is {what}")


def more_columns(predictor: Predictor, texts: Sequence[str]) -> dict[str, list[str]]:
    """What else a file says of objects that a proxy was asked of, as columns.

    The prediction with its interval, the second opinion, and the nearest measured object, by name
    and with what was measured of it.
    """
    if not texts:
        return {}
    proxy, name = predictor.proxy, predictor.name
    about, found = proxy.about, proxy.predict(texts)
    sign = {-1: "<", 0: "", 1: ">"}
    nearest = [f"{sign[about.limits[i]]}{about.values[i]:.4g}" for i in found.nearest.tolist()]

    def written(numbers: NDArray[np.float64]) -> list[str]:
        return [f"{x:.4g}" for x in numbers.tolist()]

    return {
        name: written(found.mean),
        f"{name}_low": written(found.low),
        f"{name}_high": written(found.high),
        f"{name}_second": written(proxy.second_opinion(texts)),
        f"{name}_similarity": written(found.similarity),
        f"{name}_nearest": [about.names[i] for i in found.nearest.tolist()],
        f"{name}_nearest_measured": nearest,
    }


def means(predictor: Predictor, texts: Sequence[str], weights: Sequence[float]) -> dict[str, float]:
    """Of many objects, weighted: what both models expect, and how near the data they are.

    Returns:
        ``NAME``, ``NAME_second``, ``NAME_similarity``, and ``NAME_in_domain``, the share of them
        that are similar enough to a measured one.
    """
    weight = np.asarray(weights) / np.sum(weights)
    proxy, name = predictor.proxy, predictor.name
    found = proxy.predict(texts)
    return {
        name: float(found.mean @ weight),
        f"{name}_second": float(proxy.second_opinion(texts) @ weight),
        f"{name}_similarity": float(found.similarity @ weight),
        f"{name}_in_domain": float((found.similarity >= proxy.edge) @ weight),
    }
