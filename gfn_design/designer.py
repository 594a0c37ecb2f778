"""A module that designs: it draws objects, knows their rewards, and compares the two."""

from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple, Self

from lightning.pytorch import LightningModule
from torch import Tensor

from gfn_design.config import build_arguments
from gfn_design.config.renamed import of_option
from gfn_design.data.base import DataModule
from gfn_design.described import described, nameless, show_constructor
from gfn_design.environments.base import Environment
from gfn_design.errors import InputError
from gfn_design.evaluation.evaluate import Evaluation, evaluate
from gfn_design.evaluation.exact import Target
from gfn_design.evaluation.transfer import TransferTarget
from gfn_design.files.checkpoints import load_checkpoint
from gfn_design.objectives.base import Objective
from gfn_design.policies.policy import Policy
from gfn_design.ranks import together
from gfn_design.sampling.noise import CANDIDATES, uniform_noise
from gfn_design.sampling.trajectories import Trajectories
from gfn_design.training.conditions import ConditionedLogZ, at_setting, begin_with
from gfn_design.training.engine import Engine
from gfn_design.training.library import FromLibrary
from gfn_design.training.tally import Tally
from gfn_design.training.task import Task


class Candidates(NamedTuple):
    """Objects that the policy built.

    Attributes:
        texts: As the environment writes them.
        log_reward: ``float[batch]``, in nats.
    """

    texts: list[str]
    log_reward: Tensor


class Designer(LightningModule):
    """What a policy is good for, trained or not; `GFlowNet` trains it.

    Attributes:
        environment: What is built.
        policy: Decides.
        engine: Draws, and asks for log-probabilities.
        task: What is wanted.
        tally: What has been counted.
        batch_size: Trajectories of a batch, on each device.
        draw_seed: Of all draws.
        log_z_at: What log Z is at settings, if it was trained with conditions.
        evaluated: After how many batches it was evaluated last, and what was found.
    """

    environment: Environment
    policy: Policy
    engine: Engine
    task: Task
    tally: Tally
    batch_size: int
    draw_seed: int
    log_z_at: ConditionedLogZ | None
    objective: Objective
    evaluated: tuple[int, Evaluation] | None

    exact_limit = 4_000_000
    """States up to which evaluation is exact: four million take seconds, and 36 million (sEH
    blocks) half a minute and 4 GB of memory."""

    def __new__(cls, *arguments: Any, **named: Any) -> Self:
        """Answer names that options had before."""
        own = signature(cls.__init__).parameters
        if moved := [name for name in named if name not in own and of_option(name)]:
            raise InputError(f"{cls.__name__}: '{moved[0]}' is {of_option(moved[0])} now")
        return super().__new__(cls)

    def __init_subclass__(cls, **options: Any) -> None:
        """What help shows is what the constructor takes."""
        super().__init_subclass__(**options)
        show_constructor(cls)

    def _remember_arguments(self, arguments: dict[str, Any]) -> None:
        """Keep what it was made of as plain data, which loggers show and checkpoints carry."""
        own = {k: v for k, v in arguments.items() if k != "self" and not k.startswith("_")}
        given = {name: described(value) for name, value in own.items()}
        self._set_hparams(given)
        self._hparams_initial, self._log_hyperparams = self.hparams, True

    @classmethod
    def load_from_checkpoint(  # type: ignore[override] # without what has no meaning here
        cls, checkpoint_path: str | Path, map_location: Any = "cpu", **given: Any
    ) -> Self:
        """A trained module, as it was saved by a Trainer or in the folder of a run.

        Args:
            checkpoint_path: The file.
            map_location: Where to load it to.
            **given: Arguments to be taken instead of those that were saved, as for parts that
                have no import path.

        Raises:
            InputError: It is no such checkpoint, or a part of it cannot be named.
        """
        content = load_checkpoint(Path(checkpoint_path))
        saved = dict(content.get("hyper_parameters") or {})
        if "environment" not in {**saved, **given}:
            raise InputError(
                f"{checkpoint_path}: does not say what it was made of; build the module and load "
                "its state_dict, or open the folder of its run"
            )
        saved = {name: value for name, value in saved.items() if name not in given}
        if missing := nameless(saved):
            raise InputError(
                f"{checkpoint_path}: {', '.join(missing)} has no import path (a lambda, say); give "
                f"it again, as in load_from_checkpoint(path, {missing[0].split('.')[0]}=...)"
            )
        module = cls(**build_arguments(saved, "gfn_design.GFlowNet", "hyper_parameters"), **given)
        module.exact_limit = int(content.get("exact_limit", module.exact_limit))
        module.on_load_checkpoint(content)
        module.load_state_dict(content["state_dict"])
        return module.to(map_location).eval()

    @property
    def data(self) -> DataModule:
        """Owns the reward: the Trainer's DataModule, or the one given to `use` since."""
        return self.task.data

    def use(self, data: DataModule) -> Self:
        """Take the reward from `data` without a Trainer, to sample or evaluate; returns self.

        What `data` counts, as a budget of scores, begins anew; a run's folder goes on with it.

        Raises:
            InputError: It is no DataModule, or none for this environment.
        """
        if not isinstance(data, DataModule):
            raise InputError(f"use takes a DataModule such as MotifData('FOXA1'), got {data!r:.60}")
        data.prepare_data()
        data.ready(self.environment, self.device)
        self._take(data)
        return self

    def at(self, **setting: float) -> "Designer":
        """The same at one setting of its conditions, to draw from and to evaluate.

        Args:
            **setting: As ``exponent=8``; what is missing is as the data has it.

        Raises:
            InputError: It was trained without conditions, or for others.
        """
        return at_setting(self, setting)

    def _take(self, data: DataModule) -> None:
        self.task.take(data)
        if isinstance(self.engine, FromLibrary):
            library = getattr(data, "library", None)
            if library is None:
                raise InputError(
                    f"{type(self.objective).__name__} learns from a library of objects; take "
                    f"LibraryData, not {type(data).__name__}"
                )
            self.engine.take(library(self.environment))
        if self.log_z_at is not None:
            begin_with(self.policy, self.log_z_at, data)
        self.evaluated = None
        self.engine.forget()

    def log_reward(self, objects: Tensor) -> Tensor:
        """log R in nats, ``float[batch]``; see `score_objects`."""
        return self.score_objects(objects)[1]

    def score_objects(self, objects: Tensor) -> tuple[Tensor, Tensor]:
        """The data's score of objects, and log R in nats: ``float[batch]`` each.

        Raises:
            InputError: A reward is NaN, infinite or not positive, or there is not one per object.
        """
        return self.task.score_objects(objects)

    def noise(self, n: int, stream: int, nth: int, columns: int | None = None) -> Tensor:
        """Uniform numbers of this rank, ``float[n, columns]``; of as many columns as steps."""
        shape = (n, self.environment.max_steps if columns is None else columns)
        return uniform_noise(shape, self.device, self.draw_seed, stream, self.global_rank, nth)

    def draw(self, n: int, stream: int, nth: int) -> Trajectories:
        """Draw `n` trajectories; equal arguments draw the same on the same rank."""
        return self.engine.sample(self.policy, self.noise(n, stream, nth))

    def forward(self, n: int, stream: int, nth: int) -> Trajectories:
        """Draw and reward `n` trajectories."""
        trajectories = self.draw(n, stream, nth)
        return trajectories._replace(log_reward=self.log_reward(trajectories.objects))

    @property
    def log_z(self) -> float:
        """The estimate of log Z, in nats."""
        return self.task.log_z

    @property
    def target(self) -> Target | None:
        """The exact target, where the environment is small enough to enumerate."""
        return self.task.target(self.exact_limit)

    @property
    def transfer_target(self) -> TransferTarget | None:
        """The exact target where objects are too many to list, if its reward can be followed."""
        return self.task.transfer_target()

    @property
    def modes(self) -> Tensor | None:
        """The objects that the data counts as modes, ``int64[modes, *state_shape]``."""
        modes = self.task.modes()
        return None if modes is None else modes.to(self.device)

    def evaluate(self) -> Evaluation:
        """The distance of what is sampled from the target, exact where that is possible."""
        self.catch_up()
        found = together(lambda: evaluate(self))
        self.evaluated = (self.tally.draws, found) if self.is_in_full_precision else None
        return found

    @property
    def is_in_full_precision(self) -> bool:
        """Whether nothing is cast."""
        return self._trainer is None or self._trainer.precision == "32-true"

    def validation_step(self, nth: int, batch_idx: int) -> None:
        if not self.trainer.sanity_checking:
            metrics = self.tally.calls() | self.evaluate().metrics
            self.log_dict(metrics, batch_size=1, sync_dist=self.trainer.world_size > 1)

    def test_step(self, nth: int, batch_idx: int) -> None:
        metrics = self.tally.calls() | self.evaluate().metrics
        self.log_dict(metrics, batch_size=1, sync_dist=self.trainer.world_size > 1)

    def predict_step(self, nth: int, batch_idx: int) -> Candidates:
        drawn = self(self.batch_size, CANDIDATES, nth)
        return Candidates(self.environment.decode(drawn.objects), drawn.log_reward)

    def catch_up(self) -> None:
        """Do what batches have left for when there is time."""
        self.tally.flush()
