"""What is done with a batch: natural steps, several updates, replay, exploration."""

from functools import partial

import pytest
import torch
from common import model_of
from test_gflownet import trainer

from gfn_design import (
    MLP,
    ActorCritic,
    BackwardActorCritic,
    ClippedPolicy,
    DetailedBalance,
    Exploration,
    FlowMatching,
    Hypergrid,
    HypergridData,
    InputError,
    LocalSearch,
    ModifiedDetailedBalance,
    PrioritizedReplay,
    Replay,
    Sequence,
    SoftQ,
    TrajectoryBalance,
    TrajectoryLikelihood,
    TrustRegion,
    sample,
    sample_backward,
)
from gfn_design.fast.log_probabilities import log_probabilities as log_probabilities_fast
from gfn_design.fast.rollout import RollOut
from gfn_design.fast.step import set_gradients
from gfn_design.policies.policy import Policy
from gfn_design.runs.log import CSVLog
from gfn_design.sampling.exploration import Explorer, FollowsMember
from gfn_design.sampling.log_probabilities import log_probabilities
from gfn_design.sampling.noise import uniform_noise
from gfn_design.sampling.prioritized import steps_of
from gfn_design.sampling.trajectories import Trajectories, concatenate
from gfn_design.tensors import masked_log_softmax
from gfn_design.training.natural_gradient import (
    TwiceDifferentiable,
    conjugate_gradient,
    fisher_product,
)

CPU = torch.device("cpu")
SMALL = partial(MLP, width=32, depth=2)


def noise(environment, n, key=0):
    return uniform_noise((n, environment.max_steps), CPU, key)


def gflownet(objective, environment=None, **options):
    torch.manual_seed(0)
    environment = environment or Hypergrid(2, 4)
    settings = {"network": SMALL, "critic": SMALL, "batch_size": 64, "draw_seed": 0}
    return model_of(environment, objective, **(settings | options)).use(HypergridData())


# The trust region.


@pytest.mark.parametrize("environment", [Sequence("AB", 5, "any"), Sequence("sEH", 6, "append")])
def test_the_fisher_product_of_a_network_is_the_hessian_of_the_divergence(environment):
    """Of states with few columns, and of so many that they are summed otherwise."""
    torch.manual_seed(0)
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

    product, _ = fisher_product(network, states, legal, weight)
    old = log_probs(flat).where(legal, 0)

    def divergence(x):
        terms = old.exp() * (old - log_probs(x).where(legal, 0))
        return (weight * terms.where(legal, 0).sum(-1)).sum()

    with TwiceDifferentiable():
        hessian = torch.autograd.functional.hessian(divergence, flat)
    v = torch.randn_like(flat)
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
    objective = model.objective
    optimizer = model.configure_optimizers()
    moved = []
    for _ in range(10):
        start = {name: p.clone() for name, p in model.policy.forward_policy.named_parameters()}
        batch, losses, gradients = model.next_step()
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
    _, losses, gradients = model.next_step()
    set_gradients(optimizer, losses, gradients)
    for p in model.policy.forward_policy.parameters():
        p.grad = -p.grad  # uphill: the surrogate cannot fall
    optimizer.step()
    assert optimizer.report == {"kl": 0.0, "step": 0.0}
    for name, p in model.policy.named_parameters():
        assert torch.equal(p, start[name]) == name.startswith("forward_policy"), name


def test_the_log_tells_how_far_the_trust_region_moved(tmp_path):
    """Of the step before, so from the second row on."""
    log = CSVLog(tmp_path / "log.csv")
    model = gflownet(TrustRegion())
    run = trainer(tmp_path, 4, logger=log, log_every_n_steps=1)
    run.fit(model, datamodule=HypergridData())
    logged = [row for _, row in sorted(log.rows.items()) if "region/kl" in row]
    assert len(logged) >= 3
    assert all(0 <= row["region/kl"] <= 0.01 for row in logged)
    assert any(row["region/step"] > 0 for row in logged)
    again = gflownet(TrustRegion()).configure_optimizers()  # a resumed run logs it in its first row
    again.load_state_dict(run.optimizers[0].state_dict())
    assert again.report == run.optimizers[0].report != {}


def test_a_trust_region_needs_a_forward_policy_of_its_own():
    with pytest.raises(InputError, match="shared"):
        gflownet(TrustRegion(), backward="shared", backward_objective=BackwardActorCritic())


# Several updates.


def test_the_first_update_of_a_clipped_policy_is_a_policy_gradient():
    """Ratios are one and the divergence has no slope."""
    models = [gflownet(ClippedPolicy(), updates=3), gflownet(ActorCritic())]
    gradients = []
    for model in models:
        _, losses, _ = model.next_step()
        losses["policy"].backward()
        network = model.policy.forward_policy
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_a_batch_serves_as_many_updates_as_asked():
    model = gflownet(ClippedPolicy(), updates=3)
    optimizer = model.configure_optimizers()
    seen = []
    for _ in range(6):
        batch, losses, gradients = model.next_step()
        set_gradients(optimizer, losses, gradients)
        optimizer.step()
        seen.append(batch)
    assert seen[0] is seen[1] is seen[2]
    assert seen[3] is seen[4] is seen[5]
    assert seen[2] is not seen[3]
    assert model.tally.draws == 2
    then = seen[3].then  # by the policy that drew, not by the present one
    now = log_probabilities(model.environment, model.policy, seen[3].drawn)
    assert (now.log_pf - then.log_pf).abs().max() > 1e-4


def test_clipping_stops_what_has_gone_far_enough():
    """Where the ratio is beyond the clip and the advantage says further, there is no slope."""
    model = gflownet(ClippedPolicy(clip=0.1), updates=2)
    batch, _, _ = model.next_step()
    then = batch.then
    advantage, _, _ = model.objective.advantages(then)
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
        _, losses, gradients = model.next_step()
        for was, p, q in zip(before, fast, model.slow.parameters(), strict=True):
            torch.testing.assert_close(q, (was + p) / 2)
        set_gradients(optimizer, losses, gradients)
        optimizer.step()
        assert all(p.grad is None for p in model.slow.parameters())
    assert not [name for name, _ in model.slow.named_parameters() if _.requires_grad]


def test_without_a_copy_soft_q_is_half_of_huber_detailed_balance_to_first_order():
    """The same residual; its target is a constant."""
    model = gflownet(DetailedBalance(min_log_reward=-12.0))
    batch, _, _ = model.next_step()
    now = log_probabilities(model.environment, model.policy, batch.drawn)
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


@pytest.mark.parametrize("kind", [partial(Replay, 16), partial(PrioritizedReplay, 16, 1000)])
def test_another_reward_leaves_nothing_of_the_one_before(kind):
    """What was drawn is forgotten, and a half-used batch; but not for the same data again."""
    model = gflownet(SoftQ(), replay=kind(), batch_size=8, updates=2)
    for _ in range(3):
        model.next_step()
    assert len(model.learner.replay) >= 16
    assert model.learner.used == 1
    model.learner.learn_from(model.data)
    model.learner.learn_from(model.data)
    assert (len(model.learner.replay) >= 16, model.learner.used) == (True, 1)
    model.use(HypergridData(0.5, 0.0, 0.0)).learner.learn_from(model.data)
    assert (len(model.learner.replay), model.learner.batch) == (0, None)
    drawn = model.next_step().batch.drawn
    assert drawn.log_reward.std() < 1e-5  # the new reward is 0.5 everywhere


def test_replayed_trajectories_are_learned_from_beside_the_new():
    model = gflownet(TrajectoryBalance(), replay=Replay(16), batch_size=8)
    for expected in (8, 16):
        batch, _, _ = model.next_step()
        assert len(batch.drawn.actions) == 8
        assert len(model.learner.replay) == expected
        whole = model.learner._with_replayed(batch).drawn
        assert len(whole.actions) == 24
        assert torch.equal(whole.log_reward[:8], batch.drawn.log_reward)
        kept = {tuple(x) for x in model.learner.replay.objects.tolist()}
        assert {tuple(x) for x in whole.objects.tolist()} <= kept
        rewards = model.log_reward(whole.objects)
        torch.testing.assert_close(whole.log_reward, rewards - model.objective.log_scale)


@pytest.mark.parametrize("environment", [Hypergrid(2, 5), Sequence("AB", 3, "any")], ids=str)
def test_batches_are_joined_as_they_are(environment):
    policy = Policy(environment, SMALL, "learned")
    first = sample(environment, policy, noise(environment, 20))
    second = sample_backward(
        environment, policy, first.objects[:3].flip(0), noise(environment, 3, 1)
    )
    both = log_probabilities(environment, policy, concatenate(first, second))
    for part, rows in ((first, slice(0, 20)), (second, slice(20, 23))):
        alone = log_probabilities(environment, policy, part)
        steps = part.actions.shape[1]
        torch.testing.assert_close(both.log_pf[rows, :steps], alone.log_pf)
        torch.testing.assert_close(both.log_pb[rows, :steps], alone.log_pb)
        assert not both.alive[rows, steps:].any()
        assert torch.equal(concatenate(first, second).objects[rows], part.objects)


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
    batches = [model.next_step()[0] for model in (plain, wild)]
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
        model_of(environment, TrajectoryBalance(), search=LocalSearch(), batch_size=batch_size)


# Thompson sampling.


def ensemble(environment, members=3, random_prior=0.0):
    torch.manual_seed(0)
    return Policy(environment, SMALL, "learned", SMALL, members=members, random_prior=random_prior)


@pytest.mark.parametrize("random_prior", [0.0, 20.0])
def test_the_policy_of_an_ensemble_is_their_normalised_geometric_mean(random_prior):
    environment = Hypergrid(2, 4)
    policy = ensemble(environment, 3, random_prior)
    states = torch.tensor([[0, 0], [3, 1], [3, 3]])
    legal = environment.legal(states)
    heads = policy.member_log_probs(states, legal)
    assert heads.shape == (3, 3, 3)
    torch.testing.assert_close(heads.exp().sum(-1), torch.ones(3, 3))
    assert (heads[0, 0] - heads[0, 1]).abs().max() > (1.0 if random_prior else 0.01)
    product = heads.mean(1).exp()
    wanted = product / product.sum(-1, keepdim=True)
    torch.testing.assert_close(policy.forward_log_probs(states, legal).exp(), wanted)


@pytest.mark.parametrize("environment", [Hypergrid(2, 5), Sequence("AB", 3, "any")], ids=str)
def test_a_trajectory_follows_its_member_from_first_to_last(environment):
    """As a policy would that is this head alone; also after rows are dropped."""
    policy, n = ensemble(environment, 3, 30.0), 200
    head, uniform = torch.arange(n) % 3, noise(environment, n)

    class Alone:
        def __init__(self, k):
            self.k = k

        def forward_log_probs(self, states, legal):
            return policy.member_log_probs(states, legal)[:, self.k]

    drawn = RollOut(environment).sample(FollowsMember(policy, head), uniform)
    alone = [sample(environment, Alone(k), uniform) for k in range(3)]
    for k in range(3):
        assert torch.equal(drawn.objects[head == k], alone[k].objects[head == k])
    assert not torch.equal(alone[0].objects, alone[1].objects)


@pytest.mark.parametrize("environment", [Hypergrid(2, 5), Sequence("AB", 3, "any")], ids=str)
def test_each_member_says_what_it_learns_from(environment):
    """Against a loop over heads and trajectories; flows and backward policy are common to all."""
    policy = ensemble(environment, 3, 5.0)
    drawn = sample(environment, policy, noise(environment, 8))
    drawn = drawn._replace(log_reward=torch.randn(8))
    learns = torch.rand(8, 3) < 0.5
    learns[2] = False
    plain = log_probabilities(environment, policy, drawn, all_actions=True)
    row, member = learns.nonzero(as_tuple=True)
    several = Trajectories(*(x[row] for x in drawn))
    found = log_probabilities(environment, FollowsMember(policy, member), several, all_actions=True)
    fast = log_probabilities_fast(
        environment, FollowsMember(policy, member), several, all_actions=True
    )
    for name in ("log_pf", "log_pb", "value", "alive", "stops", "moves", "log_reward"):
        torch.testing.assert_close(getattr(found, name), getattr(fast, name))
    pairs = learns.nonzero().tolist()
    assert len(found.alive) == len(pairs) > 3
    for place, (i, k) in enumerate(pairs):
        for name in ("log_pb", "value", "alive", "stops", "moves", "log_reward"):
            assert torch.equal(getattr(found, name)[place], getattr(plain, name)[i]), name
        for t in range(int(drawn.alive[i].sum())):
            state = drawn.states[i, t][None]
            row = policy.member_log_probs(state, environment.legal(state))[0, k]
            torch.testing.assert_close(found.log_policy[place, t], row)
            torch.testing.assert_close(found.log_pf[place, t], row[drawn.actions[i, t]])


def test_lots_are_drawn_evenly_and_somebody_always_learns():
    exploration = Exploration(members=4, share=0.25)
    head, learns = exploration.lots(torch.rand(4000, 5))
    assert (head.bincount() / 4000 - 0.25).abs().max() < 0.04  # 5 standard errors, and more
    assert abs(float(learns.float().mean()) - 0.25) < 0.02
    _, learns = exploration.lots(torch.full((2, 5), 0.9))
    assert learns.all()


def test_members_learn_and_random_priors_do_not():
    exploration = Exploration(0.1, 2.0, members=3, random_prior=2.0)
    model = gflownet(
        TrajectoryBalance(), exploration=exploration, backward="learned", replay=Replay(16)
    )
    optimizer = model.configure_optimizers()
    before = [p.clone() for p in model.policy.random_policy.parameters()]
    batch, losses, gradients = model.next_step()
    assert batch.learns.shape == (64 + 16, 3)
    set_gradients(optimizer, losses, gradients)
    last = model.policy.forward_policy.layers[-1].weight.grad.view(3, 3, -1)
    assert (last.abs().amax((1, 2)) > 0).all()
    assert model.policy.backward_policy.layers[-1].weight.grad.any()
    optimizer.step()
    after = model.policy.random_policy.parameters()
    assert all(torch.equal(p, q) for p, q in zip(before, after, strict=True))


# Prioritized replay.


@pytest.mark.parametrize("environment", [Hypergrid(2, 5), Sequence("AB", 3, "any")], ids=str)
def test_transitions_hold_every_step_once_and_err_as_their_trajectories(environment):
    torch.manual_seed(0)
    policy = Policy(environment, SMALL, "uniform", SMALL)
    drawn = sample(environment, policy, noise(environment, 20))
    drawn = drawn._replace(log_reward=torch.randn(20))
    objective = SoftQ()
    now = log_probabilities(environment, policy, drawn)
    objective(now, now.detach())
    wanted = objective.errors[drawn.alive]
    pieces, which = steps_of(drawn)
    now = log_probabilities(environment, policy, pieces)
    objective(now, now.detach())
    found = objective.errors.gather(1, which[:, None])[:, 0]
    torch.testing.assert_close(found, wanted)
    assert pieces.alive.gather(1, which[:, None]).all()


def prioritized(environment, **options):
    replay = PrioritizedReplay(**({"size": 5000, "capacity": 100} | options))
    policy = Policy(environment, SMALL)
    drawn = sample(environment, policy, noise(environment, 30))
    replay.keep(drawn._replace(log_reward=torch.randn(30)))
    return replay, policy


def drawn_from(replay, policy, environment):
    uniform = torch.rand(replay.size, generator=torch.Generator().manual_seed(1))
    return replay.recall(environment, policy, uniform, noise(environment, 1))


def test_steps_are_drawn_by_error_and_weighed_against_it():
    """Frequencies to 5 standard errors; the weighted frequencies are even once beta is one."""
    environment = Sequence("AB", 3, "any")
    replay, policy = prioritized(environment, anneal=2)
    assert len(replay) == 90
    _, weights = drawn_from(replay, policy, environment)
    assert (weights.sum(1) == 1).all()  # new steps are all alike, and beta begins at zero
    errors = torch.linspace(0.1, 3, 90)
    replay.rows = torch.arange(90)
    replay.note_errors(errors[:, None].expand(-1, 2))
    for beta in (0.5, 1.0, 1.0):
        pieces, weights = drawn_from(replay, policy, environment)
        p = errors.sqrt() / errors.sqrt().sum()
        often = torch.bincount(replay.rows, minlength=90) / replay.size
        assert ((often - p) / (p / replay.size).sqrt()).abs().max() < 5
        weight = (90 * p) ** -beta
        wanted = (weight / weight[replay.rows].max())[replay.rows]
        torch.testing.assert_close(weights.sum(1), wanted, rtol=1e-4, atol=0)
        assert torch.equal(weights > 0, weights == weights.amax(1, keepdim=True))
        assert torch.equal(pieces.states, replay.transitions[0][replay.rows])


def test_the_oldest_steps_make_room_for_new_ones_which_come_first():
    environment = Sequence("AB", 3, "any")
    replay, policy = prioritized(environment, capacity=40)
    assert len(replay) == 40
    drawn = sample(environment, policy, noise(environment, 5, 9))
    replay.largest = 7.0
    replay.keep(drawn)
    assert replay.count == 55
    fresh, _ = steps_of(drawn)
    place = torch.arange(40, 55) % 40
    assert torch.equal(replay.transitions[0][place], fresh.states)
    torch.testing.assert_close(replay.scale[place], torch.full((15,), 7.0**0.5).double())
    other = PrioritizedReplay(5000, 40)
    other.load_state_dict(replay.state_dict())
    for kept, again in zip(replay.transitions, other.transitions, strict=True):
        assert torch.equal(kept, again)
    assert torch.equal(other.scale, replay.scale)
    assert (other.count, other.largest) == (55, 7.0)


def test_soft_q_learns_from_the_replayed_steps_alone():
    """Each counts by its weight, the step beside it not at all."""
    model = gflownet(SoftQ(), replay=PrioritizedReplay(50, 1000))
    _, losses, _ = model.next_step()
    replay, errors = model.learner.replay, model.objective.errors
    assert errors.shape == (50, 2)
    step = replay.transitions[-1][replay.rows]
    error = errors.gather(1, step[:, None])[:, 0]
    huber = torch.where(error.abs() <= 1, error.square() / 2, error.abs() - 0.5)
    assert float(losses["q"].detach()) == pytest.approx(float(huber.mean()), rel=1e-5)
    torch.testing.assert_close(replay.scale[replay.rows], (error.abs() + 1e-6).double().sqrt())


# A slow copy of the backward policy.


def test_the_likelihood_of_trajectories_hides_the_backward_policy_behind_its_copy():
    """The forward loss sees the copy's probabilities; the likelihood those of the policy itself."""
    options = {"backward": "learned", "backward_objective": TrajectoryLikelihood(rate=0.1)}
    model = gflownet(TrajectoryBalance(), Hypergrid(2, 5), **options)
    for p in model.policy.backward_policy.parameters():
        torch.nn.init.normal_(p)
    batch, losses, _ = model.next_step()
    with torch.no_grad():
        fast, slow = (
            log_probabilities(model.environment, p, batch.drawn) for p in (model.policy, model.slow)
        )
        assert (fast.log_pb - slow.log_pb).abs().max() > 0.1
        wanted = TrajectoryBalance()(fast._replace(log_pb=slow.log_pb), fast)["balance"]
    assert float(losses["balance"].detach()) == pytest.approx(float(wanted), rel=1e-5)
    likelihood = -fast.log_pb.sum(1).mean()
    assert float(losses["backward/likelihood"].detach()) == pytest.approx(float(likelihood))
    losses["balance"].backward()
    assert all(p.grad is None for p in model.policy.backward_policy.parameters())
    plain = gflownet(
        TrajectoryBalance(), backward="learned", backward_objective=TrajectoryLikelihood(rate=1)
    )
    assert plain.slow is None


def test_the_costs_of_a_policy_gradient_are_those_of_the_copy():
    options = {"backward": "learned", "backward_objective": TrajectoryLikelihood(rate=0.1)}
    model = gflownet(ActorCritic(), Hypergrid(2, 5), **options)
    for p in model.policy.backward_policy.parameters():
        torch.nn.init.normal_(p)
    batch, losses, _ = model.next_step()
    with torch.no_grad():
        then = log_probabilities(model.environment, model.policy, batch.drawn)
        slow = log_probabilities(model.environment, model.slow, batch.drawn)
        wanted = ActorCritic()(then, then._replace(log_pb=slow.log_pb))["critic"]
    assert float(losses["critic"].detach()) == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.parametrize(
    ("objective", "options", "message"),
    [
        (TrajectoryBalance, {"replay": PrioritizedReplay(4)}, "does not learn from single steps"),
        (FlowMatching, {"exploration": Exploration(members=2)}, "the members of an ensemble learn"),
        (
            TrajectoryBalance,
            {"exploration": Exploration(members=2), "backward": "shared"},
            "the members of an ensemble learn",
        ),
        (
            SoftQ,
            {"exploration": Exploration(members=2), "replay": PrioritizedReplay(4)},
            "those of one policy",
        ),
        (
            partial(SoftQ, rate=0.5),
            {"backward": "learned", "backward_objective": TrajectoryLikelihood(rate=0.1)},
            "one slow copy between them",
        ),
    ],
)
def test_parts_that_cannot_work_together_are_refused(objective, options, message):
    with pytest.raises(InputError, match=message):
        gflownet(objective(), **options)


def test_arguments_out_of_range_are_refused():
    for make, message in (
        (partial(Exploration, members=0), "members must be at least 1"),
        (partial(Exploration, random_prior=1.0), "0 with one member"),
        (partial(Exploration, members=2, share=0.0), "share above 0"),
        (partial(PrioritizedReplay, exponent=-1.0), "exponent must not be negative"),
        (partial(TrajectoryLikelihood, rate=0.0), "rate must be above 0"),
    ):
        with pytest.raises(InputError, match=message):
            make()
