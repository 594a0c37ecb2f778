"""Structure learning: which Bayesian network is behind data, as a posterior over its graphs."""

import math
from abc import abstractmethod
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gfn_design.data.base import DataModule
from gfn_design.environments.base import Environment
from gfn_design.environments.dag import DAG
from gfn_design.errors import InputError
from gfn_design.metrics.structure import structure_metrics
from gfn_design.rewards.dag_score import DAGScore, Prior, bde_scores, bge_scores, structure_prior
from gfn_design.rewards.reward import LogReward, Reward

LOWEST = -100.0  # log R of graphs that explain the data no better than no edges, shape "relative"

Shape = Literal["posterior", "relative"]


class StructureData(DataModule):
    """Data about the variables of a network, and the graph that is believed to be behind them.

    With score(G) the log marginal likelihood plus the log prior, and G0 the graph without edges:

    - shape ``posterior``: log R(G) = (score(G) - score(G0)) / temperature, so that at temperature
      1 the target is the posterior distribution over graphs;
    - shape ``relative``: log R(G) = temperature * log((score(G) - score(G0)) / (score(truth) -
      score(G0))), and never below -100, which spreads the target over many more graphs.

    Args:
        prior: Of the graph; see `structure_prior`.
        edges_per_node: Expected number, of the prior ``erdos_renyi``.
        edge_weight: What each edge multiplies the prior ``edge`` by.
        shape: How a score becomes a reward.
        temperature: Number alpha of the reward, positive.
    """

    def __init__(
        self,
        prior: Prior,
        edges_per_node: float,
        edge_weight: float,
        shape: Shape,
        temperature: float,
    ) -> None:
        super().__init__()
        if shape not in ("posterior", "relative"):
            raise InputError(f"shape must be posterior or relative, got '{shape}'")
        if not temperature > 0:
            raise InputError(f"temperature must be positive, got {temperature}")
        self.prior, self.edges_per_node, self.edge_weight = prior, edges_per_node, edge_weight
        self.shape, self.temperature = shape, temperature

    @abstractmethod
    def local_scores(self, environment: DAG) -> Tensor:
        """Log marginal likelihood of each node for each set of parents; see `DAGScore`."""

    @abstractmethod
    def truth(self, environment: DAG) -> Tensor:
        """The graph behind the data, ``int64[nodes, nodes]``."""

    def make_reward(self, environment: Environment) -> Reward:
        if not isinstance(environment, DAG):
            name = type(self).__name__
            raise InputError(f"{name} needs a DAG environment, got {environment.describe()}")
        prior = structure_prior(
            self.prior, environment.nodes, self.edges_per_node, self.edge_weight
        )
        local = self.local_scores(environment) + prior
        if self.shape == "posterior":
            return LogReward(DAGScore(local), self.temperature)
        truth = float(DAGScore(local)(self.truth(environment).view(1, -1)))
        if not truth > 0:
            raise InputError(
                "the graph behind the data explains it no better than no edges "
                f"({truth:.3g} nats), so nothing is relative to it; set shape: posterior"
            )
        smallest = max(math.exp(LOWEST / self.temperature), 1e-37)  # above zero in float32
        return Reward(DAGScore(local / truth), self.temperature, minimum=smallest)

    def measure(
        self, environment: Environment, objects: Tensor, probability: Tensor, wanted: Tensor | None
    ) -> dict[str, float]:
        assert isinstance(environment, DAG)  # or there would be no reward
        return structure_metrics(objects, probability, wanted, self.truth(environment))


class Network(NamedTuple):
    """A linear Gaussian network and samples from it.

    Attributes:
        edges: Adjacency matrix ``int64[nodes, nodes]``.
        weights: ``float64[nodes, nodes]``, zero where there is no edge.
        samples: ``float64[n, nodes]``.
    """

    edges: NDArray[np.int64]
    weights: NDArray[np.float64]
    samples: NDArray[np.float64]


def linear_gaussian_network(
    nodes: int, edges: float, samples: int, noise: float = 0.1, seed: int = 0
) -> Network:
    """Draw a graph, its weights and data: each variable is a weighted sum of its parents and noise.

    Nodes are put in random order; each of the p (p - 1) / 2 edges that follow the order is there
    with equal probability, and has a weight from the standard normal distribution.

    Args:
        nodes: p.
        edges: Expected number of edges.
        samples: Rows of data.
        noise: Standard deviation of the noise of each variable.
        seed: Of numpy's default generator; equal arguments give equal networks.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(nodes)
    chance = edges / max(nodes * (nodes - 1) / 2, 1)
    ordered = np.triu(random.random((nodes, nodes)) < chance, 1)
    graph = np.zeros((nodes, nodes), np.int64)
    graph[np.ix_(order, order)] = ordered
    weights = random.standard_normal((nodes, nodes)) * graph
    values = noise * random.standard_normal((samples, nodes))
    for node in order:  # parents before children
        values[:, node] += values @ weights[:, node]
    return Network(graph, weights, values)


class BayesianNetworkData(StructureData):
    """Samples from a random linear Gaussian network, scored by BGe; the truth is known.

    The graph is an Erdos-Renyi one over the nodes of the environment, weights are standard
    normal, and each variable is the weighted sum of its parents plus noise.

    Args:
        edges: Expected number of edges of the graph behind the data.
        samples: Rows of data.
        noise: Standard deviation of the noise (the 0.1 of the paper's code is one, although it is
            called a variance there).
        seed: Of graph, weights and samples.
        prior: Of the graph; see `structure_prior`.
        edges_per_node: Expected number, of the prior ``erdos_renyi``.
        edge_weight: What each edge multiplies the prior ``edge`` by.
        shape: ``posterior`` targets the posterior over graphs; ``relative`` a power of the score
            relative to that of the truth.
        temperature: Divides the score of ``posterior``; is the power of ``relative``, 10 in the
            literature.
    """

    def __init__(
        self,
        edges: float = 5.0,
        samples: int = 100,
        noise: float = 0.1,
        seed: int = 0,
        prior: Prior = "uniform",
        edges_per_node: float = 1.0,
        edge_weight: float = 0.1,
        shape: Shape = "posterior",
        temperature: float = 1.0,
    ) -> None:
        super().__init__(prior, edges_per_node, edge_weight, shape, temperature)
        if edges < 0 or samples < 1 or not noise > 0:
            raise InputError(
                "expected edges of 0 or more, samples of 1 or more and positive noise, got "
                f"{edges}, {samples} and {noise}"
            )
        if seed < 0:
            raise InputError(f"seed must not be negative, got {seed}")
        self.edges, self.samples, self.noise, self.seed = edges, samples, noise, seed

    def network(self, environment: DAG) -> Network:
        """The network behind the data, and the data.

        Raises:
            InputError: So many edges do not fit between the nodes.
        """
        most = environment.nodes * (environment.nodes - 1) // 2
        if self.edges > most:
            raise InputError(
                f"a graph of {environment.nodes} nodes has at most {most} edges, got "
                f"edges: {self.edges:g}; set it lower, or the environment's nodes higher"
            )
        return linear_gaussian_network(
            environment.nodes, self.edges, self.samples, self.noise, self.seed
        )

    def local_scores(self, environment: DAG) -> Tensor:
        return bge_scores(self.network(environment).samples)

    def truth(self, environment: DAG) -> Tensor:
        return torch.from_numpy(self.network(environment).edges)


SACHS_NODES = ["Raf", "Mek", "Plcg", "PIP2", "PIP3", "Erk", "Akt", "PKA", "PKC", "P38", "Jnk"]
SACHS_CONSENSUS = (  # the 17 edges that biologists agreed on, without cycles
    "Raf->Mek, Mek->Erk, Erk->Akt, Plcg->PIP2, Plcg->PIP3, PIP3->PIP2, PKC->Raf, PKC->Mek, "
    "PKC->PKA, PKC->P38, PKC->Jnk, PKA->Raf, PKA->Mek, PKA->Erk, PKA->Akt, PKA->P38, PKA->Jnk"
)


class SachsData(StructureData):
    """Signalling proteins in single human T cells (Sachs et al. 2005), and their consensus graph.

    - ``observational``: 853 cells, 11 continuous fluorescences, each standardised by its mean and
      sample standard deviation; BGe score.
    - ``interventional``: 5,400 cells with 11 proteins at three levels, of which 3,600 with one
      protein set by a drug; BDe score in which a set protein does not count for itself.

    Args:
        cells: Which measurements.
        equivalent_samples: Weight of the BDe prior, in samples.
        prior: Of the graph; see `structure_prior`.
        edges_per_node: Expected number, of the prior ``erdos_renyi``.
        edge_weight: What each edge multiplies the prior ``edge`` by.
        shape: ``posterior`` targets the posterior over graphs; ``relative`` a power of the score
            relative to that of the consensus graph.
        temperature: Divides the score of ``posterior``; is the power of ``relative``.
    """

    def __init__(
        self,
        cells: Literal["observational", "interventional"] = "observational",
        equivalent_samples: float = 1.0,
        prior: Prior = "uniform",
        edges_per_node: float = 1.0,
        edge_weight: float = 0.1,
        shape: Shape = "posterior",
        temperature: float = 1.0,
    ) -> None:
        super().__init__(prior, edges_per_node, edge_weight, shape, temperature)
        if cells not in ("observational", "interventional"):
            raise InputError(f"cells must be observational or interventional, got '{cells}'")
        self.cells, self.equivalent_samples = cells, equivalent_samples

    def prepare_data(self) -> None:
        self._read()  # finds or downloads the file, on one process

    def _read(self) -> NDArray[np.float64]:
        """The measurements, a row for each cell."""
        from gfn_design.files.registry import locate

        observed = self.cells == "observational"
        path = locate("sachs_observational" if observed else "sachs_interventional_discrete")
        # A data folder has commas, the published files spaces or tabs; the checksum was right.
        delimiter = "," if ".csv" in path.suffixes else None
        return np.loadtxt(path, delimiter=delimiter, skiprows=1, ndmin=2)

    def local_scores(self, environment: DAG) -> Tensor:
        if list(environment.names) != SACHS_NODES:
            raise InputError(
                f"SachsData needs a DAG over the proteins in their order; set nodes to "
                f"[{', '.join(SACHS_NODES)}]"
            )
        rows = self._read()
        if self.cells == "observational":
            return bge_scores((rows - rows.mean(0)) / rows.std(0, ddof=1))
        levels, drugged = rows[:, :-1].astype(np.int64) - 1, rows[:, -1:]
        intervened = drugged == np.arange(1, len(SACHS_NODES) + 1)  # 0 is none of them
        arities = [3] * len(SACHS_NODES)
        return bde_scores(levels, arities, intervened, self.equivalent_samples)

    def truth(self, environment: DAG) -> Tensor:
        # Without the bounds of the environment, which may exclude the consensus.
        unbounded = DAG(SACHS_NODES)
        return unbounded.matrices(unbounded.encode([SACHS_CONSENSUS]))[0]
