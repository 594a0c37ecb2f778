"""What a run leaves while it trains: checkpoints, a CSV log and a progress bar."""

import csv
import sys
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from tqdm import tqdm


class SaveLast(Checkpoint):
    """Keeps one checkpoint: of every `every`-th batch, and of the last one.

    All are written at the end of a batch. Lightning counts wrongly after a resume from one that
    was written when training was over, and its loggers then skip rows.

    Args:
        path: Of the checkpoint; replaced in one go, so that it is whole at any moment.
        every: Optimizer steps, which are sampled batches unless gradients are accumulated.
    """

    sees_bursts = True  # see gfn_design.burst

    def __init__(self, path: Path, every: int) -> None:
        self.path, self.saved = path, -1
        self._every_n_train_steps = every  # as Lightning's own callback names it

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        step = trainer.global_step
        due = step % self._every_n_train_steps == 0 or step == trainer.max_steps
        if due and step != self.saved:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step != self.saved:  # training ended by time or by a callback
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        self.saved = trainer.global_step
        trainer.save_checkpoint(self.path, False)  # not the weights alone


class CSVLog(Logger):
    """One row per step in one file, which a resumed run goes on with.

    Lightning's own CSV logger starts a new file and deletes the old one.

    Args:
        path: The file; rows that it already has are kept.
        resume_step: Rows of later steps are dropped: the resumed run writes them again.
    """

    def __init__(self, path: Path, resume_step: int | None = None) -> None:
        super().__init__()
        self.path, self.resume_step = path, resume_step
        self.columns: list[str] = ["step"]
        self.rows: dict[int, dict[str, Any]] = {}
        if path.exists():
            with path.open(newline="") as file:
                for row in csv.DictReader(file):
                    if resume_step is not None and int(row["step"]) <= resume_step:
                        self._merge(int(row["step"]), {k: v for k, v in row.items() if v})
        self._written: set[int] = set()  # steps whose row is on disk

    name = "csv"
    version = ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        pass  # the run's folder holds its configuration

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        step, known = step or 0, len(self.columns)
        self._merge(step, {k: v for k, v in metrics.items() if k != "epoch"})
        if len(self.columns) > known or step in self._written or not self._written:
            self._write(self.rows, "w")
        else:
            self._write([step], "a")

    def _merge(self, step: int, metrics: dict[str, Any]) -> None:
        self.rows.setdefault(step, {"step": step}).update(metrics)
        self.columns += [name for name in metrics if name not in self.columns]

    def _write(self, steps: Iterable[int], mode: Literal["w", "a"]) -> None:
        with self.path.open(mode, newline="") as file:
            writer = csv.DictWriter(file, self.columns, restval="")
            if mode == "w":
                writer.writeheader()
            writer.writerows(self.rows[step] for step in steps)
        self._written.update(steps)


class Progress(ProgressBar):
    """A bar over all sampled batches, with reward, distinct objects, log Z and D_TV."""

    SHOWN: ClassVar = {
        "reward": "{:.3g}",
        "distinct": "{:.0f}",
        "log_z": "{:.2f}",
        "D_TV": "{:.3f}",
    }

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self.bar: tqdm | None = None

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._enabled and trainer.is_global_zero:
            every = 0.5 if sys.stderr.isatty() else 15.0
            total = trainer.max_steps if trainer.max_steps > 0 else None
            self.bar = tqdm(
                total=total,
                initial=trainer.global_step,
                unit=" batches",
                mininterval=every,
                dynamic_ncols=True,
            )
            if getattr(pl_module, "compiled", False):
                self.bar.write("compiling: the first batches take from ten seconds to two minutes")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.bar is None:
            return
        if trainer.global_step % getattr(trainer, "log_every_n_steps", 1) == 0:
            metrics = trainer.callback_metrics
            shown = {k: f.format(float(metrics[k])) for k, f in self.SHOWN.items() if k in metrics}
            self.bar.set_postfix(shown, refresh=False)
        self.bar.update(trainer.global_step - self.bar.n)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
