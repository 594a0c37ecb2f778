"""The engine that is used: the numbers of the plain one, sooner."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gfn_design.fast.by_hand import goes_by_hand
from gfn_design.fast.compiled import Compiled
from gfn_design.fast.early_states import EarlyStates
from gfn_design.fast.log_probabilities import distinct_states, log_probabilities
from gfn_design.fast.loops import Loops
from gfn_design.fast.prefixes import Reader, reads_prefixes
from gfn_design.fast.rollout import BLOCK, RollOut
from gfn_design.fast.several_batches import SeveralBatches, Trains
from gfn_design.fast.step import (
    Differentiated,
    EngineOfBatch,
    Known,
    asked_once,
    loss_of,
    whole_step,
)
from gfn_design.fast.threads import FEW_ROWS, OnAllThreads, one_thread
from gfn_design.policies.policy import Policy
from gfn_design.sampling.log_probabilities import PolicyLike, StepLogProbs
from gfn_design.sampling.trajectories import LogRewardFunction, Sampler, Trajectories
from gfn_design.training.conditions import ConditionedEngine
from gfn_design.training.engine import Batch, Engine, Noise, Parts, Step
from gfn_design.training.extras import EngineWithExtras
from gfn_design.training.library import FromLibrary
from gfn_design.training.options import Speed

_log = logging.getLogger(__name__)


def engine_for(parts: Parts, batch_size: int, once: bool, speed: Speed) -> Engine:
    """The engine that `speed` asks for.

    Args:
        parts: What learns, and how.
        batch_size: Trajectories of a batch.
        once: Each batch is learned from once, and nothing besides.
        speed: The plain one, or how to be faster.
    """
    if parts.log_z_at is not None:
        return ConditionedEngine(parts)
    if parts.objective.from_library:
        return FastFromLibrary(parts, batch_size, once, speed) if speed.fast else FromLibrary(parts)
    if speed.fast:
        return FastEngine(parts, batch_size, once, speed)
    return EngineWithExtras(parts) if parts.have_extras or not once else Engine(parts)


def is_simple(parts: Parts) -> bool:
    """Whether a step is one draw, one evaluation and one gradient, which one graph can hold."""
    return (
        parts.backward is None
        and parts.slow is None
        and parts.search is None
        and parts.policy.members == 1
        and parts.objective.value_kind != "edges"
        and not (parts.objective.brings_optimizer or parts.objective.from_library)
    )


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
        if speed.compiled and reads:
            _log.warning(
                "speed.compiled: networks that read sequences letter by letter are not compiled; "
                "networks: {network: MLP} is"
            )
        numbered, fixed = environment.n_states is not None, environment.fixed_length
        self.batch_size, self.batches_per_step = batch_size, speed.batches_per_step
        early = EarlyStates(environment, batch_size, BLOCK) if numbered and not reads else None
        self.early = early
        # Whole steps are compiled where lengths are fixed; else roll-outs, and losses by themselves
        # if it is known which states are equal. Where steps are not simple, roll-outs alone.
        simple = compiled and once and is_simple(parts)
        whole, parted = simple and fixed, simple and numbered and not fixed
        self.takes_gradients = whole or parted
        self.rollout = RollOut(environment, early, compiled)
        self.unusual = RollOut(environment)  # of another number, which would be compiled anew
        self.inner = RollOut(environment, early) if whole else self.rollout
        self.differentiated = Differentiated(parts, self.inner)
        self.losses_and_gradients = Compiled(self.differentiated, dynamic=True) if parted else None
        self.whole_step: Any = Compiled(whole_step, replayed=True) if whole else None
        if not compiled and once and fixed and is_simple(parts):
            self.whole_step = whole_step
        self.few = not compiled and batch_size * environment.max_steps <= FEW_ROWS
        loops = whole and speed.batches_per_step > 1
        self.loops = Loops(parts, self.inner, speed.batches_per_step) if loops else None
        self.several = SeveralBatches(self.loops)
        self.threads = torch.get_num_threads()

    @property
    def tables(self) -> nn.ModuleList:
        return nn.ModuleList() if self.early is None else nn.ModuleList([self.early])

    def forget(self) -> None:
        if self.loops is not None:
            self.loops.forget()

    def sample(self, policy: Sampler, uniform: Tensor) -> Trajectories:
        rollout = self.rollout if len(uniform) == self.batch_size else self.unusual
        if isinstance(policy, Policy) and reads_prefixes(policy):
            policy = Reader(policy)
        return rollout.sample(policy, uniform)

    def log_probabilities(
        self, policy: PolicyLike, trajectories: Trajectories, all_actions: bool = False
    ) -> StepLogProbs:
        environment, known = self.parts.environment, Known()
        if not self.parts.objective.brings_optimizer and goes_by_hand(policy):
            known = asked_once(environment, policy, trajectories)
        return log_probabilities(environment, policy, trajectories, all_actions, *known)

    def draw(self, noise: Noise, reward: LogRewardFunction) -> Batch:
        return EngineOfBatch(self.parts, self.inner).draw(noise, reward)

    def learn(self, batch: Batch) -> Step:
        if self.losses_and_gradients is None:
            step = super().learn(batch)
            if self.loops is not None:
                self.loops.names = [*step.losses]
            return step
        # A graph cannot find out how many states differ.
        environment, policy = self.parts.environment, self.parts.policy
        states = distinct_states(environment, policy.shared, batch.drawn)
        return Step(batch, *self.losses_and_gradients(batch, Known(states=states)))

    def step(self, noise: Noise, reward: LogRewardFunction) -> Step:
        if self.few and not noise.drawn.is_cuda:
            reward = OnAllThreads(reward, self.threads)
        # If a loop follows, the compiled step might not be called again.
        if self.whole_step is None or (self.loops is not None and self.loops.next_may_have_one):
            return super().step(noise, reward)
        return Step(*self.whole_step(self.differentiated, noise, reward))

    def loss(self, step: Step) -> Tensor:
        return loss_of(step.losses, step.gradients)

    # ---- Updates -------------------------------------------------------------------------------

    def update(self, module: Trains, optimizer: Any, closure: Callable[[], Any], most: int) -> None:
        self.threads = torch.get_num_threads()
        with one_thread(self.few and module.device.type == "cpu"):
            self.several.take(module, optimizer, closure, min(most, self.batches_per_step))


class FastFromLibrary(FromLibrary, FastEngine):
    """Learns from a library by the fast paths."""
