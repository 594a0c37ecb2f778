import pytest
import torch
from torch import Tensor

from gfn_design.contract import check, check_states, graph_rules
from gfn_design.contract.check import ContractError, check_environment
from gfn_design.environments.base import Environment
from gfn_design.environments.hypergrid import Hypergrid
from gfn_design.environments.sequences.sequence import Sequence
from gfn_design.errors import InputError
from gfn_design.evaluation.exact import push_forward
from gfn_design.policies.policy import Policy
from gfn_design.sampling.log_probabilities import StepLogProbs, log_probabilities
from gfn_design.sampling.trajectories import Trajectories


class Jumps(Hypergrid):
    """A line walked by ones and twos, so with paths of many lengths; objects are the even cells."""

    def __init__(self, max_steps: int = 7) -> None:
        super().__init__(1, 7)
        self.max_steps, self.n_actions, self.n_backward_actions = max_steps, 3, 2
        self.register_buffer("moves", torch.tensor([[1], [2]]), persistent=False)

    def legal(self, states: Tensor) -> Tensor:
        return torch.cat([states < 6, states < 5, states % 2 == 0], 1)

    def legal_backward(self, states: Tensor) -> Tensor:
        return torch.cat([states > 0, states > 1], 1)

    def log_ways(self, states: Tensor) -> Tensor:
        fibonacci = torch.tensor([1, 1, 2, 3, 5, 8, 13], dtype=torch.float64)
        return fibonacci.log()[states[:, 0]]


class Matrix(Sequence):
    """A state of two dimensions, on an environment that does not number its states."""

    def __init__(self) -> None:
        super().__init__("DNA", 4, "any")
        self.n_states = None

    def initial(self, n: int) -> Tensor:
        return super().initial(n).unflatten(1, (2, 2))

    def legal(self, states: Tensor) -> Tensor:
        return super().legal(states.flatten(1))

    def legal_backward(self, states: Tensor) -> Tensor:
        return super().legal_backward(states.flatten(1))

    def step(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        after, undo = super().step(states.flatten(1), actions)
        return after.unflatten(1, (2, 2)), undo

    def backward_step(self, states: Tensor, backward_actions: Tensor) -> tuple[Tensor, Tensor]:
        before, redo = super().backward_step(states.flatten(1), backward_actions)
        return before.unflatten(1, (2, 2)), redo

    def log_ways(self, states: Tensor) -> Tensor:
        return super().log_ways(states.flatten(1))

    def decode(self, states: Tensor) -> list[str]:
        return super().decode(states.flatten(1))

    def encode(self, texts: list[str]) -> Tensor:
        return super().encode(texts).unflatten(1, (2, 2))


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
    Jumps(),
    Matrix(),
]
BIG: list[Environment] = [
    Hypergrid(ndim=4, height=32),
    *(Sequence("protein", 50, order) for order in ORDERS),
]


@pytest.mark.parametrize("environment", SMALL, ids=Environment.describe)
def test_environment_keeps_the_contract(environment: Environment) -> None:
    check_environment(environment, examples=20)


@pytest.mark.parametrize("environment", BIG, ids=Environment.describe)
def test_environment_too_big_to_enumerate_keeps_the_contract(environment: Environment) -> None:
    check_environment(environment, examples=10, brute_force_limit=1000)


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


def test_alphabet_is_named_in_any_case() -> None:
    assert Sequence("dna", 3).symbols == Sequence("DNA", 3).symbols == ("A", "C", "G", "T")


@pytest.mark.parametrize(
    "environment", [Hypergrid(3, 4), *(Sequence("DNA", 3, order) for order in ORDERS)], ids=str
)
def test_no_texts_are_no_states(environment: Environment) -> None:
    states = environment.encode([])
    assert (states.dtype, states.shape) == (torch.int64, (0, 3))


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
        (
            lambda: Sequence("DNA", 8, "left"),
            r"order must be append, prepend-append, any or insert, got",
        ),
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
        (Sequence("DNA", 3), "ACX", r"'ACX' holds 'X', which is not in the alphabet A C G T"),
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
    """Nothing can be prepended next to a row that holds a string already."""

    def step(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        after, undo = super().step(states, actions)
        started = states.roll(1, 0)[:, :1] >= 0
        return torch.where(started & (undo[:, None] == 1), states, after), undo


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
        return super().legal(states) & (len(states) > 0 and bool((states >= 0).all()))


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
    """One may go from the last cell back to the second."""

    def __init__(self) -> None:
        super().__init__(1, 4)
        self.n_actions, self.n_backward_actions = 3, 2
        self.register_buffer("moves", torch.tensor([[1], [-2]]), persistent=False)

    def legal(self, states: Tensor) -> Tensor:
        return torch.cat([states < 3, states == 3, states >= 0], 1)

    def legal_backward(self, states: Tensor) -> Tensor:
        return torch.cat([states > 0, states == 1], 1)


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


GRID, STRING = (2, 4), ("DNA", 3)
BROKEN: list[tuple[Environment, str]] = [
    (with_attributes(n_actions=2.0), "n_actions is a whole number"),
    (with_attributes(max_steps=0), "max_steps is a whole number"),
    (with_attributes(n_states=0), "n_states is a whole number"),
    (with_attributes(slot_sizes=[3, 3]), "slot_sizes is a tuple of whole numbers"),
    (with_attributes(slot_sizes=(3,)), "slot_sizes has an entry for each slot"),
    (with_attributes(slot_sizes=(3, 0)), "slot_sizes is a tuple of whole numbers"),
    (Item(*GRID), "step looks at no tensor's value.*Tensor.item()"),
    (Branch(*GRID), "legal looks at no tensor's value.*Tensor.item()"),
    (BooleanIndex(*GRID), "backward_step looks at no tensor's value.*nonzero"),
    (CpuConstant(*GRID), "step looks at no tensor's value.*expected device meta"),
    (CpuSource(*GRID), "initial returns the right types.*on cpu"),
    (FloatMask(*GRID), "legal returns the right types and shapes.*torch.float32"),
    (NoUndo(*GRID), "step returns the right types and shapes"),
    (InPlace("DNA", 3, "append"), "step takes any.*and changes nothing in place"),
    (FailsOnIllegal(*GRID), "step takes any reachable state and any action in range.*IndexError"),
    (FailsOnNothing(*GRID), "legal takes any reachable state.*in a batch of 0"),
    (Cache(*GRID), "legal depends on the state and action of each row alone"),
    (RowDependent(*GRID), "legal depends on the state and action of each row alone"),
    (BatchDependent(*STRING), "step depends on the state and action of each row alone"),
    (ReusedMemory(*GRID), "what legal_backward returned is not changed by later calls"),
    (SourceWithParent(*GRID), "the source has no legal backward action, and every other state has"),
    (WrongBackwardMask(*GRID), "legal_backward allows the action that step names"),
    (UndoOutOfRange(*GRID), "step names an action that backward_step takes"),
    (OutOfSlots(*GRID), "step stays within slot_sizes"),
    (WrongUndo(*STRING), "backward_step undoes step"),
    (WrongParent(*STRING), "backward_step undoes step"),
    (WrongRedo(*STRING), "backward_step names the action that step was given"),
    (ParentFromNowhere(*GRID), "the source leads to every state that backward_step leads to"),
    (TooShort(*GRID), "no trajectory is longer than max_steps"),
    (NoStop(*GRID), "every unfinished state has a legal action"),
    (DeadEnd(*GRID), "every unfinished state has a legal action"),
    (EndsEarly("DNA", 5, "append"), "with fixed_length all take max_steps steps"),
    (Shortcut(), "with fixed_length all take max_steps steps"),
    (Jumps(max_steps=6), "no trajectory is longer than max_steps"),
    (Circle(), "no trajectory is longer than max_steps"),
    (UnorderedText(*GRID), "different states have different texts"),
    (LossyEncode(*STRING), "encode undoes decode"),
    (DecodeFails(*GRID), "decode takes any reachable state"),
    (CollidingNumbers(*GRID), "different states have different numbers"),
    (TooFewNumbers(*GRID), r"state_index lies in \[0, n_states\)"),
]


@pytest.mark.parametrize(("environment", "rule"), BROKEN, ids=lambda x: type(x).__name__)
def test_broken_environment_is_found(environment: Environment, rule: str) -> None:
    with pytest.raises(ContractError, match="(?s)" + rule) as caught:
        check_environment(environment, examples=20)
    assert str(caught.value).startswith(environment.describe())


@pytest.mark.parametrize(
    ("environment", "lines"),
    [
        (WrongUndo(*STRING), ["[0, -1, -1] which reads 'A__'", "5", "[0, -1, -1]", "[1, -1, -1]"]),
        (WrongRedo(*STRING), ["[0, 0, -1] which reads 'AA_'", "1", "1", "0"]),
        (OutOfSlots(*GRID), ["[0, 2] which reads '0,2'", "1", "[0, 2]", "[0, 3]"]),
        (DeadEnd(*GRID), ["[1, 2] which reads '1,2'", "True", "False"]),
        (TooShort(*GRID), ["[3, 2] which reads '3,2'", "False", "True"]),
        (
            CollidingNumbers(*GRID),
            ["[3, 3] which reads '3,3'", "a name of its own", "14, as for [3, 2]"],
        ),
        (
            DecodeFails(*GRID),
            [
                "[3, 0] which decode does not take (ValueError: too far)",
                "no error",
                "ValueError: too far (in a batch of 1)",
            ],
        ),
    ],
    ids=lambda x: type(x).__name__,
)
def test_error_names_the_smallest_state(environment: Environment, lines: list[str]) -> None:
    with pytest.raises(ContractError) as caught:
        check_environment(environment, examples=20)
    found = [line.split(": ", 1)[1] for line in str(caught.value).splitlines()[1:]]
    assert found == lines


class DeepMask(Hypergrid):
    def legal_backward(self, states: Tensor) -> Tensor:
        deep = (states[:, :1] >= 5) & (states[:, 2:3] >= 3)
        return super().legal_backward(states) & ~deep


class DeepText(Sequence):
    def decode(self, states: Tensor) -> list[str]:
        return super().decode(torch.where(states[:, 6:7] >= 0, states.clamp(max=17), states))


@pytest.mark.parametrize(
    ("environment", "rule", "text"),
    [
        (DeepMask(4, 32), "legal_backward allows the action that step names", "5,0,2,0"),
        (DeepText("protein", 20), "different states have different texts", "AAAAAAV" + 13 * "_"),
        (WrongRedo("protein", 50), "backward_step names the action", "AA" + 48 * "_"),
        (EndsEarly("protein", 50), "with fixed_length all take max_steps", "AAA" + 47 * "_"),
    ],
    ids=lambda x: type(x).__name__,
)
def test_random_walk_is_shrunk_to_the_smallest_state(
    environment: Environment, rule: str, text: str
) -> None:
    with pytest.raises(ContractError, match=f"{rule}(?s:.*)reads '{text}'\n"):
        check_environment(environment, brute_force_limit=1)


def test_flow_that_is_lost_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "GRAPH_RULES", (graph_rules._flow_is_conserved,))
    with pytest.raises(ContractError, match="the flow out of the source"):
        check_environment(ParentFromNowhere(*GRID))


def test_forward_policy_that_misses_its_target_is_found() -> None:
    tested = check_states.Tested(Hypergrid(2, 3))
    graph = graph_rules.explore(tested, limit=100)
    graph_rules._flow_is_conserved(tested, graph)
    detached = graph.child.clone()
    detached[-1] = 0
    with pytest.raises(ContractError, match="flow"):
        graph_rules._flow_is_conserved(tested, graph._replace(child=detached))


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (slice(1), "the uniform policy ends with probability 1"),
        (slice(0, -1), "exactly the objects"),
    ],
)
def test_push_forward_that_loses_objects_is_found(
    monkeypatch: pytest.MonkeyPatch, keep: slice, message: str
) -> None:
    layers = list(push_forward(Hypergrid(1, 2), graph_rules._uniform))
    if keep.stop == -1:  # all the probability in one place
        layers[0] = layers[0]._replace(probability=torch.ones(1, dtype=torch.float64))
    monkeypatch.setattr(graph_rules, "push_forward", lambda *_: layers[keep])
    with pytest.raises(ContractError, match=message):
        check_environment(Hypergrid(1, 2))


@pytest.mark.parametrize("name", ["log_pf", "log_pb"])
def test_padding_that_leaks_is_found(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def leaky(environment: Environment, policy: Policy, trajectories: Trajectories) -> StepLogProbs:
        steps = log_probabilities(environment, policy, trajectories)
        last = trajectories.states[:, -1:, 0] * 0.1
        return steps._replace(**{name: getattr(steps, name) + last})

    monkeypatch.setattr(check, "log_probabilities", leaky)
    with pytest.raises(ContractError, match=f"padding never leaks into {name}"):
        check_environment(Hypergrid(2, 4), examples=1)
