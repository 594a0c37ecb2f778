"""Directed acyclic graphs: the structures of Bayesian networks, drawn edge by edge."""

from collections.abc import Sequence
from string import ascii_uppercase

import torch
from torch import Tensor

from gfn_design.environments.base import Environment
from gfn_design.errors import InputError

EMPTY = "no edges"  # how the graph without edges is written
ARROW = "->"


def reachable(edges: Tensor) -> Tensor:
    """Which node is reached from which, each from itself too, by repeated squaring.

    Args:
        edges: Adjacency matrices ``[batch, nodes, nodes]`` of 0 and 1; entry (i, j) is i -> j.

    Returns:
        ``bool[batch, nodes, nodes]``: a directed path leads from i to j.
    """
    nodes = edges.shape[-1]
    path = edges.float() + torch.eye(nodes, device=edges.device)
    for _ in range(max(nodes - 2, 0).bit_length()):  # a path has at most nodes - 1 edges
        path = (path @ path).clamp(max=1)
    return path > 0


class DAG(Environment):
    """Directed acyclic graphs over p nodes, one edge at a time (Deleu et al. 2022).

    A state is the adjacency matrix, row after row: slot i p + j is 1 where there is an edge from
    node i to node j. Action i p + j adds that edge, and the backward action of the same number
    removes it. The last action stops, which is allowed everywhere, so every graph is an object.

    Graphs are numbered with one digit in base 3 for each pair of nodes (no edge, one way, the
    other way), up to 9 nodes: at 5 nodes 29,281 graphs have numbers below 59,049.

    Args:
        nodes: How many nodes, which are then called A, B, ..., or their names: without spaces,
            commas and '->'.
        max_parents: Edges that may end in one node; None sets no bound.
        max_edges: Edges of a graph; None sets no bound.
    """

    weights: Tensor

    def __init__(
        self,
        nodes: int | list[str] = 5,
        max_parents: int | None = None,
        max_edges: int | None = None,
    ) -> None:
        super().__init__()
        self.names = _names(nodes)
        self.nodes = len(self.names)
        for name, bound in (("max_parents", max_parents), ("max_edges", max_edges)):
            if bound is not None and bound < 1:
                raise InputError(f"{name} must be at least 1, got {bound}; None sets no bound")
        # What no graph can exceed is no bound: environments that are equal then say so.
        parents = self.nodes - 1
        self.max_parents = parents if max_parents is None else min(max_parents, parents)
        edges = sum(min(before, self.max_parents) for before in range(self.nodes))
        self.max_edges = edges if max_edges is None else min(max_edges, edges)
        self.n_actions, self.n_backward_actions = self.nodes**2 + 1, self.nodes**2
        self.max_steps = self.max_edges + 1
        self.slot_sizes = (2,) * self.nodes**2
        pairs = self.nodes * (self.nodes - 1) // 2
        self.n_states = 3**pairs if 3**pairs < 2**62 else None
        weights = torch.zeros(self.nodes, self.nodes, dtype=torch.int64)
        if self.n_states:
            places = torch.tensor([3**pair for pair in range(pairs)], dtype=torch.int64)
            i, j = torch.triu_indices(self.nodes, self.nodes, 1)
            weights[i, j], weights[j, i] = places, 2 * places
        self.register_buffer("weights", weights.flatten(), persistent=False)

    def extra_repr(self) -> str:
        bounds = f"max_parents={self.max_parents}, max_edges={self.max_edges}"
        return f"nodes='{' '.join(self.names)}', {bounds}"

    def matrices(self, states: Tensor) -> Tensor:
        """The adjacency matrices: ``int64[batch, nodes, nodes]``, entry (i, j) for i -> j."""
        return states.unflatten(1, (self.nodes, self.nodes))

    def initial(self, n: int) -> Tensor:
        return torch.zeros(n, self.nodes**2, dtype=torch.int64, device=self.weights.device)

    def legal(self, states: Tensor) -> Tensor:
        edges = self.matrices(states)
        closes_cycle = reachable(edges).transpose(1, 2)  # i -> j does if j leads to i
        free = (edges == 0) & ~closes_cycle
        free = free & (edges.sum(1, keepdim=True) < self.max_parents)
        free = (free & (edges.sum((1, 2), keepdim=True) < self.max_edges)).flatten(1)
        return torch.cat([free, torch.ones_like(free[:, :1])], dim=1)

    def legal_backward(self, states: Tensor) -> Tensor:
        return states == 1

    def step(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        return states.scatter(1, actions[:, None], 1), actions

    def backward_step(self, states: Tensor, backward_actions: Tensor) -> tuple[Tensor, Tensor]:
        return states.scatter(1, backward_actions[:, None], 0), backward_actions

    def decode(self, states: Tensor) -> list[str]:
        edges = [f"{parent}{ARROW}{child}" for parent in self.names for child in self.names]
        rows = states.tolist()
        return [
            ", ".join(edge for edge, there in zip(edges, row, strict=True) if there) or EMPTY
            for row in rows
        ]

    def encode(self, texts: Sequence[str]) -> Tensor:
        """The graphs that texts such as ``A->B, C->B`` spell, in any order of their edges.

        Raises:
            InputError: A text is no graph of these nodes, has a cycle or exceeds a bound.
        """
        number = {name: i for i, name in enumerate(self.names)}
        rows = []
        for text in texts:
            row = [0] * self.nodes**2
            for edge in [] if text.strip() == EMPTY else text.split(","):
                parent, _, child = (part.strip() for part in edge.partition(ARROW))
                if parent not in number or child not in number:
                    raise InputError(
                        f"'{edge.strip()}' is no edge: expected {ARROW} between two of the nodes "
                        f"{', '.join(self.names)} (and a graph without edges as '{EMPTY}')"
                    )
                row[number[parent] * self.nodes + number[child]] = 1
            rows.append(row)
        states = torch.tensor(rows, dtype=torch.int64, device=self.weights.device)
        states = states.view(-1, self.nodes**2)
        edges = self.matrices(states)
        cyclic = (edges.bool() & reachable(edges).transpose(1, 2)).flatten(1).any(1)
        crowded = (edges.sum(1) > self.max_parents).any(1)
        full = edges.sum((1, 2)) > self.max_edges
        for bad, why in (
            (cyclic, "has a directed cycle"),
            (crowded, f"has a node with more than {self.max_parents} parents"),
            (full, f"has more than {self.max_edges} edges"),
        ):
            if bad.any():
                raise InputError(f"'{texts[int(bad.int().argmax())]}' {why}")
        return states

    def state_index(self, states: Tensor) -> Tensor:
        return (states * self.weights).sum(-1)


def _names(nodes: int | list[str]) -> tuple[str, ...]:
    if isinstance(nodes, int):
        if nodes < 1:
            raise InputError(f"nodes must be at least 1, got {nodes}")
        if nodes <= len(ascii_uppercase):
            return tuple(ascii_uppercase[:nodes])
        return tuple(f"X{i}" for i in range(1, nodes + 1))
    names = tuple(nodes)
    if not names or len(set(names)) < len(names):
        raise InputError(f"nodes must be a number or one or more different names, got {nodes}")
    for name in names:
        if not name or ARROW in name or "," in name or any(c.isspace() for c in name):
            raise InputError(f"a node's name may hold no space, comma or '{ARROW}', got '{name}'")
    return names
