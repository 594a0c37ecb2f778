"""Where a training step spends its time, what each option brings, and how cost grows.

Usage: python benchmarks/phases.py [--threads N] [--seconds S]

Prints four tables in Markdown, in about eight minutes: the phases of a step, uncompiled, with the
share of matrix products; the speed of the paper's methods with its settings; the speed with each
option switched the other way, in turns with the others; and the speed by batch, length and
alphabet. Rewards are arbitrary numbers; learning rates are zero, so that policies stay as they are
but for trust regions, which have none.
"""

import argparse
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import pairwise
from statistics import median
from time import perf_counter
from unittest.mock import patch

import torch
from torch import Tensor
from torch.optim import Adam
from torch.profiler import profile

from gfn_design import (
    ActorCritic,
    Batches,
    GFlowNet,
    LearnedBackward,
    Networks,
    Optimiser,
    Sequence,
    Speed,
    TrajectoryBalance,
    TrustRegion,
    UniformBackward,
)
from gfn_design.data.base import DataModule
from gfn_design.fast import log_probabilities
from gfn_design.fast.step import set_gradients
from gfn_design.policies.mlp import MLP
from gfn_design.rewards.reward import Reward

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-"
ROUNDS = 7
OF_THE_PAPER = {
    "RL-U": ActorCritic,
    "RL-T": TrustRegion,
    "RL-T, fast": partial(TrustRegion, fisher_share=0.125, conjugate_steps=5),
}
Step = Callable[[], int]


class Hash(torch.nn.Module):
    """A score from 0.1 to 1.1 that follows from the object alone; a table would not scale."""

    def forward(self, objects: Tensor) -> Tensor:
        places = torch.arange(1, objects.shape[1] + 1, device=objects.device)
        return (objects * places).sum(-1).float().sin().abs() + 0.1


class Data(DataModule):
    def make_reward(self, environment):
        return Reward(Hash())


def module(method="TB", letters=4, length=8, order="prepend-append", batch_size=128, **options):
    """A module with its reward: TB with MLP 2x256, or one of the paper's with its MLP of 4x256."""
    torch.manual_seed(0)
    objective = TrajectoryBalance() if method == "TB" else OF_THE_PAPER[method]()
    network = partial(MLP, width=256, depth=2 if method == "TB" else 4)
    backward = options.pop("backward", LearnedBackward(shared=True) if method == "TB" else None)
    environment = Sequence(LETTERS[:letters], length, order)
    made = GFlowNet(
        environment,
        objective,
        Networks(network),
        backward or UniformBackward(),
        Batches(batch_size),
        Optimiser(0.0, 0.0, 0.0, options.pop("optimizer", None)),
        speed=Speed(**options),
        draw_seed=0,
    )
    return made.use(Data())


def stepper(made: GFlowNet, context=nullcontext) -> Step:
    """What the Trainer does for each batch, or for several in a loop; returns how many."""
    optimizer = made.configure_optimizers()

    def step() -> int:
        loops = made.engine.loops
        if (
            context in (nullcontext, shorter_products)
            and loops
            and (loop := loops.of(made, optimizer))
        ):
            batches = min(made.engine.batches_per_step, loop.room(0.05))
            with context():
                loop.run(made.next_noise(batches), made.tally, lambda: None)
            return batches
        with context():
            _, losses, gradients = made.next_step()
        set_gradients(optimizer, losses, gradients)
        optimizer.step()
        return 1

    return step


def in_turns(steps: dict[str, Step], seconds: float) -> dict[str, list[float]]:
    """Iterations per second of each, one number a round."""
    for step in steps.values():
        for _ in range(3):
            step()
    speeds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            done, start = 0, perf_counter()
            while (elapsed := perf_counter() - start) < seconds:
                done += step()
            speeds[name].append(done / elapsed)
    return speeds


def phases(seconds: float) -> Iterator[str]:
    """Rows: Milliseconds of each phase, uncompiled, and the share of matrix products."""
    yield "| work | roll-out | reward | losses | gradient | update | products | RL-U / TB |"
    yield "|---|---|---|---|---|---|---|---|"
    for batch_size in (16, 128):
        whole = {}
        for method in ("TB", "RL-U"):
            made = module(method, batch_size=batch_size)
            optimizer, times = made.configure_optimizers(), []

            def step(made=made, optimizer=optimizer) -> list[float]:
                marks = [perf_counter()]
                drawn = made.draw(made.batch_size, 0, made.tally.draws)
                made.tally.draws += 1
                marks.append(perf_counter())
                drawn = drawn._replace(log_reward=made.log_reward(drawn.objects))
                marks.append(perf_counter())
                now = made.engine.log_probabilities(made.policy, drawn)
                loss = sum(made.objective(now, now.detach()).values())
                marks.append(perf_counter())
                optimizer.zero_grad()
                loss.backward()
                marks.append(perf_counter())
                optimizer.step()
                marks.append(perf_counter())
                return [1e3 * (b - a) for a, b in pairwise(marks)]

            end = perf_counter() + 2 * seconds
            while perf_counter() < end:
                times.append(step())
            with profile() as seen:
                for _ in range(20):
                    step()
            events = seen.key_averages()
            total = sum(event.self_cpu_time_total for event in events)
            products = ("aten::mm", "aten::addmm", "aten::bmm")
            share = sum(e.self_cpu_time_total for e in events if e.key in products) / total
            columns = [median(column) for column in zip(*times, strict=True)]
            whole[method] = sum(columns)
            ratio = f"{whole['RL-U'] / whole['TB']:.1f}" if method == "RL-U" else ""
            cells = " | ".join(f"{column:.2f} ms" for column in columns)
            yield f"| {method}, batch {batch_size} | {cells} | {share:.0%} | {ratio} |"


@contextmanager
def every_state():
    """Evaluate each state as often as it was visited."""

    def all_of_them(environment, states, real):
        numbered, environment.n_states = environment.n_states, None
        try:
            return distinct(environment, states, real)
        finally:
            environment.n_states = numbered

    distinct = log_probabilities.distinct
    with patch.object(log_probabilities, "distinct", all_of_them):
        yield


@contextmanager
def shorter_products():
    """``matmul_precision: medium``."""
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")


def options(seconds: float) -> Iterator[str]:
    """Rows: How many times as fast with an option switched, the others as they are by default."""
    works = [("TB", 16), ("TB", 128), ("RL-U", 128)]
    yield f"| option | {' | '.join(f'{method}, batch {n}' for method, n in works)} |"
    yield "|---|---|---|---|"
    bf16 = partial(torch.autocast, "cpu", torch.bfloat16)
    rows: dict[str, list[str]] = {}
    for method, batch_size in works:
        make = partial(module, method, batch_size=batch_size)
        no_early = make()
        no_early.engine.rollout.early = None
        steps = {
            "as by default, batches per second": stepper(make()),
            "compiled": stepper(make(compiled=True)),
            "compiled, no loop": stepper(make(compiled=True, batches_per_step=1)),
            "precision: bf16-mixed": stepper(make(), bf16),
            "compiled, precision: bf16-mixed": stepper(make(compiled=True), bf16),
            "matmul_precision: medium": stepper(make(), shorter_products),
            "compiled, matmul_precision: medium": stepper(make(compiled=True), shorter_products),
            "each visit to a state evaluated": stepper(make(), every_state),
            "early states not known": stepper(no_early),
            "Adam, not fused": stepper(make(optimizer=Adam)),
        }
        if method == "TB":
            steps["a backward network of its own"] = stepper(make(backward=LearnedBackward()))
            steps["uniform backward policy"] = stepper(make(backward=UniformBackward()))
        speeds = in_turns(steps, seconds)
        (name, default), *others = speeds.items()
        rows.setdefault(name, []).append(f"{median(default):.0f}")
        for name, some in others:
            ratios = [a / b for a, b in zip(some, default, strict=True)]
            spread = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            rows.setdefault(name, []).append(spread)
    for name, cells in rows.items():
        yield f"| {name} | {' | '.join(cells + [''] * (len(works) - len(cells)))} |"


def growth(seconds: float) -> Iterator[str]:
    """Rows: Trajectories per second by batch, length and alphabet."""
    yield "| batch | length | alphabet | batches per second | trajectories per second |"
    yield "|---|---|---|---|---|"
    sizes = [(b, 8, 4) for b in (16, 64, 256, 1024)]
    sizes += [(128, n, 4) for n in (4, 8, 16, 32, 64)] + [(128, 8, v) for v in (4, 16, 64)]
    steps = {
        size: stepper(module(batch_size=size[0], length=size[1], letters=size[2])) for size in sizes
    }
    for (batch_size, length, letters), speeds in in_turns(steps, seconds).items():
        speed = median(speeds)
        numbers = f"{batch_size} | {length} | {letters} | {speed:.0f} | {speed * batch_size:,.0f}"
        yield f"| {numbers} |"


def paper(seconds: float) -> Iterator[str]:
    """Rows: As in the paper, on 8 letters in any order, batch 128: batches per second."""
    yield "| method | uncompiled | compiled |"
    yield "|---|---|---|"
    steps = {
        (method, compiled): stepper(module(method, order="any", compiled=compiled))
        for method in OF_THE_PAPER
        for compiled in (False, True)
    }
    speeds = in_turns(steps, 2 * seconds)
    for method in OF_THE_PAPER:
        both = [speeds[method, compiled] for compiled in (False, True)]
        cells = [f"{median(x):.1f} ({min(x):.1f} to {max(x):.1f})" for x in both]
        yield f"| {method} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=0.5, help="a turn of each (0.5)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    print(f"Strings of 8 letters over 4, prepend-append, {args.threads} threads.")
    for table in (phases, paper, options, growth):
        print(f"\n{table.__doc__.removeprefix('Rows: ')}\n")
        for row in table(args.seconds):
            print(row, flush=True)


if __name__ == "__main__":
    main()
