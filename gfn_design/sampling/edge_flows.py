"""Log flows of edges, where the forward policy's logits are log flows."""

import torch
from torch import Tensor

from gfn_design.environments.base import Environment
from gfn_design.policies.policy import Policy
from gfn_design.sampling.distinct_states import at_steps, distinct, picked
from gfn_design.sampling.trajectories import Trajectories


def edge_flows(environment: Environment, policy: Policy, trajectories: Trajectories) -> Tensor:
    """Log flows, where the forward policy's logits are log flows of edges: ``[3, batch, steps]``.

    Of the edge that each step takes; into the state that it enters, over all its parents; and out
    of that state, a stop included (-inf where there is no way on). The latter two are 0 at a stop.
    """
    states, actions, _, alive, _ = trajectories
    moves = trajectories.moves(environment)
    left, left_at = distinct(environment, states[:, :-1], alive)
    logits = policy.forward_logits(left).float().where(environment.legal(left), -torch.inf)
    taken = picked(logits, left_at, actions).where(alive, 0)
    entered, entered_at = distinct(environment, states[:, 1:], moves)
    logits = policy.forward_logits(entered).float().where(environment.legal(entered), -torch.inf)
    out = at_steps(logits.logsumexp(1), entered_at).where(moves, 0)
    row, undo = environment.legal_backward(entered).nonzero(as_tuple=True)
    parent, action = environment.backward_step(entered[row], undo)
    edge = policy.forward_logits(parent).float().gather(1, action[:, None])[:, 0]
    table = edge.new_full((len(entered), environment.n_backward_actions), -torch.inf)
    into = table.index_put((row, undo), edge).logsumexp(1)
    return torch.stack([taken, at_steps(into, entered_at).where(moves, 0), out])
