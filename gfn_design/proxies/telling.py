"""What the commands `data` and `proxy` say: to a chemist or a biologist, in lines."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gfn_design.errors import InputError
from gfn_design.files.measured import Measured, counted, strand_key
from gfn_design.files.readings import unit_in
from gfn_design.proxies.comparison import Data, HeldOut, check, compared_on, held_out, verdict
from gfn_design.proxies.fit import Fitted
from gfn_design.proxies.models import Nearest

WEAK = 0.3  # R2, below which a proxy is hardly one to design by
WIDE = 3.0  # powers of ten, from which on numbers are better learned as logarithms


def about_table(measured: Measured, data: Data, aside: Path) -> list[str]:
    """What is in a table, and what was done to it."""
    rows, values = measured.rows, data.values[data.limits == 0]
    what = "molecules" if measured.kind == "molecules" else f"sequences ({measured.kind})"
    lines = [f"{measured.n_rows:,} rows: {len(rows):,} distinct {what} with a measurement"]
    lines += [f"  {note}" for note in measured.notes]
    if measured.aside:
        why = Counter(_kind_of(row.reason) for row in measured.aside)
        reasons = ", ".join(f"{reason} ({n:,})" for reason, n in why.most_common(4))
        more = ", ..." if len(why) > 4 else ""
        lines.append(f"  {counted(len(measured.aside), 'are set aside')}: {reasons}{more}")
        lines.append(f"  all of them, with line, reason and remedy: {aside}")
    if (words := _words(measured, data.inputs.strands)) is not None:
        lines.append(f"  {words}")
    if len(values):
        low, middle, high = np.quantile(values, [0, 0.5, 1])
        lines.append(f"{measured.quantity}: {low:.4g} to {high:.4g}, median {middle:.4g}")
        if low <= 0 < high and (unit := unit_in(measured.quantity)):
            lines.append(f"  some are not positive, though they are {unit}: learn from --to pIC50,")
            lines.append("  which sets these aside, if they are concentrations")
        if low > 0 and np.log10(high / low) > WIDE:
            lines.append(
                f"  these span {np.log10(high / low):.1f} powers of ten: learn from logarithms, as "
                "--to pIC50 (of molar numbers) or --to log10"
            )
    groups = Counter(data.groups)
    kind = "scaffolds" if measured.kind == "molecules" else "clusters"
    share = 100 * max(groups.values()) / len(rows)
    lines.append(f"{len(groups):,} {kind}, the largest has {share:.0f} % of them")
    return lines


def _kind_of(reason: str) -> str:
    """A reason without what is particular to a row."""
    return reason.split(":")[0]


def _words(measured: Measured, strands: str) -> str | None:
    """How much of all words is measured, if the table is one of words of DNA."""
    texts = measured.texts
    length = len(texts[0])
    if measured.kind != "DNA" or length > 12 or any(len(text) != length for text in texts):
        return None
    both = strands == "both"
    own = 4**length
    palindromes = 4 ** (length // 2) if length % 2 == 0 else 0
    there = len({strand_key(text) for text in texts}) if both else len(set(texts))
    total = (own + palindromes) // 2 if both else own
    if there < total / 2:
        return None
    what = "pairs of strands" if both else "words"
    return f"{100 * there / total:.1f} % of all {length}-mers are measured, of {total:,} {what}"


def can_be_tested(data: Data) -> bool:
    """Whether there is enough for a model to be tested on."""
    try:
        check(compared_on(data))
    except InputError:
        return False
    return True


def learnable(data: Data) -> str:
    """Whether there is anything to learn, by the nearest neighbours of held-out groups."""
    some = compared_on(data)
    kind = "scaffolds" if data.inputs.kind == "molecules" else "clusters"
    try:
        check(some)
    except InputError as error:
        return f"Can a model learn this? It cannot be tested: {error}"
    r2 = held_out(Nearest, some).r2(some.values)
    hint = "" if r2 >= 0.1 else "; other models may do better: gfn-design proxy compares them"
    return (
        f"Can a model learn this? The nearest neighbours explain {max(100 * r2, 0):.0f} % of the "
        f"variance on held-out {kind} (R2 {r2:.2f}): {verdict(r2)}{hint}"
    )


def of_model(name: str, found: HeldOut, some: Data) -> str:
    """One line of the comparison."""
    rmse = float(np.sqrt(np.mean(found.error**2)))
    return f"  {name:20} R2 {found.r2(some.values):6.3f}   error {rmse:.3f}"


def about_proxy(fitted: Fitted) -> list[str]:
    """What was taken, and how far it can be trusted."""
    about, it = fitted.proxy.about, fitted.proxy.about.figures
    kind = "scaffolds" if about.kind == "molecules" else "clusters"
    calibration = fitted.proxy.calibration
    exact = fitted.chosen.exact
    half = calibration.half_width(fitted.chosen.guess.spread[exact])
    why = "the simplest within one standard error of the best"
    if not it["beats_mean"]:
        why = "the best, though the mean is within one standard error of it,"
    lines = [
        f"taken: {about.model}, {why} on held-out {kind}: R2 {it['r2']:.2f}, error "
        f"{it['rmse']:.2f} beside {it['mean_rmse']:.2f} of the mean",
        f"80 % intervals are about +-{np.median(half):.2f} wide on each side; calibrated on other "
        f"{kind}, they held {100 * it['coverage']:.0f} % of the measurements",
        f"domain: similarity of {fitted.proxy.edge:.2f} to a measured one, as nine of ten held-out "
        "ones have to the others",
        f"second opinion: {about.second} on other features (R2 {it['second_r2']:.2f}); it is never "
        "designed by",
    ]
    if it["r2"] < WEAK:
        lines.append(
            f"this is weak (R2 below {WEAK:g}): expect little of what is designed by it, or "
            "measure more"
        )
    worst = np.argsort(-np.abs(np.where(exact, fitted.chosen.error, 0)))[:3]
    lines.append("farthest off: " + "; ".join(_told(fitted, int(i)) for i in worst))
    return lines


def _told(fitted: Fitted, i: int) -> str:
    about, some = fitted.proxy.about, fitted.compared
    text = some.inputs.texts[i]
    name = about.names[about.texts.index(text)]
    shown = name if len(name) <= 30 else name[:27] + "..."
    guess = fitted.chosen.guess.mean[i]
    return f"{shown} (measured {some.values[i]:.2f}, predicted {guess:.2f})"


def held_out_table(fitted: Fitted) -> dict[str, Sequence[str]]:
    """What the chosen model said of held-out objects, as columns of a file."""
    about, some, found = fitted.proxy.about, fitted.compared, fitted.chosen
    half = fitted.proxy.calibration.half_width(found.guess.spread)
    mean, names = found.guess.mean, dict(zip(about.texts, about.names, strict=True))
    limit = {-1: "<", 0: "", 1: ">"}

    def written(numbers: np.ndarray) -> list[str]:
        return [f"{x:.4g}" for x in numbers]

    return {
        "name": [names[text] for text in some.inputs.texts],
        "smiles" if about.kind == "molecules" else "sequence": some.inputs.texts,
        f"measured {about.quantity}": written(some.values),
        "limit": [limit[int(x)] for x in some.limits],
        "predicted": written(mean),
        "low": written(mean - half),
        "high": written(mean + half),
        "similarity": written(fitted.similarity),
        "group": some.groups,
        "fold": [str(k + 1) for k in found.fold],
    }
