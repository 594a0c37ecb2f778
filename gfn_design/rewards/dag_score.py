"""Scores of Bayesian networks: how well a directed acyclic graph explains data, in nats.

A score is the log marginal likelihood of the data plus the log prior of the graph. Both are sums
over the nodes of terms that depend on the node's parents alone, and there are but 2^p sets of
parents: so all terms are tabulated once, and scoring a graph is looking up p numbers.

A set of parents is the number that has bit i set if node i is in it.
"""

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gfn_design.errors import InputError

MOST_NODES = 16  # 2^16 sets of parents: a table of 8 MB, and 134 MB while it is made

Prior = Literal["uniform", "erdos_renyi", "edge", "fair"]


class DAGScore(nn.Module):
    """score(G) - score(no edges), in nats, by looking up one term for each node.

    Args:
        local: ``float64[nodes, 2 ** nodes]``; entry (j, S) is the score of node j with parents S.
    """

    relative: Tensor
    bits: Tensor
    starts: Tensor

    def __init__(self, local: Tensor) -> None:
        super().__init__()
        nodes = len(local)
        if local.shape != (nodes, 2**nodes):
            shape = tuple(local.shape)
            raise InputError(f"expected scores of the shape ({nodes}, {2**nodes}), got {shape}")
        relative = (local - local[:, :1]).flatten()
        self.register_buffer("relative", relative, persistent=False)
        self.register_buffer("bits", 2 ** torch.arange(nodes), persistent=False)
        self.register_buffer("starts", 2**nodes * torch.arange(nodes), persistent=False)

    def forward(self, objects: Tensor) -> Tensor:
        """Graphs ``int64[batch, nodes * nodes]``, row after row, to ``float[batch]``."""
        nodes = len(self.bits)
        parents = (objects.unflatten(1, (nodes, nodes)) * self.bits[:, None]).sum(1)
        return self.relative[parents + self.starts].sum(1).float()


def bge_scores(samples: NDArray[np.float64], mean_weight: float = 1.0) -> Tensor:
    """BGe: linear Gaussian networks under a normal-Wishart prior (Kuipers et al. 2014).

    The prior mean is zero with the weight of `mean_weight` samples; the Wishart prior has p + 2
    degrees of freedom and the diagonal parametric matrix t I, t = mean_weight / (mean_weight + 1).
    Graphs of one Markov equivalence class score equally.

    Args:
        samples: ``float64[n, nodes]``.
        mean_weight: alpha_mu, positive.

    Returns:
        ``float64[nodes, 2 ** nodes]`` in nats; zero where a node would be its own parent.

    Raises:
        InputError: There are no samples, too many nodes, or a number is not finite.
    """
    samples = np.asarray(samples, np.float64)
    n, p = samples.shape
    _check_nodes(p)
    if n < 1 or not np.isfinite(samples).all():
        raise InputError(f"expected one or more rows of finite numbers, got {n} rows")
    if not mean_weight > 0:
        raise InputError(f"mean_weight must be positive, got {mean_weight}")
    degrees = p + 2
    t = mean_weight * (degrees - p - 1) / (mean_weight + 1)
    mean = samples.mean(0)
    centred = samples - mean
    posterior = t * np.eye(p) + centred.T @ centred
    posterior += n * mean_weight / (n + mean_weight) * np.outer(mean, mean)
    subsets = np.arange(2**p)
    inside = (subsets[:, None] >> np.arange(p) & 1).astype(bool)
    # A principal minor is the determinant of the matrix in which all else is the identity.
    both = inside[:, :, None] & inside[:, None, :]
    log_det = np.linalg.slogdet(np.where(both, posterior, np.eye(p)))[1]
    size = inside.sum(1)
    constant = [
        0.5 * math.log(mean_weight / (n + mean_weight))
        + math.lgamma((n + degrees - p + k + 1) / 2)
        - math.lgamma((degrees - p + k + 1) / 2)
        - n / 2 * math.log(math.pi)
        + (degrees - p + 2 * k + 1) / 2 * math.log(t)
        for k in range(p + 1)
    ]
    own = np.array(constant)[size] + 0.5 * (n + degrees - p + size) * log_det
    factor = 0.5 * (n + degrees - p + size + 1)
    local = [own - factor * log_det[subsets | 1 << child] for child in range(p)]
    return torch.from_numpy(np.where(inside.T, 0.0, np.stack(local)))


def bde_scores(
    levels: NDArray[np.int64],
    arities: list[int],
    intervened: NDArray[np.bool_] | None = None,
    equivalent_samples: float = 1.0,
) -> Tensor:
    """BDe: discrete networks under Dirichlet priors, uniform over cells (Heckerman et al. 1995).

    Where a node was set by an intervention its value says nothing about its parents: the row does
    not count for that node, but does for its children (Cooper and Yoo 1999). Without interventions
    graphs of one Markov equivalence class score equally.

    Args:
        levels: ``int64[n, nodes]``, values 0, 1, ... of each variable.
        arities: How many values each variable has.
        intervened: ``bool[n, nodes]``, which values were set from outside; None: none.
        equivalent_samples: Weight of the prior in samples, positive.

    Returns:
        ``float64[nodes, 2 ** nodes]`` in nats; zero where a node would be its own parent.

    Raises:
        InputError: A value is out of range, there are too many nodes, or the weight is not
            positive.
    """
    levels = np.asarray(levels, np.int64)
    p = levels.shape[1]
    _check_nodes(p)
    if (levels < 0).any() or (levels >= np.array(arities)).any():
        raise InputError(f"expected levels from 0 to one less than the arities {arities}")
    if not equivalent_samples > 0:
        raise InputError(f"equivalent_samples must be positive, got {equivalent_samples}")
    dropped = np.zeros(levels.shape, bool) if intervened is None else intervened
    subsets = np.arange(2**p)
    local = np.zeros((p, 2**p))
    known: dict[bytes, NDArray[np.float64]] = {}  # nodes that keep the same rows share counts
    for child in range(p):
        rows = ~dropped[:, child]
        if rows.tobytes() not in known:
            known[rows.tobytes()] = _dirichlet(levels[rows], arities, equivalent_samples)
        joint = known[rows.tobytes()]
        local[child] = joint[subsets | 1 << child] - joint[subsets]
    return torch.from_numpy(local)


def _dirichlet(
    levels: NDArray[np.int64], arities: list[int], equivalent_samples: float
) -> NDArray[np.float64]:
    """Sum over cells of log Gamma(a + count) - log Gamma(a) for each set of variables.

    a is the weight of the prior in one cell. The BDe score of a node is the sum for the node and
    its parents less that for the parents; empty cells add nothing.
    """
    n, p = levels.shape
    levels, repeats = np.unique(levels, axis=0, return_counts=True)
    sums = np.empty(2**p)
    growth: dict[int, NDArray[np.float64]] = {}  # number of cells -> the summand of each count

    def summand(cells: int) -> NDArray[np.float64]:
        if cells not in growth:
            a = equivalent_samples / cells
            steps = np.log(a + np.arange(n))  # log Gamma(a + 1) = log Gamma(a) + log a
            growth[cells] = np.concatenate([[0.0], steps.cumsum()])
        return growth[cells]

    def grow(subset: int, cells: int, group: NDArray[np.int64], first: int) -> None:
        """Fill in all that add variables from `first` on; `group` numbers the cell of each row."""
        for variable in range(first, p):
            code = group * arities[variable] + levels[:, variable]
            count = np.bincount(code, repeats).astype(np.int64)
            bigger, more = subset | 1 << variable, cells * arities[variable]
            sums[bigger] = summand(more)[count].sum()
            grow(bigger, more, ((count > 0).cumsum() - 1)[code], variable + 1)

    sums[0] = summand(1)[n]
    grow(0, 1, np.zeros(len(levels), np.int64), 0)
    return sums


def structure_prior(
    prior: Prior, nodes: int, edges_per_node: float = 1.0, edge_weight: float = 0.1
) -> Tensor:
    """log prior of a node's parents, but for a constant, by how many (l of p - 1) they are.

    - ``uniform``: all graphs alike, 0.
    - ``erdos_renyi``: every edge independently, l log q + (p - l - 1) log(1 - q), where
      q = edges_per_node * p / (p (p - 1) / 2).
    - ``edge``: l log edge_weight.
    - ``fair``: all numbers of parents alike, -log binomial(p, l).

    Returns:
        ``float64[2 ** nodes]``, for each set of parents, in nats.

    Raises:
        InputError: The prior is unknown, or its number is out of range.
    """
    p = nodes
    _check_nodes(p)
    if prior == "uniform":
        by_count = [0.0] * p
    elif prior == "erdos_renyi":
        q = 2 * edges_per_node / max(p - 1, 1)
        if not 0 < q < 1:
            raise InputError(
                f"the erdos_renyi prior of {p} nodes needs edges_per_node between 0 and "
                f"{(p - 1) / 2:g}, got {edges_per_node:g}; set it, or choose another prior"
            )
        by_count = [k * math.log(q) + (p - k - 1) * math.log1p(-q) for k in range(p)]
    elif prior == "edge":
        if not edge_weight > 0:
            raise InputError(f"edge_weight must be positive, got {edge_weight:g}")
        by_count = [k * math.log(edge_weight) for k in range(p)]
    elif prior == "fair":
        by_count = [-math.log(math.comb(p, k)) for k in range(p)]
    else:
        raise InputError(f"prior must be uniform, erdos_renyi, edge or fair, got '{prior}'")
    count = np.bitwise_count(np.arange(2**p)).clip(max=p - 1)  # p parents are one too many
    return torch.tensor(by_count, dtype=torch.float64)[torch.from_numpy(count.astype(np.int64))]


def _check_nodes(nodes: int) -> None:
    if not 1 <= nodes <= MOST_NODES:
        raise InputError(f"scores are tabulated for 1 to {MOST_NODES} nodes, got {nodes}")
