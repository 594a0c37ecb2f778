"""Several sampled batches in one step of Lightning, whose bookkeeping costs as much as a small one.

Everything that counts batches goes on counting them: global steps, schedulers, logs, validation,
checkpoints. Several end where any of these is due, and after a tenth of a second, so that the
progress bar moves and large batches are taken one by one. Callbacks that look at every batch, other
than those known to bear with bursts, switch them off. Where a step of Lightning would do nothing
but a gradient and an update, they may be one compiled loop (see `compiled_loop`).
"""

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, Protocol

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar, Timer
from lightning.pytorch.profilers import PassThroughProfiler
from torch import Tensor

from gfn_design.fast import fused_adam
from gfn_design.fast.compiled_loop import NotCompiledError
from gfn_design.fast.lightning_counts import batches_until_something_is_due, next_batch
from gfn_design.fast.loops import Loops
from gfn_design.fast.step import set_gradients
from gfn_design.sampling.trajectories import LogRewardFunction
from gfn_design.training.divergence import are_finite
from gfn_design.training.engine import Step
from gfn_design.training.tally import Tally

SECONDS = 0.1
PATIENT = (
    ModelCheckpoint,
    ProgressBar,
    Timer,
)  # callbacks that look at several batches at once and miss nothing
STEPS = ("training_step", "learn_once", "next_step")
BATCH_HOOKS = ("on_train_batch_start", "on_train_batch_end")
GRADIENT_HOOKS = (
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)


class Trains(Protocol):
    """What is updated: a `GFlowNet`."""

    tally: Tally

    @property
    def trainer(self) -> Any:
        """Lightning's."""

    @property
    def device(self) -> torch.device:
        """Where it is."""

    @property
    def is_in_full_precision(self) -> bool:
        """Whether nothing is cast."""

    def learn_once(self) -> Step:
        """The next batch to learn from, counted, and its losses."""

    def next_noise(self, batches: int) -> list[Tensor]:
        """The randomness of the next batches, ``float[batch, max_steps]`` each."""

    def learned_reward(self) -> LogRewardFunction:
        """log R as it is learned from."""

    def check_weights(self) -> None:
        """Look at an update, unless that would be to wait for a GPU."""


class SeveralBatches:
    """Takes optimizer steps, each on a batch of its own.

    Args:
        loops: May take batches, if there are any.

    Attributes:
        batch_seconds: That the latest batch took, outside of loops.
    """

    def __init__(self, loops: Loops | None) -> None:
        self.loops, self.batch_seconds = loops, 0.0

    def take(self, module: Trains, optimizer: Any, closure: Callable[[], Any], most: int) -> None:
        """Take as many as fit, one at least.

        Args:
            module: Learns from a batch whenever it is asked to.
            optimizer: The one Lightning gives to `optimizer_step`.
            closure: Likewise; all of Lightning's work around a `training_step` and its gradient.
            most: Steps, at most.
        """
        trainer: Any = module.trainer  # whose attributes are not all typed
        bare, singly, loops = _is_bare(trainer), _goes_singly(trainer), self.loops
        room = 1 if singly else min(most, batches_until_something_is_due(trainer))
        if loops is not None and loops.next_may_have_one:
            room = 1
        loop = loops.of(module, optimizer.optimizer) if loops and bare and not singly else None
        if loops is not None and loop is not None:
            try:
                noise = module.next_noise(min(room, loop.room(SECONDS)))
                loop.run(noise, module.tally, partial(next_batch, trainer))
            except NotCompiledError as error:
                loops.give_up(error)
            else:
                closure()  # whose `training_step` finds everything done
                return
        if self.batch_seconds > SECONDS:
            room = 1  # whoever waits for the end of a batch, to save it say, waits for one
        self._one_by_one(module, optimizer, closure, room, bare)

    def _one_by_one(
        self, module: Trains, optimizer: Any, closure: Callable[[], Any], room: int, bare: bool
    ) -> None:
        trainer: Any = module.trainer
        began, taken, inner = monotonic(), 1, optimizer.optimizer
        fused = bare and fused_adam.suits(inner)
        for _ in range(room - 1):
            taken += 1
            if bare:
                with trainer.precision_plugin.train_step_context():
                    step = module.learn_once()
                set_gradients(inner, step.losses, step.gradients)
                _update(inner, fused)
            else:
                optimizer.step(closure=closure)
            _check(module, inner)
            next_batch(trainer)
            if monotonic() > began + SECONDS:
                break
        if fused:
            closure()
            _update(inner, True)
        else:
            optimizer.step(closure=closure)
        _check(module, inner)
        self.batch_seconds = (monotonic() - began) / taken


def _update(optimizer: Any, fused: bool) -> None:
    if fused:
        fused_adam.update(optimizer)
    else:
        optimizer.step()


def _check(module: Trains, optimizer: Any) -> None:
    """Look at an update; an optimizer has its parameters at hand."""
    parameters = (p for group in optimizer.param_groups for p in group["params"])
    if module.device.type != "cpu" or not are_finite(parameters):
        module.check_weights()


def _is_somebodys(module: Any, name: str) -> bool:
    """Whether a method is of a subclass outside of the package, which must be called."""
    return not getattr(type(module), name).__module__.startswith("gfn_design.")


def _overrides(part: Any, base: type, hooks: tuple[str, ...]) -> bool:
    return any(getattr(type(part), hook) is not getattr(base, hook) for hook in hooks)


def _is_bare(trainer: Any) -> bool:
    """Whether there is nothing in a step but a gradient and an update."""
    if any(_is_somebodys(trainer.lightning_module, step) for step in STEPS):
        return False
    own = (*GRADIENT_HOOKS, "backward", "optimizer_zero_grad", "configure_gradient_clipping")
    return not (
        any(_overrides(callback, Callback, GRADIENT_HOOKS) for callback in trainer.callbacks)
        or _overrides(trainer.lightning_module, LightningModule, own)
        or trainer.gradient_clip_val
        or getattr(trainer.precision_plugin, "scaler", None)
        or not isinstance(trainer.profiler, PassThroughProfiler)
    )


def _wants_each_batch(trainer: Any) -> bool:
    """Whether a callback, the module or a scheduler has something to do after every batch."""
    return (
        _overrides(trainer.lightning_module, LightningModule, BATCH_HOOKS)
        or any(s.reduce_on_plateau and s.interval == "step" for s in trainer.lr_scheduler_configs)
        or any(
            _overrides(callback, Callback, BATCH_HOOKS)
            and not isinstance(callback, PATIENT)
            and not getattr(callback, "sees_several_batches", False)
            for callback in trainer.callbacks
        )
    )


def _goes_singly(trainer: Any) -> bool:
    """Whether Lightning must take every batch by itself."""
    several = trainer.accumulate_grad_batches > 1 or trainer.world_size > 1
    return several or _wants_each_batch(trainer)
