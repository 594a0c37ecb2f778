"""Rewards of one's own: a function, or a program that reads and writes lines."""

import logging
import math
from collections.abc import Callable
from collections.abc import Sequence as Numbers
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gfn_design.data.base import DataModule
from gfn_design.environments.base import Environment, written
from gfn_design.errors import InputError
from gfn_design.metrics.evenly import evenly_drawn
from gfn_design.rewards.functions import function_workers
from gfn_design.rewards.programs import ProgramWorker
from gfn_design.rewards.proxy_values import Predictor, digest_of, means, more_columns
from gfn_design.rewards.reward import Reward
from gfn_design.rewards.scorer import Scorer
from gfn_design.rewards.sources import content_of, content_of_function, name_of
from gfn_design.untraced import untraced

_log = logging.getLogger(__name__)
MEASURED = 2048  # objects that proxies are asked of in an evaluation


class ScoredData(DataModule):
    """Rewards made of what scorers say; they live as long as a run, and so does what they know.

    Attributes:
        scorers: Who is asked.
        predictors: Models of measurements that are among them.
    """

    def __init__(self, scorers: list[Scorer]) -> None:
        super().__init__()
        self.asks_others = bool(scorers)
        self.scorers = scorers
        self.predictors: list[Predictor] = []

    def counts(self) -> dict[str, float]:
        """How many texts were scored, not counting those known from before, and how many failed."""
        if not self.scorers:
            return {}
        return {
            "scored": float(max(scorer.scored for scorer in self.scorers)),
            "failed": float(sum(scorer.failures for scorer in self.scorers)),
        }

    def measure(
        self, environment: Environment, objects: Tensor, probability: Tensor, wanted: Tensor | None
    ) -> dict[str, float]:
        """What both models of each proxy expect of what is built, and how near the data it is."""
        if not self.predictors:
            return {}
        rows, times = evenly_drawn(probability, MEASURED).unique(return_counts=True)
        texts = written(environment)(objects[rows.to(objects.device)])
        some = [i for i, text in enumerate(texts) if text]
        found: dict[str, float] = {}
        for predictor in self.predictors if some else ():
            found |= means(predictor, [texts[i] for i in some], times[some].tolist())
        return found

    def proxy_columns(self, texts: Numbers[str]) -> dict[str, list[str]]:
        """What files say of objects that proxies were asked of; nothing of the empty text."""
        some = [i for i, text in enumerate(texts) if text]
        columns: dict[str, list[str]] = {}
        for predictor in self.predictors:
            for name, cells in more_columns(predictor, [texts[i] for i in some]).items():
                columns[name] = [""] * len(texts)
                for i, cell in zip(some, cells, strict=True):
                    columns[name][i] = cell
        return columns

    def keep_in(self, folder: Path) -> None:
        for scorer in self.scorers:
            if scorer.name != "RDKit":  # whose numbers are sooner found than looked up
                scorer.keep_in(folder)

    def begin(self) -> None:
        for scorer in self.scorers:
            scorer.begin()

    def room(self) -> int | None:
        rooms = [scorer.room for scorer in self.scorers if scorer.room is not None]
        return min(rooms, default=None)

    def affordable(self, environment: Environment, objects: Tensor) -> list[bool]:
        texts = written(environment)(objects)
        good = [True] * len(texts)
        for scorer in self.scorers:
            if (left := scorer.room) is None:
                continue
            for i, known in enumerate(scorer.is_known(texts)):
                left -= not known
                good[i] = good[i] and (known or left >= 0)
        return good

    def scored_texts(self) -> list[str]:
        limited = [set(scorer.texts()) for scorer in self.scorers if scorer.room is not None]
        return sorted(set.intersection(*limited)) if limited else []

    def settle(self) -> None:
        for scorer in self.scorers:
            scorer.settle()

    def counted(self) -> dict[str, Any]:
        return {
            "scorers": [scorer.state_dict() for scorer in self.scorers],
            "proxies": {it.path: digest_of(it.path) for it in self.predictors},
        }

    def count_on(self, counted: dict[str, Any]) -> None:
        for path, digest in counted.get("proxies", {}).items():
            if Path(path).is_file() and digest_of(path) != digest:
                raise InputError(
                    f"{path}: is not the proxy that this run learned by, it was changed since; put "
                    "that one back, or learn by this one in a run of its own (gfn-design finetune)"
                )
        for scorer, state in zip(self.scorers, counted.get("scorers", []), strict=False):
            scorer.load_state_dict(state)

    def teardown(self, stage: str) -> None:
        for scorer in self.scorers:
            try:
                scorer.settle()
            finally:
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
        self.write = written(environment)
        self.scorer, self.floor = scorer, floor

    @untraced("this score is found in Python")
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
        if scorer.asker.failed == "floor" and minimum is None:
            raise InputError("failed: floor needs a minimum, which is the score of what failed")
        self.exponent, self.scale = exponent, scale
        self.minimum, self.maximum = minimum, maximum

    def columns(self, environment: Environment, texts: list[str]) -> dict[str, list[str]]:
        """What the program says besides the score."""
        (scorer,) = self.scorers
        if not scorer.asker.names:
            return {}
        own = environment.molecules and type(environment).smiles is not Environment.smiles
        rows = scorer(environment.smiles(environment.encode(texts)) if own else texts)
        return {
            name: ["" if row is None else f"{row[place]:.6g}" for row in rows]
            for place, name in enumerate(scorer.asker.names[1:], 1)
        }

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
        cache_size: How many texts are remembered with their scores in memory; in the folder of a
            run scores that took their time are kept besides, so that none is paid for twice. 0 asks
            anew each time.
        budget: End when so many distinct texts have been scored, whatever for; nothing is spent on
            evaluating then, and the rest goes to candidates. None scores all that is asked for.
        dask: The address of a Dask scheduler, such as ``tcp://10.0.0.1:8786``, on whose workers
            each text is scored; None scores on this machine.
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
        budget: int | None = None,
        dask: str | None = None,
    ) -> None:
        workers = function_workers(function, n_workers, timeout, dask=dask)
        rest = (None, retries, failed, cache_size, budget)
        scorer = Scorer(name_of(function), workers, *rest, content_of_function(function))
        super().__init__(scorer, exponent, scale, minimum, maximum)


class CommandData(_OneScore):
    """A reward from a program: it reads texts, one a line, and writes an answer for each.

    Its answers go one a line too: a number; or several, as in ``dock=-7.1 strain=2.3``, the others
    being columns of ``candidates.csv``; or ``error: reason``. It stays open from batch to batch: it
    must answer without waiting for the end of its input, and flush what it writes (in Python it
    does by itself).

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
        cache_size: How many texts are remembered with their scores in memory; in the folder of a
            run scores that took their time are kept besides, so that none is paid for twice. 0 asks
            anew each time.
        budget: End when so many distinct texts have been scored, whatever for; nothing is spent on
            evaluating then, and the rest goes to candidates. None scores all that is asked for.
        value: Of several numbers the name of the score; None takes the first.
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
        budget: int | None = None,
        value: str | None = None,
    ) -> None:
        if n_workers < 1:
            raise InputError(
                f"n_workers must be at least 1, since a command is one, got {n_workers}"
            )
        workers = [ProgramWorker(command, timeout, value) for _ in range(n_workers)]
        rest = (None, retries, failed, cache_size, budget)
        scorer = Scorer(f"'{command}'", workers, *rest, content_of(command, {"value": value}))
        super().__init__(scorer, exponent, scale, minimum, maximum)
