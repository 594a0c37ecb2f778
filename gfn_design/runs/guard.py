"""Stops a run that games its proxy: its second model, which nothing is designed by, disagrees."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from gfn_design.rewards.proxy_values import Predictor

GOOD = Path("checkpoints", "good.ckpt")  # the last at which both models went together
APART = 1.5  # errors of the first model, by which it may draw away from the second
RISEN, FALLEN = 0.25, 0.5  # errors, by which the first rises and the second falls when they part


class Point(NamedTuple):
    """What both models expected of what was built after some batches, on average."""

    step: int
    first: float
    second: float


def parted(points: Sequence[Point], error: float, sign: int = 1) -> str | None:
    """How two models went apart, in words; None while they have not.

    They have if the first has drawn away from the second by more than one and a half of its
    errors since the beginning, to where it is better, or if it went on while the second went back.

    Args:
        points: Evaluation by evaluation, from the beginning.
        error: Of the first model on held-out groups.
        sign: 1 if more is wanted, -1 if less, 0 if a range is: then either may draw away.
    """
    begin, now = points[0], points[-1]
    drawn = drawn_away(begin, now, sign)
    if drawn > APART * error:
        return (
            f"the proxy expects {now.first:.2f} of what is built, its second opinion "
            f"{now.second:.2f}; in the beginning they said {begin.first:.2f} and {begin.second:.2f}"
        )
    best = max(points, key=lambda point: sign * point.second)
    on, back = sign * (now.first - best.first), sign * (best.second - now.second)
    if on > RISEN * error and back > FALLEN * error:
        return (
            f"the proxy went on from {best.first:.2f} to {now.first:.2f} since batch "
            f"{best.step:,}, while its second opinion went from {best.second:.2f} to "
            f"{now.second:.2f}"
        )
    return None


def drawn_away(begin: Point, now: Point, sign: int) -> float:
    """By how much the first of two models has drawn away from the second, to where it is better."""
    apart = [point.first - point.second for point in (begin, now)]
    return sign * (apart[1] - apart[0]) if sign else abs(apart[1]) - abs(apart[0])


class Guard(Callback):
    """Looks at both models of each proxy when the run is evaluated, and stops it if they part.

    Args:
        folder: Of the run, for the last good checkpoint.

    Attributes:
        reason: Why it stopped the run; None if it has not.
    """

    sees_several_batches = True  # it need not see every batch

    def __init__(self, folder: Path) -> None:
        self.good = folder / GOOD
        self.points: dict[str, list[list[float]]] = {}
        self.reason: str | None = None
        self.goes_on = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.goes_on:  # from what was good, or it would not have been kept
            trainer.save_checkpoint(self.good, False)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.points:  # the module was evaluated before the first batch
            self._look(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._look(trainer, pl_module)

    def _look(self, trainer: Trainer, module: Any) -> None:
        predictors: list[Predictor] = getattr(module.data, "predictors", [])
        if not predictors or trainer.sanity_checking or module.evaluated is None:
            return
        # Processes that train together draw samples of their own, and must decide alike.
        metrics = trainer.strategy.broadcast(dict(module.evaluated[1].metrics))
        for proxy, _, name, sign in predictors:
            points = self.points.setdefault(name, [])
            points.append([trainer.global_step, metrics[name], metrics[f"{name}_second"]])
            error = proxy.about.figures["rmse"]
            found = parted([Point(int(step), *rest) for step, *rest in points], error, sign)
            if found is not None:
                self.reason = f"{found} ({name})"
        if self.reason is None:
            trainer.save_checkpoint(self.good, False)
        else:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint carries."""
        return {"points": self.points}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.points, self.goes_on = state["points"], True
