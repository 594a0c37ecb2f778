import pytest
import torch
from torch import Tensor

from gfn_design.environments import check
from gfn_design.environments.base import Environment
from gfn_design.environments.check import ContractError, check_environment
from gfn_design.environments.hypergrid import Hypergrid
from gfn_design.environments.sequence import Sequence
from gfn_design.errors import InputError
from gfn_design.evaluation.exact import push_forward

ORDERS = ("append", "prepend-append", "any")
SMALL: list[Environment] = [
    Hypergrid(ndim=1, height=2),
    Hypergrid(ndim=1, height=7),
    Hypergrid(ndim=2, height=4),
    Hypergrid(ndim=3, height=3),
    *(Sequence("DNA", 3, order) for order in ORDERS),
    *(Sequence("RNA", 2, order) for order in ORDERS),
    *(Sequence("protein", 2, order) for order in ORDERS),
    *(Sequence("DNA", 1, order) for order in ORDERS),
    *(Sequence(["aryl", "CO", "NH-CH2"], 3, order) for order in ORDERS),
]
BIG: list[Environment] = [
    Hypergrid(ndim=4, height=32),
    *(Sequence("protein", 50, order) for order in ORDERS),
]


@pytest.mark.parametrize("environment", SMALL, ids=Environment.describe)
def test_environment_keeps_the_contract(environment: Environment) -> None:
    check_environment(environment, examples=30)


@pytest.mark.parametrize("environment", BIG, ids=Environment.describe)
def test_environment_too_big_to_enumerate_keeps_the_contract(environment: Environment) -> None:
    check_environment(environment, examples=20, brute_force_limit=1000)


# ---- Golden facts ------------------------------------------------------------------------------


def number_of_states(environment: Environment) -> int:
    states, total = environment.initial(1), 0
    while len(states):
        total += len(states)
        row, action = environment.legal(states)[:, : environment.n_moves].nonzero(as_tuple=True)
        children, _ = environment.step(states[row], action)
        index, place = environment.state_index(children).unique(return_inverse=True)
        states = children[torch.empty_like(index).scatter_(0, place, torch.arange(len(place)))]
    return total


@pytest.mark.parametrize(
    ("environment", "states", "objects"),
    [
        (Sequence("DNA", 8, "append"), 87_381, 65_536),
        (Sequence("DNA", 8, "prepend-append"), sum(4**k for k in range(9)), 65_536),
        (Sequence("DNA", 8, "any"), 390_625, 65_536),
        (Sequence("protein", 2, "any"), 441, 400),
        (Sequence(["AB", "C"], 3, "append"), 15, 8),
        (Hypergrid(2, 8), 64, 64),
        (Hypergrid(4, 5), 625, 625),
    ],
    ids=str,
)
def test_numbers_of_states_and_objects(environment: Environment, states: int, objects: int) -> None:
    assert environment.n_states == states
    assert number_of_states(environment) == states
    layers = list(push_forward(environment, lambda states, legal: legal.double().log()))
    assert len(torch.cat([layer.objects for layer in layers]).unique(dim=0)) == objects


def test_numbers_of_paths() -> None:
    def paths(environment: Environment) -> list[float]:
        layers = list(push_forward(environment, lambda states, legal: legal.double().log()))
        return layers[-1].probability.tolist()

    assert paths(Sequence("AB", 3, "append")) == [1] * 8
    assert paths(Sequence("AB", 3, "prepend-append")) == [8] * 8  # two ends at every step
    assert paths(Sequence("AB", 3, "any")) == [6] * 8  # 3! orders
    assert paths(Hypergrid(2, 3)) == [6]  # to the far corner: 4 choose 2


@pytest.mark.parametrize(
    ("environment", "text", "legal", "backward"),
    [
        (Hypergrid(2, 3), "0,0", [1, 1, 1], [0, 0]),
        (Hypergrid(2, 3), "2,0", [0, 1, 1], [1, 0]),
        (Hypergrid(2, 3), "1,2", [1, 0, 1], [1, 1]),
        (Hypergrid(2, 3), "2,2", [0, 0, 1], [1, 1]),
        (Sequence("AB", 2, "append"), "__", [1, 1], [0]),
        (Sequence("AB", 2, "append"), "B_", [1, 1], [1]),
        (Sequence("AB", 2, "append"), "BA", [0, 0], [1]),
        (Sequence("AB", 2, "prepend-append"), "__", [1, 1, 1, 1], [0, 0]),
        (Sequence("AB", 2, "prepend-append"), "A_", [1, 1, 1, 1], [1, 1]),
        (Sequence("AB", 2, "prepend-append"), "AB", [0, 0, 0, 0], [1, 1]),
        (Sequence("AB", 2, "any"), "__", [1, 1, 1, 1], [0, 0]),
        (Sequence("AB", 2, "any"), "_B", [1, 0, 1, 0], [0, 1]),
        (Sequence("AB", 2, "any"), "BB", [0, 0, 0, 0], [1, 1]),
    ],
)
def test_masks(environment: Environment, text: str, legal: list, backward: list) -> None:
    state = environment.encode([text])
    assert environment.legal(state).int().tolist() == [legal]
    assert environment.legal_backward(state).int().tolist() == [backward]


@pytest.mark.parametrize(
    ("environment", "before", "action", "after", "undo"),
    [
        (Hypergrid(2, 4), "1,2", 0, "2,2", 0),
        (Hypergrid(2, 4), "1,2", 1, "1,3", 1),
        (Sequence("DNA", 4, "append"), "AC__", 3, "ACT_", 0),
        (Sequence("DNA", 4, "prepend-append"), "AC__", 3, "ACT_", 0),
        (Sequence("DNA", 4, "prepend-append"), "AC__", 4 + 3, "TAC_", 1),
        (Sequence("DNA", 4, "any"), "A__C", 3 * 4 + 2, "A_TC", 2),
    ],
)
def test_steps(environment: Environment, before: str, action: int, after: str, undo: int) -> None:
    states, names = environment.step(environment.encode([before]), torch.tensor([action]))
    assert (environment.decode(states), names.tolist()) == ([after], [undo])
    states, names = environment.backward_step(environment.encode([after]), torch.tensor([undo]))
    assert (environment.decode(states), names.tolist()) == ([before], [action])


@pytest.mark.parametrize(
    ("environment", "text", "state"),
    [
        (Hypergrid(3, 12), "0,11,3", [0, 11, 3]),
        (Sequence("DNA", 4), "GT__", [2, 3, -1, -1]),
        (Sequence("RNA", 4), "ACGU", [0, 1, 2, 3]),
        (Sequence("protein", 3), "AWY", [0, 18, 19]),
        (Sequence("DNA", 4, "any"), "_A_T", [-1, 0, -1, 3]),
        (Sequence(["CO", "NH"], 3), "NH CO _", [1, 0, -1]),
        (Sequence(["X", "Y"], 3), "XYX", [0, 1, 0]),
    ],
)
def test_texts(environment: Environment, text: str, state: list) -> None:
    assert environment.encode([text]).tolist() == [state]
    assert environment.decode(torch.tensor([state])) == [text]


def test_several_texts_and_spaces() -> None:
    assert Hypergrid(2, 4).encode(["1, 2", "3,0"]).tolist() == [[1, 2], [3, 0]]
    assert Sequence(["CO", "NH"], 2).encode(["CO  NH"]).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Hypergrid(ndim=0), r"ndim >= 1 and height >= 2, got 0 and 8"),
        (lambda: Hypergrid(height=1), r"ndim >= 1 and height >= 2, got 2 and 1"),
        (lambda: Sequence("A"), r"two or more different symbols, got \('A',\)"),
        (lambda: Sequence("ACA"), r"two or more different symbols, got \('A', 'C', 'A'\)"),
        (lambda: Sequence(["CO", "N H"]), r"may hold no space and no '_', got 'N H'"),
        (lambda: Sequence(["CO", ""]), r"may hold no space and no '_', got ''"),
        (lambda: Sequence("AC_"), r"may hold no space and no '_', got '_'"),
        (lambda: Sequence("DNA", 0), r"length must be at least 1, got 0"),
        (lambda: Sequence("DNA", 8, "left"), r"order must be append, prepend-append or any, got"),
    ],
)
def test_constructors_refuse(build, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()


@pytest.mark.parametrize(
    ("environment", "text", "message"),
    [
        (Hypergrid(2, 4), "1", r"'1' is no cell: expected 2 numbers"),
        (Hypergrid(2, 4), "1,2,3", r"'1,2,3' is no cell"),
        (Hypergrid(2, 4), "-1,2", r"'-1,2' is no cell"),
        (Hypergrid(2, 4), "1,4", r"'1,4' is no cell: coordinates end at 3"),
        (Sequence("DNA", 3), "ACU", r"'ACU' holds 'U', which is not in the alphabet A C G T"),
        (Sequence("DNA", 3), "ACGT", r"'ACGT' has 4 symbols, expected 3"),
        (Sequence("DNA", 3), "AC", r"has 2 symbols, expected 3 \(write '_' for a blank slot\)"),
        (Sequence("DNA", 3), "A_C", r"with order prepend-append blank slots come last"),
        (Sequence("DNA", 3, "append"), "_AC", r"with order append blank slots come last"),
        (Sequence(["CO", "NH"], 2), "CONH", r"'CONH' holds 'CONH', which is not in the alphabet"),
    ],
)
def test_encode_refuses(environment: Environment, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        environment.encode([text])


# ---- Broken environments -----------------------------------------------------------------------


class WrongBackwardMask(Hypergrid):
    def legal_backward(self, states: Tensor) -> Tensor:
        return states > 1


class SourceWithParent(Hypergrid):
    def legal_backward(self, states: Tensor) -> Tensor:
        return states >= 0


class WrongUndo(Sequence):
    """After the first symbol, a prepended one is said to be undone at the other end."""

    def step(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        after, undo = super().step(states, actions)
        return after, torch.where(states[:, 0] >= 0, 0, undo)


class UndoOutOfRange(Hypergrid):
    def step(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        after, undo = super().step(states, actions)
        return after, undo + 1


class WrongRedo(Sequence):
    """From three symbols on, backward_step names an action that writes something else."""

    def backward_step(self, states: Tensor, backward_actions: Tensor) -> tuple[Tensor, Tensor]:
        before, redo = super().backward_step(states, backward_actions)
        return before, torch.where(states[:, 2] >= 0, 0, redo)


class WrongParent(Sequence):
    """Erasing the first symbol erases the last one."""

    def backward_step(self, states: Tensor, backward_actions: Tensor) -> tuple[Tensor, Tensor]:
        before, _ = super().backward_step(states, torch.zeros_like(backward_actions))
        _, redo = super().backward_step(states, backward_actions)
        return before, redo


class ParentFromNowhere(Hypergrid):
    """The first coordinate can be -1 when walking back, which is not how one came."""

    def legal_backward(self, states: Tensor) -> Tensor:
        nowhere = states[:, :1] < 0
        grown = super().legal_backward(states) & ~nowhere
        below = (states[:, :1] == 0) & (states[:, 1:2] > 0)
        return torch.cat([grown[:, :1] | below, grown[:, 1:] | (nowhere & (states[:, 1:] > 0))], 1)


class CollidingNumbers(Hypergrid):
    """All numbers above a limit are the limit."""

    def state_index(self, states: Tensor) -> Tensor:
        return super().state_index(states).clamp(max=14)


class TooFewNumbers(Hypergrid):
    def __init__(self, ndim: int, height: int) -> None:
        super().__init__(ndim, height)
        self.n_states = 13


class UnorderedText(Hypergrid):
    def decode(self, states: Tensor) -> list[str]:
        return super().decode(states.sort(dim=1).values)


class LossyEncode(Sequence):
    """The blank is read as the first symbol."""

    def encode(self, texts: list[str]) -> Tensor:
        return super().encode(texts).clamp(min=0)


class DecodeFails(Hypergrid):
    def decode(self, states: Tensor) -> list[str]:
        if (states.sum(1) > 2).any():
            raise ValueError("too far\nfrom home")
        return super().decode(states)


class Cache(Hypergrid):
    """Remembers the mask of the last batch, as long as the batches are equally long."""

    def legal(self, states: Tensor) -> Tensor:
        if len(getattr(self, "mask", ())) != len(states):
            self.mask = super().legal(states)
        return self.mask


class ReusedMemory(Hypergrid):
    """Writes every answer into the same memory."""

    def legal_backward(self, states: Tensor) -> Tensor:
        answer = super().legal_backward(states)
        if getattr(self, "memory", answer[:0]).shape != answer.shape:
            self.memory = torch.empty_like(answer)
        return self.memory.copy_(answer)


class InPlace(Sequence):
    def step(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        after, undo = super().step(states, actions)
        return states.copy_(after), undo


class RowDependent(Hypergrid):
    """Only the first row may leave the far edge."""

    def legal(self, states: Tensor) -> Tensor:
        legal = super().legal(states)
        row = torch.arange(len(states), device=states.device)[:, None]
        return legal & ((row == 0) | (states[:, :1] < 2))


class BatchDependent(Sequence):
    """The longest string of a batch decides where the next symbol goes."""

    def step(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        after, undo = super().step(states, actions)
        longest = (states >= 0).sum(1).amax(dim=0, keepdim=True)
        return torch.where((longest > 1) & (undo[:, None] == 1), states, after), undo


class FailsOnIllegal(Hypergrid):
    def step(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        table = torch.arange(self.height, device=self.moves.device)
        after, undo = super().step(states, actions)
        return table[after], undo


class FailsOnNothing(Hypergrid):
    def legal(self, states: Tensor) -> Tensor:
        return super().legal(states.view(len(states), -1))


class Item(Hypergrid):
    def step(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        if actions.max().item() < 0:
            return states, actions
        return super().step(states, actions)


class Branch(Hypergrid):
    def legal(self, states: Tensor) -> Tensor:
        return super().legal(states) if (states > 0).any() else super().legal(states)


class BooleanIndex(Hypergrid):
    def backward_step(self, states: Tensor, backward_actions: Tensor) -> tuple[Tensor, Tensor]:
        before, redo = super().backward_step(states, backward_actions)
        before[states == 0] = states[states == 0]
        return before, redo


class CpuConstant(Hypergrid):
    def step(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        return states + torch.eye(self.ndim, dtype=torch.int64)[actions], actions


class CpuSource(Hypergrid):
    def initial(self, n: int) -> Tensor:
        return torch.zeros(n, self.ndim, dtype=torch.int64)


class TooShort(Hypergrid):
    """Forgets to count the stop."""

    def __init__(self, ndim: int, height: int) -> None:
        super().__init__(ndim, height)
        self.max_steps -= 1


class NoStop(Hypergrid):
    def legal(self, states: Tensor) -> Tensor:
        legal = super().legal(states)
        return torch.cat([legal[:, :-1], torch.zeros_like(legal[:, -1:])], 1)


class DeadEnd(Hypergrid):
    """At (1, 2) nothing is allowed."""

    def legal(self, states: Tensor) -> Tensor:
        dead = (states[:, :1] == 1) & (states[:, 1:2] == 2)
        return super().legal(states) & ~dead


class EndsEarly(Sequence):
    """Three times the same first symbol ends the string."""

    def legal(self, states: Tensor) -> Tensor:
        return super().legal(states) & ~(states[:, :3] == 0).all(1, keepdim=True)


class Shortcut(Hypergrid):
    """No stop: all walk to the far corner, which a jump from the source reaches too early."""

    def __init__(self) -> None:
        super().__init__(2, 3)
        self.fixed_length, self.max_steps = True, 4
        self.n_actions, self.n_backward_actions = 3, 3
        moves = torch.tensor([[1, 0], [0, 1], [2, 2]])
        self.register_buffer("moves", moves, persistent=False)

    def legal(self, states: Tensor) -> Tensor:
        return torch.cat([states < 2, (states == 0).all(1, keepdim=True)], 1)

    def legal_backward(self, states: Tensor) -> Tensor:
        return torch.cat([states > 0, (states == 2).all(1, keepdim=True)], 1)


class Circle(Hypergrid):
    """Steps beyond the edge come back to the beginning."""

    def legal(self, states: Tensor) -> Tensor:
        return torch.ones_like(super().legal(states))

    def step(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        after, undo = super().step(states, actions)
        return after % self.height, undo

    def backward_step(self, states: Tensor, backward_actions: Tensor) -> tuple[Tensor, Tensor]:
        before, redo = super().backward_step(states, backward_actions)
        return before % self.height, redo


class OutOfSlots(Hypergrid):
    def __init__(self, ndim: int, height: int) -> None:
        super().__init__(ndim, height)
        self.slot_sizes = (height, height - 1)


class FloatMask(Hypergrid):
    def legal(self, states: Tensor) -> Tensor:
        return super().legal(states).float()


class NoUndo(Hypergrid):
    def step(self, states: Tensor, actions: Tensor) -> Tensor:  # type: ignore[override]
        return super().step(states, actions)[0]


def with_attributes(**attributes: object) -> Environment:
    environment = Hypergrid(2, 3)
    for name, value in attributes.items():
        setattr(environment, name, value)
    return environment
