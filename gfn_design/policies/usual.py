"""Which network is taken where nobody says which: the one that was best where it was measured."""

from torch import nn

from gfn_design.environments.base import Environment
from gfn_design.environments.sequences.sequence import Sequence
from gfn_design.policies.mlp import MLP
from gfn_design.policies.recurrent import GRU

LONG = 12  # letters from which on reading them one by one learns more by as many trajectories


def reads(environment: Environment) -> bool:
    """Whether sequences are long, and written from left to right."""
    return (
        isinstance(environment, Sequence)
        and environment.order == "append"
        and environment.length >= LONG
    )


def usual_network(environment: Environment, outputs: int) -> nn.Module:
    """A `GRU` for sequences of 12 letters or more with order append, else an `MLP`.

    Args:
        environment: Whose states are read.
        outputs: Numbers given for each state.
    """
    return GRU(environment, outputs) if reads(environment) else MLP(environment, outputs)


def usual_critic(environment: Environment, outputs: int) -> nn.Module:
    """The same for expected costs: half as wide, or as deep, as in the code of the paper.

    Args:
        environment: Whose states are read.
        outputs: Numbers given for each state.
    """
    if reads(environment):
        return GRU(environment, outputs, width=64)
    return MLP(environment, outputs, depth=2)
