"""Objectives: expected gradients by enumeration, hand-made references, and who learns from what.

Expectations run over all trajectories of a small environment, with policies that are tables of
logits in float64; nothing is drawn, so nothing can fail by chance.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gfn_design.environments.base import Environment
from gfn_design.environments.hypergrid import Hypergrid
from gfn_design.environments.sequence import Sequence
from gfn_design.objectives.actor_critic import (
    ActorCritic,
    lambda_sum,
    step_costs,
    temporal_difference,
)
from gfn_design.objectives.balance import TrajectoryBalance
from gfn_design.policies.mlp import MLP
from gfn_design.policies.policy import Policy, masked_log_softmax
from gfn_design.sampling.noise import uniform_noise
from gfn_design.sampling.trajectories import Scored, Trajectories, sample, score

CPU = torch.device("cpu")
ENVIRONMENTS = [Hypergrid(2, 3), Sequence("AB", 2, "prepend-append")]
UNCLIPPED = -float("inf")


class Tabular(nn.Module):
    """Policies and a critic that look up their answers by the number of the state."""

    def __init__(self, environment):
        super().__init__()
        self.environment = environment
        rows, columns = (
            environment.n_states,
            (environment.n_actions, environment.n_backward_actions),
        )
        self.forward_logits, self.backward_logits, self.values = (
            nn.Parameter(torch.randn(rows, n, dtype=torch.float64)) for n in (*columns, 1)
        )

    shared = False
    backward_critic = None

    def forward_log_probs(self, states, legal):
        return masked_log_softmax(self.forward_logits[self.environment.state_index(states)], legal)

    def backward_log_probs(self, states, legal):
        return masked_log_softmax(self.backward_logits[self.environment.state_index(states)], legal)

    def value(self, states):
        return self.values[self.environment.state_index(states), 0]


def every_trajectory(environment):
    """All complete trajectories, stored as documented, with random log-rewards of the objects."""
    finished = []
    unfinished = [(environment.initial(1), [], [])]
    while unfinished:
        states, actions, undone = unfinished.pop()
        legal = environment.legal(states[-1:])[0]
        if environment.fixed_length and len(actions) == environment.max_steps:
            finished.append((states, actions, undone))
            continue
        for action in legal.nonzero().squeeze(1):
            if int(action) == environment.stop:
                after, undo = states[-1:], 0
            else:
                after, undo = environment.step(states[-1:], action[None])
            longer = (torch.cat([states, after]), [*actions, int(action)], [*undone, int(undo)])
            (finished if int(action) == environment.stop else unfinished).append(longer)
    steps = max(len(actions) for _, actions, _ in finished)
    pad = partial(torch.nn.functional.pad, value=0)
    objects = torch.stack([states[-1] for states, _, _ in finished])
    log_reward = torch.randn(environment.n_states, dtype=torch.float64)
    return Trajectories(
        torch.stack([s[torch.arange(steps + 1).clamp(max=len(a))] for s, a, _ in finished]),
        torch.stack([pad(torch.tensor(a), (0, steps - len(a))) for _, a, _ in finished]),
        torch.stack([pad(torch.tensor(b), (0, steps - len(b))) for _, _, b in finished]),
        torch.stack([torch.arange(steps) < len(a) for _, a, _ in finished]),
        log_reward[environment.state_index(objects)],
    )


class Whole(NamedTuple):
    """An environment with all its trajectories, and what the target is there."""

    environment: Environment
    policy: Tabular
    trajectories: Trajectories
    same_object: Tensor  # float64[trajectories, trajectories]
    log_z: Tensor  # log Z*

    def score(self):
        """All trajectories under the policy; the critic in float64, which `score` rounds."""
        scored = score(self.environment, self.policy, self.trajectories)
        states, alive = self.trajectories.states[:, :-1], self.trajectories.alive
        return scored._replace(
            value=self.policy.value(states.flatten(0, 1)).view(alive.shape) * alive
        )

    def log_target(self, scored):
        """log of P_B(trajectory | x) R(x) / Z* of each trajectory."""
        return scored.log_pb.sum(1) + scored.log_reward - self.log_z


@pytest.fixture(params=ENVIRONMENTS, ids=str)
def whole(request):
    torch.manual_seed(0)
    environment = request.param
    policy, trajectories = Tabular(environment), every_trajectory(environment)
    objects = environment.state_index(trajectories.objects)
    same = (objects[:, None] == objects).double()
    rewards = trajectories.log_reward.exp() / same.sum(1)  # each object counts once
    return Whole(environment, policy, trajectories, same, rewards.sum().log())


def rows(scored, index):
    return Scored(*(None if field is None else field[index] for field in scored))


def expected_loss(objective, now, weights):
    """The mean loss of batches of one trajectory, drawn with probability `weights`."""
    losses = [objective(rows(now, [i]), rows(now, [i]).detach()) for i in range(len(weights))]
    return sum(w * sum(loss.values()) for w, loss in zip(weights.detach(), losses, strict=True))


def gradient(loss, parameter):
    (answer,) = torch.autograd.grad(loss, parameter, retain_graph=True)
    return answer


def assert_same(left, right, atol=1e-12):
    """Equal, and not trivially so."""
    assert left.abs().max() > 1e-3
    assert torch.allclose(left, right, rtol=0, atol=atol), (left - right).abs().max()


def test_the_enumeration_is_whole(whole):
    """P_F sums to one over all trajectories, P_B(. | x) over those of each object."""
    scored = whole.score().detach()
    assert len(scored.alive) == {"Hypergrid": 19, "Sequence": 16}[type(whole.environment).__name__]
    assert float(scored.log_pf.sum(1).exp().sum()) == pytest.approx(1, abs=1e-12)
    backward = whole.same_object @ scored.log_pb.sum(1).exp()
    assert torch.allclose(backward, torch.ones_like(backward), rtol=0, atol=1e-12)


# Trajectory balance in expectation.


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


# The actor-critic in expectation.


def make_dyadic(whole):
    """Give the forward policy probabilities in quarters or eighths, and return a batch that holds
    every trajectory exactly in proportion to its probability: a batch mean is an expectation.
    """
    portions = {1: [1], 2: [1, 3], 3: [1, 1, 2], 4: [1, 2, 2, 3]}
    logits = whole.policy.forward_logits
    for state in whole.trajectories.states.flatten(0, 1).unique(dim=0):
        (legal,) = whole.environment.legal(state[None])
        if legal.any():
            shares = torch.tensor(portions[int(legal.sum())]).double()
            shares = shares[torch.randperm(len(shares))]
            logits.data[whole.environment.state_index(state[None]), legal] = shares.log()
    probability = whole.score().log_pf.sum(1).exp().detach()
    size = {"Hypergrid": 256, "Sequence": 64}[type(whole.environment).__name__]
    counts = (size * probability).round().long()
    assert torch.allclose(counts.double(), size * probability, rtol=1e-12, atol=0)
    assert counts.sum() == size
    return torch.arange(len(counts)).repeat_interleave(counts)


def exact_values(whole, log_z):
    """V_F(s): the mean cost to go over the trajectories through s."""
    scored = whole.score().detach()
    weight = scored.log_pf.sum(1).exp()[:, None] * scored.alive
    to_go = lambda_sum(step_costs(scored, log_z, UNCLIPPED), 1)
    visited = whole.environment.state_index(whole.trajectories.states[:, :-1].flatten(0, 1))
    zeros = torch.zeros(whole.environment.n_states, dtype=torch.float64)
    total = zeros.index_add(0, visited, (weight * to_go).flatten())
    visits = zeros.index_add(0, visited, weight.flatten())
    return torch.where(visits > 0, total / visits, 0)


def exact_objective(now, log_z):
    """J_F = E[S], with the gradient of the expectation itself."""
    log_p = now.log_pf.sum(1)
    return (log_p.exp() * (log_p - now.log_pb.sum(1) - now.log_reward + log_z)).sum()


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


def to_optimum(whole):
    """F(s, a) = sum of R(x) P_B(history | x) over the trajectories that take a in s."""
    log_flow = whole.log_target(whole.score()) + whole.log_z
    steps = whole.trajectories.alive
    state = whole.environment.state_index(whole.trajectories.states[:, :-1].flatten(0, 1))
    flow = torch.zeros_like(whole.policy.forward_logits)
    where = (state[steps.flatten()], whole.trajectories.actions[steps])
    flow.index_put_(where, log_flow.exp()[:, None].expand(steps.shape)[steps], accumulate=True)
    whole.policy.forward_logits.data = flow.log().clamp(min=-1e3).detach()
    return flow.sum(1).detach()


def test_at_the_optimum_every_residual_is_zero(whole):
    """log P_F = log P_B + log R - log Z* on each trajectory, whatever P_B is."""
    state_flow = to_optimum(whole)
    now, log_z = whole.score(), float(whole.log_z)
    balance = TrajectoryBalance(log_z, UNCLIPPED).double()
    balance.log_z.data = whole.log_z.detach()
    for i in range(len(now.alive)):
        assert float(balance(rows(now, [i]), rows(now, [i]))["balance"].detach()) < 1e-24
    costs = step_costs(now, whole.log_z, UNCLIPPED)
    assert costs.abs().max() > 0.1
    assert costs.sum(1).abs().max() < 1e-12
    # The cost to go from s is log Z* - log F(s), on every trajectory: advantages are zero.
    whole.policy.values.data[:, 0] = (whole.log_z - state_flow.log()).nan_to_num(neginf=0, posinf=0)
    then = whole.score().detach()
    difference = temporal_difference(costs.detach(), then.value)
    assert difference.abs().max() < 1e-12
    assert then.value.abs().max() > 0.1


def test_expected_costs_are_a_divergence(whole):
    """E[sum of step costs] = KL(P_F || P_B R / Z*) + log Z - log Z*."""
    scored = whole.score().detach()
    p, q = scored.log_pf.sum(1).exp(), whole.log_target(scored).exp()
    assert float(q.sum()) == pytest.approx(1, abs=1e-12)
    for log_z in (0.0, 2.5):
        cost = step_costs(scored, torch.tensor(log_z), UNCLIPPED).sum(1)
        expected = float((p * (p / q).log()).sum() + log_z - whole.log_z)
        assert float((p * cost).sum()) == pytest.approx(expected, abs=1e-12)


# Sums over time.


def double_loop(x, decay):
    """y[t] = sum over k >= t of decay^(k - t) x[k], with 0^0 = 1."""
    return np.array(
        [
            [sum(decay ** (k - t) * row[k] for k in range(t, len(row))) for t in range(len(row))]
            for row in x
        ]
    )


@pytest.mark.parametrize("decay", [0, 0.5, 0.99, 1])
def test_lambda_sum(decay):
    x = torch.randn(5, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert np.allclose(lambda_sum(x, decay), double_loop(x.tolist(), decay), rtol=0, atol=1e-12)


@given(
    x=st.integers(1, 9).flatmap(
        lambda steps: st.lists(
            st.lists(st.floats(-1e3, 1e3), min_size=steps, max_size=steps), min_size=1, max_size=3
        )
    ),
    decay=st.sampled_from([0.0, 1.0]) | st.floats(0, 1),
)
def test_lambda_sum_of_anything(x, decay):
    found = lambda_sum(torch.tensor(x, dtype=torch.float64), decay)
    assert np.allclose(found, double_loop(x, decay), rtol=1e-12, atol=1e-9)


def test_lambda_sum_stays_in_float32():
    for decay in (0, 0.5, 1):
        assert lambda_sum(torch.ones(2, 3), decay).dtype == torch.float32


def random_scored(n=6, steps=7, seed=0):
    """Trajectories of 1 to `steps` steps, with random numbers where they are alive."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.arange(n) % steps + 1
    alive = torch.arange(steps) < lengths[:, None]
    log_pf, log_pb, value = (
        torch.randn(3, n, steps, generator=generator, dtype=torch.float64) * alive
    )
    log_reward = 10 * torch.randn(n, generator=generator, dtype=torch.float64)
    stops = torch.arange(steps) == lengths[:, None] - 1
    return Scored(log_pf, log_pb, value, alive, stops, alive & ~stops, log_reward)


def test_lambda_one_gives_the_return_less_the_value():
    """sum over k >= t of cost[k] + value[k + 1] - value[k] telescopes."""
    scored = random_scored()
    cost = step_costs(scored, torch.tensor(0.3), -12.0)
    advantage = lambda_sum(temporal_difference(cost, scored.value), 1)
    to_go = torch.from_numpy(double_loop(cost.tolist(), 1))
    assert torch.allclose(advantage, to_go - scored.value, rtol=0, atol=1e-12)
    assert (advantage[~scored.alive] == 0).all()


# Against the formulas, one trajectory and one step at a time.


def actor_critic_by_hand(now, then, policy_lambda, critic_lambda, log_z, smallest):
    """Section 3.5 of the specification; also the gradient of the policy's loss for log P_F."""
    advantages, targets, means = [], [], []
    for i, alive in enumerate(then.alive.tolist()):
        steps = sum(alive)
        cost = [float(then.log_pf[i, t] - then.log_pb[i, t]) for t in range(steps)]
        cost[-1] += log_z - max(float(then.log_reward[i]), smallest)
        value = [*then.value[i, :steps].tolist(), 0.0]
        delta = [cost[t] + value[t + 1] - value[t] for t in range(steps)]
        (ahead,), (further,) = (double_loop([delta], x) for x in (policy_lambda, critic_lambda))
        advantages.append(ahead)
        targets.append(further + value[:-1])
        means.append(sum(cost))
    centre = np.concatenate(advantages).mean()
    n, policy, critic = len(means), 0.0, 0.0
    slope = np.zeros(now.log_pf.shape)
    for i, (advantage, target) in enumerate(zip(advantages, targets, strict=True)):
        steps = len(target)
        slope[i, :steps] = (advantage - centre) / n
        policy += float((slope[i, :steps] * now.log_pf[i, :steps].detach().numpy()).sum())
        critic += float(((target - now.value[i, :steps].detach().numpy()) ** 2).sum()) / n
    return {"policy": policy, "critic": critic, "log_z": log_z * np.mean(means)}, slope


@pytest.mark.parametrize("smallest", [UNCLIPPED, -12.0, -1.0])
@pytest.mark.parametrize(("policy_lambda", "critic_lambda"), [(0.99, 1.0), (1.0, 0.9), (0, 0.5)])
def test_actor_critic_by_hand(policy_lambda, critic_lambda, smallest):
    then, now = random_scored(seed=0), random_scored(seed=1)
    now = now._replace(log_pf=now.log_pf.requires_grad_(), value=now.value.requires_grad_())
    then = then._replace(log_reward=then.log_reward - 5)
    assert (then.log_reward < -12).any()
    assert (then.log_reward > -1).any()
    objective = ActorCritic(policy_lambda, critic_lambda, 0.3, smallest).double()
    wanted, slope = actor_critic_by_hand(
        now, then, policy_lambda, critic_lambda, objective.log_z.item(), smallest
    )
    losses = objective(now, then)
    assert list(losses) == list(wanted)
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(wanted[name], abs=1e-12), name
    found = torch.where(now.alive, gradient(losses["policy"], now.log_pf), 0)
    assert np.allclose(found, slope, rtol=0, atol=1e-12)


def test_critic_target_with_lambda_one_is_the_return():
    """The critic's own values do not enter its Monte-Carlo target."""
    then = random_scored()
    now = then._replace(value=torch.zeros_like(then.value))
    returns = lambda_sum(step_costs(then, torch.tensor(0.0), -12.0), 1)
    wanted = float((returns.square() * then.alive).sum(1).mean())
    for value in (then.value, 5 * then.value, torch.zeros_like(then.value)):
        losses = ActorCritic(critic_lambda=1.0).double()(now, then._replace(value=value))
        assert losses["critic"].item() == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("smallest", [UNCLIPPED, -12.0, -1.0])
def test_balance_by_hand(smallest):
    """The mean of (log Z + sum log P_F - sum log P_B - max(log R, smallest))^2."""
    now = random_scored()
    now = now._replace(log_reward=now.log_reward - 5)
    objective = TrajectoryBalance(0.3, smallest).double()
    residuals = [
        objective.log_z.item()
        + sum(now.log_pf[i].tolist())
        - sum(now.log_pb[i].tolist())
        - max(now.log_reward[i].item(), smallest)
        for i in range(len(now.alive))
    ]
    (loss,) = objective(now, now).values()
    assert loss.item() == pytest.approx(np.mean(np.square(residuals)), abs=1e-10)


@pytest.mark.parametrize("make", [TrajectoryBalance, ActorCritic])
def test_small_rewards_are_clipped_at_minus_twelve(make):
    """By default -30 counts as -12 and -11 as itself; -inf switches the clipping off."""
    scored, objective = random_scored(), make().double()

    def loss(objective, log_reward):
        given = scored._replace(log_reward=torch.full_like(scored.log_reward, log_reward))
        return sum(objective(given, given).values()).item()

    assert loss(objective, -30.0) == loss(objective, -12.0)
    assert loss(objective, -11.0) != loss(objective, -12.0)
    unclipped = make(min_log_reward=UNCLIPPED).double()
    assert loss(unclipped, -30.0) != loss(unclipped, -12.0)


# Padding.


@pytest.mark.parametrize("make", [TrajectoryBalance, ActorCritic])
def test_padding_never_leaks(make):
    """Whatever stands where no step is alive changes no loss and no gradient."""
    torch.manual_seed(0)
    environment = Hypergrid(2, 4)
    policy, objective = Tabular(environment), make(log_z=0.7).double()
    drawn = sample(environment, Policy(environment, MLP), uniform_noise((32, 7), CPU, 0))
    drawn = drawn._replace(log_reward=torch.randn(32).double())
    alive = torch.cat([drawn.alive, torch.zeros(32, 3, dtype=torch.bool)], 1)
    assert not alive[:, :-3].all()  # there was padding before, too

    def garbage(real, high, keep):
        wrong = torch.randint(high, (32, keep.shape[1], *real.shape[2:]))
        wrong[:, : real.shape[1]][keep[:, : real.shape[1]]] = real[keep[:, : real.shape[1]]]
        return wrong

    left = torch.cat([alive, torch.zeros_like(alive[:, :1])], 1)
    littered = Trajectories(
        garbage(drawn.states, 4, left),
        garbage(drawn.actions, 3, alive),
        garbage(drawn.backward_actions, 2, alive),
        alive,
        drawn.log_reward,
    )
    answers = []
    for trajectories in (drawn, littered):
        now = score(environment, policy, trajectories)
        losses = objective(now, now.detach())
        parameters = [*policy.parameters(), *objective.parameters()]
        total = sum(losses.values())
        grads = torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True)
        answers.append([*losses.values(), *grads])
    for clean, dirty in zip(*answers, strict=True):
        assert torch.allclose(clean, dirty, rtol=1e-12, atol=1e-12)
    assert answers[0][-1] != 0


# Who learns from what.


def reached(loss, policy, objective):
    """The parts of the model that a loss has a gradient for."""
    names = [f"policy.{name}" for name, _ in policy.named_parameters()]
    names += [name for name, _ in objective.named_parameters()]
    parameters = [*policy.parameters(), *objective.parameters()]
    grads = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    pairs = zip(names, grads, strict=True)
    return {".".join(name.split(".")[:2]) for name, g in pairs if g is not None and g.any()}


@pytest.mark.parametrize("environment", [Hypergrid(2, 4), Sequence("ABC", 3)], ids=str)
@pytest.mark.parametrize("backward", ["uniform", "learned"])
@pytest.mark.parametrize("make", [TrajectoryBalance, ActorCritic])
def test_gradients_reach_only_what_they_should(environment, backward, make):
    torch.manual_seed(0)
    policy, objective = Policy(environment, MLP, backward, critic=MLP), make(log_z=0.7)
    noise = uniform_noise((16, environment.max_steps), CPU, 0)
    drawn = sample(environment, policy, noise)._replace(log_reward=torch.randn(16))
    now = score(environment, policy, drawn)
    losses = objective(now, now.detach())
    found = {name: reached(loss, policy, objective) for name, loss in losses.items()}
    learned = {"policy.backward_policy"} if backward == "learned" else set()
    assert (
        found
        == {
            TrajectoryBalance: {"balance": {"policy.forward_policy", "log_z"} | learned},
            ActorCritic: {
                "policy": {"policy.forward_policy"},
                "critic": {"policy.critic"},
                "log_z": {"log_z"},
            },
        }[make]
    )


@pytest.mark.parametrize("backward", ["learned", "shared"])
def test_a_tree_has_no_backward_policy_to_learn(backward):
    """Appending leaves one parent, whose probability is one: TB-U and TB-B are the same."""
    policy = Policy(Sequence("ABC", 4, "append"), MLP, backward)
    uniform = Policy(Sequence("ABC", 4, "append"), MLP, "uniform")
    assert policy.state_dict().keys() == uniform.state_dict().keys()
    assert policy.forward_policy.layers[-1].out_features == 3
    assert not policy.shared
