"""Randomness as an input: every draw is a function of a few integers."""

import os
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from gfn_design.errors import InputError

# Streams that never share a draw.
TRAINING, EVALUATION, CANDIDATES, HISTORIES, REPLAYED, CHOICES, SEARCHED, HELD_OUT = range(8)
KNOWN, MEMBERS, CONDITIONS = 8, 9, 10
SEEDS = 256


class Randomness(Protocol):
    """Gives the numbers of a stream."""

    def __call__(self, n: int, stream: int, nth: int, columns: int | None = None) -> Tensor:
        """Uniform numbers in [0, 1): ``float[n, columns]``.

        Args:
            n: Rows.
            stream: Whose numbers; streams never share any.
            nth: Which numbers of the stream.
            columns: None is as many as a trajectory has steps at most.
        """


def seed_of(given: int | None) -> int:
    """The seed of all draws: the one given, that of Lightning's `seed_everything`, or 0.

    Raises:
        InputError: It is negative.
    """
    seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if given is None else given
    if seed < 0:
        raise InputError(f"draw_seed must not be negative, got {seed}")
    return seed


def uniform_noise(shape: tuple[int, ...], device: torch.device, *key: int) -> Tensor:
    """Uniform numbers in [0, 1) that depend on `key` (seed, stream, rank, nth) alone.

    Lightning seeds every rank alike, and a resumed run starts its streams afresh; numbers that
    come from a key repeat neither across ranks nor across a restart. (By chance they may: of the
    key torch uses 32 bits on a CPU, so about one of 100,000 batches repeats another.)
    """
    *stream, nth = key
    entropy = _entropy(*stream, nth // SEEDS)[nth % SEEDS]
    generator = torch.Generator(device).manual_seed(entropy)
    return torch.rand(shape, generator=generator, device=device, dtype=torch.float32)


@lru_cache(maxsize=16)
def _entropy(*key: int) -> list[int]:
    """Seeds of `SEEDS` keys in a row: one by one they would cost more than the numbers."""
    return [int(s) for s in np.random.SeedSequence(key).generate_state(SEEDS, np.uint64) >> 1]
