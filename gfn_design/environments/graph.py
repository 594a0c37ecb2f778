"""States as graphs: what a graph network reads, and which part of a graph decides which action."""

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from gfn_design.environments.base import Environment


class Graph(NamedTuple):
    """A batch of states as one graph that falls into parts, a part for each state.

    All features are categorical codes, 0 and up; a state may have no node at all.

    Attributes:
        nodes: ``int64[n_nodes, node_features]``, below `GraphEnvironment.node_sizes`.
        edges: ``int64[2, n_edges]``, from node to node; what is joined is joined both ways.
        edge_features: ``int64[n_edges, edge_features]``, below `GraphEnvironment.edge_sizes`.
        batch: ``int64[n_nodes]``, the state that each node belongs to.
        slot: ``int64[n_nodes]``, which slot of that state it is.
        graph_features: ``int64[batch, graph_features]``, what is about a state as a whole; below
            `GraphEnvironment.graph_sizes`.
    """

    nodes: Tensor
    edges: Tensor
    edge_features: Tensor
    batch: Tensor
    slot: Tensor
    graph_features: Tensor


class ActionLayout(NamedTuple):
    """How actions are numbered: those of each slot, then those of each pair, then the others.

    Action ``slot * node + k`` is decided at a slot, ``n_slots * node + p * pair + k`` by both ends
    of the p-th pair of slots (see `slot_pairs`), and the last `graph` ones by the whole graph.

    Attributes:
        node: Actions of each slot.
        pair: Actions of each unordered pair of slots.
        graph: Actions of the whole graph, a stop the last of them.
    """

    node: int = 0
    pair: int = 0
    graph: int = 0

    def actions(self, n_slots: int) -> int:
        """How many there are, where states have so many slots."""
        return n_slots * self.node + n_slots * (n_slots - 1) // 2 * self.pair + self.graph


def slot_pairs(n_slots: int) -> Tensor:
    """The unordered pairs of slots, in order: ``int64[2, n_pairs]``, the later slot first.

    (1, 0), (2, 0), (2, 1), (3, 0), ...: the pairs among the first slots come first.
    """
    return torch.tril_indices(n_slots, n_slots, -1)


def dense_to_graph(
    present: Tensor, nodes: Tensor, joined: Tensor, edges: Tensor, graph_features: Tensor
) -> Graph:
    """The graph of states whose nodes and edges are known slot by slot.

    Args:
        present: ``bool[batch, n_slots]``, which slots are nodes.
        nodes: ``int64[batch, n_slots, node_features]``.
        joined: ``bool[batch, n_slots, n_slots]``, entry (i, j) where an edge leads from i to j;
            between slots that are present.
        edges: ``int64[batch, n_slots, n_slots, edge_features]``.
        graph_features: ``int64[batch, graph_features]``.
    """
    batch, slot = present.nonzero(as_tuple=True)
    number = (present.flatten().cumsum(0) - 1).view_as(present)
    row, start, end = joined.nonzero(as_tuple=True)
    ends = torch.stack([number[row, start], number[row, end]])
    return Graph(nodes[batch, slot], ends, edges[row, start, end], batch, slot, graph_features)


class GraphEnvironment(Environment):
    """An environment whose states can be read as graphs too, by a `GraphNetwork`.

    Attributes:
        n_slots: Nodes that a state may have.
        node_sizes: How many codes each feature of a node can take.
        edge_sizes: How many codes each feature of an edge can take.
        graph_sizes: How many codes each feature of a whole state can take.
        forward_layout: Which part of a graph decides which of the `n_actions`.
        backward_layout: The same for the `n_backward_actions`.
    """

    n_slots: int
    node_sizes: tuple[int, ...]
    edge_sizes: tuple[int, ...] = ()
    graph_sizes: tuple[int, ...] = ()
    forward_layout: ActionLayout
    backward_layout: ActionLayout

    @abstractmethod
    def to_graph(self, states: Tensor) -> Graph:
        """The states as a graph; shapes depend on their values."""
