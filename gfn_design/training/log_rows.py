"""A row of the log: what the progress bar, loggers and callbacks are shown of a batch."""

from typing import Any

import torch
from torch import Tensor

from gfn_design.training.engine import Losses
from gfn_design.training.rewarding import LearnedReward
from gfn_design.training.tally import Tally
from gfn_design.training.task import Task
from gfn_design.training.trust_region import TrustRegionAdam

ON_BARS = ("reward", "distinct", "log_z")  # whatever bar there is


def is_logged(trainer: Any) -> bool:
    """Whether the present batch has a row."""
    every: int = trainer.log_every_n_steps
    return bool(every) and (trainer.global_step + 1) % every == 0


def row_of(
    tally: Tally,
    task: Task,
    reward: LearnedReward,
    objects: Tensor,
    log_reward: Tensor,
    length: Tensor,
    losses: Losses,
) -> dict[str, float]:
    """The numbers of a batch, by name.

    Args:
        tally: What has been counted.
        task: Whose reward it is.
        reward: As it is learned from.
        objects: That were built.
        log_reward: Of them, as it is learned from.
        length: Of their trajectories.
        losses: By name.
    """
    # As it is learned from, but of the object.
    log_reward = (
        log_reward + task.log_states_per_object(objects).float() + reward.objective.log_scale
    )
    columns: dict[str, Tensor | float] = {
        "trajectories": float(tally.trajectories),
        "reward": log_reward.exp().mean(),
        "log_reward": log_reward.mean(),
        "distinct": float(len(tally.seen)),
        "floored": reward.floored(log_reward),
        "log_z": task.log_z,
        "length": length.mean(),
    }
    columns |= task.data.counts_of_all()
    columns |= {f"loss/{name}": loss.detach() for name, loss in losses.items()}
    return {name: float(x) for name, x in columns.items()}


def log_row(trainer: Any, row: dict[str, float]) -> None:
    """Show a row to all who look; Lightning's own way takes half a millisecond for each number."""
    for optimizer in trainer.optimizers:
        if isinstance(optimizer, TrustRegionAdam):  # of the latest step, one batch ago
            row = row | {f"region/{name}": x for name, x in optimizer.report.items()}
    for shown in (trainer.callback_metrics, trainer.logged_metrics):
        shown.update({name: torch.tensor(x) for name, x in row.items()})
    trainer.progress_bar_metrics.update({name: row[name] for name in ON_BARS})
    for logger in trainer.loggers:
        logger.log_metrics(row, step=trainer.global_step)
