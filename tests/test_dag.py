"""Graphs, their scores, the data behind them and what is said of a posterior over them."""

import gzip
import hashlib
import json
import math
import os
from functools import partial
from itertools import pairwise, permutations, product
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from common import model_of
from lightning.pytorch import Trainer
from torch.optim.lr_scheduler import CosineAnnealingLR

from gfn_design import (
    DAG,
    MLP,
    BayesianNetworkData,
    Hypergrid,
    HypergridData,
    InputError,
    LogReward,
    LogVariance,
    SachsData,
    TrajectoryBalance,
    check_environment,
    target_distribution,
    terminating_distribution,
)
from gfn_design.__main__ import main
from gfn_design.data.bayesian import SACHS_NODES, linear_gaussian_network
from gfn_design.evaluation.exact import push_forward
from gfn_design.files import registry
from gfn_design.metrics import structure
from gfn_design.results import plots
from gfn_design.rewards.dag_score import DAGScore, bde_scores, bge_scores, structure_prior

# ---- Brute force, written without the package ----------------------------------------------------


def is_acyclic(edges):
    """Takes away nodes without parents until none are left."""
    left = set(range(len(edges)))
    while left:
        roots = [j for j in left if not any(edges[i][j] for i in left)]
        if not roots:
            return False
        left -= set(roots)
    return True


def all_graphs(p, max_parents=99, max_edges=99):
    """Every acyclic adjacency matrix within the bounds, as a tuple of rows."""
    for flags in product((0, 1), repeat=p * (p - 1)):
        bits = iter(flags)
        edges = tuple(tuple(0 if i == j else next(bits) for j in range(p)) for i in range(p))
        within = sum(flags) <= max_edges and max(map(sum, zip(*edges, strict=True))) <= max_parents
        if within and is_acyclic(edges):
            yield edges


def parents_of(edges, j):
    return [i for i in range(len(edges)) if edges[i][j]]


def number(parents):
    return sum(1 << i for i in parents)


def graph(text, nodes):
    """The adjacency matrix of a text such as "A->B" over A, B, ..."""
    return DAG(nodes).encode([text])


# ---- The environment -----------------------------------------------------------------------------

SMALL = [
    DAG(1),
    DAG(2),
    DAG(3),
    DAG(3, max_edges=2),
    DAG(4, max_parents=1),
    DAG(4, max_parents=2, max_edges=3),
    DAG(["Raf", "Mek", "p44/42"]),
]
BIG = [DAG(11, max_parents=3), DAG(13, max_edges=20)]


@pytest.mark.parametrize("environment", SMALL, ids=DAG.describe)
def test_contract(environment):
    check_environment(environment, examples=10)


@pytest.mark.parametrize("environment", BIG, ids=DAG.describe)
def test_contract_where_graphs_are_not_numbered(environment):
    assert environment.n_states is None
    check_environment(environment, examples=3, brute_force_limit=100)


@pytest.mark.parametrize(("nodes", "graphs"), [(1, 1), (2, 3), (3, 25), (4, 543), (5, 29_281)])
def test_number_of_graphs(nodes, graphs):
    """Sequence A003024 of the encyclopedia of integer sequences."""
    environment = DAG(nodes)
    target = target_distribution(environment, lambda objects: torch.zeros(len(objects)))
    assert len(target.objects) == graphs
    assert len(target.objects.unique(dim=0)) == graphs
    assert int(target.indices.max()) < environment.n_states == 3 ** (nodes * (nodes - 1) // 2)
    assert environment.n_states < 4_000_000  # so that evaluation is exact by default
    by_size = [len(layer.objects) for layer in push_forward(environment, lambda s, m: m.double())]
    assert len(by_size) == environment.max_steps
    assert by_size[-1] == math.factorial(nodes)  # the orders of all nodes


@pytest.mark.parametrize(("parents", "edges"), [(None, None), (1, None), (None, 3), (2, 4)])
def test_masks_are_those_of_brute_force(parents, edges):
    environment = DAG(4, max_parents=parents, max_edges=edges)
    allowed = set(all_graphs(4, parents or 99, edges or 99))
    graphs = sorted(allowed)
    states = torch.tensor(graphs).flatten(1)
    legal, backward = environment.legal(states), environment.legal_backward(states)
    assert legal[:, -1].all()
    for row, matrix in enumerate(graphs):
        for i, j in product(range(4), repeat=2):
            changed = [list(line) for line in matrix]
            changed[i][j] = 1
            possible = not matrix[i][j] and tuple(map(tuple, changed)) in allowed
            assert legal[row, 4 * i + j] == possible
            assert backward[row, 4 * i + j] == matrix[i][j]
    objects = target_distribution(environment, lambda objects: torch.zeros(len(objects))).objects
    assert {tuple(map(tuple, m)) for m in environment.matrices(objects).tolist()} == allowed


def test_longest_graph_has_max_steps():
    assert DAG(5).max_steps == 11
    assert DAG(5, max_parents=1).max_steps == 5
    assert DAG(5, max_parents=2).max_steps == 8
    assert DAG(5, max_edges=3).max_steps == 4
    assert DAG(4, max_parents=9, max_edges=99).describe() == DAG(4).describe()


def test_masks_know_of_long_cycles():
    """A chain over all nodes leaves its last node no edge back to any other."""
    for nodes in (2, 3, 4, 5, 6, 9, 17, 26):
        environment = DAG(nodes)
        names = environment.names
        chain = ", ".join(f"{a}->{b}" for a, b in pairwise(names))
        legal = environment.legal(environment.encode([chain]))[:, :-1].view(nodes, nodes)
        forward = torch.ones(nodes, nodes, dtype=torch.bool).triu(2)
        assert torch.equal(legal, forward)


def test_texts():
    environment = DAG(3)
    states = environment.encode(["B->A,C -> B", "no edges"])
    assert states.tolist() == [[0, 0, 0, 1, 0, 0, 0, 1, 0], [0] * 9]
    assert environment.decode(states) == ["B->A, C->B", "no edges"]
    assert environment.encode([]).shape == (0, 9)
    assert DAG(["x", "y"]).decode(DAG(["x", "y"]).encode(["y->x"])) == ["y->x"]
    assert DAG(27).names[-1] == "X27"


@pytest.mark.parametrize(
    ("environment", "text", "message"),
    [
        (DAG(3), "A->D", r"'A->D' is no edge: expected -> between two of the nodes A, B, C"),
        (DAG(3), "A B", r"'A B' is no edge"),
        (DAG(3), "", r"a graph without edges as 'no edges'"),
        (DAG(3), "A->B,", r"'' is no edge"),
        (DAG(3), "A->A", r"'A->A' has a directed cycle"),
        (DAG(3), "A->B, B->C, C->A", r"'A->B, B->C, C->A' has a directed cycle"),
        (DAG(3, max_parents=1), "A->C, B->C", r"has a node with more than 1 parents"),
        (DAG(3, max_edges=1), "A->C, A->B", r"has more than 1 edges"),
    ],
)
def test_encode_refuses(environment, text, message):
    with pytest.raises(InputError, match=message):
        environment.encode(["no edges", text])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"nodes": 0}, r"nodes must be at least 1, got 0"),
        ({"nodes": []}, r"one or more different names"),
        ({"nodes": ["A", "A"]}, r"one or more different names"),
        ({"nodes": ["A", "B C"]}, r"may hold no space, comma or '->', got 'B C'"),
        ({"nodes": ["A->", "B"]}, r"may hold no space, comma or '->', got 'A->'"),
        ({"max_parents": 0}, r"max_parents must be at least 1, got 0"),
        ({"max_edges": -1}, r"max_edges must be at least 1, got -1"),
    ],
)
def test_environment_refuses(arguments, message):
    with pytest.raises(InputError, match=message):
        DAG(**arguments)


# ---- Scores --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def samples():
    return linear_gaussian_network(4, 4, samples=25, noise=0.7, seed=3).samples


@pytest.fixture(scope="module")
def levels():
    random = np.random.default_rng(1)
    first = random.integers(0, 2, 30)
    second = (first + random.integers(0, 2, 30)) % 3
    return np.stack([first, second, random.integers(0, 3, 30)], 1)


def wishart_evidence(data, degrees, t):
    """log p(data) of a complete Gaussian network: a ratio of two normal-Wishart constants."""
    n, size = data.shape
    if size == 0:
        return 0.0
    mean = data.mean(0)
    scatter = sum(np.outer(row - mean, row - mean) for row in data)
    after = t * np.eye(size) + scatter + n / (n + 1) * np.outer(mean, mean)

    def gamma(a):
        return sum(math.lgamma(a - k / 2) for k in range(size))

    return (
        -n * size / 2 * math.log(math.pi)
        + size / 2 * math.log(1 / (n + 1))
        + gamma((n + degrees) / 2)
        - gamma(degrees / 2)
        + degrees / 2 * size * math.log(t)
        - (n + degrees) / 2 * math.log(np.linalg.det(after))
    )


def test_bge_is_a_ratio_of_evidences(samples):
    """Geiger and Heckerman: p(node, parents) / p(parents), under marginals of one Wishart prior."""
    local, p = bge_scores(samples), 4
    assert local.dtype == torch.float64
    for j in range(p):
        for flags in product((0, 1), repeat=p):
            parents = [i for i in range(p) if flags[i]]
            if j in parents:
                continue
            # A marginal of a Wishart with p + 2 degrees over `size` variables keeps size + 2.
            both = wishart_evidence(samples[:, [*parents, j]], len(parents) + 3, 0.5)
            alone = wishart_evidence(samples[:, parents], len(parents) + 2, 0.5)
            assert float(local[j, number(parents)]) == pytest.approx(both - alone, abs=1e-9)


def test_bge_of_one_node_is_an_integral():
    """Over the mean and the precision of three numbers, on a grid."""
    x = np.array([0.3, -1.1, 0.8])
    precision = np.linspace(1e-4, 40, 4000)[:, None]
    mean = np.linspace(-8, 8, 2001)[None]
    normal = lambda y, m, w: np.sqrt(w / (2 * np.pi)) * np.exp(-w * (y - m) ** 2 / 2)  # noqa: E731
    gamma = 0.25**1.5 / math.gamma(1.5) * precision**0.5 * np.exp(-0.25 * precision)
    density = gamma * normal(mean, 0, precision)
    for value in x:
        density = density * normal(value, mean, precision)
    step = (precision[1, 0] - precision[0, 0]) * (mean[0, 1] - mean[0, 0])
    found = float(bge_scores(x[:, None])[0, 0])
    assert found == pytest.approx(math.log(density.sum() * step), abs=1e-3)


def urn(levels, arities, child, parents, weight):
    """log of the chance of the child's values, each predicted from the rows before it."""
    seen, total = {}, 0.0
    cells = math.prod(arities[i] for i in parents)
    for row in levels:
        key = tuple(row[parents])
        counts = seen.setdefault(key, [0] * arities[child])
        chance = weight / cells / arities[child] + counts[row[child]]
        total += math.log(chance / (weight / cells + sum(counts)))
        counts[row[child]] += 1
    return total


@pytest.mark.parametrize("weight", [1.0, 4.5])
def test_bde_is_a_product_of_predictions(levels, weight):
    arities = [2, 3, 3]
    intervened = np.random.default_rng(2).random(levels.shape) < 0.3
    for mask in (None, intervened):
        local = bde_scores(levels, arities, mask, weight)
        for j in range(3):
            rows = levels if mask is None else levels[~mask[:, j]]
            others = [i for i in range(3) if i != j]
            for parents in ([], others[:1], others[1:], others):
                expected = urn(rows, arities, j, parents, weight)
                assert float(local[j, number(parents)]) == pytest.approx(expected, abs=1e-9)


def test_equivalent_graphs_score_equally(samples, levels):
    """Chain, chain and fork say the same of independence; the collider says something else."""
    chain, back, fork, collider = (
        graph(text, 3) for text in ("A->B, B->C", "C->B, B->A", "B->A, B->C", "A->B, C->B")
    )
    for local in (bge_scores(samples[:, :3]), bde_scores(levels, [2, 3, 3])):
        score = DAGScore(local)
        assert float(score(chain)) == pytest.approx(float(score(back)), abs=1e-4)
        assert float(score(chain)) == pytest.approx(float(score(fork)), abs=1e-4)
        assert abs(float(score(chain) - score(collider))) > 0.1
    only_b = np.zeros(levels.shape, bool)
    only_b[:15, 1] = True  # an intervention tells the directions apart
    score = DAGScore(bde_scores(levels, [2, 3, 3], only_b))
    assert abs(float(score(chain) - score(back))) > 0.1


def test_score_of_a_graph_is_the_sum_over_its_nodes(samples):
    local, environment = bge_scores(samples), DAG(4)
    graphs = list(all_graphs(4))
    found = DAGScore(local)(torch.tensor(graphs).flatten(1))
    assert found.dtype == torch.float32
    for matrix, value in zip(graphs, found.tolist(), strict=True):
        terms = [local[j, number(parents_of(matrix, j))] - local[j, 0] for j in range(4)]
        assert value == pytest.approx(float(sum(terms)), abs=1e-4)
    assert DAGScore(local)(environment.initial(2)).tolist() == [0, 0]


def test_complete_graphs_are_one_class(samples):
    """All orders of the nodes give the score of the same distribution."""
    score, texts = DAGScore(bge_scores(samples)), []
    for order in permutations("ABCD"):
        later = [(a, b) for k, a in enumerate(order) for b in order[k + 1 :]]
        texts.append(", ".join(f"{a}->{b}" for a, b in later))
    found = score(DAG(4).encode(texts))
    assert float(found.max() - found.min()) < 1e-3


def test_priors():
    p, count = 4, [bin(s).count("1") for s in range(16)]
    expected = {
        "uniform": [0.0] * 4,
        "edge": [k * math.log(0.1) for k in range(4)],
        "fair": [math.log(1 / math.comb(4, k)) for k in range(4)],
        "erdos_renyi": [k * math.log(2 / 3) + (3 - k) * math.log(1 / 3) for k in range(4)],
    }
    for name, by_count in expected.items():
        found = structure_prior(name, p).tolist()
        assert found[:-1] == pytest.approx([by_count[k] for k in count[:-1]])
    with pytest.raises(InputError, match="edges_per_node between 0 and 1, got 1; set it"):
        structure_prior("erdos_renyi", 3)
    with pytest.raises(InputError, match="edge_weight must be positive, got -1"):
        structure_prior("edge", 3, edge_weight=-1)
    with pytest.raises(InputError, match="prior must be uniform, erdos_renyi, edge or fair"):
        structure_prior("flat", 3)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: bge_scores(np.zeros((5, 17))), "tabulated for 1 to 16 nodes, got 17"),
        (lambda: bge_scores(np.zeros((0, 2))), "one or more rows of finite numbers, got 0 rows"),
        (lambda: bge_scores(np.array([[1.0, np.nan]])), "one or more rows of finite numbers"),
        (lambda: bge_scores(np.ones((2, 2)), 0), "mean_weight must be positive, got 0"),
        (lambda: bde_scores(np.array([[0, 2]]), [2, 2]), r"one less than the arities \[2, 2\]"),
        (lambda: bde_scores(np.array([[0, -1]]), [2, 2]), "expected levels from 0"),
        (lambda: bde_scores(np.array([[0]]), [2], None, 0), "equivalent_samples must be positive"),
        (lambda: DAGScore(torch.zeros(2, 3)), r"expected scores of the shape \(2, 4\), got \(2, 3"),
        (lambda: LogReward(torch.nn.Identity(), 0), "temperature must be positive, got 0"),
        (lambda: BayesianNetworkData(samples=0), "samples of 1 or more"),
        (lambda: BayesianNetworkData(seed=-1), "seed must not be negative"),
        (lambda: BayesianNetworkData(temperature=-1), "temperature must be positive, got -1"),
        (lambda: BayesianNetworkData(shape="flat"), "shape must be posterior or relative"),
        (lambda: SachsData(cells="all"), "cells must be observational or interventional"),
        (
            lambda: BayesianNetworkData(edges=4).make_reward(DAG(3)),
            "3 nodes has at most 3 edges, got edges: 4",
        ),
        (
            lambda: BayesianNetworkData().make_reward(Hypergrid()),
            "BayesianNetworkData needs a DAG environment, got Hypergrid",
        ),
        (lambda: SachsData().make_reward(DAG(11)), r"set nodes to \[Raf, Mek, Plcg"),
        (
            lambda: BayesianNetworkData(edges=0, shape="relative").make_reward(DAG(3)),
            "explains it no better than no edges",
        ),
    ],
)
def test_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


# ---- Data ----------------------------------------------------------------------------------------


def test_synthetic_network():
    edges, weights, values = linear_gaussian_network(6, 7, samples=20_000, noise=0.1, seed=5)
    assert is_acyclic(edges.tolist())
    assert ((weights != 0) == (edges == 1)).all()
    for j in range(6):  # what parents leave over is the noise
        noise = values[:, j] - values @ weights[:, j]
        assert noise.std() == pytest.approx(0.1, rel=0.03)
        for i in parents_of(edges.tolist(), j):
            assert abs(np.corrcoef(noise, values[:, i])[0, 1]) < 0.04
    sizes = [linear_gaussian_network(6, 7, 1, seed=seed).edges.sum() for seed in range(300)]
    assert np.mean(sizes) == pytest.approx(7, abs=0.4)
    again = linear_gaussian_network(6, 7, samples=20_000, noise=0.1, seed=5)
    assert (again.samples == values).all()
    directions = sum(linear_gaussian_network(4, 3, 1, seed=s).edges for s in range(300))
    assert directions[~np.eye(4, dtype=bool)].min() > 40  # nodes are in random order; mean 75


def test_shapes_of_the_reward():
    environment = DAG(4)
    data = BayesianNetworkData(edges=4, samples=200, seed=1)
    objects = target_distribution(environment, lambda objects: torch.zeros(len(objects))).objects
    score = DAGScore(bge_scores(data.network(environment).samples))(objects)
    truth = float(score[(objects == data.truth(environment).flatten()).all(1)])
    assert data.make_reward(environment)(objects).tolist() == score.tolist()
    warm = BayesianNetworkData(edges=4, samples=200, seed=1, temperature=8)
    assert torch.allclose(warm.make_reward(environment)(objects), score / 8)
    relative = BayesianNetworkData(4, 200, seed=1, shape="relative", temperature=10)
    found = relative.make_reward(environment)(objects)
    expected = (10 * (score.clamp(min=1e-20) / truth).log()).clamp(min=-100)
    assert torch.allclose(found, expected, atol=1e-3)
    assert float(found.min()) == pytest.approx(-100)  # the graph without edges
    prior = BayesianNetworkData(4, 200, seed=1, prior="edge", edge_weight=0.5)
    difference = prior.make_reward(environment)(objects) - score
    assert torch.allclose(difference, objects.sum(1) * math.log(0.5), atol=1e-4)


@pytest.fixture(scope="module")
def sachs_folder():
    if not os.environ.get("GFN_DESIGN_DATA"):
        pytest.skip("GFN_DESIGN_DATA names no folder with the public data")
    return Path(os.environ["GFN_DESIGN_DATA"], "sachs")


def test_facts_of_sachs(sachs_folder):
    environment, data = DAG(SACHS_NODES), SachsData()
    rows = data._read()
    assert rows.shape == (853, 11)
    assert rows[0].tolist() == [26.4, 13.2, 8.82, 18.3, 58.8, 6.61, 17.0, 414.0, 17.0, 44.9, 40.0]
    cells = SachsData("interventional")._read()
    assert cells.shape == (5400, 12)
    assert set(np.unique(cells[:, :-1])) == {1, 2, 3}
    target, count = np.unique(cells[:, -1], return_counts=True)
    assert dict(zip(target, count, strict=True)) == {
        0: 1800,
        2: 600,
        4: 600,
        7: 600,
        8: 600,
        9: 1200,
    }
    consensus = json.loads((sachs_folder / "sachs_ground_truth.json").read_text())
    assert consensus["nodes"] == SACHS_NODES
    assert data.truth(environment).tolist() == consensus["adjacency"]
    assert data.truth(environment).sum() == 17


@pytest.mark.parametrize("cells", ["observational", "interventional"])
def test_reward_of_sachs(sachs_folder, cells):
    environment, data = DAG(SACHS_NODES), SachsData(cells)
    reward = data.make_reward(environment)
    truth = data.truth(environment)
    texts = ["no edges", "Raf->Mek", "Raf->Jnk"]
    objects = torch.cat([environment.encode(texts), truth.view(1, -1)])
    empty, strong, weak, consensus = reward(objects).tolist()
    assert empty == 0
    assert strong > weak + 400  # Raf phosphorylates Mek
    assert consensus > 500
    rows = data._read()
    if cells == "observational":
        rows = (rows - rows.mean(0)) / rows.std(0, ddof=1)
        both, one = wishart_evidence(rows[:, :2], 4, 0.5), wishart_evidence(rows[:, :1], 3, 0.5)
        expected = both - one - wishart_evidence(rows[:, 1:2], 3, 0.5)
    else:
        levels = rows[rows[:, -1] != 2][:, :2].astype(int) - 1  # Mek was not the target
        expected = urn(levels, [3, 3], 1, [0], 1.0) - urn(levels, [3, 3], 1, [], 1.0)
    assert strong == pytest.approx(expected, rel=1e-5)
    assert SachsData(cells, shape="relative").make_reward(environment)(objects)[-1] == 0


def test_sachs_as_published(tmp_path, monkeypatch):
    """The public file has other separators, and is known by what it holds."""
    text = '"Raf" "Mek" "INT"\n1 2 0\n3 1 2\n'
    (tmp_path / "sachs.interventional.txt.gz").write_bytes(gzip.compress(text.encode()))
    monkeypatch.delenv("GFN_DESIGN_DATA", raising=False)
    monkeypatch.setenv("GFN_DESIGN_CACHE", str(tmp_path))
    name = "sachs_interventional_discrete"
    known = vars(registry.NETWORK_SOURCES[name])
    content = hashlib.sha256(text.encode()).hexdigest()
    url = {"url": "http://127.0.0.1:1/nothing", "content_sha256": content}
    source = registry.Source(**{**known, **url})
    monkeypatch.setitem(registry.NETWORK_SOURCES, name, source)
    assert SachsData("interventional")._read().tolist() == [[1, 2, 0], [3, 1, 2]]
    (tmp_path / "sachs.interventional.txt.gz").write_bytes(b"no gzip")
    with pytest.raises(InputError, match="could not be downloaded"):
        SachsData("interventional").prepare_data()


# ---- What is said of a posterior -----------------------------------------------------------------


def test_marginals_are_those_of_brute_force():
    graphs = list(all_graphs(4))
    objects = torch.tensor(graphs).flatten(1)
    probability = torch.rand(len(graphs), dtype=torch.float64).softmax(0)
    expected = {name: np.zeros((4, 4)) for name in structure.FEATURES}
    for edges, weight in zip(graphs, probability.tolist(), strict=True):
        for i, j in product(range(4), repeat=2):
            if i == j:
                continue
            expected["edge"][i, j] += weight * edges[i][j]
            reached = {i}
            for _ in range(4):
                reached |= {b for a in reached for b in range(4) if edges[a][b]}
            expected["path"][i, j] += weight * (j in reached)
            shared = any(edges[i][k] and edges[j][k] for k in range(4))
            expected["blanket"][i, j] += weight * bool(edges[i][j] or edges[j][i] or shared)
    for name, feature in structure.FEATURES.items():
        found = structure.marginals(objects, probability, feature)
        assert np.allclose(found, expected[name])


def test_distance_to_the_truth():
    environment = DAG(3)
    truth = environment.matrices(environment.encode(["A->B, B->C"]))[0]
    texts = ["A->B, B->C", "B->A, B->C", "no edges", "A->B, B->C, A->C"]
    objects = environment.encode(texts)
    for row, distance in enumerate([0, 1, 2, 1]):  # an edge turned round counts once
        sure = torch.eye(4, dtype=torch.float64)[row]
        assert structure.expected_shd(objects, sure, truth) == distance
    equal = torch.full((4,), 0.25, dtype=torch.float64)
    found = structure.structure_metrics(objects, equal, None, truth)
    assert found["expected_shd"] == 1
    assert found["expected_edges"] == 7 / 4
    assert set(found) == {"expected_shd", "expected_edges", "edge_auroc"}


def test_auroc_and_correlation():
    marks = torch.tensor([0.1, 0.4, 0.35, 0.8], dtype=torch.float64)
    assert structure.auroc(marks, torch.tensor([False, False, True, True])) == 0.75
    assert structure.auroc(torch.ones(4), torch.tensor([False, False, True, True])) == 0.5
    assert math.isnan(structure.auroc(marks, torch.zeros(4, dtype=torch.bool)))
    other = torch.tensor([3.0, 1, 4, 2], dtype=torch.float64)
    assert structure.pearson(marks, other) == pytest.approx(np.corrcoef(marks, other)[0, 1])
    assert math.isnan(structure.pearson(marks, torch.ones(4, dtype=torch.float64)))


def test_target_against_itself():
    data = BayesianNetworkData(edges=4, samples=500, noise=1.0, seed=3)
    model = model_of(DAG(4), TrajectoryBalance(), network=TINY).use(data)
    target = model.target
    found = model.data.measure(
        model.environment, target.objects, target.probability, target.probability
    )
    for name in structure.FEATURES:
        assert found[f"{name}_mse"] == 0
        assert found[f"{name}_correlation"] == pytest.approx(1)
    assert found["expected_shd"] == found["target_expected_shd"] > 0
    uniform = torch.full_like(target.probability, 1 / len(target.probability))
    worse = model.data.measure(model.environment, target.objects, uniform, target.probability)
    assert worse["expected_shd"] > found["expected_shd"]
    assert worse["edge_auroc"] == pytest.approx(0.5)  # but for rounding all are alike
    assert found["edge_auroc"] > 0.7


def TINY(environment, outputs):  # noqa: N802 # a network, as the class MLP is
    return MLP(environment, outputs, width=64, depth=2)


def trained(environment, data, steps, objective=None, **options):
    objective = objective or TrajectoryBalance()
    model = model_of(environment, objective, network=TINY, log_z_lr=1.0, **options)
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(model, datamodule=data)
    return model


def test_posterior_is_learned():
    """Over the 25 graphs of three nodes: exact distance and marginals."""
    data = BayesianNetworkData(edges=2, samples=30, seed=1, temperature=2)
    model = trained(DAG(3), data, steps=600, draw_seed=0)
    found = model.evaluate().metrics
    assert found["D_TV"] < 0.05
    assert found["log_z_error"] < 0.05
    for name in structure.FEATURES:
        assert found[f"{name}_mse"] < 1e-3
    assert found["edge_correlation"] > 0.99
    assert found["expected_shd"] == pytest.approx(found["target_expected_shd"], abs=0.1)


def test_marginals_are_learned():
    """Over the 543 graphs of four nodes, by the method of ``configs/dag/5_nodes_best.yaml``."""
    data = BayesianNetworkData(edges=4, samples=50, seed=1)
    decay = partial(CosineAnnealingLR, T_max=600)
    options = {"lr": 1e-2, "schedule": decay, "batch_size": 64, "draw_seed": 0}
    model = trained(DAG(4), data, 600, LogVariance(), **options)
    found = model.evaluate().metrics
    assert found["D_TV"] < 0.1
    for name in structure.FEATURES:
        assert found[f"{name}_correlation"] > 0.98


def test_where_graphs_cannot_be_enumerated():
    data = BayesianNetworkData(edges=10, samples=50, prior="erdos_renyi", shape="relative")
    model = trained(DAG(10, max_edges=14), data, steps=3, batch_size=16, draw_seed=0)
    found = model.evaluate().metrics
    assert model.target is None
    assert found["expected_edges"] <= 14
    assert 0 < found["expected_shd"] < 45
    assert 0 <= found["edge_auroc"] <= 1
    assert "edge_mse" not in found


def test_other_data_measure_nothing_more():
    model = model_of(Hypergrid(2, 4), TrajectoryBalance(), network=TINY).use(HypergridData())
    assert model.data.measure(model.environment, model.target.objects, None, None) == {}
    assert not any(name.startswith(("edge", "expected")) for name in model.evaluate().metrics)


def test_exact_evaluation_of_five_nodes_is_whole():
    """All 29,281 graphs get their probability, and the sum is one."""
    model = model_of(DAG(5), TrajectoryBalance(), network=TINY).use(BayesianNetworkData())
    index, probability = terminating_distribution(model.environment, model.policy)
    assert len(index) == len(model.target.objects) == 29_281
    assert torch.equal(index, model.target.indices)
    assert float(probability.sum()) == pytest.approx(1)


# ---- From the command line -----------------------------------------------------------------------

RUN = """
evaluate_every: 10
candidates: 10
model:
  environment: {class_path: DAG, init_args: {nodes: [x, y, z], max_parents: 1}}
  objective: {class_path: ActorCritic}
  networks:
    network: {class_path: MLP, init_args: {width: 16, depth: 1}}
    critic: {class_path: MLP, init_args: {width: 16, depth: 1}}
  batches: {size: 16}
data: {class_path: BayesianNetworkData, init_args: {edges: 2, samples: 1000, prior: edge}}
trainer: {max_steps: 20, log_every_n_steps: 5, enable_progress_bar: false, accelerator: cpu}
"""


def test_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("dag.yaml").write_text(RUN)
    assert main(["fit", "--config", "dag.yaml", "--output", "run"]) == 0
    numbers = yaml.safe_load(Path("run/evaluation.yaml").read_text())
    assert {"D_TV", "edge_correlation", "path_mse", "target_expected_shd"} <= set(numbers)
    header, best = Path("run/candidates.csv").read_text().splitlines()[:2]
    assert header == "rank,object,score,reward,log_reward,log_probability,draws"
    assert best.startswith("1,")
    assert "->" in best
    assert main(["check", "DAG", "--nodes", "2"]) == 0
    assert "keeps the contract" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sachs_tb_u", "sachs_interventional"])
def test_a_run_of_sachs(sachs_folder, tmp_path, name):
    config = Path(__file__).parents[1] / "configs" / "dag" / f"{name}.yaml"
    short = ["--trainer.max_steps", "3", "--trainer.log_every_n_steps", "3"]
    short += ["--evaluate_every", "3", "--model.batches.size", "16", "--candidates", "10"]
    quiet = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    run = tmp_path / "run"
    assert main(["fit", "--config", str(config), "--output", str(run), *short, *quiet]) == 0
    found = yaml.safe_load((run / "evaluation.yaml").read_text())
    assert 0 < found["expected_shd"] < 55
    assert 0 <= found["edge_auroc"] <= 1
    assert 0 < found["expected_edges"] <= 38
    assert "Raf" in (run / "candidates.csv").read_text()


def test_curve_of_rewards_too_large_for_a_float(tmp_path):
    rows = ["step,trajectories,reward,log_reward", "9,1280,inf,150.5", "19,2560,inf,163"]
    path = tmp_path / "log.csv"
    path.write_text("\n".join(rows))
    ax = plots.axes()
    assert plots.plot_curve(path, ax)
    assert ax.get_ylabel() == "mean log R of a batch"
    assert ax.lines[0].get_ydata().tolist() == [150.5, 163]
