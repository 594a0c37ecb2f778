"""Graph networks over states that can be read as graphs."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import GINEConv, TransformerConv

from gfn_design.environments.base import Environment
from gfn_design.environments.graph import ActionLayout, Graph, GraphEnvironment, slot_pairs
from gfn_design.errors import InputError
from gfn_design.policies.products import SlotEmbedding

BETWEEN, TO_HUB, FROM_HUB = 0, 1, 2  # kinds of edges


class GraphNetwork(nn.Module):
    """Message passing over the graph of a state, and over a hub joined to all of its nodes.

    The hub is one more node of each state: it carries what is about the state as a whole, is there
    when the graph is empty, and shortens all ways to two steps. ``gine`` sums messages through a
    perceptron (Hu et al. 2020, a graph isomorphism network with edge features); ``transformer``
    weighs them by attention along the edges (Shi et al. 2021). Layers are residual and normalised.

    Each action is decided where `ActionLayout` says: from the embedding of its slot, from those of
    a pair of slots and the edge between them, in either order alike, or from that of the hub. So
    nodes in another order give the same outputs in that order.

    Args:
        environment: Whose states are read.
        outputs: Numbers given for each state: the environment's forward actions, its backward
            actions, both one after another, or else numbers that the whole graph decides.
        kind: How messages are passed.
        width: Numbers in each embedding.
        depth: Layers of message passing.
        heads: Of the attention of a transformer; they divide the width.

    Raises:
        InputError: The environment has no graph view, or the arguments do not fit.
    """

    def __init__(
        self,
        environment: Environment,
        outputs: int,
        kind: Literal["gine", "transformer"] = "gine",
        width: int = 128,
        depth: int = 3,
        heads: int = 4,
    ) -> None:
        super().__init__()
        if not isinstance(environment, GraphEnvironment):
            raise InputError(f"{environment.describe()} has no graph view; choose network: MLP")
        if kind not in ("gine", "transformer"):
            raise InputError(f"kind must be gine or transformer, got '{kind}'")
        if depth < 1 or width < 1 or heads < 1:
            raise InputError(
                f"width, depth and heads must be at least 1, got {width}, {depth} and {heads}"
            )
        if kind == "transformer" and width % heads:
            raise InputError(f"heads must divide the width, got width {width} and heads {heads}")
        self.environment = environment
        self.nodes = SlotEmbedding((*environment.node_sizes, *environment.graph_sizes, 2), width)
        self.edges = SlotEmbedding((*environment.edge_sizes, 3), width)
        self.layers = nn.ModuleList(_Layer(kind, width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        layouts = _layouts(environment, outputs)
        self.outputs = nn.ModuleList(_Outputs(part, environment.n_slots, width) for part in layouts)

    def forward(self, states: Tensor) -> Tensor:
        """``int64[batch, *state_shape]`` to ``float[batch, outputs]``."""
        return self.read(self.environment.to_graph(states))

    def read(self, graph: Graph) -> Tensor:
        """A graph of many parts to ``float[batch, outputs]``."""
        n, joined = len(graph.nodes), graph.edges.shape[1]
        rows, ends, codes = _with_hubs(graph)
        x, edges = self.nodes(rows), self.edges(codes)
        for layer in self.layers:
            x = layer(x, ends, edges)
        x = self.norm(x)
        return torch.cat([part(x[:n], x[n:], edges[:joined], graph) for part in self.outputs], 1)


def _with_hubs(graph: Graph) -> tuple[Tensor, Tensor, Tensor]:
    """Codes of the nodes and then of the hubs, and ends and codes of all edges; -1 is no code."""
    (n, of_nodes), of_hubs = graph.nodes.shape, graph.graph_features.shape[1]
    node, hub = torch.arange(n, device=graph.batch.device), n + graph.batch
    rows = torch.cat(
        [
            F.pad(F.pad(graph.nodes, (0, of_hubs), value=-1), (0, 1), value=0),
            F.pad(F.pad(graph.graph_features, (of_nodes, 0), value=-1), (0, 1), value=1),
        ]
    )
    ends = torch.cat([graph.edges, torch.stack([node, hub]), torch.stack([hub, node])], 1)
    real = F.pad(graph.edge_features, (0, 1), value=BETWEEN)
    blank = real.new_full((n, graph.edge_features.shape[1]), -1)
    to_hub, from_hub = (F.pad(blank, (0, 1), value=kind) for kind in (TO_HUB, FROM_HUB))
    return rows, ends, torch.cat([real, to_hub, from_hub])


def _layouts(environment: GraphEnvironment, outputs: int) -> list[ActionLayout]:
    """What the outputs are, by how many there are."""
    forward, backward = environment.forward_layout, environment.backward_layout
    known = {
        1: [ActionLayout(graph=1)],
        environment.n_actions + environment.n_backward_actions: [forward, backward],
        environment.n_backward_actions: [backward],
        environment.n_actions: [forward],
    }
    if outputs not in known:
        raise InputError(
            f"GraphNetwork decides about actions or gives one value, not {outputs} numbers; leave "
            "out exploration.members"
        )
    return known[outputs]


class _Layer(nn.Module):
    """Messages, and then two rectified layers at each node."""

    def __init__(self, kind: str, width: int, heads: int) -> None:
        super().__init__()
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        if kind == "gine":
            self.messages = GINEConv(nn.Linear(width, width), train_eps=True)
        else:
            self.messages = TransformerConv(width, width // heads, heads, edge_dim=width)
        self.alone = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor, ends: Tensor, edges: Tensor) -> Tensor:
        x = x + self.messages(self.before(x), ends, edges)
        return x + self.alone(self.after(x))


class _Outputs(nn.Module):
    """The outputs of one layout; those of blank slots mean nothing."""

    pairs: Tensor

    def __init__(self, layout: ActionLayout, n_slots: int, width: int) -> None:
        super().__init__()
        self.layout, self.n_slots = layout, n_slots
        self.at_node = nn.Linear(width, layout.node) if layout.node else None
        self.at_pair = self.of_pair = None
        if layout.pair:
            self.of_pair = nn.Linear(width, width)
            self.at_pair = nn.Linear(width, layout.pair)
            self.register_buffer("pairs", slot_pairs(n_slots), persistent=False)
        self.at_graph = None
        if layout.graph:
            self.at_graph = nn.Sequential(
                nn.Linear(width, width), nn.ReLU(), nn.Linear(width, layout.graph)
            )

    def forward(self, nodes: Tensor, hubs: Tensor, edges: Tensor, graph: Graph) -> Tensor:
        size, place = len(hubs), graph.batch * self.n_slots + graph.slot
        parts = []
        if self.at_node is not None:
            logits = self.at_node(nodes)
            slots = logits.new_zeros(size * self.n_slots, logits.shape[1])
            slots = slots.index_copy(0, place, logits)
            parts.append(slots.view(size, self.n_slots * self.layout.node))
        if self.at_pair is not None and self.of_pair is not None:
            ends = self.of_pair(nodes)
            slots = ends.new_zeros(size * self.n_slots, ends.shape[1]).index_copy(0, place, ends)
            later, earlier = self.pairs
            slots = slots.view(size, self.n_slots, ends.shape[1])
            pairs = (slots[:, later] + slots[:, earlier]).flatten(0, 1)
            start, end = graph.slot[graph.edges]
            i, j = torch.maximum(start, end), torch.minimum(start, end)
            pair = graph.batch[graph.edges[0]] * len(later) + i * (i - 1) // 2 + j
            pairs = pairs.index_add(0, pair, edges.to(pairs.dtype))  # of both directions
            logits = self.at_pair(pairs.relu())
            parts.append(logits.view(size, len(later) * self.layout.pair))
        if self.at_graph is not None:
            parts.append(self.at_graph(hubs))
        return torch.cat(parts, 1)
