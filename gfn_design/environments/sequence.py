"""Strings over an alphabet: DNA, RNA, protein, or a chain of building blocks."""

from collections.abc import Sequence as Texts
from math import log
from typing import Literal

import torch
from torch import Tensor

from gfn_design.environments.graph import (
    ActionLayout,
    Graph,
    GraphEnvironment,
    dense_to_graph,
)
from gfn_design.environments.molecules.chains import BLOCKS, block_smiles
from gfn_design.errors import InputError

ALPHABETS = {"dna": "ACGT", "rna": "ACGU", "protein": "ACDEFGHIKLMNPQRSTVWY", "bits": "01"}
WORDS = {name: [block.smiles for block in blocks] for name, blocks in BLOCKS.items()} | {
    f"bits{k}": [f"{word:0{k}b}" for word in range(2**k)] for k in (2, 4, 8)
}
BLANK = "_"  # how a slot that is not filled yet is written


class Sequence(GraphEnvironment):
    """Strings of a fixed length, written from the empty string one symbol at a time.

    A state is the symbol in each slot, -1 while blank. The order says which symbols may come next:

    - ``append``: at the right end. A tree: action c writes symbol c, the one backward action
      erases the last symbol.
    - ``prepend-append``: at either end. Action c appends symbol c, action V + c prepends it;
      backward action 0 drops the last symbol, 1 the first.
    - ``any``: into any blank slot. Action c L + j writes symbol c into slot j; backward action j
      clears slot j.

    Args:
        alphabet: ``DNA``, ``RNA``, ``protein`` or ``bits`` (in any case), a string of letters, or
            a list of blocks (symbols of any length, written one after another with spaces between);
            ``QM9`` and ``sEH`` are lists of molecular fragments, ``bits2``, ``bits4`` and ``bits8``
            all words of so many bits.
        length: Number of symbols.
        order: Which slot may be filled next.
    """

    weights: Tensor

    def __init__(
        self,
        alphabet: str | list[str] = "DNA",
        length: int = 8,
        order: Literal["append", "prepend-append", "any"] = "prepend-append",
    ) -> None:
        super().__init__()
        known = ALPHABETS | WORDS
        self.symbols = tuple(
            known.get(alphabet.lower(), alphabet) if isinstance(alphabet, str) else alphabet
        )
        self.blocks = next((name for name in BLOCKS if self.symbols == tuple(WORDS[name])), "")
        self.molecules = bool(self.blocks)
        self.separator = "" if all(len(symbol) == 1 for symbol in self.symbols) else " "
        self.length, self.order = length, order
        self._check_arguments()
        size = len(self.symbols)
        self.fixed_length = True
        self.max_steps = length
        self.slot_sizes = (size,) * length
        self.n_actions, self.n_backward_actions = {
            "append": (size, 1),
            "prepend-append": (2 * size, 2),
            "any": (size * length, length),
        }[order]
        self.n_slots, self.node_sizes, self.edge_sizes = length, (size, length), (2,)
        self.forward_layout = ActionLayout(graph=self.n_actions)
        self.backward_layout = ActionLayout(graph=self.n_backward_actions)
        # Blank slots always come last except in any order, so that bijective numeration (digits
        # 1 to V in base V) numbers the states without gaps; in any order the blank is a digit.
        base = size + 1 if order == "any" else size
        count = base**length if order == "any" else sum(size**k for k in range(length + 1))
        self.n_states = count if count < 2**62 else None
        places = [base**j if self.n_states else 0 for j in range(length)]
        weights = torch.tensor(places[::-1] if order == "any" else places)
        self.register_buffer("weights", weights, persistent=False)

    def _check_arguments(self) -> None:
        if len(self.symbols) < 2 or len(set(self.symbols)) < len(self.symbols):
            raise InputError(f"alphabet needs two or more different symbols, got {self.symbols}")
        if bad := [s for s in self.symbols if not s or BLANK in s or any(c.isspace() for c in s)]:
            raise InputError(f"alphabet symbols may hold no space and no '{BLANK}', got '{bad[0]}'")
        if self.length < 1:
            raise InputError(f"length must be at least 1, got {self.length}")
        if self.order not in ("append", "prepend-append", "any"):
            raise InputError(f"order must be append, prepend-append or any, got '{self.order}'")

    def extra_repr(self) -> str:
        alphabet = self.separator.join(self.symbols)
        return f"alphabet='{alphabet}', length={self.length}, order='{self.order}'"

    def initial(self, n: int) -> Tensor:
        return torch.full((n, self.length), -1, device=self.weights.device)

    def legal(self, states: Tensor) -> Tensor:
        blank = states < 0
        if self.order == "any":
            return blank.repeat(1, len(self.symbols))
        return blank[:, -1:].expand(-1, self.n_actions)

    def legal_backward(self, states: Tensor) -> Tensor:
        filled = states >= 0
        return filled if self.order == "any" else filled[:, :1].expand(-1, self.n_backward_actions)

    def step(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        action = actions[:, None]
        if self.order == "any":
            slot = action % self.length
            written = states.scatter(1, slot, action // self.length)
            return written, slot[:, 0]
        size = len(self.symbols)
        symbol = action % size
        end = (states >= 0).sum(1, keepdim=True).clamp(max=self.length - 1)
        appended = states.scatter(1, end, symbol)
        if self.order == "append":
            return appended, torch.zeros_like(actions)
        prepended = torch.cat([symbol, states[:, :-1]], dim=1)
        return torch.where(action < size, appended, prepended), actions // size

    def backward_step(self, states: Tensor, backward_actions: Tensor) -> tuple[Tensor, Tensor]:
        undo = backward_actions[:, None]
        if self.order == "any":
            symbol = states.gather(1, undo).clamp(min=0)
            return states.scatter(1, undo, -1), (symbol * self.length + undo)[:, 0]
        end = ((states >= 0).sum(1, keepdim=True) - 1).clamp(min=0)
        last, shorter = states.gather(1, end).clamp(min=0), states.scatter(1, end, -1)
        if self.order == "append":
            return shorter, last[:, 0]
        first = states[:, :1].clamp(min=0)
        behead = torch.cat([states[:, 1:], torch.full_like(first, -1)], dim=1)
        action = torch.where(undo == 0, last, first + len(self.symbols))
        return torch.where(undo == 0, shorter, behead), action[:, 0]

    def to_graph(self, states: Tensor) -> Graph:
        """The chain of filled slots: symbol and place of each, edges to the right and to the left.

        The whole graph decides every action.
        """
        filled, place = states >= 0, torch.arange(self.length, device=states.device)
        way = place - place[:, None]
        joined = (way.abs() == 1) & filled[:, :, None] & filled[:, None]
        nodes = torch.stack([states, place.expand_as(states)], 2)
        edges = (way < 0).long().expand_as(joined)[..., None]
        return dense_to_graph(filled, nodes, joined, edges, states[:, :0])

    def log_ways(self, states: Tensor) -> Tensor:
        filled = (states >= 0).sum(-1).double()
        if self.order == "any":
            return (filled + 1).lgamma()
        return filled * log(self.n_backward_actions)

    def decode(self, states: Tensor) -> list[str]:
        symbols = (*self.symbols, BLANK)  # a blank is -1, the last of these
        return [self.separator.join([symbols[i] for i in row]) for row in states.tolist()]

    def smiles(self, states: Tensor) -> list[str]:
        if not self.molecules:
            return super().smiles(states)
        return block_smiles(self.decode(states), self.blocks)

    def encode(self, texts: Texts[str]) -> Tensor:
        digit = {symbol: i for i, symbol in enumerate(self.symbols)} | {BLANK: -1}
        rows = []
        for text in texts:
            parts = text.split() if self.separator else list(text)
            if bad := [part for part in parts if part not in digit]:
                known = " ".join(self.symbols)
                raise InputError(f"'{text}' holds '{bad[0]}', which is not in the alphabet {known}")
            if len(parts) != self.length:
                raise InputError(
                    f"'{text}' has {len(parts)} symbols, expected {self.length} "
                    f"(write '{BLANK}' for a blank slot)"
                )
            row = [digit[part] for part in parts]
            if self.order != "any" and -1 in row and max(row[row.index(-1) :]) >= 0:
                raise InputError(f"'{text}': with order {self.order} blank slots come last")
            rows.append(row)
        return torch.tensor(rows, dtype=torch.int64, device=self.weights.device).view(
            -1, self.length
        )

    def state_index(self, states: Tensor) -> Tensor:
        return ((states + 1) * self.weights).sum(-1)
