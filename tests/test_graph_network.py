"""Graph views of states, and networks that read them."""

from functools import partial

import pytest
import torch
from common import model_of

from gfn_design import (
    ActorCritic,
    Atoms,
    FunctionData,
    Graph,
    GraphNetwork,
    Hypergrid,
    InputError,
    Sequence,
    TrajectoryBalance,
)
from gfn_design.environments.graph import ActionLayout, slot_pairs
from gfn_design.fast.step import set_gradients

KINDS = ("gine", "transformer")
ATOMS = Atoms("CNO", 5, numbered=0)


def some_states(environment=ATOMS, n=12, steps=7):
    random = torch.Generator().manual_seed(0)
    states, met = environment.initial(n), []
    for _ in range(steps):
        met.append(states)
        legal = environment.legal(states)[:, : environment.n_moves].float()
        legal = legal + (legal.sum(1, keepdim=True) == 0)
        after, _ = environment.step(states, legal.multinomial(1, generator=random)[:, 0])
        states = after.where(environment.legal(states)[:, :-1].any(1, keepdim=True), states)
    return torch.cat(met)[torch.randperm(n * steps, generator=random)]


def test_graph_of_a_molecule():
    graph = ATOMS.to_graph(torch.cat([ATOMS.initial(1), ATOMS.encode(["OC#[NH+]"])]))
    assert graph.batch.tolist() == [1, 1, 1]
    assert graph.slot.tolist() == [0, 1, 2]
    # Element, charge, valence left, number: O has a hydrogen, so has N.
    assert graph.nodes.tolist() == [[2, 0, 1, 0], [0, 0, 0, 1], [1, 1, 1, 2]]
    ends, features = map(tuple, graph.edges.T.tolist()), graph.edge_features[:, 0].tolist()
    orders = dict(zip(ends, features, strict=True))
    assert orders == {(0, 1): 0, (1, 0): 0, (1, 2): 2, (2, 1): 2}
    assert graph.graph_features.tolist() == [[0], [3]]


def test_graph_of_a_chain():
    environment = Sequence("DNA", 4)
    graph = environment.to_graph(environment.encode(["GT__", "____", "A___"]))
    assert graph.nodes.tolist() == [[2, 0], [3, 1], [0, 0]]
    assert graph.batch.tolist() == [0, 0, 2]
    assert graph.edges.tolist() == [[0, 1], [1, 0]]
    assert graph.edge_features.tolist() == [[0], [1]]
    assert graph.graph_features.shape == (3, 0)


@pytest.mark.parametrize("order", ["append", "prepend-append", "any"])
def test_layouts_number_all_actions(order):
    for environment in (ATOMS, Sequence("DNA", 3, order)):
        n = environment.n_slots
        assert environment.forward_layout.actions(n) == environment.n_actions
        assert environment.backward_layout.actions(n) == environment.n_backward_actions
    assert slot_pairs(3).tolist() == [[1, 2, 2], [0, 0, 1]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_is_read_by_itself_and_an_empty_one_too(kind):
    states = some_states()
    counts = (ATOMS.n_actions, ATOMS.n_backward_actions, 1)
    for outputs in (*counts, ATOMS.n_actions + ATOMS.n_backward_actions):
        network = GraphNetwork(ATOMS, outputs, kind, width=16, depth=2)
        found = network(states)
        assert found.shape == (len(states), outputs)
        assert network(states[:0]).shape == (0, outputs)
        assert torch.allclose(network(states[:5]), found[:5], atol=1e-5)
        assert torch.allclose(network(ATOMS.initial(2))[0], network(ATOMS.initial(1))[0], atol=1e-5)


def moved(graph, places, n_slots):
    """The same graph with its nodes in other slots, and listed in another order."""
    slot = places[graph.slot]
    order = (graph.batch * n_slots + slot).argsort()
    number = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
    return Graph(
        graph.nodes[order],
        number[graph.edges],
        graph.edge_features,
        graph.batch[order],
        slot[order],
        graph.graph_features,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_follow_the_slots(kind):
    """In single precision sums in another order differ in the last digits."""
    n, outputs = ATOMS.n_slots, ATOMS.n_actions
    torch.manual_seed(0)
    network = GraphNetwork(ATOMS, outputs, kind, width=16, depth=2)
    graph, places = ATOMS.to_graph(some_states()), torch.tensor([3, 0, 4, 1, 2])
    before, after = network.read(graph), network.read(moved(graph, places, n))
    node, pair, _ = layout = ATOMS.forward_layout
    assert layout == ActionLayout(4, 1, 4)
    at_slots = [x[:, : n * node].view(-1, n, node) for x in (before, after)]
    assert torch.allclose(at_slots[1][:, places], at_slots[0], atol=1e-5)
    later, earlier = slot_pairs(n)
    i, j = places[later], places[earlier]
    high, low = torch.maximum(i, j), torch.minimum(i, j)
    at_pairs = [x[:, n * node : n * node + len(later) * pair] for x in (before, after)]
    assert torch.allclose(at_pairs[1][:, high * (high - 1) // 2 + low], at_pairs[0], atol=1e-5)
    assert torch.allclose(after[:, -4:], before[:, -4:], atol=1e-5)
    assert at_pairs[0].std() > 1e-3  # else it would not have been tested
    assert before[:, -4:].std() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_bonds_and_elements_are_seen(kind):
    torch.manual_seed(0)
    network = GraphNetwork(ATOMS, 1, kind, width=16, depth=2)
    values = network(ATOMS.encode(["CCO", "C=CO", "CCN", "C1CC1", "CCC", "[O-]CC"]))
    assert len(values.detach().round(decimals=4).unique()) == 6


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision(kind):
    states = some_states()
    network = GraphNetwork(ATOMS, ATOMS.n_actions, kind, width=16, depth=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = network(states)
    assert torch.allclose(found.float(), network(states), atol=0.1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backward", ["uniform", "learned", "shared"])
def test_every_parameter_learns(kind, backward):
    """A parameter without a gradient would stop DDP."""
    environment = Atoms("CO", 3)
    network = partial(GraphNetwork, kind=kind, width=8, depth=1, heads=2)
    objective = TrajectoryBalance() if backward != "uniform" else ActorCritic()
    model = model_of(environment, objective, network, network, backward, batch_size=8, draw_seed=0)
    model.use(FunctionData(lambda texts: [float(len(text)) for text in texts]))
    _, losses, gradients = model.next_step()
    set_gradients(model.configure_optimizers(), losses, gradients)
    assert all(parameter.grad is not None for parameter in model.policy.parameters())


@pytest.mark.parametrize(
    ("environment", "arguments", "message"),
    [
        (Hypergrid(2, 4), {}, "has no graph view; choose network: MLP"),
        (ATOMS, {"kind": "gat"}, "kind must be gine or transformer, got 'gat'"),
        (ATOMS, {"depth": 0}, "width, depth and heads must be at least 1, got 128, 0 and 4"),
        (ATOMS, {"kind": "transformer", "width": 10}, "heads must divide the width"),
    ],
)
def test_constructor_refuses(environment, arguments, message):
    with pytest.raises(InputError, match=message):
        GraphNetwork(environment, 3, **arguments)
