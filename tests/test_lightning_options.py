"""What Lightning offers reaches a run, and what it refuses is a sentence."""

import copy
import csv

import pytest
import yaml
from common import model_of, section
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging

from gfn_design import (
    MLP,
    DataModule,
    GFlowNet,
    InputError,
    MotifData,
    Networks,
    Sequence,
    TrajectoryBalance,
)
from gfn_design.__main__ import main

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
