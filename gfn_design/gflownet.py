"""The LightningModule: draw trajectories, look at them, improve the policy."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from gfn_design import ranks
from gfn_design.data.base import DataModule
from gfn_design.designer import Designer
from gfn_design.environments.base import Environment
from gfn_design.errors import InputError
from gfn_design.evaluation.evaluate import Evaluation
from gfn_design.fast.engine import engine_for
from gfn_design.objectives.base import Objective
from gfn_design.ranks import gathered, together
from gfn_design.sampling.noise import TRAINING, seed_of, uniform_noise
from gfn_design.training.checkpoints import check_environment_of, of_rank
from gfn_design.training.condition_ranges import Conditions
from gfn_design.training.conditions import ConditionedLogZ
from gfn_design.training.divergence import are_finite, diverged
from gfn_design.training.engine import Losses, Parts, Step, total_loss
from gfn_design.training.fine_tuning import FineTuning
from gfn_design.training.log_rows import is_logged, log_row, row_of
from gfn_design.training.optimisation import parameter_groups, policy_of, slow_copy
from gfn_design.training.options import (
    ADAM,
    Backward,
    Batches,
    Networks,
    Optimiser,
    Speed,
    UniformBackward,
)
from gfn_design.training.reusing import learner_for
from gfn_design.training.rewarding import LearnedReward
from gfn_design.training.setting import Setting, check, check_trainer, learns_once
from gfn_design.training.tally import Tally, are_numbers
from gfn_design.training.task import Task

NO_LIMIT = 10**9  # batches: as many as the engine likes


class GFlowNet(Designer):
    """Builds objects with probability proportional to their reward.

    One training step draws a batch of trajectories from the forward policy, asks it for their
    log-probabilities with gradients, and descends the objective's losses. The reward belongs to
    the Trainer's DataModule.

    Args:
        environment: What is built, and how.
        objective: How the policies learn.
        networks: What builds their networks.
        backward: Who decides what is undone: `UniformBackward`, `MaxEntropyBackward` or
            `LearnedBackward`.
        batches: What is learned from.
        optimiser: How the networks are updated.
        fine_tune: The run whose policy training starts from; None starts from chance.
        speed: What makes training faster; results are the same up to rounding.
        conditions: What the policy is told with each question, so that it can be chosen
            afterwards (see `Conditions`, and `at`); None learns one question.
        draw_seed: Of all draws, but not of first weights, which Lightning's `seed_everything`
            decides; None takes the one given to that, else 0.
    """

    def __init__(
        self,
        environment: Environment,
        objective: Objective,
        networks: Networks = Networks(),  # noqa: B008 # immutable, as all groups are
        backward: Backward = UniformBackward(),  # noqa: B008
        batches: Batches = Batches(),  # noqa: B008
        optimiser: Optimiser = Optimiser(),  # noqa: B008
        fine_tune: FineTuning | None = None,
        speed: Speed = Speed(),  # noqa: B008
        conditions: Conditions | None = None,
        draw_seed: int | None = None,
    ) -> None:
        super().__init__()
        self._remember_arguments(locals())
        # Each module has an objective and a memory of its own.
        given = objective, backward, batches, fine_tune
        objective, backward, batches, fine_tune = deepcopy(given)
        setting = Setting(
            *(environment, objective, networks, backward, batches, optimiser, fine_tune, speed),
            conditions,
        )
        check(setting)
        self.environment, self.objective = environment, objective
        learned = environment.n_backward_actions > 1  # else there is nothing to learn
        self.backward_objective = backward.learns_by if learned else None
        self.exploration, self.optimiser, self.speed = batches.exploration, optimiser, speed
        self.batch_size, self.fine_tune = batches.size, fine_tune
        self.policy = policy_of(setting)
        if fine_tune is not None:
            fine_tune.freeze(self.policy)
        if self.backward_objective is not None and self.backward_objective.guide is not None:
            self.backward_objective.guide.prepare(environment)
        self.draw_seed = seed_of(draw_seed)
        self._remember_arguments({"draw_seed": self.draw_seed})
        self.slow = slow_copy(self.policy, objective, self.backward_objective)
        learns = environment, self.policy, objective, self.backward_objective, self.slow
        self.log_z_at = None if conditions is None else ConditionedLogZ(conditions)
        parts = Parts(*learns, batches.exploration, batches.search, self.log_z_at)
        self.engine = engine_for(parts, batches.size, learns_once(setting), speed)
        self.tables = self.engine.tables
        self.tally = Tally(environment, batches.size)
        self.learner = learner_for(self.engine, self.tally, self.noise, batches)
        self.task = Task(environment, self.policy, objective)
        self.evaluated: tuple[int, Evaluation] | None = None  # when last, and what was found
        schedule = optimiser.schedule
        if schedule is not None and isinstance(schedule(self._optimizer()), ReduceLROnPlateau):
            raise InputError("a schedule counts updates, and ReduceLROnPlateau looks at a metric")

    # ---- Training ------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        if stage == "fit":
            ranks.begin()
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, DataModule):
            self._take(data)
        if stage == "fit":
            self.learner.learn_from(data)

    def teardown(self, stage: str) -> None:
        ranks.end()

    def learned_reward(self) -> LearnedReward:
        """log R of finished states as it is learned from."""
        return self.task.learned_reward(self.device)

    def next_noise(self, batches: int) -> list[Tensor]:
        """The randomness of the next batches that are learned from."""
        first = self.tally.draws
        return [self.noise(self.batch_size, TRAINING, first + i) for i in range(batches)]

    def training_step(self, nth: int, batch_idx: int) -> Tensor:
        taken = self.tally.pop_taken()
        if taken is None:
            return self.engine.loss(self.learn_once())
        # The engine has learned from batches already.
        if is_logged(self.trainer):
            length = torch.full((self.batch_size,), float(self.environment.max_steps))
            self._log_batch(taken.objects[-1], taken.log_reward[-1], length, taken.losses)
        return total_loss(taken.losses).requires_grad_()

    def next_step(self) -> Step:
        """The losses of a new batch, or of the last one again."""
        return self.learner.next_step(self.learned_reward())

    def learn_once(self) -> Step:
        """The next batch to learn from, counted and logged, and its losses."""
        step = self.next_step()
        drawn = step.batch.drawn
        if self.fine_tune is not None:
            update = self.learner.updates_made
            known = self.fine_tune.losses(self.engine, self.tally, self.noise, update)
            step = step._replace(losses=step.losses | known)
        self.tally.record_losses(step.losses, drawn.log_reward)
        if self.device.type == "cpu":  # elsewhere one would wait for them; see `catch_up`
            together(lambda: self._check_losses(step.losses))
        if is_logged(self.trainer):
            length = drawn.alive.sum(1).float()
            self._log_batch(drawn.objects, drawn.log_reward, length, step.losses)
        return step

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """As many batches as the engine takes at once, each with an update."""
        assert optimizer_closure is not None  # Lightning always has one
        # What may be scored is looked at after every batch.
        most = 1 if self.data.room() is not None else NO_LIMIT
        self.evaluated = None  # was of other weights
        self.engine.update(self, optimizer, optimizer_closure, most)

    def _check_losses(self, losses: Losses) -> None:
        if not are_numbers(losses):
            raise self._diverged()

    def check_weights(self) -> None:
        """Refuse weights that are no numbers; on a GPU `catch_up` does, or one would wait for it.

        Raises:
            DivergenceError: A weight is not finite.
        """
        if self.device.type == "cpu":
            self._check_weights()

    def _check_weights(self) -> None:
        if not are_finite(p for p in self.parameters() if p.requires_grad):
            raise self._diverged()

    def _diverged(self) -> Exception:
        losses = {name: float(loss) for name, loss in (self.tally.losses or {}).items()}
        return diverged(self.tally.draws, losses, self.tally.log_reward, self.optimiser.lr)

    def catch_up(self) -> None:
        """Do what batches leave for when there is time: rows of the log, checkpoints, the end.

        Raises:
            InputError: A reward is NaN, infinite or not positive.
            DivergenceError: A weight is not finite.
        """
        self.tally.flush()
        if self.device.type != "cpu":
            self._check_weights()

    def _log_batch(
        self, objects: Tensor, log_reward: Tensor, length: Tensor, losses: Losses
    ) -> None:
        self.catch_up()
        reward = self.learned_reward()
        row = row_of(self.tally, self.task, reward, objects, log_reward, length, losses)
        log_row(self.trainer, row)

    # ---- Beginning and going on ----------------------------------------------------------------

    def begin(self) -> None:
        """Take over what `fine_tune` has, before anything is learned; not on resuming.

        The Trainer does this; without one the reward must be there (see `use`).
        """
        if self.fine_tune is not None:
            shape = self.batch_size, self.environment.max_steps
            noise = uniform_noise(shape, self.device, self.draw_seed, TRAINING, 0, 0)
            self.fine_tune.begin(self.engine, self.tally, self.learned_reward(), noise)

    def on_train_start(self) -> None:
        """Log where training starts from, which Lightning's validation does not see."""
        check_trainer(self.objective, self.engine.takes_gradients, self.trainer)
        self.learner.to(self.device)  # a checkpoint is read before the module is on its device
        self.begin()
        if self.tally.draws == 0 and self.trainer.logger and self.trainer.limit_val_batches:
            metrics = self.tally.calls() | self.evaluate().metrics
            for logger in self.trainer.loggers:
                logger.log_metrics(metrics, step=0)

    def on_train_end(self) -> None:
        self.catch_up()

    @property
    def lr(self) -> float:
        """Learning rate of the policies, which Lightning's finder of one may set."""
        return self.optimiser.lr

    @lr.setter
    def lr(self, rate: float) -> None:
        self.optimiser = replace(self.optimiser, lr=rate)
        self._remember_arguments({"optimiser": self.optimiser})

    def configure_optimizers(self) -> Any:
        """One optimizer, with its schedule if there is one."""
        optimizer = self._optimizer()
        if self.optimiser.schedule is None:
            return optimizer
        schedule = {"scheduler": self.optimiser.schedule(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def _optimizer(self) -> Optimizer:
        """The critic and log Z have learning rates of their own."""
        groups = parameter_groups(*(self.policy, self.objective, self.optimiser, self.log_z_at))
        if self.objective.brings_optimizer:
            latest = self.learner.latest
            return self.objective.optimizer(groups, self.environment, self.policy, latest)
        return (self.optimiser.factory or ADAM)(groups)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.catch_up()
        checkpoint["environment"] = self.environment.describe()
        checkpoint["exact_limit"] = self.exact_limit
        checkpoint |= self.tally.state_dict()
        checkpoint["ranks"] = gathered({"data": self.data.counted()} | self.learner.state_dict())
        if self.fine_tune is not None:
            checkpoint["start"] = self.fine_tune.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_environment_of(checkpoint, self.environment)
        self.tally.load_state_dict(checkpoint)
        self.evaluated = None
        if self.fine_tune is not None and "start" in checkpoint:
            self.fine_tune.load_state_dict(checkpoint["start"])
        speaks = self._trainer is not None and self.global_rank == 0
        own = of_rank(checkpoint, self.global_rank, speaks)
        self.learner.load_state_dict(own)
        if self.task.has_data:
            self.data.count_on(own.get("data", {}))
