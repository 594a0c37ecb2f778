"""On an NVIDIA GPU everything is the same: environments, rewards, every part of training.

Uncompiled, compiled, and replayed as CUDA graphs. Draws of a GPU are not those of a CPU, so
distributions are compared and not trajectories, but for those of two models on the GPU.
"""

from functools import partial

import pytest
import torch
from common import model_of
from lightning.pytorch import seed_everything
from test_environments import SMALL
from test_speed import TableData, assert_same_training, gflownet, trainer

from gfn_design import (
    DAG,
    MLP,
    ActorCritic,
    Atoms,
    BackwardActorCritic,
    ClippedPolicy,
    DataModule,
    DetailedBalance,
    Exploration,
    FlowMatching,
    Fragments,
    FunctionData,
    GraphNetwork,
    Hypergrid,
    HypergridData,
    InputError,
    LocalSearch,
    PatternMLP,
    PrioritizedReplay,
    Replay,
    Reward,
    Sequence,
    SoftQ,
    SubTrajectoryBalance,
    TrajectoryBalance,
    TrajectoryLikelihood,
    TrustRegion,
    check_environment,
)
from gfn_design.objectives.guides import RewardGuide
from gfn_design.rewards.reward import TableScore
from gfn_design.runs.saving import SaveLast

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU here")
GPU = torch.device("cuda")
STRINGS = Sequence("AB", 3, "prepend-append")
GRID = Hypergrid(2, 8)
BOTH = (False, True)


@pytest.fixture(autouse=True)
def _anew():
    """Nothing compiled is left from other tests."""
    torch._dynamo.reset()


class Bad(DataModule):
    """Not a number, of AAA."""

    def make_reward(self, environment):
        table = torch.full((8,), 0.5)
        table[0] = float("nan")
        return Reward(TableScore(table, environment.length))


def letters(texts):
    return [0.1 + text.count("A") for text in texts]


@pytest.mark.parametrize("environment", [*SMALL, DAG(3), Atoms(max_atoms=3), Fragments()], ids=str)
def test_environments_follow_the_device(environment):
    try:
        check_environment(environment.to(GPU), examples=3, brute_force_limit=50)
    finally:
        environment.cpu()


# What a model may be made of, by name: the environment, and what `gflownet` is given.
PARTS = {
    "TB, shared": (STRINGS, {"backward": "shared"}),
    "TB, learned, grid": (GRID, {"backward": "learned"}),
    "DB": (GRID, {"objective": DetailedBalance()}),
    "SubTB": (STRINGS, {"objective": SubTrajectoryBalance()}),
    "FM": (GRID, {"objective": FlowMatching()}),
    "RL-U": (STRINGS, {"objective": ActorCritic()}),
    "RL-B": (
        GRID,
        {
            "objective": ActorCritic(),
            "backward": "learned",
            "backward_objective": BackwardActorCritic(),
        },
    ),
    "RL-G": (
        STRINGS,
        {
            "objective": ActorCritic(),
            "backward": "learned",
            "backward_objective": BackwardActorCritic(guide=RewardGuide()),
        },
    ),
    "RL-T": (STRINGS, {"objective": TrustRegion()}),
    "RL-T, grid": (GRID, {"objective": TrustRegion(fisher_share=0.5)}),
    "TLM": (
        GRID,
        {"backward": "learned", "backward_objective": TrajectoryLikelihood()},
    ),
    "soft Q": (STRINGS, {"objective": SoftQ(), "replay": PrioritizedReplay()}),
    "PPO": (GRID, {"objective": ClippedPolicy(), "updates": 2}),
    "replay": (STRINGS, {"replay": Replay(), "updates": 2}),
    "search": (STRINGS, {"search": LocalSearch()}),
    "exploration": (STRINGS, {"exploration": Exploration(0.1, 2.0)}),
    "members": (STRINGS, {"exploration": Exploration(members=3, random_prior=1.0)}),
    "patterns": (STRINGS, {"network": PatternMLP}),
    "graphs": (STRINGS, {"network": partial(GraphNetwork, width=16, depth=1)}),
    "molecules": (Fragments(), {}),
}


@pytest.mark.parametrize("name", PARTS)
def test_every_part_trains_on_a_gpu(name, tmp_path):
    environment, options = PARTS[name]
    model = gflownet(environment=environment, **options)
    data = HypergridData(r0=0.1) if environment is GRID else FunctionData(letters)
    start = {key: p.detach().clone() for key, p in model.named_parameters() if p.requires_grad}
    fit = trainer(tmp_path, accelerator="gpu", devices=1, max_steps=3)
    fit.fit(model, datamodule=data)
    model.to(GPU)
    for key, p in model.named_parameters():
        assert p.isfinite().all(), key
    assert any((p.cpu() != start[key]).any() for key, p in model.named_parameters() if key in start)
    drawn = model(8, 1, 0)
    assert drawn.objects.is_cuda
    assert drawn.log_reward.isfinite().all()
    metrics = model.evaluate().metrics
    assert metrics
    if environment.n_states is not None:
        assert 0 <= metrics["D_TV"] < 1


@pytest.mark.parametrize(
    ("environment", "objective", "backward"),
    [
        (Sequence("AB", 3, "append"), TrajectoryBalance, "shared"),
        (Sequence("AB", 10, "append"), TrajectoryBalance, "shared"),
        (STRINGS, TrajectoryBalance, "shared"),
        (STRINGS, ActorCritic, "uniform"),
        (GRID, TrajectoryBalance, "learned"),
        (GRID, ActorCritic, "uniform"),
    ],
    ids=str,
)
def test_a_compiled_training_step_is_the_same(environment, objective, backward):
    """Fails by chance once in 1000, when a draw is rounded over."""
    data = HypergridData(r0=0.1) if environment is GRID else TableData()
    options = {"environment": environment, "backward": backward}
    plain, fast = (
        gflownet(objective=objective(), compiled=compiled, **options).to(GPU).use(data)
        for compiled in BOTH
    )
    assert_same_training([plain, fast])
    engine = fast.engine
    part = engine.whole_step or engine.rollout.take_steps
    assert part.run is not part.function  # it did compile


@pytest.mark.parametrize("compiled", BOTH)
def test_a_reward_that_is_none_is_refused_before_a_checkpoint(compiled, tmp_path):
    """At the next row of the log, though not before the update."""
    model, last = gflownet(environment=STRINGS, compiled=compiled), tmp_path / "last.ckpt"
    options = {"accelerator": "gpu", "devices": 1, "callbacks": [SaveLast(last, 20)]}
    fit = trainer(tmp_path, enable_checkpointing=True, max_steps=20, **options)
    with pytest.raises(InputError, match="the reward of 'AAA' is not a positive number"):
        fit.fit(model, datamodule=Bad())
    assert not last.exists()


@pytest.mark.parametrize("compiled", BOTH)
@pytest.mark.parametrize("environment", [GRID, Sequence("DNA", 4, "prepend-append")], ids=str)
def test_training_on_a_gpu_comes_to_the_target_and_resumes(environment, compiled, tmp_path):
    data = HypergridData(r0=0.1) if environment is GRID else TableData()
    seed_everything(0, verbose=False)

    def model():
        return model_of(
            environment,
            TrajectoryBalance(),
            partial(MLP, width=64, depth=2),
            backward="shared",
            lr=3e-3,
            compiled=compiled,
        )

    whole, last = model(), tmp_path / "last.ckpt"
    options = {"accelerator": "gpu", "devices": 1, "callbacks": [SaveLast(last, 300)]}
    trainer(tmp_path, enable_checkpointing=True, max_steps=300, **options).fit(
        whole, datamodule=data
    )
    assert last.exists()
    resumed = model()
    trainer(tmp_path, enable_checkpointing=True, max_steps=1500, **options).fit(
        resumed, datamodule=data, ckpt_path=last, weights_only=True
    )
    assert resumed.tally.trajectories == 1500 * 128
    on_gpu = resumed.to(GPU).evaluate().metrics["D_TV"]
    on_cpu = resumed.cpu().evaluate().metrics["D_TV"]
    assert on_gpu == pytest.approx(on_cpu, abs=1e-4)
    assert on_gpu < 0.05
