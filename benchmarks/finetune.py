"""Fine-tuning against training from scratch: a figure and a table, several seeds each.

Usage: python benchmarks/finetune.py [FOLDER]   (default: runs/finetune; finished runs are kept)

Pairs of a source run and a new task stand in benchmarks/finetune.yaml. The figure goes to
docs/results/finetune.png, the table is printed. Fine-tuning pays if after at most half of their
trajectories it is, in the mean over seeds, where the runs from scratch end.
"""

import csv
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

HERE = Path(__file__).parent
Curve = dict[int, float]  # trajectories -> measure


def train(command: str, what: list[str], options: dict[str, Any], output: Path) -> Path:
    """Make a run, unless it has been finished before."""
    if not (output / "evaluation.yaml").exists():
        flags = [f"--{name}={value}" for name, value in ({"candidates": 10} | options).items()]
        flags += ["--trainer.enable_progress_bar=false"]
        call = [sys.executable, "-m", "gfn_design", command, *what, "--output", str(output), *flags]
        subprocess.run(call, check=True, stdout=subprocess.DEVNULL)
    return output


def slug(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text.lower())


def train_pair(
    grid: dict[str, Any], pair: dict[str, Any], folder: Path
) -> tuple[list[Path], list[Path]]:
    """The runs of a pair from scratch and fine-tuned, one of each for every seed."""
    source = grid["sources"][pair["source"]]
    config = str(HERE.parent / "configs" / source["config"])
    name = f"{slug(pair['source'])}-{slug(pair['task'])}"
    start = train("fit", ["--config", config], source["options"], folder / slug(pair["source"]))
    scratch, tuned = [], []
    for seed in pair["seeds"]:
        own = {"seed": seed}
        options = pair["options"] | pair["scratch"] | own
        scratch += [train("fit", ["--config", config], options, folder / f"{name}-scratch-{seed}")]
        options = pair["options"] | pair["tuned"] | own
        tuned += [train("finetune", [str(start)], options, folder / f"{name}-tuned-{seed}")]
    return scratch, tuned


def curve(run: Path, measure: str) -> Curve:
    with (run / "log.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get(measure)]
    return {round(float(row["trajectories"])): float(row[measure]) for row in rows}


def averaged(curves: list[Curve]) -> Curve:
    return {at: mean(c[at] for c in curves) for at in curves[0]}


def reached(run: Curve, level: float, sign: int) -> int | None:
    """After how many trajectories a measure is as good as a level for the first time."""
    return next((at for at, value in run.items() if sign * value >= sign * level), None)


def spread(numbers: list[float]) -> str:
    if len(numbers) == 1:
        return f"{numbers[0]:.3f}"
    return f"{mean(numbers):.3f} ({min(numbers):.3f} to {max(numbers):.3f})"


def draw(ax: Any, pair: dict[str, Any], scratch: list[Curve], tuned: list[Curve]) -> None:
    """Each seed thin, their mean thick, and the level that both are held against."""
    for curves, colour, label in ((scratch, "C7", "from scratch"), (tuned, "C0", "fine-tuned")):
        for one in curves:
            ax.plot(one.keys(), one.values(), color=colour, lw=0.7, alpha=0.5)
        whole = averaged(curves)
        ax.plot(whole.keys(), whole.values(), color=colour, lw=2, label=label)
    end = averaged(scratch)
    ax.axhline(list(end.values())[-1], color="C7", ls=":", lw=1)
    ax.axvline(max(end) / 2, color="C3", ls="--", lw=1, label="half of the trajectories")
    ax.set(
        title=f"{pair['source']} to {pair['task']}", xlabel="trajectories", ylabel=pair["measure"]
    )
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.locator_params(axis="x", nbins=4)
    ax.grid(alpha=0.3)


def main(folder: Path) -> None:
    """Train what is missing; then draw the figure and print the table."""
    grid = yaml.safe_load((HERE / "finetune.yaml").read_text())
    chosen = grid["pairs"]
    runs = [train_pair(grid, pair, folder) for pair in chosen]
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    wide = min(3, len(chosen))
    tall = -(-len(chosen) // wide)
    size = (3.6 * wide, 2.9 * tall)
    fig, axes = plt.subplots(tall, wide, figsize=size, squeeze=False, layout="constrained")
    for ax in axes.flat[len(chosen) :]:
        ax.remove()
    print(
        "| from | to | seeds | measure | from scratch, at the end | fine-tuned, at half | after |"
    )
    print("|---|---|---|---|---|---|---|")
    for ax, pair, (first, second) in zip(axes.flat, chosen, runs, strict=False):
        scratch, tuned = ([curve(run, pair["measure"]) for run in part] for part in (first, second))
        draw(ax, pair, scratch, tuned)
        whole, sign = max(scratch[0]), 1 if pair["better"] == "higher" else -1
        level = averaged(scratch)[whole]
        at = reached(averaged(tuned), level, sign)
        after = "not reached" if at is None else f"{at:,} ({at / whole:.0%})"
        half = max(n for n in tuned[0] if n <= whole / 2)
        print(
            f"| {pair['source']} | {pair['task']} | {len(scratch)} | {pair['measure']} "
            f"| {spread([c[whole] for c in scratch])} | {spread([c[half] for c in tuned])} "
            f"| {after} |"
        )
    axes.flat[0].legend(frameon=False, fontsize=8)
    picture = HERE.parent / "docs" / "results" / "finetune.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(picture, dpi=130)
    print(f"\n{picture}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs", "finetune"))
