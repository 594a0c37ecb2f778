"""The LightningModule: draw trajectories, score them, improve the policy."""

import math
import os
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gfn_design.burst import burst
from gfn_design.compiled import Compiled, Differentiated, Gradients, Losses, loss_of, set_gradients
from gfn_design.data.base import DataModule
from gfn_design.environments.base import Environment
from gfn_design.errors import InputError
from gfn_design.evaluation.evaluate import Evaluation, evaluate
from gfn_design.evaluation.exact import Target, target_distribution
from gfn_design.objectives.base import Objective
from gfn_design.policies.mlp import MLP
from gfn_design.policies.policy import Policy
from gfn_design.sampling.distinct import Opening
from gfn_design.sampling.found import Found
from gfn_design.sampling.noise import CANDIDATES, TRAINING, uniform_noise
from gfn_design.sampling.trajectories import BLOCK, Trajectories, sample, score, walk

ADAM = partial(Adam, fused=True)  # one kernel for all parameters
CRITIC = partial(MLP, depth=2)  # smaller than a policy, as in the code of the paper


class Candidates(NamedTuple):
    """Objects that the policy built.

    Attributes:
        texts: As the environment writes them.
        log_reward: ``float[batch]``, in nats.
    """

    texts: list[str]
    log_reward: Tensor


def losses(
    environment: Environment,
    policy: Policy,
    objective: Objective,
    drawn: Trajectories,
    opening: Opening | None,
) -> dict[str, Tensor]:
    """What the objective says of trajectories that this policy drew, by name."""
    static = torch.compiler.is_compiling()  # then no shape may depend on a value
    now = score(environment, policy, drawn, opening if static else None)
    return objective(now, now.detach())


def play(
    environment: Environment,
    policy: Policy,
    reward: Callable[[Tensor], Tensor],
    uniform: Tensor,
    opening: Opening | None,
    walk: Callable[..., Any],
    learn: Differentiated,
) -> tuple[Trajectories, Losses, Gradients | None]:
    """What one training step does but for the update: draw, reward, find the losses.

    Args:
        environment: What is built.
        policy: Draws the trajectories, and learns from them.
        reward: log R of objects.
        uniform: The randomness, ``float[batch, max_steps]`` in [0, 1).
        opening: See `sample`.
        walk: See `sample`.
        learn: The losses of trajectories and their gradients; see `Differentiated`.
    """
    drawn = sample(environment, policy, uniform, opening, walk)
    with torch.autocast(uniform.device.type, enabled=False):  # in full precision always
        drawn = drawn._replace(log_reward=reward(drawn.objects))
    return drawn, *learn(drawn, opening)


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
        backward: ``uniform`` chooses evenly among parents; ``learned`` trains a backward policy;
            ``shared`` trains one with the layers of the forward policy, which is faster.
        batch_size: Trajectories drawn in each step, on each device.
        lr: Learning rate of the policies.
        critic_lr: Learning rate of the critic.
        log_z_lr: Learning rate of log Z.
        optimizer: Builds the optimizer from parameter groups.
        compiled: Compile the training step where lengths are fixed, else the roll-out; the first
            batch takes some seconds longer, the others are faster, and results are the same.
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
        backward: Literal["uniform", "learned", "shared"] = "uniform",
        batch_size: int = 128,
        lr: float = 1e-3,
        critic_lr: float = 5e-3,
        log_z_lr: float = 0.1,
        optimizer: Callable[[Any], Optimizer] = ADAM,
        compiled: bool = False,
        burst: int = 50,
        exact_limit: int = 4_000_000,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if backward != "uniform" and not objective.trains_backward:
            raise InputError(
                f"{type(objective).__name__} does not train a backward policy; "
                "set backward: uniform"
            )
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}")
        if burst < 1:
            raise InputError(f"burst must be at least 1, got {burst}")
        if min(lr, critic_lr, log_z_lr) < 0:
            rates = f"{lr}, {critic_lr}, {log_z_lr}"
            raise InputError(f"lr, critic_lr and log_z_lr must not be negative, got {rates}")
        self.environment, self.objective = environment, objective
        self.policy = Policy(
            environment, network, backward, critic if objective.needs_critic else None
        )
        self.batch_size, self.burst = batch_size, burst
        self.optimizer, self.exact_limit = optimizer, exact_limit
        numbered = environment.n_states is not None
        self.opening = Opening(environment, batch_size, BLOCK) if numbered else None
        self.walk = Compiled(walk) if compiled else walk
        # Where lengths differ, shapes do: then the walk alone is compiled.
        self.static = compiled and environment.fixed_length
        self.play = Compiled(play) if self.static else play
        self.learn = Differentiated(losses, environment, self.policy, objective)
        self.learning_rates = {"policy": lr, "critic": critic_lr, "log_z": log_z_lr}
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        if self.seed < 0:
            raise InputError(f"seed must not be negative, got {self.seed}")
        self.draws = 0  # batches drawn so far, which key the randomness of the next
        self.trajectories = 0  # drawn so far on all devices: what methods are compared at
        self.found = Found(environment)
        self._data: DataModule | None = None
        self._target: Target | None = None
        self._modes: Tensor | None = None

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
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, DataModule):
            self._take(data)

    def _take(self, data: DataModule) -> None:
        """Another reward has another target and other modes."""
        self._data, self._target, self._modes = data, None, None

    def _noise(self, n: int, stream: int, draw: int) -> Tensor:
        """The randomness of `n` trajectories on this rank."""
        shape = (n, self.environment.max_steps)
        return uniform_noise(shape, self.device, self.seed, stream, self.global_rank, draw)

    def draw(self, n: int, stream: int, draw: int) -> Trajectories:
        """Draw `n` trajectories; equal arguments draw the same on the same rank."""
        noise = self._noise(n, stream, draw)
        usual = n == self.batch_size  # another number would be compiled anew
        opening, steps = (self.opening, self.walk) if usual else (None, walk)
        return sample(self.environment, self.policy, noise, opening, steps)

    def forward(self, n: int, stream: int, draw: int) -> Trajectories:
        """Draw and reward `n` trajectories."""
        trajectories = self.draw(n, stream, draw)
        return trajectories._replace(log_reward=self.log_reward(trajectories.objects))

    def log_reward(self, objects: Tensor) -> Tensor:
        """log R in nats, ``float[batch]``; see `score_objects`."""
        return self.score_objects(objects)[1]

    def score_objects(self, objects: Tensor) -> tuple[Tensor, Tensor]:
        """The data's score of objects, and log R in nats: ``float[batch]`` each.

        Raises:
            InputError: A reward is NaN, infinite or not positive, or there is not one per object.
        """
        reward = self.data.reward_on(objects.device)
        with torch.autocast(objects.device.type, enabled=False):  # in full precision always
            scores = reward.score(objects)
            log_reward = reward.log_of(scores)
        self._check(objects, log_reward)
        return scores, log_reward

    def _check(self, objects: Tensor, log_reward: Tensor) -> None:
        """Refuse log-rewards that nothing can be learned from."""
        if log_reward.shape != (len(objects),):
            raise InputError(
                f"the score of {len(objects)} objects must be {len(objects)} numbers, "
                f"got the shape {tuple(log_reward.shape)}"
            )
        if math.isfinite(log_reward.sum(dtype=torch.float64)):
            return
        bad = ~log_reward.isfinite()
        text = self.environment.decode(objects[bad][:1])[0]
        raise InputError(
            f"the reward of '{text}' is not a positive number "
            f"(log R = {log_reward[bad][0].item():g}; {int(bad.sum())} of {len(bad)} objects); "
            "mend the score, or set the reward's minimum"
        )

    def batch(self) -> tuple[Trajectories, Losses, Gradients | None]:
        """The next batch of training; see `play`."""
        with torch.no_grad():  # but for what `learn` differentiates
            trajectories, losses, gradients = self.play(
                self.environment,
                self.policy,
                self.data.reward_on(self.device),
                self._noise(self.batch_size, TRAINING, self.draws),
                self.opening,
                walk if self.static else self.walk,
                self.learn,
            )
        self._check(trajectories.objects, trajectories.log_reward)
        self.draws += 1
        return trajectories, losses, gradients

    def _gather(self, x: Tensor) -> Tensor:
        """`x` of every rank, stacked."""
        several = self._trainer is not None and self._trainer.world_size > 1
        return cast(Tensor, self.all_gather(x)) if several else x

    def training_step(self, batch: int, batch_idx: int) -> Tensor:
        losses, gradients = self._count_batch()
        return loss_of(losses, gradients)

    def find_gradients(self, optimizer: Optimizer) -> None:
        """A `training_step` and its ``backward`` in one, for when nobody looks between."""
        losses, gradients = self._count_batch()
        set_gradients(optimizer, losses, gradients)

    def _count_batch(self) -> tuple[Losses, Gradients | None]:
        """The next batch, counted and logged."""
        trajectories, losses, gradients = self.batch()
        self.trajectories += self.batch_size * self.trainer.world_size
        self.found.add(trajectories.objects)
        every = cast(int, getattr(self.trainer, "log_every_n_steps"))  # noqa: B009 # untyped
        if every and (self.trainer.global_step + 1) % every == 0:
            self._log_batch(trajectories, losses)
        return losses, gradients

    def _log_batch(self, trajectories: Trajectories, losses: dict[str, Tensor]) -> None:
        """Log what the progress bar and the log show; Lightning's logging is slow, so rarely."""
        self.found.update(self._gather)
        columns: dict[str, Tensor | float] = {
            "trajectories": float(self.trajectories),
            "reward": trajectories.log_reward.exp().mean(),
            "distinct": float(len(self.found)),
            "log_z": self.objective.log_z.detach(),
            "length": trajectories.alive.sum(1).float().mean(),
        }
        columns |= {f"loss/{name}": loss.detach() for name, loss in losses.items()}
        self.log_dict(columns, batch_size=self.batch_size)

    @property
    def target(self) -> Target | None:
        """The exact target, where the environment is small enough to enumerate."""
        n_states = self.environment.n_states
        if self._target is None and n_states is not None and n_states <= self.exact_limit:
            target = target_distribution(self.environment, self.log_reward)
            self._target = Target(*(field.cpu() for field in target))
        return self._target

    @property
    def modes(self) -> Tensor | None:
        """The objects that the data counts as modes, ``int64[modes, *state_shape]``."""
        if self._modes is None:
            self._modes = self.data.modes(self.environment)
        return None if self._modes is None else self._modes.to(self.device)

    def evaluate(self) -> Evaluation:
        """The distance of what is sampled from the target, exact where that is possible."""
        self.found.update(self._gather)
        return evaluate(self)

    def on_train_start(self) -> None:
        """Log where training starts from, which Lightning's validation does not see."""
        fresh = self.draws == 0 and self.trainer.val_check_interval
        if fresh and self.trainer.logger is not None and self.trainer.limit_val_batches:
            metrics = {"trajectories": 0.0} | self.evaluate().metrics
            for logger in self.trainer.loggers:
                logger.log_metrics(metrics, step=0)

    def validation_step(self, batch: int, batch_idx: int) -> None:
        if not self.trainer.sanity_checking:
            metrics = {"trajectories": float(self.trajectories)} | self.evaluate().metrics
            self.log_dict(metrics, batch_size=1, sync_dist=self.trainer.world_size > 1)

    def predict_step(self, batch: int, batch_idx: int) -> Candidates:
        drawn = self(self.batch_size, CANDIDATES, batch)
        return Candidates(self.environment.decode(drawn.objects), drawn.log_reward)

    def configure_optimizers(self) -> Optimizer:
        """One optimizer; the critic and log Z have learning rates of their own."""
        groups: dict[str, list[nn.Parameter]] = {"policy": [], "critic": [], "log_z": []}
        for name, parameter in self.policy.named_parameters():
            groups["critic" if name.startswith("critic.") else "policy"].append(parameter)
        groups["log_z"] += self.objective.parameters()
        return self.optimizer(
            [
                {"params": parameters, "lr": self.learning_rates[name], "name": name}
                for name, parameters in groups.items()
                if parameters
            ]
        )

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Several batches, each with a `training_step` and an update."""
        assert optimizer_closure is not None  # Lightning always has one
        burst(self, optimizer, optimizer_closure, self.burst)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.found.update(self._gather)
        checkpoint["environment"] = self.environment.describe()
        checkpoint["found"], checkpoint["draws"] = self.found.keys, self.draws
        checkpoint["trajectories"] = self.trajectories

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        here, there = self.environment.describe(), checkpoint.get("environment")
        if here != there:
            raise InputError(
                f"the checkpoint was trained on {there or 'something unknown'}, but the "
                f"environment is {here}; use the environment it was trained on"
            )
        self.found.keys, self.draws = cast(Tensor, checkpoint["found"]), int(checkpoint["draws"])
        self.trajectories = int(checkpoint["trajectories"])
