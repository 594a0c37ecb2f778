"""Train the shipped configurations over three seeds and print the README's table of results.

Usage: python benchmarks/results.py [FOLDER]   (default: runs/results; finished runs are kept)

About a quarter of an hour on two cores. The numbers of the paper's own code are one seed, measured
by running it with its defaults on the same problems.
"""

import csv
import subprocess
import sys
from pathlib import Path
from statistics import mean

import yaml

SEEDS = (0, 1, 2)
# Configuration, what it is, batches, trajectories at which D_TV is shown, and the paper's code.
RUNS = [
    ("six6/rl_u", "SIX6, prepend-append, RL-U", 2000, (25_600, 64_000, 256_000), None),
    ("six6/tb_u", "SIX6, prepend-append, TB-U", 2000, (25_600, 64_000, 256_000), None),
    ("six6/rl_u_any", "SIX6, any order, RL-U", 2000, (25_600, 64_000, 256_000), "0.178"),
    ("six6/tb_u_any", "SIX6, any order, TB-U", 2000, (25_600, 64_000, 256_000), None),
    ("hypergrid/64x64_rl_u", "hypergrid 64x64, RL-U", 300, (12_800, 25_600, 38_400), "0.153"),
]


def train(config: str, steps: int, seed: int, folder: Path) -> Path:
    run = folder / f"{config}-{seed}"
    if not (run / "evaluation.yaml").exists():
        here = Path(__file__).parents[1]
        command = ["--config", str(here / "configs" / f"{config}.yaml"), "--seed", str(seed)]
        command += ["--output", str(run), "--trainer.max_steps", str(steps)]
        subprocess.run([sys.executable, "-m", "gfn_design", "fit", *command], check=True)
    return run


def d_tv(run: Path) -> dict[int, float]:
    """Exact D_TV by sampled trajectories."""
    with (run / "log.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["D_TV"]]
    return {round(float(row["trajectories"])): float(row["D_TV"]) for row in rows}


def spread(numbers: list[float]) -> str:
    return f"{mean(numbers):.3f} ({min(numbers):.3f} to {max(numbers):.3f})"


def main(folder: Path) -> None:
    runs = {name: [train(name, steps, s, folder) for s in SEEDS] for name, _, steps, *_ in RUNS}
    print("| run, 3 seeds | trajectories | exact D_TV, mean (range) | log Z error | paper's code |")
    print("|---|---|---|---|---|")
    for name, text, _, points, peer in RUNS:
        curves = [d_tv(run) for run in runs[name]]
        ends = [yaml.safe_load((run / "evaluation.yaml").read_text()) for run in runs[name]]
        for point in points:
            last = point == points[-1]
            error = spread([end["log_z_error"] for end in ends]) if last else ""
            theirs = (peer or "") if last else ""
            values = spread([curve[point] for curve in curves])
            print(f"| {text} | {point:,} | {values} | {error} | {theirs} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs", "results"))
