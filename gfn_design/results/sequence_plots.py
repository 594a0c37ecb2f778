"""Pictures of designed sequences: what they have in common, and how they bind on and off target."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gfn_design.environments.sequences.edits import Edits
from gfn_design.environments.sequences.letters import ALPHABETS
from gfn_design.environments.sequences.sequence import Sequence
from gfn_design.results.alignment import GAP, aligned, merged, other_strand
from gfn_design.results.candidates import Candidate
from gfn_design.results.plots import axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gfn_design.data.shown import OnOff
    from gfn_design.designer import Designer

LOGO_CANDIDATES = 100  # the best ones, which a logo is made of
CHANGED_PLACES = 30  # of a wild type, the most frequent ones, in a picture
LONGEST_WHOLE = 40  # letters; of longer wild types the changed places alone are shown


class LinedUp(NamedTuple):
    """What a logo is made of.

    Attributes:
        lines: Texts of one length, with gaps.
        title: What they are.
    """

    lines: list[str]
    title: str


def lined_up(candidates: list[Candidate], module: "Designer") -> LinedUp:
    """The best candidates one under the other, or what the data reads of them.

    Where the data reads windows, it is the best one of each candidate, on its strand; else whole
    sequences. Both strands of one design are one where they have one reward, and each is moved,
    and turned round then, to where it agrees best with the others (see `aligned`); windows of a
    motif are not, whose places are its own.
    """
    environment, data = module.environment, module.data
    texts = [c.text for c in candidates[:LOGO_CANDIDATES]]
    title = f"the {len(texts)} best candidates"
    windows = data.windows(environment, texts)
    if windows is not None:
        title = f"{windows.name} in {title}"
        if windows.in_place:
            return LinedUp(windows.words, title)
        words, strands = windows.words, windows.both_strands
        words = merged(words, environment.symbols) if strands else words
        return LinedUp(aligned(words, environment.symbols, strands), title)
    strands = _strands_alike(texts, module)
    shown = merged(texts, environment.symbols) if strands else texts
    lines = aligned(shown, environment.symbols, strands)
    how = []
    if len(shown) < len(texts):
        how.append(f"{len(texts) - len(shown)} are the other strand of another")
    if any(GAP in line for line in lines) or lines != shown:
        how.append("moved to where they agree" + (", on either strand" if strands else ""))
    return LinedUp(lines, title + (f"\n({'; '.join(how)})" if how else ""))


def _strands_alike(texts: list[str], module: "Designer") -> bool:
    """Whether both strands of DNA have one reward, where both are built and nobody is asked."""
    environment = module.environment
    if (
        module.data.asks_others
        or not isinstance(environment, Sequence)
        or environment.symbols != tuple("ACGT")
        or environment.constraints
    ):
        return False
    other = [other_strand(text, environment.symbols) for text in texts]
    both = [module.log_reward(environment.encode(strand)) for strand in (texts, other)]
    return both[0].allclose(both[1], atol=1e-4)


def plot_logo(candidates: list[Candidate], module: "Designer", ax: "Axes | None" = None) -> "Axes":
    """A sequence logo of the best candidates, lined up; of a long wild type, what was changed.

    See `lined_up` and `draw_logo`, or `draw_changes`.

    Args:
        candidates: Best first.
        module: That drew them.
        ax: Where it is drawn; None makes one of a fitting width.
    """
    environment = module.environment
    if isinstance(environment, Edits) and environment.length > LONGEST_WHOLE:
        ax = ax or axes(11.0, 3.0)
        draw_changes([c.text for c in candidates[:LOGO_CANDIDATES]], environment, ax)
        return ax
    shown = lined_up(candidates, module)
    ax = ax or axes(max(6.5, min(24.0, 0.5 * len(shown.lines[0]))), 2.5)
    draw_logo(shown, environment.symbols, ax)
    return ax


def draw_changes(texts: list[str], environment: Edits, ax: "Axes") -> None:
    """How many of some sequences have which new letter, at the places that most of them change.

    The letters of the wild type stand below, with their numbers.
    """
    import logomaker
    import pandas

    wild, symbols = environment.wild_type, environment.symbols
    letters = np.array([list(text) for text in texts])
    is_new = letters != np.array(list(wild))
    often = np.argsort(-is_new.sum(0), kind="stable")[:CHANGED_PLACES]
    places = sorted(int(place) for place in often if is_new[:, place].any())
    shares = [[100 * (is_new[:, p] & (letters[:, p] == s)).mean() for s in symbols] for p in places]
    table = pandas.DataFrame(np.array(shares).reshape(-1, len(symbols)), columns=list(symbols))
    ax.set_title(f"what the {len(texts)} best candidates change")
    ax.set_ylabel("% of them")
    ax.set_xlabel("place and letter of the wild type")
    if places:
        logomaker.Logo(table, ax=ax, color_scheme=_colours(symbols))
        labels = [f"{wild[place]}{place + 1}" for place in places]
        ax.set_xticks(range(len(places)), labels, rotation=90 if len(places) > 12 else 0)


def draw_logo(shown: LinedUp, symbols: tuple[str, ...], ax: "Axes") -> None:
    """A sequence logo, in bits over letters that are all as frequent; gaps count as nothing."""
    import logomaker
    import pandas

    letters = np.array([list(line) for line in shown.lines])
    counts = np.stack([(letters == s).sum(0) for s in symbols], axis=1)
    size, total = counts.shape[1], counts.sum(1, keepdims=True)
    frequency = (counts + 1e-9) / (total + 1e-9 * size)
    entropy = -(frequency * np.log2(frequency)).sum(1, keepdims=True)
    bits = frequency * (np.log2(size) - entropy) * total / len(letters)
    table = pandas.DataFrame(bits, columns=list(symbols))
    logomaker.Logo(table, ax=ax, color_scheme=_colours(symbols))
    every = 1 if len(bits) <= 40 else 5
    places = range(0, len(bits), every)
    ax.set_xticks(list(places), [str(i + 1) for i in places])
    ax.set(
        xlabel="position",
        ylabel=f"bits (of {np.log2(size):.3g})",
        ylim=(0, np.log2(size)),
        title=shown.title,
    )


def _colours(symbols: tuple[str, ...]) -> str:
    """What logomaker calls the colours of these letters."""
    known = {"ACGT": "classic", "ACGU": "classic", ALPHABETS["protein"]: "chemistry"}
    return known.get("".join(symbols), "skylign_protein")


def plot_on_off(found: "OnOff", ax: "Axes") -> None:
    """All words by two tables, those of the designs marked, and what is wanted of each."""
    from matplotlib.colors import LogNorm

    (on, off), words, chosen = found.names, found.words, found.chosen
    _, _, _, image = ax.hist2d(words[:, 0], words[:, 1], bins=100, norm=LogNorm(), cmap="Greys")
    ax.get_figure().colorbar(image, ax=ax, label="words")  # type: ignore[union-attr]
    label = f"best windows of {len(chosen):,} candidates"
    ax.scatter(
        chosen[:, 0], chosen[:, 1], s=14, color="crimson", alpha=0.6, lw=0, label=label, zorder=3
    )
    for line, limits in ((ax.axvline, found.limits[0]), (ax.axhline, found.limits[1])):
        for limit in limits:
            if np.isfinite(limit):
                line(limit, color="C0", lw=1, ls="--", zorder=2)
    inside = np.ones(len(chosen), dtype=bool)
    for column, (low, high) in zip(chosen.T, found.limits, strict=True):
        inside &= (column >= low) & (column <= high)
    every = np.concatenate([words, chosen])
    first, last = every.min(0), every.max(0)
    edge = 0.03 * (last - first)
    ax.set(
        xlim=(first[0] - edge[0], last[0] + edge[0]),
        ylim=(first[1] - edge[1], last[1] + edge[1]),
        xlabel=f"{on}, best window",
        ylabel=f"{off}, best window",
        title=f"{inside.sum():,} of {len(chosen):,} candidates meet both limits (dashed)",
    )
    ax.legend(loc="lower left", frameon=False, fontsize="small")
