"""Molecules written as strings of symbols, from left to right."""

import logging
from abc import abstractmethod
from collections.abc import Sequence as Texts
from pathlib import Path

import torch
from torch import Tensor

from gfn_design.environments.base import Environment
from gfn_design.errors import InputError
from gfn_design.files.objects import Row, read_molecules

_log = logging.getLogger(__name__)


class MoleculeStrings(Environment):
    """Strings of any length up to a bound, each of which is to be a molecule.

    A state is the symbol in each slot, -1 while blank. Action c writes symbol c behind the last
    one, the last action stops. The first symbol has to be an atom, and only then may one stop, so
    no string is the empty molecule.

    Args:
        alphabet: The symbols.
        starts: Of each, whether a string may begin with it.
        max_length: Symbols of the longest string.
    """

    molecules = True
    writes_rightwards = True
    weights: Tensor
    atom: Tensor

    def __init__(self, alphabet: Texts[str], starts: Texts[bool], max_length: int) -> None:
        super().__init__()
        if max_length < 1:
            raise InputError(f"max_length must be at least 1, got {max_length}")
        self.symbols, self.max_length = tuple(alphabet), max_length
        if len(set(self.symbols)) < len(self.symbols) or not any(starts):
            raise InputError(
                f"alphabet needs different symbols, an atom among them, got {' '.join(alphabet)}"
            )
        size = len(self.symbols)
        self.n_actions, self.n_backward_actions = size + 1, 1
        self.max_steps, self.slot_sizes = max_length + 1, (size,) * max_length
        # Digits 1 to V in base V number all strings without gaps.
        count = sum(size**k for k in range(max_length + 1))
        self.n_states = count if count < 2**62 else None
        places = [size**j if self.n_states else 0 for j in range(max_length)]
        self.register_buffer("weights", torch.tensor(places), persistent=False)
        self.register_buffer("atom", torch.tensor(starts), persistent=False)

    @abstractmethod
    def split(self, text: str) -> list[str]:
        """The symbols of a text.

        Raises:
            InputError: It has none.
        """

    @abstractmethod
    def molecule(self, text: str) -> tuple[str, str | None]:
        """Canonical SMILES of a string, and why it is rejected, if it is."""

    def extra_repr(self) -> str:
        return f"alphabet='{''.join(self.symbols)}', max_length={self.max_length}"

    def initial(self, n: int) -> Tensor:
        return torch.full((n, self.max_length), -1, device=self.weights.device)

    def legal(self, states: Tensor) -> Tensor:
        begun, blank = states[:, :1] >= 0, states[:, -1:] < 0
        return torch.cat([blank & (begun | self.atom), begun], 1)

    def legal_backward(self, states: Tensor) -> Tensor:
        return states[:, :1] >= 0

    def step(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        end = (states >= 0).sum(1, keepdim=True).clamp(max=self.max_length - 1)
        return states.scatter(1, end, actions[:, None]), torch.zeros_like(actions)

    def backward_step(self, states: Tensor, backward_actions: Tensor) -> tuple[Tensor, Tensor]:
        end = ((states >= 0).sum(1, keepdim=True) - 1).clamp(min=0)
        return states.scatter(1, end, -1), states.gather(1, end).clamp(min=0)[:, 0]

    def log_ways(self, states: Tensor) -> Tensor:
        return torch.zeros(len(states), dtype=torch.float64, device=states.device)

    def decode(self, states: Tensor) -> list[str]:
        symbols = (*self.symbols, "")  # a blank is -1, the last of these
        return ["".join([symbols[i] for i in row]) for row in states.tolist()]

    def encode(self, texts: Texts[str]) -> Tensor:
        digit = {symbol: i for i, symbol in enumerate(self.symbols)}
        rows = []
        for text in texts:
            symbols = self.split(text)
            if bad := [symbol for symbol in symbols if symbol not in digit]:
                known = " ".join(self.symbols)
                raise InputError(f"'{text}' holds '{bad[0]}', which is not in the alphabet {known}")
            if len(symbols) > self.max_length:
                raise InputError(
                    f"'{text}' has {len(symbols)} symbols, expected at most {self.max_length}"
                )
            row = [digit[symbol] for symbol in symbols]
            if row and not self.atom[row[0]]:
                raise InputError(f"'{text}' begins with {symbols[0]}, expected an atom")
            rows.append(row + [-1] * (self.max_length - len(row)))
        states = torch.tensor(rows, dtype=torch.int64, device=self.weights.device)
        return states.view(-1, self.max_length)

    def smiles(self, states: Tensor) -> list[str]:
        return [self.molecule(text)[0] for text in self.decode(states)]

    def rejected_for(self, objects: Tensor) -> list[str | None]:
        if not self.rejects:
            return [None] * len(objects)
        return [self.molecule(text)[1] for text in self.decode(objects)]

    def state_index(self, states: Tensor) -> Tensor:
        if self.n_states is None:
            return super().state_index(states)
        return ((states + 1) * self.weights).sum(-1)


def molecules_of(path: str, most: int | None = None) -> list[Row]:
    """The molecules in a file, whose symbols an alphabet takes.

    Args:
        path: A file of SMILES.
        most: So many of them are looked at, evenly; None is all.

    Raises:
        InputError: It cannot be read.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise InputError(
            f"alphabet must be 'default', a list of symbols or a file of SMILES; cannot read {path}"
        )
    read_in = read_molecules(file, most=most)
    if told := read_in.told(file):
        _log.warning("%s", told)
    return read_in.rows
