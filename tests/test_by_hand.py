"""Gradients by hand and updates by hand are those of torch."""

from copy import deepcopy
from functools import partial

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from gfn_design import (
    MLP,
    ActorCritic,
    Batches,
    DetailedBalance,
    Exploration,
    FunctionData,
    GFlowNet,
    Hypergrid,
    HypergridData,
    LearnedBackward,
    LogVariance,
    Networks,
    Optimiser,
    Sequence,
    Speed,
    SubTrajectoryBalance,
    TrajectoryBalance,
)
from gfn_design.fast import fused_adam
from gfn_design.fast.by_hand import goes_by_hand, logits_by_hand
from gfn_design.policies.policy import Policy

QUIET = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar"], False)


def letters(texts):
    return [0.1 + text.count("A") for text in texts]


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("rows", [3, 200])
@pytest.mark.parametrize(
    "environment",
    [Sequence("ABC", 5, "any"), Hypergrid(2, 8), Hypergrid(2, 200), Sequence("AB", 3)],
    ids=["slots", "grid", "many columns", "few slots"],
)
def test_the_gradient_by_hand_is_that_of_autograd(environment, rows, depth):
    torch.manual_seed(0)
    network = MLP(environment, environment.n_actions, width=24, depth=depth)
    states = torch.stack([torch.randint(-1, size, (rows,)) for size in environment.slot_sizes], 1)
    upstream = torch.randn(rows, environment.n_actions)
    parameters = list(network.parameters())
    expected = torch.autograd.grad((network(states) * upstream).sum(), parameters)
    with torch.no_grad():
        recorded = network.layer_outputs(states)
    answer = logits_by_hand(network, states, recorded)
    assert torch.equal(answer, recorded[-1])
    found = torch.autograd.grad((answer * upstream).sum(), parameters)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frozen", ["embedding", "first", "all but the last"])
def test_what_is_frozen_has_no_gradient(frozen):
    environment = Sequence("ABC", 4)
    network = MLP(environment, 6, width=8, depth=2)
    last = network.layers[-1]
    for module in {"embedding": [network.embedding], "first": [network.layers[0]]}.get(
        frozen, [network.embedding, network.layers[0]]
    ):
        module.requires_grad_(False)
    states = torch.randint(0, 3, (5, 4))
    with torch.no_grad():
        recorded = network.layer_outputs(states)
    logits_by_hand(network, states, recorded).sum().backward()
    learns = {name for name, p in network.named_parameters() if p.requires_grad}
    assert {name for name, p in network.named_parameters() if p.grad is not None} == learns
    assert torch.allclose(last.weight.grad, recorded[-2].relu().sum(0)[:, None].expand(8, 6))


class Other(MLP):
    def forward(self, states):
        return super().forward(states) * 2


def test_only_what_answers_as_an_mlp_goes_by_hand():
    environment = Sequence("ABC", 4)
    small = partial(MLP, width=8, depth=1)
    assert goes_by_hand(Policy(environment, small))
    assert not goes_by_hand(Policy(environment, partial(Other, width=8, depth=1)))
    assert not goes_by_hand(Policy(environment, small, members=2))
    with torch.no_grad():
        assert not goes_by_hand(Policy(environment, small))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not goes_by_hand(Policy(environment, small))


CASES = {
    "TB": (Sequence("ABC", 4, "prepend-append"), TrajectoryBalance, {}),
    "shared": (
        Sequence("ABC", 4, "prepend-append"),
        TrajectoryBalance,
        {"backward": LearnedBackward(shared=True)},
    ),
    "VarGrad, explored": (
        Sequence("ABC", 4, "append"),
        LogVariance,
        {"batches": Batches(8, exploration=Exploration(epsilon=0.2))},
    ),
    "SubTB": (Sequence("ABC", 5, min_length=2), SubTrajectoryBalance, {}),
    "DB": (Sequence("ABC", 4, "any"), DetailedBalance, {}),
    "RL": (Hypergrid(2, 6), ActorCritic, {}),
    "grid": (Hypergrid(2, 6), TrajectoryBalance, {"backward": LearnedBackward(shared=True)}),
    "not numbered": (Sequence("ABCDEFGH", 30, "append"), TrajectoryBalance, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_training_is_that_of_the_plain_path(case):
    """Draws, losses and weights of 20 batches through the Trainer."""
    environment, objective, options = CASES[case]
    data = HypergridData() if isinstance(environment, Hypergrid) else FunctionData(letters)
    found = []
    for fast in (True, False):
        torch.manual_seed(0)
        module = GFlowNet(
            environment,
            objective(),
            Networks(partial(MLP, width=16, depth=2), partial(MLP, width=16, depth=1)),
            **{"batches": Batches(8), **deepcopy(options)},
            optimiser=Optimiser(lr=5e-3),
            speed=Speed(fast=fast),
            draw_seed=0,
        )
        trainer = Trainer(
            max_steps=20,
            limit_val_batches=0,
            enable_model_summary=False,
            accelerator="cpu",
            **QUIET,
        )
        trainer.fit(module, datamodule=data)
        assert fused_adam.suits(trainer.optimizers[0])
        found.append((module.state_dict(), trainer.optimizers[0].state_dict()))
    (weights, state), (expected, plain_state) = found
    torch.testing.assert_close(weights, expected, rtol=1e-3, atol=1e-4)
    assert {int(x["step"]) for x in state["state"].values()} == {20}
    torch.testing.assert_close(state["state"], plain_state["state"], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_an_update_by_hand_is_that_of_fused_adam(decay):
    torch.manual_seed(0)
    first = [torch.nn.Parameter(torch.randn(4, 3)), torch.nn.Parameter(torch.randn(5))]
    second = [torch.nn.Parameter(p.detach().clone()) for p in first]
    third = torch.nn.Parameter(torch.randn(2))  # without a gradient
    one = torch.optim.Adam([*first, third], 1e-2, fused=True, weight_decay=decay)
    other = torch.optim.Adam([*second, third], 1e-2, fused=True, weight_decay=decay)
    assert fused_adam.suits(one)
    for _ in range(5):
        for p, q in zip(first, second, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        fused_adam.update(one)
        other.step()
    for p, q in zip(first, second, strict=True):
        assert torch.equal(p, q)
    assert one.state_dict()["state"].keys() == other.state_dict()["state"].keys()


def test_other_optimizers_and_those_that_are_looked_at_step_by_themselves():
    p = [torch.nn.Parameter(torch.zeros(2))]
    assert not fused_adam.suits(torch.optim.SGD(p, 0.1))
    assert not fused_adam.suits(torch.optim.AdamW(p, fused=True))
    assert not fused_adam.suits(torch.optim.Adam(p))
    assert not fused_adam.suits(torch.optim.Adam(p, fused=True, amsgrad=True))
    seen = torch.optim.Adam(p, fused=True)
    assert fused_adam.suits(seen)
    seen.register_step_post_hook(lambda *_: None)
    assert not fused_adam.suits(seen)


class Looks(Callback):
    sees_several_batches = True

    def __init__(self):
        self.steps = 0

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.steps += 1


def test_callbacks_that_look_at_updates_see_all_of_them():
    looks = Looks()
    module = GFlowNet(Sequence("ABC", 3), TrajectoryBalance(), batches=Batches(4), draw_seed=0)
    trainer = Trainer(
        max_steps=15,
        limit_val_batches=0,
        enable_model_summary=False,
        accelerator="cpu",
        callbacks=[looks],
        **QUIET,
    )
    trainer.fit(module, datamodule=FunctionData(letters))
    assert looks.steps == trainer.global_step == 15
