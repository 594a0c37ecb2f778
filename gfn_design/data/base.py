"""DataModules: the reward of a task, and what is known about it."""

import inspect
from abc import abstractmethod
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor

from gfn_design.data.shown import OnOff, Windows
from gfn_design.environments.base import Environment
from gfn_design.errors import InputError
from gfn_design.ranks import end, joined
from gfn_design.rewards.automaton import RewardAutomaton
from gfn_design.rewards.reward import Reward


class DrawCounter:
    """A loader that says how often to draw, and nothing else.

    What a step draws follows from the module's count of draws, so a resumed run has no place in
    the data to restore. It has a length, or Lightning would fetch one item ahead; it is no
    `DataLoader`, which Lightning would deal out among ranks.

    Args:
        draws: Items, which are 0, 1, ...
    """

    def __init__(self, draws: int) -> None:
        self.draws = draws

    def __len__(self) -> int:
        return self.draws

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.draws))

    def state_dict(self) -> dict[str, int]:
        """What Lightning asks of a loader that can be resumed."""
        return {}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Nothing to restore."""


def check_one_length(who: str, environment: Environment) -> None:
    """Refuse sequences of several lengths.

    Raises:
        InputError: They are.
    """
    if not environment.fixed_length:
        raise InputError(
            f"{who} scores sequences of one length, got {environment.describe()}; leave out "
            "min_length, or take SequenceData, FunctionData or CommandData"
        )


class DataModule(LightningDataModule):
    """Owns the reward of a task; the module asks its Trainer's DataModule for it.

    So a proxy never enters a checkpoint or DDP, and training on another reward is training with
    another DataModule. A new task overrides `make_reward`, `modes` if some are known, `held_out`
    if some objects are to be tested on, `measure` if there is more to say of a result,
    `columns` if there is more to say of an object, and `counts` if something is counted.

    Attributes:
        reward: log R of finished objects; there after `setup`.
    """

    reward: Reward

    asks_others = False
    """Whether somebody's function or program is asked for scores, which may take long."""

    def __init__(self) -> None:
        super().__init__()
        self.candidates = 1000  # objects that `trainer.predict` draws
        self._is_ready_for: Environment | None = None

    @abstractmethod
    def make_reward(self, environment: Environment) -> Reward:
        """The reward of what `environment` builds.

        Raises:
            InputError: The data is about other objects.
        """

    def modes(self, environment: Environment) -> Tensor | None:
        """The objects that count as modes, ``int64[modes, *state_shape]``, if any are known."""
        return None

    def automaton(self, environment: Environment) -> RewardAutomaton | None:
        """What follows the reward letter by letter, so that sums over all objects are exact."""
        return None

    def as_wanted(self, environment: Environment, objects: Tensor) -> Tensor | None:
        """Which objects are as wanted in all terms, ``bool[n]``; None if nothing says what is."""
        return None

    def term_values(self, environment: Environment, objects: Tensor) -> Tensor | None:
        """The value of each term, in the order of `wishes`, ``float64[n, terms]``; None without."""
        return None

    def wishes(self) -> list[tuple[str, str]]:
        """What is wanted: of each term what it is called, and what is wanted of it, in words."""
        return []

    def loosened(self, amount: float) -> "DataModule | None":
        """The same with looser wishes, each by so many times what counts half; None without any."""
        return None

    def held_out(self, environment: Environment) -> Tensor | None:
        """Objects to test on where not all can be listed: ``int64[n, *state_shape]``."""
        return None

    def measure(
        self, environment: Environment, objects: Tensor, probability: Tensor, wanted: Tensor | None
    ) -> dict[str, float]:
        """What else there is to say of what is built: numbers by name, for an evaluation.

        Args:
            environment: What is built.
            objects: ``int64[n, *state_shape]``; all there are, or samples.
            probability: With which each is built, ``float64[n]``; equal ones for samples.
            wanted: With which each should be built, None where that is not known.
        """
        return {}

    def columns(self, environment: Environment, texts: list[str]) -> dict[str, list[str]]:
        """What a file says of objects besides their rewards: by name, one text for each.

        Args:
            environment: What is built.
            texts: The objects, as it writes them.
        """
        return {}

    def windows(self, environment: Environment, texts: list[str]) -> Windows | None:
        """What of sequences a picture should line up.

        Args:
            environment: What is built.
            texts: Sequences, as it writes them.
        """
        return None

    def on_off(self, environment: Environment, texts: list[str]) -> OnOff | None:
        """Two tables of words that sequences are read by, for a picture.

        Args:
            environment: What is built.
            texts: Sequences, as it writes them.
        """
        return None

    def on_exception(self, exception: BaseException) -> None:
        """Ranks no longer wait for each other."""
        end()

    def counts(self) -> dict[str, float]:
        """What has been counted since the start, for the log: numbers by name."""
        return {}

    def counts_of_all(self) -> dict[str, float]:
        """What all processes that train together have counted."""
        counts = self.counts()
        if not counts:
            return {}
        total = joined(torch.tensor([*counts.values()], dtype=torch.float64))
        return dict(zip(counts, total.view(-1, len(counts)).sum(0).tolist(), strict=True))

    def remarks(self) -> list[str]:
        """What a person should know of the data that was taken: sentences."""
        return []

    def counted(self) -> dict[str, Any]:
        """What `counts` goes on from, for a checkpoint; each process has its own."""
        return {}

    def count_on(self, counted: dict[str, Any]) -> None:
        """Go on from what `counted` gave."""

    def keep_in(self, folder: Path) -> None:
        """Keep in the folder of a run what would be expensive to find again."""

    def begin(self) -> None:
        """A run begins, or goes on, and this is its only process so far."""

    def room(self) -> int | None:
        """How many more objects may be scored; None is any number."""
        return None

    def affordable(self, environment: Environment, objects: Tensor) -> list[bool]:
        """Which of some objects, the first ones first, can still be scored."""
        return [True] * len(objects)

    def scored_texts(self) -> list[str]:
        """What has been scored, as scorers read it, where the number of scores is limited."""
        return []

    def settle(self) -> None:
        """Make sure that what was scored last was meant so.

        Raises:
            InputError: It may not have been.
        """

    def ready(self, environment: Environment, device: torch.device) -> None:
        """Build the reward for `environment` on `device`."""
        if type(self).make_reward is DataModule.make_reward:
            raise InputError(
                f"{type(self).__name__} has no reward; write its method make_reward(environment), "
                "which returns a Reward"
            )
        reward = self.make_reward(environment)
        if not isinstance(reward, Reward):
            raise InputError(
                f"{type(self).__name__}.make_reward must return a Reward, as Reward(score) of a "
                f"score that is positive, got a {type(reward).__name__}"
            )
        self.reward = reward.eval().requires_grad_(False).to(device)
        self._device, self._is_ready_for = device, environment

    def reward_on(self, device: torch.device) -> Reward:
        """The reward, moved to `device`: a Trainer takes its module back to the CPU at the end."""
        if self._device != device:
            self.reward, self._device = self.reward.to(device), device
        return self.reward

    def __repr__(self) -> str:
        """The class, and those of its arguments that are plain."""
        names = inspect.signature(type(self).__init__).parameters
        own = {name: getattr(self, name) for name in names if hasattr(self, name)}
        plain = (f"{k}={v!r}" for k, v in own.items() if isinstance(v, str | int | float | list))
        return f"{type(self).__name__}({', '.join(plain)})"

    def __str__(self) -> str:
        """Lightning's own asks for loaders, which there are in training alone."""
        return repr(self)

    def setup(self, stage: str) -> None:
        trainer = self._attached()
        environment = cast(Environment, trainer.lightning_module.environment)
        if self._is_ready_for is not environment:  # `GFlowNet.use` may have made it just now
            self.ready(environment, trainer.strategy.root_device)
        self._is_ready_for = None

    def train_dataloader(self) -> DrawCounter:
        trainer = self._attached()
        if trainer.max_steps < 0:  # the Trainer ends by time or epochs
            return DrawCounter(1000)
        return DrawCounter(trainer.max_steps * trainer.accumulate_grad_batches)

    def val_dataloader(self) -> DrawCounter:
        return DrawCounter(1)

    def test_dataloader(self) -> DrawCounter:
        return DrawCounter(1)

    def predict_dataloader(self) -> DrawCounter:
        trainer = self._attached()
        batch = cast(int, trainer.lightning_module.batch_size) * trainer.world_size
        return DrawCounter(ceil(self.candidates / batch))

    def _attached(self) -> Trainer:
        assert self.trainer is not None  # Lightning calls these hooks, and it attaches itself first
        return self.trainer
