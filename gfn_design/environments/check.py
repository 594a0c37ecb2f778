"""The contract of an environment, as a test that any environment can be run through."""

import copy
import math
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice, product
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gfn_design.environments.base import Environment
from gfn_design.evaluation.exact import push_forward
from gfn_design.policies.mlp import MLP
from gfn_design.policies.policy import Policy
from gfn_design.sampling.trajectories import Trajectories, sample, score

EDGES = 2**14  # actions tried at once, which bounds memory and the time for a random walk
LONGEST_WALK = 256  # steps of a random walk
MASK = {"step": "legal", "backward_step": "legal_backward"}  # says which actions a method takes


class ContractError(AssertionError):
    """An environment breaks its contract; the message names the rule and the smallest state."""


def check_environment(
    environment: Environment, examples: int = 100, brute_force_limit: int = 20_000
) -> None:
    """Test everything that `Environment` promises; it returns silently if all of it holds.

    The states nearest to the source are checked one by one; if that is the whole graph, so are
    its paths and flows. Random walks then reach states at any depth, and a walk that meets a
    broken rule is shrunk to the shortest that does.

    Args:
        environment: What is tested, on any device.
        examples: How many random walks are drawn.
        brute_force_limit: States of the largest graph that is checked whole.

    Raises:
        ContractError: A rule is broken.
    """
    tested = _Tested(environment)
    _attributes_are_sane(tested)
    _methods_follow_the_device(tested)
    graph = _explore(tested, brute_force_limit)
    for name_rule in NAME_RULES:
        name_rule(tested, graph.states)
    for graph_rule in GRAPH_RULES if graph.whole else ():
        graph_rule(tested, graph)
    _random_walks(tested, examples)
    _padding_never_leaks(tested)


class _Tested:
    """An environment under test, whose methods are asked with care.

    `inputs` are states, or states and actions, or nothing; one in each row.
    """

    def __init__(self, environment: Environment) -> None:
        self.environment = environment

    @property
    def at_once(self) -> int:
        """States of which every action is tried at once."""
        return max(1, EDGES // max(self.environment.n_actions, self.environment.n_backward_actions))

    def fail(self, rule: str, found: Any, expected: Any, *inputs: Tensor) -> None:
        """Report a broken rule at the first row of `inputs`."""
        lines = [f"{self.environment.describe()} breaks a rule: {rule}."]
        for name, rows in zip(("state", "action"), inputs, strict=False):
            lines += [f"{name}: {row}" for row in rows[:1].tolist()]
            if name == "state" and len(rows):
                try:
                    lines[-1] += f" which reads {self.environment.decode(rows[:1])[0]!r}"
                except Exception as error:
                    lines[-1] += f" which decode does not take ({_first_line(error)})"
        raise ContractError("\n  ".join([*lines, f"expected: {expected}", f"found: {found}"]))

    def agree(
        self, rule: str, found: Tensor, expected: Any, *inputs: Tensor, tolerance: float = 0.0
    ) -> None:
        """Report the first row in which `found` is not as `expected`."""
        expected = torch.as_tensor(expected).to(found).expand_as(found)
        equal = torch.isclose(found, expected, rtol=tolerance, atol=tolerance)
        for row in (~_every(equal)).nonzero()[:1, 0].tolist():
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
        mask = partial(states.new_empty, dtype=torch.bool)
        expected = {
            "initial": [states],
            "legal": [mask((len(states), self.environment.n_actions))],
            "legal_backward": [mask((len(states), self.environment.n_backward_actions))],
            "state_index": [number],
        }.get(method, [states, number])
        answers = list(answer) if isinstance(answer, tuple) else [answer]
        if (found := list(map(_kind, answers))) != list(map(_kind, expected)):
            rule = f"{method} returns the right types and shapes, on the environment's device"
            self.fail(rule, found, list(map(_kind, expected)))
        return answers

    def moves(self, method: str, states: Tensor) -> Tensor:
        """Which actions `method` may be given: ``bool[batch, actions]``, without the stop."""
        (legal,) = self.ask(MASK[method], states)
        return legal[:, : self.environment.n_moves] if method == "step" else legal

    def clamped(self, states: Tensor) -> Tensor:
        """The states with every slot put in its range."""
        largest = torch.tensor(self.environment.slot_sizes, device=states.device) - 1
        return states.flatten(1).clamp(min=-1).minimum(largest).view_as(states)


def _kind(x: Any) -> str:
    return f"{x.dtype}{list(x.shape)} on {x.device}" if isinstance(x, Tensor) else repr(x)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _every(x: Tensor) -> Tensor:
    """Whether all of a row is True: ``bool[batch]``."""
    return x.reshape(len(x), math.prod(x.shape[1:])).all(1)


def _keys(states: Tensor) -> list[bytes]:
    """Each state as something to look up."""
    return [row.tobytes() for row in states.flatten(1).cpu().numpy()]


def _distinct(states: Tensor) -> Tensor:
    """Each state where it comes first."""
    first: dict[bytes, int] = {}
    for row, key in enumerate(_keys(states)):
        first.setdefault(key, row)
    return states[list(first.values())]


# ---- Rules of the environment ------------------------------------------------------------------


def _attributes_are_sane(tested: _Tested) -> None:
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


def _methods_follow_the_device(tested: _Tested) -> None:
    """Meta tensors have no values: what looks at one, or brings its own tensors, fails there."""
    environment = tested.environment
    moved = tested.attempt("to() moves it", lambda: copy.deepcopy(environment).to("meta"))
    states = environment.initial(3).to("meta")
    actions = torch.zeros(3, dtype=torch.int64, device="meta")
    calls: dict[str, tuple[Any, ...]] = dict.fromkeys(MASK, (states, actions))
    calls |= {"initial": (3,), "legal": (states,), "legal_backward": (states,)}
    calls |= {} if environment.n_states is None else {"state_index": (states,)}
    for method, inputs in calls.items():
        rule = f"{method} looks at no tensor's value and keeps its own tensors in buffers"
        answer = tested.attempt(f"{rule} (run on meta)", partial(getattr(moved, method), *inputs))
        tested.well_formed(method, answer, states)


# ---- Rules of reachable states, none of which is given twice -----------------------------------


def _the_source_alone_has_no_parents(tested: _Tested, states: Tensor) -> None:
    built = ~_every(states == tested.environment.initial(1))
    rule = "the source has no legal backward action, and every other state has one"
    tested.agree(rule, tested.moves("backward_step", states).any(1), built, states)


def _rows_are_independent(tested: _Tested, states: Tensor) -> None:
    """Whatever the other rows hold, illegal actions included, and however often one asks."""
    states = torch.cat([states, tested.environment.initial(1)])  # so that lengths are mixed
    every = torch.ones(len(states), dtype=torch.bool, device=states.device)
    questions = [("legal", every, [states]), ("legal_backward", every, [states])]
    if tested.environment.n_states is not None:
        questions.append(("state_index", every, [states]))
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


def _edges_are_undone(tested: _Tested, states: Tensor) -> None:
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


def _texts_are_names(tested: _Tested, states: Tensor) -> None:
    def there_and_back(states: Tensor) -> Tensor:
        return tested.environment.encode(tested.environment.decode(states))

    texts = tested.attempt("decode takes any reachable state", tested.environment.decode, states)
    if not isinstance(texts, list) or [type(text) for text in texts] != [str] * len(states):
        tested.fail("decode gives a text for each state", texts, f"{len(states)} texts", states)
    _are_different(tested, "different states have different texts", states, texts)
    again = tested.attempt("encode takes what decode gives", there_and_back, states)
    if _kind(again) != _kind(states):
        tested.fail("encode gives states", _kind(again), _kind(states), states)
    tested.agree("encode undoes decode", again, states, states)


def _numbers_are_names(tested: _Tested, states: Tensor) -> None:
    """Different numbers below `n_states`, so that there are no more than `n_states` states."""
    if (n_states := tested.environment.n_states) is not None:
        (index,) = tested.ask("state_index", states)
        rule = "state_index lies in [0, n_states)"
        tested.agree(rule, index, index.clamp(0, n_states - 1), states)
        _are_different(tested, "different states have different numbers", states, index.tolist())


def _are_different(tested: _Tested, rule: str, states: Tensor, names: list[Any]) -> None:
    first: dict[Any, int] = {}
    for row, name in enumerate(names):
        if (other := first.setdefault(name, row)) != row:
            found = f"{name!r}, as for {states[other].tolist()}"
            tested.fail(rule, found, "a name of its own", states[row:])


STATE_RULES = (_rows_are_independent, _the_source_alone_has_no_parents, _edges_are_undone)
NAME_RULES = (_texts_are_names, _numbers_are_names)


def _length_is_right(tested: _Tested, states: Tensor, steps: int) -> None:
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


# ---- Exploring: every state near the source, and walks to any depth ----------------------------


class _Graph(NamedTuple):
    """States, fewest steps first, and edges: the states at their ends, their backward actions."""

    states: Tensor
    parent: Tensor
    child: Tensor
    undo: Tensor
    whole: bool  # nothing is missing


def _explore(tested: _Tested, limit: int) -> _Graph:
    """Walk breadth first, and check each state before going on from it."""
    layer = tested.environment.initial(1)
    number, layers, edges = {_keys(layer)[0]: 0}, [], []
    steps = start = 0
    while len(layer) and len(number) <= limit:
        layers.append(layer)
        fresh = []
        for part in layer.split(tested.at_once):
            for rule in STATE_RULES:
                rule(tested, part)
            _length_is_right(tested, part, steps)
            row, action = tested.moves("step", part).nonzero(as_tuple=True)
            children, undo = tested.ask("step", part[row], action)
            keys = _keys(children)
            fresh.append(children[[i for i, key in enumerate(keys) if key not in number]])
            child = torch.tensor([number.setdefault(key, len(number)) for key in keys]).to(row)
            edges.append(torch.stack([row + start, child, undo]))
            start += len(part)
            if len(number) > limit:
                break
        layer = _distinct(torch.cat(fresh))
        steps += 1
    parent, child, undo = torch.cat(edges, 1)
    return _Graph(torch.cat(layers), parent, child, undo, len(number) <= limit)


def _random_walks(tested: _Tested, examples: int) -> None:
    import hypothesis  # late, for it is slow to import
    from hypothesis import strategies

    longest = min(tested.environment.max_steps, LONGEST_WALK)
    lists = partial(strategies.lists, strategies.integers(0, 2**16), max_size=longest)
    at_least = (0, longest // 2, longest)  # by itself Hypothesis seldom draws a long list

    @hypothesis.settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
        verbosity=hypothesis.Verbosity.quiet,
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
    )
    @hypothesis.given(strategies.one_of(*(lists(min_size=size) for size in at_least)))
    def walk(choices: list[int]) -> None:
        states = _walk(tested, choices)
        for rule in STATE_RULES:
            rule(tested, states[:: math.ceil(len(states) / tested.at_once)])
        for rule in NAME_RULES:
            rule(tested, states)

    walk()


def _walk(tested: _Tested, choices: list[int]) -> Tensor:
    """The states met by the chosen legal actions, forward and then back to the source.

    Beyond the farthest one all children are met too: names that confuse states confuse siblings.
    """
    met = [tested.environment.initial(1)]

    def move(method: str, choice: int) -> bool:
        actions = tested.moves(method, met[-1])[0].nonzero()
        if len(actions):
            met.append(tested.ask(method, met[-1], actions[choice % len(actions)])[0])
        return len(actions) > 0

    _length_is_right(tested, met[0], 0)
    for steps, choice in enumerate(choices, 1):
        if not move("step", choice):
            break
        _length_is_right(tested, met[-1], steps)
    row, action = tested.moves("step", met[-1]).nonzero(as_tuple=True)
    children, _ = tested.ask("step", met[-1][row], action)
    for choice in islice(cycle([*choices, 0]), tested.environment.max_steps):
        if not move("backward_step", choice):
            break
    rule = "every way back ends at the source, within max_steps"
    tested.agree(rule, met[-1], met[0], met[-1])
    return _distinct(torch.cat([*met, children]))


# ---- Rules of the whole graph ------------------------------------------------------------------


def _every_path_ends_in_time(tested: _Tested, graph: _Graph) -> None:
    there = torch.zeros(len(graph.states), dtype=torch.bool, device=graph.states.device)
    there[0] = True
    for steps in range(tested.environment.max_steps + 1):
        _length_is_right(tested, graph.states[there], steps)
        there = torch.zeros_like(there).index_fill(0, graph.child[there[graph.parent]], True)


def _parents_can_be_reached(tested: _Tested, graph: _Graph) -> None:
    known = set(_keys(graph.states))
    row, undo = tested.moves("backward_step", graph.states).nonzero(as_tuple=True)
    edge = (graph.states[row], undo)
    reached = [key in known for key in _keys(tested.ask("backward_step", *edge)[0])]
    rule = "the source leads to every state that backward_step leads to"
    tested.agree(rule, torch.tensor(reached, device=undo.device), True, *edge)


def _flow_is_conserved(tested: _Tested, graph: _Graph) -> None:
    """Random rewards and a random backward policy give flows, and those the policy of R / Z."""
    states, parent, child, undo, _ = graph
    random = torch.Generator().manual_seed(0)
    positive = partial(torch.rand, generator=random, dtype=torch.float64)
    finished = _finished(tested.environment, states)
    reward = (positive(len(states)) + 0.1).to(states.device) * finished
    legal = tested.moves("backward_step", states)
    source = torch.zeros_like(reward)
    source[0] = 1
    weight = (positive(legal.shape) + 0.1).to(states.device) * legal
    backward = weight[child, undo] / weight[child].sum(1)
    flow, visits = reward, source
    for _ in range(tested.environment.max_steps):
        flow = reward.index_add(0, parent, backward * flow[child])
    forward = backward * flow[child] / flow[parent]
    for _ in range(tested.environment.max_steps):
        visits = source.index_add(0, child, forward * visits[parent])
    rule = "the flow out of the source is the sum of the rewards (their ratio)"
    tested.agree(rule, flow[:1] / reward.sum(), 1.0, states, tolerance=1e-9)
    rule = "the policy of a flow builds objects with probability R / Z (its ratio to that)"
    built = (visits * reward / flow)[finished] * reward.sum() / reward[finished]
    tested.agree(rule, built, 1.0, states[finished], tolerance=1e-9)


def _push_forward_finds_the_objects(tested: _Tested, graph: _Graph) -> None:
    environment = tested.environment
    if environment.n_states is None:
        return
    layers = list(push_forward(environment, _uniform))
    total = float(sum(layer.probability.sum() for layer in layers))
    if abs(total - 1) > 1e-9:
        tested.fail("the uniform policy ends with probability 1", total, 1.0)
    ends = torch.cat([layer.objects for layer in layers])
    found = set(_keys(ends[_finished(environment, ends)]))
    objects = set(_keys(graph.states[_finished(environment, graph.states)]))
    if found != objects:
        rule = "push_forward visits exactly the objects"
        tested.fail(rule, f"{len(found)} objects", f"{len(objects)} objects")


def _uniform(states: Tensor, legal: Tensor) -> Tensor:
    return legal.double().log() - legal.sum(1, keepdim=True).double().log()


def _finished(environment: Environment, states: Tensor) -> Tensor:
    """Which states are objects: ``bool[batch]``."""
    legal = environment.legal(states)
    return ~legal.any(1) if environment.fixed_length else legal[:, environment.stop]


GRAPH_RULES = (
    _every_path_ends_in_time,
    _parents_can_be_reached,
    _flow_is_conserved,
    _push_forward_finds_the_objects,
)


# ---- Trajectories ------------------------------------------------------------------------------


def _padding_never_leaks(tested: _Tested) -> None:
    """A trajectory scores the same alone as among others, whatever is written in its padding."""
    environment, random = tested.environment, torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        policy = Policy(environment, partial(MLP, width=8, depth=1), backward="learned")
    policy.to(environment.device)
    uniform = torch.rand(8, environment.max_steps, generator=random).to(environment.device)
    draw = partial(sample, environment, policy)
    drawn = tested.attempt("trajectories can be drawn", draw, uniform)
    littered = _litter(environment, drawn, random)
    in_batches = [score(environment, policy, batch) for batch in (drawn, littered)]
    for row, steps in enumerate(drawn.alive.sum(1).tolist()):
        states, actions, undo, alive, log_reward = (x[row : row + 1] for x in drawn)
        states, actions = states[:, : steps + 1], actions[:, :steps]
        cut = Trajectories(states, actions, undo[:, :steps], alive[:, :steps], log_reward)
        alone = score(environment, policy, cut)
        for name, scored in product(("log_pf", "log_pb"), in_batches):
            found = getattr(scored, name)[row : row + 1]
            expected = F.pad(getattr(alone, name), (0, found.shape[1] - steps))
            rule = f"padding never leaks into {name}"
            tested.agree(rule, found, expected, cut.objects, tolerance=1e-4)


def _litter(environment: Environment, drawn: Trajectories, random: torch.Generator) -> Trajectories:
    """The same with random numbers, in range, where nothing is alive."""
    littered, dead = Trajectories(*(x.clone() for x in drawn)), ~drawn.alive
    n, sizes = int(dead.sum()), torch.tensor(environment.slot_sizes)
    slots = (torch.rand(n, len(sizes), generator=random) * (sizes + 1)).long() - 1
    littered.states[:, 1:][dead] = slots.view(n, *drawn.states.shape[2:]).to(dead.device)
    actions = torch.randint(environment.n_actions, (n,), generator=random)
    littered.actions[dead] = actions.to(dead.device)
    actions = torch.randint(environment.n_backward_actions, (n,), generator=random)
    littered.backward_actions[dead] = actions.to(dead.device)
    return littered
