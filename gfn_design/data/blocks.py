"""Molecules made of blocks: the QM9 and sEH tasks."""

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gfn_design.data.base import DataModule
from gfn_design.data.tasks import best_of, spell
from gfn_design.environments.base import Environment
from gfn_design.environments.molecules.chains import BLOCKS, block_smiles
from gfn_design.environments.sequences.sequence import Sequence
from gfn_design.errors import InputError
from gfn_design.rewards.reward import Reward, TableScore


class Task(NamedTuple):
    """What is fixed of a task: chains of `length` blocks, and how its reward is usually made."""

    length: int
    exponent: float
    n_modes: int


TASKS = {"qm9": Task(5, 5.0, 805), "seh": Task(6, 6.0, 34_013)}


class BlocksData(DataModule):
    """A predicted property for every chain of building blocks (Shen et al. 2023).

    R(x) = best_reward * max(y(x), minimum)^exponent / max y^exponent. Of ``qm9``, y is the
    HOMO-LUMO gap in eV that a network trained on QM9 predicts for chains of 5 out of 11 blocks; of
    ``seh`` it is the predicted binding to soluble epoxide hydrolase of chains of 6 out of 18.

    Args:
        task: ``qm9`` or ``seh``.
        exponent: The inverse temperature beta; None takes that of the task, 5 or 6.
        best_reward: The reward of the best chain.
        minimum: Smaller values count as this one, before the exponent.
        n_modes: How many of the best chains are modes; None takes that of the task: 805 (0.5 %) or
            34,013 (from the 99.9th percentile on).
    """

    def __init__(
        self,
        task: Literal["qm9", "seh"] = "qm9",
        exponent: float | None = None,
        best_reward: float = 10.0,
        minimum: float = 1e-3,
        n_modes: int | None = None,
    ) -> None:
        super().__init__()
        if task not in TASKS:
            raise InputError(f"task must be one of {', '.join(TASKS)}, got '{task}'")
        self.task, self.minimum = task, minimum
        self.exponent = TASKS[task].exponent if exponent is None else exponent
        self.n_modes = TASKS[task].n_modes if n_modes is None else n_modes
        if self.exponent <= 0 or best_reward <= 0 or minimum <= 0:
            given = f"{self.exponent}, {best_reward} and {minimum}"
            raise InputError(f"exponent, best_reward and minimum must be positive, got {given}")
        chains = len(BLOCKS[task]) ** TASKS[task].length
        if not 1 <= self.n_modes <= chains:
            raise InputError(f"n_modes must be from 1 to {chains:,}, got {self.n_modes}")
        self.best_reward = best_reward
        self._values: Tensor | None = None  # a table is read once

    def prepare_data(self) -> None:
        self.values  # noqa: B018 # finds or computes them, on one process

    @property
    def values(self) -> Tensor:
        """y of every chain by content, ``float32[blocks ** length]``."""
        if self._values is None:
            self._values = torch.from_numpy(_qm9() if self.task == "qm9" else _seh())
        return self._values

    def make_reward(self, environment: Environment) -> Reward:
        self._check(environment)
        best = max(float(self.values.max()), self.minimum)
        scale = self.best_reward / best**self.exponent
        score = TableScore(self.values, TASKS[self.task].length)
        return Reward(score, self.exponent, scale, self.minimum)

    def modes(self, environment: Environment) -> Tensor:
        self._check(environment)
        return spell(best_of(self.values, self.n_modes), environment)

    def columns(self, environment: Environment, texts: list[str]) -> dict[str, list[str]]:
        """Canonical SMILES; a chain and its reverse may have the same."""
        return {"smiles": block_smiles(texts, self.task)}

    def _check(self, environment: Environment) -> None:
        blocks, length = BLOCKS[self.task], TASKS[self.task].length
        names = tuple(block.smiles for block in blocks)
        fits = isinstance(environment, Sequence) and environment.symbols == names
        if not fits or len(environment.slot_sizes) != length or not environment.fixed_length:
            raise InputError(
                f"BlocksData with task {self.task} needs a Sequence with alphabet {self.task} and "
                f"length {length}, got {environment.describe()}"
            )


def _qm9() -> np.ndarray:
    from gfn_design.files.registry import table_scores

    return table_scores("qm9")


def _seh() -> np.ndarray:
    from gfn_design.data.seh import seh_scores

    return seh_scores()
