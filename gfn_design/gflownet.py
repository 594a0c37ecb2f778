"""The LightningModule: draw trajectories, score them, improve the policy."""

import logging
import os
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from gfn_design import ranks
from gfn_design.data.base import DataModule
from gfn_design.environments.base import Environment
from gfn_design.errors import InputError
from gfn_design.evaluation.evaluate import Evaluation, evaluate
from gfn_design.evaluation.exact import Target, target_distribution
from gfn_design.fast.engine import FastEngine
from gfn_design.objectives.base import BackwardObjective, Objective
from gfn_design.policies.mlp import MLP
from gfn_design.policies.policy import Policy
from gfn_design.ranks import gathered, together, world
from gfn_design.sampling.exploration import Exploration
from gfn_design.sampling.local_search import LocalSearch
from gfn_design.sampling.noise import CANDIDATES, TRAINING, uniform_noise
from gfn_design.sampling.replay import Replay
from gfn_design.sampling.trajectories import Trajectories
from gfn_design.training import options
from gfn_design.training.batches import Parts
from gfn_design.training.divergence import are_finite, diverged
from gfn_design.training.engine import Engine, Step
from gfn_design.training.fine_tuning import FineTuning
from gfn_design.training.learner import Learner
from gfn_design.training.losses import Losses, log_z_of, total_loss
from gfn_design.training.optimisation import ADAM, parameter_groups
from gfn_design.training.rewarding import LearnedReward, score_objects
from gfn_design.training.tally import Tally, are_numbers
from gfn_design.training.trust_region import TrustRegion, TrustRegionAdam

logger = logging.getLogger(__name__)
MANY = 10**9  # batches: as many as the engine likes
CRITIC = partial(MLP, depth=2)  # smaller than a policy, as in the code of the paper


class Candidates(NamedTuple):
    """Objects that the policy built.

    Attributes:
        texts: As the environment writes them.
        log_reward: ``float[batch]``, in nats.
    """

    texts: list[str]
    log_reward: Tensor


class GFlowNet(LightningModule):
    """Builds objects with probability proportional to their reward.

    One training step draws a batch of trajectories from the forward policy, scores them under the
    same policy with gradients, and descends the objective's losses. The reward belongs to the
    Trainer's DataModule.

    Args:
        environment: What is built, and how.
        objective: How the policies learn.
        network: Builds the network of a policy.
        critic: Builds the critic, where the objective needs one.
        backward: ``uniform`` chooses evenly among parents; ``max_entropy`` makes all ways to an
            object equally likely; ``learned`` trains a backward policy; ``shared`` trains one with
            the layers of the forward policy, which is faster.
        backward_objective: How a backward policy learns; None trains it by the objective.
        batch_size: Trajectories drawn in each batch, on each device.
        updates: Of the networks, with each batch; an objective that is on-policy and not made for
            more, as `ClippedPolicy` is, takes one.
        replay: Objects of earlier batches to learn from again with each update, or single steps.
        exploration: How to draw otherwise than the policy would.
        search: A local search that fills batches with neighbours of their best objects.
        lr: Learning rate of the policies.
        critic_lr: Learning rate of the critic.
        log_z_lr: Learning rate of log Z.
        optimizer: Builds the optimizer from parameter groups.
        schedule: Builds a schedule of all learning rates from the optimizer; it counts updates,
            which are the steps of the Trainer.
        start: The run whose policy training starts from; None starts from chance.
        compiled: Compile the training step where lengths are fixed, else its parts; that takes from
            ten seconds to two minutes at the first batches, the others are faster, and results are
            the same up to rounding.
        burst: Batches that one step of Lightning may carry where they are fast, on one device, and
            where no callback wants to see every batch (see `gfn_design.burst`). All counts stay
            counts of batches.
        exact_limit: Evaluate exactly where the environment has at most so many states; four
            million take seconds, and 36 million (sEH blocks) half a minute and 4 GB of memory.
        seed: Of all draws; None takes the one given to Lightning's `seed_everything`, else 0.
    """

    def __init__(
        self,
        environment: Environment,
        objective: Objective,
        network: Callable[[Environment, int], nn.Module] = MLP,
        critic: Callable[[Environment, int], nn.Module] = CRITIC,
        backward: Literal["uniform", "max_entropy", "learned", "shared"] = "uniform",
        backward_objective: BackwardObjective | None = None,
        batch_size: int = 128,
        updates: int = 1,
        replay: Replay | None = None,
        exploration: Exploration | None = None,
        search: LocalSearch | None = None,
        lr: float = 1e-3,
        critic_lr: float = 5e-3,
        log_z_lr: float = 0.1,
        optimizer: Callable[[Any], Optimizer] = ADAM,
        schedule: Callable[[Optimizer], LRScheduler] | None = None,
        start: FineTuning | None = None,
        compiled: bool = False,
        burst: int = 50,
        exact_limit: int = 4_000_000,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        heads = 1 if exploration is None else exploration.heads
        anchored = start is not None and start.anchored
        options.check_backward(objective, backward, backward_objective, updates, anchored)
        options.check_objective(environment, objective, batch_size)
        options.check_batches(
            environment, objective, batch_size, updates, replay, exploration, search
        )
        options.check_heads(heads, objective, backward, replay, start is not None)
        if isinstance(objective, TrustRegion):
            if backward == "shared":
                raise InputError(
                    "a trust region needs a forward policy that is not shared; set "
                    "backward: learned or uniform"
                )
            if optimizer is not ADAM:
                raise InputError("a trust region brings its own optimizer; leave out optimizer")
        if start is not None:
            start.check(objective, backward, backward_objective)
        if burst < 1:
            raise InputError(f"burst must be at least 1, got {burst}")
        if min(lr, critic_lr, log_z_lr) < 0:
            rates = f"{lr}, {critic_lr}, {log_z_lr}"
            raise InputError(f"lr, critic_lr and log_z_lr must not be negative, got {rates}")
        if environment.n_backward_actions == 1:  # nothing to learn
            backward_objective = None
        self.environment, self.objective = environment, objective
        self.backward_objective = backward_objective
        value = {"critic": critic, "flow": network}.get(objective.head or "")
        back = backward_objective is not None and backward_objective.needs_critic
        self.policy = Policy(
            environment,
            network,
            backward,
            value,
            critic if back else None,
            heads,
            exploration.random_prior if exploration else 0.0,
            anchored,
        )
        self.start = start
        if start is not None:
            start.freeze(self.policy)
        if backward_objective is not None and backward_objective.guide is not None:
            backward_objective.guide.prepare(environment)
        self.batch_size, self.exploration, self.compiled = batch_size, exploration, compiled
        self.optimizer, self.schedule, self.exact_limit = optimizer, schedule, exact_limit
        self.learning_rates = {"policy": lr, "critic": critic_lr, "log_z": log_z_lr}
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        if self.seed < 0:
            raise InputError(f"seed must not be negative, got {self.seed}")
        self.slow: Policy | None = None
        if options.copy_rate(objective, backward_objective) is not None:
            self.slow = deepcopy(self.policy).requires_grad_(False)
        parts = Parts(
            environment,
            self.policy,
            objective,
            backward_objective,
            self.slow,
            exploration,
            search,
        )
        once = updates == 1 and replay is None and (start is None or start.known is None)
        self.engine: Engine = FastEngine(parts, batch_size, once, compiled, burst)
        self.tables = self.engine.tables
        self.tally = Tally(environment, batch_size)
        self.learner = Learner(self.engine, self.tally, self.noise, batch_size, updates, replay)
        self._data: DataModule | None = None
        self._target: Target | None = None
        self._modes: Tensor | None = None
        self.evaluated: tuple[int, Evaluation] | None = None  # when last, and what was found
        self._learned_reward: tuple[LearnedReward, ...] = ()  # no part of the module's state
        if schedule is not None and isinstance(schedule(self._optimizer()), ReduceLROnPlateau):
            raise InputError("a schedule counts updates, and ReduceLROnPlateau looks at a metric")

    # ---- Data ----------------------------------------------------------------------------------

    @property
    def data(self) -> DataModule:
        """Owns the reward: the Trainer's DataModule, or the one given to `use` since."""
        if self._data is None:
            raise TypeError(
                "GFlowNet takes its reward from a gfn_design DataModule; call "
                "trainer.fit(model, datamodule=...), or model.use(...) without a Trainer"
            )
        return self._data

    def use(self, data: DataModule) -> "GFlowNet":
        """Take the reward from `data` without a Trainer, to sample or evaluate; returns self."""
        data.prepare_data()
        data.ready(self.environment, self.device)
        self._take(data)
        return self

    def setup(self, stage: str) -> None:
        if stage == "fit":
            ranks.begin()
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, DataModule):
            self._take(data)

    def teardown(self, stage: str) -> None:
        ranks.end()

    def _take(self, data: DataModule) -> None:
        """Another reward has another target and other modes."""
        self._data, self._target, self._modes = data, None, None
        self._learned_reward, self.evaluated = (), None
        self.engine.forget()

    def log_reward(self, objects: Tensor) -> Tensor:
        """log R in nats, ``float[batch]``; see `score_objects`."""
        return self.score_objects(objects)[1]

    def score_objects(self, objects: Tensor) -> tuple[Tensor, Tensor]:
        """The data's score of objects, and log R in nats: ``float[batch]`` each.

        Raises:
            InputError: A reward is NaN, infinite or not positive, or there is not one per object.
        """
        return score_objects(self.environment, self.data.reward_on(objects.device), objects)

    def learned_reward(self) -> LearnedReward:
        """log R of finished states as it is learned from; see `LearnedReward`."""
        reward = self.data.reward_on(self.device)
        if not self._learned_reward or self._learned_reward[0].reward is not reward:
            learned = LearnedReward(reward, self.environment, self.objective, self.log_copies)
            self._learned_reward = (learned,)
        return self._learned_reward[0]

    def log_copies(self, objects: Tensor) -> Tensor:
        """log of among how many states each object's reward is shared: ``float64[batch]``.

        A prior has its own share for each state already.
        """
        copies = self.environment.log_copies(objects)
        return copies if self.policy.prior is None else torch.zeros_like(copies)

    # ---- Drawing -------------------------------------------------------------------------------

    def noise(self, n: int, stream: int, draw: int, columns: int | None = None) -> Tensor:
        """Uniform numbers of this rank, ``float[n, columns]``; of as many columns as steps."""
        shape = (n, self.environment.max_steps if columns is None else columns)
        return uniform_noise(shape, self.device, self.seed, stream, self.global_rank, draw)

    def next_noise(self, batches: int) -> list[Tensor]:
        """The randomness of the next batches that are learned from."""
        first = self.tally.draws
        return [self.noise(self.batch_size, TRAINING, first + i) for i in range(batches)]

    def draw(self, n: int, stream: int, draw: int) -> Trajectories:
        """Draw `n` trajectories; equal arguments draw the same on the same rank."""
        return self.engine.sample(self.policy, self.noise(n, stream, draw))

    def forward(self, n: int, stream: int, draw: int) -> Trajectories:
        """Draw and reward `n` trajectories."""
        trajectories = self.draw(n, stream, draw)
        return trajectories._replace(log_reward=self.log_reward(trajectories.objects))

    # ---- Training ------------------------------------------------------------------------------

    def training_step(self, tick: int, batch_idx: int) -> Tensor:
        taken = self.tally.pop_taken()
        if taken is None:
            return self.engine.loss(self.learn_once())
        # The engine has learned from batches already.
        if self._is_logged():
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
        if self.start is not None:
            update = self.tally.draws * self.learner.updates + self.learner.used
            step = step._replace(losses=step.losses | self.start.losses(self, update))
        self.tally.record_losses(step.losses, drawn.log_reward)
        if self.device.type == "cpu":  # elsewhere one would wait for them; see `catch_up`
            together(lambda: self._check_losses(step.losses))
        if self._is_logged():
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
        most = 1 if self.data.room() is not None else MANY
        self.engine.update(self, optimizer, optimizer_closure, most)

    def _check_losses(self, losses: Losses) -> None:
        if not are_numbers(losses):
            raise self._diverged()

    def check_weights(self) -> None:
        """Refuse to go on where the latest update has left anything but numbers.

        On a GPU that would be to wait for it; see `catch_up`.

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
        rate = self.learning_rates["policy"]
        return diverged(self.tally.draws, losses, self.tally.log_reward, rate)

    def catch_up(self) -> None:
        """Do what batches leave for when there is time: rows of the log, checkpoints, the end.

        Raises:
            InputError: A reward is NaN, infinite or not positive.
            DivergenceError: A weight is not finite.
        """
        self.tally.flush()
        if self.device.type != "cpu":
            self._check_weights()

    @property
    def is_in_full_precision(self) -> bool:
        """Whether nothing is cast."""
        return self._trainer is None or self._trainer.precision == "32-true"

    def _is_logged(self) -> bool:
        every: int = getattr(self.trainer, "log_every_n_steps")  # noqa: B009 # untyped
        return bool(every) and (self.trainer.global_step + 1) % every == 0

    def _log_batch(
        self, objects: Tensor, log_reward: Tensor, length: Tensor, losses: Losses
    ) -> None:
        """Log what the progress bar and the log show; Lightning's logging is slow, so rarely."""
        self.catch_up()
        # As it is learned from, but of the object.
        log_reward = log_reward + self.log_copies(objects).float() + self.objective.log_scale
        columns: dict[str, Tensor | float] = {
            "trajectories": float(self.tally.trajectories),
            "reward": log_reward.exp().mean(),
            "log_reward": log_reward.mean(),
            "distinct": float(len(self.tally.seen)),
            "floored": self.learned_reward().floored(log_reward),
            "log_z": self.log_z,
            "length": length.mean(),
        }
        columns |= self.data.counts_of_all()
        columns |= {f"loss/{name}": loss.detach() for name, loss in losses.items()}
        for optimizer in self.trainer.optimizers:
            if isinstance(optimizer, TrustRegionAdam):  # of the latest step, one batch ago
                columns |= {f"region/{name}": x for name, x in optimizer.report.items()}
        numbers = {name: float(x) for name, x in columns.items()}
        # What `self.log` would do with them, at half a millisecond each.
        for shown in (self.trainer.callback_metrics, self.trainer.logged_metrics):
            shown.update({name: torch.tensor(x) for name, x in numbers.items()})
        for logger in self.trainer.loggers:
            logger.log_metrics(numbers, step=self.trainer.global_step)

    # ---- Evaluation ----------------------------------------------------------------------------

    @property
    def log_z(self) -> float:
        """The estimate of log Z, in nats."""
        learned = log_z_of(self.environment, self.policy, self.objective)
        return float(learned) + float(self.objective.log_scale)

    @property
    def target(self) -> Target | None:
        """The exact target, where the environment is small enough to enumerate."""
        n_states = self.environment.n_states
        if self._target is None and n_states is not None and n_states <= self.exact_limit:
            target = target_distribution(self.environment, self.log_reward, self.policy.prior)
            self._target = target.cpu()
        return self._target

    @property
    def modes(self) -> Tensor | None:
        """The objects that the data counts as modes, ``int64[modes, *state_shape]``."""
        if self._modes is None:
            self._modes = self.data.modes(self.environment)
        return None if self._modes is None else self._modes.to(self.device)

    def evaluate(self) -> Evaluation:
        """The distance of what is sampled from the target, exact where that is possible."""
        self.catch_up()
        found = together(lambda: evaluate(self))
        self.evaluated = self.tally.draws, found
        return found

    def validation_step(self, tick: int, batch_idx: int) -> None:
        if not self.trainer.sanity_checking:
            metrics = self.tally.calls() | self.evaluate().metrics
            self.log_dict(metrics, batch_size=1, sync_dist=self.trainer.world_size > 1)

    def predict_step(self, tick: int, batch_idx: int) -> Candidates:
        drawn = self(self.batch_size, CANDIDATES, tick)
        return Candidates(self.environment.decode(drawn.objects), drawn.log_reward)

    # ---- Beginning and going on ----------------------------------------------------------------

    def begin(self) -> None:
        """Take over what `start` has, before anything is learned; only once, and not on resuming.

        The Trainer does this; without one the reward must be there (see `use`).
        """
        if self.start is not None:
            self.start.begin(self)

    def on_train_start(self) -> None:
        """Log where training starts from, which Lightning's validation does not see."""
        self._check_trainer()
        self.learner.to(self.device)  # a checkpoint is read before the module is on its device
        self.begin()
        if (
            self.tally.draws == 0
            and self.trainer.logger is not None
            and self.trainer.limit_val_batches
        ):
            metrics = self.tally.calls() | self.evaluate().metrics
            for logger in self.trainer.loggers:
                logger.log_metrics(metrics, step=0)

    def on_train_end(self) -> None:
        self.catch_up()

    def _check_trainer(self) -> None:
        """Refuse what would silently train otherwise than it seems."""
        if isinstance(self.objective, TrustRegion) and self.trainer.accumulate_grad_batches > 1:
            raise InputError(
                "a trust region is about one batch; set trainer.accumulate_grad_batches: 1, and a "
                "larger batch_size"
            )
        if (
            self.engine.takes_gradients
            and getattr(self.trainer.precision_plugin, "scaler", None) is not None
        ):
            raise InputError(
                "a compiled step finds its gradient before the loss is scaled; set "
                "compiled: false, or trainer.precision: bf16-mixed"
            )

    def configure_optimizers(self) -> Any:
        """One optimizer, with its schedule if there is one."""
        optimizer = self._optimizer()
        if self.schedule is None:
            return optimizer
        schedule = {"scheduler": self.schedule(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def _optimizer(self) -> Optimizer:
        """The critic and log Z have learning rates of their own."""
        groups = parameter_groups(self.policy, self.objective, self.learning_rates)
        if isinstance(self.objective, TrustRegion):
            return TrustRegionAdam(
                groups, self.environment, self.policy, self.objective, self._latest
            )
        return self.optimizer(groups)

    def _latest(self) -> Trajectories:
        assert self.learner.batch is not None
        return self.learner.batch.drawn

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.catch_up()
        checkpoint["environment"] = self.environment.describe()
        checkpoint |= self.tally.state_dict()
        checkpoint["ranks"] = gathered({"data": self.data.counted()} | self.learner.state_dict())
        if self.start is not None:
            checkpoint["start"] = self.start.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        here, there = self.environment.describe(), checkpoint.get("environment")
        if here != there:
            raise InputError(
                f"the checkpoint was trained on {there or 'something unknown'}, but the "
                f"environment is {here}; use the environment it was trained on"
            )
        self.tally.load_state_dict(checkpoint)
        self.evaluated = None
        if self.start is not None and "start" in checkpoint:
            self.start.load_state_dict(checkpoint["start"])
        each = checkpoint.get("ranks") or [checkpoint]  # that of one process, as it was before
        if len(each) != world() and self._trainer is not None and self.global_rank == 0:
            logger.warning(
                "the checkpoint was saved by %s processes, and %s go on; what each remembers is "
                "taken from one of those, so the run is not the one it would have been",
                len(each),
                world(),
            )
        own = each[self.global_rank % len(each)]
        self.learner.load_state_dict(own)
        if self._data is not None:
            self._data.count_on(own.get("data", {}))
