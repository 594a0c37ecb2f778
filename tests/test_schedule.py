"""Learning rates that change with the updates."""

from functools import partial

import pytest
import torch
import yaml
from common import model_of
from lightning.pytorch import Trainer
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau

from gfn_design import (
    MLP,
    Hypergrid,
    HypergridData,
    InputError,
    PatternMLP,
    Replay,
    TrajectoryBalance,
    TrustRegion,
)
from gfn_design.config import build_section, load
from gfn_design.config.root import ROOT

COSINE = partial(CosineAnnealingLR, T_max=16)


def gflownet(objective, **options):
    torch.manual_seed(0)
    settings = {"network": partial(MLP, width=16, depth=2), "batch_size": 8, "draw_seed": 0}
    return model_of(Hypergrid(2, 6), objective, **(settings | options))


def fit(model, folder, steps, resume=None):
    run = Trainer(
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        log_every_n_steps=4,
        default_root_dir=folder,
    )
    run.fit(model, datamodule=HypergridData(), ckpt_path=resume, weights_only=True)
    return run


def test_a_resumed_run_goes_on_with_its_learning_rates(tmp_path):
    """Stopped between two updates with one batch, to the last bit."""

    def model():
        network = partial(PatternMLP, width=16, table=2)
        parts = {"updates": 3, "replay": Replay(8), "network": network, "schedule": COSINE}
        return gflownet(TrajectoryBalance(), **parts)

    whole, first, second = model(), model(), model()
    run = fit(whole, tmp_path, 16)
    fit(first, tmp_path, 7).save_checkpoint(tmp_path / "at_7.ckpt")
    resumed = fit(second, tmp_path, 16, tmp_path / "at_7.ckpt")
    assert whole.tally.draws == second.tally.draws == 6
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    rates = [[group["lr"] for group in r.optimizers[0].param_groups] for r in (run, resumed)]
    assert rates[0] == rates[1]
    assert max(rates[0]) < 1e-9  # a whole cosine


def test_all_learning_rates_follow_the_cosine(tmp_path):
    model = gflownet(TrajectoryBalance(), lr=0.01, log_z_lr=0.5, schedule=COSINE, updates=2)
    (optimizer,) = fit(model, tmp_path, 8).optimizers
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates["policy"] == pytest.approx(0.005)
    assert rates["log_z"] == pytest.approx(0.25)


def test_a_schedule_shortens_the_steps_of_a_trust_region(tmp_path):
    model = gflownet(TrustRegion(), schedule=COSINE)
    (optimizer,) = fit(model, tmp_path, 8).optimizers
    assert optimizer._rate() == pytest.approx(0.5)


def test_a_schedule_of_a_metric_is_refused():
    with pytest.raises(InputError, match="ReduceLROnPlateau looks at a metric"):
        gflownet(TrajectoryBalance(), schedule=ReduceLROnPlateau)


def test_a_schedule_is_written_in_a_configuration(tmp_path):
    file = tmp_path / "run.yaml"
    schedule = {"class_path": "torch.optim.lr_scheduler.CosineAnnealingLR"}
    model = {
        "environment": {"class_path": "Hypergrid", "init_args": {"ndim": 2, "height": 4}},
        "objective": {"class_path": "TrajectoryBalance"},
        "optimiser": {"schedule": schedule | {"init_args": {"T_max": 5}}},
    }
    file.write_text(yaml.safe_dump({"model": model, "data": {"class_path": "HypergridData"}}))
    built = build_section(load([file], [], ROOT)["model"], ROOT["model"], "model")
    assert built.optimiser.schedule.func is CosineAnnealingLR
    assert built.optimiser.schedule.keywords == {"T_max": 5}
    with pytest.raises(InputError, match=r"model\.optimiser\.schedule.*must be a LRScheduler"):
        load([file], [("model.optimiser.schedule.class_path", "torch.optim.Adam")], ROOT)
