"""Learning that has broken says so, and the scale of a reward does not matter."""

import math
from pathlib import Path

import pytest
import torch
import yaml
from common import model_of, section
from lightning.pytorch import Trainer
from torch import nn

from gfn_design import (
    MLP,
    ActorCritic,
    FunctionData,
    Hypergrid,
    ModifiedDetailedBalance,
    Objective,
    Selfies,
    Sequence,
    TrajectoryBalance,
)
from gfn_design.__main__ import main
from gfn_design.config import load
from gfn_design.config.root import ROOT
from gfn_design.data.base import DataModule
from gfn_design.environments.base import Environment
from gfn_design.environments.walks import every_state_is_an_object
from gfn_design.errors import InputError
from gfn_design.metrics.distributions import total_variation
from gfn_design.objectives.balance import LogVariance
from gfn_design.objectives.guides import StopGuide
from gfn_design.rewards.reward import Reward
from gfn_design.runs.run import build
from gfn_design.sampling.exploration import Exploration, Explorer
from gfn_design.sampling.trajectories import choose
from gfn_design.tensors import masked_log_softmax
from gfn_design.training.divergence import DivergenceError

DNA = {"alphabet": "DNA", "length": 4}
METHODS = sorted((Path(__file__).parents[1] / "configs" / "methods").glob("*.yaml"))


class Breaks(Objective):
    """Trajectory balance whose loss, or gradient, is NaN from some batch on."""

    def __init__(self, what="loss", batch=5):
        super().__init__(log_z=0.0)
        self.what, self.batch, self.seen = what, batch, 0

    def forward(self, now, then):
        self.seen += 1
        residual = self.log_z + (now.log_pf - now.log_pb).sum(1) - now.log_reward
        loss = residual.square().mean()
        if self.seen >= self.batch:
            if self.what == "loss":
                loss = loss * math.nan
            else:  # the root of zero has an infinite slope: its gradient times zero is NaN
                loss = loss + (residual * 0).abs().sum().sqrt()
        return {"balance": loss}


def trainer(**options):
    return Trainer(
        **{
            "max_steps": 20,
            "logger": False,
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "limit_val_batches": 0,
        }
        | options
    )


def small(objective, environment=None, **options):
    environment = environment or Sequence("DNA", 4)
    network = lambda env, n: MLP(env, n, width=16, depth=1)  # noqa: E731
    options = {"network": network, "critic": network, "batch_size": 8} | options
    return model_of(environment, objective, draw_seed=0, **options)


def gc(texts):
    return [1.0 + text.count("G") for text in texts]


# What is broken ends the run.


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize("burst", [1, 50])
@pytest.mark.parametrize("own_step", [False, True])
def test_training_ends_at_the_batch_that_breaks(what, burst, own_step):
    """Alone or several in a step of Lightning, with and without clipping of gradients."""
    module = small(Breaks(what), burst=burst)
    options = {"gradient_clip_val": 1.0} if own_step else {}
    match = r"learning broke at batch 5: " + (
        r"the loss 'balance' is nan" if what == "loss" else r"its gradient is not finite"
    )
    with pytest.raises(DivergenceError, match=match):
        trainer(**options).fit(module, datamodule=FunctionData(gc))


@pytest.mark.slow
def test_a_compiled_loop_ends_at_the_batch_that_breaks():
    """A learning rate that overflows breaks some batch of a loop; it is named."""

    def schedule(optimizer):
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: 1.0 if n < 120 else 1e38)

    module = small(ActorCritic(), compiled=True, lr=1e-3, schedule=schedule)
    with pytest.raises(DivergenceError, match=r"learning broke at batch 12[1-4]: "):
        trainer(max_steps=200).fit(module, datamodule=HypergridLike())
    assert module.engine.loops.loop.compiled


class HypergridLike(DataModule):
    """A reward that can be compiled."""

    def make_reward(self, environment):
        class Score(nn.Module):
            def forward(self, objects):
                return 1.0 + (objects == 0).sum(-1)

        return Reward(Score())


def run_config(tmp_path, **model):
    file = tmp_path / "breaks.py"
    file.write_text(Path(__file__).read_text())
    config = {
        "model": section(
            {
                "environment": {
                    "class_path": "Sequence",
                    "init_args": {"alphabet": "DNA", "length": 4},
                },
                "objective": {"class_path": f"{file}:Breaks", "init_args": {"batch": 12}},
                "network": {"class_path": "MLP", "init_args": {"width": 16, "depth": 1}},
                "batch_size": 8,
            }
        )
        | model,
        "data": {"class_path": "MotifData", "init_args": {"factor": "FOXA1"}},
        "candidates": 5,
        "checkpoint_every": 5,
        "trainer": {"max_steps": 30, "accelerator": "cpu", "enable_progress_bar": False},
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def test_a_run_that_breaks_ends_with_a_sentence_and_keeps_what_was_good(tmp_path, capsys):
    path, out = run_config(tmp_path), tmp_path / "out"
    assert main(["fit", "--config", str(path), "--output", str(out)]) == 2
    said = capsys.readouterr().err
    assert "learning broke at batch 12: the loss 'balance' is nan" in said
    assert "Traceback" not in said
    assert not (out / "candidates.csv").exists()
    saved = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 10
    assert all(x.isfinite().all() for x in saved["state_dict"].values() if x.is_floating_point())


def test_a_checkpoint_with_broken_weights_is_refused(tmp_path, capsys):
    """However it came to be; nothing is drawn from it."""
    path, out = run_config(tmp_path, objective="TrajectoryBalance"), tmp_path / "out"
    assert main(["fit", "--config", str(path), "--output", str(out)]) == 0
    file = out / "checkpoints" / "last.ckpt"
    saved = torch.load(file, weights_only=True)
    next(iter(v for k, v in saved["state_dict"].items() if "weight" in k)).fill_(math.nan)
    torch.save(saved, file)
    (out / "checkpoints" / "previous.ckpt").unlink(missing_ok=True)
    for command in (["sample", str(out), "-n", "5"], ["evaluate", str(out)]):
        capsys.readouterr()
        assert main(command) == 2
        assert "are not finite" in capsys.readouterr().err


def test_selfies_with_modified_detailed_balance_are_refused():
    """One may not stop before there is an atom: the source is no object."""
    with pytest.raises(InputError, match="all of whose states are objects"):
        small(ModifiedDetailedBalance(), Selfies(max_length=6))


# Nothing illegal is ever chosen.


def test_choose_takes_what_is_legal_whatever_the_network_says():
    """Of 20,000 rows with NaN, infinities and ordinary logits, all choices are legal."""
    generator = torch.Generator().manual_seed(0)
    legal = torch.rand(20_000, 7, generator=generator) < 0.3
    legal[torch.arange(20_000), torch.randint(7, (20_000,), generator=generator)] = True
    logits = 30 * torch.randn(20_000, 7, generator=generator)
    kind = torch.rand(20_000, 7, generator=generator)
    logits[kind < 0.05] = math.nan
    logits[(kind > 0.05) & (kind < 0.08)] = math.inf
    logits[(kind > 0.08) & (kind < 0.1)] = -math.inf
    uniform = torch.rand(20_000, generator=generator)
    uniform[:100], uniform[100:200] = 0.0, 1 - 2**-24
    for log_probs in (masked_log_softmax(logits, legal), explored(logits, legal)):
        assert legal.gather(1, choose(log_probs, uniform)[:, None]).all()


def explored(logits, legal):
    class Fixed:
        def forward_log_probs(self, states, legal):
            return masked_log_softmax(logits, legal)

    return Explorer(Fixed(), Exploration(epsilon=0.1)).forward_log_probs(None, legal)


# Preconditions ask the masks.


class NoStopAtTwo(Hypergrid):
    """One may not stop where the first coordinate is 2."""

    def legal(self, states):
        legal = super().legal(states)
        return torch.cat([legal[:, :-1], legal[:, -1:] & (states[:, :1] != 2)], 1)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (Hypergrid(2, 4), True),
        (NoStopAtTwo(2, 4), False),
        (Selfies(max_length=4), False),
        (Sequence("DNA", 4), False),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, Environment) else str(x),
)
def test_whether_every_state_is_an_object(environment, expected):
    assert every_state_is_an_object(environment) is expected
    if expected:
        small(ModifiedDetailedBalance(), environment)
        StopGuide().prepare(environment)
        return
    with pytest.raises(InputError, match="all of whose states are objects"):
        small(ModifiedDetailedBalance(), environment)
    with pytest.raises(InputError, match="all of whose states are objects"):
        StopGuide().prepare(environment)


def test_a_variance_needs_two_trajectories():
    with pytest.raises(InputError, match=r"set batches\.size to 2 or more"):
        small(LogVariance(), batch_size=1)


# The scale of a reward.


def level(texts):
    """Of sequences and of cells alike."""
    return [1.0 + text.count("G") + text.count("3") for text in texts]


def trained(method, scale, tmp_path, batches=12):
    """A module after some batches of a method of `configs/methods`, and its evaluation."""
    grid = method.stem == "mdb_u"
    environment = {"class_path": "Sequence", "init_args": {"alphabet": "DNA", "length": 4}}
    if grid:
        environment = {"class_path": "Hypergrid", "init_args": {"ndim": 2, "height": 6}}
    network = {"class_path": "MLP", "init_args": {"width": 16, "depth": 1}}
    function = {"function": f"{__file__}:level", "exponent": 3.0, "scale": scale}
    config = {
        "model": {
            "environment": environment,
            "networks": {"network": network, "critic": network},
            "batches": {"size": 16},
            "optimiser": {"lr": 0.01},
        },
        "data": {"class_path": "FunctionData", "init_args": function},
    }
    problem = tmp_path / "problem.yaml"
    problem.write_text(yaml.safe_dump(config))
    module, data = build(load([method, problem], [], ROOT))
    trainer(max_steps=batches).fit(module, datamodule=data)
    return module, module.evaluate()


@pytest.mark.parametrize("method", METHODS, ids=lambda path: path.stem)
def test_the_scale_of_a_reward_does_not_matter(method, tmp_path):
    """The same draws, weights equal up to rounding, and log Z is off by as much; also far away."""
    ours, usual = trained(method, 1.0, tmp_path)
    for scale in (1e-12, 1e12):
        module, other = trained(method, scale, tmp_path)
        assert total_variation(usual.probability, other.probability) < 2e-3
        assert other.metrics["log_z_error"] == pytest.approx(usual.metrics["log_z_error"], abs=5e-3)
        assert module.log_z - ours.log_z == pytest.approx(math.log(scale), abs=5e-3)


@pytest.mark.parametrize("objective", [TrajectoryBalance, ActorCritic])
def test_log_z_starts_from_the_first_batch(objective):
    """After one batch it is as near as that batch can tell, at scores of 0.1 to the power 8 too."""
    module = small(objective(), batch_size=256)
    data = FunctionData(lambda texts: [0.1 * x for x in gc(texts)], exponent=8.0, scale=1e-8)
    trainer(max_steps=1).fit(module, datamodule=data)
    drawn = module(4096, 1, 0)
    bound = (drawn.log_reward + math.log(4**4)).mean()  # the policy is nearly uniform
    assert bound - 0.3 < module.log_z < bound + 1.3
    assert module.evaluate().metrics["log_z_error"] < 8


def test_the_settings_of_the_paper_are_there_by_saying_them():
    """With log_z 0 and a floor of -12 nats a small reward teaches nothing."""
    module = small(TrajectoryBalance(log_z=0.0, min_log_reward=-12.0))
    assert float(module.objective.log_scale) == 0
    assert bool(module.objective.calibrated)
    module.use(FunctionData(gc, scale=1e-8))
    states = module.environment.encode(["AAAA", "GGGG"])
    assert module.learned_reward()(states).tolist() == [-12.0, -12.0]


def test_a_floor_that_binds_is_said(caplog):
    """Once, when many objects of a batch that is logged lie below it; and in the log's column."""
    module = small(TrajectoryBalance(min_log_reward=0.5))
    run = trainer(max_steps=20, log_every_n_steps=5)
    with caplog.at_level("WARNING"):
        run.fit(module, datamodule=FunctionData(gc))
    said = [r.message for r in caplog.records if "min_log_reward" in r.message]
    assert len(said) == 1
    assert 0.1 < float(run.callback_metrics["floored"]) < 1


def test_a_floor_does_not_hide_a_reward_that_is_not_positive():
    module = small(TrajectoryBalance())
    with pytest.raises(InputError, match="is not a positive number"):
        trainer(max_steps=3).fit(module, datamodule=FunctionData(lambda x: [0.0] * len(x)))


def test_what_was_saved_before_there_was_a_scale_is_read():
    module = small(TrajectoryBalance())
    state = {k: v for k, v in module.state_dict().items() if k.startswith("objective.")}
    old = {"log_z": state["objective.log_z"] + 3.0}
    module.objective.load_state_dict(old)
    assert module.log_z == pytest.approx(3.0)
    assert bool(module.objective.calibrated)
