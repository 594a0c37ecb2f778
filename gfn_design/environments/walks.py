"""What random walks through an environment find out about it."""

import torch

from gfn_design.environments.base import Environment

WALKS = 256


@torch.no_grad()
def every_state_is_an_object(environment: Environment) -> bool:
    """Whether one may stop in every state, as far as the masks of random walks say.

    Each walk begins at the source and takes any legal action but the stop until none is left. A
    state that none of them meets is not asked about.
    """
    if environment.fixed_length:
        return False
    states = environment.initial(WALKS)
    generator = torch.Generator().manual_seed(0)
    for _ in range(environment.max_steps):
        legal = environment.legal(states)
        if not bool(legal[:, -1].all()):
            return False
        moves = legal[:, :-1].float()
        states, moves = states[moves.any(1)], moves[moves.any(1)]
        if not len(states):
            break
        lots = torch.rand(moves.shape, generator=generator).to(moves)
        states, _ = environment.step(states, (moves * (1 + lots)).argmax(1))
    return True
