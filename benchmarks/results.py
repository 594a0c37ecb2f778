"""Train what RESULTS.md tells of, and write it with its pictures.

Usage: python benchmarks/results.py [FOLDER] [--jobs N] [--report]

The runs are the grids of `configs/results/`, in `gfn-design compare`: those that are in FOLDER
(default: runs/results) are kept, and what was stopped goes on. `--report` runs nothing and writes
what the finished runs say. About an hour and a half on two cores. GFN_DESIGN_DATA may name a folder
with the data, which is downloaded otherwise.

What stands in RESULTS.md after the line KEPT is written by hand, and stays.
"""

import argparse
import csv
import os
import platform
from importlib.metadata import version
from math import inf, isfinite
from pathlib import Path
from statistics import mean
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # which is read on import

from gfn_design.compare.grid import Grid, load_grid
from gfn_design.compare.report import (
    DECISIVE,
    NOT_ARRIVED,
    Problem,
    assess,
    curves,
    number,
)
from gfn_design.compare.runner import Point, is_finished, points, run_grid
from gfn_design.compare.statistics import BEST, SAME, Verdict
from gfn_design.results import plots

HERE = Path(__file__).resolve().parents[1]
GRIDS, PICTURES, PEERS = HERE / "configs/results", HERE / "docs/results", HERE / "benchmarks/peers"
KEPT = "<!-- From here on by hand: benchmarks/results.py keeps what follows. -->"
NOISE = 0.02  # of one run's D_TV
PICTURE = (6.0, 3.6)  # inches
TICKS = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1)

METHODS = ("hypergrids", "six6_qm9", "pho4_seh", "networks")  # grids of all methods
PROBLEMS = {
    "hypergrid-32x32": "Hypergrid 32 x 32, R0 = 0.01",
    "hypergrid-16x16x16": "Hypergrid 16 x 16 x 16, R0 = 0.01",
    "hypergrid-8x8x8x8": "Hypergrid 8 x 8 x 8 x 8, R0 = 0.01",
    "six6": "SIX6, 65,536 DNA 8-mers, prepend-append",
    "qm9": "QM9 blocks, 161,051 chains of 5, prepend-append",
    "pho4": "PHO4, 1,048,576 DNA 10-mers, prepend-append",
    "seh": "sEH blocks, 34,012,224 chains of 6, prepend-append; measured on samples",
    "dag-4": "Posterior over the 543 networks of 4 nodes",
}
SHOWN = {  # metric -> head of its column
    "D_TV": "D_TV",
    "D_JSD": "D_JSD",
    "log_z_bound": "bound on log Z",
    "mean_reward": "mean reward",
    "accuracy": "accuracy",
    "correlation": "correlation",
    "distinct_share": "distinct",
    "edge_correlation": "edges, correlation",
    "modes": "modes",
    "log_z_error": "log Z error",
}


class Peer(NamedTuple):
    """A curve of another library, and our runs of the same."""

    grid: str
    problem: str
    method: str
    file: str
    text: str


OF_THE_PAPER = [
    Peer("peers_rl_u", "six6-any", "RL-U", "gfnpg_six6_rl_u", "SIX6, any order, RL-U"),
    Peer("peers_rl_t", "six6-any", "RL-T", "gfnpg_six6_rl_t", "SIX6, any order, RL-T"),
    *(
        Peer(f"peers_rl_{x}", f"hypergrid-{n}", f"RL-{x.upper()}", f"gfnpg_hypergrid_{n}_rl_{x}",
             f"Hypergrid {n}, RL-{x.upper()}")
        for n in ("64x64", "256x256")
        for x in "ut"
    ),
]  # fmt: skip
OF_GFNX = [
    *(
        Peer("gfnx_six6", "six6-append", m, f"gfnx_six6_{m.lower()}", f"SIX6, append-only, {m}")
        for m in ("TB", "DB", "SubTB")
    ),
    *(
        Peer("gfnx_hypergrid", "hypergrid-20x20x20x20", m,
             f"gfnx_hypergrid_20x20x20x20_{m.lower()}", f"Hypergrid 20 x 20 x 20 x 20, {m}")
        for m in ("DB", "SubTB")
    ),
]  # fmt: skip


def grid_of(name: str) -> Grid:
    return load_grid(GRIDS / f"{name}.yaml")


def finished(grid: Grid, folder: Path) -> dict[str, Problem]:
    """What the finished runs of a grid say about each of its problems."""
    runs: dict[str, dict[str, dict[int, list[Point]]]] = {
        problem: {method: {} for method in grid.methods} for problem in grid.problems
    }
    for cell in grid.cells:
        if is_finished(cell, folder):
            runs[cell.problem][cell.method][cell.seed] = points(folder / cell.path)
    return {name: assess(name, results, grid.seeds) for name, results in runs.items()}


def rows(header: list[str], body: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def about(verdict: Verdict) -> str:
    """What a verdict says of the method that is not the best."""
    if verdict.text.startswith("not tested"):
        return "more reward calls" if "unequal" in verdict.text else "not tested"
    return verdict.text


def methods_section(title: str, problem: Problem, grid: Grid) -> str:
    """Picture, table and verdicts of all methods on one problem."""
    ends = {m: [run[-1] for run in runs.values()] for m, runs in problem.results.items()}
    decisive, smaller = problem.decisive, DECISIVE.get(problem.decisive, True)
    means = {
        m: mean(p.metrics[decisive] for p in points)
        for m, points in ends.items()
        if points and decisive
    }
    fewest = min((p.reward_calls for runs in ends.values() for p in runs), default=0)
    whole = {m: x for m, x in means.items()
             if isfinite(x) and all(p.reward_calls == fewest for p in ends[m])}  # fmt: skip
    text = f"### {title}\n\n"
    if not whole:
        return text + "No run has ended yet.\n"
    best = problem.judgement.best
    against = {v.method: v for v in problem.judgement.verdicts if v.beside == BEST}
    shown = [name for name in SHOWN if name in problem.metrics]
    body = []
    for method, runs in ends.items():
        values = [number([p.metrics[m] for p in runs if m in p.metrics], "±") for m in shown]
        errors = [p.metrics.get("log_z_error", 0.0) for p in runs]
        if "log_z_error" in shown and errors and mean(errors) > NOT_ARRIVED:
            values[shown.index("log_z_error")] += " (not arrived)"
        if method == best:
            values[0] = f"*{values[0]}*"
        asked = sorted({p.reward_calls for p in runs})
        calls = " to ".join(f"{n:,}" for n in dict.fromkeys(asked[:1] + asked[-1:]))
        if len(runs) < len(grid.seeds):
            calls += f" ({len(runs)} of {len(grid.seeds)} runs)"
        verdict = "lowest mean" if smaller else "highest mean"
        if method != best:
            verdict = about(against[method])
        body.append([method, calls, *values, verdict])
    known = {p.metrics["modes_known"] for runs in ends.values() for p in runs
             if "modes_known" in p.metrics}  # fmt: skip
    heads = [SHOWN[m] for m in shown]
    if "modes" in shown and known:
        heads[shown.index("modes")] = f"modes of {max(known):,.0f}"
    tested = [v for v in against.values() if isfinite(v.p)]
    told = sum(bool(v.better) for v in tested)
    remarks = "".join(f" {remark}." for remark in problem.judgement.remarks)
    picture(problem)
    return (
        f"{text}{grid.trajectories[problem.name]:,} trajectories.\n\n"
        f"![Learning curves](docs/results/{problem.name}.png)\n\n"
        + rows(["method", "reward calls", *heads, f"beside {best}"], body)
        + f"\n\nOf {len(tested)} methods that can be tested beside {best}, {told} are worse, and "
        f"{len(tested) - told} are {SAME}.{remarks}\n"
    )


def glance(problems: dict[tuple[str, str], Problem]) -> str:
    """D_TV of every method on every small problem that has one."""
    columns = {name: it for (grid, name), it in problems.items() if grid in METHODS}
    exact = {name: it.results for name, it in columns.items() if it.decisive == "D_TV"}
    ends = {
        (name, m): mean(run[-1].metrics["D_TV"] for run in runs.values())
        for name, results in exact.items()
        for m, runs in results.items()
        if runs
    }
    lowest = {min((key for key in ends if key[0] == name), key=lambda k: ends[k]) for name in exact}
    methods = list(dict.fromkeys(m for results in exact.values() for m in results))
    body = [
        [m, *(("*{:.3f}*" if (name, m) in lowest else "{:.3f}").format(ends[name, m])
              if (name, m) in ends else "" for name in exact)]
        for m in methods
    ]  # fmt: skip
    return rows(["D_TV", *exact], body)


def picture(problem: Problem) -> None:
    ax = plots.axes(*PICTURE)
    plots.plot_comparison(curves(problem), ax)
    ax.set(ylabel=problem.decisive, title=f"{problem.name}: mean and range over seeds")
    if problem.decisive == "D_TV":
        ax.set_yscale("log")
        low, high = ax.get_ylim()
        ax.set_yticks([tick for tick in TICKS if low < tick < high])
        ax.minorticks_off()
        ax.yaxis.set_major_formatter("{x:g}")
    else:  # some bounds are far below at first
        ends = [run[-1] for _, runs in curves(problem).values() for run in runs]
        ax.set_ylim(min(ends) - 0.5, max(ends) + 0.1)
    plots.save(ax, PICTURES / f"{problem.name}.png")


def curve_of(peer: Peer, column: str = "D_TV") -> dict[int, float]:
    """What the other library had at each number of trajectories."""
    with (PEERS / f"{peer.file}.csv").open(newline="") as file:
        return {int(row["trajectories"]): float(row[column]) for row in csv.DictReader(file)}


class Beside(NamedTuple):
    """One recorded point of another library, and our runs there."""

    trajectories: int
    theirs: float
    ours: list[float]
    counts: bool  # it is past the first quarter of what was recorded

    @property
    def difference(self) -> float:
        return mean(self.ours) - self.theirs


def beside(peer: Peer, problem: Problem) -> list[Beside]:
    """Each recorded point that our runs were evaluated at too."""
    theirs = curve_of(peer)
    runs = [{p.trajectories: p.metrics["D_TV"] for p in run}
            for run in problem.results[peer.method].values()]  # fmt: skip
    both = [at for at in theirs if at and runs and all(at in run for run in runs)]
    return [Beside(at, theirs[at], [run[at] for run in runs], 4 * at > max(both)) for at in both]


def peers_table(found: list[Beside]) -> str:
    body = []
    for it in found:
        spread = f"{mean(it.ours):.3f} ({min(it.ours):.3f} to {max(it.ours):.3f})"
        sign = f"{it.difference:+.3f}"
        if it.counts and it.difference > NOISE:
            sign = f"**{sign}**"
        body.append([f"{it.trajectories:,}", f"{it.theirs:.3f}", spread, sign])
    return rows(["trajectories", "theirs, 1 seed", "ours, mean (range)", "difference"], body)


def peers_section(peers: list[Peer], problems: dict[tuple[str, str], Problem], whose: str) -> str:
    """Pictures and tables of our curves beside another library's."""
    parts, worse, counted = [], [], 0
    for name in dict.fromkeys(peer.problem for peer in peers):
        ax = plots.axes(6.0, 4.0)
        group = [peer for peer in peers if peer.problem == name]
        for i, peer in enumerate(group):
            runs = curves(problems[peer.grid, peer.problem]).get(peer.method)
            theirs, colour, drawn = curve_of(peer), f"C{i}", inf
            if runs:
                x, y = runs[0], list(zip(*runs[1], strict=True))
                ax.plot(
                    x, [mean(values) for values in y], color=colour, label=f"{peer.method}, ours"
                )
                low, high = ([pick(values) for values in y] for pick in (min, max))
                ax.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
                drawn = max(x)
            points = [(at, d_tv) for at, d_tv in theirs.items() if at <= drawn]
            label = f"{peer.method}, {whose}"
            ax.plot(*zip(*points, strict=True), color=colour, ls=":", marker="o", ms=4, label=label)
        ax.set(xlabel="trajectories", ylabel="exact D_TV", title=f"{name}: mean and range of ours")
        ax.xaxis.set_major_formatter("{x:,.0f}")
        ax.set_ylim(bottom=0)
        ax.grid(alpha=0.3)
        ax.legend(frameon=False)
        plots.save(ax, PICTURES / f"peers-{name}.png")
        parts.append(f"![{name}](docs/results/peers-{name}.png)\n")
        for peer in group:
            found = beside(peer, problems[peer.grid, peer.problem])
            ended = len(problems[peer.grid, peer.problem].results[peer.method])
            parts.append(
                f"**{peer.text}**" + ("" if ended == 3 else f" ({ended} of 3 runs)") + "\n"
            )
            parts.append(peers_table(found) + "\n" if found else "No run has ended yet.\n")
            counted += sum(it.counts for it in found)
            worse += [f"- {peer.text}, {it.trajectories:,} trajectories: {mean(it.ours):.3f} "
                      f"against {it.theirs:.3f}"
                      for it in found if it.counts and it.difference > NOISE]  # fmt: skip
    said = f"{counted - len(worse)} of {counted} recorded points past the first quarter of a curve"
    summary = f"We are at or below {whose} (within {NOISE}, the noise of their one seed) at {said}"
    summary += ".\n" if not worse else "; above it at:\n\n" + "\n".join(worse) + "\n"
    return "\n".join([summary, *parts])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs", "results"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time")
    parser.add_argument("--report", action="store_true", help="run nothing")
    options = parser.parse_args()
    folder = options.folder.resolve()
    os.chdir(HERE)  # the grids name files from here
    PICTURES.mkdir(exist_ok=True)
    names = [*METHODS, *dict.fromkeys(peer.grid for peer in (*OF_THE_PAPER, *OF_GFNX))]
    grids = {name: grid_of(name) for name in names}
    for name, grid in grids.items():
        if not options.report:
            run_grid(grid, folder / name, options.jobs)
    problems = {
        (name, problem): found
        for name, grid in grids.items()
        for problem, found in finished(grid, folder / name).items()
    }
    methods = "\n".join(
        methods_section(PROBLEMS[problem], problems[name, problem], grids[name])
        for name in METHODS
        for problem in grids[name].problems
    )
    inside = {problem for name in METHODS for problem in grids[name].problems}
    if left_out := "; ".join(text for name, text in PROBLEMS.items() if name not in inside):
        methods += f"\nNot run, for want of time, although a small size is there: {left_out}.\n"
    path = HERE / "RESULTS.md"
    old = path.read_text() if path.exists() else ""
    kept = old[old.index(KEPT) :] if KEPT in old else f"{KEPT}\n\n## Molecules\n"
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "lightning", "numpy"))
    path.write_text(
        TEXT.format(
            machine=f"{os.cpu_count()} shared CPU cores, {platform.machine()}",
            versions=f"Python {platform.python_version()}, {packages}",
            methods=methods,
            glance=glance(problems),
            paper=peers_section(OF_THE_PAPER, problems, "the paper's code"),
            gfnx=peers_section(OF_GFNX, problems, "gfnx"),
            noise=NOISE,
        )
        + kept
    )
    print(f"wrote {path}")


TEXT = """\
# Results

`python benchmarks/results.py` trains what this page tells of, with the grids in
[configs/results](configs/results), and writes the page and its pictures; on the same folder it goes
on where it was. Seeds are 0, 1 and 2. Made on {machine}, without a GPU, in
float32, with {versions}. Whatever else ran there, no number here is a time.

`D_TV` is exact: half the sum over all objects of |learned - target| probability. So are `D_JSD` (in
nats), `accuracy` (the mean reward over what it should be) and the error of the learned log Z.
`modes` counts the known modes that training has met.

## All methods on small problems

Each row is a method of the paper ([what they are](docs/methods.md)) on a small size of one of its
problems ([configs/paper](configs/paper), `small_*`): networks of 2 x 128, 200 or 400 batches of 64
trajectories, learning rates of the paper's code, nothing tuned. So the curves tell who is fast at
the beginning, and not who is best after a day. Numbers are means ± standard errors of three runs
after equal numbers of trajectories. The last column compares each method with the best of those
that asked for as few rewards as trajectories (in italics), by Tukey's test with a spread that is
pooled over all methods and seeds, on a logarithmic scale for D_TV ([how, and what it
finds](docs/compare.md)): of differences of three standard deviations it finds half, of ten all, and
where all methods are equal it calls some different in 5 % of problems. Guides for hypergrids and
graphs (RL-G, TB-G) ask the reward of every state on the way, and are not tested against the others.
"Not arrived" is said of a log Z that is off by more than half a nat. The lowest D_TV of all is in
italics here:

{glance}

{methods}
## Beside the code of the paper

Our RL-U and RL-T with the defaults of the paper's code (networks of 4 x 256, batches of 128, on
policy; hypergrids with R0 = 0.01) beside the same run with that code
([curves](benchmarks/peers/README.md), one seed). A difference above {noise} past the first quarter
of a curve is bold. [More seeds](docs/plain_rl_u.md) of the largest hypergrid, beside the method
written again in plain PyTorch, say how far seeds differ there.

{paper}
## Beside gfnx

The same with the batches (16), networks (256 wide) and learning rates that gfnx ships, beside gfnx
(one seed). On SIX6 it explores, at first wholly at random, and we sample from the policy as it is.

{gfnx}
"""

if __name__ == "__main__":
    main()
