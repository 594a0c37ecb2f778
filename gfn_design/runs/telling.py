"""What commands say of a run in words; heavy imports wait until it begins."""

import time
from pathlib import Path
from typing import Any

from gfn_design.config import REQUIRED, load, signature
from gfn_design.config.root import ROOT


def train_file(file: Path, folder: Path) -> int:
    """Train by a configuration file into a folder; returns the exit code 0."""
    train_and_tell(load([file], [], ROOT), folder)
    return 0


def train_and_tell(config: dict[str, Any], folder: Path) -> None:
    """Train into a folder and say in words what came out."""
    started, here = time.monotonic(), folder.absolute()
    print("loading ...", flush=True)
    from gfn_design.runs.run import first_logged
    from gfn_design.runs.train import fit

    _, evaluation, candidates = fit(config, folder)
    print(f"\ntrained and evaluated in {time.monotonic() - started:.0f} s\n")
    wide = max([6, *(len(c.text) for c in candidates[:10])])
    print(f"{'rank':>4}  {'design':{wide}}  {'score':>8}  {'reward':>8}  {'drawn':>6}")
    for c in candidates[:10]:
        print(f"{c.rank:>4}  {c.text:{wide}}  {c.score:8.4g}  {c.reward:8.4g}  {c.draws:>6}")
    print(ties([c.score for c in candidates]))
    print_metrics(evaluation.metrics)
    start = first_logged(here, "D_TV")
    if start is not None and (error := evaluation.metrics.get("D_TV_error")) is not None:
        end = evaluation.metrics["D_TV"]
        print(f"D_TV went from {start:.3f} to {end:.3f} +- {error:.3f}, by samples of the target")
    elif start is not None:
        print(
            f"exact D_TV went from {start:.3f} to {evaluation.metrics['D_TV']:.3f}; as diverse as "
            f"{evaluation.metrics['effective']:,.0f} equally likely designs "
            f"(the target: {evaluation.metrics['target_effective']:,.0f})"
        )
    start = first_logged(here, "mean_reward")
    if start is not None:
        end = evaluation.metrics["mean_reward"]
        fell = ": it fell; try a lower model.optimiser.lr" if end < 0.5 * start else ""
        print(f"mean reward went from {start:.4g} to {end:.4g}{fell}")
    print(f"results are in {folder}/ (its README.md says what each file is)")


def ties(scores: list[float]) -> str:
    """What to say where the best are many; nothing if they are few."""
    many = sum(score == scores[0] for score in scores)
    if many < 10:
        return ""
    return f"({many:,} of {len(scores):,} share the best score, in the order of their letters)\n"


def print_metrics(metrics: dict[str, float]) -> None:
    """Print numbers by their names, and that log Z has not arrived where it is far off."""
    for name, value in metrics.items():
        if name.endswith("_error") and name.removesuffix("_error") in metrics:
            continue  # stands behind what it is about
        late = "  (log Z has not arrived yet: train on)" * (name == "log_z_error" and value > 0.5)
        error = f" +- {metrics[f'{name}_error']:.4f}" if f"{name}_error" in metrics else ""
        text = f"{value:.0f}" if name.startswith("modes") else f"{value:.4f}"
        print(f"{name} {text}{error}{late}")


def print_keys(value: Any, key: str) -> None:
    """What every object of a configuration takes, under the keys of the command line."""
    if isinstance(value, dict) and "class_path" in value:
        taken = signature(value["class_path"])
        print(f"{key}: {value['class_path']}, {taken.summary}")
        for it in taken.parameters.values():
            default = "" if it.default == REQUIRED else f" = {it.default}"
            print(f"  {key}.{it.name}{default}  # {it.doc}")
    elif isinstance(value, dict):
        for name, item in value.items():
            print_keys(item, f"{key}.{name}".lstrip("."))
