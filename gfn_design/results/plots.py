"""The pictures of a run."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gfn_design.evaluation.evaluate import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MAX_IN_LEGEND = 8  # more methods than that have their names beside the picture
DASHES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))


def axes(width: float = 5.0, height: float = 4.0) -> "Axes":
    """One empty picture, drawn without a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    return figure.subplots()


def save(ax: "Axes", path: Path) -> Path:
    """Write the picture of `ax` to `path`."""
    figure = ax.get_figure()
    assert figure is not None
    figure.savefig(path)  # type: ignore[union-attr]
    return path


def plot_distribution(evaluation: Evaluation, ax: "Axes") -> None:
    """The exact probability of every object against the one it should have."""
    from matplotlib.colors import LogNorm

    assert evaluation.target is not None
    assert evaluation.probability is not None
    wanted = evaluation.target.probability.numpy()
    learned = evaluation.probability.clamp(min=1e-300).numpy()
    low = max(min(np.quantile(wanted, 0.001), np.quantile(learned, 0.001)) / 2, 1e-12)
    limits = np.log10([low, max(wanted.max(), learned.max()) * 1.5])
    if len(wanted) > 2000:
        _, _, _, image = ax.hist2d(
            np.log10(wanted).clip(*limits),
            np.log10(learned).clip(*limits),
            bins=120,
            range=[limits, limits],
            norm=LogNorm(),
            cmap="viridis",
        )
        ax.get_figure().colorbar(image, ax=ax, label="objects")  # type: ignore[union-attr]
    else:
        ax.scatter(np.log10(wanted), np.log10(learned).clip(*limits), s=8, alpha=0.5, lw=0)
    ax.plot(limits, limits, color="crimson", lw=1, label="learned = target")
    ax.set(
        xlim=limits,
        ylim=limits,
        xlabel="target probability, log10",
        ylabel="learned probability, log10",
        title=f"{len(wanted):,} objects, D_TV {evaluation.metrics['D_TV']:.3f}",
    )
    ax.set_aspect("equal")
    ax.legend(loc="upper left", frameon=False)


def plot_curve(log: Path, ax: "Axes") -> bool:
    """D_TV, or else the mean score or reward, against sampled trajectories; False without any.

    Where rewards are too large for a float, their mean logarithm stands in.
    """
    if not log.exists():  # a run too short for a row
        return False
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    estimated = any(row.get("D_TV_error") for row in rows)
    for name, label in (
        ("D_TV", "D_TV, by samples of the exact target" if estimated else "exact D_TV"),
        ("mean_score", "mean score of samples"),
        ("reward", "mean reward of a batch"),
        ("log_reward", "mean log R of a batch"),
    ):
        points = [(float(r["trajectories"]), float(r[name])) for r in rows if r.get(name)]
        if points and np.isfinite(points).all():
            x, y = zip(*points, strict=True)
            ax.plot(x, y, marker="." if len(x) < 50 else None)
            ax.set(xlabel="trajectories", ylabel=label)
            if name != "log_reward":
                ax.set_ylim(bottom=0)
            ax.grid(alpha=0.3)
            ax.locator_params(axis="x", nbins=5)
            ax.xaxis.set_major_formatter("{x:,.0f}")
            return True
    return False


def plot_comparison(curves: dict[str, tuple[list[int], list[list[float]]]], ax: "Axes") -> None:
    """The mean of several runs by each method, in a band from the least to the largest.

    Names that differ in what follows their last hyphen, as TB-U and TB-B do, share a colour.

    Args:
        curves: Method -> trajectories, and for each run its numbers there.
        ax: Where.
    """
    many = len(curves) > MAX_IN_LEGEND
    families: dict[str, int] = {}  # first part of a name -> how many there were
    for method, (x, runs) in curves.items():
        family = method.rpartition("-")[0] or method
        dash = DASHES[families.setdefault(family, 0) % len(DASHES)]
        families[family] += 1
        colour = f"C{list(families).index(family) % 10}"
        y = np.array(runs)
        ax.plot(x, y.mean(0), label=method, color=colour, ls=dash)
        ax.fill_between(x, y.min(0), y.max(0), color=colour, alpha=0.1 if many else 0.2, lw=0)
    ax.set(xlabel="trajectories")
    ax.grid(alpha=0.3)
    ax.locator_params(axis="x", nbins=5)
    ax.xaxis.set_major_formatter("{x:,.0f}")
    if many:
        ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    else:
        ax.legend(frameon=False)
