"""Write values of Ehrlich functions by pytorch-holo, which a test compares ours with.

    python -m venv holo && holo/bin/pip install "numpy<2" botorch pytorch-holo==0.0.5
    holo/bin/python benchmarks/ehrlich_vectors.py tests/ehrlich_holo_0.0.5.json.gz

Of each setting: motifs, spacings, which transitions are possible, and 1,000 strings with their
values: a quarter random, a quarter walks of the function's own, and half its optimum with letters
changed.
"""

import gzip
import json
import sys

import torch
from holo.test_functions.closed_form import Ehrlich

SETTINGS = (
    (4, 12, 2, 4, 4, 0.0, 0),
    (4, 32, 2, 4, 2, 0.0, 1),
    (5, 20, 3, 3, 3, 0.5, 2),
    (8, 24, 2, 4, 4, 0.0, 3),
    (32, 32, 4, 4, 4, 0.0, 0),
    (32, 64, 4, 4, 4, 0.0, 5),
    (20, 40, 2, 8, 4, 1.0, 6),
)
NAMES = ("n_letters", "length", "n_motifs", "motif_length", "quantization", "epistasis", "seed")


def strings_of(function: Ehrlich, n_letters: int, length: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    at_random = torch.randint(n_letters, (250, length), generator=generator)
    near = function.optimal_solution().repeat(500, 1)
    share = torch.linspace(0, 0.5, 500)[:, None]
    other = torch.randint(n_letters, near.shape, generator=generator)
    near = torch.where(torch.rand(near.shape, generator=generator) < share, other, near)
    return torch.cat([at_random, function.initial_solution(250), near])


def main(path: str) -> None:
    found = []
    for setting in SETTINGS:
        v, length, c, k, q, epistasis, seed = setting
        function = Ehrlich(v, length, c, k, q, epistasis_factor=epistasis, random_seed=seed)
        strings = strings_of(function, v, length)
        values = function.evaluate_true(strings)
        found.append(
            {
                "arguments": dict(zip(NAMES, setting, strict=True)),
                "motifs": [motif.tolist() for motif in function.motifs],
                "spacings": [spacing.tolist() for spacing in function.spacings],
                "allowed": (function.transition_matrix > 0).int().tolist(),
                "strings": strings.tolist(),
                "values": [None if x == -torch.inf else float(x) for x in values],
            }
        )
    with gzip.GzipFile(path, "wb", mtime=0) as file:
        file.write(json.dumps(found).encode())


if __name__ == "__main__":
    main(sys.argv[1])
