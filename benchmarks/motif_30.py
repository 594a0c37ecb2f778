"""A site of FOXA1 in 30 letters, beside gfnx and torchgfn by equal trajectories.

    python benchmarks/motif_30.py [--seeds 2] [--batches 2000] [--gfnx PYTHON] [--torchgfn PYTHON]

All learn the rewards of configs/sequences/motif_30.yaml, from batches of 128 trajectories; 10,000
exact samples of the target tell how far each is from it (see docs/sequences.md). The peers train by
trajectory balance, with an MLP of 2 x 256 units and the rates of their baselines and tutorials;
ours by the shipped configuration, and by trajectory balance with the same MLP. `--gfnx` and
`--torchgfn` name a Python with benchmarks/workers/gfnx-requirements.txt or
torchgfn-requirements.txt.
"""

import argparse
import logging
import os
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch.optim.lr_scheduler import CosineAnnealingLR

from gfn_design import (
    GRU,
    MLP,
    Batches,
    GFlowNet,
    LogVariance,
    Networks,
    Optimiser,
    Sequence,
    SequenceData,
    SequenceTerm,
    TrajectoryBalance,
)
from gfn_design.evaluation.transfer import TransferTarget, total_variation_from
from gfn_design.rewards.reward import Reward

LENGTH, BATCH, SAMPLES = 30, 128, 10_000
WORKERS = Path(__file__).parent / "workers"
DNA = Sequence("DNA", LENGTH, "append")


def data() -> SequenceData:
    """The rewards of configs/sequences/motif_30.yaml."""
    term = SequenceTerm(factor="FOXA1", want="maximise 0.5..1")
    return SequenceData([term], exponent=4, minimum=0.1)


def problem(target: TransferTarget, seed: int, batches: int) -> tuple[dict[str, Any], np.ndarray]:
    """What peers are told, and log of the target's probability of each object in it."""
    it = data()
    score: Any = it.score_of(DNA)
    (levels,), (window,) = score.levels, score.terms
    worth = score.of_worths(levels.worth[:, None]).float()
    letters, log_reward = target.sample(SAMPLES, np.random.default_rng(0))
    told = {
        "odds": window.odds.numpy(),
        "edges": levels.edges.numpy(),
        "log_rewards": Reward(score, it.exponent, it.scale).log_of(worth).double().numpy(),
        "objects": letters,
        **{"length": LENGTH, "batch": BATCH, "steps": batches, "seed": seed},
    }
    return told, log_reward - target.log_z


def ours(name: str, seed: int, batches: int) -> tuple[float, float]:
    torch.manual_seed(seed)
    if name == "shipped":
        schedule = partial(CosineAnnealingLR, T_max=batches)
        parts: Any = (LogVariance(), Networks(partial(GRU, width=128)))
        optimiser = Optimiser(2e-3, schedule=schedule)
    else:
        parts = TrajectoryBalance(), Networks(partial(MLP, width=256, depth=2))
        optimiser = Optimiser(1e-3)
    model = GFlowNet(DNA, *parts, batches=Batches(BATCH), optimiser=optimiser, draw_seed=seed)
    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    trainer = Trainer(
        max_steps=batches, limit_val_batches=0, accelerator="cpu", **dict.fromkeys(off, False)
    )
    trainer.fit(model, datamodule=data())
    found = model.use(data()).evaluate().metrics
    return found["D_TV"], found["D_TV_error"]


def theirs(
    python: str, worker: str, told: dict[str, Any], log_p: np.ndarray
) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder, "problem.npz"), Path(folder, "log_q.npy")
        np.savez(paths[0], **told)
        command = [python, str(WORKERS / worker), *map(str, paths)]
        done = subprocess.run(command, cwd=WORKERS, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{worker} failed:\n{done.stderr}")
        return total_variation_from(np.load(paths[1]), log_p)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--batches", type=int, default=2000)
    parser.add_argument("--gfnx", type=os.path.abspath, help="a Python that has gfnx")
    parser.add_argument("--torchgfn", type=os.path.abspath, help="a Python that has torchgfn")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    target = TransferTarget(data().automaton(DNA))
    print(f"{options.batches * BATCH:,} trajectories\n\n| who | D_TV, run by run | s |")
    print("|---|---|---|", flush=True)
    runs: dict[str, Any] = {
        "gfn-design, as shipped (VarGrad, GRU)": partial(ours, "shipped"),
        "gfn-design, TB, MLP": partial(ours, "TB"),
    }
    for name, python in (("gfnx", options.gfnx), ("torchgfn", options.torchgfn)):
        if python:

            def told(seed: int, batches: int, *, name: str = name, python: str = python) -> Any:
                return theirs(python, f"{name}_motif.py", *problem(target, seed, batches))

            runs[f"{name}, TB, MLP"] = told
    for who, run in runs.items():
        began = time.monotonic()
        found = [run(seed, options.batches) for seed in range(options.seeds)]
        seconds = (time.monotonic() - began) / options.seeds
        text = ", ".join(f"{d_tv:.3f} ± {error:.3f}" for d_tv, error in found)
        print(f"| {who} | {text} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
