"""Is it learning? What a run's log and samples say, in words, and what to turn when it is not."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from gfn_design.rewards.proxy_values import Predictor

State = Literal["good", "watch", "bad"]
Rows = Sequence[Mapping[str, float]]


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        state: How it stands.
        what: Was looked at.
        words: What was found.
        remedy: What to turn; empty where nothing need be.
    """

    state: State
    what: str
    words: str
    remedy: str = ""


def series(rows: Rows, name: str) -> list[tuple[float, float]]:
    """A column of a log with the trajectories it goes with, where both are known."""
    found = [(row.get("trajectories", math.nan), row.get(name, math.nan)) for row in rows]
    return [(x, y) for x, y in found if math.isfinite(x) and math.isfinite(y)]


def findings(
    rows: Rows,
    effective: float | None,
    draws_distinct: float,
    predictors: Sequence[Predictor],
    rises: bool = True,
) -> list[Finding]:
    """All that can be said of a run.

    Args:
        rows: Of its log, each a number by name.
        effective: The share of fresh samples that they are worth, weighted as the target would
            have them; None where weights are not known.
        draws_distinct: The share of fresh draws that are distinct.
        predictors: That the reward asks.
        rises: Whether the score is what a run raises; what learns from a library does not.
    """
    found = [
        _reward(rows) if rises else None,
        _distance(rows),
        _log_z(rows) if rises else None,
        _effective(effective, draws_distinct) if rises else None,
        _distinct(draws_distinct),
        _floored(rows) if rises else None,
        *(_second(rows, predictor) for predictor in predictors),
    ]
    return [it for it in found if it is not None]


def verdict(found: Sequence[Finding]) -> tuple[State, str]:
    """One sentence on all of it."""
    bad = [it.what for it in found if it.state == "bad"]
    watch = [it.what for it in found if it.state == "watch"]
    if bad:
        return "bad", f"Not well yet: look at {_listed(bad)}."
    if watch:
        return "watch", f"It is learning, and not done: see {_listed(watch)}."
    return "good", "Yes: all that was looked at is as it should be."


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + (" and " if len(words) > 1 else "") + words[-1]


def _reward(rows: Rows) -> Finding | None:
    for name in ("mean_score", "reward"):
        curve = series(rows, name)
        if len(curve) >= 2:
            break
    else:
        return None
    first, last, best = curve[0][1], curve[-1][1], max(y for _, y in curve)
    what = "the score of what is built" if name == "mean_score" else "the reward"
    words = f"On average it went from {first:.3g} to {last:.3g}."
    lowest = min(y for _, y in curve)
    if last - first <= 0.02 * max(abs(first), best - lowest) + 1e-12:
        remedy = "Train longer, lower data.exponent, or lower model.optimiser.lr."
        return Finding("bad", what, f"{words} It does not rise.", remedy)
    if best - last > 0.2 * (best - min(first, 0.0)):
        remedy = "Lower model.optimiser.lr; a smaller step keeps what was found."
        return Finding("watch", what, f"{words} It was {best:.3g} before.", remedy)
    return Finding("good", what, words)


def _distance(rows: Rows) -> Finding | None:
    curve = series(rows, "D_TV")
    if not curve:
        return None
    first, last = curve[0][1], curve[-1][1]
    words = (
        f"Learned and wanted probabilities differ by {last:.3f} (total variation: 0 is perfect, 1 "
        f"nothing in common); in the beginning by {first:.3f}."
    )
    state: State = "good" if last < 0.2 else "watch" if last < 0.5 else "bad"
    return Finding(state, "the distance to the target", words, "Train longer." * (state != "good"))


def _log_z(rows: Rows) -> Finding | None:
    curve = series(rows, "log_z")
    if len(curve) < 4:
        return None
    last = curve[-1][1]
    before = curve[int(0.75 * (len(curve) - 1))][1]
    drift = abs(last - before)
    words = f"It is {last:.2f} nats, and moved by {drift:.2f} in the last quarter of the run."
    bound = series(rows, "log_z_bound")
    behind = bound[-1][1] - last if bound else -math.inf
    if behind > 2:
        words += f" Samples say it is at least {bound[-1][1]:.2f}."
    state: State = "good" if drift < 0.5 and behind < 2 else "watch" if drift < 2 else "bad"
    if behind > 5:
        state = "bad"
    remedy = "Train longer, or raise model.optimiser.log_z_lr." if state != "good" else ""
    return Finding(state, "log Z, the sum of all rewards", words, remedy)


def _effective(effective: float | None, distinct: float) -> Finding | None:
    if effective is None:
        return None
    effective = min(effective, distinct)  # equal samples tell nothing of the rest
    words = (
        f"Weighted as the target would have them, 100 samples are worth {_of_100(effective)} of "
        "the target's own (effective sample size)."
    )
    # Designs may be as good as can be, and in other shares than the target's: that is not bad.
    state: State = "good" if effective > 0.3 else "watch"
    if state == "watch":
        words += " Designs may be good all the same; their shares are not those of the target."
    remedy = "Train longer; or a lower data.exponent asks for less." * (state != "good")
    return Finding(state, "how near samples are to the target", words, remedy)


def _of_100(share: float) -> str:
    return f"{100 * share:.0f}" if share >= 0.005 else "fewer than 1"


def _distinct(share: float) -> Finding:
    words = f"{_of_100(share)} of 100 fresh draws are distinct."
    state: State = "good" if share > 0.5 else "watch" if share > 0.1 else "bad"
    remedy = (
        "" if state == "good" else "Lower data.exponent, or add exploration, if few is not meant."
    )
    return Finding(state, "diversity", words, remedy)


def _floored(rows: Rows) -> Finding | None:
    curve = series(rows, "floored")
    if not curve:
        return None
    share = curve[-1][1]
    words = f"{100 * share:.0f} of 100 objects of the last batches have the least reward there is."
    state: State = "good" if share < 0.2 else "watch" if share < 0.6 else "bad"
    remedy = "Ask for less at first: wider wants, a lower exponent." if state != "good" else ""
    return Finding(state, "rewards at the floor", words, remedy)


def _second(rows: Rows, predictor: Predictor) -> Finding | None:
    proxy, _, name, sign = predictor
    first, second = series(rows, name), series(rows, f"{name}_second")
    if not first or not second:
        return None
    begin, end = first[0][1] - second[0][1], first[-1][1] - second[-1][1]
    away = sign * (end - begin) if sign else abs(end) - abs(begin)
    words = (
        f"Of what is built the proxy expects {first[-1][1]:.2f}, its second model, which nothing "
        f"is designed by, {second[-1][1]:.2f}; in the beginning {first[0][1]:.2f} and "
        f"{second[0][1]:.2f}."
    )
    apart = away / proxy.about.figures["rmse"]
    state: State = "good" if apart < 0.75 else "watch" if apart < 1.5 else "bad"
    remedy = "Keep to the domain (domain: true, use: bound), or measure some of these." * (
        state != "good"
    )
    return Finding(state, f"the second opinion on {name}", words, remedy)
