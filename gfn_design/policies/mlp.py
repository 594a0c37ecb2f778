"""Multilayer perceptrons over integer states."""

import torch
from torch import Tensor, nn

from gfn_design.environments.base import Environment
from gfn_design.policies.products import SlotEmbedding, affine


class Layer(nn.Module):
    """A linear layer that begins as nn.Linear does, with a weight ``float[inputs, outputs]``.

    Laid out so in memory, its product with a few states takes half the time on a CPU.

    Args:
        inputs: Numbers read.
        outputs: Numbers given.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        linear = nn.Linear(inputs, outputs)
        weight = linear.weight.detach().t()
        self.weight = nn.Parameter(weight.clone(memory_format=torch.contiguous_format))
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """``float[batch, inputs]`` to ``float[batch, outputs]``."""
        return affine(x, self.weight, self.bias)


class MLP(nn.Module):
    """`depth` hidden layers of `width` rectified units over the slots of a state.

    Args:
        environment: Whose states are read.
        outputs: Numbers given for each state.
        width: Units in each hidden layer.
        depth: Hidden layers, at least 1.
    """

    def __init__(
        self, environment: Environment, outputs: int, width: int = 256, depth: int = 4
    ) -> None:
        super().__init__()
        self.embedding = SlotEmbedding(environment.slot_sizes, width)
        widths = [width] * (depth - 1) + [outputs]
        self.layers = nn.ModuleList(Layer(width, after) for after in widths)

    def forward(self, states: Tensor) -> Tensor:
        """``int64[batch, *state_shape]`` to ``float[batch, outputs]``."""
        return self.layer_outputs(states)[-1]

    def layer_outputs(self, states: Tensor) -> list[Tensor]:
        """What each layer gives, ``float[batch, width]``, and the last one ``[batch, outputs]``."""
        found = [self.embedding(states)]
        for layer in self.layers:
            found.append(layer(found[-1].relu()))
        return found
