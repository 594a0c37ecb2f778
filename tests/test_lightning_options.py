"""What Lightning offers reaches a run, and what it refuses is a sentence."""

import copy
import csv
import inspect
from functools import partial

import pytest
import torch
import yaml
from common import model_of, section
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.tuner import Tuner
from test_engines import METHODS, module

from gfn_design import (
    MLP,
    ActorCritic,
    BackwardActorCritic,
    Batches,
    DataModule,
    Exploration,
    GFlowNet,
    InputError,
    LearnedBackward,
    MotifData,
    Networks,
    Optimiser,
    Sequence,
    TrajectoryBalance,
)
from gfn_design.__main__ import main
from gfn_design.runs.run import open_run
from gfn_design.training.engine import Step

DNA = Sequence("DNA", 4)

RUN = {
    "model": section(
        {
            "environment": {
                "class_path": "Sequence",
                "init_args": {"alphabet": "DNA", "length": 4},
            },
            "objective": "TrajectoryBalance",
            "network": {"class_path": "MLP", "init_args": {"width": 16, "depth": 1}},
            "batch_size": 8,
        }
    ),
    "data": {"class_path": "MotifData", "init_args": {"factor": "FOXA1"}},
    "candidates": 10,
    "evaluate_every": 10,
    "trainer": {
        "max_steps": 30,
        "accelerator": "cpu",
        "log_every_n_steps": 5,
        "enable_progress_bar": False,
    },
}
CALLBACKS = "lightning.pytorch.callbacks."


@pytest.fixture
def fit(tmp_path, monkeypatch):
    """A function that trains with these options, and gives the exit code."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(RUN))
    return lambda *options: main(["fit", "--config", "run.yaml", "--output", "out", *options])


@pytest.mark.parametrize(
    ("callback", "said"),
    [
        ("EarlyStopping, init_args: {monitor: val_loss}", "val_loss"),
        ("StochasticWeightAveraging, init_args: {swa_lrs: 0.001}", ""),
        ("LearningRateFinder", ""),
        ("ModelCheckpoint, init_args: {monitor: nothing, every_n_train_steps: 5}", "nothing"),
    ],
)
def test_a_callback_that_cannot_be_is_one_sentence_or_none(callback, said, fit, capsys):
    """Exit code 0 or 2, and never a traceback."""
    code = fit("--trainer.callbacks", f"[{{class_path: {CALLBACKS}{callback}}}]")
    message = capsys.readouterr().err.strip().splitlines()[-1:]
    assert code in (0, 2)
    if said:
        assert code == 2
        assert said in message[0]


def test_another_bar_takes_the_place_of_ours(fit):
    pytest.importorskip("rich")
    bar = f"[{{class_path: {CALLBACKS}RichProgressBar}}]"
    assert fit("--trainer.callbacks", bar, "--trainer.enable_progress_bar", "true") == 0


@pytest.mark.parametrize("every", ['"00:00:00:01"', "{seconds: 1}"])
def test_validation_by_time(every, fit, tmp_path):
    """A run shorter than that is evaluated at its ends."""
    assert fit("--trainer.val_check_interval", every) == 0
    with (tmp_path / "out" / "log.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert rows[-1]["step"] == "29"
    assert rows[0]["D_TV"]


def test_a_model_can_be_copied_and_averaged_after_training():
    """Nothing that it keeps holds a graph."""
    model = model_of(Sequence("DNA", length=4), TrajectoryBalance(), batch_size=8)
    options = {
        "max_steps": 5,
        "limit_val_batches": 0,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "accelerator": "cpu",
    }
    Trainer(**options).fit(model, datamodule=MotifData("FOXA1"))
    twin = copy.deepcopy(model)
    assert twin.tally.trajectories == model.tally.trajectories == 40
    Trainer(**options, callbacks=[EMAWeightAveraging()]).fit(model, datamodule=MotifData("FOXA1"))
    assert model.tally.trajectories == 80


class NoReward(DataModule):
    """Somebody forgot something."""


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: GFlowNet("DNA", TrajectoryBalance()), "environment must be an Environment"),
        (
            lambda: GFlowNet(DNA, TrajectoryBalance),
            "an Objective .* the class Traj",
        ),
        (
            lambda: GFlowNet(DNA, TrajectoryBalance(), Networks(MLP(DNA, 4))),
            r"networks\.network must build a network",
        ),
        (lambda: GFlowNet(DNA, TrajectoryBalance(), backward="uniform"), "backward must be a Back"),
        (
            lambda: GFlowNet(DNA, TrajectoryBalance(), networks=MLP),
            r"networks must be a Networks such as Networks\(network=.*\), got the class MLP",
        ),
        (
            lambda: GFlowNet(DNA, TrajectoryBalance(), fine_tune="runs/a"),
            r"fine_tune must be a FineTuning such as FineTuning\('runs/before'\), got 'runs/a'",
        ),
        (lambda: GFlowNet(DNA, TrajectoryBalance(), speed=True), "speed must be a Speed such as"),
        (lambda: GFlowNet(DNA, TrajectoryBalance(), lr=1.0), "'lr' is optimiser=Optimiser"),
        (lambda: GFlowNet(DNA, TrajectoryBalance()).use(None), "use takes a DataModule"),
        (
            lambda: GFlowNet(DNA, TrajectoryBalance()).use(NoReward()),
            "NoReward has no reward",
        ),
    ],
)
def test_mistakes_in_python_are_one_sentence(build, said):
    with pytest.raises(InputError, match=said):
        build()


def fitted(tmp_path, *callbacks, steps=20):
    model = GFlowNet(DNA, TrajectoryBalance(), batches=Batches(8))
    run = Trainer(
        max_steps=steps,
        log_every_n_steps=10,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        default_root_dir=tmp_path,
        callbacks=[*callbacks],
    )
    run.fit(model, datamodule=MotifData("FOXA1"))
    return model, run


def test_a_trained_module_can_be_copied_and_tested(tmp_path):
    model, run = fitted(tmp_path)
    twin = copy.deepcopy(model)
    assert twin.tally.trajectories == 160
    (metrics,) = run.test(model, datamodule=MotifData("FOXA1"), verbose=False)
    assert metrics["D_TV"] == pytest.approx(model.evaluate().metrics["D_TV"])


class Bar(Callback):
    """What any bar would show after every tenth batch."""

    def __init__(self):
        self.shown = []

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step % 10 == 0:
            self.shown.append(dict(trainer.progress_bar_metrics))


def test_any_bar_sees_reward_objects_and_log_z(tmp_path):
    bar = Bar()
    fitted(tmp_path, bar)
    assert len(bar.shown) == 2
    assert all(set(shown) >= {"reward", "distinct", "log_z"} for shown in bar.shown)


def test_what_is_given_is_not_changed(tmp_path):
    """Nor shared by two modules."""
    objective, exploration = TrajectoryBalance(), Exploration(epsilon=0.5)
    before = copy.deepcopy(objective.state_dict()), copy.deepcopy(exploration.state_dict())
    batches = Batches(8, exploration=exploration)
    one, two = (GFlowNet(DNA, objective, batches=batches) for _ in range(2))
    one.use(MotifData("FOXA1"))
    optimizer = one.configure_optimizers()
    for _ in range(3):
        _, losses, gradients = one.next_step()
        optimizer.zero_grad()
        one.engine.loss(Step(None, losses, gradients)).backward()
        optimizer.step()
    assert float(one.log_z) != float(two.log_z)
    assert (objective.state_dict(), exploration.state_dict()) == before


def test_the_learning_rate_finder_finds_it(tmp_path):
    model = GFlowNet(DNA, TrajectoryBalance(), batches=Batches(8))
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    run = Trainer(max_steps=100, accelerator="cpu", default_root_dir=tmp_path, **quiet)
    options = {"num_training": 60, "early_stop_threshold": None}
    found = Tuner(run).lr_find(model, datamodule=MotifData("FOXA1"), **options)
    assert model.lr == model.optimiser.lr == found.suggestion()


def test_data_say_what_they_are():
    assert repr(MotifData("FOXA1", exponent=2.0)) == str(MotifData("FOXA1", exponent=2.0))
    assert "exponent=2.0" in str(MotifData("FOXA1", exponent=2.0))
    for made in (DNA, TrajectoryBalance(), GFlowNet(DNA, TrajectoryBalance())):
        assert type(made).__name__ in repr(made)


class Own(MLP):
    """Somebody's network."""


def saved(tmp_path, **options):
    model = GFlowNet(DNA, ActorCritic(policy_lambda=0.5), **options)
    log = CSVLogger(tmp_path)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "max_steps": 5}
    quiet |= {"log_every_n_steps": 5, "accelerator": "cpu", "default_root_dir": tmp_path}
    run = Trainer(logger=log, **quiet)
    run.fit(model, datamodule=MotifData("FOXA1"))
    run.save_checkpoint(tmp_path / "model.ckpt")
    return model, tmp_path / "model.ckpt"


def same(one, two):
    left, right = one.state_dict(), two.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_a_checkpoint_alone_gives_the_module_back(tmp_path):
    """Made in Python: groups, a backward policy with a guide, replay, a network of one's own."""
    options = {
        "networks": Networks(partial(Own, width=16, depth=1), partial(MLP, width=8, depth=1)),
        "backward": LearnedBackward(BackwardActorCritic(), shared=False),
        "batches": Batches(8),
        "optimiser": Optimiser(0.01),
        "draw_seed": 3,
    }
    model, path = saved(tmp_path, **options)
    again = GFlowNet.load_from_checkpoint(path)
    assert same(again, model)
    assert type(again.policy.forward_policy).__name__ == "Own"  # imported again, by its file
    assert again.objective.policy_lambda == 0.5
    assert again.tally.trajectories == model.tally.trajectories == 40
    assert again.optimiser.lr == 0.01
    one, two = (x.use(MotifData("FOXA1")).evaluate().metrics["D_TV"] for x in (model, again))
    assert one == pytest.approx(two)
    hparams = yaml.safe_load(next(tmp_path.rglob("hparams.yaml")).read_text())
    assert hparams["environment"] == {
        "class_path": "Sequence",
        "init_args": {"alphabet": "DNA", "length": 4},
    }


def test_the_checkpoint_of_a_run_alone_gives_the_module_back(tmp_path):
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(RUN | {"candidates": 0}))
    file = str(tmp_path / "run.yaml")
    assert main(["fit", "--config", file, "--output", str(tmp_path / "run")]) == 0
    again = GFlowNet.load_from_checkpoint(tmp_path / "run/checkpoints/last.ckpt")
    assert same(again, open_run(tmp_path / "run").module)


def test_a_part_without_a_name_is_said_and_can_be_given_again(tmp_path):
    networks = Networks(lambda environment, n: MLP(environment, n, width=8, depth=1))
    model, path = saved(tmp_path, networks=networks, batches=Batches(8))
    with pytest.raises(InputError, match=r"networks\.network has no import path .* networks="):
        GFlowNet.load_from_checkpoint(path)
    assert same(GFlowNet.load_from_checkpoint(path, networks=networks), model)


@pytest.mark.parametrize("method", METHODS, ids=lambda path: path.stem)
def test_the_module_of_every_method_comes_back(method, tmp_path):
    model = module(method, "prepend-append" if "mdb" not in method.stem else "hypergrid", True)
    for _ in range(2):
        model.next_step()
    content = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    model.on_save_checkpoint(content)
    torch.save(content, tmp_path / "model.ckpt")
    again = GFlowNet.load_from_checkpoint(tmp_path / "model.ckpt")
    assert same(again, model)
    assert dict(again.hparams) == dict(model.hparams)


class OwnStep(GFlowNet):
    """Somebody adds to the loss."""

    def training_step(self, tick, batch_idx):
        self.taken = getattr(self, "taken", 0) + 1
        return super().training_step(tick, batch_idx)


def test_a_training_step_of_ones_own_is_always_taken(tmp_path):
    model = OwnStep(DNA, TrajectoryBalance(), batches=Batches(8))
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    run = Trainer(max_steps=20, accelerator="cpu", default_root_dir=tmp_path, **quiet)
    run.fit(model, datamodule=MotifData("FOXA1"))
    assert model.taken == 20


def test_help_shows_what_constructors_take():
    assert list(inspect.signature(GFlowNet).parameters)[:3] == [
        "environment",
        "objective",
        "networks",
    ]
    assert list(inspect.signature(Sequence).parameters)[:2] == ["alphabet", "length"]
