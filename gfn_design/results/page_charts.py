"""The charts and the logo of a page."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gfn_design.proxies.inputs import Inputs
from gfn_design.proxies.proxy import Proxy
from gfn_design.results import charts, sequence_plots
from gfn_design.results.cards import Cells, Wish, text_of
from gfn_design.results.charts import Chart
from gfn_design.results.drawn import Funnel
from gfn_design.results.health import Rows, series
from gfn_design.rewards.proxy_values import Predictor

if TYPE_CHECKING:
    from gfn_design.designer import Designer

MOST = 1500  # objects of a kind on the map
LEARNING = (  # columns of a log: its title, what good is, the label of its axis, where good is
    (
        "mean_score",
        "Score of what is built",
        "Good: it rises, and then levels off.",
        "mean score",
        None,
    ),
    ("D_TV", "Distance to the target", "Good: it falls towards 0.", "total variation", 0.0),
    ("hit_rate", "How often all is as wanted", "Good: it rises.", "share of samples", None),
    (
        "log_z",
        "log Z",
        "Good: it levels off, as then the sum of all rewards is known.",
        "nats",
        None,
    ),
    (
        "distinct_share",
        "Diversity",
        "Good: it stays high; near 0 it repeats itself.",
        "distinct",
        1.0,
    ),
)


def charts_of(
    rows: Rows,
    cells: Sequence[Cells],
    funnel: Funnel | None,
    predictors: Sequence[Predictor],
    wishes: Sequence[Wish],
) -> list[Chart]:
    """All charts that a run has numbers for.

    Args:
        rows: Of its log.
        cells: Of the designs.
        funnel: What they were chosen from.
        predictors: That the reward asks.
        wishes: Of the reward.
    """
    found = []
    for name, title, words, label, good in LEARNING:
        curve = series(rows, name)
        if len(curve) > 1:
            found.append(charts.curves({name: curve}, title, words, label, good))
    for predictor in predictors:
        found += _of_proxy(predictor, rows, cells, funnel, wishes)
    return found


def _of_proxy(
    predictor: Predictor,
    rows: Rows,
    cells: Sequence[Cells],
    funnel: Funnel | None,
    wishes: Sequence[Wish],
) -> list[Chart]:
    proxy, _, name, sign = predictor
    about, found = proxy.about, []
    lines = {"proxy": series(rows, name), "second model": series(rows, f"{name}_second")}
    if all(len(line) > 1 for line in lines.values()):
        way = {1: "rise", -1: "fall", 0: "move"}[sign]
        words = f"Good: both {way} together; a proxy that is gamed {way}s alone."
        found.append(charts.curves(lines, f"{name} of what is built", words, name))
    titles = [f"{name}_{use}" if use != "mean" else name for use in ("low", "mean", "high")]
    bound = next((wish.bound for wish in wishes if wish.title in titles), None)
    told = [row for row in cells if f"{name}_second" in row]
    first, second = ([float(row[x]) for row in told] for x in (name, f"{name}_second"))
    if first:
        own = next((wish.bound for wish in wishes if wish.title == name), None)
        found.append(charts.opinions(first, second, own, name, sign))
    groups: dict[str, Sequence[float]] = {"measured": about.values}
    drawn = Inputs(about.kind, funnel.texts[:: 1 + len(funnel.texts) // MOST] if funnel else [])
    if len(drawn):
        groups["drawn"] = proxy.predict(drawn.texts).mean.tolist()
    if first:
        groups["picked"] = first
        words = "Designs are where good measurements are, or beyond; predictions of these."
        found.append(charts.spread(groups, name, words, bound))
        found.append(_map(proxy, drawn.texts, cells))
    return found


def _map(proxy: Proxy, drawn: list[str], cells: Sequence[Cells]) -> Chart:
    about = proxy.about
    some = about.texts[:: 1 + len(about.texts) // MOST]
    picked = [text_of(row) for row in cells[:MOST]]
    parts = [Inputs(about.kind, texts, about.strands).counts for texts in (some, drawn, picked)]
    words = (
        "Each point is an object, alike ones lie together: designs among measured ones are known "
        "ground, those apart are new."
    )
    return charts.map_of(parts[0], parts[1], parts[2], words)


def logo_of(cells: Sequence[Cells], module: "Designer") -> str:
    """The logo of sequences, or what they change; empty for what are none."""
    environment = module.environment
    if not environment.lettered or not cells:
        return ""
    from gfn_design.results.candidates import Candidate

    texts = [text_of(row) for row in cells]
    candidates = [Candidate(i, text, 0.0, 0.0, 0.0, 1, 0.0) for i, text in enumerate(texts, 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # logomaker's own use of pandas
        ax = sequence_plots.plot_logo(candidates, module)
    return charts.embedded(charts.svg_of(ax))
