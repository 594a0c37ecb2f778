"""Networks that read: the same however they are asked, plain or fast, and refused elsewhere."""

from functools import partial

import pytest
import torch
from lightning.pytorch import Trainer

from gfn_design import (
    GC,
    GRU,
    MLP,
    ActorCritic,
    Batches,
    CausalTransformer,
    Convolution,
    Edits,
    Exploration,
    Forbid,
    FunctionData,
    GFlowNet,
    Hypergrid,
    InputError,
    LearnedBackward,
    LogVariance,
    Networks,
    Optimiser,
    Replay,
    Sequence,
    Speed,
    SubTrajectoryBalance,
    TrajectoryBalance,
)
from gfn_design.fast.log_probabilities import log_probabilities as fast_log_probabilities
from gfn_design.fast.prefixes import reads_prefixes
from gfn_design.policies.policy import Policy
from gfn_design.sampling.log_probabilities import log_probabilities as plain_log_probabilities
from gfn_design.sampling.trajectories import sample
from gfn_design.training.fine_tuning import last_layer

SMALL = partial(GRU, width=8)
ATTENTIVE = partial(CausalTransformer, width=8, heads=2)
ENVIRONMENTS = {
    "fixed": Sequence("ABC", 6, "append"),
    "lengths": Sequence("ABC", 7, "append", min_length=2),
    "long": Sequence("AB", 70, "append", min_length=1),
    "constraints": Sequence("DNA", 12, "append", 6, [Forbid("ACG"), GC(0.3, 0.6)]),
}


def score(texts):
    return [0.1 + text.count("A") + 2 * text.startswith("C") for text in texts]


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("network", [SMALL, ATTENTIVE], ids=["GRU", "transformer"])
def test_a_state_is_answered_alike_however_it_is_asked(network, depth):
    torch.manual_seed(0)
    environment = ENVIRONMENTS["lengths"]
    network = network(environment, 5, depth=depth)
    whole = torch.randint(0, 3, (10, 7))
    at_once = network.of_prefixes(whole)
    assert at_once.shape == (10, 8, 5)
    memory, answer = network.first(10)
    for place in range(8):
        states = whole.masked_fill(torch.arange(7) >= place, -1)
        torch.testing.assert_close(network(states), at_once[:, place])
        if place:
            memory, answer = network.next(memory, whole[:, place - 1], place)
        torch.testing.assert_close(answer, at_once[:, place])


@pytest.mark.parametrize(
    ("objective", "options"),
    [
        (TrajectoryBalance, {}),
        (LogVariance, {"exploration": Exploration(epsilon=0.2)}),
        (ActorCritic, {}),
        (partial(SubTrajectoryBalance, 0.9), {"replay": Replay(8)}),
        (TrajectoryBalance, {"exploration": Exploration(members=2)}),
    ],
    ids=["TB", "VarGrad", "RL", "SubTB", "TS"],
)
@pytest.mark.parametrize(
    ("environment", "network"),
    [*((environment, SMALL) for environment in ENVIRONMENTS), ("constraints", ATTENTIVE)],
)
def test_reading_on_gives_the_numbers_of_reading_anew(environment, network, objective, options):
    """Draws, losses and weights of 20 updates, of the plain path and of the fast one."""
    models = []
    for fast in (False, True):
        torch.manual_seed(0)
        model = GFlowNet(
            ENVIRONMENTS[environment],
            objective(),
            Networks(network, network),
            batches=Batches(8, **options),
            speed=Speed(fast=fast),
            draw_seed=0,
        ).use(FunctionData(score))
        optimizer, drawn, losses = model.configure_optimizers(), [], []
        for _ in range(20):
            step = model.next_step()
            drawn.append(step.batch.drawn)
            losses.append(sum(step.losses.values()))
            optimizer.zero_grad()
            losses[-1].backward()
            optimizer.step()
        models.append((drawn, torch.stack(losses).detach(), model.state_dict()))
    (plain, losses, weights), (fast, others, same) = models
    for left, right in zip(plain, fast, strict=True):
        assert torch.equal(left.states, right.states)
        assert torch.equal(left.actions, right.actions)
    torch.testing.assert_close(losses, others, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(weights, same, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("network", [SMALL, ATTENTIVE], ids=["GRU", "transformer"])
@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_a_prior_that_reads_is_read_once_too(environment, network):
    """Asked about every state anew, a batch of long sequences would not fit into memory."""
    torch.manual_seed(0)
    policy = Policy(environment, network, anchored=True)
    assert reads_prefixes(policy)
    with torch.no_grad():
        drawn = sample(environment, policy, torch.rand(9, environment.max_steps))
    slow = plain_log_probabilities(environment, policy, drawn, all_actions=True)
    quick = fast_log_probabilities(environment, policy, drawn, all_actions=True)
    for name, one, other in zip(slow._fields, slow, quick, strict=True):
        assert (one is None) == (other is None), name
        if one is not None and name != "log_policy":
            assert torch.allclose(one.float(), other.float(), atol=1e-5), name
    assert quick.log_pb.abs().sum() > 0
    assert not quick.log_pb.requires_grad


def test_a_reading_policy_learns_through_the_trainer(caplog):
    """Better than a uniform one, and the same objects are drawn again."""
    torch.manual_seed(0)
    environment = Sequence("ABC", 5, "append", min_length=2)
    model = GFlowNet(
        environment,
        TrajectoryBalance(),
        Networks(partial(GRU, width=32)),
        batches=Batches(32),
        optimiser=Optimiser(5e-3),
        speed=Speed(compiled=True),  # says that it compiles nothing
    )
    assert "letter by letter are not compiled" in caplog.text
    data = FunctionData(score)
    before = model.use(data).evaluate().metrics["D_TV"]
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    Trainer(max_steps=300, limit_val_batches=0, accelerator="cpu", **off).fit(
        model, datamodule=data
    )
    assert model.use(data).evaluate().metrics["D_TV"] < min(0.08, before / 3)
    assert torch.equal(model.draw(50, 1, 0).states, model.draw(50, 1, 0).states)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GRU(Sequence("AB", 3, "any"), 2), "reads sequences with order: append"),
        (lambda: GRU(Sequence("AB", 3, "append"), 2, width=0), "at least 1"),
        (lambda: CausalTransformer(Sequence("AB", 3, "any"), 2), "CausalTransformer reads"),
        (
            lambda: CausalTransformer(Sequence("AB", 3, "append"), 2, width=10),
            "heads divide the width, got 10, 2 and 4",
        ),
        (lambda: Convolution(Hypergrid(2, 3), 2), "Convolution reads sequences, got Hypergrid"),
        (lambda: Convolution(Sequence("AB", 3), 2, kernel=2), "and kernel odd"),
    ],
)
def test_what_cannot_be_read_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_learned_backward_policy_has_nothing_to_learn():
    """A tree has one way back."""
    model = GFlowNet(
        ENVIRONMENTS["fixed"], TrajectoryBalance(), Networks(SMALL), LearnedBackward(shared=True)
    )
    assert not model.policy.shared


PLACES = {
    "any": Sequence("ACG", 5, "any"),
    "insert": Sequence("ACG", 5, "insert", 2),
    "edits": Edits("ACGTAC", 3, alphabet="DNA"),
    "either end": Sequence("ACG", 5, "prepend-append"),
}


@pytest.mark.parametrize("backward", ["uniform", "learned", "shared"])
@pytest.mark.parametrize("environment", PLACES)
def test_a_convolution_says_all_that_is_asked(environment, backward):
    """Both policies and a critic; what is new is told from what was there."""
    torch.manual_seed(0)
    environment, network = PLACES[environment], partial(Convolution, width=8)
    policy = Policy(environment, network, backward, network)
    states = environment.initial(4)
    for turn in range(3):
        legal = environment.legal(states)
        log_pf = policy.forward_log_probs(states, legal)
        assert torch.equal(log_pf > -torch.inf, legal)
        assert policy.value(states).shape == (4,)
        moves = legal[:, : legal.shape[1] - (not environment.fixed_length)].nonzero()
        rows = [moves[moves[:, 0] == row][(7 * row + turn) % 3, 1] for row in range(4)]
        states = environment.step(states, torch.stack(rows))[0]
        legal = environment.legal_backward(states)
        assert torch.equal(policy.backward_log_probs(states, legal) > -torch.inf, legal)
    (policy.value(states).sum() + log_pf.where(log_pf > -torch.inf, 0).sum()).backward()
    others = policy.backward_policy.parameters() if backward == "learned" else ()
    idle = {*map(id, others)}
    assert all(p.grad is not None for p in policy.parameters() if id(p) not in idle)


def test_what_a_convolution_says_of_a_place_is_where_its_action_is():
    """Action c L + j: with places told apart by nothing but their letters, these decide."""
    torch.manual_seed(0)
    network = Convolution(PLACES["any"], 15, width=8, depth=1, kernel=1)
    network.places.data.zero_()
    network.layers[0].far.weight.data.zero_()
    states = torch.tensor([[0, -1, 2, 0, -1]])
    answer = network(states).view(3, 5)
    assert torch.allclose(answer[:, 0], answer[:, 3], atol=1e-6)
    assert torch.allclose(answer[:, 1], answer[:, 4], atol=1e-6)
    assert not torch.allclose(answer[:, 0], answer[:, 1], atol=1e-3)


def test_a_convolution_learns():
    torch.manual_seed(0)
    environment = Edits("ACGTAC", 3, alphabet="DNA")
    model = GFlowNet(
        environment,
        TrajectoryBalance(),
        Networks(partial(Convolution, width=32)),
        batches=Batches(32),
        optimiser=Optimiser(5e-3),
    )
    data = FunctionData(score)
    before = model.use(data).evaluate().metrics["D_TV"]
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    Trainer(max_steps=300, limit_val_batches=0, accelerator="cpu", **off).fit(
        model, datamodule=data
    )
    assert model.use(data).evaluate().metrics["D_TV"] < min(0.1, before / 3)


def test_the_usual_network_reads_long_sequences():
    """What the measured table says: from 12 letters on, written from left to right."""
    for environment, kind in (
        (Sequence("DNA", 12, "append"), GRU),
        (Sequence("DNA", 11, "append"), MLP),
        (Sequence("DNA", 30), MLP),
        (Sequence("DNA", 30, "any"), MLP),
        (Edits("ACGTACGTACGT", 2), MLP),
        (Hypergrid(2, 8), MLP),
    ):
        policy = GFlowNet(environment, ActorCritic()).policy
        assert type(policy.forward_policy) is kind
        assert type(policy.critic) is kind
        if kind is GRU:
            sizes = [x.units.hidden_size for x in (policy.forward_policy, policy.critic)]
            assert sizes == [128, 64]


def test_the_last_layer_of_a_convolution_is_all_that_answers():
    network = Convolution(PLACES["insert"], 16, width=8)
    trained = {name for name, _ in last_layer(network).named_parameters()}
    assert trained == {"places.weight", "places.bias", "all.weight", "all.bias"}
