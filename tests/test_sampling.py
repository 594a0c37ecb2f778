"""Drawing trajectories forwards and backwards, scoring them, and remembering what was found.

A test that draws says how often it would fail by chance if its seed were not fixed.
"""

import math
from itertools import combinations, product

import pytest
import torch
from torch import nn

from gfn_design.environments.hypergrid import Hypergrid
from gfn_design.environments.sequences.sequence import Sequence
from gfn_design.evaluation.exact import target_distribution, terminating_distribution
from gfn_design.fast.log_probabilities import log_probabilities as log_probabilities_fast
from gfn_design.fast.rollout import RollOut
from gfn_design.policies.mlp import MLP
from gfn_design.policies.policy import Policy
from gfn_design.sampling.histories import sample_backward
from gfn_design.sampling.log_probabilities import log_probabilities
from gfn_design.sampling.noise import CANDIDATES, EVALUATION, TRAINING, uniform_noise
from gfn_design.sampling.seen_objects import SeenObjects, object_keys
from gfn_design.sampling.trajectories import choose, sample
from gfn_design.tensors import masked_log_softmax

CPU = torch.device("cpu")
ORDERS = ["append", "prepend-append", "any"]
ENVIRONMENTS = [
    Hypergrid(1, 2),
    Hypergrid(2, 4),
    Hypergrid(3, 3),
    *(Sequence("ABC", 3, order) for order in ORDERS),
]
LARGEST = 1 - 2**-24  # the largest float32 below 1, and the largest that torch.rand draws


class Tabular(nn.Module):
    """Policies and a critic that look up their answers by the number of the state."""

    def __init__(self, environment, seed=0, spread=1.0):
        super().__init__()
        self.environment = environment
        generator = torch.Generator().manual_seed(seed)
        self.forward_logits, self.backward_logits, self.values = (
            nn.Buffer(spread * torch.randn(environment.n_states, n, generator=generator))
            for n in (environment.n_actions, environment.n_backward_actions, 1)
        )

    prior = None

    def backward_value(self, states):
        return None

    def forward_log_probs(self, states, legal, dtype=torch.float32):
        logits = self.forward_logits[self.environment.state_index(states)]
        return masked_log_softmax(logits.to(dtype), legal)

    def backward_log_probs(self, states, legal):
        return masked_log_softmax(self.backward_logits[self.environment.state_index(states)], legal)

    def value(self, states):
        return self.values[self.environment.state_index(states), 0]


def noise(environment, n, *key):
    return uniform_noise((n, environment.max_steps), CPU, *(key or (0,)))


def every_object(environment):
    return target_distribution(environment, lambda objects: torch.zeros(len(objects))).objects


def chi_square_p_value(counts, expected):
    """How often counts would be as far from the expected ones by chance."""
    statistic = ((counts - expected).square() / expected).sum()
    return float(
        torch.special.gammaincc(torch.tensor((len(counts) - 1) / 2).double(), statistic / 2)
    )


# One choice.


def test_choose_inverts_the_distribution_function():
    """Action a is drawn for u from the sum of the probabilities before it, up to its own."""
    log_probs = torch.tensor([0.25, 0, 0.5, 0.25]).log()
    uniform = [0, 0.2499, 0.25, 0.5, 0.7499, 0.75, LARGEST]
    chosen = choose(log_probs.expand(len(uniform), -1), torch.tensor(uniform))
    assert chosen.dtype == torch.int64
    assert chosen.tolist() == [0, 0, 2, 2, 2, 3, 3]


def test_choose_draws_each_action_as_often_as_it_should():
    """200,000 draws by chi-square; fails by chance once in a million."""
    n, probability = 200_000, torch.tensor([0.0, 0.5, 0.05, 0.0, 0.2, 0.25, 0.0])
    chosen = choose(probability.log().expand(n, -1), uniform_noise((n,), CPU, 0))
    counts = torch.bincount(chosen, minlength=7)
    legal = probability > 0
    assert counts[~legal].sum() == 0
    assert chi_square_p_value(counts[legal], n * probability[legal].double()) > 1e-6
    assert chi_square_p_value(counts[legal], torch.full((4,), n / 4).double()) < 1e-12


@pytest.mark.parametrize("uniform", [0.0, 2**-24, 0.5, 1 - 2**-23, LARGEST])
def test_choose_never_picks_what_is_illegal(uniform):
    """Every pattern of five actions that are illegal, hopeless (their probability rounds to zero),
    unlikely, likely or sure; what is picked is legal and has a probability.
    """
    logits = torch.tensor(list(product([-torch.inf, -200, -10, 0, 200], repeat=5)))
    legal = logits.isfinite()
    logits, legal = logits[legal.any(1)], legal[legal.any(1)]
    log_probs = masked_log_softmax(logits, legal)
    chosen = choose(log_probs, torch.full((len(logits),), uniform))[:, None]
    assert legal.gather(1, chosen).all()
    assert (log_probs.exp().gather(1, chosen) > 0).all()


def test_choose_never_picks_what_is_illegal_where_probabilities_sum_to_less_than_one():
    """Rounding leaves many sums below the largest u; the last legal action is then meant."""
    generator = torch.Generator().manual_seed(0)
    legal = torch.rand(20_000, 40, generator=generator) < 0.5
    log_probs = masked_log_softmax(torch.randn(20_000, 40, generator=generator), legal)
    assert (log_probs.exp().cumsum(1)[:, -1] <= LARGEST).sum() > 1000
    chosen = choose(log_probs, torch.full((20_000,), LARGEST))
    last = 39 - legal.flip(1).to(torch.uint8).argmax(1)
    assert torch.equal(chosen, last)


# Trajectories forwards.


def assert_well_formed(environment, trajectories):
    """Every step is legal and leads where it says; everything else is as documented."""
    states, actions, backward_actions, alive, log_reward = trajectories
    n, steps = actions.shape
    assert states.shape == (n, steps + 1, *environment.initial(1).shape[1:])
    assert torch.equal(states[:, 0], environment.initial(n))
    assert torch.equal(trajectories.objects, states[:, -1])
    assert (log_reward == 0).all()
    assert steps <= environment.max_steps
    assert alive[:, 0].all()
    assert alive[:, -1].any()  # padded to the longest, not beyond
    if environment.fixed_length:
        assert alive.all()
        assert steps == environment.max_steps
    stopped = torch.zeros(n, dtype=torch.bool)
    for t in range(steps):
        here, after, lives, action = states[:, t], states[:, t + 1], alive[:, t], actions[:, t]
        assert torch.equal(lives, ~stopped)
        stops = lives & (action == environment.stop)
        moves = lives & ~stops
        assert environment.legal(here[lives]).gather(1, action[lives, None]).all()
        child, undo = environment.step(here[moves], action[moves])
        assert torch.equal(after[moves], child)
        assert torch.equal(backward_actions[moves, t], undo)
        assert environment.legal_backward(child).gather(1, undo[:, None]).all()
        assert torch.equal(after[~moves], here[~moves])  # a stop and padding repeat the object
        assert (backward_actions[~moves, t] == 0).all()
        assert (action[~lives] == 0).all()
        stopped |= stops
    assert environment.fixed_length or stopped.all()


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=str)
def test_sampled_trajectories_are_well_formed(environment):
    for seed in range(3):
        trajectories = sample(environment, Tabular(environment, seed, 2.0), noise(environment, 500))
        assert_well_formed(environment, trajectories)
    lengths = trajectories.alive.sum(1)
    assert environment.fixed_length or len(lengths.unique()) == environment.max_steps


def test_a_trajectory_may_have_all_steps_or_one():
    """The largest u takes the last legal action, 0 the first: stop at once, or never before."""
    environment = Hypergrid(2, 4)
    policy = Tabular(environment)
    for u, steps in ((LARGEST, 1), (0.0, environment.max_steps)):
        trajectories = sample(environment, policy, torch.full((2, environment.max_steps), u))
        assert_well_formed(environment, trajectories)
        assert trajectories.actions.shape == (2, steps)


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=str)
def test_sample_is_a_function_of_the_noise(environment):
    """Equal noise gives equal trajectories; a row does not depend on the rest of the batch."""
    policy, uniform = Tabular(environment), noise(environment, 60)
    once = sample(environment, policy, uniform)
    torch.manual_seed(123)
    for left, right in zip(once, sample(environment, policy, uniform), strict=True):
        assert torch.equal(left, right)
    other = sample(environment, policy, noise(environment, 60, 1))
    assert not torch.equal(other.objects, once.objects)
    shuffled = torch.randperm(60)
    for rows in (shuffled, shuffled[:7], *shuffled[7:20, None]):
        some = sample(environment, policy, uniform[rows])
        steps = some.actions.shape[1]
        assert torch.equal(some.states, once.states[rows, : steps + 1])
        assert torch.equal(some.actions, once.actions[rows, :steps])
        assert torch.equal(some.backward_actions, once.backward_actions[rows, :steps])
        assert torch.equal(some.alive, once.alive[rows, :steps])
        assert not once.alive[rows, steps:].any()


# Trajectories backwards.


def score_by_hand(environment, policy, trajectories):
    """Log-probabilities and values one state at a time, straight from the tables."""
    shape = trajectories.actions.shape
    log_pf, log_pb, value, stops = (torch.zeros(shape) for _ in range(4))

    def log_prob(logits, legal, action):
        chosen = [float(logit) for logit, may in zip(logits, legal, strict=True) if may]
        return float(logits[action]) - math.log(sum(map(math.exp, chosen)))

    for i in range(shape[0]):
        state = environment.initial(1)
        for t in range(int(trajectories.alive[i].sum())):
            index, action = environment.state_index(state), trajectories.actions[i, t]
            legal = environment.legal(state)[0]
            log_pf[i, t] = log_prob(policy.forward_logits[index][0], legal, action)
            value[i, t] = policy.values[index]
            stops[i, t] = t == int(trajectories.alive[i].sum()) - 1
            if int(action) != environment.stop:
                state, undo = environment.step(state, action[None])
                logits = policy.backward_logits[environment.state_index(state)][0]
                log_pb[i, t] = log_prob(logits, environment.legal_backward(state)[0], undo[0])
        assert torch.equal(state[0], trajectories.objects[i])
    return {"log_pf": log_pf, "log_pb": log_pb, "value": value, "stops": stops.bool()}


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=str)
def test_backward_histories_are_well_formed_and_score_as_walked_forward(environment):
    """For every object, the hypergrid's source (whose history is the stop alone) among them."""
    policy, objects = Tabular(environment), every_object(environment).repeat(2, 1)
    uniform = noise(environment, len(objects))
    histories = sample_backward(environment, policy, objects, uniform)
    assert torch.equal(histories.objects, objects)
    assert_well_formed(environment, histories)
    steps = log_probabilities(environment, policy, histories)
    for name, wanted in score_by_hand(environment, policy, histories).items():
        assert torch.allclose(getattr(steps, name), wanted, atol=1e-6), name
    assert steps.log_pf.min() < steps.log_pf.max() <= 0
    assert torch.equal(steps.alive, histories.alive)


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=str)
def test_sampled_trajectories_score_as_walked(environment):
    policy = Tabular(environment)
    trajectories = sample(environment, policy, noise(environment, 50))
    trajectories = trajectories._replace(log_reward=torch.arange(50.0))
    steps = log_probabilities(environment, policy, trajectories)
    for name, wanted in score_by_hand(environment, policy, trajectories).items():
        assert torch.allclose(getattr(steps, name), wanted, atol=1e-6), name
    for field in (steps.log_pf, steps.log_pb, steps.value):
        assert (field[~trajectories.alive] == 0).all()
    assert torch.equal(steps.log_reward, torch.arange(50.0))


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=str)
def test_score_with_a_uniform_backward_policy_and_no_critic(environment):
    """P_B is one over the number of parents of the state that a move enters; values are zero."""
    policy = Policy(environment, MLP)
    trajectories = sample(environment, policy, noise(environment, 20))
    steps = log_probabilities(environment, policy, trajectories)
    assert torch.equal(steps.value, torch.zeros(trajectories.actions.shape))
    moves = trajectories.alive & (trajectories.actions != environment.stop)
    parents = environment.legal_backward(trajectories.states[:, 1:][moves]).sum(1)
    assert torch.allclose(steps.log_pb[moves].exp(), 1 / parents)
    assert (steps.log_pb[~moves] == 0).all()


@pytest.mark.parametrize("n", [1, 3])
def test_the_history_of_the_source_is_the_stop_alone(n):
    environment = Hypergrid(2, 4)
    policy, source = Tabular(environment), environment.initial(n)
    histories = sample_backward(environment, policy, source, noise(environment, n))
    assert_well_formed(environment, histories)
    assert histories.actions.tolist() == [[environment.stop]] * n
    steps = log_probabilities(environment, policy, histories)
    stop = policy.forward_log_probs(source, environment.legal(source))[:, environment.stop]
    assert torch.equal(steps.log_pf[:, 0], stop)
    assert (steps.log_pb == 0).all()


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=str)
def test_backward_histories_are_a_function_of_the_noise(environment):
    policy, objects = Tabular(environment), every_object(environment)
    uniform = noise(environment, len(objects))
    once = sample_backward(environment, policy, objects, uniform)
    some = sample_backward(environment, policy, objects[2:5], uniform[2:5])
    steps = some.actions.shape[1]
    assert torch.equal(some.states, once.states[2:5, : steps + 1])
    assert torch.equal(some.actions, once.actions[2:5, :steps])


SMALL = [Hypergrid(2, 3), *(Sequence("AB", 3, order) for order in ORDERS)]


def assert_mean(weights, wanted):
    """To five standard errors, which are small: each fails by chance once in a million."""
    error = float(weights.std()) / math.sqrt(len(weights))
    assert error < 0.02 * wanted
    assert float(weights.mean()) == pytest.approx(wanted, abs=5 * error + 1e-6 * wanted)


@pytest.mark.parametrize("environment", SMALL, ids=str)
def test_forward_trajectories_weighted_by_the_backward_policy_count_objects(environment):
    """E_{P_F}[P_B(trajectory | x) / P_F(trajectory)] = the number of objects."""
    policy = Tabular(environment, spread=0.7)
    trajectories = sample(environment, policy, noise(environment, 50_000))
    steps = log_probabilities(environment, policy, trajectories)
    weights = (steps.log_pb - steps.log_pf).sum(1).double().exp()
    assert_mean(weights, len(every_object(environment)))


@pytest.mark.parametrize("environment", SMALL, ids=str)
def test_backward_histories_weighted_by_the_forward_policy_give_the_law(environment):
    """E_{P_B(. | x)}[P_F(trajectory) / P_B(trajectory | x)] = P_T(x), for each object."""
    policy = Tabular(environment, spread=0.7)
    objects = every_object(environment)
    _, law = terminating_distribution(environment, policy)
    repeated = objects.repeat_interleave(30_000, 0)
    histories = sample_backward(environment, policy, repeated, noise(environment, len(repeated)))
    steps = log_probabilities(environment, policy, histories)
    weights = (steps.log_pf - steps.log_pb).sum(1).double().exp().view(len(objects), -1)
    for of_object, wanted in zip(weights, law.tolist(), strict=True):
        assert_mean(of_object, wanted)


# What reaches a network.


class Spy(nn.Module):
    """Counts the states that a network is given."""

    def __init__(self, environment, outputs):
        super().__init__()
        self.network, self.rows = MLP(environment, outputs, width=8, depth=1), 0

    def forward(self, states):
        self.rows += len(states)
        return self.network(states)


class Unnumbered(Hypergrid):
    """A hypergrid that pretends that its states cannot be numbered."""

    def __init__(self, ndim, height):
        super().__init__(ndim, height)
        self.n_states = None

    def state_index(self, states):
        raise TypeError("not numbered")


def spied(environment, backward):
    """A policy whose networks count, and what counts: for P_F, P_B and the critic."""
    policy = Policy(environment, Spy, backward, critic=Spy)
    spies = [policy.forward_policy, policy.backward_policy, policy.critic]

    def rows():
        seen = [spy.rows for spy in spies if spy is not None]
        for spy in filter(None, spies):
            spy.rows = 0
        return seen

    return policy, rows


@pytest.mark.parametrize("environment", [Hypergrid(2, 5), Sequence("ABC", 4, "any")], ids=str)
def test_a_network_sees_each_state_once(environment):
    """P_F and the critic see the states that steps leave, P_B those that moves enter."""
    policy, rows = spied(environment, "learned")
    drawn = sample(environment, policy, noise(environment, 30))
    rows()
    log_probabilities_fast(environment, policy, drawn)
    moves = drawn.alive & (drawn.actions != environment.stop)
    left = environment.state_index(drawn.states[:, :-1])[drawn.alive].unique()
    entered = environment.state_index(drawn.states[:, 1:])[moves].unique()
    assert len(left) < 0.6 * drawn.alive.sum()
    # Where lengths differ the source may come along, in the place of padding.
    more = rows()
    assert more[0] == more[2] == len(left)
    assert len(entered) <= more[1] <= len(entered) + (not environment.fixed_length)
    sample_backward(environment, policy, drawn.objects, noise(environment, 30))
    assert rows() == [0, int(moves.sum()), 0]


def test_a_shared_network_is_evaluated_once():
    environment = Hypergrid(2, 5)
    policy, rows = spied(environment, "shared")
    drawn = sample(environment, policy, noise(environment, 30))
    rows()
    steps = log_probabilities_fast(environment, policy, drawn)
    states = environment.state_index(drawn.states).unique()
    assert rows() == [len(states), len(states)]
    inner = drawn.states[:, 1][drawn.states[:, 1].any(1)]
    legal = environment.legal(inner), environment.legal_backward(inner)
    pf, pb = policy.log_probs(inner, *legal)
    torch.testing.assert_close(pf, policy.forward_log_probs(inner, legal[0]))
    torch.testing.assert_close(pb, policy.backward_log_probs(inner, legal[1]))
    steps.log_pf.sum().backward(retain_graph=True)
    steps.log_pb.sum().backward()
    assert all(p.grad.isfinite().all() for p in policy.forward_policy.parameters())


def test_where_states_are_not_numbered_only_real_ones_reach_a_network():
    policy, rows = spied(Unnumbered(2, 5), "learned")
    drawn = sample(Unnumbered(2, 5), policy, noise(Hypergrid(2, 5), 30))
    moves = drawn.alive & (drawn.actions != drawn.actions.max())
    rows()
    there = log_probabilities(Unnumbered(2, 5), policy, drawn)
    assert rows() == [drawn.alive.sum(), moves.sum(), drawn.alive.sum()]
    here = log_probabilities(Hypergrid(2, 5), policy, drawn)
    for left, right in zip(here, there, strict=True):
        torch.testing.assert_close(left, right)


def test_trajectories_that_have_stopped_are_dropped():
    """Every eight steps, where at least half have stopped; so at most about twice too many."""
    environment = Hypergrid(2, 64)
    policy, rows = spied(environment, "uniform")
    with torch.no_grad():
        policy.forward_policy.network.layers[-1].bias[environment.stop] -= 2
    drawn = RollOut(environment).sample(policy, noise(environment, 100))
    alive = drawn.alive.sum(0).tolist()
    assert sum(alive) < rows()[0] < 2 * sum(alive) + 8 * 100
    assert drawn.alive.shape[1] > 40
    assert alive[16] < 50


# Noise.


def test_noise_is_a_function_of_its_key():
    shape, key = (64, 9), (3, TRAINING, 0, 5)
    once = uniform_noise(shape, CPU, *key)
    torch.manual_seed(99)
    assert torch.equal(uniform_noise(shape, CPU, *key), once)
    assert once.shape == shape
    assert once.dtype == torch.float32


def test_noise_does_not_touch_the_global_generator():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    uniform_noise((5,), CPU, 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_noise_differs_between_seeds_streams_ranks_and_draws():
    """All of 2 x 3 x 3 x 4 keys, those with equal sums and swapped numbers among them.

    No two draws share more than a stray number, and none is correlated with another beyond six
    standard errors: fails by chance once in 100,000.
    """
    keys = list(product((0, 2**32 - 1), (TRAINING, EVALUATION, CANDIDATES), (0, 1, 2), range(4)))
    drawn = torch.stack([uniform_noise((1000,), CPU, *key) for key in keys])
    for left, right in combinations(drawn, 2):
        assert (left == right).sum() < 3
    correlation = torch.corrcoef(drawn).fill_diagonal_(0)
    assert correlation.abs().max() < 6 / math.sqrt(1000)


def test_noise_is_uniform():
    """200,000 numbers in 100 bins by chi-square; fails by chance once in a million."""
    drawn = uniform_noise((200_000,), CPU, 0)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = torch.bincount((drawn * 100).long(), minlength=100)
    assert chi_square_p_value(counts, torch.full((100,), 2000.0).double()) > 1e-6


# What was found.


@pytest.mark.parametrize("environment", [Hypergrid(2, 40), Sequence("protein", 50)], ids=str)
def test_found_counts_as_sets_do(environment):
    """By the number of the state, and by its hash; with one rank, and with two of them."""
    assert (environment.n_states is None) == (len(environment.slot_sizes) == 50)
    generator = torch.Generator().manual_seed(0)
    size = environment.slot_sizes[0]
    pool = torch.randint(size, (300, len(environment.slot_sizes)), generator=generator)
    found, texts = SeenObjects(environment), set()
    assert len(found) == found.count(pool) == 0
    for turn in range(6):
        for _ in range(turn):  # several batches between updates, and none
            objects = pool[torch.randint(200, (40,), generator=generator)]
            found.add(objects)
            texts |= set(environment.decode(objects))
        before = len(found)
        found.update(lambda keys: torch.stack([keys, keys.flip(0)]))
        assert before <= len(found) == len(texts)
        known = [text in texts for text in environment.decode(pool)]
        assert found.count(pool) == sum(known)
        assert torch.equal(found.keys, found.keys.sort().values)
    assert 50 < len(texts) < 300


def test_found_merges_what_other_ranks_found():
    environment = Hypergrid(1, 9)
    found = SeenObjects(environment)
    found.add(torch.tensor([[3], [3], [5]]))
    found.update(lambda keys: torch.stack([keys, torch.tensor([5, 7, 8])]))
    assert found.keys.tolist() == [3, 5, 7, 8]
    found.update(lambda keys: pytest.fail("nothing was noted since the last update"))


@pytest.mark.parametrize("environment", SMALL, ids=str)
def test_keys_are_numbers_of_states_where_there_are_some(environment):
    objects = every_object(environment)
    assert torch.equal(object_keys(environment, objects), environment.state_index(objects))


def all_different(objects):
    environment = Sequence("protein", 50)
    assert environment.n_states is None
    return len(object_keys(environment, objects).unique()) == len(objects.unique(dim=0))


def test_hashes_of_random_proteins_differ():
    """200,000 proteins of length 50; fails by chance less than once in ten million."""
    generator = torch.Generator().manual_seed(0)
    objects = torch.randint(20, (200_000, 50), generator=generator)
    assert len(objects.unique(dim=0)) == len(objects)
    assert all_different(objects)
    keys = object_keys(Sequence("protein", 50), objects)
    assert torch.equal(object_keys(Sequence("protein", 50), objects.flip(0)), keys.flip(0))


def test_hashes_of_similar_proteins_differ():
    """All single and neighbouring double mutants; all of two letters at either end, in order."""
    parent = torch.randint(20, (50,), generator=torch.Generator().manual_seed(0))
    mutants = [parent[None]]
    for j in range(49):
        pairs = parent.repeat(400, 1)
        pairs[:, j : j + 2] = torch.cartesian_prod(torch.arange(20), torch.arange(20))
        mutants.append(pairs)
    assert all_different(torch.cat(mutants))
    letters = torch.tensor(list(product([0, 1], repeat=14)))
    ends = [torch.zeros(len(letters), 50, dtype=torch.int64) for _ in range(2)]
    ends[0][:, :14], ends[1][:, -14:] = letters, letters
    assert all_different(torch.cat(ends))
