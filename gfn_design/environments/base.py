"""What can be built, and how: the contract that every environment fulfils."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gfn_design.config.renamed import check_attributes
from gfn_design.described import Described, described
from gfn_design.errors import InputError


class Environment(Described, nn.Module, ABC):
    """A directed acyclic graph of states, from the empty source to the finished objects.

    A batch of states is one integer tensor ``[batch, *state_shape]``; -1 marks a blank slot. All
    methods are pure functions of such tensors: new tensors out, nothing changed in place, no
    Python branch on a tensor's value. A batch may be empty. They accept any action in range on any
    reachable state; the caller throws away what an illegal action returns. Constant tables are
    non-persistent buffers, at least one of them, which follow the model to its device.
    `check_environment` tests all of this.

    An edge of the graph is an action: two actions may lead to the same child, and probabilities
    live on actions. Every forward action has exactly one backward action that undoes it.

    Where objects are finished after a fixed number of steps (`fixed_length`) a trajectory is
    exactly `max_steps` actions long and a finished state has no legal action. Otherwise the last
    action is the stop, which leaves the state as it is and is never given to `step`.

    Attributes:
        n_actions: Forward actions, the stop included if there is one.
        n_backward_actions: Backward actions.
        max_steps: Actions of the longest trajectory, the stop included if there is one.
        slot_sizes: How many values each slot of the flattened state can take (0, 1, ...).
        fixed_length: Every trajectory has `max_steps` actions, and there is no stop.
        n_states: `state_index` lies below it; None where the states cannot be numbered.
        molecules: Objects are molecules, of which `smiles` gives the SMILES.
        writes_rightwards: States are symbols, ``int64[batch, length]``, written from left to right,
            -1 behind them; action c writes symbol c, the last one stops if lengths differ.
        symbols: What the sequences are written in that objects are; none if they are no sequences.
        separator: Between symbols in a text.
        several_states: Several finished states may be the same object, which
            `log_states_per_object` counts.
        rejects: Objects may hold what is not wanted, as `rejected_for` says. They are trained on a
            reward that is e^-20 of what it would be, and are no candidates.
        weighs: `log_weight` of some objects is not 0.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        check_attributes(cls, {"copies": "several_states", "log_copies": "log_states_per_object"})

    n_actions: int
    n_backward_actions: int
    max_steps: int
    slot_sizes: tuple[int, ...]
    fixed_length: bool = False
    n_states: int | None = None
    molecules: bool = False
    writes_rightwards: bool = False
    symbols: tuple[str, ...] = ()
    separator: str = ""
    several_states: bool = False
    rejects: bool = False
    weighs: bool = False

    @property
    def stop(self) -> int:
        """The index of the stop action; -1, which is no action, where `fixed_length`."""
        return -1 if self.fixed_length else self.n_actions - 1

    @property
    def n_moves(self) -> int:
        """Forward actions that `step` understands, that is all but the stop."""
        return self.n_actions if self.fixed_length else self.n_actions - 1

    @abstractmethod
    def initial(self, n: int) -> Tensor:
        """The source, `n` times: ``int64[n, *state_shape]`` on the environment's device."""

    @abstractmethod
    def legal(self, states: Tensor) -> Tensor:
        """Which forward actions may be taken: ``bool[batch, n_actions]``."""

    @abstractmethod
    def legal_backward(self, states: Tensor) -> Tensor:
        """Which backward actions may be taken: ``bool[batch, n_backward_actions]``.

        None at the source, at least one anywhere else.
        """

    @abstractmethod
    def step(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """The states after `actions` (``int64[batch]``), and the backward actions undoing them."""

    @abstractmethod
    def backward_step(self, states: Tensor, backward_actions: Tensor) -> tuple[Tensor, Tensor]:
        """The states before, and the forward actions that lead from them back to `states`."""

    @abstractmethod
    def decode(self, states: Tensor) -> list[str]:
        """The states as text, equal for equal objects and different for different ones.

        Without `several_states` different states are different objects, whether finished or not.
        """

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> Tensor:
        """The states that `texts` spell; the inverse of `decode`.

        With `several_states` it takes finished objects, and gives one state of each.

        Raises:
            InputError: A text is not an object of this environment.
        """

    def columns(self, texts: Sequence[str]) -> dict[str, list[str]]:
        """What a file says of objects besides: by name, one text for each; nothing here."""
        return {}

    def smiles(self, states: Tensor) -> list[str]:
        """Canonical SMILES of finished states, where these are `molecules`.

        What `decode` gives, unless objects are written otherwise. RDKit reads every one of them.
        """
        if not self.molecules:
            raise TypeError(f"the objects of {self.describe()} are no molecules")
        return self.decode(states)

    def log_states_per_object(self, objects: Tensor) -> Tensor:
        """log of how many finished states are the same object as each: ``float64[batch]``.

        A state is trained on the log-reward of its object less this, so that an object is built
        with probability R / Z, however many states it has. Zeros where every state is an object
        of its own, that is without `several_states`.

        Args:
            objects: Finished states, ``int64[batch, *state_shape]``.
        """
        return torch.zeros(len(objects), dtype=torch.float64, device=objects.device)

    def rejected_for(self, objects: Tensor) -> list[str | None]:
        """Why each object is rejected; None if it is not."""
        return [None] * len(objects)

    def log_weight(self, objects: Tensor) -> Tensor:
        """What is added to log R of objects, in nats: ``float64[batch]``, equal for equal objects.

        An object is built in proportion to its reward times this weight.
        """
        return torch.zeros(len(objects), dtype=torch.float64, device=objects.device)

    def state_index(self, states: Tensor) -> Tensor:
        """A number in ``[0, n_states)`` for each state, different for different ones."""
        raise TypeError(f"{self} does not number its states")

    def log_ways(self, states: Tensor) -> Tensor:
        """log of the number of trajectories from the source to each state: ``float64[batch]``.

        What a backward policy of maximal entropy is made of.
        """
        raise InputError(
            f"{self.describe()} has no formula for the number of ways to a state, which "
            "MaxEntropyBackward needs; set backward: UniformBackward"
        )

    def extra_repr(self) -> str:
        """The arguments it was made with; override it where they are long, or several say one."""
        parameters = inspect.signature(type(self)).parameters.items()
        default = {name: p.default for name, p in parameters if p.default is not p.empty}
        arguments = (default | self.given_arguments()).items()
        return ", ".join(f"{name}={described(value)!r}" for name, value in arguments)

    @property
    def lettered(self) -> bool:
        """Whether objects are strings of single letters, as FASTA and logos show them."""
        return bool(self.symbols) and all(len(symbol) == 1 for symbol in self.symbols)

    def describe(self) -> str:
        """One line that is equal for two environments exactly if their states and actions are.

        It names the class and what `extra_repr` says of the arguments; a checkpoint carries it.
        """
        return f"{type(self).__name__}({self.extra_repr()})"

    @property
    def device(self) -> torch.device:
        """Where the environment's tables are; `initial` puts its states there."""
        return next((table.device for table in self.buffers()), torch.device("cpu"))


def written(environment: Environment) -> Callable[[Tensor], list[str]]:
    """How others read objects: as SMILES of molecules, of others as the texts they are."""
    return environment.smiles if environment.molecules else environment.decode
