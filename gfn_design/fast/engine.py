"""The engine that is used: the numbers of the plain one, sooner."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gfn_design.fast.compiled import Compiled, warn
from gfn_design.fast.compiled_loop import Loop, NotCompiledError
from gfn_design.fast.early_states import EarlyStates
from gfn_design.fast.log_probabilities import distinct_states, log_probabilities
from gfn_design.fast.prefixes import Reader, reads_prefixes
from gfn_design.fast.rollout import BLOCK, RollOut
from gfn_design.fast.several_batches import SeveralBatches
from gfn_design.fast.step import Differentiated, EngineOfBatch, Known, loss_of, whole_step
from gfn_design.policies.policy import Policy
from gfn_design.sampling.log_probabilities import PolicyLike, StepLogProbs
from gfn_design.sampling.trajectories import LogRewardFunction, Sampler, Trajectories
from gfn_design.training.engine import Batch, Engine, Noise, Parts, Step, Trains
from gfn_design.training.extras import EngineWithExtras
from gfn_design.training.options import Speed


def engine_for(parts: Parts, batch_size: int, once: bool, speed: Speed) -> Engine:
    """The engine that `speed` asks for.

    Args:
        parts: What learns, and how.
        batch_size: Trajectories of a batch.
        once: Each batch is learned from once, and nothing besides.
        speed: The plain one, or how to be faster.
    """
    if speed.fast:
        return FastEngine(parts, batch_size, once, speed)
    return EngineWithExtras(parts) if parts.have_extras or not once else Engine(parts)


class FastEngine(EngineWithExtras):
    """Asks about early and equal states once, drops what has stopped, compiles, goes in rows.

    Args:
        parts: What learns, and how.
        batch_size: Trajectories of a batch.
        once: Each batch is learned from once, and nothing besides.
        speed: Whether to compile, and how many batches one step of Lightning may carry.

    Attributes:
        takes_gradients: A compiled step finds its gradient itself.
    """

    def __init__(self, parts: Parts, batch_size: int, once: bool, speed: Speed) -> None:
        super().__init__(parts)
        environment, reads = parts.environment, reads_prefixes(parts.policy)
        compiled = speed.compiled and not reads  # what is remembered changes from step to step
        numbered, fixed = environment.n_states is not None, environment.fixed_length
        self.batch_size, self.batches_per_step = batch_size, speed.batches_per_step
        early = EarlyStates(environment, batch_size, BLOCK) if numbered and not reads else None
        self.early = early
        simple = once and all(
            (
                parts.search is None,
                parts.policy.members == 1,
                parts.backward is None,
                parts.slow is None,
                parts.objective.value_kind != "edges",
                not parts.objective.brings_optimizer,
                not reads,
            )
        )
        # Whole steps are compiled where lengths are fixed; else roll-outs, and losses by themselves
        # if it is known which states are equal. Where steps are not simple, roll-outs alone.
        self.whole = compiled and simple and fixed
        self.takes_gradients = compiled and simple and (fixed or numbered)
        self.rollout = RollOut(environment, early, compiled)
        self.other = RollOut(environment)  # of another number, which would be compiled anew
        self.inner = RollOut(environment, early) if self.whole else self.rollout
        self.differentiated = Differentiated(parts, self.inner)
        parted = self.takes_gradients and not self.whole
        self.losses_and_gradients = Compiled(self.differentiated, dynamic=True) if parted else None
        self.whole_step = Compiled(whole_step, replayed=True) if self.whole else None
        self.loops = self.whole and speed.batches_per_step > 1  # as long as one can be compiled
        self.looping = self.loops
        self.loop: Loop | None = None
        self.names: list[str] | None = None  # of the losses of a step; None before there was one
        self.several = SeveralBatches()

    @property
    def tables(self) -> nn.ModuleList:
        return nn.ModuleList() if self.early is None else nn.ModuleList([self.early])

    def forget(self) -> None:
        """There is another reward: a loop is compiled anew for it."""
        self.loop = self.names = None
        self.looping = self.loops

    def sample(self, policy: Sampler, uniform: Tensor) -> Trajectories:
        rollout = self.rollout if len(uniform) == self.batch_size else self.other
        if isinstance(policy, Policy) and reads_prefixes(policy):
            policy = Reader(policy)
        return rollout.sample(policy, uniform)

    def log_probabilities(
        self, policy: PolicyLike, trajectories: Trajectories, all_actions: bool = False
    ) -> StepLogProbs:
        return log_probabilities(self.parts.environment, policy, trajectories, all_actions)

    def draw(self, noise: Noise, reward: LogRewardFunction) -> Batch:
        return EngineOfBatch(self.parts, self.inner).draw(noise, reward)

    def learn(self, batch: Batch) -> Step:
        if self.losses_and_gradients is None:
            return self._noted(super().learn(batch))
        # A graph cannot find out how many states differ.
        environment, policy = self.parts.environment, self.parts.policy
        states = distinct_states(environment, policy.shared, batch.drawn)
        return self._noted(Step(batch, *self.losses_and_gradients(batch, Known(states=states))))

    def step(self, noise: Noise, reward: LogRewardFunction) -> Step:
        # If a loop follows, the compiled step might not be called again.
        if self.whole_step is None or (self.looping and self.names is None):
            return super().step(noise, reward)
        return self._noted(Step(*self.whole_step(self.differentiated, noise, reward)))

    def _noted(self, step: Step) -> Step:
        self.names = [*step.losses]
        return step

    def loss(self, step: Step) -> Tensor:
        return loss_of(step.losses, step.gradients)

    # ---- Updates -------------------------------------------------------------------------------

    def update(self, module: Trains, optimizer: Any, closure: Callable[[], Any], most: int) -> None:
        most = min(most, self.batches_per_step)
        if self.looping and self.names is None:
            most = 1  # the next has a loop
        loop = partial(self.loop_of, module, optimizer.optimizer)
        self.several.take(module, optimizer, closure, most, loop, self.give_up_loops)

    def loop_of(self, module: Trains, optimizer: Optimizer) -> Loop | None:
        """Takes whole batches, where nothing has to be done between their gradient and update."""
        if not (
            self.looping
            and self.names is not None
            and module.device.type == "cpu"  # elsewhere it would wait at every batch
            and module.is_in_full_precision
            and Loop.suits(optimizer)
        ):
            return None
        if self.loop is None or self.loop.optimizer is not optimizer:
            self.loop = Loop(
                self.parts,
                self.differentiated.function.rollout,
                module.learned_reward(),
                cast(Adam, optimizer),
                self.names,
                self.batches_per_step,
            )
        return self.loop

    def give_up_loops(self, error: NotCompiledError) -> None:
        """Go on without, as the reward, say, is no function that can be compiled."""
        self.looping = False
        warn("a loop over batches", error)
