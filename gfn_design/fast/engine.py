"""The engine that is used: the numbers of the plain one, sooner."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gfn_design.fast.bursts import Bursts
from gfn_design.fast.compiled import Compiled, warn
from gfn_design.fast.compiled_loop import Loop, NotCompiledError
from gfn_design.fast.early_states import EarlyStates
from gfn_design.fast.rollout import BLOCK, RollOut
from gfn_design.fast.scoring import distinct_states, score
from gfn_design.fast.step import Differentiated, Draws, Known, loss_of, whole_step
from gfn_design.sampling.rollout import Sampler
from gfn_design.sampling.scoring import Scorer
from gfn_design.sampling.trajectories import LogRewardFunction, Scored, Trajectories
from gfn_design.training.batches import Batch, Noise, Parts, draw_batch
from gfn_design.training.engine import Engine, Step, Trains
from gfn_design.training.options import Speed


class FastEngine(Engine):
    """Asks about early and equal states once, drops what has stopped, compiles, goes in bursts.

    Args:
        parts: What learns, and how.
        batch_size: Trajectories of a batch.
        once: Each batch is learned from once, and nothing besides.
        speed: Whether to compile, and how many batches one step of Lightning may carry.

    Attributes:
        tables: What belongs on the device of the parts.
        takes_gradients: A compiled step finds its gradient itself.
    """

    def __init__(self, parts: Parts, batch_size: int, once: bool, speed: Speed) -> None:
        super().__init__(parts)
        environment, compiled = parts.environment, speed.compiled
        numbered, fixed = environment.n_states is not None, environment.fixed_length
        self.batch_size, self.batches_per_step = batch_size, speed.batches_per_step
        early = EarlyStates(environment, batch_size, BLOCK) if numbered else None
        self.tables = nn.ModuleList() if early is None else nn.ModuleList([early])
        simple = once and all(
            (
                parts.search is None,
                parts.policy.heads == 1,
                parts.backward is None,
                parts.slow is None,
                parts.objective.head != "edges",
                not parts.objective.brings_optimizer,
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
        self.find = Compiled(self.differentiated, dynamic=True) if parted else None
        self.play = Compiled(whole_step, replayed=True) if self.whole else None
        self.looping = self.whole and speed.batches_per_step > 1
        self.loop: Loop | None = None
        self.names: list[str] | None = None  # of the losses of a step; None before there was one
        self.bursts = Bursts()

    def forget(self) -> None:
        """There is another reward: the next batch is a first one."""
        self.loop = self.names = None

    def sample(self, policy: Sampler, uniform: Tensor) -> Trajectories:
        rollout = self.rollout if len(uniform) == self.batch_size else self.other
        return rollout.sample(policy, uniform)

    def score(
        self,
        policy: Scorer,
        trajectories: Trajectories,
        all_actions: bool = False,
        relative: bool = True,
    ) -> Scored:
        return score(self.parts.environment, policy, trajectories, all_actions, relative)

    def draw(self, noise: Noise, reward: LogRewardFunction) -> Batch:
        return draw_batch(self.parts, noise, reward, Draws(self.parts, self.inner))

    def learn(self, batch: Batch) -> Step:
        if self.find is None:
            return self._noted(super().learn(batch))
        # A graph cannot find out how many states differ.
        environment, policy = self.parts.environment, self.parts.policy
        states = distinct_states(environment, policy.shared, batch.drawn)
        return self._noted(Step(batch, *self.find(batch, Known(states=states))))

    def step(self, noise: Noise, reward: LogRewardFunction) -> Step:
        # If a loop follows, the compiled step might not be called again.
        if self.play is None or (self.looping and self.names is None):
            return super().step(noise, reward)
        return self._noted(Step(*self.play(self.differentiated, noise, reward)))

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
        self.bursts.take(module, optimizer, closure, most, loop, self.give_up_loops)

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
