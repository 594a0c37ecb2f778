"""Objectives: hand-made references, padding, and who learns from what."""

import numpy as np
import pytest
import torch
from enumeration import Tabular, gradient
from hypothesis import given
from hypothesis import strategies as st

from gfn_design.environments.hypergrid import Hypergrid
from gfn_design.environments.sequences.sequence import Sequence
from gfn_design.objectives.actor_critic import (
    ActorCritic,
    lambda_sum,
    step_costs,
    temporal_difference,
)
from gfn_design.objectives.balance import TrajectoryBalance
from gfn_design.policies.mlp import MLP
from gfn_design.policies.policy import Policy
from gfn_design.sampling.log_probabilities import StepLogProbs, log_probabilities
from gfn_design.sampling.noise import uniform_noise
from gfn_design.sampling.trajectories import Trajectories, sample

CPU = torch.device("cpu")


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
    return StepLogProbs(log_pf, log_pb, value, alive, stops, alive & ~stops, log_reward)


def test_lambda_one_gives_the_return_less_the_value():
    """sum over k >= t of cost[k] + value[k + 1] - value[k] telescopes."""
    steps = random_scored()
    cost = step_costs(steps, torch.tensor(0.3))
    advantage = lambda_sum(temporal_difference(cost, steps.value), 1)
    to_go = torch.from_numpy(double_loop(cost.tolist(), 1))
    assert torch.allclose(advantage, to_go - steps.value, rtol=0, atol=1e-12)
    assert (advantage[~steps.alive] == 0).all()


# Against the formulas, one trajectory and one step at a time.


def actor_critic_by_hand(now, then, policy_lambda, critic_lambda, log_z):
    """Section 3.5 of the specification; also the gradient of the policy's loss for log P_F."""
    advantages, targets, means = [], [], []
    for i, alive in enumerate(then.alive.tolist()):
        steps = sum(alive)
        cost = [float(then.log_pf[i, t] - then.log_pb[i, t]) for t in range(steps)]
        cost[-1] += log_z - float(then.log_reward[i])
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


@pytest.mark.parametrize(("policy_lambda", "critic_lambda"), [(0.99, 1.0), (1.0, 0.9), (0, 0.5)])
def test_actor_critic_by_hand(policy_lambda, critic_lambda):
    then, now = random_scored(seed=0), random_scored(seed=1)
    now = now._replace(log_pf=now.log_pf.requires_grad_(), value=now.value.requires_grad_())
    objective = ActorCritic(policy_lambda, critic_lambda, 0.3).double()
    wanted, slope = actor_critic_by_hand(
        now, then, policy_lambda, critic_lambda, objective.log_z.item()
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
    returns = lambda_sum(step_costs(then, torch.tensor(0.0)), 1)
    wanted = float((returns.square() * then.alive).sum(1).mean())
    for value in (then.value, 5 * then.value, torch.zeros_like(then.value)):
        losses = ActorCritic(critic_lambda=1.0).double()(now, then._replace(value=value))
        assert losses["critic"].item() == pytest.approx(wanted, abs=1e-9)


def test_balance_by_hand():
    """The mean of (log Z + sum log P_F - sum log P_B - log R)^2."""
    now = random_scored()
    objective = TrajectoryBalance(0.3).double()
    residuals = [
        objective.log_z.item()
        + sum(now.log_pf[i].tolist())
        - sum(now.log_pb[i].tolist())
        - now.log_reward[i].item()
        for i in range(len(now.alive))
    ]
    (loss,) = objective(now, now).values()
    assert loss.item() == pytest.approx(np.mean(np.square(residuals)), abs=1e-10)


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
        now = log_probabilities(environment, policy, trajectories)
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
    now = log_probabilities(environment, policy, drawn)
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
    assert policy.forward_policy.layers[-1].bias.shape == (3,)
    assert not policy.shared
