"""Training through the Trainer: it learns, resumes bit for bit, and runs on several processes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from common import model_of
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from gfn_design import (
    MLP,
    ActorCritic,
    BackwardActorCritic,
    ClippedPolicy,
    Exploration,
    GFlowNet,
    Hypergrid,
    HypergridData,
    InputError,
    MotifData,
    Objective,
    PessimisticLikelihood,
    PrioritizedReplay,
    Replay,
    Sequence,
    SoftQ,
    TrajectoryBalance,
    TrajectoryLikelihood,
    TrustRegion,
)


def small(width: int = 64, depth: int = 2):
    def network(environment, outputs):
        return MLP(environment, outputs, width=width, depth=depth)

    return network


def gflownet(objective: Objective | None = None, **options) -> GFlowNet:
    seed_everything(0, verbose=False)
    environment = options.pop("environment", Hypergrid(2, 4))
    options = {"network": small(), "critic": small(), "batch_size": 32, "lr": 5e-3} | options
    return model_of(environment, objective or TrajectoryBalance(), **options)


def trainer(folder: Path, steps: int, **options) -> Trainer:
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "num_sanity_val_steps": 0,
        "limit_val_batches": 0,
        "accelerator": "cpu",
        "default_root_dir": folder,
        "max_steps": steps,
        "max_epochs": -1,
    }
    return Trainer(**(quiet | options))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "backward"),
    [(TrajectoryBalance, "uniform"), (TrajectoryBalance, "learned"), (ActorCritic, "uniform")],
)
@pytest.mark.parametrize(
    ("environment", "data"),
    [
        (Hypergrid(2, 8), HypergridData(r0=0.1)),
        (Sequence("DNA", 4, "prepend-append"), MotifData("FOXA1", exponent=0.5)),
        (Sequence("DNA", 4, "any"), MotifData("FOXA1", exponent=0.5)),
        (Sequence("DNA", 4, "append"), MotifData("FOXA1", exponent=0.5)),
    ],
    ids=["hypergrid", "prepend-append", "any", "append"],
)
def test_it_learns_the_target(objective, backward, environment, data, tmp_path):
    """Exact D_TV falls to a twentieth, and log Z to within 0.05 of the truth."""
    model = gflownet(objective(), environment=environment, backward=backward, batch_size=64)
    trainer(tmp_path, 1200).fit(model, datamodule=data)
    metrics = model.use(data).evaluate().metrics
    assert metrics["D_TV"] < 0.05
    assert metrics["log_z_error"] < 0.05
    assert metrics["accuracy"] > 0.95


METHODS = {
    "TB": lambda: gflownet(),
    "RL-U": lambda: gflownet(ActorCritic()),
    "RL-B": lambda: gflownet(
        ActorCritic(), backward="learned", backward_objective=BackwardActorCritic()
    ),
    "pessimistic": lambda: gflownet(
        backward="learned", backward_objective=PessimisticLikelihood(3, 2)
    ),
    "RL-T": lambda: gflownet(TrustRegion()),
    "PPO": lambda: gflownet(ClippedPolicy(), updates=2),
    "replay": lambda: gflownet(replay=Replay(16, best=0.5), updates=2),
    "soft Q": lambda: gflownet(SoftQ(), exploration=Exploration(0.5, 2.0)),
    "Q-Much": lambda: gflownet(SoftQ(), replay=PrioritizedReplay(16, 100), updates=2),
    "TB-TS": lambda: gflownet(exploration=Exploration(members=3, random_prior=1.0), updates=2),
    "TLM": lambda: gflownet(backward="learned", backward_objective=TrajectoryLikelihood()),
}


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* not empty")
@pytest.mark.parametrize("method", METHODS)
def test_parameters_are_the_same_after_a_resume(method, tmp_path):
    """6 steps = 3 steps + a checkpoint + 3 steps, to the last bit, optimizer state included."""

    def saver(folder: Path) -> ModelCheckpoint:
        return ModelCheckpoint(dirpath=folder, filename="last", every_n_train_steps=3)

    folder = tmp_path / "checkpoints"
    whole = METHODS[method]()
    learned = [(name, p) for name, p in whole.named_parameters() if p.requires_grad]
    start = {name: p.detach().clone() for name, p in learned}
    trainer(tmp_path, 6).fit(whole, datamodule=HypergridData())
    first = METHODS[method]()
    run = trainer(tmp_path, 3, enable_checkpointing=True, callbacks=[saver(folder)])
    run.fit(first, datamodule=HypergridData())
    torch.manual_seed(1234)  # the resumed process has other global randomness
    second = METHODS[method]()
    torch.rand(7)
    resumed = trainer(tmp_path, 6, enable_checkpointing=True, callbacks=[saver(folder)])
    resumed.fit(
        second,
        datamodule=HypergridData(),
        ckpt_path=str(folder / "last.ckpt"),
        weights_only=True,
    )
    assert resumed.global_step == 6
    assert second.tally.draws == whole.tally.draws == 6 // whole.learner.updates
    assert second.tally.trajectories == 32 * second.tally.draws
    changed = 0
    for name, value in whole.state_dict().items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, second.state_dict()[name]), name
            changed += name in start and not torch.equal(value, start[name])
    assert changed >= 0.9 * len(start)
    for model in (whole, second):
        model.tally.seen.update(lambda keys: keys)
    assert torch.equal(whole.tally.seen.keys, second.tally.seen.keys)
    for a, b in zip(
        whole.optimizers().optimizer.state.values(),
        second.optimizers().optimizer.state.values(),
        strict=True,
    ):
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_the_checkpoint_holds_neither_code_nor_reward(tmp_path):
    path = tmp_path / "last.ckpt"
    model = gflownet(ActorCritic())
    run = trainer(tmp_path, 2)
    run.fit(model, datamodule=HypergridData())
    run.save_checkpoint(path, False)  # not the weights alone
    content = torch.load(path, weights_only=True)
    assert content["environment"] == "Hypergrid(ndim=2, height=4)"
    assert not [name for name in content["state_dict"] if "reward" in name]
    other = gflownet(ActorCritic(), environment=Hypergrid(2, 5))
    with pytest.raises(InputError, match=r"trained on Hypergrid\(ndim=2, height=4\)"):
        trainer(tmp_path, 4).fit(
            other, datamodule=HypergridData(), ckpt_path=str(path), weights_only=True
        )


def test_max_steps_counts_batches_and_each_is_drawn_by_the_present_policy(tmp_path):
    drawn = []

    class Spy(TrajectoryBalance):
        def forward(self, now, then):
            assert torch.equal(now.log_pf.detach(), then.log_pf)
            drawn.append(now.log_pf.shape[0])
            return super().forward(now, then)

    run = trainer(tmp_path, 7)
    run.fit(gflownet(Spy()), datamodule=HypergridData())
    assert drawn == [32] * 7
    assert run.global_step == 7


def test_clipping_and_accumulation_are_the_trainer_s(tmp_path):
    run = trainer(tmp_path, 2, gradient_clip_val=1.0, accumulate_grad_batches=3)
    model = gflownet()
    run.fit(model, datamodule=HypergridData())
    assert int(model.tally.draws) == 6


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_other_precisions_train(tmp_path, precision):
    for environment in (Hypergrid(2, 4), Hypergrid(2, 64)):  # one-hot product, embedding sum
        model = gflownet(ActorCritic(), environment=environment)
        trainer(tmp_path, 3, precision=precision).fit(model, datamodule=HypergridData())
        assert all(p.isfinite().all() for p in model.parameters())


def test_predict_gives_candidates(tmp_path):
    data = HypergridData()
    data.candidates = 100
    batches = trainer(tmp_path, 1).predict(gflownet(), datamodule=data)
    texts = [text for batch in batches for text in batch.texts]
    assert len(texts) == 128  # whole batches
    assert len(set(texts)) > 3
    assert all(batch.log_reward.isfinite().all() for batch in batches)


def test_a_module_without_data_says_what_to_do():
    with pytest.raises(TypeError, match="datamodule="):
        gflownet().log_reward(Hypergrid(2, 4).initial(1))


def test_another_reward_is_another_data_module(tmp_path):
    """The DataModule given last counts: for the reward, the target and the modes."""
    easy, hard = HypergridData(r0=0.5), HypergridData(r0=0.01)
    model = gflownet().use(easy)
    log_z = model.target.log_z
    trainer(tmp_path, 2).fit(model, datamodule=hard)
    assert model.target.log_z < log_z - 1
    assert model.use(easy).target.log_z == log_z


def test_arguments_are_checked():
    with pytest.raises(InputError, match="does not train a backward policy"):
        gflownet(ActorCritic(), backward="learned")
    with pytest.raises(InputError, match=r"batches\.size must be at least 1"):
        gflownet(batch_size=0)
    with pytest.raises(InputError, match=r"GFlowNet: 'batch_size' is batches=Batches\(size"):
        GFlowNet(Hypergrid(2, 4), TrajectoryBalance(), batch_size=4)
    with pytest.raises(InputError, match="must not be negative, got"):
        gflownet(lr=-1.0)
    with pytest.raises(InputError, match="must be from 0 to 1"):
        ActorCritic(critic_lambda=1.5)
    with pytest.raises(InputError, match="draw_seed must not be negative"):
        gflownet(draw_seed=-1)


def test_reduced_precision_leaves_the_reward_alone(tmp_path):
    environment = Sequence("DNA", 8)
    data = MotifData("FOXA1")
    model = gflownet(environment=environment).use(data)
    objects = environment.encode(["ACGTACGT", "ATGTTTAC"])
    exact = model.log_reward(objects)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model.log_reward(objects), exact)


def test_rewards_must_be_positive(tmp_path):
    from gfn_design import FunctionData

    def score(texts):
        return [-1.0 if text == "0,0" else 1.0 for text in texts]

    with pytest.raises(InputError, match=r"reward of '0,0' is not a positive number"):
        trainer(tmp_path, 5).fit(gflownet(), datamodule=FunctionData(score))


def test_too_large_to_enumerate_is_evaluated_from_samples():
    environment = Sequence("DNA", 40, "append")
    metrics = gflownet(environment=environment).use(MotifData("FOXA1")).evaluate().metrics
    means = {"mean_score", "mean_reward", "mean_log_reward"}
    assert set(metrics) == means | {"log_z_bound", "distinct_share"}
    assert metrics["distinct_share"] > 0.99


TWO_PROCESSES = """
import sys, torch
from functools import partial
from lightning.pytorch import Callback, Trainer, seed_everything
from gfn_design import MLP, ActorCritic, Batches, GFlowNet, Hypergrid, HypergridData, Networks

class Record(Callback):
    def on_train_end(self, trainer, module):
        objects = module(64, 0, 0).objects
        weights = torch.cat([p.detach().flatten() for p in module.parameters()])
        torch.save({"objects": objects, "weights": weights, "found": module.tally.seen.keys},
                   f"{sys.argv[1]}/rank{trainer.global_rank}.pt")

seed_everything(0, workers=True, verbose=False)
network = partial(MLP, width=32, depth=2)
model = GFlowNet(Hypergrid(2, 8), ActorCritic(), Networks(network, network), batches=Batches(16))
Trainer(max_steps=8, devices=2, accelerator="cpu", strategy="ddp", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, limit_val_batches=0,
        log_every_n_steps=4, default_root_dir=sys.argv[1], callbacks=[Record()],
        ).fit(model, datamodule=HypergridData())
torch.distributed.destroy_process_group()  # whose threads may else outlive the process
"""


@pytest.mark.slow
def test_two_processes_draw_different_trajectories_and_end_equal(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (torch.load(tmp_path / f"rank{r}.pt", weights_only=True) for r in (0, 1))
    assert torch.equal(first["weights"], second["weights"])
    assert not torch.equal(first["objects"], second["objects"])
    assert torch.equal(first["found"], second["found"])  # every rank knows what all have found
