"""The contract of an environment, as a test that any environment can be run through.

The rules of each state are in `check_states`; here states are found, and the whole graph tested.
"""

import math
from collections import Counter
from functools import partial
from itertools import cycle, islice, product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gfn_design.contract.check_states import (
    ENVIRONMENT_RULES,
    NAME_RULES,
    STATE_RULES,
    ContractError,
    Tested,
    finished,
    length_is_right,
)
from gfn_design.environments.base import Environment
from gfn_design.errors import InputError
from gfn_design.evaluation.exact import push_forward
from gfn_design.policies.mlp import MLP
from gfn_design.policies.policy import Policy
from gfn_design.sampling.rollout import sample
from gfn_design.sampling.scoring import score
from gfn_design.sampling.trajectories import Trajectories

__all__ = ["ContractError", "check_environment"]

LONGEST_WALK = 256  # steps of a random walk


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
    tested = Tested(environment)
    for rule in ENVIRONMENT_RULES:
        rule(tested)
    graph = _explore(tested, brute_force_limit)
    for name_rule in NAME_RULES:
        name_rule(tested, graph.states)
    for graph_rule in GRAPH_RULES if graph.whole else ():
        graph_rule(tested, graph)
    _random_walks(tested, examples)
    _padding_never_leaks(tested)


# ---- Finding states: all near the source, and walks to any depth -------------------------------


class _Graph(NamedTuple):
    """States, fewest steps first, and edges: the states at their ends, their backward actions."""

    states: Tensor
    parent: Tensor
    child: Tensor
    undo: Tensor
    whole: bool  # nothing is missing


def _keys(states: Tensor) -> list[bytes]:
    """Each state as something to look up."""
    return [row.tobytes() for row in states.flatten(1).cpu().numpy()]


def _fresh(states: Tensor, number: dict[bytes, int]) -> Tensor:
    """The states without a number, each where it comes first; each is given the next number."""
    rows = []
    for row, key in enumerate(_keys(states)):
        if key not in number:
            number[key] = len(number)
            rows.append(row)
    return states[rows]


def _explore(tested: Tested, limit: int) -> _Graph:
    """Walk breadth first, and check each state before going on from it."""
    number: dict[bytes, int] = {}  # of every state met
    queue = [(_fresh(tested.environment.initial(1), number), 0)]  # they, and their depth
    edges, start = [], 0
    for states, steps in queue:  # which grows meanwhile
        for rule in STATE_RULES:
            rule(tested, states)
        length_is_right(tested, states, steps)
        row, action = tested.moves("step", states).nonzero(as_tuple=True)
        children, undo = tested.ask("step", states[row], action)
        fresh = _fresh(children, number)
        child = torch.tensor([number[key] for key in _keys(children)]).to(row)
        edges.append(torch.stack([row + start, child, undo]))
        queue += [(part, steps + 1) for part in fresh.split(tested.at_once) if len(part)]
        start += len(states)
        if len(number) > limit:
            break
    parent, child, undo = torch.cat(edges, 1)
    met = torch.cat([states for states, _ in queue])
    return _Graph(met, parent, child, undo, len(number) <= limit)


def _random_walks(tested: Tested, examples: int) -> None:
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


def _walk(tested: Tested, choices: list[int]) -> Tensor:
    """The states met by the chosen legal actions, forward and then back to the source.

    Beyond the farthest one all children are met too: names that confuse states confuse siblings.
    """
    met = [tested.environment.initial(1)]

    def move(method: str, choice: int) -> bool:
        actions = tested.moves(method, met[-1])[0].nonzero()
        if len(actions):
            met.append(tested.ask(method, met[-1], actions[choice % len(actions)])[0])
        return len(actions) > 0

    length_is_right(tested, met[0], 0)
    for steps, choice in enumerate(choices, 1):
        if not move("step", choice):
            break
        length_is_right(tested, met[-1], steps)
    row, action = tested.moves("step", met[-1]).nonzero(as_tuple=True)
    children, _ = tested.ask("step", met[-1][row], action)
    for choice in islice(cycle([*choices, 0]), tested.environment.max_steps):
        if not move("backward_step", choice):
            break
    rule = "every way back ends at the source, within max_steps"
    tested.agree(rule, met[-1], met[0], met[-1])
    return _fresh(torch.cat([*met, children]), {})


# ---- Rules of the whole graph ------------------------------------------------------------------


def _every_path_ends_in_time(tested: Tested, graph: _Graph) -> None:
    there = torch.zeros(len(graph.states), dtype=torch.bool, device=graph.states.device)
    there[0] = True
    for steps in range(tested.environment.max_steps + 1):
        length_is_right(tested, graph.states[there], steps)
        there = torch.zeros_like(there).index_fill(0, graph.child[there[graph.parent]], True)


def _parents_can_be_reached(tested: Tested, graph: _Graph) -> None:
    known = set(_keys(graph.states))
    row, undo = tested.moves("backward_step", graph.states).nonzero(as_tuple=True)
    edge = (graph.states[row], undo)
    reached = [key in known for key in _keys(tested.ask("backward_step", *edge)[0])]
    rule = "the source leads to every state that backward_step leads to"
    tested.agree(rule, torch.tensor(reached, device=undo.device), True, *edge)


def _ways_are_counted(tested: Tested, graph: _Graph) -> None:
    """`log_ways`, where there is a formula, against the number of paths."""
    environment = tested.environment
    try:
        environment.log_ways(environment.initial(1))
    except InputError:
        return
    ways = torch.zeros(len(graph.states), dtype=torch.float64, device=graph.states.device)
    ways[0] = 1
    here = ways.clone()
    for _ in range(environment.max_steps):
        here = torch.zeros_like(here).index_add(0, graph.child, here[graph.parent])
        ways = ways + here
    rule = "log_ways is log of the number of paths from the source"
    found = environment.log_ways(graph.states)
    tested.agree(rule, found, ways.log(), graph.states, tolerance=1e-6)


def _flow_is_conserved(tested: Tested, graph: _Graph) -> None:
    """Random rewards and a random backward policy give flows, and those the policy of R / Z."""
    states, parent, child, undo, _ = graph
    random = torch.Generator().manual_seed(0)

    def positive(where: Tensor) -> Tensor:
        number = torch.rand(where.shape, generator=random, dtype=torch.float64) + 0.1
        return number.to(where.device) * where

    done = finished(tested.environment, states)
    reward = positive(done)
    weight = positive(tested.moves("backward_step", states))
    backward = weight[child, undo] / weight[child].sum(1)
    source = torch.zeros_like(reward)
    source[0] = 1
    flow, visits = reward, source
    for _ in range(tested.environment.max_steps):
        flow = reward.index_add(0, parent, backward * flow[child])
    forward = backward * flow[child] / flow[parent]
    for _ in range(tested.environment.max_steps):
        visits = source.index_add(0, child, forward * visits[parent])
    rule = "the flow out of the source is the sum of the rewards (their ratio)"
    tested.agree(rule, flow[:1] / reward.sum(), 1.0, states, tolerance=1e-9)
    rule = "the policy of a flow builds objects with probability R / Z (its ratio to that)"
    built = (visits * reward / flow)[done] * reward.sum() / reward[done]
    tested.agree(rule, built, 1.0, states[done], tolerance=1e-9)


def _push_forward_finds_the_objects(tested: Tested, graph: _Graph) -> None:
    environment = tested.environment
    if environment.n_states is None:
        return
    layers = list(push_forward(environment, _uniform))
    total = float(sum(layer.probability.sum() for layer in layers))
    if abs(total - 1) > 1e-9:
        tested.fail("the uniform policy ends with probability 1", total, 1.0)
    found = set(_keys(torch.cat([layer.objects for layer in layers])))
    objects = set(_keys(graph.states[finished(environment, graph.states)]))
    if found != objects:
        rule = "push_forward visits exactly the objects"
        tested.fail(rule, f"{len(found)} objects", f"{len(objects)} objects")


def _uniform(states: Tensor, legal: Tensor) -> Tensor:
    return legal.double().log() - legal.sum(1, keepdim=True).double().log()


def _copies_are_counted(tested: Tested, graph: _Graph) -> None:
    """As many finished states are one object as log_copies says."""
    environment = tested.environment
    if not environment.copies:
        return
    states = graph.states[finished(environment, graph.states)]
    texts = environment.decode(states)
    count = Counter(texts)
    found = tested.attempt("log_copies takes finished states", environment.log_copies, states)
    expected = torch.tensor([count[text] for text in texts], dtype=torch.float64)
    rule = "exp(log_copies) finished states are the same object"
    tested.agree(rule, found.exp(), expected, states, tolerance=1e-9)


GRAPH_RULES = (
    _every_path_ends_in_time,
    _parents_can_be_reached,
    _ways_are_counted,
    _flow_is_conserved,
    _copies_are_counted,
    _push_forward_finds_the_objects,
)


# ---- Trajectories ------------------------------------------------------------------------------


def _padding_never_leaks(tested: Tested) -> None:
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
    after = littered.states[:, 1:]
    sizes = torch.tensor(environment.slot_sizes).view(after.shape[2:])
    number = torch.randint(2**31, after.shape, generator=random)
    after[dead] = (number % (sizes + 1) - 1).to(after)[dead]
    number = number.flatten(2)[..., 0].to(after)[dead]
    littered.actions[dead] = number % environment.n_actions
    littered.backward_actions[dead] = number % environment.n_backward_actions
    return littered
