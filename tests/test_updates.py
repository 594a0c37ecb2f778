"""What is done with a batch: natural steps, several updates, replay, exploration."""

from functools import partial

import pytest
import torch
from torch import nn

from gfn_design import (
    MLP,
    ActorCritic,
    BackwardActorCritic,
    ClippedPolicy,
    DetailedBalance,
    Exploration,
    GFlowNet,
    Hypergrid,
    HypergridData,
    InputError,
    LocalSearch,
    ModifiedDetailedBalance,
    Replay,
    Sequence,
    SoftQ,
    TrajectoryBalance,
    TrustRegion,
    sample,
    sample_backward,
)
from gfn_design.compiled import set_gradients
from gfn_design.objectives.trust_region import (
    conjugate_gradient,
    fisher_product,
)
from gfn_design.policies.policy import Policy, masked_log_softmax
from gfn_design.sampling.exploration import Explorer
from gfn_design.sampling.noise import uniform_noise
from gfn_design.sampling.trajectories import joined, score

CPU = torch.device("cpu")
SMALL = partial(MLP, width=32, depth=2)


def noise(environment, n, key=0):
    return uniform_noise((n, environment.max_steps), CPU, key)


def gflownet(objective, environment=None, **options):
    torch.manual_seed(0)
    environment = environment or Hypergrid(2, 4)
    settings = {"network": SMALL, "critic": SMALL, "batch_size": 64, "seed": 0}
    return GFlowNet(environment, objective, **(settings | options)).use(HypergridData())


# The trust region.


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


def test_the_fisher_product_of_a_network_is_the_hessian_of_the_divergence():
    torch.manual_seed(0)
    environment = Sequence("AB", 5, "any")
    network = MLP(environment, environment.n_actions, width=6, depth=2).double()
    drawn = sample(environment, Policy(environment, SMALL), noise(environment, 4))
    states = drawn.states[:, :-1].flatten(0, 1)
    legal, weight = environment.legal(states), torch.rand(len(states), dtype=torch.float64)
    names, values = zip(*network.named_parameters(), strict=True)
    flat = torch.cat([p.detach().flatten() for p in values])
    sizes = [p.numel() for p in values]

    def log_probs(x):
        parts = zip(names, x.split(sizes), values, strict=True)
        parameters = {name: part.view_as(p) for name, part, p in parts}
        return masked_log_softmax(torch.func.functional_call(network, parameters, (states,)), legal)

    old = log_probs(flat).where(legal, 0)

    def divergence(x):
        terms = old.exp() * (old - log_probs(x).where(legal, 0))
        return (weight * terms.where(legal, 0).sum(-1)).sum()

    hessian = torch.autograd.functional.hessian(divergence, flat)
    v = torch.randn_like(flat)
    product, _ = fisher_product(network, states, legal, weight)
    torch.testing.assert_close(product(v), hessian @ v)


def test_conjugate_gradients_stop_where_the_curvature_is_not_positive():
    b = torch.tensor([1.0, 2.0])
    assert torch.equal(conjugate_gradient(lambda v: -v, b, 10), torch.zeros(2))


@torch.no_grad()
def divergence(model, old, drawn):
    """Mean KL(new || old) over the states that were left."""
    alive = drawn.alive
    states = drawn.states[:, :-1][alive]
    legal = model.environment.legal(states)
    new, was = (p.forward_log_probs(states, legal) for p in (model.policy, old))
    return float((new.exp() * (new - was)).where(legal, 0).sum(-1).mean())


@pytest.mark.parametrize("share", [1.0, 0.25])
@pytest.mark.parametrize("delta", [1e-4, 1e-2])
def test_a_step_stays_in_the_trust_region_and_improves_the_surrogate(delta, share):
    objective = TrustRegion(delta=delta, fisher_share=share)
    model = gflownet(objective, Hypergrid(2, 8))
    optimizer = model.configure_optimizers()
    moved = []
    for _ in range(10):
        start = {name: p.clone() for name, p in model.policy.forward_policy.named_parameters()}
        batch, losses, gradients = model.batch()
        set_gradients(optimizer, losses, gradients)
        optimizer.step()
        old = Policy(model.environment, SMALL)
        old.forward_policy.load_state_dict(start)
        kl = divergence(model, old, batch.drawn)
        assert kl <= delta * 1.001
        assert kl == pytest.approx(optimizer.report["kl"], abs=1e-6)
        moved.append(kl > 0)
    assert sum(moved) >= 8
    assert float(objective.log_z.detach()) != 0


def test_a_step_that_fails_leaves_the_policy_as_it_was(monkeypatch):
    model = gflownet(TrustRegion(backtracks=3))
    optimizer = model.configure_optimizers()
    start = {name: p.clone() for name, p in model.policy.named_parameters()}
    _, losses, gradients = model.batch()
    set_gradients(optimizer, losses, gradients)
    for p in model.policy.forward_policy.parameters():
        p.grad = -p.grad  # uphill: the surrogate cannot fall
    optimizer.step()
    assert optimizer.report == {"kl": 0.0, "step": 0.0}
    for name, p in model.policy.named_parameters():
        assert torch.equal(p, start[name]) == name.startswith("forward_policy"), name


def test_a_trust_region_needs_a_forward_policy_of_its_own():
    with pytest.raises(InputError, match="shared"):
        gflownet(TrustRegion(), backward="shared", backward_objective=BackwardActorCritic())


# Several updates.


def test_the_first_update_of_a_clipped_policy_is_a_policy_gradient():
    """Ratios are one and the divergence has no slope."""
    models = [gflownet(ClippedPolicy(), updates=3), gflownet(ActorCritic())]
    gradients = []
    for model in models:
        _, losses, _ = model.batch()
        losses["policy"].backward()
        network = model.policy.forward_policy
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_a_batch_serves_as_many_updates_as_asked():
    model = gflownet(ClippedPolicy(), updates=3)
    optimizer = model.configure_optimizers()
    seen = []
    for _ in range(6):
        batch, losses, gradients = model.batch()
        set_gradients(optimizer, losses, gradients)
        optimizer.step()
        seen.append(batch)
    assert seen[0] is seen[1] is seen[2]
    assert seen[3] is seen[4] is seen[5]
    assert seen[2] is not seen[3]
    assert model.draws == 2
    then = seen[3].then  # by the policy that drew, not by the present one
    now = score(model.environment, model.policy, seen[3].drawn)
    assert (now.log_pf - then.log_pf).abs().max() > 1e-4


def test_clipping_stops_what_has_gone_far_enough():
    """Where the ratio is beyond the clip and the advantage says further, there is no slope."""
    model = gflownet(ClippedPolicy(clip=0.1), updates=2)
    batch, _, _ = model.batch()
    then = batch.then
    advantage, _ = model.objective.advantages(then)
    lower = then.log_pf - 0.5 * (advantage > 0).float() + 0.5 * (advantage < 0).float()
    now = then._replace(log_pf=lower.where(then.alive, 0).requires_grad_())
    loss = model.objective(now, then._replace(log_policy=then.log_policy))["policy"]
    (slope,) = torch.autograd.grad(loss, now.log_pf)
    assert slope.abs().max() == 0


@pytest.mark.parametrize(
    ("objective", "options", "message"),
    [
        (ActorCritic, {"updates": 2}, "takes one update"),
        (
            ClippedPolicy,
            {
                "updates": 2,
                "backward": "learned",
                "backward_objective": BackwardActorCritic(),
            },
            "BackwardActorCritic takes one update",
        ),
        (ActorCritic, {"replay": Replay(4)}, "its own policy alone"),
        (ClippedPolicy, {"exploration": Exploration(0.1)}, "its own policy alone"),
        (ModifiedDetailedBalance, {"replay": Replay(4)}, "reward of every state"),
        (TrajectoryBalance, {"updates": 0}, "at least 1"),
    ],
)
def test_what_does_not_go_together_is_refused(objective, options, message):
    with pytest.raises(InputError, match=message):
        gflownet(objective(), **options)


# Soft Q-learning.


def test_soft_q_regresses_on_the_slow_copy():
    model = gflownet(SoftQ(rate=0.5))
    optimizer = model.configure_optimizers()
    for _ in range(3):
        before = [p.clone() for p in model.slow.parameters()]
        fast = [p.clone() for p in model.policy.parameters()]
        _, losses, gradients = model.batch()
        for was, p, q in zip(before, fast, model.slow.parameters(), strict=True):
            torch.testing.assert_close(q, (was + p) / 2)
        set_gradients(optimizer, losses, gradients)
        optimizer.step()
        assert all(p.grad is None for p in model.slow.parameters())
    assert not [name for name, _ in model.slow.named_parameters() if _.requires_grad]


def test_without_a_copy_soft_q_is_half_of_huber_detailed_balance_to_first_order():
    """The same residual; its target is a constant."""
    model = gflownet(DetailedBalance(min_log_reward=-12.0))
    batch, _, _ = model.batch()
    now = score(model.environment, model.policy, batch.drawn)
    ours = SoftQ(munchausen=0.0, rate=1.0)(now, now.detach())["q"]
    slope = torch.autograd.grad(ours, now.value, retain_graph=True)[0]
    theirs = DetailedBalance(min_log_reward=-12.0, shape="huber")(now, now)["balance"]
    both = torch.autograd.grad(theirs, now.value)[0]
    # The flow into the first state is nobody's target.
    torch.testing.assert_close(2 * slope[:, 0], both[:, 0])


# Replay.


def test_replay_keeps_the_latest():
    replay = Replay(size=4, capacity=5)
    for k in range(4):
        replay.add(torch.full((2, 3), k), torch.full((2,), float(k)))
    assert replay.log_reward.tolist() == [1.0, 2.0, 2.0, 3.0, 3.0]
    assert replay.objects[:, 0].tolist() == [1, 2, 2, 3, 3]


def test_replay_draws_its_share_from_the_best_tenth():
    replay = Replay(size=1000, best=0.5)
    replay.add(torch.arange(100)[:, None], torch.arange(100).float())
    uniform = (torch.arange(1000) + 0.5) / 1000
    shuffled = uniform[torch.randperm(1000, generator=torch.Generator().manual_seed(0))]
    objects, log_reward = replay.pick(shuffled)
    assert torch.equal(objects[:, 0].float(), log_reward)
    assert int((log_reward >= 90).sum()) == 500
    assert len(log_reward.unique()) == 100
    everything, _ = Replay.pick(replay_of(replay, None), uniform)
    assert (everything[:, 0].bincount() == 10).all()


def test_a_replay_of_distinct_objects_keeps_each_once():
    replay = Replay(size=4, capacity=5, distinct=True)
    for objects in ([[1, 2], [0, 1], [1, 2]], [[0, 1], [3, 3]], [[5, 0], [4, 1], [5, 0]]):
        objects = torch.tensor(objects)
        replay.add(objects, objects.sum(1).float())
    assert sorted(replay.objects.tolist()) == [[0, 1], [1, 2], [3, 3], [4, 1], [5, 0]]
    assert torch.equal(replay.log_reward, replay.objects.sum(1).float())
    replay.add(torch.tensor([[9, 9]]), torch.tensor([18.0]))
    assert len(replay) == 5
    assert replay.objects[-1].tolist() == [9, 9]
    assert max(replay.objects[0].tolist()) <= 2  # one of the first batch was the oldest


def test_a_replay_of_distinct_objects_draws_them_by_reward():
    replay = Replay(size=1000, distinct=True)
    reward = torch.tensor([1.0, 2.0, 3.0, 4.0])
    for _ in range(3):  # however often they were built
        replay.add(torch.arange(4)[:, None], reward.log())
    objects, log_reward = replay.pick((torch.arange(1000) + 0.5) / 1000)
    assert objects[:, 0].bincount().tolist() == [100, 200, 300, 400]
    assert torch.equal(log_reward, reward.log()[objects[:, 0]])


def test_distinct_objects_and_the_best_tenth_exclude_each_other():
    with pytest.raises(InputError, match="leave out best"):
        Replay(distinct=True, best=0.5)


def replay_of(replay, best):
    other = Replay(replay.size, best=best)
    other.load_state_dict(replay.state_dict())
    return other


def test_replayed_trajectories_are_learned_from_beside_the_new():
    model = gflownet(TrajectoryBalance(), replay=Replay(16), batch_size=8)
    for expected in (8, 16):
        batch, _, _ = model.batch()
        assert len(batch.drawn.actions) == 8
        assert len(model.replay) == expected
        whole = model._with_replayed(batch).drawn
        assert len(whole.actions) == 24
        assert torch.equal(whole.log_reward[:8], batch.drawn.log_reward)
        kept = {tuple(x) for x in model.replay.objects.tolist()}
        assert {tuple(x) for x in whole.objects.tolist()} <= kept
        rewards = model.log_reward(whole.objects)
        torch.testing.assert_close(whole.log_reward, rewards)


@pytest.mark.parametrize("environment", [Hypergrid(2, 5), Sequence("AB", 3, "any")], ids=str)
def test_batches_are_joined_as_they_are(environment):
    policy = Policy(environment, SMALL, "learned")
    first = sample(environment, policy, noise(environment, 20))
    second = sample_backward(
        environment, policy, first.objects[:3].flip(0), noise(environment, 3, 1)
    )
    both = score(environment, policy, joined(first, second))
    for part, rows in ((first, slice(0, 20)), (second, slice(20, 23))):
        alone = score(environment, policy, part)
        steps = part.actions.shape[1]
        torch.testing.assert_close(both.log_pf[rows, :steps], alone.log_pf)
        torch.testing.assert_close(both.log_pb[rows, :steps], alone.log_pb)
        assert not both.alive[rows, steps:].any()
        assert torch.equal(joined(first, second).objects[rows], part.objects)


# Exploration.


def test_an_explorer_mixes_a_flattened_policy_with_even_choice():
    environment = Hypergrid(2, 4)
    torch.manual_seed(0)
    policy, exploration = Policy(environment, SMALL), Exploration(0.25, 3.0, decay=0.5)
    states = torch.tensor([[0, 0], [3, 1], [3, 3]])
    legal = environment.legal(states)
    for epsilon, temperature in ((0.25, 3.0), (0.125, 2.0), (0.0625, 1.5)):
        p = policy.forward_log_probs(states, legal).div(temperature).softmax(-1)
        wanted = (1 - epsilon) * p + epsilon * legal / legal.sum(-1, keepdim=True)
        got = Explorer(policy, exploration).forward_log_probs(states, legal).exp()
        torch.testing.assert_close(got, wanted)
        assert (got[~legal] == 0).all()
        exploration.next_batch()


def test_exploration_changes_the_draws_and_not_the_scores():
    plain = gflownet(TrajectoryBalance())
    wild = gflownet(TrajectoryBalance(), exploration=Exploration(epsilon=1.0, decay=0.5))
    batches = [model.batch()[0] for model in (plain, wild)]
    lengths = [float(batch.drawn.alive.sum(1).float().mean()) for batch in batches]
    assert lengths[0] != lengths[1]
    assert float(wild.exploration.epsilon) == 0.5
    assert torch.equal(  # what is evaluated and designed does not explore
        plain.draw(50, 1, 0).objects, wild.draw(50, 1, 0).objects
    )


# Local search.


def test_a_local_search_proposes_neighbours_and_keeps_the_better():
    """With the source kept for half of the steps; every trajectory is one of the environment."""
    environment = Sequence("ABC", 4, "prepend-append")
    policy, n, rounds = Policy(environment, SMALL, "learned"), 50, 3

    def reward(objects):
        return (objects == 0).sum(1).float()

    first = sample(environment, policy, noise(environment, n))
    first = first._replace(log_reward=reward(first.objects))
    search = LocalSearch(rounds, share=0.5)
    found = search.fill(
        environment, policy, policy, reward, first, noise(environment, rounds * 2 * n, 1)
    )
    assert len(found.actions) == (rounds + 1) * n
    assert torch.equal(found.states[:n], first.states)
    torch.testing.assert_close(found.log_reward, reward(found.objects))
    for time in range(4):
        after, undo = environment.step(found.states[:, time], found.actions[:, time])
        assert torch.equal(after, found.states[:, time + 1])
        assert torch.equal(undo, found.backward_actions[:, time])
    # Two letters of four are taken off an end each: a run of two stays where it was cut out.
    best = found.objects[:n]
    for k in range(1, rounds + 1):
        new = found.objects[k * n : (k + 1) * n]
        middle = found.states[k * n : (k + 1) * n, 2, :2]
        runs = best.unfold(1, 2, 1)
        assert (runs == middle[:, None]).all(-1).any(1).all()
        better = reward(new) > reward(best)
        best = torch.where(better[:, None], new, best)
    assert reward(best).mean() > reward(first.objects).mean() + 0.5


@pytest.mark.parametrize(
    ("environment", "batch_size", "message"),
    [(Hypergrid(2, 4), 64, "equally many steps"), (Sequence("AB", 3), 60, "multiple of 8")],
    ids=["hypergrid", "size"],
)
def test_what_cannot_be_searched_is_refused(environment, batch_size, message):
    with pytest.raises(InputError, match=message):
        GFlowNet(environment, TrajectoryBalance(), search=LocalSearch(), batch_size=batch_size)
