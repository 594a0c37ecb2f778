"""The tasks: a hypergrid, tables of k-mers, and motifs."""

from math import ceil, log
from pathlib import Path

import torch
from torch import Tensor

from gfn_design.data.base import DataModule, check_one_length
from gfn_design.environments.base import Environment
from gfn_design.environments.hypergrid import Hypergrid
from gfn_design.environments.sequences.sequence import Sequence
from gfn_design.errors import InputError
from gfn_design.rewards.jaspar import Motif, motif_of
from gfn_design.rewards.motif import MotifScore
from gfn_design.rewards.reward import HypergridScore, Reward, TableScore


class HypergridData(DataModule):
    """The reward of Bengio et al. (2021) on a hypergrid; its modes are the cells with R2.

    Args:
        r0: Reward everywhere; the smaller, the harder to find the modes.
        r1: Added in the outer quarters.
        r2: Added in the modes.
    """

    def __init__(self, r0: float = 0.01, r1: float = 0.5, r2: float = 2.0) -> None:
        super().__init__()
        if not r0 > 0 or r1 < 0 or r2 < 0:
            raise InputError(f"rewards must be positive, got r0={r0}, r1={r1}, r2={r2}")
        self.r0, self.r1, self.r2 = r0, r1, r2

    def make_reward(self, environment: Environment) -> Reward:
        return Reward(self._score(environment))

    def modes(self, environment: Environment) -> Tensor:
        score, height = self._score(environment), environment.slot_sizes[0]
        line = torch.arange(height)
        axis = line[score.regions(line[:, None])[1]]  # the region is a product of its axes
        return torch.cartesian_prod(*[axis] * len(environment.slot_sizes)).view(
            -1, len(environment.slot_sizes)
        )

    def _score(self, environment: Environment) -> HypergridScore:
        if not isinstance(environment, Hypergrid):
            raise InputError(f"HypergridData needs a Hypergrid, got {environment.describe()}")
        return HypergridScore(environment.height, self.r0, self.r1, self.r2)


class KmerData(DataModule):
    """A measured score for every sequence of one length, such as DNA binding.

    R(x) = best_reward * y(x)^exponent / max y^exponent, y being the score after normalising and
    clipping. The defaults are the SIX6 task of the paper.

    Args:
        table: A data set known by name (``six6``, ``pax6``, ...), or a file of one's own: parquet,
            CSV or TSV with a column of sequences and a column of scores.
        score: Name of the column of scores; None takes the E-score, or the only number there is.
        normalise: Shift and scale the scores to [0, 1].
        exponent: The inverse temperature beta; larger prefers the best sequences more.
        best_reward: The reward of the best sequence.
        minimum: Smaller scores count as this one, before the exponent; None means 0.001 if
            normalised, else that every score must be positive.
        maximum: Larger scores count as this one; None clips nothing.
        n_modes: How many modes: best first, each two letters or more from those before.
    """

    holds = "E-scores"  # what the tables known by name are about

    def __init__(
        self,
        table: str = "six6",
        score: str | None = None,
        normalise: bool = True,
        exponent: float = 3.0,
        best_reward: float = 10.0,
        minimum: float | None = None,
        maximum: float | None = None,
        n_modes: int | None = None,
    ) -> None:
        super().__init__()
        if exponent <= 0 or best_reward <= 0:
            given = f"{exponent} and {best_reward}"
            raise InputError(f"exponent and best_reward must be positive, got {given}")
        self.table, self.score, self.normalise = table, score, normalise
        self.exponent, self.best_reward, self.n_modes = exponent, best_reward, n_modes
        self.minimum = 1e-3 if minimum is None and normalise else minimum
        self.maximum = maximum
        self._scores: tuple[str, Tensor] | None = None  # of one environment: a table is read once

    @property
    def path(self) -> Path:
        """The table's file; a table known by name is downloaded when it is not at hand."""
        from gfn_design.files.registry import SOURCES, locate

        known = [name for name, source in SOURCES.items() if source.holds == self.holds]
        if self.table in known:
            return locate(self.table)
        if not Path(self.table).is_file():
            if self.table in SOURCES:
                holds = SOURCES[self.table].holds
                raise InputError(f"{self.table}: is a table of {holds}, expected {self.holds}")
            names = ", ".join(known)
            raise InputError(f"{self.table}: no such file, and no table of that name ({names})")
        return Path(self.table)

    def prepare_data(self) -> None:
        self.path  # noqa: B018 # finds or downloads it, on one process

    def scores(self, environment: Environment) -> Tensor:
        """Scores y of every sequence by content, ``float32[V ** length]``, before clipping."""
        if self._scores is None or self._scores[0] != environment.describe():
            self._scores = environment.describe(), self._read(environment)
        return self._scores[1]

    def _read(self, environment: Environment) -> Tensor:
        from gfn_design.files.kmer_tables import kmer_scores
        from gfn_design.files.registry import SOURCES

        name = type(self).__name__
        if not isinstance(environment, Sequence) or environment.separator:
            raise InputError(f"{name} needs sequences of letters, got {environment.describe()}")
        check_one_length(name, environment)
        path, alphabet = self.path, "".join(environment.symbols)
        column = SOURCES[self.table].column if self.table in SOURCES else None
        raw = torch.from_numpy(kmer_scores(path, alphabet, self.score or column))
        if len(raw) != len(alphabet) ** environment.length:
            length = round(log(len(raw)) / log(len(alphabet)))
            raise InputError(
                f"{path}: has sequences of length {length}, but the environment builds length "
                f"{environment.length}; set its length to {length}"
            )
        if self.normalise and raw.min() == raw.max():
            raise InputError(f"{path}: every score is {raw[0].item():g}; nothing to prefer")
        return self._shaped(raw, environment)

    def _shaped(self, raw: Tensor, environment: Sequence) -> Tensor:
        """What the exponent is applied to, of numbers as the table has them."""
        if self.normalise:
            return (raw - raw.min()) / (raw.max() - raw.min())
        if self.minimum is None and raw.min() <= 0:
            worst = environment.decode(spell(raw.argmin()[None], environment))[0]
            raise InputError(
                f"{self.path}: the score of {worst} is {raw.min().item():g}, but a reward must be "
                "positive; set minimum, or normalise: true"
            )
        return raw

    def make_reward(self, environment: Environment) -> Reward:
        scores = self.scores(environment)
        best = max(float(scores.max()), self.minimum or 0.0)
        score = TableScore(scores, len(environment.slot_sizes))
        best = min(best, self.maximum or best)
        scale = self.best_reward / best**self.exponent
        return Reward(score, self.exponent, scale, self.minimum, self.maximum)

    def modes(self, environment: Environment) -> Tensor | None:
        from gfn_design.files.kmer_tables import diverse_modes

        scores, length = self.scores(environment), len(environment.slot_sizes)
        count = self.n_modes if self.n_modes is not None else ceil(0.005 * len(scores))
        best = diverse_modes(scores.numpy(), count, environment.slot_sizes[0], length)
        return spell(torch.as_tensor(best), environment)


def best_of(scores: Tensor, count: int) -> Tensor:
    """Where the largest scores are, best first, equal ones by rising place: ``int64[count]``."""
    least = scores.topk(count).values[-1]
    places = (scores >= least).nonzero().squeeze(1)
    return places[scores[places].argsort(descending=True, stable=True)[:count]]


def spell(contents: Tensor, environment: Environment) -> Tensor:
    """Sequences by their numbers in a table: ``int64[n]`` to ``int64[n, length]``."""
    size, length = environment.slot_sizes[0], len(environment.slot_sizes)
    places = torch.tensor([size**j for j in reversed(range(length))])
    return contents[:, None] // places % size


class MotifData(DataModule):
    """Binding sites of a transcription factor, from its position frequency matrix.

    R(x) = scale * max(occupancy(x), minimum)^exponent, the occupancy of the best possible site
    being 1.

    Args:
        factor: Name or matrix of the factor in JASPAR 2026, for example FOXA1 or MA0148.5, or a
            file with a motif in the text of JASPAR, MEME, HOMER or TRANSFAC.
        exponent: The inverse temperature beta.
        scale: Factor of every reward.
        minimum: Smaller occupancies count as this one.
        maximum: Larger occupancies count as this one; None clips nothing.
        both_strands: Also read the reverse complement.
    """

    def __init__(
        self,
        factor: str = "FOXA1",
        exponent: float = 1.0,
        scale: float = 1.0,
        minimum: float = 1e-6,
        maximum: float | None = None,
        both_strands: bool = True,
    ) -> None:
        super().__init__()
        self.motif: Motif = motif_of(factor)
        self.exponent, self.scale, self.both_strands = exponent, scale, both_strands
        self.minimum, self.maximum = minimum, maximum

    def remarks(self) -> list[str]:
        return [self.motif.remark]

    def make_reward(self, environment: Environment) -> Reward:
        if not isinstance(environment, Sequence) or environment.symbols != tuple("ACGT"):
            raise InputError(f"MotifData needs DNA sequences, got {environment.describe()}")
        check_one_length("MotifData", environment)
        score = MotifScore(self.motif, environment.length, self.both_strands)
        return Reward(score, self.exponent, self.scale, self.minimum, self.maximum)
