"""Parts of one's own: a sentence where they are not quite right, and found where they are."""

import sys

import pytest
import torch
from common import model_of
from lightning.pytorch import Trainer
from torch import nn

from gfn_design import (
    Batches,
    DataModule,
    GFlowNet,
    Hypergrid,
    HypergridData,
    InputError,
    Objective,
    Reward,
    Speed,
    TrajectoryBalance,
)
from gfn_design.config import import_class


class Whole(Objective):
    """Its losses as a tensor, which Lightning would take."""

    def forward(self, now, then):
        return (self.log_z - now.log_reward).square().mean()


class Each(Objective):
    """A loss for each trajectory."""

    def forward(self, now, then):
        return {"each": (self.log_z - now.log_reward).square()}


class Score(nn.Module):
    def forward(self, objects):
        return 0.1 + objects.float().abs().sum(1)


class Scores(DataModule):
    def make_reward(self, environment):
        return Score()


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (Whole(), r"Whole.forward must return losses by name, .* got a Tensor"),
        (Each(), r"Each.forward: the loss 'each' must be one number .* got the shape \(8,\)"),
    ],
)
@pytest.mark.parametrize("speed", [Speed(fast=False), Speed()])
def test_losses_of_an_objective_have_names_and_are_numbers(objective, message, speed):
    model = GFlowNet(Hypergrid(2, 4), objective, batches=Batches(8), speed=speed)
    model.use(HypergridData())
    with pytest.raises(InputError, match=message):
        model.next_step()


def test_a_score_is_no_reward():
    with pytest.raises(InputError, match=r"Scores.make_reward must return .* got a Score"):
        model_of(Hypergrid(2, 4), TrajectoryBalance()).use(Scores())
    assert Reward(Score())


def test_environments_of_other_arguments_are_described_otherwise():
    class Own(Hypergrid):
        def extra_repr(self):
            return super(Hypergrid, self).extra_repr()

    assert Own(2, 5).describe() == "Own(ndim=2, height=5)"
    assert Own(ndim=2, height=5).describe() == "Own(ndim=2, height=5)"
    assert Own(3, 5).describe() != Own(2, 5).describe()


def test_a_part_of_a_file_is_the_class_that_the_file_has_elsewhere(tmp_path, monkeypatch):
    """Imported by name before or after it was named in a configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("own_before", "own_after"):
        (tmp_path / f"{name}.py").write_text("class Part:\n    pass\n")
    import own_before  # type: ignore[import-not-found]

    assert import_class("own_before.py:Part") is own_before.Part
    there = import_class("own_after.py:Part")
    import own_after  # type: ignore[import-not-found]

    assert own_after.Part is there
    for name in ("own_before", "own_after"):
        del sys.modules[name]


def test_a_checkpoint_takes_any_part_that_is_given_again(tmp_path):
    class Own(Hypergrid):
        """Defined within a function, so that it has no import path."""

    model = model_of(Own(2, 4), TrajectoryBalance(), batch_size=8).use(HypergridData())
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    trainer = Trainer(max_steps=2, limit_val_batches=0, **off)
    trainer.fit(model, datamodule=HypergridData())
    path = tmp_path / "own.ckpt"
    trainer.save_checkpoint(path)
    with pytest.raises(InputError, match="environment has no import path"):
        GFlowNet.load_from_checkpoint(path)
    for given in ({}, {"objective": TrajectoryBalance()}):
        again = GFlowNet.load_from_checkpoint(path, environment=Own(2, 4), **given)
        torch.testing.assert_close(again.state_dict(), model.state_dict())
