"""A library of objects, such as known molecules, for a policy to learn what they look like."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from gfn_design.data.base import DataModule
from gfn_design.data.known import read_known
from gfn_design.environments.base import Environment, written
from gfn_design.errors import InputError
from gfn_design.metrics.evenly import evenly_drawn
from gfn_design.metrics.library import compared
from gfn_design.rewards.reward import Reward

SHARE = 10  # one of so many objects is held out
DRAWN = 2048  # objects that are compared with them in an evaluation


class LibraryData(DataModule):
    """Objects to learn from by `MaximumLikelihood`, as often as they occur; a tenth is held out.

    That is every tenth distinct one, with all its repeats; if there are fewer than twenty of them,
    every tenth row.

    An evaluation says of samples which share is valid, distinct and not in the library (`valid`,
    `unique`, `novel`), and of molecules `diversity`, 1 minus the mean similarity of pairs, and
    `nearest_held_out`, the mean similarity to the nearest one that was held out, beside those of
    the library itself.

    Args:
        file: A table with a column of SMILES or sequences, SMILES, FASTA, or one on each line.
        most: So many of its objects are taken, evenly; None takes all.
    """

    def __init__(self, file: str, most: int | None = None) -> None:
        super().__init__()
        if most is not None and most < SHARE:
            raise InputError(f"most must be at least {SHARE}, got {most}")
        self.file, self.most = file, most
        self._read: tuple[str, Tensor, Tensor] | None = None
        self._aside = 0

    def prepare_data(self) -> None:
        if not Path(self.file).is_file():
            raise InputError(f"{self.file}: no such file of objects")

    def make_reward(self, environment: Environment) -> Reward:
        return Reward(_Even())

    def library(self, environment: Environment) -> Tensor:
        """What is learned from, ``int64[n, *state_shape]``.

        Raises:
            InputError: The file cannot be read, or too few of its objects can be built.
        """
        return self._parts(environment)[0]

    def kept_back(self, environment: Environment) -> Tensor:
        """What is held out."""
        return self._parts(environment)[1]

    def _parts(self, environment: Environment) -> tuple[Tensor, Tensor]:
        if self._read is None or self._read[0] != environment.describe():
            objects, aside = read_known(environment, Path(self.file), self.most)
            self._aside = len(aside)
            if len(objects) < 2 * SHARE:
                raise InputError(
                    f"{self.file}: {len(objects)} of its objects can be built, which are too few "
                    f"to learn from; it takes {2 * SHARE}"
                )
            held = _every_tenth(written(environment)(objects))
            self._read = environment.describe(), objects[~held], objects[held]
        return self._read[1], self._read[2]

    def remarks(self) -> list[str]:
        if self._read is None:
            return []
        _, own, held = self._read
        aside = f", {self._aside:,} cannot be built" if self._aside else ""
        return [f"{len(own):,} objects of {self.file} to learn from, {len(held):,} held out{aside}"]

    def measure(
        self, environment: Environment, objects: Tensor, probability: Tensor, wanted: Tensor | None
    ) -> dict[str, float]:
        own, held = self._parts(environment)
        rows = evenly_drawn(probability, DRAWN).to(objects.device)
        return compared(environment, objects[rows], own, held)


def _every_tenth(texts: Sequence[str]) -> Tensor:
    """What is held out, ``bool[n]``."""
    nth = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    few = len(nth) < 2 * SHARE
    return torch.tensor([(i if few else nth[x]) % SHARE == SHARE - 1 for i, x in enumerate(texts)])


class _Even(nn.Module):
    """All objects are as good."""

    def forward(self, objects: Tensor) -> Tensor:
        return torch.ones(len(objects), device=objects.device)
