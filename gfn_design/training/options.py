"""Options of a module in groups of plain values, and what of them does not go together."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from gfn_design.environments.base import Environment
from gfn_design.errors import InputError
from gfn_design.objectives.base import BackwardObjective
from gfn_design.policies.usual import usual_critic, usual_network
from gfn_design.sampling.exploration import Exploration
from gfn_design.sampling.local_search import LocalSearch
from gfn_design.sampling.replay import Replay

ADAM = partial(Adam, fused=True)  # one kernel for all parameters


@dataclass(frozen=True)
class Networks:
    """What builds the networks.

    Args:
        network: Of a policy, and of log F where the objective learns flows. If nothing is said, a
            `GRU` of sequences of 12 letters or more with order append, else an `MLP`.
        critic: Of expected costs, where the objective needs them; likewise, but smaller.
    """

    network: Callable[[Environment, int], nn.Module] = usual_network
    critic: Callable[[Environment, int], nn.Module] = usual_critic


@dataclass(frozen=True)
class Backward:
    """A backward policy: who decides what is undone."""

    @property
    def kind(self) -> str:
        """As `Policy` calls it."""
        raise NotImplementedError

    @property
    def learns_by(self) -> BackwardObjective | None:
        """An objective of its own, if it has one."""
        return None


@dataclass(frozen=True)
class UniformBackward(Backward):
    """Chooses evenly among the parents of a state."""

    @property
    def kind(self) -> str:
        return "uniform"


@dataclass(frozen=True)
class MaxEntropyBackward(Backward):
    """Makes all ways to an object equally likely (needs `Environment.log_ways`)."""

    @property
    def kind(self) -> str:
        return "max_entropy"


@dataclass(frozen=True)
class LearnedBackward(Backward):
    """Is trained, with a network of its own or the layers of the forward policy.

    Args:
        objective: How it learns; None trains it by the objective of the forward policy.
        shared: It has the layers of the forward policy, which is faster.
    """

    objective: BackwardObjective | None = None
    shared: bool = False

    @property
    def kind(self) -> str:
        return "shared" if self.shared else "learned"

    @property
    def learns_by(self) -> BackwardObjective | None:
        return self.objective


@dataclass(frozen=True)
class Batches:
    """What is learned from.

    Args:
        size: Trajectories drawn in each batch, on each device.
        updates: Of the networks, with each batch; an objective that is on-policy and not made for
            more, as `ClippedPolicy` is, takes one.
        replay: Objects of earlier batches to learn from again with each update, or single steps.
        exploration: How to draw otherwise than the policy would.
        search: A local search that fills batches with neighbours of their best objects.
    """

    size: int = 128
    updates: int = 1
    replay: Replay | None = None
    exploration: Exploration | None = None
    search: LocalSearch | None = None

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InputError(f"batches.size must be at least 1, got {self.size}")
        if self.updates < 1:
            raise InputError(f"batches.updates must be at least 1, got {self.updates}")


@dataclass(frozen=True)
class Optimiser:
    """How networks are updated.

    Args:
        lr: Learning rate of the policies.
        critic_lr: Learning rate of the critic.
        log_z_lr: Learning rate of log Z.
        factory: Builds the optimizer from parameter groups; None is Adam.
        schedule: Builds a schedule of all learning rates from the optimizer; it counts updates,
            which are the steps of the Trainer.
    """

    lr: float = 1e-3
    critic_lr: float = 5e-3
    log_z_lr: float = 0.1
    factory: Callable[[Any], Optimizer] | None = None
    schedule: Callable[[Optimizer], LRScheduler] | None = None

    def __post_init__(self) -> None:
        if min(self.lr, self.critic_lr, self.log_z_lr) < 0:
            rates = f"{self.lr}, {self.critic_lr}, {self.log_z_lr}"
            raise InputError(f"lr, critic_lr and log_z_lr must not be negative, got {rates}")


@dataclass(frozen=True)
class Speed:
    """What makes training faster; results are the same up to rounding.

    Args:
        fast: Take the fast paths; false takes the plain one, one call after another as
            `gfn_design.training.engine` says, to follow a step or to look for a fault.
        compiled: Compile the training step where lengths are fixed, else its parts; that takes from
            ten seconds to two minutes at the first batches, the others are faster.
        batches_per_step: Batches that one step of Lightning may carry where they are fast, on one
            device, and where no callback wants to see every batch. All counts stay counts of
            batches.
    """

    fast: bool = True
    compiled: bool = False
    batches_per_step: int = 50

    def __post_init__(self) -> None:
        if not self.fast and (self.compiled or self.batches_per_step != 50):
            raise InputError(
                "speed: the plain path compiles nothing and takes one batch in a step; set fast: "
                "true, or leave out compiled and batches_per_step"
            )
        if self.batches_per_step < 1:
            given = self.batches_per_step
            raise InputError(f"speed.batches_per_step must be at least 1, got {given}")
