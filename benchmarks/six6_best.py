"""Train configs/six6/best.yaml over three seeds and print the table of docs/six6_best.md.

Usage: python benchmarks/six6_best.py [FOLDER]   (default: runs/six6-best; finished runs are kept)

About four minutes of one quiet core for each seed.
"""

import csv
import subprocess
import sys
from pathlib import Path
from statistics import mean

import yaml

SEEDS = (0, 1, 2)
CONFIG = Path(__file__).parents[1] / "configs" / "six6" / "best.yaml"
POINTS = (64_000, 128_000, 192_000, 256_000)  # trajectories


def train(seed: int, run: Path) -> dict[int, dict[str, float]]:
    """Train unless it is done, and give the logged evaluations by trajectories."""
    if not (run / "evaluation.yaml").exists():
        command = ["--config", str(CONFIG), "--seed", str(seed), "--output", str(run)]
        subprocess.run([sys.executable, "-m", "gfn_design", "fit", *command], check=True)
    with (run / "log.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["D_TV"]]
    return {
        round(float(row["trajectories"])): {name: float(x) for name, x in row.items() if x}
        for row in rows
    }


def main(folder: Path) -> None:
    runs = [train(seed, folder / f"seed{seed}") for seed in SEEDS]
    updates = yaml.safe_load(CONFIG.read_text())["model"]["batches"]["updates"]
    batch = yaml.safe_load(CONFIG.read_text())["model"]["batches"]["size"]
    print("| trajectories | reward calls | updates | exact D_TV, mean | each seed | log Z error |")
    print("|---|---|---|---|---|---|")
    for point in POINTS:
        rows = [run[point] for run in runs]
        calls = rows[0]["reward_calls"]
        each = ", ".join(f"{row['D_TV']:.4f}" for row in rows)
        error = mean(row["log_z_error"] for row in rows)
        print(
            f"| {point:,} | {calls:,.0f} | {point // batch * updates:,} "
            f"| {mean(row['D_TV'] for row in rows):.4f} | {each} | {error:.3f} |"
        )
    ends = [yaml.safe_load((folder / f"seed{s}" / "evaluation.yaml").read_text()) for s in SEEDS]
    each = ", ".join(f"{end['D_TV']:.4f}" for end in ends)
    print(f"\nevaluation.yaml: D_TV {mean(end['D_TV'] for end in ends):.4f} ({each})")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs", "six6-best"))
