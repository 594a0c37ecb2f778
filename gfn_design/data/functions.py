"""Rewards of one's own: a function, or a program that reads and writes lines."""

import logging
import math
from collections.abc import Callable
from collections.abc import Sequence as Numbers
from typing import Literal

import torch
from torch import Tensor, nn

from gfn_design.data.base import DataModule
from gfn_design.environments.base import Environment
from gfn_design.errors import InputError
from gfn_design.rewards.child import ProgramWorker, function_workers, name_of
from gfn_design.rewards.reward import Reward
from gfn_design.rewards.scorer import Scorer

_log = logging.getLogger(__name__)


class ScoredData(DataModule):
    """Rewards made of what scorers say; they live as long as a run, and so does what they know.

    Attributes:
        scorers: Who is asked.
    """

    def __init__(self, scorers: list[Scorer]) -> None:
        super().__init__()
        self.scorers = scorers

    def counts(self) -> dict[str, float]:
        """How many texts were scored, not counting those known from before, and how many failed."""
        return {
            "scored": float(max(scorer.scored for scorer in self.scorers)),
            "failed": float(sum(scorer.failures for scorer in self.scorers)),
        }

    def teardown(self, stage: str) -> None:
        for scorer in self.scorers:
            scorer.close()
            if scorer.failures:
                count = f"{scorer.failures:,} of {scorer.scored:,}"
                _log.warning(
                    "%s failed for %s texts, which count as the minimum", scorer.name, count
                )


class FunctionScore(nn.Module):
    """What a scorer says of objects: SMILES of molecules, of others the texts they are written as.

    Args:
        environment: Writes the objects as text.
        scorer: One number for each text.
        floor: The score of texts without one.
    """

    def __init__(self, environment: Environment, scorer: Scorer, floor: float = math.nan) -> None:
        super().__init__()
        self.write = environment.smiles if environment.molecules else environment.decode
        self.scorer, self.floor = scorer, floor

    @torch.compiler.disable(reason="this score is found in Python")
    def forward(self, objects: Tensor) -> Tensor:
        rows = self.scorer(self.write(objects))
        scores = [self.floor if row is None else row[0] for row in rows]
        return torch.tensor(scores, dtype=torch.float32, device=objects.device)


class _OneScore(ScoredData):
    """R(x) = scale * clip(score(x), minimum, maximum)^exponent, of one scorer."""

    def __init__(
        self,
        scorer: Scorer,
        exponent: float,
        scale: float,
        minimum: float | None,
        maximum: float | None,
    ) -> None:
        super().__init__([scorer])
        if scorer.failed == "floor" and minimum is None:
            raise InputError("failed: floor needs a minimum, which is the score of what failed")
        self.exponent, self.scale = exponent, scale
        self.minimum, self.maximum = minimum, maximum

    def make_reward(self, environment: Environment) -> Reward:
        floor = math.nan if self.minimum is None else self.minimum
        score = FunctionScore(environment, self.scorers[0], floor)
        return Reward(score, self.exponent, self.scale, self.minimum, self.maximum)


class FunctionData(_OneScore):
    """A reward of one's own: any function from a list of texts to one number each.

    Args:
        function: The function; in a configuration ``file.py:name`` or ``package.module.name``. It
            gets SMILES where molecules are built, and every distinct text once.
        exponent: The inverse temperature beta.
        scale: Factor of every reward.
        minimum: Smaller scores count as this one; None asks for positive scores.
        maximum: Larger scores count as this one; None clips nothing.
        n_workers: Processes that score at the same time; 0 scores in this one.
        timeout: Seconds that a call (of at most 512 texts) may take, or its process is ended and a
            new one started; None waits. A number takes a process, whatever n_workers is.
        retries: How often a text that failed is tried again.
        failed: ``stop`` ends the run at the first text that cannot be scored; ``floor`` gives such
            texts the minimum, and counts them in the log.
        cache_size: How many texts are remembered with their scores; 0 asks anew each time.
    """

    def __init__(
        self,
        function: Callable[[list[str]], Numbers[float]],
        exponent: float = 1.0,
        scale: float = 1.0,
        minimum: float | None = None,
        maximum: float | None = None,
        n_workers: int = 0,
        timeout: float | None = None,
        retries: int = 0,
        failed: Literal["stop", "floor"] = "stop",
        cache_size: int = 100_000,
    ) -> None:
        workers = function_workers(function, n_workers, timeout)
        scorer = Scorer(name_of(function), workers, None, retries, failed, cache_size)
        super().__init__(scorer, exponent, scale, minimum, maximum)


class CommandData(_OneScore):
    """A reward from a program: it reads texts, one a line, and writes a number for each.

    Its numbers go one a line too. It stays open from batch to batch: it must answer without
    waiting for the end of its input, and flush what it writes (in Python it does by itself).

    Args:
        command: The program and its arguments, without pipes, as in ``python dock.py --fast``. It
            gets SMILES where molecules are built.
        exponent: The inverse temperature beta.
        scale: Factor of every reward.
        minimum: Smaller scores count as this one; None asks for positive scores.
        maximum: Larger scores count as this one; None clips nothing.
        n_workers: How many such processes score at the same time.
        timeout: Seconds that a number may take, or the program is started anew; None waits.
        retries: How often a text that failed is tried again.
        failed: ``stop`` ends the run at the first text that cannot be scored; ``floor`` gives such
            texts the minimum, and counts them in the log.
        cache_size: How many texts are remembered with their scores; 0 asks anew each time.
    """

    def __init__(
        self,
        command: str,
        exponent: float = 1.0,
        scale: float = 1.0,
        minimum: float | None = None,
        maximum: float | None = None,
        n_workers: int = 1,
        timeout: float | None = 60.0,
        retries: int = 1,
        failed: Literal["stop", "floor"] = "stop",
        cache_size: int = 100_000,
    ) -> None:
        if n_workers < 1:
            raise InputError(
                f"n_workers must be at least 1, since a command is one, got {n_workers}"
            )
        workers = [ProgramWorker(command, timeout) for _ in range(n_workers)]
        scorer = Scorer(f"'{command}'", workers, None, retries, failed, cache_size)
        super().__init__(scorer, exponent, scale, minimum, maximum)
