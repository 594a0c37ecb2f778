"""When a run saves what it has learned."""

from pathlib import Path
from time import monotonic
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from gfn_design.runs.log import CSVLog
from gfn_design.runs.stopping import Stopped, Stops

SLOW = 2.0  # seconds: a batch that takes longer is worth saving by itself


class SaveLast(Checkpoint):
    """Keeps one checkpoint: of every `every`-th batch, of one each minute or so, and of the last.

    All are written at the end of a batch. Lightning counts wrongly after a resume from one that
    was written when training was over, and its loggers then skip rows.

    Args:
        path: Of the checkpoint; replaced in one go, so that it is whole at any moment.
        every: Optimizer steps, which are sampled batches unless gradients are accumulated.
        seconds: Save after a batch if the last time was so long ago.
        stops: Who may want to stop.
    """

    sees_several_batches = True  # it need not see every batch

    def __init__(
        self, path: Path, every: int, seconds: float = 60.0, stops: Stops | None = None
    ) -> None:
        self.path, self.saved = path, -1
        self._every_n_train_steps = every  # as Lightning's own callback names it
        self.seconds, self.stops = seconds, stops or Stops()
        self._began = self._latest = monotonic()

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        self.stops.install()  # Lightning has put its own in place
        self.saved = trainer.global_step  # all that there is to save
        self.stops.is_safe = lambda: self.saved == trainer.global_step
        self._latest = monotonic()
        module: Any = trainer.lightning_module
        room = module.data.room()
        if room is not None and room < module.batch_size * trainer.world_size:
            trainer.should_stop = True  # a run that goes on although its budget is spent

    def on_train_batch_start(self, *_: Any) -> None:
        self._began = monotonic()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        step, now = trainer.global_step, monotonic()
        due = step % self._every_n_train_steps == 0 or step == trainer.max_steps
        long_ago = now - self._latest > self.seconds or now - self._began > SLOW
        stop, long_ago, spent = _agreed(
            trainer, self.stops.requested, long_ago, _is_spent(trainer.lightning_module)
        )
        if (due or stop or long_ago or spent) and step != self.saved:
            self._save(trainer)
        if stop:
            self.stops.requested = self.stops.requested or stop  # another rank may have heard it
            raise Stopped("", stop)
        if spent and not trainer.should_stop:
            trainer.should_stop = True
            if trainer.is_global_zero:
                many = "1 batch" if step == 1 else f"{step:,} batches"
                print(f"\nthe budget of scores has no room for another batch, after {many}")

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step != self.saved:  # training ended by time or by a callback
            self._save(trainer)
        self.stops.is_safe = lambda: True

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.path, False)  # not the weights alone
        self.saved, self._latest = trainer.global_step, monotonic()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """The checkpoint carries the row that is not in the log yet."""
        for log in trainer.loggers:
            if isinstance(log, CSVLog):
                log.sync()
                checkpoint["log"] = log.open_rows()

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        for log in trainer.loggers:
            if isinstance(log, CSVLog):
                log.take_up(checkpoint.get("log", []))


def _is_spent(module: Any) -> bool:
    """Whether the budget of scores, if there is one, has no room for batches like the latest."""
    room = module.data.room()
    return room is not None and room < module.tally.asked * module.trainer.world_size


def _agreed(trainer: Trainer, stop: int, long_ago: bool, spent: bool) -> tuple[int, bool, bool]:
    """What one of the ranks wants all do, since all save together."""
    if trainer.world_size > 1:
        import torch

        wanted = torch.tensor([stop, long_ago, spent], device=trainer.strategy.root_device)
        torch.distributed.all_reduce(wanted, torch.distributed.ReduceOp.MAX)
        stop, long_ago, spent = int(wanted[0]), bool(wanted[1]), bool(wanted[2])
    return stop, long_ago, spent
