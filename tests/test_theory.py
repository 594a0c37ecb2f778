"""The theory, by enumeration: gradients, divergences, bounds, and what holds at the optimum alone.

Costs, values and objectives are those of Niu et al. (2024): J_F is the expected cost of a
trajectory of P_F, V_F(s) what is expected from s on, J_B and V_B the same for walking back.
"""

from functools import partial
from typing import get_args

import pytest
import torch
from common import model_of
from enumeration import (
    ENVIRONMENTS,
    UNCLIPPED,
    Tabular,
    assert_same,
    divergence,
    enumerated,
    exact_objective,
    exact_values,
    gradient,
    make_dyadic,
    make_dyadic_backward,
    rows,
    to_optimum,
)
from torch import nn

from gfn_design import (
    ActorCritic,
    BackwardActorCritic,
    BackwardBalance,
    DetailedBalance,
    FlowMatching,
    Hypergrid,
    HypergridData,
    LogVariance,
    ModifiedDetailedBalance,
    RewardGuide,
    Sequence,
    SoftQ,
    StopGuide,
    SubTrajectoryBalance,
    TrajectoryBalance,
    TrajectoryLikelihood,
    TrustRegion,
)
from gfn_design.fast.step import set_gradients
from gfn_design.objectives.actor_critic import step_costs, temporal_difference
from gfn_design.objectives.penalty import Shape
from gfn_design.objectives.sub_trajectories import Weighting
from gfn_design.sampling.edge_flows import edge_flows
from gfn_design.tensors import masked_log_softmax
from gfn_design.training.natural_gradient import conjugate_gradient, fisher_product

SHAPES, WEIGHTINGS = get_args(Shape), get_args(Weighting)


@pytest.fixture(params=ENVIRONMENTS, ids=str)
def whole(request):
    return enumerated(request.param)


def test_the_enumeration_is_whole(whole):
    """P_F sums to one over all trajectories, P_B(. | x) over those of each object."""
    steps = whole.score().detach()
    assert len(steps.alive) == {"Hypergrid": 19, "Sequence": 16}[type(whole.environment).__name__]
    assert float(steps.log_pf.sum(1).exp().sum()) == pytest.approx(1, abs=1e-12)
    backward = whole.same_object @ steps.log_pb.sum(1).exp()
    assert torch.allclose(backward, torch.ones_like(backward), rtol=0, atol=1e-12)


def test_expected_costs_are_a_divergence(whole):
    """E[sum of step costs] = KL(P_F || P_B R / Z*) + log Z - log Z*."""
    steps = whole.score().detach()
    p, q = steps.log_pf.sum(1).exp(), whole.log_target(steps).exp()
    assert float(q.sum()) == pytest.approx(1, abs=1e-12)
    for log_z in (0.0, 2.5):
        cost = step_costs(steps, torch.tensor(log_z)).sum(1)
        expected = float((p * (p / q).log()).sum() + log_z - whole.log_z)
        assert float((p * cost).sum()) == pytest.approx(expected, abs=1e-12)


def other_policy(whole):
    """The same environment, target and backward policy, with another forward policy."""
    policy = Tabular(whole.environment)
    policy.backward_logits.data = whole.policy.backward_logits.data
    return whole._replace(policy=policy)


def test_the_difference_of_two_policies_is_advantage_and_divergence(whole):
    """J_F(new) - J_F(old) = E_new[sum over steps of A_old + KL(new || old)], for any two policies.

    The divergence is there because the cost of a step holds the policy's own log-probability.
    """
    log_z = torch.tensor(0.7, dtype=torch.float64)
    other = other_policy(whole)
    old, new = whole.score().detach(), other.score().detach()
    costs = [step_costs(steps, log_z) for steps in (old, new)]
    objectives = [
        float((steps.log_pf.sum(1).exp() * cost.sum(1)).sum())
        for steps, cost in zip((old, new), costs, strict=True)
    ]
    value = whole.along(exact_values(whole, log_z), whole.trajectories.states[:, :-1]) * old.alive
    advantage = temporal_difference(costs[0], value)
    legal = old.log_policy > -torch.inf
    ratio = new.log_policy.where(legal, 0) - old.log_policy.where(legal, 0)
    change = (new.log_policy.exp() * ratio).sum(-1) * old.alive
    p = new.log_pf.sum(1).exp()
    found = [float((p * x.sum(1)).sum()) for x in (advantage, change)]
    assert sum(found) == pytest.approx(objectives[1] - objectives[0], abs=1e-12)
    assert min(map(abs, found)) > 0.05


def test_a_guided_objective_is_bounded_by_both_that_are_minimised():
    """J_F^G = J_F + E_F[g] <= J_F + J_B^G + max |g| sqrt(2 KL(P_F || P_B R / Z*)).

    g is log P_B - log P_G of a way to an object, and J_B^G its mean where objects come from P_F and
    ways from P_B; KL is J_F + log Z* - log Z. At the optimum the bound is an equality.
    """
    for seed in range(20):
        torch.manual_seed(seed)
        whole = enumerated(Hypergrid(2, 3))
        if seed % 4 == 0:
            to_optimum(whole)
        _, log_guide = guided(whole, "stop")
        now = whole.score().detach()
        g = ((now.log_pb - log_guide) * now.moves).sum(1)
        p, back = now.log_pf.sum(1).exp(), now.log_pb.sum(1).exp()
        drawn = whole.same_object @ p  # the probability of each trajectory's object
        cost = step_costs(now, torch.tensor(0.7)).sum(1)
        forward, backward = float((p * cost).sum()), float((drawn * back * g).sum())
        log_pg = (log_guide * now.moves).sum(1)
        guided_cost = cost + now.log_pb.sum(1) - log_pg
        apart = max(forward + float(whole.log_z) - 0.7, 0.0)
        bound = forward + backward + float(g.abs().max()) * (2 * apart) ** 0.5
        assert float((p * guided_cost).sum()) <= bound + 1e-6
        if seed % 4 == 0:
            assert float((p * guided_cost).sum()) == pytest.approx(bound, abs=1e-5)


# Trajectory balance in expectation.


def expected_loss(objective, now, weights):
    """The mean loss of batches of one trajectory, drawn with probability `weights`."""
    losses = [objective(rows(now, [i]), rows(now, [i]).detach()) for i in range(len(weights))]
    return sum(w * sum(loss.values()) for w, loss in zip(weights.detach(), losses, strict=True))


def test_balance_descends_the_divergence_of_the_forward_policy(whole):
    """On policy 1/2 E[grad S^2] = grad KL(P_F || P_B R / Z*) for P_F, whatever log Z is."""
    now = whole.score()
    log_p = now.log_pf.sum(1)
    divergence = (log_p.exp() * (log_p - whole.log_target(now))).sum()
    wanted = gradient(divergence, whole.policy.forward_logits)
    for log_z in (0.0, 3.0):
        objective = TrajectoryBalance(log_z, UNCLIPPED).double()
        half = expected_loss(objective, now, log_p.exp()) / 2
        assert_same(gradient(half, whole.policy.forward_logits), wanted)


def test_balance_descends_the_mean_score_for_log_z(whole):
    """On policy 1/2 E[d S^2 / d log Z] = E[S] = KL + log Z - log Z*."""
    now = whole.score()
    log_p = now.log_pf.sum(1)
    objective = TrajectoryBalance(0.7, UNCLIPPED).double()
    half = expected_loss(objective, now, log_p.exp()) / 2
    divergence = (log_p.exp() * (log_p - whole.log_target(now))).sum()
    assert_same(gradient(half, objective.log_z), divergence + objective.log_z - whole.log_z)


def test_balance_descends_the_divergence_of_the_backward_policy(whole):
    """Where x ~ rho and histories ~ P_B, 1/2 E[grad S^2] = grad E_rho KL(P_B(. | x) || P_F)."""
    now = whole.score()
    log_f, log_b = now.log_pf.sum(1), now.log_pb.sum(1)
    law = (whole.same_object @ log_f.exp()).detach()  # rho: of each trajectory's object
    divergence = (law * log_b.exp() * (log_b - log_f)).sum()
    objective = TrajectoryBalance(0.7, UNCLIPPED).double()
    half = expected_loss(objective, now, law * log_b.exp()) / 2
    wanted = gradient(divergence, whole.policy.backward_logits)
    assert_same(gradient(half, whole.policy.backward_logits), wanted)


def test_log_variance_descends_the_divergence(whole):
    """E[gradient] = 2 (n - 1) / n grad KL(P_F || P_B R / Z) for n independent trajectories.

    First for all pairs, then for a batch that holds each trajectory in proportion.
    """
    objective = LogVariance(0.0, UNCLIPPED).double()
    parameter = whole.policy.forward_logits
    now = whole.score()
    p, level = now.log_pf.sum(1).exp().detach(), range(len(now.alive))
    pairs = [rows(now, [i, j]) for i in level for j in level]
    weight = (p[:, None] * p).flatten()
    losses = [objective(pair, pair.detach())["balance"] for pair in pairs]
    expected = sum(w * loss for w, loss in zip(weight, losses, strict=True))
    assert_same(gradient(expected, parameter), gradient(divergence(whole), parameter))

    batch = make_dyadic(whole)
    now = rows(whole.score(), batch)
    loss = objective(now, now.detach())["balance"]
    assert_same(gradient(loss, parameter), 2 * gradient(divergence(whole), parameter))


# The actor-critic in expectation.


def test_actor_critic_descends_its_objective_with_any_critic(whole):
    """With lambda 1 E[A grad log P_F] = grad J_F, centring included: it takes the mean off every
    step of every trajectory alike, and E[grad log P_F] = 0. The critic's values are random.
    """
    batch = make_dyadic(whole)
    now = whole.score()
    wanted = gradient(exact_objective(now, 0.7), whole.policy.forward_logits)
    objective = ActorCritic(1.0, 1.0, 0.7, UNCLIPPED).double()
    losses = objective(rows(now, batch), rows(now, batch).detach())
    assert_same(gradient(losses["policy"], whole.policy.forward_logits), wanted)


@pytest.mark.parametrize("policy_lambda", [0.0, 0.5, 0.99])
def test_actor_critic_with_the_exact_critic_takes_any_lambda(whole, policy_lambda):
    """With V = V_F later differences are zero on average; a wrong critic then biases."""
    batch = make_dyadic(whole)
    objective = ActorCritic(policy_lambda, 1.0, 0.7, UNCLIPPED).double()

    def policy_gradient():
        now = whole.score()
        losses = objective(rows(now, batch), rows(now, batch).detach())
        return gradient(losses["policy"], whole.policy.forward_logits)

    wanted = gradient(exact_objective(whole.score(), 0.7), whole.policy.forward_logits)
    assert (policy_gradient() - wanted).abs().max() > 1e-3
    whole.policy.values.data[:, 0] = exact_values(whole, objective.log_z.detach())
    assert_same(policy_gradient(), wanted)


@pytest.mark.parametrize("critic_lambda", [0.0, 0.5, 1.0])
def test_the_exact_critic_is_where_its_loss_rests(whole, critic_lambda):
    """The expected gradient of the critic's loss is zero at V_F, and only there."""
    batch = make_dyadic(whole)
    objective = ActorCritic(1.0, critic_lambda, 0.7, UNCLIPPED).double()

    def critic_gradient():
        now = whole.score()
        losses = objective(rows(now, batch), rows(now, batch).detach())
        return gradient(losses["critic"], whole.policy.values)

    assert critic_gradient().abs().max() > 1e-3
    whole.policy.values.data[:, 0] = exact_values(whole, objective.log_z.detach())
    assert critic_gradient().abs().max() < 1e-12


def test_actor_critic_descends_the_mean_score_for_log_z(whole):
    """The gradient of the loss of log Z is V_F(s0)."""
    batch = make_dyadic(whole)
    now = whole.score()
    objective = ActorCritic(log_z=0.7, min_log_reward=UNCLIPPED).double()
    losses = objective(rows(now, batch), rows(now, batch).detach())
    found = gradient(losses["log_z"], objective.log_z)
    assert_same(found, exact_objective(now, objective.log_z))
    source = whole.environment.state_index(whole.environment.initial(1))
    assert_same(found, exact_values(whole, objective.log_z.detach())[source].squeeze())


# At the exact optimum, and away from it.


def test_at_the_optimum_every_residual_is_zero(whole):
    """log P_F = log P_B + log R - log Z* on each trajectory, whatever P_B is."""
    state_flow = to_optimum(whole)
    now, log_z = whole.score(), float(whole.log_z)
    balance = TrajectoryBalance(log_z, UNCLIPPED).double()
    balance.log_z.data = whole.log_z.detach()
    for i in range(len(now.alive)):
        assert float(balance(rows(now, [i]), rows(now, [i]))["balance"].detach()) < 1e-24
    costs = step_costs(now, whole.log_z)
    assert costs.abs().max() > 0.1
    assert costs.sum(1).abs().max() < 1e-12
    # The cost to go from s is log Z* - log F(s), on every trajectory: advantages are zero.
    whole.policy.values.data[:, 0] = (whole.log_z - state_flow.log()).nan_to_num(neginf=0, posinf=0)
    then = whole.score().detach()
    difference = temporal_difference(costs.detach(), then.value)
    assert difference.abs().max() < 1e-12
    assert then.value.abs().max() > 0.1


def balances(environment):
    """Every objective that is zero at the optimum, with every way to weigh."""
    found = [
        *(partial(SubTrajectoryBalance, 0.9, w, UNCLIPPED, s) for w in WEIGHTINGS for s in SHAPES),
        *(partial(DetailedBalance, UNCLIPPED, s) for s in SHAPES),
        *(partial(LogVariance, 0.0, UNCLIPPED, s) for s in SHAPES),
    ]
    if not environment.fixed_length:
        found += [partial(ModifiedDetailedBalance, 0.0, UNCLIPPED, s) for s in SHAPES]
    return found


def test_balance_holds_at_the_optimum_alone(whole):
    """Whatever P_B is. Away from it, and with a wrong log F where there is one, it costs."""
    makes, random = balances(whole.environment), whole.score()
    for make in makes:
        assert float(make().double()(random, random)["balance"].detach()) > 0.01, make
    flow = to_optimum(whole)
    whole.policy.values.data[:, 0] = flow.log().nan_to_num(neginf=0)
    best = whole.score()
    wrong = best._replace(value=best.value + random.value - best.value.detach())
    for make in makes:
        assert abs(float(make().double()(best, best)["balance"].detach())) < 1e-20, make
        # Where the only piece starts at the source, log F counts there alone.
        needs = make.func in (DetailedBalance, SubTrajectoryBalance)
        cost = float(make().double()(wrong, wrong)["balance"].detach())
        assert cost > 0.001 if needs else abs(cost) < 1e-20, make


class Flows:
    """A policy whose logits are looked up."""

    def __init__(self, whole):
        self.whole = whole

    def forward_logits(self, states):
        index = self.whole.environment.state_index(states)
        return self.whole.policy.forward_logits[index]


@pytest.mark.parametrize("shape", SHAPES)
def test_flows_match_at_the_optimum_alone(whole, shape):
    """With log F(s, a) for logits, in float32; and so whatever P_B is."""
    objective = FlowMatching(1e-12, shape=shape)
    totals = []
    for best in (False, True):
        if best:
            to_optimum(whole)
        edges = edge_flows(whole.environment, Flows(whole), whole.trajectories)
        steps = whole.score()._replace(edges=edges)
        totals.append(float(sum(objective(steps, steps).values()).detach()))
    assert totals[0] > 0.1
    assert totals[1] < 1e-10


@pytest.mark.parametrize("munchausen", [0.0, 0.15, 0.9])
def test_soft_q_rests_at_the_optimum_alone(whole, munchausen):
    """With V = log F, and the slow copy equal to the networks."""
    objective = SoftQ(munchausen, lowest=-1e9, min_log_reward=UNCLIPPED).double()
    random = whole.score()
    assert float(objective(random, random.detach())["q"].detach()) > 0.1
    flow = to_optimum(whole)
    whole.policy.values.data[:, 0] = flow.log().nan_to_num(neginf=0)
    best = whole.score()
    assert float(objective(best, best.detach())["q"].detach()) < 1e-20
    assert objective.errors.shape == best.alive.shape


@pytest.mark.parametrize("make", [LogVariance, ModifiedDetailedBalance])
def test_log_z_is_read_off_at_the_optimum(make):
    """Where no parameter is log Z, the estimate rests at the truth."""
    grid = enumerated(Hypergrid(2, 3))
    to_optimum(grid)
    objective, now = make(0.0, UNCLIPPED).double(), grid.score()
    (slope,) = torch.autograd.grad(objective(now, now)["log_z"], objective.log_z)
    assert float(slope) == pytest.approx(-2 * float(grid.log_z), rel=1e-10)


# The critic of pieces (Sub-EB).


def sub_eb(log_z=0.7, decay=0.9):
    return ActorCritic(1.0, decay, log_z, UNCLIPPED, "sub_balance").double()


def test_the_critic_of_sub_trajectories_is_exact_at_the_optimum(whole):
    """There V_F(s) = log Z_estimate - log F(s), for any estimate of log Z; nothing else is free."""
    objective = sub_eb()
    flow = to_optimum(whole)
    log_z = objective.log_z.detach()
    whole.policy.values.data[:, 0] = (log_z - flow.log()).nan_to_num(posinf=0)
    now = whole.score()
    assert float(objective(now, now.detach())["critic"].detach()) < 1e-20
    wrong = now._replace(value=-now.value)
    assert float(objective(wrong, wrong.detach())["critic"].detach()) > 0.1


def test_the_critic_of_sub_trajectories_does_not_rest_at_the_cost_of_any_policy(whole):
    """Squares of single draws: away from the optimum the exact critic has a gradient."""
    batch, objective = make_dyadic(whole), sub_eb()
    whole.policy.values.data[:, 0] = exact_values(whole, objective.log_z.detach())
    now = rows(whole.score(), batch)
    critic = objective(now, now.detach())["critic"]
    assert gradient(critic, whole.policy.values).abs().max() > 1e-3


def least_squares(whole, objective, batch):
    """The values at which the critic's expected loss, which is quadratic in them, is least."""
    index = whole.environment.state_index(whole.trajectories.states[:, :-1].flatten(0, 1))
    visited = index[whole.trajectories.alive.flatten()].unique()
    now = rows(whole.score().detach(), batch)
    states = whole.trajectories.states[batch, :-1]

    def loss(x):
        table = torch.zeros(whole.environment.n_states, dtype=torch.float64)
        steps = now._replace(value=whole.along(table.index_put((visited,), x), states) * now.alive)
        return objective(steps, now)["critic"]

    zero = torch.zeros(len(visited), dtype=torch.float64)
    slope = torch.autograd.functional.jacobian(loss, zero)
    curvature = torch.autograd.functional.hessian(loss, zero)
    return visited, -torch.linalg.solve(curvature, slope)


def test_the_least_error_of_sub_trajectories_is_the_value_at_the_optimum_alone(whole):
    """Away from it the best table of Sub-EB misses V_F; that of returns never does."""
    batch = make_dyadic(whole)
    wanted = exact_values(whole, torch.tensor(0.7, dtype=torch.float64))
    visited, found = least_squares(whole, sub_eb(), batch)
    assert (found - wanted[visited]).abs().max() > 0.05
    returns = ActorCritic(1.0, 1.0, 0.7, UNCLIPPED).double()
    visited, found = least_squares(whole, returns, batch)
    assert (found - wanted[visited]).abs().max() < 1e-6
    flow = to_optimum(whole)
    everyone = torch.arange(len(whole.trajectories.alive))
    visited, found = least_squares(whole, sub_eb(), everyone)
    wanted = 0.7 - flow.log()
    assert (found - wanted[visited]).abs().max() < 1e-5


# The backward policy in expectation.


def guided(whole, name):
    """A guide, and log P_G of each step of all trajectories."""
    if name == "none":
        return None, None
    trajectories, environment = whole.trajectories, whole.environment
    steps = whole.score()
    if name == "stop":
        guide = StopGuide(1.0, 1e-3)
    else:
        guide = RewardGuide()
        guide.prepare(environment)
        guide.observe(environment, trajectories.objects, trajectories.log_reward)
    table = torch.zeros(environment.n_states, dtype=torch.float64)
    table[environment.state_index(trajectories.objects)] = trajectories.log_reward
    log_guide = guide(
        environment, trajectories, steps, lambda objects: table[environment.state_index(objects)]
    )
    return guide, log_guide.double().detach()


def guides_of(whole):
    return ["none", "reward" if whole.environment.fixed_length else "stop"]


def backward_divergence(whole, law, log_guide):
    """E_x KL(P_B(. | x) || P_F), or P_G, but for what does not depend on P_B."""
    now = whole.score()
    log_b = now.log_pb.sum(1)
    goal = now.log_pf if log_guide is None else log_guide
    return (law * log_b.exp() * (log_b - goal.detach().where(now.moves, 0).sum(1))).sum()


def backward_losses(whole, objective, batch, log_guide):
    now = whole.score()._replace(log_guide=log_guide)
    now = rows(now, batch)
    return objective(now, now.detach(), torch.tensor(0.4, dtype=torch.float64))


def test_the_backward_actor_critic_descends_its_divergence_with_any_critic(whole):
    """With lambda 1 and a critic of random values, with and without a guide."""
    batch, law = make_dyadic_backward(whole)
    for name in guides_of(whole):
        guide, log_guide = guided(whole, name)
        wanted = gradient(backward_divergence(whole, law, log_guide), whole.policy.backward_logits)
        losses = backward_losses(whole, BackwardActorCritic(guide), batch, log_guide)
        assert_same(gradient(losses["policy"], whole.policy.backward_logits), wanted)


def backward_values(whole):
    """V_B(s): the mean cost back to the source over the histories of objects above s."""
    now = whole.score().detach()
    weight = now.log_pb.sum(1).exp()[:, None] * now.moves
    cost = (now.log_pb - now.log_pf) * now.moves
    entered = whole.trajectories.states[:, 1:].flatten(0, 1)
    index = whole.environment.state_index(entered)
    zeros = torch.zeros(whole.environment.n_states, dtype=torch.float64)
    total = zeros.index_add(0, index, (weight * cost.cumsum(1)).flatten())
    visits = zeros.index_add(0, index, weight.flatten())
    return torch.where(visits > 0, total / visits, 0)


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_the_exact_backward_critic_takes_any_lambda_and_is_where_its_loss_rests(whole, decay):
    batch, law = make_dyadic_backward(whole)
    objective, policy = BackwardActorCritic(None, decay, decay), whole.policy
    wanted = gradient(backward_divergence(whole, law, None), policy.backward_logits)
    losses = backward_losses(whole, objective, batch, None)
    assert gradient(losses["critic"], policy.backward_values).abs().max() > 1e-3
    if decay < 1:
        found = gradient(losses["policy"], policy.backward_logits)
        assert (found - wanted).abs().max() > 1e-3
    policy.backward_values.data[:, 0] = backward_values(whole)
    losses = backward_losses(whole, objective, batch, None)
    assert_same(gradient(losses["policy"], policy.backward_logits), wanted)
    assert gradient(losses["critic"], policy.backward_values).abs().max() < 1e-12


def test_backward_balance_descends_the_same_divergence(whole):
    """Its expected gradient is twice that, whatever log Z and the rewards are."""
    batch, law = make_dyadic_backward(whole)
    for name in guides_of(whole):
        guide, log_guide = guided(whole, name)
        wanted = gradient(backward_divergence(whole, law, log_guide), whole.policy.backward_logits)
        losses = backward_losses(whole, BackwardBalance(guide), batch, log_guide)
        assert_same(gradient(losses["balance"], whole.policy.backward_logits), 2 * wanted)


def test_trajectory_likelihood_is_maximum_likelihood(whole):
    batch = make_dyadic(whole)
    now = whole.score()
    wanted = -(now.log_pf.sum(1).exp().detach() * now.log_pb.sum(1)).sum()
    losses = backward_losses(whole, TrajectoryLikelihood(), batch, None)
    found = gradient(losses["likelihood"], whole.policy.backward_logits)
    assert_same(found, gradient(wanted, whole.policy.backward_logits))


def to_posterior(whole):
    """P_B(parent | s) = the share of P_F's way to s that comes through the parent."""
    now = whole.score().detach()
    environment, trajectories = whole.environment, whole.trajectories
    mass = torch.zeros(environment.n_states, dtype=torch.float64)
    edge = torch.zeros_like(whole.policy.backward_logits.data)
    seen = {}
    for i, moves in enumerate(now.moves.tolist()):
        for t in range(sum(moves)):
            keys = environment.state_index(trajectories.states[i, : t + 2])
            actions = tuple(trajectories.actions[i, : t + 1].tolist())
            seen[(*keys.tolist(), *actions)] = (i, t)  # each beginning once
    for i, t in seen.values():
        index = environment.state_index(trajectories.states[i, t + 1][None])[0]
        share = now.log_pf[i, : t + 1].sum().exp()
        mass[index] += share
        edge[index, trajectories.backward_actions[i, t]] += share
    whole.policy.backward_logits.data = edge.log().clamp(min=-1e3)


def test_the_posterior_costs_nothing_to_walk_back(whole):
    """Where P_B(. | x) = P_F(. | x), which a Markov P_B is, the cost of every history of an object
    is the same, V_B is exact with zero error, and nothing moves the backward policy.
    """
    to_posterior(whole)
    now = whole.score()
    cost = ((now.log_pb - now.log_pf) * now.moves).detach()
    assert cost.abs().max() > 0.1
    goal = whole.same_object @ (now.log_pf * now.moves).sum(1).exp().detach()
    assert torch.allclose(cost.sum(1), -goal.log(), rtol=0, atol=1e-12)
    whole.policy.backward_values.data[:, 0] = backward_values(whole)
    now = whole.score()
    losses = BackwardActorCritic()(now, now.detach(), torch.tensor(0.0))
    assert float(losses["critic"].detach()) < 1e-24
    assert gradient(losses["policy"], whole.policy.backward_logits).abs().max() < 1e-12
    to_optimum(whole)
    balance = BackwardBalance()
    now = whole.score()
    assert float(balance(now, now.detach(), whole.log_z)["balance"].detach()) < 1e-20
    whole.policy.backward_logits.data.normal_()
    now = whole.score()
    assert float(balance(now, now.detach(), whole.log_z)["balance"].detach()) > 0.1


def test_balance_with_a_guide_of_ways_to_an_object_is_zero_at_the_guide():
    """Then neither log Z nor the reward enters: it is the two laws of ways that are compared."""
    whole = enumerated(Sequence("AB", 2, "prepend-append"))
    guide, log_guide = guided(whole, "reward")
    now = whole.score()._replace(log_guide=log_guide)
    same = now._replace(log_pb=log_guide)
    for log_z in (0.0, 5.0):
        for steps, good in ((same, True), (now, False)):
            loss = BackwardBalance(guide)(steps, steps.detach(), torch.tensor(log_z))["balance"]
            assert (float(loss.detach()) < 1e-24) == good


# The trust region, where the policy is a table.


class Table(nn.Module):
    """Logits by the number of the state."""

    def __init__(self, environment):
        super().__init__()
        self.environment = environment
        self.logits = nn.Parameter(torch.randn(environment.n_states, environment.n_actions))

    def forward(self, states):
        return self.logits[self.environment.state_index(states)]


def test_the_fisher_product_of_a_table_is_the_analytic_matrix():
    """diag p - p p^T for each state, p being zero where an action is not legal."""
    torch.manual_seed(0)
    environment = Hypergrid(2, 3)
    network = Table(environment).double()
    states = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    legal, weight = environment.legal(states), torch.rand(9, dtype=torch.float64)
    product, _ = fisher_product(network, states, legal, weight)
    blocks = []
    for row in range(9):
        p = masked_log_softmax(network.logits[row], legal[row]).exp().detach()
        blocks.append(weight[row] * (p.diag() - p[:, None] * p))
    matrix = torch.block_diag(*blocks)
    for _ in range(3):
        v = torch.randn(27, dtype=torch.float64)
        torch.testing.assert_close(product(v), matrix @ v)
    damped = conjugate_gradient(lambda v: product(v) + 0.1 * v, v, 60, tolerance=1e-24)
    wanted = torch.linalg.solve(matrix + 0.1 * torch.eye(27, dtype=torch.float64), v)
    torch.testing.assert_close(damped, wanted)


def test_a_step_of_the_trust_region_is_the_analytic_one():
    """old - share * sqrt(2 delta / d g) d, with d the solution of (F + damping) d = g and
    F = diag p - p p^T for each state, times its visits in a trajectory.
    """
    environment, delta, damping = Hypergrid(2, 3), 1e-3, 0.05
    objective = TrustRegion(delta, damping, conjugate_steps=60)
    model = model_of(environment, objective, lambda environment, _: Table(environment), draw_seed=0)
    optimizer = model.use(HypergridData()).configure_optimizers()
    batch, losses, gradients = model.next_step()
    set_gradients(optimizer, losses, gradients)
    logits = model.policy.forward_policy.logits
    old, g = logits.detach().double().clone(), logits.grad.double().flatten()
    optimizer.step()
    left = batch.drawn.states[:, :-1][batch.drawn.alive]
    counts = torch.bincount(environment.state_index(left), minlength=9) / model.batch_size
    states = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    p = masked_log_softmax(old, environment.legal(states)).exp()
    blocks = [c * (row.diag() - row[:, None] * row) for c, row in zip(counts, p, strict=True)]
    matrix = torch.block_diag(*blocks) + damping * torch.eye(27, dtype=torch.float64)
    d = torch.linalg.solve(matrix, g)
    wanted = optimizer.report["step"] * (2 * delta / d.dot(g)).sqrt() * d
    assert optimizer.report["step"] > 0
    found = (old - logits.detach()).flatten()
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)
    assert found.abs().max() > 1e-2
