"""Networks that read sequences from left to right, a letter at a time."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from gfn_design.environments.base import Environment
from gfn_design.errors import InputError


@runtime_checkable
class ReadsPrefixes(Protocol):
    """A network whose answer to a sequence goes on from its answer to the sequence before.

    What it gives of a state ``[batch, length]`` of `Sequence` with order append is the same however
    it is asked: of the state alone, of all beginnings of a sequence at once, or letter by letter.
    """

    def __call__(self, states: Tensor) -> Tensor:
        """Of states ``int64[batch, length]``: ``float[batch, outputs]``."""

    def of_prefixes(self, sequences: Tensor) -> Tensor:
        """Of all beginnings, the empty one first: ``float[batch, length + 1, outputs]``."""

    def first(self, n: int) -> tuple[Tensor, Tensor]:
        """What is remembered of `n` empty sequences, ``[n, ...]``, and what is given of them."""

    def next(self, memory: Tensor, letters: Tensor, place: int) -> tuple[Tensor, Tensor]:
        """The same after a letter more, ``int64[n]``, the so-and-so-many-th, from 1 on."""


def appended(environment: Environment, who: str) -> Environment:
    """Sequences that are written from left to right.

    Raises:
        InputError: They are written otherwise.
    """
    if not environment.writes_rightwards:
        raise InputError(
            f"{who} reads sequences with order: append, got {environment.describe()}; take "
            "Convolution or MLP, or that order"
        )
    return environment


class GRU(nn.Module):
    """Gated recurrent units (Cho et al. 2014) over the letters of a sequence, and a hidden layer.

    For sequences that are written from left to right. A roll-out reads each letter once, and so
    does what is learned from it, where an MLP reads the whole state at every step.

    Args:
        environment: A `Sequence` with order append.
        outputs: Numbers given for each state.
        width: Units.
        depth: Layers of recurrent units.

    Raises:
        InputError: Sequences are written otherwise.
    """

    def __init__(
        self, environment: Environment, outputs: int, width: int = 128, depth: int = 1
    ) -> None:
        super().__init__()
        sequences = appended(environment, "GRU")
        if width < 1 or depth < 1:
            raise InputError(f"width and depth must be at least 1, got {width} and {depth}")
        self.start = sequences.slot_sizes[0]
        self.letters = nn.Embedding(self.start + 1, width)  # the last stands before the first
        self.places = nn.Embedding(len(sequences.slot_sizes) + 1, width)
        self.units = nn.GRU(width, width, depth, batch_first=True)
        self.hidden, self.outputs = nn.Linear(width, width), nn.Linear(width, outputs)

    def _answer(self, units: Tensor) -> Tensor:
        answer: Tensor = self.outputs(self.hidden(units).relu())
        return answer

    def of_prefixes(self, sequences: Tensor) -> Tensor:
        """Of all beginnings, the empty one first: ``float[batch, length + 1, outputs]``."""
        before = torch.full_like(sequences[:, :1], self.start)
        letters = torch.cat([before, sequences.clamp(min=0)], 1)
        read = self.letters(letters) + self.places.weight
        return self._answer(self.units(read)[0])

    def forward(self, states: Tensor) -> Tensor:
        """``int64[batch, length]`` to ``float[batch, outputs]``."""
        written = (states >= 0).sum(1)
        answers = self.of_prefixes(states)
        return answers[torch.arange(len(states), device=states.device), written]

    def first(self, n: int) -> tuple[Tensor, Tensor]:
        """What is remembered of `n` empty sequences, ``float[n, depth, width]``, and answers."""
        device = self.places.weight.device
        memory = torch.zeros(n, self.units.num_layers, self.units.hidden_size, device=device)
        return self._read(memory, torch.full((n,), self.start, device=device), 0)

    def next(self, memory: Tensor, letters: Tensor, place: int) -> tuple[Tensor, Tensor]:
        """The same after a letter more, ``int64[n]``, which is at a place from 1 on."""
        return self._read(memory, letters, place)

    def _read(self, memory: Tensor, letters: Tensor, place: int) -> tuple[Tensor, Tensor]:
        read = (self.letters(letters) + self.places.weight[place])[:, None]
        units, after = self.units(read, memory.transpose(0, 1).contiguous())
        return after.transpose(0, 1), self._answer(units[:, 0])
