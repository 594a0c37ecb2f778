"""Maximum likelihood: a policy learns what a library of objects looks like."""

from typing import ClassVar

from torch import Tensor

from gfn_design.objectives.base import Objective
from gfn_design.sampling.log_probabilities import StepLogProbs


class MaximumLikelihood(Objective):
    """Minus log P_F of histories of given objects, which the backward policy walks back.

    The expectation bounds minus the log-likelihood of the objects from above, by how much the
    backward policy differs from the posterior over their histories; where an object has one
    history, as of strings that are written from left to right, it is that. The objects are those
    of `LibraryData`; rewards are not asked. A policy that was taught so is a prior to go on from,
    by `gfn-design finetune`.
    """

    from_library: ClassVar[bool] = True
    trains_backward: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__(log_z=0.0, min_log_reward=float("-inf"))

    def forward(self, now: StepLogProbs, then: StepLogProbs) -> dict[str, Tensor]:
        return {"likelihood": -now.log_pf.sum(1).mean() + 0 * self.log_z}
