"""Train configs/fragments and print the table of sEH molecules in RESULTS.md, with a picture.

Usage: python benchmarks/seh_fragments.py [FOLDER]   (default: runs/seh; finished runs are kept)

The picture goes to docs/results/seh_fragments.png. Some minutes of one core for each run.
"""

import csv
import subprocess
import sys
from pathlib import Path

import yaml

HERE = Path(__file__).parents[1]
RUNS = {"TB": "seh_tb", "RL-U": "seh_rl_u"}
HIGH = 0.9  # on the scale of the literature, the network's output over 8


def train(name: str, run: Path) -> Path:
    if not (run / "evaluation.yaml").exists():
        config = str(HERE / "configs" / "fragments" / f"{name}.yaml")
        command = ["fit", "--config", config, "--output", str(run)]
        subprocess.run([sys.executable, "-m", "gfn_design", *command], check=True)
    return run


def curve(run: Path) -> dict[int, float]:
    """Mean score of samples by trajectories."""
    with (run / "log.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["mean_score"]]
    return {round(float(row["trajectories"])): float(row["mean_score"]) for row in rows}


def main(folder: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
    print(
        "| method | mean score, untrained | after | of the 100 best of 1,000 | their diversity "
        f"| scaffolds at {HIGH} or above |"
    )
    print("|---|---|---|---|---|---|")
    for label, name in RUNS.items():
        run = train(name, folder / name)
        points, end = curve(run), yaml.safe_load((run / "evaluation.yaml").read_text())
        ax.plot(points.keys(), points.values(), marker="o", ms=3, label=label)
        with (run / "candidates.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        high = {row["scaffold"] for row in rows if float(row["score"]) >= HIGH}
        print(
            f"| {label} | {points[0]:.3f} | {end['mean_score']:.3f} | {end['top_score']:.3f} "
            f"| {end['top_diversity']:.3f} | {len(high)} |"
        )
    ax.set(xlabel="trajectories", ylabel="mean score of samples (/ 8)", ylim=(0, None))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)
    picture = HERE / "docs" / "results" / "seh_fragments.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(picture, dpi=130)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs", "seh"))
