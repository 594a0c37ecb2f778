"""In which order sequences are written: what may come next, and how it is undone.

A state is the symbol in each slot, -1 while blank: ``int64[batch, length]``.
"""

from abc import ABC, abstractmethod
from math import log

import torch
from torch import Tensor

State = Tensor
Moved = tuple[Tensor, Tensor]


class Order(ABC):
    """An order of writing.

    Args:
        size: Symbols of the alphabet.
        length: Slots.

    Attributes:
        name: As a configuration writes it.
        blanks_last: Written symbols stand together at the left.
        n_moves: Forward actions that write a symbol.
        n_backward_actions: Backward actions.
    """

    name: str
    blanks_last: bool = True
    n_moves: int
    n_backward_actions: int

    def __init__(self, size: int, length: int) -> None:
        self.size, self.length = size, length

    def legal(self, states: State) -> Tensor:
        """Which symbols may be written where, ``bool[batch, n_moves]``: all while there is room."""
        return (states[:, -1:] < 0).expand(-1, self.n_moves)

    def legal_backward(self, states: State) -> Tensor:
        """What may be undone: ``bool[batch, n_backward_actions]``."""
        return (states[:, :1] >= 0).expand(-1, self.n_backward_actions)

    @abstractmethod
    def step(self, states: State, actions: Tensor) -> Moved:
        """The states after actions, and what undoes these."""

    @abstractmethod
    def backward_step(self, states: State, undo: Tensor) -> Moved:
        """The states before, and the actions that lead back."""

    def log_ways(self, filled: Tensor) -> Tensor:
        """log of how many ways lead to a state of so many symbols: ``float64[batch]``."""
        return filled * log(self.n_backward_actions)


class Append(Order):
    """At the right end: a tree. Action c writes symbol c, the backward action erases the last."""

    name = "append"

    def __init__(self, size: int, length: int) -> None:
        super().__init__(size, length)
        self.n_moves, self.n_backward_actions = size, 1

    def step(self, states: State, actions: Tensor) -> Moved:
        end = (states >= 0).sum(1, keepdim=True).clamp(max=self.length - 1)
        return states.scatter(1, end, actions[:, None]), torch.zeros_like(actions)

    def backward_step(self, states: State, undo: Tensor) -> Moved:
        end = ((states >= 0).sum(1, keepdim=True) - 1).clamp(min=0)
        return states.scatter(1, end, -1), states.gather(1, end).clamp(min=0)[:, 0]


class PrependAppend(Order):
    """At either end. Action c appends symbol c, V + c prepends it; 0 and 1 undo them."""

    name = "prepend-append"

    def __init__(self, size: int, length: int) -> None:
        super().__init__(size, length)
        self.n_moves, self.n_backward_actions = 2 * size, 2

    def step(self, states: State, actions: Tensor) -> Moved:
        symbol = actions[:, None] % self.size
        end = (states >= 0).sum(1, keepdim=True).clamp(max=self.length - 1)
        appended = states.scatter(1, end, symbol)
        prepended = torch.cat([symbol, states[:, :-1]], dim=1)
        return (
            torch.where(actions[:, None] < self.size, appended, prepended),
            actions // self.size,
        )

    def backward_step(self, states: State, undo: Tensor) -> Moved:
        undo = undo[:, None]
        end = ((states >= 0).sum(1, keepdim=True) - 1).clamp(min=0)
        last, shorter = states.gather(1, end).clamp(min=0), states.scatter(1, end, -1)
        first = states[:, :1].clamp(min=0)
        behead = torch.cat([states[:, 1:], torch.full_like(first, -1)], dim=1)
        action = torch.where(undo == 0, last, first + self.size)
        return torch.where(undo == 0, shorter, behead), action[:, 0]


class AnySlot(Order):
    """Into any blank slot. Action c L + j writes symbol c into slot j; j clears slot j."""

    name, blanks_last = "any", False

    def __init__(self, size: int, length: int) -> None:
        super().__init__(size, length)
        self.n_moves, self.n_backward_actions = size * length, length

    def legal(self, states: State) -> Tensor:
        return (states < 0).repeat(1, self.size)

    def legal_backward(self, states: State) -> Tensor:
        return states >= 0

    def step(self, states: State, actions: Tensor) -> Moved:
        action = actions[:, None]
        slot = action % self.length
        return states.scatter(1, slot, action // self.length), slot[:, 0]

    def backward_step(self, states: State, undo: Tensor) -> Moved:
        slot = undo[:, None]
        symbol = states.gather(1, slot).clamp(min=0)
        return states.scatter(1, slot, -1), (symbol * self.length + slot)[:, 0]

    def log_ways(self, filled: Tensor) -> Tensor:
        return (filled + 1).lgamma()


class Insert(Order):
    """Anywhere between symbols. Action c L + j puts symbol c before slot j; j takes slot j out."""

    name = "insert"

    def __init__(self, size: int, length: int) -> None:
        super().__init__(size, length)
        self.n_moves, self.n_backward_actions = size * length, length

    def _slots(self, states: State) -> Tensor:
        return torch.arange(self.length, device=states.device)

    def legal(self, states: State) -> Tensor:
        filled = (states >= 0).sum(1, keepdim=True)
        here = (self._slots(states) <= filled) & (filled < self.length)
        return here.repeat(1, self.size)

    def legal_backward(self, states: State) -> Tensor:
        return states >= 0

    def step(self, states: State, actions: Tensor) -> Moved:
        place, symbol = actions[:, None] % self.length, actions[:, None] // self.length
        slots = self._slots(states)
        source = (slots - (slots > place).long()).clamp(min=0).expand_as(states)
        moved = states.gather(1, source)
        return torch.where(slots == place, symbol, moved), place[:, 0]

    def backward_step(self, states: State, undo: Tensor) -> Moved:
        place, slots = undo[:, None], self._slots(states)
        symbol = states.gather(1, place).clamp(min=0)
        longer = torch.cat([states, torch.full_like(place, -1)], 1)
        source = (slots + (slots >= place).long()).expand_as(states)
        return longer.gather(1, source), (symbol * self.length + place)[:, 0]

    def log_ways(self, filled: Tensor) -> Tensor:
        return (filled + 1).lgamma()


ORDERS: dict[str, type[Order]] = {
    order.name: order for order in (Append, PrependAppend, AnySlot, Insert)
}
