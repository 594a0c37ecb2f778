"""The LightningModule: draw trajectories, score them, improve the policy."""

import logging
import math
import os
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any, Literal, NamedTuple, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from gfn_design import ranks
from gfn_design.burst import burst
from gfn_design.compiled import (
    Compiled,
    Differentiated,
    Gradients,
    Losses,
    loss_of,
    set_gradients,
    warn,
)
from gfn_design.data.base import DataModule
from gfn_design.divergence import DivergenceError, are_finite, diverged
from gfn_design.environments.base import Environment
from gfn_design.environments.walks import every_state_is_an_object
from gfn_design.errors import InputError
from gfn_design.evaluation.evaluate import Evaluation, evaluate
from gfn_design.evaluation.exact import Target, target_distribution
from gfn_design.finetuning import FineTuning
from gfn_design.learned_reward import LearnedReward, calibrate, log_weight_of
from gfn_design.loop import Learned, Loop, NotCompiledError
from gfn_design.objectives.base import BackwardObjective, Objective
from gfn_design.objectives.trust_region import TrustRegion, TrustRegionAdam
from gfn_design.policies.mlp import MLP
from gfn_design.policies.policy import Policy
from gfn_design.ranks import gathered, joined, together, world
from gfn_design.sampling.distinct import Opening
from gfn_design.sampling.exploration import Exploration
from gfn_design.sampling.found import Found
from gfn_design.sampling.local_search import LocalSearch
from gfn_design.sampling.noise import (
    CANDIDATES,
    CHOICES,
    HEADS,
    HISTORIES,
    REPLAYED,
    SEARCHED,
    TRAINING,
    uniform_noise,
)
from gfn_design.sampling.prioritized import PrioritizedReplay
from gfn_design.sampling.replay import Replay
from gfn_design.sampling.trajectories import (
    BLOCK,
    Reward,
    Trajectories,
    Walks,
    concatenate,
    sample,
    score,
    walk,
    walk_on,
)
from gfn_design.training_step import (
    Batch,
    Noise,
    Parts,
    collect,
    log_z_of,
    losses,
    packed,
    play,
    unpacked,
)

ADAM = partial(Adam, fused=True)  # one kernel for all parameters
CPU = torch.device("cpu")
logger = logging.getLogger(__name__)
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
        learned, anchored = backward in ("learned", "shared"), start is not None and start.anchored
        if (
            not anchored
            and learned
            and backward_objective is None
            and not objective.trains_backward
        ):
            raise InputError(
                f"{type(objective).__name__} does not train a backward policy; "
                "set backward: uniform, or a backward_objective"
            )
        if backward_objective is not None and not learned:
            raise InputError(
                f"{type(backward_objective).__name__} has no backward policy to train; "
                f"set backward: learned (it is {backward})"
            )
        if objective.scores_states and environment.copies:
            raise InputError(
                f"{type(objective).__name__} asks the reward of every state, and in "
                f"{environment.describe()} several states are one object, and some are none"
            )
        if objective.scores_states and not every_state_is_an_object(environment):
            raise InputError(
                f"{type(objective).__name__} needs an environment all of whose states are objects, "
                f"got {environment.describe()}"
            )
        if environment.n_backward_actions == 1:  # nothing to learn
            backward_objective = None
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}")
        if batch_size < objective.least_batch:
            raise InputError(
                f"{type(objective).__name__} compares the trajectories of a batch; set batch_size "
                f"to {objective.least_batch} or more, got {batch_size}"
            )
        if updates < 1:
            raise InputError(f"updates must be at least 1, got {updates}")
        if objective.on_policy:
            name = type(objective).__name__
            others = {"replay": replay, "exploration": exploration, "search": search}
            if what := ", ".join(key for key, part in others.items() if part is not None):
                raise InputError(f"{name} learns from its own policy alone; leave out {what}")
            if updates > 1 and not objective.repeats:
                raise InputError(f"{name} takes one update for each batch, got updates={updates}")
        if updates > 1 and backward_objective is not None and backward_objective.on_policy:
            name = type(backward_objective).__name__
            raise InputError(f"{name} takes one update for each batch, got updates={updates}")
        if isinstance(objective, TrustRegion):
            if backward == "shared":
                raise InputError(
                    "a trust region needs a forward policy that is not shared; set "
                    "backward: learned or uniform"
                )
            if optimizer is not ADAM:
                raise InputError("a trust region brings its own optimizer; leave out optimizer")
        if objective.scores_states and replay is not None:
            raise InputError(
                f"{type(objective).__name__} needs the reward of every state, and a replay keeps "
                "objects; leave out replay"
            )
        if isinstance(replay, PrioritizedReplay) and not objective.single_steps:
            raise InputError(
                f"{type(objective).__name__} does not learn from single steps, which "
                "PrioritizedReplay keeps; take Replay, or the objective SoftQ"
            )
        heads = 1 if exploration is None else exploration.heads
        if heads > 1 and (objective.head == "edges" or backward == "shared"):
            raise InputError(
                "several heads of a policy learn from probabilities, by themselves; leave out "
                "exploration.heads, or FlowMatching and backward: shared"
            )
        if heads > 1 and isinstance(replay, PrioritizedReplay):
            raise InputError(
                "the errors of PrioritizedReplay are those of one policy; leave out "
                "exploration.heads"
            )
        copied = (x.copy_rate for x in (objective, backward_objective) if x is not None)
        copy_rates = {rate for rate in copied if rate is not None}
        if len(copy_rates) > 1:
            given = " and ".join(map(str, sorted(copy_rates)))
            raise InputError(
                "objective and backward_objective have one slow copy between them; give both the "
                f"same rate, got {given}"
            )
        if search is not None:
            search.check(environment, batch_size)
        if start is not None:
            start.check(objective, backward, backward_objective)
            if heads > 1:
                raise InputError(
                    "a policy of several heads cannot be fine-tuned, nor another be given heads; "
                    "leave out exploration.heads or start"
                )
        if burst < 1:
            raise InputError(f"burst must be at least 1, got {burst}")
        if min(lr, critic_lr, log_z_lr) < 0:
            rates = f"{lr}, {critic_lr}, {log_z_lr}"
            raise InputError(f"lr, critic_lr and log_z_lr must not be negative, got {rates}")
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
        self.batch_size, self.burst, self.compiled = batch_size, burst, compiled
        self.optimizer, self.schedule, self.exact_limit = optimizer, schedule, exact_limit
        numbered = environment.n_states is not None
        self.opening = Opening(environment, batch_size, BLOCK) if numbered else None
        # Its kernels are small; products of matrices use all threads all the same.
        alone: dict[str, Any] = {"cpp.threads": 1}
        steps = (
            (Compiled(walk, replayed=True, **alone), Compiled(walk_on, dynamic=None, **alone))
            if compiled
            else ()
        )
        self.walks = Walks(*steps)
        self.updates, self.replay, self.exploration = updates, replay, exploration
        self.slow: Policy | None = None
        self.copy_rate = copy_rates.pop() if copy_rates else None
        if self.copy_rate is not None:
            self.slow = deepcopy(self.policy).requires_grad_(False)
        plain = all(
            (
                updates == 1,
                replay is None,
                search is None,
                heads == 1,
                backward_objective is None,
                self.copy_rate is None,
                objective.head != "edges",
                not isinstance(objective, TrustRegion),
                start is None or start.known is None,
            )
        )
        # Whole steps are compiled where lengths are fixed; else roll-outs, and losses by themselves
        # if it is known which states are equal. Where steps are not plain, roll-outs alone.
        self.static = compiled and plain and environment.fixed_length
        self.compiled_gradients = compiled and plain and (environment.fixed_length or numbered)
        self.play = Compiled(play, replayed=True) if self.static else play
        modules = (environment, self.policy, objective, backward_objective, self.slow)
        learn: Callable[..., Any] = Differentiated(losses, *modules)
        if self.compiled_gradients and not self.static:
            learn = Compiled(learn, dynamic=True)
        walks = Walks() if self.static else self.walks
        self.parts = Parts(*modules, exploration, search, self.opening, walks, learn)
        self._batch: Batch | None = None  # the latest that was not taken in a loop
        self._used = 0  # updates made with it
        self._latest_losses: Losses | None = None  # outside of loops, as constants
        self.batch_seconds = 0.0  # that the latest took, outside of loops
        self._loop: Loop | None = None
        self.looping = self.static and burst > 1
        self._learned: Learned | None = None  # in a loop, and not logged yet
        self.learning_rates = {"policy": lr, "critic": critic_lr, "log_z": log_z_lr}
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        if self.seed < 0:
            raise InputError(f"seed must not be negative, got {self.seed}")
        self.draws = 0  # batches drawn so far, which key the randomness of the next
        self.trajectories = 0  # drawn so far on all devices: what methods are compared at
        self.asked = 0  # of the reward in the latest batch, on this device
        self.reward_calls = 0  # objects and states that training has asked the reward of, likewise
        self.found = Found(environment)
        self._unchecked: list[tuple[Tensor, Tensor]] = []  # objects and log R, see `catch_up`
        self._data: DataModule | None = None
        self._target: Target | None = None
        self._modes: Tensor | None = None
        self._learned_reward: tuple[LearnedReward, ...] = ()  # no part of the module's state
        if schedule is not None and isinstance(schedule(self._optimizer()), ReduceLROnPlateau):
            raise InputError("a schedule counts updates, and ReduceLROnPlateau looks at a metric")

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

    def teardown(self, stage: str) -> None:
        ranks.end()

    def setup(self, stage: str) -> None:
        if stage == "fit":
            ranks.begin()
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, DataModule):
            self._take(data)

    def _take(self, data: DataModule) -> None:
        """Another reward has another target and other modes."""
        self._data, self._target, self._modes = data, None, None
        self._loop = self._latest_losses = None  # the next batch is a first one
        self._learned_reward = ()

    def noise(self, n: int, stream: int, draw: int) -> Tensor:
        """The randomness of `n` trajectories on this rank."""
        shape = (n, self.environment.max_steps)
        return uniform_noise(shape, self.device, self.seed, stream, self.global_rank, draw)

    def draw(self, n: int, stream: int, draw: int) -> Trajectories:
        """Draw `n` trajectories; equal arguments draw the same on the same rank."""
        noise = self.noise(n, stream, draw)
        usual = n == self.batch_size  # another number would be compiled anew
        opening, walks = (self.opening, self.walks) if usual else (None, Walks())
        return sample(self.environment, self.policy, noise, opening, walks)

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
            log_reward = log_reward + log_weight_of(self.environment, objects).to(log_reward)
        self.check_rewards(objects, log_reward)
        return scores, log_reward

    def check_rewards(self, objects: Tensor, log_reward: Tensor) -> None:
        """Refuse log-rewards that nothing can be learned from."""
        if log_reward.shape != (len(objects),):
            raise InputError(
                f"the score of {len(objects)} objects must be {len(objects)} numbers, "
                f"got the shape {tuple(log_reward.shape)}"
            )
        if math.isfinite(log_reward.sum(dtype=torch.float64)):
            return
        bad = ~log_reward.isfinite()
        text, first = self.environment.decode(objects[bad][:1])[0], log_reward[bad][0].item()
        what, bound = (
            ("too large", "maximum") if first > 0 else ("not a positive number", "minimum")
        )
        raise InputError(
            f"the reward of '{text}' is {what} "
            f"(log R = {first:g}; {int(bad.sum())} of {len(bad)} objects); "
            f"mend the score, or set the reward's {bound}"
        )

    def batch(self) -> tuple[Batch, Losses, Gradients | None]:
        """What the next update learns from; see `play`."""
        with torch.no_grad():  # but for what `learn` differentiates
            if self.slow is not None and self.copy_rate is not None:
                for slow, fast in zip(
                    self.slow.parameters(), self.policy.parameters(), strict=True
                ):
                    slow.lerp_(fast, self.copy_rate)
            first = self.draws == 0 and not bool(self.objective.calibrated)
            if self.updates == 1 and self.replay is None and not first:
                # If a loop follows, the compiled step might not be called again.
                once = self.looping and self.loss_names is None
                batch, losses, gradients = (play if once else self.play)(*self._request())
                self._note(losses)
                self._accept(batch)
                return batch, losses, gradients
            if self._batch is None or self._used == self.updates:
                batch = collect(*self._request())
                if first:
                    batch = self._calibrated(batch)
                if self.updates > 1 and self.objective.on_policy:
                    whole = self.objective.needs_policy
                    then = score(self.environment, self.policy, batch.drawn, all_actions=whole)
                    batch = batch._replace(then=then)
                self._accept(batch)
            self._used += 1
            assert self._batch is not None
            learned = self.parts.learn(self._with_replayed(self._batch), None)
            self._note(learned[0])
            if isinstance(self.replay, PrioritizedReplay):
                self.replay.learned(self.objective.errors)
            return self._batch, *learned

    def _request(self) -> tuple[Parts, Reward, Noise]:
        """The arguments of `play` for the next batch."""
        n, search = self.batch_size, self.parts.search
        first = n if search is None else n // (search.rounds + 1)
        noise = Noise(
            self.noise(first, TRAINING, self.draws),
            self.noise(n, HISTORIES, self.draws) if self.backward_objective else None,
            self.noise(2 * (n - first), SEARCHED, self.draws) if search else None,
            self._lots(n) if self.policy.heads > 1 else None,
        )
        return self.parts, self.state_reward(), noise

    def state_reward(self) -> LearnedReward:
        """log R of finished states as it is learned from; see `LearnedReward`."""
        reward = self.data.reward_on(self.device)
        if not self._learned_reward or self._learned_reward[0].reward is not reward:
            learned = LearnedReward(reward, self.environment, self.objective, self.log_copies)
            self._learned_reward = (learned,)
        return self._learned_reward[0]

    def _calibrated(self, batch: Batch) -> Batch:
        """The first batch, its log-rewards as they are learned from once it has told the scale."""
        drawn, back, at = batch.drawn, batch.back, batch.log_reward_at
        together(lambda: self.check_rewards(drawn.objects, drawn.log_reward))
        calibrate(self.objective, score(self.environment, self.policy, drawn), self._gather)
        rescaled = self.state_reward().rescaled
        if at is not None:
            left = drawn.states[:, :-1].flatten(0, 1)
            at = rescaled(at.flatten(), left).view(at.shape)
        return batch._replace(
            drawn=drawn._replace(log_reward=rescaled(drawn.log_reward, drawn.objects)),
            back=back and back._replace(log_reward=rescaled(back.log_reward, back.objects)),
            log_reward_at=at,
        )

    def log_copies(self, objects: Tensor) -> Tensor:
        """log of among how many states each object's reward is shared: ``float64[batch]``.

        A prior has its own share for each state already.
        """
        copies = self.environment.log_copies(objects)
        return copies if self.policy.prior is None else torch.zeros_like(copies)

    def _note(self, losses: Losses) -> None:
        self._latest_losses = {name: loss.detach() for name, loss in losses.items()}

    @property
    def loss_names(self) -> list[str] | None:
        """Of the latest batch outside of loops; None if there was none with this reward."""
        return None if self._latest_losses is None else [*self._latest_losses]

    def _lots(self, n: int) -> Tensor:
        """The randomness that heads are drawn with."""
        again = 0 if self.replay is None else self.replay.size
        shape = (n + again, self.policy.heads + 1)
        return uniform_noise(shape, self.device, self.seed, HEADS, self.global_rank, self.draws)

    @property
    def looped(self) -> bool:
        """Whether batches have been learned from in a loop."""
        return self._loop is not None and self._loop.compiled

    def loop_of(self, optimizer: Optimizer) -> Loop | None:
        """Takes whole batches, where nothing has to be done between their gradient and update."""
        if not (
            self.looping
            and self.loss_names is not None
            and self.device.type == "cpu"  # elsewhere it would wait for the device at every batch
            and (self._trainer is None or self._trainer.precision == "32-true")
            and Loop.suits(optimizer)
        ):
            return None
        if self._loop is None or self._loop.optimizer is not optimizer:
            self._loop = Loop(self, cast(Adam, optimizer))
        return self._loop

    def give_up_loops(self, error: NotCompiledError) -> None:
        """Go on without, as the reward, say, is no function that can be compiled."""
        self.looping = False
        warn("a loop over batches", error)

    def accept(self, learned: Learned) -> None:
        """Count batches that a loop has learned from; the next `training_step` logs the last."""
        batches = len(learned.objects)
        objects = learned.objects.flatten(0, 1)
        self.check_rewards(objects, learned.log_reward.flatten())
        self.draws += batches
        self._count(objects, batches, len(objects))
        self._learned = learned

    def _count(self, objects: Tensor, batches: int, asked: int) -> None:
        """Count batches, on all devices, and the reward calls of this one."""
        ranks = 1 if self._trainer is None else self._trainer.world_size
        self.trajectories += batches * self.batch_size * ranks
        self.reward_calls += asked * ranks
        self.asked = asked // batches
        self.found.add(objects.clone())  # a compiled step may write the next ones there

    def _accept(self, batch: Batch) -> None:
        """Count a batch that was just drawn, and keep what is learned from again."""
        objects, log_reward = batch.drawn.objects, batch.drawn.log_reward
        if objects.is_cuda:
            self._unchecked.append((objects.clone(), log_reward.clone()))
        else:
            together(lambda: self.check_rewards(objects, log_reward))
        self.draws += 1
        self._batch, self._used = batch, 0
        if self.exploration is not None:
            self.exploration.next_batch()
        if self.replay is not None:
            self.replay.keep(batch.drawn)

    def _with_replayed(self, batch: Batch) -> Batch:
        """The batch and, if there is a replay, what that gives; see `Replay.recall`."""
        if self.replay is None:
            return batch
        key = self.draws * self.updates + self._used
        noise = self.noise(self.replay.size, REPLAYED, key)
        which = self.noise(self.replay.size, CHOICES, key)[:, 0]
        again, weight = self.replay.recall(self.environment, self.policy, which, noise)
        if weight is None:
            return batch._replace(drawn=concatenate(batch.drawn, again))
        return batch._replace(drawn=again, weight=weight, back=batch.back or batch.drawn)

    def catch_up(self) -> None:
        """Do what batches leave for when there is time: rows of the log, checkpoints, the end.

        Which objects are new is found out, and on a GPU whether the rewards are numbers: to look at
        every batch would be to wait for it.

        Raises:
            InputError: A reward is NaN, infinite or not positive.
            DivergenceError: On a GPU, a weight is not finite.
        """
        if self._unchecked:  # and still unchecked if it is refused
            unchecked = [*map(torch.cat, zip(*self._unchecked, strict=True))]
            together(lambda: self.check_rewards(*unchecked))
            self._unchecked.clear()
        if self.device.type != "cpu":
            self.check_weights()
        self.found.update(self._gather)

    def _gather(self, x: Tensor) -> Tensor:
        """`x` of every rank, one after the other."""
        return joined(x)

    def training_step(self, batch: int, batch_idx: int) -> Tensor:
        losses, gradients = self._count_batch()
        return loss_of(losses, gradients)

    def find_gradients(self, optimizer: Optimizer) -> None:
        """A `training_step` and its ``backward`` in one, for when nobody looks between."""
        with self.trainer.precision_plugin.train_step_context():
            losses, gradients = self._count_batch()
        set_gradients(optimizer, losses, gradients)

    def _check_losses(self, losses: Losses) -> None:
        if not math.isfinite(sum(float(loss.detach()) for loss in losses.values())):
            raise self._diverged()

    def check_weights(self) -> None:
        """Refuse to go on where the latest update has left anything but numbers.

        Raises:
            DivergenceError: A weight is not finite.
        """
        if not are_finite(p for p in self.parameters() if p.requires_grad):
            raise self._diverged()

    def _diverged(self) -> DivergenceError:
        batch = self._batch
        log_reward = torch.zeros(1) if batch is None else batch.drawn.log_reward
        losses = {name: float(loss) for name, loss in (self._latest_losses or {}).items()}
        return diverged(self.draws, losses, log_reward, self.learning_rates["policy"])

    def _count_batch(self) -> tuple[Losses, Gradients | None]:
        """The next batch, counted and logged; or the last of a loop, whose update is made."""
        if self._learned is not None:
            objects, log_reward, losses = self._learned
            self._learned = None
            if self._is_logged():
                length = torch.full((self.batch_size,), float(self.environment.max_steps))
                self._log_batch(objects[-1], log_reward[-1], length, losses)
            return {name: loss.requires_grad_() for name, loss in losses.items()}, None
        before = self.draws
        batch, losses, gradients = self.batch()
        drawn = batch.drawn
        if self.start is not None:
            update = self.draws * self.updates + self._used
            losses = losses | self.start.losses(self, update)
            self._note(losses)
        if self.draws > before:  # not an earlier one again
            self._count(drawn.objects, 1, self._asked(batch))
        if self.device.type == "cpu":  # elsewhere one would wait for them; see `catch_up`
            together(lambda: self._check_losses(losses))
        if self._is_logged():
            length = drawn.alive.sum(1).float()
            self._log_batch(drawn.objects, drawn.log_reward, length, losses)
        return losses, gradients

    def _counts(self) -> dict[str, float]:
        """What the data has counted, on all devices."""
        counts = self.data.counts()
        if not counts:
            return {}
        total = self._gather(torch.tensor([*counts.values()], dtype=torch.float64))
        return dict(zip(counts, total.view(-1, len(counts)).sum(0).tolist(), strict=True))

    def _is_logged(self) -> bool:
        every = cast(int, getattr(self.trainer, "log_every_n_steps"))  # noqa: B009 # untyped
        return bool(every) and (self.trainer.global_step + 1) % every == 0

    def _asked(self, batch: Batch) -> int:
        """How many objects and states `collect` has asked the reward of."""
        asked = len(batch.drawn.objects)
        if batch.log_reward_at is not None:
            asked += batch.log_reward_at.numel()
        backward = self.parts.backward
        if batch.log_guide is not None and backward is not None and backward.guide is not None:
            asked += backward.guide.scores_states * batch.log_guide.numel()
        return asked

    def _log_batch(
        self, objects: Tensor, log_reward: Tensor, length: Tensor, losses: Losses
    ) -> None:
        """Log what the progress bar and the log show; Lightning's logging is slow, so rarely."""
        self.catch_up()
        # As it is learned from, but of the object.
        log_reward = log_reward + self.log_copies(objects).float() + self.objective.log_scale
        columns: dict[str, Tensor | float] = {
            "trajectories": float(self.trajectories),
            "reward": log_reward.exp().mean(),
            "log_reward": log_reward.mean(),
            "distinct": float(len(self.found)),
            "floored": self.state_reward().floored(log_reward),
            "log_z": self.log_z,
            "length": length.mean(),
        }
        columns |= self._counts()
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
        return together(lambda: evaluate(self))

    def begin(self) -> None:
        """Take over what `start` has, before anything is learned; only once, and not on resuming.

        The Trainer does this; without one the reward must be there (see `use`).
        """
        if self.start is not None:
            self.start.begin(self)

    def calls(self) -> dict[str, float]:
        """What an evaluation is held against."""
        return {
            "trajectories": float(self.trajectories),
            "reward_calls": float(self.reward_calls),
        }

    def on_train_start(self) -> None:
        """Log where training starts from, which Lightning's validation does not see."""
        self._check_trainer()
        if self._batch is not None:  # a checkpoint is read before the module is on its device
            self._batch = unpacked(packed(self._batch, self.device))
        if self.replay is not None:
            self.replay.to(self.device)
        self.begin()
        if self.draws == 0 and self.trainer.logger is not None and self.trainer.limit_val_batches:
            metrics = self.calls() | self.evaluate().metrics
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
            self.compiled_gradients
            and getattr(self.trainer.precision_plugin, "scaler", None) is not None
        ):
            raise InputError(
                "a compiled step finds its gradient before the loss is scaled; set "
                "compiled: false, or trainer.precision: bf16-mixed"
            )

    def validation_step(self, batch: int, batch_idx: int) -> None:
        if not self.trainer.sanity_checking:
            metrics = self.calls() | self.evaluate().metrics
            self.log_dict(metrics, batch_size=1, sync_dist=self.trainer.world_size > 1)

    def predict_step(self, batch: int, batch_idx: int) -> Candidates:
        drawn = self(self.batch_size, CANDIDATES, batch)
        return Candidates(self.environment.decode(drawn.objects), drawn.log_reward)

    def configure_optimizers(self) -> Any:
        """One optimizer, with its schedule if there is one."""
        optimizer = self._optimizer()
        if self.schedule is None:
            return optimizer
        schedule = {"scheduler": self.schedule(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def _optimizer(self) -> Optimizer:
        """The critic and log Z have learning rates of their own."""
        groups: dict[str, list[nn.Parameter]] = {"policy": [], "critic": [], "log_z": []}
        for name, parameter in self.policy.named_parameters():
            if not parameter.requires_grad:  # a random prior, or frozen
                continue
            critic = name.startswith("backward_critic.") or (
                name.startswith("critic.") and self.objective.head == "critic"
            )
            groups["critic" if critic else "policy"].append(parameter)
        groups["log_z"] += self.objective.parameters()
        rated: list[dict[str, Any]] = [
            {"params": parameters, "lr": self.learning_rates[name], "name": name}
            for name, parameters in groups.items()
            if parameters
        ]
        if isinstance(self.objective, TrustRegion):
            return TrustRegionAdam(
                rated, self.environment, self.policy, self.objective, self._latest
            )
        return self.optimizer(rated)

    def _latest(self) -> Trajectories:
        assert self._batch is not None
        return self._batch.drawn

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Several batches, each with a `training_step` and an update."""
        assert optimizer_closure is not None  # Lightning always has one
        # What may be scored is looked at after every batch.
        most = self.burst if self.data.room() is None else 1
        burst(self, optimizer, optimizer_closure, most)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.catch_up()
        checkpoint["environment"] = self.environment.describe()
        checkpoint["found"], checkpoint["draws"] = self.found.keys, self.draws
        checkpoint["trajectories"] = self.trajectories
        checkpoint["reward_calls"] = self.reward_calls
        checkpoint["ranks"] = gathered(self._own_state())
        if self.start is not None:
            checkpoint["start"] = self.start.state_dict()

    def _own_state(self) -> dict[str, Any]:
        """What each rank has of its own: its memory, and a batch that is used again."""
        own: dict[str, Any] = {"data": self.data.counted()}
        if self.replay is not None:
            own["replay"] = self.replay.state_dict()
        if self.backward_objective is not None:
            own["memory"] = self.backward_objective.memories()
        if self._batch is not None and 0 < self._used < self.updates:
            own["used"], own["batch"] = self._used, packed(self._batch, CPU)
        return own

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        here, there = self.environment.describe(), checkpoint.get("environment")
        if here != there:
            raise InputError(
                f"the checkpoint was trained on {there or 'something unknown'}, but the "
                f"environment is {here}; use the environment it was trained on"
            )
        self.found.keys, self.draws = cast(Tensor, checkpoint["found"]), int(checkpoint["draws"])
        self.trajectories = int(checkpoint["trajectories"])
        self._batch, self._used = None, 0
        self.reward_calls = int(checkpoint["reward_calls"])
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
        if self.replay is not None and "replay" in own:
            self.replay.load_state_dict(own["replay"])
        if self.backward_objective is not None and "memory" in own:
            self.backward_objective.remember(own["memory"])
        if self._data is not None:
            self._data.count_on(own.get("data", {}))
        if "batch" in own:
            self._used, self._batch = own["used"], unpacked(own["batch"])
