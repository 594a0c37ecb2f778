"""What a network gives while a batch is drawn is not found again when its losses are."""

from typing import cast

import torch
from torch import Tensor

from gfn_design.policies.mlp import MLP
from gfn_design.policies.policy import Policy, masked_log_softmax
from gfn_design.sampling.distinct import Opening


class Recorder:
    """A policy's place in `sample`: the policy, and a record of what its layers give.

    Autograd through the steps of a roll-out would take a small product for each, where one of all
    states gives the same gradient sooner.

    Args:
        policy: Its forward policy is an `MLP` with one head.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy, self.network = policy, cast(MLP, policy.forward_policy)
        self.answers: list[list[Tensor]] = []

    def forward_log_probs(self, states: Tensor, legal: Tensor) -> Tensor:
        """See `Policy`."""
        self.answers.append(self.network.layer_outputs(states))
        logits = self.answers[-1][-1][:, : self.policy.n_actions]
        return masked_log_softmax(logits.float(), legal)

    def head_log_probs(self, states: Tensor, legal: Tensor) -> Tensor:
        """See `Policy`; not recorded."""
        return self.policy.head_log_probs(states, legal)

    def record(self, objects: Tensor, opening: Opening | None) -> list[Tensor]:
        """What each layer gave of the states that `visited` finds in what was drawn.

        Args:
            objects: That were drawn, ``int64[batch, *state_shape]``.
            opening: The one `sample` was given.

        Returns:
            ``float[n, width]`` of each layer, in the order of ``Visited.left``.
        """
        with torch.no_grad():
            answers = self.answers
            if self.policy.shared:
                answers = [*answers, self.network.layer_outputs(objects)]
            early = 0 if opening is None else 1
            found = []
            for layer in range(len(answers[0])):
                first, late = answers[:early], answers[early:]
                steps = [torch.stack([x[layer] for x in late], 1).flatten(0, 1)] if late else []
                found.append(torch.cat([*(x[layer] for x in first), *steps]))
            return found
