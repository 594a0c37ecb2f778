"""How fast molecules of fragments are drawn, decoded, counted and learned from.

Usage: python benchmarks/molecules.py [--network mlp|gine|transformer] [--vocabulary NAME]
           [--rounds N] [--threads N]

Batches of 64 molecules of the 72 fragments of the sEH task, up to 9 blocks, trained by trajectory
balance with a reward that costs nothing. Prints the median of the rounds. The MLP is 2x256, graph
networks are 4x128.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import torch

from gfn_design import (
    MLP,
    Batches,
    FunctionData,
    GFlowNet,
    GraphNetwork,
    Networks,
    TrajectoryBalance,
)
from gfn_design.environments.molecules.fragments import Fragments
from gfn_design.fast.step import loss_of
from gfn_design.sampling.noise import EVALUATION

BATCH = 64


def seconds(function: Callable[[int], object], rounds: int) -> float:
    """The median time of a call; the first is not counted."""
    times = []
    for turn in range(rounds + 1):
        start = time.perf_counter()
        function(turn)
        times.append(time.perf_counter() - start)
    return median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=("mlp", "gine", "transformer"), default="mlp")
    parser.add_argument("--vocabulary", default="seh_72")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network: Callable[..., torch.nn.Module] = partial(MLP, depth=2)
    if options.network != "mlp":
        network = partial(GraphNetwork, kind=options.network, width=128, depth=4)
    environment = Fragments(options.vocabulary, max_blocks=9, min_blocks=2, numbered=0)
    module = GFlowNet(
        environment, TrajectoryBalance(), Networks(network), batches=Batches(BATCH), draw_seed=0
    )
    module.use(FunctionData(lambda texts: [1.0] * len(texts)))
    optimizer = module.configure_optimizers()

    def learn(turn: int) -> None:
        _, losses, gradients = module.next_step()
        optimizer.zero_grad()
        loss_of(losses, gradients).backward()
        optimizer.step()

    drawn = [module.draw(BATCH, EVALUATION, turn) for turn in range(options.rounds + 1)]
    steps = float(torch.cat([batch.alive.sum(1) for batch in drawn]).float().mean())
    assembly = environment.assembly
    rows = [batch.objects[:, :-2].tolist() for batch in drawn]
    read = [assembly.smiles(part) for part in rows]
    assembly._smiles.clear()
    times = {
        "drawing a batch": seconds(lambda t: module.draw(BATCH, EVALUATION, t), options.rounds),
        "its SMILES": seconds(lambda t: assembly.smiles(rows[t]), options.rounds),
        "counting their copies": seconds(
            lambda t: assembly.log_states_per_object(read[t]), options.rounds
        ),
        "a training step, all in": seconds(learn, options.rounds),
    }
    name = f"{options.network}, {options.vocabulary}"
    print(f"{name}, {BATCH} molecules a batch, {steps:.1f} steps each")
    print("\n| what | ms | trajectories/s |\n|---|---|---|")
    for name, time_taken in times.items():
        print(f"| {name} | {1000 * time_taken:.1f} | {BATCH / time_taken:,.0f} |")


if __name__ == "__main__":
    main()
