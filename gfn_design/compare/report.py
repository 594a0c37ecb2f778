"""What a comparison says: tables, verdicts and learning curves, from the runs in its folder."""

import csv
from collections import Counter
from collections.abc import Callable, Mapping
from math import floor, isfinite, log10, sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Literal, NamedTuple

from gfn_design.compare.grid import Grid
from gfn_design.compare.runner import Point, points
from gfn_design.compare.statistics import LEVEL, Judgement, Verdict, judge
from gfn_design.files.whole import whole_files
from gfn_design.results import plots

# The metric that methods are judged by, the first there is, and whether smaller ones are better.
DECISIVE = {"D_TV": True, "log_z_bound": False}
# On which its spread is about even: how far from the target is known to a share of itself.
SCALES: dict[str, Literal["log", "plain"]] = {"D_TV": "log", "log_z_bound": "plain"}
NOT_ARRIVED = 0.5  # nats by which a learned log Z is off that has not arrived

README = """\
# A comparison by gfn-design

| file | what it is |
|---|---|
| `compare.yaml` | the grid; the same command goes on with it |
| `table.md`, `table.tex` | final metrics: mean and standard error over seeds |
| `verdicts.csv` | for each problem and method, whether it differs from the best, or baseline |
| `results.csv` | every evaluation of every run, one number per row |
| `curve-<problem>.png`, `.svg` | learning curves: mean and range over seeds |
| `runs/<problem>/<method>/<seed>/` | the runs, each as `gfn-design fit` leaves it |

In the folder of a run `output.txt` is what it printed, and `sources.yaml` tells the files that its
configuration names by their SHA-256.
"""

Results = Mapping[str, Mapping[int, list[Point]]]  # method -> seed -> evaluations


class Problem(NamedTuple):
    """What is known about one problem when the runs have ended.

    Attributes:
        name: Of the problem.
        results: Method -> seed -> evaluations, of finished runs.
        metrics: Names, in the order of evaluation.
        decisive: The metric that methods are judged by; empty if there is none.
        judgement: What the runs say of the methods.
    """

    name: str
    results: Results
    metrics: list[str]
    decisive: str
    judgement: Judgement


def write_report(grid: Grid, folder: Path, failures: Mapping[Path, str]) -> str:
    """Write all tables and pictures, and return the tables as Markdown.

    Args:
        grid: What was run.
        folder: Of the comparison.
        failures: As `run_grid` returns them; runs in it count as missing.
    """
    problems = []
    for name in grid.problems:
        results: dict[str, dict[int, list[Point]]] = {method: {} for method in grid.methods}
        for cell in grid.cells:
            if cell.problem == name and cell.path not in failures:
                results[cell.method][cell.seed] = points(folder / cell.path)
        problems.append(assess(name, results, grid.seeds, grid.config.get("baseline")))
    missing = [f"- {cell}: {failures[cell.path]}" for cell in grid.cells if cell.path in failures]
    sections = [_markdown(problem, grid) for problem in problems]
    if missing:
        sections.append("\n".join([f"## {len(missing)} runs are missing", "", *missing, ""]))
    text = "\n".join(sections)
    with whole_files(folder) as part:
        (part / "README.md").write_text(README)
        (part / "table.md").write_text(text)
        (part / "table.tex").write_text("\n".join(_latex(problem, grid) for problem in problems))
        _write_results(problems, part / "results.csv")
        _write_verdicts(problems, part / "verdicts.csv")
        _draw(problems, grid, part)
    return text


def _draw(problems: list[Problem], grid: Grid, folder: Path) -> None:
    """Write the learning curves."""
    for problem in problems:
        if problem.decisive:
            ax = plots.axes(5.5, 4.0)
            plots.plot_comparison(curves(problem), ax)
            title = f"{problem.name}: mean and range over {len(grid.seeds)} seeds"
            ax.set(ylabel=problem.decisive, title=title)
            if DECISIVE[problem.decisive]:
                ax.set_ylim(bottom=0)
            for suffix in (".png", ".svg"):
                plots.save(ax, folder / f"curve-{problem.name}{suffix}")


def assess(name: str, results: Results, seeds: list[int], baseline: str | None = None) -> Problem:
    """Judge the methods on one problem by their last evaluations."""
    ends = {m: {s: run[-1] for s, run in runs.items()} for m, runs in results.items()}
    found = [point.metrics for runs in ends.values() for point in runs.values()]
    metrics = list(dict.fromkeys(metric for each in found for metric in each))
    decisive = next((m for m in DECISIVE if found and all(m in each for each in found)), "")
    calls = {m: _calls(list(runs.values())) for m, runs in ends.items() if runs}
    usual = Counter(calls.values()).most_common()
    most = min((c for c, n in usual if n == usual[0][1]), key=len, default="")
    apart = {
        m: f"not tested: unequal reward calls ({count} against {most})"
        for m, count in calls.items()
        if count != most
    }
    if not decisive:
        apart = dict.fromkeys(ends, "not tested: no metric in common to judge by")
    values = {
        method: {seed: p.metrics.get(decisive, 0.0) for seed, p in runs.items()}
        for method, runs in ends.items()
    }
    smaller, scale = DECISIVE.get(decisive, True), SCALES.get(decisive, "plain")
    judgement = judge(values, seeds, smaller, baseline, apart, scale)
    return Problem(name, results, metrics, decisive, judgement)


def _calls(ends: list[Point]) -> str:
    """How many reward calls some runs made."""
    return " or ".join(f"{n:,}" for n in sorted({end.reward_calls for end in ends}))


def number(values: list[float], plus_minus: str) -> str:
    """Mean and standard error, to two digits of the error."""
    if not values:
        return ""
    if len(values) < 2 or not all(map(isfinite, values)):
        return f"{mean(values):.4g}"
    error = stdev(values) / sqrt(len(values))
    if error == 0:
        return f"{values[0]:,.0f}" if values[0].is_integer() else f"{values[0]:.4g}"
    digits = min(6, max(0, 1 - floor(log10(error))))
    return f"{mean(values):,.{digits}f} {plus_minus} {error:,.{digits}f}"


def _rows(
    problem: Problem, grid: Grid, plus_minus: str, bold: Callable[[str], str]
) -> list[list[str]]:
    """A header, then for each method its name, runs, reward calls and metrics."""
    rows = [["method", "runs", "reward calls", *problem.metrics]]
    for method, runs in problem.results.items():
        ends = [run[-1] for run in runs.values()]
        values = [[p.metrics[m] for p in ends if m in p.metrics] for m in problem.metrics]
        cells = [number(numbers, plus_minus) for numbers in values]
        if problem.judgement.is_won and method == problem.judgement.best:
            place = problem.metrics.index(problem.decisive)
            cells[place] = bold(cells[place])
        shown = f"{len(ends)} of {len(grid.seeds)}"
        rows.append([method, shown, _calls(ends), *cells])
    return rows


def _markdown(problem: Problem, grid: Grid) -> str:
    header, *rows = _rows(problem, grid, "±", "**{}**".format)
    drawn = f"{grid.trajectories[problem.name]:,} trajectories"
    lines = [
        f"## {problem.name}",
        "",
        f"After {drawn} each: mean ± standard error over seeds. Methods "
        f"are judged by {problem.decisive or 'nothing'}, each beside the best, with a spread that "
        f"is pooled over all, at {LEVEL:.0%} for all together; bold is better than every other.",
        "",
        *("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows]),
        "",
    ]
    if problem.judgement.best:
        lines.append(
            f"The best mean is that of {problem.judgement.best}. Beside it, or the baseline:"
        )
        lines.append("")
    said = set()
    for v in problem.judgement.verdicts:
        if (v.method, v.other) in said:  # the baseline is the best
            continue
        said.add((v.method, v.other))
        by = f" ({problem.decisive}: {_signed(v)})" if isfinite(v.p) else ""
        lines.append(f"- {v.method} beside {v.other}: {v.text}{by}")
    lines += ["", *(f"{remark}." for remark in (*problem.judgement.remarks, *_arrivals(problem)))]
    return "\n".join([*lines, ""])


def _arrivals(problem: Problem) -> list[str]:
    """What to say of a log Z that is still on its way, whose number tells how far."""
    late = [
        f"{method} ({mean(errors):.2g} nats)"
        for method, runs in problem.results.items()
        if (errors := [run[-1].metrics.get("log_z_error", 0.0) for run in runs.values()])
        and mean(errors) > NOT_ARRIVED
    ]
    return [f"log Z has not arrived yet: {', '.join(late)}"] if late else []


def _signed(verdict: Verdict) -> str:
    p = f"p = {verdict.p:.2g}" if verdict.p >= 1e-4 else "p < 0.0001"
    return f"difference {verdict.difference:+.3g} ± {verdict.standard_error:.2g}, {p}"


def _latex(problem: Problem, grid: Grid) -> str:
    rows = _rows(problem, grid, "$\\pm$", "\\textbf{{{}}}".format)
    lines = [" & ".join(cell.replace("_", "\\_") for cell in row) + r" \\" for row in rows]
    drawn = f"{grid.trajectories[problem.name]:,} trajectories"
    return "\n".join(
        [
            f"% {problem.name}, {drawn}: mean and standard error",
            f"\\begin{{tabular}}{{ll{'r' * (len(rows[0]) - 2)}}}",
            "\\hline",
            lines[0],
            "\\hline",
            *lines[1:],
            "\\hline",
            "\\end{tabular}",
            "",
        ]
    )


def _write_results(problems: list[Problem], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        columns = ["problem", "method", "seed", "trajectories", "reward_calls", "metric", "value"]
        writer.writerow(columns)
        writer.writerows(
            [problem.name, method, seed, point.trajectories, point.reward_calls, metric, value]
            for problem in problems
            for method, runs in problem.results.items()
            for seed, run in runs.items()
            for point in run
            for metric, value in point.metrics.items()
        )


def _write_verdicts(problems: list[Problem], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["problem", "metric", *Verdict._fields[:-1], "verdict"])
        writer.writerows(
            [problem.name, problem.decisive, *verdict]
            for problem in problems
            for verdict in problem.judgement.verdicts
        )


def curves(problem: Problem) -> dict[str, tuple[list[int], list[list[float]]]]:
    """Method -> trajectories, and of each run the decisive metric there."""
    return {
        method: (
            [point.trajectories for point in next(iter(runs.values()))],
            [[point.metrics[problem.decisive] for point in run] for run in runs.values()],
        )
        for method, runs in problem.results.items()
        if runs
    }
