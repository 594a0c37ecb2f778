"""What proxies say of texts, as rewards ask: bounds, similarities, second opinions."""

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gfn_design.errors import InputError
from gfn_design.proxies.inputs import LETTERS
from gfn_design.proxies.proxy import Proxy, load_proxy
from gfn_design.rewards.desirability import limits

Use = Literal["low", "mean", "high", "similarity"]
Asked = Literal["bound", "low", "mean", "high", "similarity"]
FALL = 4  # a similarity that is lower by a quarter of the edge counts half


class ProxyValues:
    """Numbers of a proxy, of each of some texts.

    Args:
        path: Of the proxy's file.
        uses: Which numbers, in order: ``low``, ``mean`` and ``high`` of the interval that holds 80
            of 100 measurements; ``similarity`` to the nearest measured object.

    Raises:
        InputError: There is no such proxy, or it knows no such number.
    """

    def __init__(self, path: str, uses: Sequence[Use]) -> None:
        for use in uses:
            if use not in get_args(Use):
                raise InputError(f"use must be one of {', '.join(get_args(Use))}, got '{use}'")
        self.path, self.uses = path, tuple(uses)
        self.proxy = opened(path)

    def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        """One number for each use, of each text."""
        if not texts:
            return []
        found = self.proxy.predict(texts)
        columns = [getattr(found, use).tolist() for use in self.uses]
        return [list(row) for row in zip(*columns, strict=True)]


def use_of(asked: Asked, want: str) -> Use:
    """Which number of a proxy is meant: its ``bound`` is the cautious end of the interval.

    The lower one where more is wanted, the upper one where less is, the mean of a range.

    Raises:
        InputError: There is no such number.
    """
    if asked not in get_args(Asked):
        raise InputError(f"use must be one of {', '.join(get_args(Asked))}, got '{asked}'")
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


@lru_cache(maxsize=8)
def _opened(path: str, _changed: int) -> Proxy:
    return load_proxy(Path(path))


def quantity_of(path: str) -> str:
    """What a proxy predicts, as one word."""
    return named(opened(path))


def named(proxy: Proxy) -> str:
    """The quantity of a proxy, as one word."""
    return re.sub(r"\W+", "_", proxy.about.quantity).strip("_") or "proxy"


def column_of(path: str, use: str) -> str:
    """What a number of a proxy is called: ``pIC50``, ``pIC50_low``, ``pIC50_similarity``."""
    return quantity_of(path) + ("" if use == "mean" else f"_{use}")


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
    own_letters = LETTERS.get(own, own)
    if set(own_letters) != set(kind) if own != "molecules" else kind != "molecules":
        raise InputError(f"{path}: is a proxy of {own}, but what is built is {what}")


def more_columns(proxy: Proxy, texts: Sequence[str]) -> dict[str, list[str]]:
    """What else a file says of objects that a proxy was asked of, as columns.

    The prediction with its interval, the second opinion, and the nearest measured object, by name
    and with what was measured of it.
    """
    if not texts:
        return {}
    name, about, found = named(proxy), proxy.about, proxy.predict(texts)
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


def means(proxy: Proxy, texts: Sequence[str], weights: Sequence[float]) -> dict[str, float]:
    """Of many objects, weighted: what both models expect, and how near the data they are.

    Returns:
        ``NAME``, ``NAME_second``, ``NAME_similarity``, and ``NAME_in_domain``, the share of them
        that are similar enough to a measured one.
    """
    weight = np.asarray(weights) / np.sum(weights)
    name, found = named(proxy), proxy.predict(texts)
    return {
        name: float(found.mean @ weight),
        f"{name}_second": float(proxy.second_opinion(texts) @ weight),
        f"{name}_similarity": float(found.similarity @ weight),
        f"{name}_in_domain": float((found.similarity >= proxy.edge) @ weight),
    }
