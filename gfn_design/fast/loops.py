"""When whole batches may be taken by a compiled loop."""

from typing import TYPE_CHECKING, cast

from torch.optim import Adam, Optimizer

from gfn_design.fast.compiled import warn
from gfn_design.fast.compiled_loop import Loop, NotCompiledError
from gfn_design.fast.rollout import RollOut
from gfn_design.training.engine import Parts

if TYPE_CHECKING:
    from gfn_design.fast.several_batches import Trains


class Loops:
    """The loop of an engine, as long as one can be compiled.

    Args:
        parts: What learns; lengths are fixed, and each batch is learned from once.
        rollout: Draws.
        most: Batches that one loop may take.
    """

    def __init__(self, parts: Parts, rollout: RollOut, most: int) -> None:
        self.parts, self.rollout, self.most = parts, rollout, most
        self.forget()

    def forget(self) -> None:
        """There is another reward: a loop is compiled anew for it."""
        self.loop: Loop | None = None
        self.given_up = False
        self.names: list[str] | None = None  # of the losses of a step; None before there was one

    @property
    def next_may_have_one(self) -> bool:
        """Whether this batch is the one by which the losses are known, and the next is a loop's."""
        return self.names is None and not self.given_up

    def of(self, module: "Trains", optimizer: Optimizer) -> Loop | None:
        """Takes whole batches, where nothing has to be done between their gradient and update."""
        if (
            self.given_up
            or self.names is None
            or module.device.type != "cpu"  # where it would wait at every batch
            or not module.is_in_full_precision
            or not Loop.suits(optimizer)
        ):
            return None
        if self.loop is None or self.loop.optimizer is not optimizer:
            reward, adam = module.learned_reward(), cast(Adam, optimizer)
            self.loop = Loop(self.parts, self.rollout, reward, adam, self.names, self.most)
        return self.loop

    def give_up(self, error: NotCompiledError) -> None:
        """Go on without, as the reward, say, is no function that can be compiled."""
        self.given_up = True
        warn("a loop over batches", error)
