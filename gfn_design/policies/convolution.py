"""A convolution over the places of sequences, for those that are changed anywhere."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from gfn_design.environments.base import Environment
from gfn_design.environments.sequences.edits import Edits
from gfn_design.environments.sequences.sequence import Sequence
from gfn_design.errors import InputError


class Convolution(nn.Module):
    """Residual convolutions, each twice as far apart, and the mean of all places besides.

    What each letter at each place is given comes from that place, so that what holds at one place
    is known at all others; all else, as a stop, comes from the mean and the maximum over places,
    blank ones among them.

    Args:
        environment: A `Sequence` of any order, or `Edits`.
        outputs: Numbers given for each state.
        width: Channels.
        depth: Layers.
        kernel: Places that a layer reads, an odd number.

    Raises:
        InputError: What is built is no sequence, or the arguments do not fit.
    """

    def __init__(
        self,
        environment: Environment,
        outputs: int,
        width: int = 128,
        depth: int = 3,
        kernel: int = 5,
    ) -> None:
        super().__init__()
        if not isinstance(environment, Sequence | Edits):
            raise InputError(f"Convolution reads sequences, got {environment.describe()}; take MLP")
        if width < 1 or depth < 1 or kernel < 1 or kernel % 2 == 0:
            given = f"{width}, {depth} and {kernel}"
            raise InputError(
                f"width, depth and kernel must be at least 1, and kernel odd, got {given}"
            )
        self.environment, size = environment, len(environment.symbols)
        self.letters = nn.Embedding(2 * size + 1, width)  # as they were, new, and a blank
        self.places = nn.Parameter(torch.randn(environment.length, width) / width**0.5)
        self.layers = nn.ModuleList(_Layer(width, kernel, 2**i) for i in range(depth))
        self.parts = parts_of(environment, outputs)
        at_places = sum(part.channels for part in self.parts)
        of_places = nn.Conv1d(width, at_places, 1) if at_places else None
        self.rest = [part.of_all for part in self.parts]
        rest = sum(self.rest)
        self.hidden = nn.Linear(2 * width, width) if rest else None
        of_all = nn.Linear(width, rest) if rest else None
        # The last layer is both: what fine-tuning of the last layer alone trains.
        self.outputs = nn.ModuleDict()
        for name, last in (("places", of_places), ("all", of_all)):
            if last is not None:
                self.outputs[name] = last

    def forward(self, states: Tensor) -> Tensor:
        """``int64[batch, length]`` to ``float[batch, outputs]``."""
        size = len(self.environment.symbols)
        written = self.environment.letters_of(states)
        new = size * ((states >= 0) & (written >= 0))
        codes = torch.where(written < 0, 2 * size, written + new)
        x = (self.letters(codes) + self.places).transpose(1, 2)
        for layer in self.layers:
            x = layer(x)
        rest = x.new_zeros(len(x), 0)
        if self.hidden is not None:
            whole = self.hidden(torch.cat([x.mean(2), x.amax(2)], 1))
            rest = self.outputs["all"](whole.relu())
        if "places" not in self.outputs:
            return rest
        at_places, rest = self.outputs["places"](x), rest.split(self.rest, 1)
        local = at_places.split([part.channels for part in self.parts], 1)
        each = zip(local, rest, strict=True)
        return torch.cat([x for a, b in each for x in (a.flatten(1), b)], 1)


class Part(NamedTuple):
    """Outputs that stand together.

    Attributes:
        channels: Numbers of each place, which come first: all places of one after the other.
        of_all: Numbers of all places together, which come then.
    """

    channels: int
    of_all: int


def parts_of(environment: Sequence | Edits, outputs: int) -> list[Part]:
    """What is asked place by place, in the order of outputs: actions that name a place.

    Args:
        environment: Whose actions may be "letter c at place j", or "clear place j".
        outputs: Of a forward policy or several, of a backward policy, of both, or others.
    """
    size, length, n_actions = len(environment.symbols), environment.length, environment.n_actions
    parts: list[Part] = []
    while n_actions >= size * length and outputs >= n_actions:
        parts.append(Part(size, n_actions - size * length))
        outputs -= n_actions
    if outputs == length == environment.n_backward_actions:
        return [*parts, Part(1, 0)]
    return [*parts, Part(0, outputs)] if outputs or not parts else parts


class _Layer(nn.Module):
    """A convolution, added to what it reads, of which the mean over places is known to all."""

    def __init__(self, width: int, kernel: int, apart: int) -> None:
        super().__init__()
        padding = apart * (kernel // 2)
        self.norm = nn.GroupNorm(1, width)
        self.near = nn.Conv1d(width, width, kernel, padding=padding, dilation=apart)
        self.far = nn.Linear(width, width)
        self.mixed = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        read = self.norm(x)
        found = self.near(read) + self.far(read.mean(2))[..., None]
        return x + self.mixed(found.relu())
