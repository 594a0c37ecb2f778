"""Rules about the whole graph of states, where it is small enough to list."""

from collections import Counter
from typing import NamedTuple

import torch
from torch import Tensor

from gfn_design.contract.check_states import STATE_RULES, Tested, finished, length_is_right
from gfn_design.errors import InputError
from gfn_design.evaluation.exact import push_forward


class Graph(NamedTuple):
    """States, fewest steps first, and edges: the states at their ends, their backward actions."""

    states: Tensor
    parent: Tensor
    child: Tensor
    undo: Tensor
    whole: bool  # nothing is missing


def _keys(states: Tensor) -> list[bytes]:
    """Each state as something to look up."""
    return [row.tobytes() for row in states.flatten(1).cpu().numpy()]


def new_states(states: Tensor, number: dict[bytes, int]) -> Tensor:
    """The states without a number, each where it comes first; each is given the next number."""
    rows = []
    for row, key in enumerate(_keys(states)):
        if key not in number:
            number[key] = len(number)
            rows.append(row)
    return states[rows]


def explore(tested: Tested, limit: int) -> Graph:
    """Walk breadth first, and check each state before going on from it."""
    number: dict[bytes, int] = {}  # of every state met
    queue = [(new_states(tested.environment.initial(1), number), 0)]  # they, and their depth
    edges, start = [], 0
    for states, steps in queue:  # which grows meanwhile
        for rule in STATE_RULES:
            rule(tested, states)
        length_is_right(tested, states, steps)
        row, action = tested.moves("step", states).nonzero(as_tuple=True)
        children, undo = tested.ask("step", states[row], action)
        fresh = new_states(children, number)
        child = torch.tensor([number[key] for key in _keys(children)]).to(row)
        edges.append(torch.stack([row + start, child, undo]))
        queue += [(part, steps + 1) for part in fresh.split(tested.at_once) if len(part)]
        start += len(states)
        if len(number) > limit:
            break
    parent, child, undo = torch.cat(edges, 1)
    met = torch.cat([states for states, _ in queue])
    return Graph(met, parent, child, undo, len(number) <= limit)


def _every_path_ends_in_time(tested: Tested, graph: Graph) -> None:
    there = torch.zeros(len(graph.states), dtype=torch.bool, device=graph.states.device)
    there[0] = True
    for steps in range(tested.environment.max_steps + 1):
        length_is_right(tested, graph.states[there], steps)
        there = torch.zeros_like(there).index_fill(0, graph.child[there[graph.parent]], True)


def _parents_can_be_reached(tested: Tested, graph: Graph) -> None:
    known = set(_keys(graph.states))
    row, undo = tested.moves("backward_step", graph.states).nonzero(as_tuple=True)
    edge = (graph.states[row], undo)
    reached = [key in known for key in _keys(tested.ask("backward_step", *edge)[0])]
    rule = "the source leads to every state that backward_step leads to"
    tested.agree(rule, torch.tensor(reached, device=undo.device), True, *edge)


def _ways_are_counted(tested: Tested, graph: Graph) -> None:
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


def _flow_is_conserved(tested: Tested, graph: Graph) -> None:
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


def _push_forward_finds_the_objects(tested: Tested, graph: Graph) -> None:
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


def _copies_are_counted(tested: Tested, graph: Graph) -> None:
    """As many finished states are one object as log_states_per_object says."""
    environment = tested.environment
    if not environment.several_states:
        return
    states = graph.states[finished(environment, graph.states)]
    texts = environment.decode(states)
    count = Counter(texts)
    found = tested.attempt(
        "log_states_per_object takes finished states", environment.log_states_per_object, states
    )
    expected = torch.tensor([count[text] for text in texts], dtype=torch.float64)
    rule = "exp(log_states_per_object) finished states are the same object"
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
