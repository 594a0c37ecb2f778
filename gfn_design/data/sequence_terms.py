"""One thing that is wanted of sequences: what is read of them, and how good that is."""

import math
from collections.abc import Callable
from collections.abc import Sequence as Numbers
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from gfn_design.environments.sequences.edits import Edits
from gfn_design.environments.sequences.letters import Letters
from gfn_design.environments.sequences.sequence import Sequence
from gfn_design.errors import InputError
from gfn_design.rewards.desirability import desirability
from gfn_design.rewards.jaspar import motif_of
from gfn_design.rewards.motif_window import UNITS, MotifWindow
from gfn_design.rewards.mutant_tables import read_mutants
from gfn_design.rewards.mutants import Bent, MutantValue, fit_mutants
from gfn_design.rewards.proxy_values import Use, column_of, quantity_of, use_of
from gfn_design.rewards.sequence_score import Asked, Length, Share
from gfn_design.rewards.sources import name_of
from gfn_design.rewards.windows import BestWindow, MeanWindow, TableWindow

PROPERTIES = ("GC", "length")
KINDS = ("table", "factor", "property", "mutants", "function", "command", "proxy")
BELONGS = {  # options, what they are if nobody says, and the kinds that know them
    "strands": ("both", ("table", "factor")),
    "of": ("best", ("table", "factor")),
    "score": (None, ("table", "mutants")),
    "units": ("relative", ("factor",)),
    "first": (1, ("mutants",)),
    "use": ("bound", ("proxy",)),
    "domain": (True, ("proxy",)),
}


@dataclass(frozen=True)
class SequenceTerm:
    """One thing that is wanted of sequences, and its ramp.

    Args:
        table: The best window by a measured table of k-mers: a data set known by name (``six6``),
            or a file. A table of DNA that lists one strand, or lacks a few k-mers, is completed.
        factor: The best window by a motif: of JASPAR (``FOXA1``, ``MA0148.5``), or a file.
        property: ``GC``, the share of G and C; or ``length``.
        mutants: What a model says that is fitted to measured mutants of the wild type: effects of
            substitutions that add up, and a curve that bends their sum. A data set known by name
            (``gfp``), or a file with rows as ``A108D:N144D`` or whole sequences, and a number.
        function: A function from a list of sequences to one number each.
        command: A program that reads sequences, one a line, and writes numbers.
        proxy: The file of a model of measurements, which `gfn-design proxy` wrote.
        use: Of a proxy: ``bound``, the cautious end of the interval that holds 80 of 100
            measurements; its ``low``, ``mean`` or ``high``; or ``similarity`` to the nearest
            measured sequence.
        domain: Of a proxy: also want sequences similar enough to measured ones for it to be asked.
        want: Such as ``>= 0.45``, ``<= 0.3``, ``0.4..0.6``, ``>= 0.4 within 0.05``,
            ``maximise 0..0.5``.
        strands: ``both`` reads the other strand as well, ``given`` does not.
        of: ``best`` takes the best window of a table or a motif, ``mean`` the mean over all.
        units: Of a motif: ``relative``, from the worst (0) to the best word (1) of its matrix;
            ``bits``, its log-odds; ``p``, -log10 of the share of random words that are as good.
        score: The column of numbers of a table; None takes the E-score, or the only number.
        first: The number that a file of mutants gives the first letter of the wild type.
        weight: In the mean over all terms.
        name: Of the term in files; None takes that of the table, the factor, the property, ...
    """

    table: str | None = None
    factor: str | None = None
    property: str | None = None
    mutants: str | None = None
    function: Callable[[list[str]], Numbers[float]] | None = None
    command: str | None = None
    proxy: str | None = None
    use: Use = "bound"
    domain: bool = True
    want: str = "maximise 0..1"
    strands: Literal["both", "given"] = "both"
    of: Literal["best", "mean"] = "best"
    units: Literal["relative", "bits", "p"] = "relative"
    score: str | None = None
    first: int = 1
    weight: float = 1.0
    name: str | None = None

    def __post_init__(self) -> None:
        kinds = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise InputError(
                f"a term of sequences needs one of {', '.join(KINDS[:-1])} and {KINDS[-1]}"
            )
        if self.property is not None and self.property not in PROPERTIES:
            known = " and ".join(PROPERTIES)
            raise InputError(f"'{self.property}' is no property of sequences; there are {known}")
        for option, allowed in (("strands", ("both", "given")), ("of", ("best", "mean"))):
            if getattr(self, option) not in allowed:
                given = getattr(self, option)
                raise InputError(f"{option} must be {' or '.join(allowed)}, got '{given}'")
        if self.units not in UNITS:
            raise InputError(f"units must be one of {', '.join(UNITS)}, got '{self.units}'")
        for option, (usual, known_of) in BELONGS.items():
            if getattr(self, option) != usual and kinds[0] not in known_of:
                raise InputError(
                    f"'{option}' goes with {' or '.join(known_of)}, not with {self.title()}"
                )
        if not (self.weight > 0 and math.isfinite(self.weight)):
            raise InputError(f"the weight of {self.title()} must be positive, got {self.weight}")
        try:
            desirability(self.want)
        except InputError as error:
            raise InputError(f"want of {self.title()}: {error}") from error

    def title(self) -> str:
        """What the term is called."""
        if self.name is not None:
            return self.name
        if (file := self.table or self.mutants) is not None:
            return Path(file).name.split(".")[0]
        if self.function is not None:
            return name_of(self.function).rpartition(":")[2].rpartition(".")[2]
        if self.command is not None:
            return self.command.split()[0]
        if self.proxy is not None:
            return column_of(quantity_of(self.proxy), use_of(self.use, self.want))
        return str(self.factor or self.property)

    def wanted(self) -> str:
        """What is wanted, in words."""
        return self.want


def value_of(
    term: SequenceTerm, environment: Sequence | Edits, asked: Asked | None
) -> tuple[nn.Module, str]:
    """What a term reads of sequences, and a remark on where it is from, which may be empty.

    Args:
        term: One thing that is wanted.
        environment: Whose letters are read.
        asked: Whoever is asked, if somebody is.

    Raises:
        InputError: The term is about other sequences.
    """
    if asked is not None:
        return asked, ""
    nucleic, here = environment.letters.is_nucleic, environment.describe()
    if term.property is not None:
        if term.property == "GC" and not nucleic:
            raise InputError(f"GC is about DNA and RNA, got {here}")
        return (Share if term.property == "GC" else Length)(environment), ""
    if term.mutants is not None:
        return _mutants(term, environment)
    if term.factor is not None:
        if not nucleic:
            raise InputError(f"motifs are about DNA and RNA, got {here}")
        motif = motif_of(term.factor)
        window: BestWindow = MotifWindow(motif, term.strands == "both", term.units)
        remark = motif.remark
    else:
        window, remark = _table(term, environment)
    if window.width > environment.min_length:
        raise InputError(
            f"{term.title()}: windows have {window.width} letters, and the shortest sequence "
            f"{environment.min_length}; make sequences longer"
        )
    return (MeanWindow(window) if term.of == "mean" else window), remark


def _mutants(term: SequenceTerm, environment: Sequence | Edits) -> tuple[MutantValue, str]:
    from gfn_design.files.registry import MUTANT_SOURCES

    assert term.mutants is not None
    if not isinstance(environment, Edits):
        raise InputError(
            f"{term.title()}: mutants are of a wild type; take the environment Edits, got "
            f"{environment.describe()}"
        )
    source = MUTANT_SOURCES.get(term.mutants)
    first, column = (source.first, source.column) if source else (term.first, None)
    if source and term.first != 1:
        raise InputError(f"{term.mutants}: how it is numbered is known; leave out first")
    path = path_of(term)
    given = environment.wild_type, environment.letters, first, term.score or column
    model, n, n_aside = _fitted(path, path.stat().st_mtime, *given)
    choices = environment.choices.cpu()
    aside = f" ({n_aside:,} rows are no substitutions)" if n_aside else ""
    return MutantValue(model), (
        f"{term.title()}: fitted to {n:,} mutants{aside}; explains "
        f"{100 * model.explained:.0f} % of the variance of mutants set aside; "
        f"{int((choices & ~model.seen).sum()):,} of {int(choices.sum()):,} substitutions were "
        "never measured, and count as the mean at their place"
    )


@lru_cache(maxsize=4)  # it takes seconds, and a run asks several times
def _fitted(
    path: Path, _changed: float, wild_type: str, letters: Letters, first: int, column: str | None
) -> tuple[Bent, int, int]:
    """A model of the mutants in a file, how many there were, and how many were set aside."""
    mutants = read_mutants(path, wild_type, letters, first, column)
    wild = torch.tensor([letters.symbols.index(letter) for letter in wild_type])
    try:
        model = fit_mutants(mutants, wild, len(letters.symbols))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return model, len(mutants.values), mutants.aside


def _table(term: SequenceTerm, environment: Sequence | Edits) -> tuple[BestWindow, str]:
    from gfn_design.files.completed_tables import completed_scores
    from gfn_design.files.registry import SOURCES

    assert term.table is not None
    path, alphabet = path_of(term), "".join(environment.symbols).replace("U", "T")
    column = SOURCES[term.table].column if term.table in SOURCES else None
    pairs = environment.letters.is_nucleic
    scores, added = completed_scores(path, alphabet, term.score or column, pairs)
    return TableWindow(scores, len(alphabet), pairs and term.strands == "both"), added


def path_of(term: SequenceTerm) -> Path:
    """The file of a table or of mutants, downloaded if it is a data set known by name.

    Raises:
        InputError: There is none.
    """
    from gfn_design.files.registry import MUTANT_SOURCES, SOURCES, locate

    name = str(term.table or term.mutants)
    known = [*MUTANT_SOURCES]
    if term.table is not None:
        known = [name for name, source in SOURCES.items() if source.holds == "E-scores"]
    if name in known:
        return locate(name)
    if not Path(name).is_file():
        raise InputError(
            f"{name}: no such file, and no data set of that name "
            f"({', '.join(known[:8])}{', ...' if len(known) > 8 else ''})"
        )
    return Path(name)
