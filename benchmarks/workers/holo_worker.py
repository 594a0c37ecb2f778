"""The genetic algorithm of pytorch-holo on an Ehrlich function; run by ehrlich.py in holo's Python.

Prints a JSON object: distinct strings asked, how many there were at the first optimum (null if
none), and how many distinct optima there are.
"""

import json
import sys

import torch
from holo.optim import DiscreteEvolution
from holo.test_functions.closed_form import Ehrlich

PARTICLES = 1000


def main(task: dict) -> None:
    torch.set_num_threads(1)
    v, length, motifs, size = task["setting"]
    function = Ehrlich(v, length, motifs, size, size, random_seed=0)
    torch.manual_seed(task["seed"])
    start = torch.nn.Parameter(function.initial_solution().float(), requires_grad=False)
    optimizer = DiscreteEvolution(
        [start],
        list(range(v)),
        mutation_prob=1 / length,
        recombine_prob=0.5,
        num_particles=PARTICLES,
        survival_quantile=0.1,
    )
    asked: set[tuple[int, ...]] = set()
    optima: set[tuple[int, ...]] = set()
    first = None

    def closure(buffers: list[torch.Tensor]) -> torch.Tensor:
        nonlocal first
        strings = buffers[0].long()
        values = function.evaluate_true(strings)
        for row, value in zip(map(tuple, strings.tolist()), values.tolist(), strict=True):
            asked.add(row)
            if value == 1 and row not in optima:
                optima.add(row)
                first = first or len(asked)
        return -values

    best, stuck = 0, 0
    while len(asked) < task["labels"] and stuck < 200:
        optimizer.step(closure)
        stuck = stuck + 1 if len(asked) == best else 0  # all that it proposes is known
        best = len(asked)
    print(json.dumps({"asked": len(asked), "first": first, "optima": len(optima)}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
