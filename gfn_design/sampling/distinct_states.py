"""Equal states are evaluated once."""

from torch import Tensor

from gfn_design.environments.base import Environment
from gfn_design.tensors import one_of_each


def distinct(environment: Environment, states: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Each state once, so that a network sees it once; where they are not numbered, each visit.

    Args:
        environment: Numbers the states.
        states: ``int64[batch, times, *state_shape]``, from the source on.
        real: ``bool[batch, times]``; others need not be among what is returned.

    Returns:
        The states, ``int64[n, *state_shape]``, and where in them each state of the batch is,
        ``int64[batch, times]``; anywhere, where not real.
    """
    every = states.flatten(0, 1)
    if environment.n_states is None:
        return every_visit(states, real)
    if not environment.fixed_length:  # padding may hold anything
        blank = ~real.reshape(-1, *[1] * (every.dim() - 1))
        every = environment.initial(1).where(blank, every)
    some, where = one_of_each(environment.state_index(every))
    return every.index_select(0, some), where.view(real.shape)


def every_visit(states: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """The real states, as often as they are met, and where each state is; see `distinct`."""
    some = states[real]
    where = (real.flatten().cumsum(0) - 1).clamp(min=0)
    if not len(some):
        some = states.flatten(0, 1)[:1]  # so that `where` points at something
    return some, where.view(real.shape)


def at_steps(values: Tensor, rows: Tensor) -> Tensor:
    """The value of the state at each step, of values of states and the states' rows."""
    return values.float().gather(0, rows.flatten()).view(rows.shape)


def picked(table: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """``table[rows, columns]``; `gather` has the cheaper gradient."""
    flat = (rows * table.shape[1] + columns).flatten()
    return table.flatten().gather(0, flat).view(rows.shape)
