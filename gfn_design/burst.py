"""Several sampled batches in one step of Lightning, whose bookkeeping costs as much as a small one.

Everything that counts batches goes on counting them: global steps, schedulers, logs, validation,
checkpoints. A burst ends where any of these is due.
"""

import math

from lightning.pytorch import Trainer


def room(trainer: Trainer) -> int:
    """How many batches the present step of Lightning may carry, at least 1."""
    if trainer.accumulate_grad_batches > 1:
        return 1
    loop = trainer.fit_loop.epoch_loop
    done, here = loop.total_batch_idx, loop.batch_idx  # before the present batch
    validated = done if trainer.check_val_every_n_epoch is None else here
    periods = [
        (loop._batches_that_stepped, trainer.log_every_n_steps),
        (validated, trainer.val_check_batch),
    ]
    for callback in trainer.checkpoint_callbacks:
        periods.append((trainer.global_step, getattr(callback, "_every_n_train_steps", 0)))
    ends = [trainer.num_training_batches - here]
    if trainer.max_steps > 0:
        ends.append(trainer.max_steps - trainer.global_step)
    ends += [period - count % period for count, period in periods if period and period < math.inf]
    return max(1, int(min(ends)))


def next_batch(trainer: Trainer) -> None:
    """Count the batch whose optimizer step was just taken as done, and another as begun."""
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
