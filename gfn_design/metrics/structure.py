"""What a distribution over directed acyclic graphs says of the edges, against target and truth.

Graphs are ``int64[n, nodes * nodes]``, adjacency matrices row after row; a distribution over them
is ``float64[n]`` and sums to one; marginals are ``float64[nodes, nodes]``, the probability that a
feature relates node i to node j. The diagonal, where no feature can be, is never counted.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gfn_design.environments.dag import reachable

CHUNK = 2**16  # graphs looked at at once, which bounds memory


def edge(graphs: Tensor) -> Tensor:
    """i -> j: ``bool[n, nodes, nodes]`` of adjacency matrices ``int64[n, nodes, nodes]``."""
    return graphs > 0


def path(graphs: Tensor) -> Tensor:
    """A directed path leads from i to another node j: ``bool[n, nodes, nodes]``."""
    itself = torch.eye(graphs.shape[-1], dtype=torch.bool, device=graphs.device)
    return reachable(graphs) & ~itself


def markov_blanket(graphs: Tensor) -> Tensor:
    """i is a parent, a child or another parent of a child of j: ``bool[n, nodes, nodes]``."""
    edges = graphs.float()
    itself = torch.eye(graphs.shape[-1], dtype=torch.bool, device=graphs.device)
    partners = edges @ edges.transpose(1, 2) > 0
    return ((graphs + graphs.transpose(1, 2) > 0) | partners) & ~itself


FEATURES: dict[str, Callable[[Tensor], Tensor]] = {
    "edge": edge,
    "path": path,
    "blanket": markov_blanket,
}


def marginals(
    objects: Tensor, probability: Tensor, feature: Callable[[Tensor], Tensor] = edge
) -> Tensor:
    """The probability of a feature of each pair of nodes: ``float64[nodes, nodes]``."""
    nodes = math.isqrt(objects.shape[1])
    total = torch.zeros(nodes**2, dtype=torch.float64)
    for part, weight in zip(objects.split(CHUNK), probability.split(CHUNK), strict=True):
        found = feature(part.unflatten(1, (nodes, nodes)))
        total += weight @ found.flatten(1).double()
    return total.view(nodes, nodes)


def expected_shd(objects: Tensor, probability: Tensor, truth: Tensor) -> float:
    """Mean structural Hamming distance to `truth` ``int64[nodes, nodes]``.

    The distance of two graphs counts the pairs of nodes whose edge is missing, too many or turned
    round; each counts 1.
    """

    def differs(graphs: Tensor) -> Tensor:
        different = graphs != truth
        return different | different.transpose(1, 2)

    return float(marginals(objects, probability, differs).sum() / 2)


def off_diagonal(x: Tensor) -> Tensor:
    """The entries of ``[nodes, nodes]`` that are not on the diagonal."""
    return x[~torch.eye(len(x), dtype=torch.bool)]


def pearson(x: Tensor, y: Tensor) -> float:
    """Correlation of ``float64[n]``, in [-1, 1]; NaN where one of them is constant."""
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / (x.norm() * y.norm()))


def auroc(marks: Tensor, true: Tensor) -> float:
    """The chance that a true case has a higher mark than a false one, ties counting half.

    Args:
        marks: ``float64[n]``.
        true: ``bool[n]``; NaN comes back where all are alike.
    """
    above = marks[true][:, None] - marks[~true]
    return float(((above > 0).double() + (above == 0).double() / 2).mean())


def structure_metrics(
    objects: Tensor, probability: Tensor, wanted: Tensor | None, truth: Tensor
) -> dict[str, float]:
    """Scores of structure learning (Deleu et al. 2022).

    `expected_shd` and `expected_edges` are means over graphs, and `edge_auroc` ranks edges by their
    marginals; against the target, each feature of `FEATURES` has the Pearson correlation of its
    marginals and their mean squared error.

    Args:
        objects: ``int64[n, nodes * nodes]``.
        probability: Of the graphs under what was learned, ``float64[n]``.
        wanted: Their probability under the target; None leaves out what needs it.
        truth: The graph behind the data, ``int64[nodes, nodes]``.
    """
    result = {}
    laws = {"": probability} if wanted is None else {"": probability, "target_": wanted}
    real = off_diagonal(truth) > 0
    for name, law in laws.items():
        edges = marginals(objects, law)
        result[f"{name}expected_shd"] = expected_shd(objects, law, truth)
        result[f"{name}expected_edges"] = float(edges.sum())
        result[f"{name}edge_auroc"] = auroc(off_diagonal(edges), real)
    if wanted is not None:
        for name, feature in FEATURES.items():
            learned = off_diagonal(marginals(objects, probability, feature))
            target = off_diagonal(marginals(objects, wanted, feature))
            result[f"{name}_correlation"] = pearson(learned, target)
            result[f"{name}_mse"] = float((learned - target).square().mean())
    return result
