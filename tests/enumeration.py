"""All trajectories of small environments, with policies that are tables of logits in float64.

Expectations are sums over them; nothing is drawn, so nothing can fail by chance.
"""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gfn_design import (
    Environment,
    Hypergrid,
    Sequence,
    StepLogProbs,
    Trajectories,
    log_probabilities,
)
from gfn_design.objectives.actor_critic import lambda_sum, step_costs
from gfn_design.tensors import masked_log_softmax

ENVIRONMENTS = [Hypergrid(2, 3), Sequence("AB", 2, "prepend-append")]
UNCLIPPED = -float("inf")


class Tabular(nn.Module):
    """Policies and critics that look up their answers by the number of the state."""

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
        self.backward_values = nn.Parameter(torch.randn_like(self.values))

    prior = None

    def forward_log_probs(self, states, legal):
        return masked_log_softmax(self.forward_logits[self.environment.state_index(states)], legal)

    def backward_log_probs(self, states, legal):
        return masked_log_softmax(self.backward_logits[self.environment.state_index(states)], legal)

    def value(self, states):
        return self.values[self.environment.state_index(states), 0]

    def backward_value(self, states):
        return self.backward_values[self.environment.state_index(states), 0]


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

    def along(self, table, states):
        """The entry of each state: ``[batch, times]``."""
        index = self.environment.state_index(states.flatten(0, 1))
        return table.reshape(-1)[index].view(states.shape[:2])

    def score(self):
        """All trajectories under the policy, with all that an objective may ask; values, which
        `score` rounds, in float64.
        """
        environment, policy, trajectories = self[:3]
        left, entered = trajectories.states[:, :-1], trajectories.states[:, 1:]
        steps = log_probabilities(environment, policy, trajectories, all_actions=True)
        log_reward = torch.zeros(environment.n_states, dtype=torch.float64)
        log_reward[environment.state_index(trajectories.objects)] = trajectories.log_reward
        return steps._replace(
            value=self.along(policy.values, left) * steps.alive,
            backward_value=self.along(policy.backward_values, entered) * steps.moves,
            log_reward_at=self.along(log_reward, left),
        )

    def log_target(self, steps):
        """log of P_B(trajectory | x) R(x) / Z* of each trajectory."""
        return steps.log_pb.sum(1) + steps.log_reward - self.log_z


def enumerated(environment):
    """The environment with random tables and rewards."""
    policy, trajectories = Tabular(environment), every_trajectory(environment)
    objects = environment.state_index(trajectories.objects)
    same = (objects[:, None] == objects).double()
    rewards = trajectories.log_reward.exp() / same.sum(1)  # each object counts once
    return Whole(environment, policy, trajectories, same, rewards.sum().log())


def rows(steps, index):
    return StepLogProbs(*(None if field is None else field[index] for field in steps))


def gradient(loss, parameter):
    (answer,) = torch.autograd.grad(loss, parameter, retain_graph=True)
    return answer


def assert_same(left, right, atol=1e-12):
    """Equal, and not trivially so."""
    assert left.abs().max() > 1e-3
    assert torch.allclose(left, right, rtol=0, atol=atol), (left - right).abs().max()


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


def make_dyadic_backward(whole):
    """Give the backward policy probabilities in quarters; return a batch that holds, of each object
    as often as it likes, every history exactly in proportion to its probability.
    """
    logits, environment = whole.policy.backward_logits, whole.environment
    for state in whole.trajectories.states.flatten(0, 1).unique(dim=0):
        (legal,) = environment.legal_backward(state[None])
        shares = {0: [], 1: [1.0], 2: [1.0, 3.0]}[int(legal.sum())]
        shares = torch.tensor(shares)[torch.randperm(len(shares))].double()
        logits.data[environment.state_index(state[None]), legal] = shares.log()
    steps = whole.score()
    often = 1 + environment.state_index(whole.trajectories.objects) % 3
    counts = 256 * often * steps.log_pb.sum(1).exp().detach()
    assert torch.allclose(counts, counts.round(), rtol=0, atol=1e-9)
    law = 256 * often / counts.sum()  # of the objects, at each of their trajectories
    return torch.arange(len(counts)).repeat_interleave(counts.round().long()), law


def exact_values(whole, log_z):
    """V_F(s): the mean cost to go over the trajectories through s."""
    steps = whole.score().detach()
    weight = steps.log_pf.sum(1).exp()[:, None] * steps.alive
    to_go = lambda_sum(step_costs(steps, log_z), 1)
    visited = whole.environment.state_index(whole.trajectories.states[:, :-1].flatten(0, 1))
    zeros = torch.zeros(whole.environment.n_states, dtype=torch.float64)
    total = zeros.index_add(0, visited, (weight * to_go).flatten())
    visits = zeros.index_add(0, visited, weight.flatten())
    return torch.where(visits > 0, total / visits, 0)


def exact_objective(now, log_z):
    """J_F = E[S], with the gradient of the expectation itself."""
    log_p = now.log_pf.sum(1)
    return (log_p.exp() * (log_p - now.log_pb.sum(1) - now.log_reward + log_z)).sum()


def divergence(whole):
    """KL(P_F || P_B R / Z)."""
    now = whole.score()
    log_p = now.log_pf.sum(1)
    return (log_p.exp() * (log_p - whole.log_target(now))).sum()


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
