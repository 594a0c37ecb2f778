"""How probable it is that a policy builds an object, summed over all of its histories."""

from typing import NamedTuple

import torch
from torch import Tensor

from gfn_design.environments.base import Environment
from gfn_design.sampling.seen_objects import object_keys
from gfn_design.sampling.trajectories import Sampler

AT_ONCE = 4096  # states that a policy is asked about
MOST = 1100  # states on the ways to an object: of 10 changes, or within 46 letters


class _Step(NamedTuple):
    """One step back from some states, to all states that lead to one of them.

    Attributes:
        before: ``int64[n, *state_shape]``, each once.
        child: ``int64[edges]``, which of the states an edge leads to.
        parent: ``int64[edges]``, which of those before it leaves; in order.
        action: ``int64[edges]``, that leads on.
    """

    before: Tensor
    child: Tensor
    parent: Tensor
    action: Tensor


@torch.no_grad()
def log_probability(environment: Environment, policy: Sampler, objects: Tensor) -> Tensor | None:
    """log of the probability that a policy builds each object, in nats: ``float64[n]``.

    All histories of an object meet few states where it is a sequence written at its ends, whose
    parts they are, or some changes of another, whose subsets they are: so their sum is exact.

    Args:
        environment: Of which each object is one state.
        policy: Whose forward policy decides.
        objects: ``int64[n, *state_shape]``, finished.

    Returns:
        None where histories meet more than `MOST` states for each object.
    """
    if len(objects) > 1 and _steps_back(environment, objects[:1], MOST) is None:
        return None
    steps = _steps_back(environment, objects, MOST * len(objects))
    if steps is None:
        return None
    source = steps[-1].before if steps else objects
    reached = torch.zeros(len(source), dtype=torch.float64, device=objects.device)
    for k in reversed(range(len(steps))):
        states = steps[k - 1].before if k else objects
        reached = _forward(environment, policy, steps[k], states, reached)
    if environment.fixed_length:
        return reached
    stops = [
        policy.forward_log_probs(some, environment.legal(some))[:, environment.stop]
        for some in objects.split(AT_ONCE)
    ]
    return reached + torch.cat(stops).double()


def _steps_back(environment: Environment, states: Tensor, most: int) -> list[_Step] | None:
    """All ways back to the source, step by step; None if they meet more than so many states."""
    steps: list[_Step] = []
    met = 0
    while True:
        child, undo = environment.legal_backward(states).nonzero(as_tuple=True)
        if not len(child):
            return steps
        if len(child) > 4 * most:
            return None
        before, action = environment.backward_step(states[child], undo)
        keys, place = object_keys(environment, before).unique(return_inverse=True)
        first = torch.full_like(keys, len(place)).scatter_reduce(
            0, place, torch.arange(len(place), device=place.device), "amin"
        )
        order = place.argsort()
        steps.append(_Step(before[first], child[order], place[order], action[order]))
        states = before[first]
        met += len(states)
        if met > most:
            return None


def _forward(
    environment: Environment, policy: Sampler, step: _Step, states: Tensor, reached: Tensor
) -> Tensor:
    """log of the probability to reach states, of that to reach the states before."""
    log_pf = []
    ends = torch.searchsorted(
        step.parent, torch.arange(0, len(step.before) + AT_ONCE, AT_ONCE).to(step.parent)
    ).tolist()
    for turn, some in enumerate(step.before.split(AT_ONCE)):
        log_probs = policy.forward_log_probs(some, environment.legal(some)).double()
        edges = slice(ends[turn], ends[turn + 1])
        row = step.parent[edges] - turn * AT_ONCE
        log_pf.append(log_probs[row, step.action[edges]])
    flow = torch.cat(log_pf) + reached[step.parent]
    top = torch.full((len(states),), -torch.inf, dtype=flow.dtype, device=flow.device)
    top = top.scatter_reduce(0, step.child, flow, "amax")
    safe = top.nan_to_num(neginf=0.0)
    total = torch.zeros_like(top).index_add(0, step.child, (flow - safe[step.child]).exp())
    at_source = ~environment.legal_backward(states).any(1)
    return (total.log() + safe).masked_fill(at_source, 0.0)
