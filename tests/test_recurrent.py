"""Networks that read: the same however they are asked, plain or fast, and refused elsewhere."""

from functools import partial

import pytest
import torch
from lightning.pytorch import Trainer

from gfn_design import (
    GC,
    GRU,
    ActorCritic,
    Batches,
    Exploration,
    Forbid,
    FunctionData,
    GFlowNet,
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

SMALL = partial(GRU, width=8)
ENVIRONMENTS = {
    "fixed": Sequence("ABC", 6, "append"),
    "lengths": Sequence("ABC", 7, "append", min_length=2),
    "long": Sequence("AB", 70, "append", min_length=1),
    "constraints": Sequence("DNA", 12, "append", 6, [Forbid("ACG"), GC(0.3, 0.6)]),
}


def score(texts):
    return [0.1 + text.count("A") + 2 * text.startswith("C") for text in texts]


@pytest.mark.parametrize("depth", [1, 2])
def test_a_state_is_answered_alike_however_it_is_asked(depth):
    torch.manual_seed(0)
    environment = ENVIRONMENTS["lengths"]
    network = GRU(environment, 5, width=8, depth=depth)
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
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_reading_on_gives_the_numbers_of_reading_anew(environment, objective, options):
    """Draws, losses and weights of 20 updates, of the plain path and of the fast one."""
    models = []
    for fast in (False, True):
        torch.manual_seed(0)
        model = GFlowNet(
            ENVIRONMENTS[environment],
            objective(),
            Networks(SMALL, SMALL),
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


def test_a_reading_policy_learns_through_the_trainer():
    """Better than a uniform one, and the same objects are drawn again."""
    torch.manual_seed(0)
    environment = Sequence("ABC", 5, "append", min_length=2)
    model = GFlowNet(
        environment,
        TrajectoryBalance(),
        Networks(partial(GRU, width=32)),
        batches=Batches(32),
        optimiser=Optimiser(5e-3),
        speed=Speed(compiled=True),  # says nothing and compiles nothing
    )
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
