"""Binding energies of DNA sequences: PHO4 and CBF1."""

import torch
from torch import Tensor

from gfn_design.data.tasks import KmerData, best_of, spell
from gfn_design.environments.base import Environment
from gfn_design.environments.sequences.sequence import Sequence
from gfn_design.errors import InputError
from gfn_design.files.registry import SOURCES

BOX = "CACGTG"  # between the two halves of a sequence of PHO4 and CBF1, in every site


class EnergyData(KmerData):
    """A binding energy for every sequence of one length; the lowest binds most tightly.

    R(x) = best_reward * s(x)^exponent / max s^exponent, s(x) = 1 / (1 + exp(-steepness y(x))), and
    y = -ddG, so that tight binding is rewarded. The defaults are the PHO4 task of Shen et al.
    (2023), but for the sign: they take y = +ddG, which `weakest_best` does.

    Args:
        table: ``pho4`` or ``cbf1``, or a file of one's own: parquet, CSV or TSV with a column of
            sequences and a column of energies.
        score: Name of the column of energies; None takes that of the table, or the only number
            there is.
        steepness: How fast s grows, for each unit of energy (kcal/mol in PHO4 and CBF1).
        weakest_best: Reward weak binding instead.
        exponent: The inverse temperature beta; larger prefers the best sequences more.
        best_reward: The reward of the best sequence.
        n_modes: How many of the best sequences are modes; None takes 0.5 %, rounded down.
    """

    holds = "energies"

    def __init__(
        self,
        table: str = "pho4",
        score: str | None = None,
        steepness: float = 3.0,
        weakest_best: bool = False,
        exponent: float = 3.0,
        best_reward: float = 10.0,
        n_modes: int | None = None,
    ) -> None:
        super().__init__(
            table,
            score,
            normalise=False,
            exponent=exponent,
            best_reward=best_reward,
            n_modes=n_modes,
        )
        if not steepness > 0:
            raise InputError(
                f"steepness must be positive, got {steepness}; weakest_best turns the sign"
            )
        if n_modes is not None and n_modes < 1:
            raise InputError(f"n_modes must be at least 1, got {n_modes}")
        self.slope = steepness if weakest_best else -steepness

    def _shaped(self, raw: Tensor, environment: Sequence) -> Tensor:
        return (self.slope * raw).sigmoid()

    def modes(self, environment: Environment) -> Tensor:
        scores = self.scores(environment)
        count = max(1, int(0.005 * len(scores))) if self.n_modes is None else self.n_modes
        return spell(best_of(scores, min(count, len(scores))), environment)

    def columns(self, environment: Environment, texts: list[str]) -> dict[str, list[str]]:
        """The energy, and for the tables known by name the site with the E-box inside."""
        objects = environment.encode(texts).to(self._device)
        energy = torch.logit(self.reward.score(objects)) / self.slope
        columns = {"ddg": [f"{value:z.4f}" for value in energy.tolist()]}
        if self.table in SOURCES:
            columns["site"] = [f"{text[:5]}{BOX}{text[5:]}" for text in texts]
        return columns
