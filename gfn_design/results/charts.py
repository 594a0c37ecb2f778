"""Small charts for a page: curves, a map of objects, two opinions; each is one SVG."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gfn_design.results.plots import axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = Sequence[tuple[float, float]]
INK, SOFT, BRIGHT = "#1f4e79", "#9aa5b1", "#d1495b"


class Chart(NamedTuple):
    """A picture with what it shows.

    Attributes:
        source: For an ``img``, with the whole picture in it.
        title: What it is.
        words: What good is.
    """

    source: str
    title: str
    words: str


def embedded(svg: str) -> str:
    """An SVG as a source of an ``img``, which needs no file and no network."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def svg_of(ax: "Axes") -> str:
    """What is drawn on `ax`, with letters as letters."""
    import matplotlib

    figure = ax.get_figure()
    assert figure is not None
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "gfn-design"}):
        figure.savefig(file, format="svg", metadata={"Date": None})  # type: ignore[union-attr]
    return file.getvalue()


def curves(
    lines: Mapping[str, Curve], title: str, words: str, y_label: str, good: float | None = None
) -> Chart:
    """Lines over sampled trajectories; a dashed one where good is."""
    ax = axes(4.6, 3.0)
    for (name, line), colour in zip(lines.items(), (INK, BRIGHT, SOFT), strict=False):
        x, y = zip(*line, strict=True)
        ax.plot(x, y, color=colour, lw=1.6, marker="o" if len(x) < 20 else "", ms=3, label=name)
    if good is not None:
        ax.axhline(good, color="k", lw=0.8, ls="--")
    if len(lines) > 1:
        ax.legend(frameon=False, fontsize="small")
    ax.set(xlabel="trajectories sampled", ylabel=y_label)
    _plain(ax)
    return Chart(embedded(svg_of(ax)), title, words)


def map_of(
    measured: NDArray[np.uint8], drawn: NDArray[np.uint8], picked: NDArray[np.uint8], words: str
) -> Chart:
    """Measured, drawn and picked objects in the two directions in which they differ most.

    Principal components of the square roots of their counts.
    """
    every = np.sqrt(np.concatenate([measured, drawn, picked]).astype(np.float32))
    every = every[:, every.any(0)]
    centred = every - every.mean(0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    places = centred @ vectors[:, -1:-3:-1]
    ax = axes(4.6, 3.6)
    ends = np.cumsum([0, len(measured), len(drawn), len(picked)])
    looks = (("measured", SOFT, 6, 0.5), ("drawn", INK, 6, 0.4), ("picked", BRIGHT, 22, 1.0))
    for (name, colour, size, alpha), low, high in zip(looks, ends, ends[1:], strict=False):
        if high > low:
            x, y = places[low:high].T
            ax.scatter(x, y, s=size, color=colour, alpha=alpha, lw=0, label=name, rasterized=True)
    ax.legend(frameon=False, fontsize="small")
    ax.set(xticks=[], yticks=[])
    _plain(ax)
    return Chart(embedded(svg_of(ax)), "Measured, drawn, picked", words)


def opinions(
    first: Sequence[float], second: Sequence[float], wanted: float | None, name: str, sign: int
) -> Chart:
    """What both models expect of each design."""
    ax = axes(4.6, 3.6)
    ax.scatter(first, second, s=22, color=BRIGHT, lw=0, alpha=0.8)
    ends = [min(*first, *second), max(*first, *second)]
    ax.plot(ends, ends, color=SOFT, lw=1)
    if wanted is not None:
        ax.axvline(wanted, color="k", lw=0.8, ls="--")
        ax.axhline(wanted, color="k", lw=0.8, ls="--")
    ax.set(xlabel=f"{name}, by the proxy", ylabel=f"{name}, by the second model")
    _plain(ax)
    where = "below and left" if sign < 0 else "above and right"
    both = "" if wanted is None else f", and {where} of the dashed lines both have what is wanted"
    words = f"Near the line both models agree{both}."
    return Chart(embedded(svg_of(ax)), "Two opinions on what was picked", words)


def spread(
    values: Mapping[str, Sequence[float]], x_label: str, words: str, wanted: float | None
) -> Chart:
    """How numbers of several groups are spread."""
    ax = axes(4.6, 3.0)
    every = np.concatenate([np.asarray(x, dtype=float) for x in values.values()])
    bins = np.linspace(every.min(), every.max() + 1e-9, 31)
    for (name, some), colour in zip(values.items(), (SOFT, INK, BRIGHT), strict=False):
        weights = np.full(len(some), 100 / max(len(some), 1))
        ax.hist(some, bins=list(bins), weights=weights, color=colour, alpha=0.6, label=name)
    if wanted is not None:
        ax.axvline(wanted, color="k", lw=0.8, ls="--")
    ax.legend(frameon=False, fontsize="small")
    ax.set(xlabel=x_label, ylabel="% of each")
    _plain(ax)
    return Chart(embedded(svg_of(ax)), f"{x_label}: data, samples, picks", words)


def _plain(ax: "Axes") -> None:
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.tick_params(labelsize=8)
