"""Several processes: one batch among them, one memory each, one sentence for all, no orphans."""

import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import yaml
from common import section
from processes import PROCESSES

from gfn_design import (
    MLP,
    ActorCritic,
    BackwardActorCritic,
    BackwardBalance,
    ClippedPolicy,
    DetailedBalance,
    FlowMatching,
    Hypergrid,
    LogVariance,
    ModifiedDetailedBalance,
    Policy,
    SoftQ,
    SubTrajectoryBalance,
    TrajectoryBalance,
    TrajectoryLikelihood,
)
from gfn_design.files.checkpoints import load_checkpoint
from gfn_design.ranks import begin
from gfn_design.sampling.log_probabilities import log_probabilities
from gfn_design.sampling.noise import uniform_noise
from gfn_design.sampling.trajectories import Trajectories, sample
from gfn_design.training.engine import Batch, Parts
from gfn_design.training.extras import EngineWithExtras

SMALL = partial(MLP, width=8, depth=1)
WEIGHTINGS = ("geometric_within", "geometric", "equal", "equal_within", "trajectory", "transition")
SHAPES = ("square", "huber", "linex", "cosh")
METHODS = {
    "TB": (TrajectoryBalance, None),
    **{f"VarGrad {x}": (partial(LogVariance, shape=x), None) for x in SHAPES},
    "DB": (DetailedBalance, None),
    "MDB": (ModifiedDetailedBalance, None),
    "FM": (FlowMatching, None),
    **{f"SubTB {x}": (partial(SubTrajectoryBalance, weighting=x), None) for x in WEIGHTINGS},
    "RL": (ActorCritic, None),
    "Sub-EB": (partial(ActorCritic, critic_loss="sub_balance", critic_lambda=0.9), None),
    "PPO": (ClippedPolicy, None),
    "SoftQ": (SoftQ, None),
    "RL-B": (ActorCritic, BackwardActorCritic),
    "TB-G": (TrajectoryBalance, BackwardBalance),
    "TLM": (TrajectoryBalance, TrajectoryLikelihood),
    "TB-TS": (TrajectoryBalance, "members"),
}


class Double(Policy):
    """A policy whose log-probabilities are no rounder than its weights."""

    def forward_log_probs(self, states, legal, dtype=torch.float64):
        return super().forward_log_probs(states, legal, dtype)


def gradients(name, rank=0, ranks=1):
    """The losses of the part of 12 trajectories that a rank has, and their mean gradient."""
    torch.manual_seed(0)
    single, torch.Tensor.float = torch.Tensor.float, torch.Tensor.double  # in policies too
    torch.set_default_dtype(torch.float64)
    make, teach = METHODS[name]
    members = 3 if teach == "members" else 1
    backward = teach() if teach not in (None, "members") else None
    environment, objective = Hypergrid(2, 5), make()
    value = {"critic": SMALL, "flow": SMALL}.get(objective.value_kind or "")
    policy = Double(
        environment,
        SMALL,
        "learned" if backward else "uniform",
        value,
        SMALL if backward is not None and backward.needs_critic else None,
        members,
    )
    drawn = sample(environment, policy, uniform_noise((12, environment.max_steps), CPU, 0))
    drawn = drawn._replace(log_reward=torch.randn(12, dtype=torch.float64))
    learns = torch.rand(12, 3) < 0.5
    modules = (environment, policy.double(), objective.double())
    back = backward.double() if backward is not None else None
    rows = slice(rank * 12 // ranks, (rank + 1) * 12 // ranks)
    part = Trajectories(*(x[rows] for x in drawn))
    steps = int(part.alive.sum(1).max())  # as a rank would have drawn it, without more padding
    part = Trajectories(part.states[:, : steps + 1], *(x[:, :steps] for x in part[1:4]), part[4])
    states = part.states[:, :-1]
    at = torch.sin(states.double()).sum(-1) if objective.scores_states else None
    then = log_probabilities(environment, policy, part, all_actions=objective.needs_policy).detach()
    batch = Batch(part, then if objective.on_policy else None, at)
    if members > 1:
        batch = batch._replace(learns=learns[rows])
    found = EngineWithExtras(Parts(*modules, back)).learn(batch).losses
    torch.Tensor.float = single
    torch.set_default_dtype(torch.float32)
    trained = [*policy.named_parameters(), *objective.named_parameters()]
    values = torch.autograd.grad(
        sum(found.values()), [p for _, p in trained], allow_unused=True, materialize_grads=True
    )
    return {n: g for (n, _), g in zip(trained, values, strict=True)}


CPU = torch.device("cpu")


def _on_rank(rank, ranks, folder):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store{ranks}", rank=rank, world_size=ranks
    )
    begin()
    found = {}
    for name in METHODS:
        found[name] = gradients(name, rank, ranks)
        for gradient in found[name].values():
            dist.all_reduce(gradient)
            gradient /= ranks
    if rank == 0:
        torch.save(found, f"{folder}/found{ranks}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 3])
def over_ranks(request, tmp_path_factory):
    """The gradients of each method, averaged over so many ranks as DDP does."""
    folder, ranks = tmp_path_factory.mktemp("ranks"), request.param
    started = [
        PROCESSES.Process(target=_on_rank, args=(rank, ranks, str(folder))) for rank in range(ranks)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
    assert [process.exitcode for process in started] == [0] * ranks
    return torch.load(folder / f"found{ranks}.pt", weights_only=True)


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_among_ranks_is_one_batch(name, over_ranks):
    """In float64 the gradient of the union, however the trajectories are spread."""
    whole = gradients(name)
    assert any(gradient.abs().max() > 1e-3 for gradient in whole.values())
    for parameter, gradient in whole.items():
        torch.testing.assert_close(over_ranks[name][parameter], gradient, rtol=1e-6, atol=1e-9)


# Whole runs.


BASE = {
    "model": {
        "environment": {"class_path": "Sequence", "init_args": {"alphabet": "DNA", "length": 4}},
        "objective": "TrajectoryBalance",
        "network": {"class_path": "MLP", "init_args": {"width": 16, "depth": 1}},
        "critic": {"class_path": "MLP", "init_args": {"width": 16, "depth": 1}},
        "batch_size": 8,
    },
    "data": {"class_path": "FunctionData", "init_args": {"function": "own.py:score"}},
    "candidates": 10,
    "evaluate_every": 1000,
    "trainer": {
        "max_steps": 20,
        "accelerator": "cpu",
        "devices": 2,
        "strategy": "ddp",
        "log_every_n_steps": 5,
        "enable_progress_bar": False,
    },
}
OWN = """
import os, time

def score(texts):
    time.sleep(float(os.environ.get("SLEEP", 0)))
    bad = os.environ.get("BAD")
    if bad and os.environ.get("LOCAL_RANK") == "1" and os.path.exists(bad):
        return {"nan": [float("nan")], "raise": 1 / 0 if "raise" in bad else 0}["nan"] * len(texts)
    return [1.0 + text.count("A") for text in texts]
"""
REPLAYED = {
    "updates": 3,
    "replay": {"class_path": "Replay", "init_args": {"size": 8, "best": 0.5}},
}
LONG = {  # so that there is always something to score
    "environment": {"class_path": "Sequence", "init_args": {"alphabet": "DNA", "length": 12}},
    "exact_limit": 1000,
}
ANY = {"class_path": "Sequence", "init_args": {"alphabet": "DNA", "length": 4, "order": "any"}}
REMEMBERING = {
    "replay and half a batch": REPLAYED,
    "prioritized": {
        "objective": "SoftQ",
        "replay": {"class_path": "PrioritizedReplay", "init_args": {"size": 16}},
    },
    "pessimistic": {
        "backward": "learned",
        "backward_objective": {
            "class_path": "PessimisticLikelihood",
            "init_args": {"memory": 4, "recalled": 2},
        },
    },
    "guided": {
        "objective": "ActorCritic",
        "backward": "learned",
        "backward_objective": {
            "class_path": "BackwardActorCritic",
            "init_args": {"guide": "RewardGuide"},
        },
    },
}


def start(folder, *flags, model=None, **variables):
    """A run on two processes, with its own port."""
    (folder / "own.py").write_text(OWN)
    flat = BASE["model"] | (model or {})
    limit = {key: flat.pop(key) for key in ("exact_limit",) if key in flat}
    config = BASE | {"model": section(flat)} | limit
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        number = port.getsockname()[1]
    return subprocess.Popen(
        [sys.executable, "-m", "gfn_design", "fit", "--config", "run.yaml", *map(str, flags)],
        cwd=folder,
        env=os.environ | {"MASTER_PORT": str(number), "OMP_NUM_THREADS": "1"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def last_of(run):
    return load_checkpoint(run / "checkpoints/last.ckpt")


def left_over(process):
    """Processes of a run that are still there."""
    found = subprocess.run(
        ["ps", "-o", "pid=,stat=", "-s", str(process.pid)], capture_output=True, text=True
    ).stdout
    return [line for line in found.splitlines() if "Z" not in line.split()[1]]


def finish(process, seconds=120):
    try:
        said, _ = process.communicate(timeout=seconds)
    finally:
        left = left_over(process)
        if left:
            os.killpg(process.pid, signal.SIGKILL)
    assert not left
    return process.returncode, said


@pytest.mark.slow
@pytest.mark.parametrize("method", REMEMBERING)
def test_a_run_on_two_processes_resumes_as_if_nothing_had_been(method, tmp_path):
    """With what each of them remembers, from a checkpoint in the middle of a batch's updates."""
    model = {"environment": ANY} | REMEMBERING[method]
    code, said = finish(start(tmp_path, "--output", "whole", model=model))
    assert code == 0, said
    for steps in (10, 20):
        flags = ("--output", "parts", "--trainer.max_steps", steps)
        code, said = finish(start(tmp_path, *flags, model=model))
        assert code == 0, said
    whole, parts = (
        load_checkpoint(tmp_path / x / "checkpoints/last.ckpt") for x in ("whole", "parts")
    )
    for name, value in whole["state_dict"].items():
        assert torch.equal(parts["state_dict"][name], value), name
    if method == "replay and half a batch":
        one, two = (rank["replay"]["objects"] for rank in whole["ranks"])
        assert not torch.equal(one, two)
    assert str(whole["ranks"]) == str(parts["ranks"])


@pytest.mark.slow
@pytest.mark.parametrize("how", ["nan", "raise"])
def test_a_bad_reward_on_one_rank_ends_all_by_one_sentence(how, tmp_path):
    bad = tmp_path / how
    flags = ("--output", "out", "--trainer.max_steps", 1000)
    process = start(tmp_path, *flags, model=LONG, BAD=str(bad), SLEEP="0.05")
    wait_for(lambda: (tmp_path / "out/log.csv").exists())
    bad.touch()
    code, said = finish(process, 60)
    assert code == 2, said
    assert said.count("gfn-design:") == 1, said
    assert "own.py:score" in said or "the reward of" in said
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_any_rank_saves_and_leaves_no_orphan(rank, tmp_path):
    flags = ("--output", "out", "--trainer.max_steps", 1000)
    process = start(tmp_path, *flags, model=LONG, SLEEP="0.05")
    wait_for(lambda: (tmp_path / "out/log.csv").exists())
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    of_rank = [process.pid, int(children[0])]
    os.kill(of_rank[rank], signal.SIGTERM)
    began = time.monotonic()
    code, said = finish(process, 30)
    assert time.monotonic() - began < 10
    assert code == 128 + signal.SIGTERM, said
    assert said.count("goes on from the last whole batch") == 1, said
    assert last_of(tmp_path / "out")["global_step"] > 3


def wait_for(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_two_nodes_of_one_process_each(tmp_path):
    """By torchrun, on the loopback address; the same weights as two devices of one node."""
    code, said = finish(start(tmp_path, "--output", "one"))
    assert code == 0, said
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        number = port.getsockname()[1]
    flags = ["--nnodes", "2", "--nproc_per_node", "1", "--master_addr", "127.0.0.1"]
    command = ["fit", "--config", "run.yaml", "--output", "two", "--trainer.num_nodes", "2"]
    nodes = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *flags, "--master_port", str(number),
             "--node_rank", str(rank), "-m", "gfn_design", *command, "--trainer.devices", "1"],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [node.communicate(timeout=120)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    one, two = (
        load_checkpoint(tmp_path / x / "checkpoints/last.ckpt")["state_dict"]
        for x in ("one", "two")
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
