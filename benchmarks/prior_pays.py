"""Does a prior pay? The proxy's score by trajectories, from a prior and from chance.

Usage: python benchmarks/prior_pays.py PRIOR PROXY OUT [--batches N] [--seeds N]

PRIOR is a run of `gfn-design pretrain`, PROXY the file of a proxy of molecules. Trains, with equal
settings, from the prior (anchored to it, and not) and from chance, and writes OUT/prior.csv, the
mean score of fresh samples by trajectories, and OUT/prior.png. Prints after how many trajectories
each reaches the score at which the run from chance ends.
"""

import argparse
import csv
from itertools import pairwise
from pathlib import Path

import numpy as np
import yaml

from gfn_design.config import load
from gfn_design.config.paths import absolute_paths
from gfn_design.config.root import ROOT
from gfn_design.results.plots import axes, save
from gfn_design.runs.page import log_of
from gfn_design.runs.train import fit

WAYS = {"from chance": None, "from the prior": "all", "anchored to the prior": "anchored"}


def config_of(prior: Path, proxy: Path, way: str | None, seed: int, batches: int) -> dict:
    """Of one run: the environment and networks of the prior, and the proxy's wish."""
    config = yaml.safe_load((prior / "config.yaml").read_text())
    model = config["model"] | {"objective": {"class_path": "TrajectoryBalance"}}
    model["batches"] = {"size": 64}
    model["optimiser"] = {"lr": 5e-4, "log_z_lr": 0.3}
    if way is not None:
        start = {"run": str(prior.resolve()), "way": way}
        model["fine_tune"] = {"class_path": "FineTuning", "init_args": start}
    terms = [
        {"proxy": str(proxy.resolve()), "want": ">= 7"},
        {"property": "SA", "want": "<= 3.5"},
    ]
    data = {"class_path": "MoleculeData", "init_args": {"terms": terms, "exponent": 8}}
    trainer = {"max_steps": batches, "accelerator": "cpu", "enable_progress_bar": False}
    rest = {
        "seed": seed,
        "evaluate_every": max(1, batches // 6),
        "candidates": 0,
        "guard": False,  # all runs are as long
        "trainer": trainer,
    }
    return {"model": model, "data": data, **rest}


def curve_of(folder: Path, config: dict) -> list[tuple[float, float]]:
    """Trajectories and mean scores of a run, which is trained if it is not there."""
    if not (folder / "evaluation.yaml").is_file():
        file = folder.with_suffix(".yaml")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(config))
        fit(absolute_paths(load([file], [], ROOT)), folder)
    rows = log_of(folder)
    return [(row["trajectories"], row["mean_score"]) for row in rows if "mean_score" in row]


def first_above(curve: list[tuple[float, float]], score: float) -> float:
    """After how many trajectories a curve first reaches a score, in a straight line between."""
    for (a, x), (b, y) in pairwise(curve):
        if y >= score:
            return a if x >= score else a + (b - a) * (score - x) / (y - x)
    return float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prior", type=Path)
    parser.add_argument("proxy", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--batches", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    curves: dict[str, list[list[tuple[float, float]]]] = {name: [] for name in WAYS}
    for seed in range(options.seeds):
        for name, way in WAYS.items():
            config = config_of(options.prior, options.proxy, way, seed, options.batches)
            folder = options.out / f"{name.replace(' ', '-')}-{seed}"
            curves[name].append(curve_of(folder, config))
        goal = curves["from chance"][seed][-1][1]
        needed = {n: first_above(runs[seed], goal) for n, runs in curves.items()}
        told = ", ".join(f"{name} {number:,.0f}" for name, number in needed.items())
        print(f"seed {seed}: score {goal:.3f} is reached after trajectories: {told}", flush=True)
    with (options.out / "prior.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["start", "seed", "trajectories", "mean_score"])
        for name, runs in curves.items():
            for seed, run in enumerate(runs):
                writer.writerows([name, seed, int(x), f"{y:.5f}"] for x, y in run)
    ax = axes(6.0, 4.0)
    for colour, (name, runs) in zip(("0.5", "C0", "C3"), curves.items(), strict=True):
        x = [point[0] for point in runs[0]]
        y = np.array([[point[1] for point in run] for run in runs])
        ax.plot(x, y.mean(0), color=colour, label=f"{name} ({len(runs)} seeds)")
        ax.fill_between(x, y.min(0), y.max(0), color=colour, alpha=0.15, lw=0)
    ax.set(xlabel="trajectories", ylabel="mean score of fresh samples")
    ax.legend(frameon=False)
    save(ax, options.out / "prior.png")


if __name__ == "__main__":
    main()
