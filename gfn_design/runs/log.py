"""What a run tells while it trains: a CSV log and a progress bar."""

import csv
import io
import os
import sys
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from tqdm import tqdm

from gfn_design.files.whole import cannot_write, write_whole


class CSVLog(Logger):
    """One row per step in one file, which a resumed run goes on with.

    Lightning's own CSV logger starts a new file and deletes the old one. A row is appended when the
    next one begins, since several may add to it; only a new column makes all be written again,
    beside the file, which is then replaced.

    Args:
        path: The file; rows that it already has are kept.
        resume_step: Rows of later steps are dropped: the resumed run writes them again.
    """

    def __init__(self, path: Path, resume_step: int | None = None) -> None:
        super().__init__()
        self.path, self.resume_step = path, resume_step
        self.columns: list[str] = ["step"]
        self.rows: dict[int, dict[str, Any]] = {}
        self._written: list[str] = []  # the columns of the file, none if it must be made
        self._on_disk: set[int] = set()  # steps whose row is there
        for row in _whole_rows(path):
            if resume_step is not None and int(row["step"]) <= resume_step:
                self._merge(int(row["step"]), {k: v for k, v in row.items() if v})

    name = "csv"
    version = ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        pass  # the run's folder holds its configuration

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        step = step or 0
        self._merge(step, {k: v for k, v in metrics.items() if k != "epoch"})
        self._write([other for other in self.rows if other != step])

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self._write(self.rows)

    def save(self) -> None:
        self.finalize("")

    def open_rows(self) -> list[dict[str, Any]]:
        """What is not in the file yet, as others may add to it."""
        return [row for step, row in self.rows.items() if step not in self._on_disk]

    @rank_zero_only
    def take_up(self, rows: list[dict[str, Any]]) -> None:
        """Rows that a checkpoint carried."""
        for row in rows:
            self._merge(int(row["step"]), row)

    def sync(self) -> None:
        """Have what was appended on the disk."""
        if self._written and self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())

    def _merge(self, step: int, metrics: dict[str, Any]) -> None:
        row = self.rows.setdefault(step, {"step": step})
        if step in self._on_disk and any(row.get(k) != v for k, v in metrics.items()):
            self._written = []
        row.update(metrics)
        self.columns += [name for name in metrics if name not in self.columns]

    def _write(self, steps: Iterable[int]) -> None:
        """Have the rows of these steps in the file."""
        if self._written == self.columns:
            new = [step for step in steps if step not in self._on_disk]
            if new:
                append(self.path, self._text(new, header=False))
        else:
            new = list(steps)
            if not new:
                return
            write_whole(self.path, self._text(sorted({*new, *self._on_disk}), header=True))
            self._written = [*self.columns]
        self._on_disk.update(new)

    def _text(self, steps: Iterable[int], header: bool) -> str:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns, restval="")
        if header:
            writer.writeheader()
        writer.writerows(self.rows[step] for step in steps)
        return text.getvalue()


def _whole_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a log, but for one that was cut short."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        header, *rows = [*csv.reader(file)] or [[]]
    return [
        dict(zip(header, row, strict=True))
        for row in rows
        if len(row) == len(header) and header[:1] == ["step"] and row[0].isdecimal()
    ]


def append(path: Path, text: str) -> None:
    """Add text to a file, or nothing.

    Raises:
        InputError: It cannot be written.
    """
    size = path.stat().st_size
    try:
        with path.open("a", newline="", encoding="utf-8") as file:
            try:
                file.write(text)
                file.flush()
            except OSError:
                os.truncate(path, size)
                raise
    except OSError as error:
        raise cannot_write(path, error) from error


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
            if getattr(getattr(pl_module, "speed", None), "compiled", False):
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

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._describe("evaluating")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._describe("")

    def _describe(self, what: str) -> None:
        if self.bar is not None:
            self.bar.set_description(what, refresh=sys.stderr.isatty())

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
