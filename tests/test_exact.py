"""Exact laws and the metrics on them: published anchors, brute force and sampling.

A test that draws says how often it would fail by chance if its seed were not fixed.
"""

import math
import os
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from gfn_design.data.tasks import KmerData
from gfn_design.environments.hypergrid import Hypergrid
from gfn_design.environments.sequences.sequence import Sequence
from gfn_design.evaluation import exact
from gfn_design.evaluation.exact import (
    push_forward,
    target_distribution,
    terminating_distribution,
)
from gfn_design.metrics import distributions as metrics
from gfn_design.policies.mlp import MLP
from gfn_design.policies.policy import Policy
from gfn_design.rewards.reward import HypergridScore, Reward
from gfn_design.sampling.noise import uniform_noise
from gfn_design.sampling.trajectories import sample
from gfn_design.tensors import masked_log_softmax

CPU = torch.device("cpu")
ORDERS = ["append", "prepend-append", "any"]
SMALL = [Hypergrid(2, 3), *(Sequence("AB", 3, order) for order in ORDERS)]


def uniform(states, legal):
    """log P_F of the policy that chooses evenly among what is legal."""
    return torch.where(legal, -legal.sum(1, keepdim=True).double().log(), -torch.inf)


def hypergrid_target(ndim, height, r0):
    environment = Hypergrid(ndim, height)
    reward = Reward(HypergridScore(height, r0=r0))
    return environment, target_distribution(environment, reward)


def law_of(environment, log_policy):
    """Probability of every object in the order of its index, and the mean number of actions."""
    law = torch.zeros(environment.n_states, dtype=torch.float64)
    length = 0.0
    for steps, layer in enumerate(push_forward(environment, log_policy)):
        law[layer.indices] += layer.probability
        length += (steps + 1) * float(layer.probability.sum())
    return law, length


def mean_score(environment, target):
    """V_F(s0) = E[sum of log P_F - log P_B, less log R] of the uniform policies, log Z being 0.

    The stop has probability 1 / legal, so a state is visited `legal` times as often as it is left
    by any one action.
    """
    total = 0.0
    for layer in push_forward(environment, uniform):
        legal = environment.legal(layer.objects)
        n_legal = legal.sum(1).double()
        total -= float((layer.probability * n_legal * n_legal.log()).sum())
        row, action = legal[:, : environment.stop].nonzero(as_tuple=True)
        child, _ = environment.step(layer.objects[row], action)
        parents = environment.legal_backward(child).sum(1).double()
        total += float((layer.probability[row] * parents.log()).sum())
        total -= float((layer.probability * target.log_reward[layer.indices]).sum())
    return total


# The anchors of the specification.


@pytest.mark.parametrize(
    ("ndim", "height", "r0", "axis", "log_z", "mean_reward"),
    [
        (2, 256, 0.01, (128, 50), 9.535850, 1.398562),
        (2, 128, 0.01, (64, 26), 8.178594, 1.444969),
        (3, 64, 0.01, (32, 12), 10.019555, 0.845138),
        (4, 32, 0.01, (16, 6), 10.733038, 0.544697),
        (3, 128, 0.01, (64, 26), 12.139909, 0.932320),
        (2, 256, 0.001, (128, 50), 9.492321, 1.442383),
        (2, 32, 0.01, (16, 6), 5.348250, 1.351324),
    ],
)
def test_target_of_the_hypergrid(ndim, height, r0, axis, log_z, mean_reward):
    """Z* = R0 H^d + R1 na^d + R2 nb^d, na and nb being the cells of one axis in each region."""
    _, target = hypergrid_target(ndim, height, r0)
    outer, mode = axis
    reward = target.log_reward.exp()
    assert len(target.objects) == height**ndim
    assert int((reward > r0 + 2).sum()) == mode**ndim
    assert int((reward > r0 + 0.4).sum()) == outer**ndim
    z = r0 * height**ndim + 0.5 * outer**ndim + 2 * mode**ndim
    assert float(reward.sum()) == pytest.approx(z, rel=1e-6)
    assert target.log_z == pytest.approx(math.log(z), abs=1e-6)
    assert target.log_z == pytest.approx(log_z, abs=1e-6)
    assert float((target.probability * reward).sum()) == pytest.approx(mean_reward, abs=1e-6)
    assert float(target.probability.sum()) == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize(
    ("ndim", "height", "d_tv", "d_jsd", "mean_reward", "v_f", "kl", "length"),
    [
        (2, 8, 0.796516, 0.431004, 0.482698, -0.610885, 2.200924, 2.984),
        (2, 32, 0.891600, 0.547426, 0.534310, -1.923546, 3.424703, 3.000),
        (2, 64, 0.956779, 0.628602, 0.512959, -1.931598, 4.802946, 3.000),
        (2, 256, 0.994796, 0.683644, 0.510000, -1.929345, 7.606505, 3.000),
        (3, 8, 0.836299, 0.483608, 0.338089, -1.359349, 2.613204, 3.977),
        (3, 32, 0.931893, 0.605783, 0.514710, -3.048836, 4.891278, 4.000),
        (4, 8, 0.852844, 0.506475, 0.278110, -2.227079, 3.076027, 4.969),
    ],
)
def test_uniform_policy_on_the_hypergrid(ndim, height, d_tv, d_jsd, mean_reward, v_f, kl, length):
    """Where training starts, about: V_F(s0) + log Z* = KL(P_F || P_B R / Z*)."""
    environment, target = hypergrid_target(ndim, height, 0.01)
    law, mean_length = law_of(environment, uniform)
    score = mean_score(environment, target)
    assert float(law.sum()) == pytest.approx(1, abs=1e-12)
    assert metrics.total_variation(law, target.probability) == pytest.approx(d_tv, abs=1e-6)
    assert metrics.jensen_shannon(law, target.probability) == pytest.approx(d_jsd, abs=1e-6)
    assert float((law * target.log_reward.exp()).sum()) == pytest.approx(mean_reward, abs=1e-6)
    assert score == pytest.approx(v_f, abs=1e-6)
    assert score + target.log_z == pytest.approx(kl, abs=1e-6)
    assert mean_length == pytest.approx(length, abs=5e-4)  # the anchor has three digits


def test_regions_are_symmetric_where_cells_lie_on_a_bound():
    """The target is the same from both ends of an axis; in float64 51 or 204 is a mode."""
    score = HypergridScore(256)
    outer, mode = score.regions(torch.arange(256)[:, None])
    assert torch.equal(outer, outer.flip(0))
    assert torch.equal(mode, mode.flip(0))
    assert mode.nonzero().squeeze(1).tolist() == [*range(26, 51), *range(205, 230)]


@pytest.fixture(scope="module", params=ORDERS)
def six6(request):
    """The SIX6 task: environment, data and target in each order."""
    if not os.environ.get("GFN_DESIGN_DATA"):
        pytest.skip("GFN_DESIGN_DATA names no folder with the public data")
    environment, data = Sequence("DNA", 8, request.param), KmerData("six6")
    data.prepare_data()
    data.ready(environment, CPU)
    return environment, data, target_distribution(environment, data.reward)


def test_target_of_six6(six6):
    _, _, target = six6
    reward = target.log_reward.exp()
    assert len(reward) == 4**8
    assert float(reward.sum()) == pytest.approx(95_048.929018, rel=1e-7)
    assert target.log_z == pytest.approx(11.462147, abs=1e-6)
    assert float((target.probability * reward).sum()) == pytest.approx(3.319955, abs=1e-6)
    assert float(reward.max()) == pytest.approx(10, rel=1e-6)
    assert float(target.log_reward.min()) == pytest.approx(-18.4207, abs=5e-5)
    assert int((target.log_reward < -12).sum()) == 4
    assert float(target.probability.max()) == pytest.approx(1.0521e-4, abs=5e-9)


def test_uniform_policy_on_six6(six6):
    """In every order a uniform policy gives every sequence the same probability."""
    environment, _, target = six6
    law = law_of(environment, uniform)[0][target.indices]
    assert torch.allclose(law, torch.full_like(law, 4.0**-8), rtol=1e-12, atol=0)
    assert metrics.total_variation(law, target.probability) == pytest.approx(0.403445, abs=1e-6)
    assert metrics.jensen_shannon(law, target.probability) == pytest.approx(0.120402, abs=1e-6)
    assert metrics.reward_accuracy(law, target.log_reward) == pytest.approx(0.436853, abs=1e-6)
    assert metrics.effective_number(law) == pytest.approx(4**8, rel=1e-12)


def test_modes_of_six6(six6):
    environment, data, target = six6
    modes = environment.state_index(data.modes(environment))
    place = torch.searchsorted(target.indices, modes)
    assert torch.equal(target.indices[place], modes)
    assert len(modes.unique()) == len(modes) == 328
    assert float(target.probability[place].sum()) == pytest.approx(0.0281, abs=5e-5)


class StopsAt(Hypergrid):
    """The stop is legal only in some cells, which the others lead to."""

    def __init__(self, finished):
        super().__init__(2, 3)
        self.finished = finished

    def legal(self, states):
        stops = self.finished(states)[:, None]
        return torch.cat([super().legal(states)[:, : self.stop], stops], dim=1)


@pytest.mark.parametrize(
    ("finished", "objects"),
    [
        (lambda states: (states == 2).all(1), ["2,2"]),
        (lambda states: states.sum(1) % 2 == 0, ["0,0", "0,2", "1,1", "2,0", "2,2"]),
    ],
    ids=["far corner", "even sum"],
)
def test_objects_are_where_the_stop_is_legal(finished, objects):
    environment = StopsAt(finished)
    target = target_distribution(environment, lambda states: states.sum(1).double())
    assert environment.decode(target.objects) == objects
    assert torch.equal(target.indices, environment.state_index(target.objects))
    assert torch.equal(target.log_reward, target.objects.sum(1).double())
    indices, law = terminating_distribution(environment, random_policy(environment))
    assert torch.equal(indices, target.indices)
    assert float(law.sum()) == pytest.approx(1, abs=1e-12)


# The exact optimum.


class Tabular(nn.Module):
    """A policy that looks logits up by the number of the state."""

    def __init__(self, environment, logits):
        super().__init__()
        self.environment, self.logits = environment, logits

    def forward_log_probs(self, states, legal, dtype=torch.float32):
        logits = self.logits[self.environment.state_index(states)]
        return masked_log_softmax(logits.to(dtype), legal)


def optimum(environment, target):
    """The policy that samples R(x) / Z* under the uniform backward policy, and log F(s0).

    F(s) = R(s) + sum over children s' of P_B(s | s') F(s'); P_F divides each term by their sum.
    """
    flow = torch.zeros(environment.n_states, environment.n_actions, dtype=torch.float64)
    flow[target.indices, environment.stop] = target.log_reward.exp()
    for layer in reversed(list(push_forward(environment, uniform))):
        legal = environment.legal(layer.objects)[:, : environment.stop]
        row, action = legal.nonzero(as_tuple=True)
        child, _ = environment.step(layer.objects[row], action)
        parents = environment.legal_backward(child).sum(1)
        flow[layer.indices[row], action] = flow[environment.state_index(child)].sum(1) / parents
    return Tabular(environment, flow.log()), float(flow[0].sum().log())


@pytest.mark.parametrize(
    ("height", "stop", "length"), [(8, 0.0306490, 8), (32, 0.51 / 210.24, 32), (256, None, 256)]
)
def test_the_exact_optimum_samples_the_target(height, stop, length):
    """log F(s0) = log Z*, P_F(stop | s0) = R(s0) / Z*, and by symmetry H actions on average."""
    environment, target = hypergrid_target(2, height, 0.01)
    policy, log_flow = optimum(environment, target)
    assert log_flow == pytest.approx(target.log_z, abs=1e-12)
    indices, law = terminating_distribution(environment, policy)
    assert torch.equal(indices, target.indices)
    assert metrics.total_variation(law, target.probability) < 1e-12
    assert metrics.jensen_shannon(law, target.probability) < 1e-12
    assert metrics.reward_accuracy(law, target.log_reward) == pytest.approx(1, abs=1e-12)
    log_policy = partial(policy.forward_log_probs, dtype=torch.float64)
    assert law_of(environment, log_policy)[1] == pytest.approx(length, abs=1e-9)
    source = environment.initial(1)
    stops = float(log_policy(source, environment.legal(source)).exp()[0, environment.stop])
    assert stops == pytest.approx(float(target.log_reward[0].exp()) / math.exp(target.log_z))
    if stop is not None:
        assert stops == pytest.approx(stop, abs=1e-7)


# Random policies.


def random_policy(environment, seed=0):
    """A network far from uniform, in float64 so that sums can be compared closely."""
    torch.manual_seed(seed)
    policy = Policy(environment, partial(MLP, width=16, depth=2)).double().requires_grad_(False)
    for parameter in policy.parameters():
        parameter *= 2.5
    return policy


def brute_force(environment, policy):
    """Each object's probability: the sum over its trajectories of the product over their steps."""
    law, trajectories = Counter(), 0
    unfinished = [(environment.initial(1), 1.0, 0)]
    while unfinished:
        state, probability, steps = unfinished.pop()
        (text,) = environment.decode(state)
        if environment.fixed_length and steps == environment.max_steps:
            law[text] += probability
            trajectories += 1
            continue
        legal = environment.legal(state)
        chosen = policy.forward_log_probs(state, legal, dtype=torch.float64)[0].exp()
        for action in legal[0].nonzero().squeeze(1):
            reached = probability * float(chosen[action])
            if int(action) == environment.stop:
                law[text] += reached
                trajectories += 1
            else:
                unfinished.append((environment.step(state, action[None])[0], reached, steps + 1))
    return law, trajectories


@pytest.mark.parametrize(
    ("environment", "n_trajectories"), list(zip(SMALL, [19, 8, 64, 48], strict=True)), ids=str
)
def test_law_of_a_random_policy_by_brute_force(environment, n_trajectories):
    """P_T(x) = sum of P_F over all trajectories that end in x."""
    policy = random_policy(environment)
    expected, trajectories = brute_force(environment, policy)
    assert trajectories == n_trajectories
    indices, law = terminating_distribution(environment, policy)
    target = target_distribution(environment, lambda objects: torch.zeros(len(objects)))
    assert torch.equal(indices, target.indices)
    assert torch.equal(indices, environment.state_index(target.objects))
    assert len(indices) == len(expected)
    assert law.dtype == torch.float64
    assert max(law) > 1.5 * min(law)  # or any mistake would give the same
    for text, probability in zip(environment.decode(target.objects), law.tolist(), strict=True):
        assert probability == pytest.approx(expected[text], abs=1e-9)


@pytest.mark.parametrize(
    "environment",
    [Hypergrid(1, 40), Hypergrid(3, 7), Hypergrid(5, 3), Sequence("protein", 3, "append")]
    + [Sequence("ABC", 5, order) for order in ORDERS],
    ids=str,
)
def test_laws_sum_to_one(environment):
    policy = Policy(environment, partial(MLP, width=32))  # in float32, as it is trained
    assert float(terminating_distribution(environment, policy)[1].sum()) == pytest.approx(
        1, abs=1e-12
    )


def chi_square_p_value(counts, expected):
    """How often counts would be as far from the expected ones by chance."""
    statistic = ((counts - expected).square() / expected).sum()
    return float(torch.special.gammaincc(torch.tensor((len(counts) - 1) / 2), statistic / 2))


@pytest.mark.parametrize(
    "environment", [Hypergrid(2, 4), *(Sequence("ABC", 3, order) for order in ORDERS)], ids=str
)
def test_law_agrees_with_samples(environment):
    """200,000 draws against the exact law by chi-square; fails by chance once in a million."""
    policy, n = random_policy(environment, seed=1).float(), 200_000
    indices, law = terminating_distribution(environment, policy)
    drawn = sample(environment, policy, uniform_noise((n, environment.max_steps), CPU, 1))
    place = torch.searchsorted(indices, environment.state_index(drawn.objects))
    counts = torch.bincount(place, minlength=len(law))
    assert float(law.min()) * n > 5
    assert chi_square_p_value(counts, n * law) > 1e-6
    # That the test has power: the law of another policy is told apart.
    _, other = terminating_distribution(environment, random_policy(environment, seed=2))
    assert chi_square_p_value(counts, n * other) < 1e-12


class Widest(nn.Module):
    """Notes the largest batch that a function of states was asked about."""

    def __init__(self, function):
        super().__init__()
        self.function, self.rows = function, 0

    def forward(self, states):
        self.rows = max(self.rows, len(states))
        return self.function(states)


@pytest.mark.parametrize(
    "environment", [Hypergrid(2, 9), *(Sequence("ABC", 3, order) for order in ORDERS)], ids=str
)
def test_chunks_change_nothing(environment, monkeypatch):
    policy = random_policy(environment)
    policy.forward_policy = network = Widest(policy.forward_policy)
    log_reward = Widest(lambda objects: objects.double().square().sum(1))
    _, law = terminating_distribution(environment, policy)
    target = target_distribution(environment, log_reward)
    assert min(network.rows, log_reward.rows) > 7
    network.rows = log_reward.rows = 0
    monkeypatch.setattr(exact, "CHUNK", 7)
    _, chunked = terminating_distribution(environment, policy)
    again = target_distribution(environment, log_reward)
    assert network.rows == log_reward.rows == 7
    assert torch.allclose(chunked, law, rtol=1e-12, atol=0)
    assert all(torch.equal(left, right) for left, right in zip(again[:3], target[:3], strict=True))


@pytest.mark.parametrize(
    ("size", "packed"), [(2, torch.int8), (128, torch.int8), (129, torch.int16)]
)
def test_objects_are_kept_in_few_bytes(size, packed):
    environment = Sequence([f"s{i}" for i in range(size)], 2)
    target = target_distribution(environment, lambda objects: objects.sum(1).double())
    assert target.packed.dtype == packed
    pairs = torch.cartesian_prod(torch.arange(size), torch.arange(size))
    assert torch.equal(target.objects, pairs[environment.state_index(pairs).argsort()])
    assert torch.equal(target.log_reward, target.objects.sum(1).double())


def test_states_without_numbers_are_refused():
    environment = Sequence("protein", 50)
    with pytest.raises(TypeError, match=r"length=50.* does not number its states"):
        list(push_forward(environment, uniform))


# Metrics, by hand.


def law(*probabilities):
    return torch.tensor(probabilities, dtype=torch.float64)


def test_total_variation():
    assert metrics.total_variation(law(0.5, 0.5, 0), law(0.25, 0.25, 0.5)) == 0.5
    assert metrics.total_variation(law(1, 0), law(0, 1)) == 1
    assert metrics.total_variation(law(0.3, 0.7), law(0.3, 0.7)) == 0


def test_jensen_shannon():
    """With middle (3/4, 1/4): log(4/3) / 2 + (log(2/3) + log 2) / 4 = 3/4 log(4/3)."""
    expected = 0.75 * math.log(4 / 3)
    assert metrics.jensen_shannon(law(1, 0), law(0.5, 0.5)) == pytest.approx(expected, abs=1e-15)
    assert metrics.jensen_shannon(law(0.5, 0.5), law(1, 0)) == pytest.approx(expected, abs=1e-15)
    assert metrics.jensen_shannon(law(1, 0), law(0, 1)) == pytest.approx(math.log(2), abs=1e-15)
    assert metrics.jensen_shannon(law(0.2, 0.8, 0), law(0.2, 0.8, 0)) == 0


@pytest.mark.parametrize("shift", [0, 2000, -2000])
def test_reward_accuracy(shift):
    """R = (1, 3): 2.5 on average under the target, 2 under even odds; a factor changes nothing."""
    log_reward = law(1, 3).log() + shift
    assert metrics.reward_accuracy(law(0.5, 0.5), log_reward) == pytest.approx(0.8)
    assert metrics.reward_accuracy(law(0.25, 0.75), log_reward) == pytest.approx(1)
    assert metrics.reward_accuracy(law(0, 1), log_reward) == 1  # 3 / 2.5, cut off


def test_effective_number():
    assert metrics.effective_number(law(*[1 / 7] * 7)) == pytest.approx(7)
    assert metrics.effective_number(law(0, 1, 0)) == 1
    assert metrics.effective_number(law(0.5, 0.25, 0.25, 0)) == pytest.approx(2**1.5)


@pytest.mark.parametrize("samples", [1, 2, 3, 17])
def test_noise_floor_of_few_samples(samples):
    """Half the sum over objects of E|count / n - p|, with the binomial law written out."""
    p = law(0.5, 1 / 3, 1 / 6 - 1e-6, 1e-6, 0)
    expected = sum(
        math.comb(samples, k) * x**k * (1 - x) ** (samples - k) * abs(k / samples - x)
        for x in p.tolist()
        for k in range(samples + 1)
    )
    assert metrics.noise_floor(p, samples) == pytest.approx(expected / 2, rel=1e-9)


def test_noise_floor_of_a_certain_object():
    assert metrics.noise_floor(law(1, 0), 10) == pytest.approx(0, abs=1e-12)


def test_noise_floor_against_simulation():
    """The mean D_TV of 4,000 histograms, to five standard errors: by chance once in a million."""
    generator = np.random.default_rng(0)
    p = generator.dirichlet(np.full(200, 0.3))
    counts = generator.multinomial(500, p, size=4000)
    simulated = np.abs(counts / 500 - p).sum(1) / 2
    error = simulated.std() / math.sqrt(len(simulated))
    floor = metrics.noise_floor(torch.from_numpy(p), 500)
    assert floor == pytest.approx(simulated.mean(), abs=5 * error)
    assert error < 0.01 * floor
