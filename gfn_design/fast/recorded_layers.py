"""What a network answered while a batch was drawn is not found again when its losses are."""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor

from gfn_design.fast.by_hand import logits_by_hand
from gfn_design.fast.early_states import EarlyStates
from gfn_design.policies.mlp import MLP, Layer
from gfn_design.policies.policy import Policy
from gfn_design.policies.products import FEW_COMPILED, SlotEmbedding, answered
from gfn_design.tensors import masked_log_softmax


class RecordedAnswers:
    """A policy's place in a roll-out: the policy, and a record of what its layers give.

    Autograd through the steps of a roll-out would take a small product for each, where one of all
    states gives the same gradient sooner.

    Args:
        policy: Its forward policy is an `MLP`, and no ensemble.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy, self.network = policy, cast(MLP, policy.forward_policy)
        self.answers: list[list[Tensor]] = []

    def forward_log_probs(self, states: Tensor, legal: Tensor) -> Tensor:
        """What the policy says."""
        self.answers.append(self.network.layer_outputs(states))
        logits = self.answers[-1][-1][:, : self.policy.n_actions]
        return masked_log_softmax(logits.float(), legal)

    def of_distinct_states(self, objects: Tensor, early: EarlyStates | None) -> list[Tensor]:
        """What each layer gave of the states that `distinct_states` finds in what was drawn.

        Args:
            objects: That were drawn, ``int64[batch, *state_shape]``.
            early: What the roll-out knew.

        Returns:
            ``float[n, width]`` of each layer, in the order of ``DistinctStates.left``.
        """
        with torch.no_grad():
            answers = self.answers
            if self.policy.shared:
                answers = [*answers, self.network.layer_outputs(objects)]
            n_early = 0 if early is None else 1
            found = []
            for layer in range(len(answers[0])):
                first, late = answers[:n_early], answers[n_early:]
                steps = [torch.stack([x[layer] for x in late], 1).flatten(0, 1)] if late else []
                found.append(torch.cat([*(x[layer] for x in first), *steps]))
            return found


def recorded_log_probs(
    policy: Policy,
    states: Tensor,
    recorded: Sequence[Tensor],
    legal: Tensor,
    legal_backward: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """log P_F of every action, and log P_B if the policy is shared, with their gradients.

    Args:
        policy: Its forward policy is an `MLP`, and no ensemble.
        states: ``int64[n, *state_shape]``.
        recorded: What each layer gives of them, ``float[n, width]``.
        legal: ``bool[n, n_actions]``.
        legal_backward: ``bool[n, n_backward_actions]``.
    """
    logits = layers_again(cast(MLP, policy.forward_policy), states, recorded).float()
    forward, backward = logits.tensor_split([policy.n_actions], -1)
    log_pf = masked_log_softmax(forward, legal)
    if legal_backward is None:
        return log_pf, backward
    return log_pf, masked_log_softmax(backward, legal_backward)


def layers_again(network: MLP, states: Tensor, recorded: Sequence[Tensor]) -> Tensor:
    """What the last layer gives: products are made for the gradient alone.

    A first layer of many columns is found again all the same.
    """
    if not torch.compiler.is_compiling():
        return logits_by_hand(network, states, recorded)
    first, *others = recorded
    x = _embedded(network.embedding, states, first)
    for layer, answer in zip(cast(Iterable[Layer], network.layers), others, strict=True):
        x = answered(x.relu(), layer.weight, layer.bias, answer)
    return x


def _embedded(embedding: SlotEmbedding, states: Tensor, answer: Tensor) -> Tensor:
    if embedding.columns > FEW_COMPILED:
        found: Tensor = embedding(states)
        return found
    return answered(embedding.one_hot(states), embedding.weight[:-1], embedding.bias, answer)
