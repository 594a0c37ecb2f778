"""The picture of a proxy: how far it was off on what it had not seen."""

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from gfn_design.proxies.fit import Fitted

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_proxy(fitted: Fitted) -> "Figure":
    """Predicted against measured of held-out groups, with the interval, and error by similarity."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    about, some, found = fitted.proxy.about, fitted.compared, fitted.chosen
    exact = found.exact
    mean, values = found.guess.mean, some.values
    half = float(np.median(fitted.proxy.calibration.half_width(found.guess.spread)))
    left.scatter(values[exact], mean[exact], s=8, lw=0, alpha=0.5, label="held out")
    if not exact.all():
        left.scatter(values[~exact], mean[~exact], s=14, marker="x", color="0.5", label="a limit")
    ends = np.array([min(values.min(), mean.min()), max(values.max(), mean.max())])
    left.plot(ends, ends, color="k", lw=1)
    left.fill_between(ends, ends - half, ends + half, color="k", alpha=0.08, lw=0)
    name = f"{about.model}, R2 {about.figures['r2']:.2f}"
    left.set(xlabel=f"measured {about.quantity}", ylabel="predicted", title=name)
    left.legend(frameon=False, fontsize="small", loc="upper left")
    near, off = fitted.similarity[exact], np.abs(found.error[exact])
    right.scatter(near, off, s=8, lw=0, alpha=0.3)
    edges = np.unique(np.quantile(near, np.linspace(0, 1, 9)))
    for low, high in pairwise(edges):
        inside = (near >= low) & (near <= high)
        right.plot([low, high], [off[inside].mean()] * 2, color="C3", lw=2)
    right.axvline(fitted.proxy.edge, color="k", lw=1, ls="--")
    right.set(
        xlabel="similarity to the nearest one that it had seen",
        ylabel="error (mean of each eighth in red)",
        title="left of the dashed line is outside the domain",
        ylim=(0, None),
    )
    return figure
