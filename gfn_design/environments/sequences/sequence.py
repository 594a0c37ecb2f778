"""Strings over an alphabet: DNA, RNA, protein, or a chain of building blocks."""

from collections.abc import Sequence as Texts
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
from gfn_design.environments.sequences.constraints import Constraint
from gfn_design.environments.sequences.language import Language
from gfn_design.environments.sequences.letters import ALPHABETS, BLANK, Letters
from gfn_design.environments.sequences.orders import ORDERS
from gfn_design.environments.sequences.rules import Rules
from gfn_design.errors import InputError

WORDS = {name: [block.smiles for block in blocks] for name, blocks in BLOCKS.items()} | {
    f"bits{k}": [f"{word:0{k}b}" for word in range(2**k)] for k in (2, 4, 8)
}


class Sequence(GraphEnvironment):
    """Strings, written from the empty string one symbol at a time.

    A state is the symbol in each slot, -1 while blank. The order says which symbols may come next:

    - ``append``: at the right end. A tree: action c writes symbol c, the one backward action
      erases the last symbol.
    - ``prepend-append``: at either end. Action c appends symbol c, action V + c prepends it;
      backward action 0 drops the last symbol, 1 the first.
    - ``any``: into any blank slot. Action c L + j writes symbol c into slot j; backward action j
      clears slot j.
    - ``insert``: anywhere between symbols. Action c L + j puts symbol c before slot j; backward
      action j takes slot j out.

    Where lengths differ there is a stop besides, the last action.

    Args:
        alphabet: ``DNA``, ``RNA``, ``protein`` or ``bits`` (in any case), a string of letters, or
            a list of blocks (symbols of any length, written one after another with spaces between);
            ``QM9`` and ``sEH`` are lists of molecular fragments, ``bits2``, ``bits4`` and ``bits8``
            all words of so many bits.
        length: Number of symbols; of the longest string.
        order: Which slot may be filled next.
        min_length: Symbols of the shortest string; None: all have `length`.
        constraints: What every string meets, with the orders append and any: no letter is legal
            that would break one, now or later.
    """

    weights: Tensor

    def __init__(
        self,
        alphabet: str | list[str] = "DNA",
        length: int = 8,
        order: Literal["append", "prepend-append", "any", "insert"] = "prepend-append",
        min_length: int | None = None,
        constraints: list[Constraint] | None = None,
    ) -> None:
        super().__init__()
        known = ALPHABETS | WORDS
        self.symbols = tuple(
            known.get(alphabet.lower(), alphabet) if isinstance(alphabet, str) else alphabet
        )
        self.letters = Letters(self.symbols)
        self.blocks = next((name for name in BLOCKS if self.symbols == tuple(WORDS[name])), "")
        self.molecules = bool(self.blocks)
        self.separator = "" if all(len(symbol) == 1 for symbol in self.symbols) else " "
        self.length, self.order = length, order
        self.writes_rightwards = order == "append"
        self.min_length = length if min_length is None else min_length
        self.constraints = tuple(constraints or ())
        self._check_arguments()
        size = len(self.symbols)
        self.fixed_length = self.min_length == length
        self.writing = ORDERS[order](size, length)
        self.language = None
        if self.constraints:
            self.language = Language(self.letters, self.min_length, length, self.constraints)
        self.max_steps = length + (not self.fixed_length)
        self.slot_sizes = (size,) * length
        self.n_actions = self.writing.n_moves + (not self.fixed_length)
        self.n_backward_actions = self.writing.n_backward_actions
        self.n_slots, self.node_sizes, self.edge_sizes = length, (size, length), (2,)
        self.forward_layout = ActionLayout(graph=self.n_actions)
        self.backward_layout = ActionLayout(graph=self.n_backward_actions)
        # Blank slots always come last except in any order, so that bijective numeration (digits
        # 1 to V in base V) numbers the states without gaps; in any order the blank is a digit.
        blanks_last = self.writing.blanks_last
        base = size if blanks_last else size + 1
        count = sum(size**k for k in range(length + 1)) if blanks_last else base**length
        self.n_states = count if count < 2**62 else None
        places = [base**j if self.n_states else 0 for j in range(length)]
        weights = torch.tensor(places if blanks_last else places[::-1])
        self.register_buffer("weights", weights, persistent=False)

    def _check_arguments(self) -> None:
        if len(self.symbols) < 2 or len(set(self.symbols)) < len(self.symbols):
            raise InputError(f"alphabet needs two or more different symbols, got {self.symbols}")
        if bad := [s for s in self.symbols if not s or BLANK in s or any(c.isspace() for c in s)]:
            raise InputError(f"alphabet symbols may hold no space and no '{BLANK}', got '{bad[0]}'")
        if self.length < 1:
            raise InputError(f"length must be at least 1, got {self.length}")
        if self.order not in ORDERS:
            *names, last = ORDERS
            raise InputError(f"order must be {', '.join(names)} or {last}, got '{self.order}'")
        if not 1 <= self.min_length <= self.length:
            raise InputError(
                f"min_length must be from 1 to length ({self.length}), got {self.min_length}"
            )
        if self.order == "any" and self.min_length < self.length:
            raise InputError(
                "with order any all slots are filled; leave out min_length, or take another order"
            )
        if self.constraints and self.order not in ("append", "any"):
            raise InputError(
                f"with order {self.order} it is not known what can still be met; constraints need "
                "order: append or order: any"
            )

    def extra_repr(self) -> str:
        alphabet = self.separator.join(self.symbols)
        text = f"alphabet='{alphabet}', length={self.length}, order='{self.order}'"
        if not self.fixed_length:
            text += f", min_length={self.min_length}"
        if self.constraints:
            text += f", constraints=[{'; '.join(map(str, self.constraints))}]"
        return text

    def letters_of(self, states: Tensor) -> Tensor:
        """The sequences that states are: ``int64[batch, length]``, -1 where nothing is written."""
        return states

    def states_of(self, letters: Tensor) -> Tensor:
        """The states that sequences are; see `letters_of`."""
        return letters

    def rules(self) -> Rules:
        """Which sequences there are."""
        if self.language is not None:
            return Rules.of(self.language)
        return Rules.of(Language(self.letters, self.min_length, self.length))

    def initial(self, n: int) -> Tensor:
        return torch.full((n, self.length), -1, device=self.weights.device)

    def legal(self, states: Tensor) -> Tensor:
        if self.language is None:
            moves = self.writing.legal(states)
            if self.fixed_length:
                return moves
            stops = (states >= 0).sum(1) >= self.min_length
        elif self.order == "append":
            moves, stops = self.language.legal(states)
        else:
            return self.language.legal_anywhere(states)
        return moves if self.fixed_length else torch.cat([moves, stops[:, None]], 1)

    def legal_backward(self, states: Tensor) -> Tensor:
        return self.writing.legal_backward(states)

    def step(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        return self.writing.step(states, actions)

    def backward_step(self, states: Tensor, backward_actions: Tensor) -> tuple[Tensor, Tensor]:
        return self.writing.backward_step(states, backward_actions)

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
        return self.writing.log_ways((states >= 0).sum(-1).double())

    def decode(self, states: Tensor) -> list[str]:
        symbols = (*self.symbols, BLANK)  # a blank is -1, the last of these
        rows = [[symbols[i] for i in row] for row in states.tolist()]
        if not self.fixed_length:  # what is not written is no part of a string
            rows = [[symbol for symbol in row if symbol != BLANK] for row in rows]
        return [self.separator.join(row) for row in rows]

    def smiles(self, states: Tensor) -> list[str]:
        if not self.molecules:
            return super().smiles(states)
        return block_smiles(self.decode(states), self.blocks)

    def encode(self, texts: Texts[str]) -> Tensor:
        digit = {symbol: i for i, symbol in enumerate(self.symbols)} | {BLANK: -1}
        rows = []
        for text in texts:
            parts = text.split() if self.separator else list(self.letters.read(text))
            if bad := [part for part in parts if part not in digit]:
                known = " ".join(self.symbols)
                raise InputError(f"'{text}' holds '{bad[0]}', which is not in the alphabet {known}")
            self._check_length(text, len(parts))
            row = [digit[part] for part in parts]
            row += [-1] * (self.length - len(row))
            if self.writing.blanks_last and -1 in row and max(row[row.index(-1) :]) >= 0:
                raise InputError(f"'{text}': with order {self.order} blank slots come last")
            rows.append(row)
        return torch.tensor(rows, dtype=torch.int64, device=self.weights.device).view(
            -1, self.length
        )

    def _check_length(self, text: str, n: int) -> None:
        if self.fixed_length and n != self.length:
            raise InputError(
                f"'{text}' has {n} symbols, expected {self.length} "
                f"(write '{BLANK}' for a blank slot)"
            )
        if n > self.length:
            raise InputError(f"'{text}' has {n} symbols, expected at most {self.length}")

    def state_index(self, states: Tensor) -> Tensor:
        return ((states + 1) * self.weights).sum(-1)
