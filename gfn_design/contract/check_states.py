"""The rules of an environment and of each of its states, and the care with which it is asked."""

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gfn_design.environments.base import Environment

EDGES = 2**14  # actions tried at once, which bounds memory and the time for a random walk
MASK = {"step": "legal", "backward_step": "legal_backward"}  # says which actions a method takes


class ContractError(AssertionError):
    """An environment breaks its contract; the message names the rule and the smallest state."""


class Tested:
    """An environment under test, whose methods are asked with care.

    `inputs` are states, or states and actions, or nothing; one in each row.
    """

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        numbered = environment.n_states is not None
        self.about_states = ["legal", "legal_backward", *["state_index"] * numbered]

    @property
    def at_once(self) -> int:
        """States of which every action is tried at once."""
        return max(1, EDGES // max(self.environment.n_actions, self.environment.n_backward_actions))

    def fail(self, rule: str, found: Any, expected: Any, *inputs: Tensor) -> None:
        """Report a broken rule at the first row of `inputs`."""
        lines = [f"{self.environment.describe()} breaks a rule: {rule}."]
        if inputs and len(inputs[0]):
            named = zip(("state", "action"), inputs, strict=False)
            lines += [f"{name}: {rows[0].tolist()}" for name, rows in named]
            try:
                lines[1] += f" which reads {self.environment.decode(inputs[0][:1])[0]!r}"
            except Exception as error:
                lines[1] += f" which decode does not take ({_first_line(error)})"
        raise ContractError("\n  ".join([*lines, f"expected: {expected}", f"found: {found}"]))

    def agree(
        self, rule: str, found: Tensor, expected: Any, *inputs: Tensor, tolerance: float = 0.0
    ) -> None:
        """Report the first row in which `found` is not as `expected`."""
        expected = torch.as_tensor(expected).to(found).expand_as(found)
        equal = torch.isclose(found, expected, rtol=tolerance, atol=tolerance)
        for row in (~equal).nonzero()[:1, 0].tolist():
            rows = (x[row : row + 1] for x in inputs)
            self.fail(rule, found[row].tolist(), expected[row].tolist(), *rows)

    def attempt(self, rule: str, function: Callable[..., Any], *inputs: Tensor) -> Any:
        """What `function` makes of `inputs`, which must neither fail nor change them."""
        copies = [x.clone() for x in inputs]
        try:
            answer = function(*copies)
        except Exception as error:
            for row in range(len(inputs[0]) if inputs and len(inputs[0]) > 1 else 0):
                self.attempt(rule, function, *(x[row : row + 1] for x in inputs))
            batch = f" (in a batch of {len(inputs[0])})" if inputs else ""
            self.fail(rule, _first_line(error) + batch, "no error", *inputs)
        for before, after in zip(inputs, copies, strict=True):
            self.agree(f"{rule}, and changes nothing in place", after, before, *inputs)
        return answer

    def ask(self, method: str, *inputs: Tensor) -> list[Tensor]:
        """What a method answers."""
        rule = f"{method} takes any reachable state and any action in range"
        answer = self.attempt(rule, getattr(self.environment, method), *inputs)
        return self.well_formed(method, answer, inputs[0])

    def well_formed(self, method: str, answer: Any, states: Tensor) -> list[Tensor]:
        """The tensors in an answer about `states`, after a look at their types and shapes."""
        number = states.new_empty(len(states))
        mask = number.bool()[:, None]
        like = {
            "initial": [states],
            "legal": [mask.expand(-1, self.environment.n_actions)],
            "legal_backward": [mask.expand(-1, self.environment.n_backward_actions)],
            "state_index": [number],
        }.get(method, [states, number])
        answers = list(answer) if isinstance(answer, tuple) else [answer]
        found, expected = [_kind(x) for x in answers], [_kind(x) for x in like]
        if found != expected:
            rule = f"{method} returns the right types and shapes, on the environment's device"
            self.fail(rule, found, expected)
        return answers

    def moves(self, method: str, states: Tensor) -> Tensor:
        """Which actions `method` may be given: ``bool[batch, actions]``, without the stop."""
        (legal,) = self.ask(MASK[method], states)
        return legal[:, : self.environment.n_moves] if method == "step" else legal

    def clamped(self, states: Tensor) -> Tensor:
        """The states with every slot put in its range."""
        largest = torch.tensor(self.environment.slot_sizes, device=states.device) - 1
        return states.flatten(1).clamp(min=-1).minimum(largest).view_as(states)


def finished(environment: Environment, states: Tensor) -> Tensor:
    """Which states are objects: ``bool[batch]``."""
    legal = environment.legal(states)
    return ~legal.any(1) if environment.fixed_length else legal[:, environment.stop]


def _kind(x: Any) -> str:
    return f"{x.dtype}{list(x.shape)} on {x.device}" if isinstance(x, Tensor) else repr(x)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


# ---- Rules of the environment ------------------------------------------------------------------


def _attributes_are_sane(tested: Tested) -> None:
    environment = tested.environment
    names = ["n_actions", "n_backward_actions", "max_steps"]
    for name in names if environment.n_states is None else [*names, "n_states"]:
        count = getattr(environment, name, None)
        if type(count) is not int or count < 1:
            tested.fail(f"{name} is a whole number", repr(count), "1 or more")
    sizes = getattr(environment, "slot_sizes", None)
    if type(sizes) is not tuple or not all(type(size) is int and size > 0 for size in sizes):
        tested.fail("slot_sizes is a tuple of whole numbers", repr(sizes), "each 1 or more")
    for n in (1, 3, 0):
        states = tested.attempt("initial(n) never fails", partial(environment.initial, n))
        shape = (n, *getattr(states, "shape", (n,))[1:])
        like = torch.empty(shape, dtype=torch.int64, device=environment.device)
        tested.well_formed("initial", states, like)
        if (slots := math.prod(states.shape[1:])) != len(environment.slot_sizes):
            tested.fail("slot_sizes has an entry for each slot of a state", sizes, f"{slots} long")
        tested.agree("a slot holds -1 to its size less one", states, tested.clamped(states), states)
        tested.agree("there is one source", states, environment.initial(1), states)


def _methods_follow_the_device(tested: Tested) -> None:
    """Meta tensors have no values: what looks at one, or brings its own tensors, fails there."""
    environment = tested.environment
    moved = tested.attempt("to() moves it", lambda: copy.deepcopy(environment).to("meta"))
    states = environment.initial(3).to("meta")
    actions = torch.zeros(3, dtype=torch.int64, device="meta")
    calls: dict[str, tuple[Any, ...]] = dict.fromkeys(MASK, (states, actions))
    calls |= {"initial": (3,), **dict.fromkeys(tested.about_states, (states,))}
    for method, inputs in calls.items():
        rule = f"{method} looks at no tensor's value and keeps its own tensors in buffers"
        answer = tested.attempt(f"{rule} (run on meta)", partial(getattr(moved, method), *inputs))
        tested.well_formed(method, answer, states)


ENVIRONMENT_RULES = (_attributes_are_sane, _methods_follow_the_device)


# ---- Rules of reachable states, none of which is given twice -----------------------------------


def _rows_are_independent(tested: Tested, states: Tensor) -> None:
    """Whatever the other rows hold, illegal actions included, and however often one asks."""
    states = torch.cat([states, tested.environment.initial(1)])  # so that lengths are mixed
    every = torch.ones(len(states), dtype=torch.bool, device=states.device)
    questions = [(method, every, [states]) for method in tested.about_states]
    for method in MASK:
        moves = tested.moves(method, states)
        row, action = torch.ones_like(moves).nonzero(as_tuple=True)
        questions.append((method, moves.flatten(), [states[row], action]))
    for method, legal, inputs in questions:
        answers = tested.ask(method, *inputs)
        kept = [answer.clone() for answer in answers]
        order = torch.arange(len(legal), device=states.device)
        real = order[legal]
        for rows in (order, order.flip(0), order.repeat_interleave(2), real, real[:1], order[:0]):
            given = [x[rows] for x in inputs]
            sure = legal[rows]  # nothing is promised of illegal actions
            for new, old in zip(tested.ask(method, *given), kept, strict=True):
                rule = f"{method} depends on the state and action of each row alone"
                tested.agree(rule, new[sure], old[rows][sure], *(x[sure] for x in given))
        for new, old in zip(answers, kept, strict=True):
            rule = f"what {method} returned is not changed by later calls"
            tested.agree(rule, new[legal], old[legal], *(x[legal] for x in inputs))


def _the_source_alone_has_no_parents(tested: Tested, states: Tensor) -> None:
    built = (states != tested.environment.initial(1)).flatten(1).any(1)
    rule = "the source has no legal backward action, and every other state has one"
    tested.agree(rule, tested.moves("backward_step", states).any(1), built, states)


def _edges_are_undone(tested: Tested, states: Tensor) -> None:
    """Exactly, from either end; so two actions at a state never name the same edge."""
    for there, back in (("step", "backward_step"), ("backward_step", "step")):
        row, action = tested.moves(there, states).nonzero(as_tuple=True)
        edge = (states[row], action)
        after, name = tested.ask(there, *edge)
        tested.agree(f"{there} stays within slot_sizes", after, tested.clamped(after), *edge)
        legal = tested.moves(back, after)
        rule = f"{there} names an action that {back} takes"
        tested.agree(rule, name, name.clamp(0, legal.shape[1] - 1), *edge)
        rule = f"{MASK[back]} allows the action that {there} names"
        tested.agree(rule, legal.gather(1, name[:, None])[:, 0], True, *edge)
        again, renamed = tested.ask(back, after, name)
        tested.agree(f"{back} undoes {there}", again, states[row], *edge)
        tested.agree(f"{back} names the action that {there} was given", renamed, action, *edge)


STATE_RULES = (_rows_are_independent, _the_source_alone_has_no_parents, _edges_are_undone)


def length_is_right(tested: Tested, states: Tensor, steps: int) -> None:
    """The states are what `steps` steps may lead to."""
    fixed_length = tested.environment.fixed_length
    (legal,) = tested.ask("legal", states)
    can_move = legal[:, : tested.environment.n_moves].any(1)
    if not fixed_length:
        tested.agree("every unfinished state has a legal action", legal.any(1), True, states)
    if steps >= tested.environment.max_steps - (not fixed_length):
        rule = f"no trajectory is longer than max_steps (can one move after {steps} steps?)"
        tested.agree(rule, can_move, False, states)
    elif fixed_length:
        rule = f"with fixed_length all take max_steps steps (can one move after {steps} steps?)"
        tested.agree(rule, can_move, True, states)


def _texts_are_names(tested: Tested, states: Tensor) -> None:
    decode, encode = tested.environment.decode, tested.environment.encode
    texts = tested.attempt("decode takes any reachable state", decode, states)
    if not isinstance(texts, list) or [type(text) for text in texts] != [str] * len(states):
        tested.fail("decode gives a text for each state", texts, f"{len(states)} texts", states)
    rule = "encode takes what decode gives"
    if tested.environment.several_states:
        _texts_are_read(tested, states, texts)
        return
    _are_different(tested, "different states have different texts", states, texts)
    again = tested.attempt(rule, lambda some: encode(decode(some)), states)
    if _kind(again) != _kind(states):
        tested.fail("encode gives states", _kind(again), _kind(states), states)
    tested.agree("encode undoes decode", again, states, states)


def _texts_are_read(tested: Tested, states: Tensor, texts: list[str]) -> None:
    """Of each object that has been met, one state is found again, and has copies."""
    environment = tested.environment
    done = finished(environment, states)
    states, texts = (
        states[done],
        [text for text, is_done in zip(texts, done, strict=True) if is_done],
    )
    rule = "encode takes what decode gives of finished states"
    again = tested.attempt(rule, lambda some: environment.encode(environment.decode(some)), states)
    if _kind(again) != _kind(states):
        tested.fail("encode gives states", _kind(again), _kind(states), states)
    read = environment.decode(again)
    for row, (found, expected) in enumerate(zip(read, texts, strict=True)):
        if found != expected:
            tested.fail("encode gives a state of the same object", found, expected, states[row:])
    for some in (states, again):
        copies = tested.attempt(
            "log_states_per_object takes finished states", environment.log_states_per_object, some
        )
        if _kind(copies) != _kind(states.new_zeros(len(states), dtype=torch.float64)):
            tested.fail(
                "log_states_per_object gives float64[batch]", _kind(copies), "float64[batch]"
            )
        tested.agree("an object has one copy or more", copies >= 0, True, some)


def _numbers_are_names(tested: Tested, states: Tensor) -> None:
    """Different numbers below `n_states`, so that there are no more than `n_states` states."""
    if (n_states := tested.environment.n_states) is not None:
        (index,) = tested.ask("state_index", states)
        rule = "state_index lies in [0, n_states)"
        tested.agree(rule, index, index.clamp(0, n_states - 1), states)
        _are_different(tested, "different states have different numbers", states, index.tolist())


def _are_different(tested: Tested, rule: str, states: Tensor, names: list[Any]) -> None:
    first: dict[Any, int] = {}
    for row, name in enumerate(names):
        if (other := first.setdefault(name, row)) != row:
            found = f"{name!r}, as for {states[other].tolist()}"
            tested.fail(rule, found, "a name of its own", states[row:])


NAME_RULES = (_texts_are_names, _numbers_are_names)
