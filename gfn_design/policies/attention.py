"""A transformer that reads sequences from left to right, a letter at a time."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfn_design.environments.base import Environment
from gfn_design.errors import InputError
from gfn_design.policies.recurrent import appended


class CausalTransformer(nn.Module):
    """Attention over the letters so far (Vaswani et al. 2017), normalised before each part.

    For sequences that are written from left to right. A roll-out reads each letter once, for what
    earlier letters are asked for is remembered.

    Args:
        environment: A `Sequence` with order append.
        outputs: Numbers given for each state.
        width: Numbers in each embedding.
        depth: Layers.
        heads: Of the attention; they divide the width.

    Raises:
        InputError: Sequences are written otherwise, or the arguments do not fit.
    """

    def __init__(
        self,
        environment: Environment,
        outputs: int,
        width: int = 128,
        depth: int = 2,
        heads: int = 4,
    ) -> None:
        super().__init__()
        sequences = appended(environment, "CausalTransformer")
        if width < 1 or depth < 1 or heads < 1 or width % heads:
            given = f"{width}, {depth} and {heads}"
            raise InputError(
                "width, depth and heads must be at least 1, and heads divide the width, got "
                f"{given}"
            )
        self.width = width
        self.start = sequences.slot_sizes[0]
        self.letters = nn.Embedding(self.start + 1, width)  # the last stands before the first
        self.places = nn.Embedding(len(sequences.slot_sizes) + 1, width)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm, self.outputs = nn.LayerNorm(width), nn.Linear(width, outputs)

    def of_prefixes(self, sequences: Tensor) -> Tensor:
        """Of all beginnings, the empty one first: ``float[batch, length + 1, outputs]``."""
        before = torch.full_like(sequences[:, :1], self.start)
        letters = torch.cat([before, sequences.clamp(min=0)], 1)
        x = self.letters(letters) + self.places.weight
        for block in self.blocks:
            x = block(x, None)[0]
        return self._answer(x)

    def forward(self, states: Tensor) -> Tensor:
        """``int64[batch, length]`` to ``float[batch, outputs]``."""
        written = (states >= 0).sum(1)
        return self.of_prefixes(states)[torch.arange(len(states), device=states.device), written]

    def first(self, n: int) -> tuple[Tensor, Tensor]:
        """What is remembered of `n` empty sequences, and what is given of them.

        Returns:
            Keys and values of each layer, ``float[n, depth, 2, letters, width]``, and
            ``float[n, outputs]``.
        """
        device = self.places.weight.device
        memory = torch.zeros(n, len(self.blocks), 2, 0, self.width, device=device)
        return self._read(memory, torch.full((n,), self.start, device=device), 0)

    def next(self, memory: Tensor, letters: Tensor, place: int) -> tuple[Tensor, Tensor]:
        """The same after a letter more, ``int64[n]``, which is at a place from 1 on."""
        return self._read(memory, letters, place)

    def _read(self, memory: Tensor, letters: Tensor, place: int) -> tuple[Tensor, Tensor]:
        x = (self.letters(letters) + self.places.weight[place])[:, None]
        read = []
        for block, earlier in zip(self.blocks, memory.unbind(1), strict=True):
            x, own = block(x, earlier)
            read.append(own)
        return torch.cat([memory, torch.stack(read, 1)], 3), self._answer(x)[:, 0]

    def _answer(self, x: Tensor) -> Tensor:
        answer: Tensor = self.outputs(self.norm(x))
        return answer


class _Block(nn.Module):
    """Attention and a perceptron, each added to what it reads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.asked = nn.Linear(width, 3 * width, bias=False)  # of keys it would change nothing
        self.given = nn.Linear(width, width)
        self.perceptron = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor, earlier: Tensor | None) -> tuple[Tensor, Tensor]:
        """Read letters ``float[n, letters, width]``.

        Args:
            x: Of all letters of sequences, each of which is told of those before; or of the last.
            earlier: Keys and values of the letters before, ``float[n, 2, letters, width]``; None if
                all are read.

        Returns:
            The same, and keys and values of these letters.
        """
        query, *own = self.asked(self.norms[0](x)).chunk(3, -1)
        read = torch.stack(own, 1)
        whole = read if earlier is None else torch.cat([earlier, read], 2)
        key, value = (self._parted(part) for part in whole.unbind(1))
        found = F.scaled_dot_product_attention(
            self._parted(query), key, value, is_causal=earlier is None
        )
        x = x + self.given(found.transpose(1, 2).flatten(2))
        return x + self.perceptron(self.norms[1](x)), read

    def _parted(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
