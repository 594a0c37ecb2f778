"""Several sampled batches in one step of Lightning, whose bookkeeping costs as much as a small one.

Everything that counts batches goes on counting them: global steps, schedulers, logs, validation,
checkpoints. A burst ends where any of these is due, and after a tenth of a second, so that the
progress bar moves and large batches are taken one by one. Callbacks that look at every batch, other
than those known to bear with bursts, switch them off. Where a step of Lightning would do nothing
but a gradient and an update, the whole burst may be one compiled loop (`gfn_design.loop`).
"""

import math
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar, Timer
from lightning.pytorch.profilers import PassThroughProfiler

from gfn_design.loop import NotCompiledError

SECONDS = 0.1
PATIENT = (ModelCheckpoint, ProgressBar, Timer)  # callbacks that see whole bursts and miss nothing
BATCH_HOOKS = ("on_train_batch_start", "on_train_batch_end")
GRADIENT_HOOKS = (
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)


def burst(module: Any, optimizer: Any, closure: Callable[[], Any], most: int) -> None:
    """Take optimizer steps, each on a batch of its own.

    Args:
        module: Its `training_step` needs no batch from a loader, and its `find_gradients` does the
            same together with the backward pass.
        optimizer: The one Lightning gives to `optimizer_step`.
        closure: Likewise; all of Lightning's work around a `training_step` and its gradient.
        most: Steps, at most.
    """
    trainer: Any = module.trainer  # whose attributes are not all typed
    began = monotonic()
    bare = _is_bare(trainer)
    room = min(most, _room(trainer))
    if module.looping and module.loss_names is None:
        room = 1  # the next has a loop
    loop = module.loop_of(optimizer.optimizer) if bare and not _goes_singly(trainer) else None
    if loop:
        try:
            loop.learn(min(room, loop.room(SECONDS)), partial(_next_batch, trainer))
        except NotCompiledError as error:
            module.give_up_loops(error)
        else:
            closure()  # whose `training_step` finds everything done
            return
    if module.batch_seconds > SECONDS:
        room = 1  # whoever waits for the end of a batch, to save it say, waits for one
    taken = 1
    for _ in range(room - 1):
        taken += 1
        if bare:
            module.find_gradients(optimizer.optimizer)
            optimizer.optimizer.step()
        else:
            optimizer.step(closure=closure)
        _check(module)
        _next_batch(trainer)
        if monotonic() > began + SECONDS:
            break
    optimizer.step(closure=closure)
    _check(module)
    module.batch_seconds = (monotonic() - began) / taken


def _check(module: Any) -> None:
    """Look at every update, unless that would be to wait for a GPU."""
    if module.device.type == "cpu":
        module.check_weights()


def _overrides(part: Any, base: type, hooks: tuple[str, ...]) -> bool:
    return any(getattr(type(part), hook) is not getattr(base, hook) for hook in hooks)


def _is_bare(trainer: Any) -> bool:
    """Whether there is nothing in a step but a gradient and an update."""
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
            and not getattr(callback, "sees_bursts", False)
            for callback in trainer.callbacks
        )
    )


def _goes_singly(trainer: Any) -> bool:
    """Whether Lightning must take every batch by itself."""
    several = trainer.accumulate_grad_batches > 1 or trainer.world_size > 1
    return several or _wants_each_batch(trainer)


def _room(trainer: Any) -> int:
    """How many batches the present step of Lightning may carry, at least 1."""
    if _goes_singly(trainer):
        return 1
    loop = trainer.fit_loop.epoch_loop
    done, here = loop.total_batch_idx, loop.batch_idx  # before the present batch
    due = [
        (loop._batches_that_stepped, trainer.log_every_n_steps),
        (done if trainer.check_val_every_n_epoch is None else here, trainer.val_check_batch),
    ]
    due += [
        (trainer.global_step, getattr(callback, "_every_n_train_steps", 0))
        for callback in trainer.checkpoint_callbacks
    ]
    ends = [trainer.num_training_batches - here]
    if trainer.max_steps > 0:
        ends.append(trainer.max_steps - trainer.global_step)
    ends += [every - count % every for count, every in due if every and every < math.inf]
    return max(1, int(min(ends)))


def _next_batch(trainer: Any) -> None:
    """Count a batch as done after its optimizer step, and begin another, as Lightning would."""
    loop = trainer.fit_loop.epoch_loop
    step = loop.automatic_optimization.optim_progress.optimizer.step
    step.increment_completed()
    loop.batch_progress.increment_processed()
    loop.update_lr_schedulers("step", update_plateau_schedulers=False)
    loop.batch_progress.increment_completed()
    loop._batches_that_stepped += 1
    loop.batch_progress.increment_ready()
    loop.batch_progress.increment_started()
    step.increment_ready()
