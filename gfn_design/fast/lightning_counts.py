"""Lightning's own counters, which nothing else here touches."""

import math
from typing import Any


def batches_until_something_is_due(trainer: Any) -> int:
    """How many batches may be taken before Lightning has to do something else, at least 1."""
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


def next_batch(trainer: Any) -> None:
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
