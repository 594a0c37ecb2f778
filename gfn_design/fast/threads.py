"""One thread where products are small: two would wait for each other longer than they work.

Where another process keeps a core busy, threads that wait for each other after every small product
make a batch take fifty times as long.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

FEW_TRAJECTORIES = 32  # up to which a roll-out is as fast by one thread,
FEW_ROWS = 256  # and states, up to which the whole of a batch is


@contextmanager
def one_thread(alone: bool = True) -> Iterator[None]:
    """Within, torch uses one thread, if that is wanted."""
    before = torch.get_num_threads()
    if not alone or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class OnAllThreads:
    """A reward that is found by as many threads as there were, whoever asks for it.

    Args:
        reward: Of objects.
        threads: How many.
    """

    def __init__(self, reward: Callable[[Tensor], Tensor], threads: int) -> None:
        self.reward, self.threads = reward, threads

    def __call__(self, objects: Tensor) -> Tensor:
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            return self.reward(objects)
        finally:
            torch.set_num_threads(before)
