"""Who decides: the forward policy, the backward policy and the networks that value states."""

from collections.abc import Callable
from copy import copy

import torch
from torch import Tensor, nn

from gfn_design.environments.base import Environment
from gfn_design.errors import InputError
from gfn_design.tensors import masked_log_softmax

BACKWARD = ("uniform", "max_entropy", "learned", "shared")
Network = Callable[[Environment, int], nn.Module]


class Policy(nn.Module):
    """Forward policy, backward policy, and the value networks that the objectives need.

    A network that nobody trains is not built: its parameters would stop DDP. Where there is but
    one backward action, its probability is one, and no network is built for it.

    Args:
        environment: Whose states are read.
        network: Builds a network from the environment and its number of outputs.
        backward: ``learned`` builds a backward network; ``shared`` adds its outputs to those of
            the forward network; ``uniform`` chooses evenly among parents; ``max_entropy`` in
            proportion to how many ways lead to each.
        critic: Builds the critic, or the network of log F, if the objective has one.
        backward_critic: Builds the critic of the backward policy, if that has one.
        members: Of an ensemble of forward policies, on one network. The forward policy itself,
            which is evaluated and designs, has the mean of their logits: the normalised geometric
            mean of their probabilities.
        random_prior: To each member's logits those of a fixed random network are added, times this.
        anchored: Keep a second forward policy that is not trained, the `prior`.

    Attributes:
        shared: One evaluation gives both policies.
        prior: If there is one, its forward policy takes the place of the backward policy in what
            objectives see; see `StepLogProbs`.
    """

    def __init__(
        self,
        environment: Environment,
        network: Network,
        backward: str = "uniform",
        critic: Network | None = None,
        backward_critic: Network | None = None,
        members: int = 1,
        random_prior: float = 0.0,
        anchored: bool = False,
    ) -> None:
        super().__init__()
        if backward not in BACKWARD:
            raise InputError(f"backward must be one of {', '.join(BACKWARD)}, got '{backward}'")
        self.n_actions, choices = environment.n_actions, environment.n_backward_actions
        self.shared = backward == "shared" and choices > 1
        self.environment = environment if backward == "max_entropy" else None
        if self.environment is not None:
            self.environment.log_ways(environment.initial(1))  # says so if there is no formula
        self.members, self.random_prior = members, random_prior
        logits = members * self.n_actions
        self.forward_policy = network(environment, logits + choices * self.shared)
        fixed = network(environment, logits).requires_grad_(False) if random_prior else None
        self.random_policy = fixed
        learned = backward == "learned" and choices > 1
        self.backward_policy = network(environment, choices) if learned else None
        self.critic = critic(environment, 1) if critic else None
        self.backward_critic = backward_critic(environment, 1) if backward_critic else None
        self.prior: Policy | None = None
        if anchored:
            other = Policy(environment, network, "shared" if self.shared else "uniform")
            self.prior = other.requires_grad_(False)

    def without_prior(self) -> "Policy":
        """The same networks, whose own backward policy is what objectives see."""
        other = copy(self)
        other._modules = {**self._modules, "prior": None}
        return other

    def log_probs(
        self, states: Tensor, legal: Tensor, legal_backward: Tensor
    ) -> tuple[Tensor, Tensor]:
        """log P_F and log P_B of every action in one evaluation, where they are `shared`."""
        logits = self.forward_policy(states).float()
        forward, backward = logits.tensor_split([self.n_actions], -1)
        return masked_log_softmax(forward, legal), masked_log_softmax(backward, legal_backward)

    def forward_log_probs(
        self, states: Tensor, legal: Tensor, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """log P_F of every action: ``dtype[batch, n_actions]``, -inf where not `legal`."""
        return masked_log_softmax(self.forward_logits(states).to(dtype), legal)

    def forward_logits(self, states: Tensor) -> Tensor:
        """What `forward_log_probs` normalises: ``[batch, n_actions]``."""
        if self.members > 1:
            return self.member_logits(states).mean(1)
        logits: Tensor = self.forward_policy(states)
        return logits[:, : self.n_actions]

    def member_logits(self, states: Tensor) -> Tensor:
        """The logits of each member, its prior's among them: ``[batch, members, n_actions]``."""
        logits: Tensor = self.forward_policy(states)
        if self.random_policy is not None:
            logits = logits + self.random_prior * self.random_policy(states)
        return logits.unflatten(1, (self.members, self.n_actions))

    def member_log_probs(self, states: Tensor, legal: Tensor) -> Tensor:
        """log P_F of every action by each member: ``float[batch, members, n_actions]``."""
        return masked_log_softmax(self.member_logits(states).float(), legal[:, None])

    def backward_log_probs(self, states: Tensor, legal: Tensor) -> Tensor:
        """log P_B of every backward action: ``float[batch, n_backward_actions]``."""
        if self.shared:
            return masked_log_softmax(
                self.forward_policy(states)[:, self.n_actions :].float(), legal
            )
        if self.environment is not None:
            undo = torch.arange(legal.shape[1], device=legal.device)[:, None].expand(-1, len(legal))
            before = [self.environment.backward_step(states, action)[0] for action in undo]
            ways = torch.stack([self.environment.log_ways(state) for state in before], 1)
            return masked_log_softmax(ways.float(), legal)
        if self.backward_policy is None:
            parents = legal.sum(-1, keepdim=True).float()
            return torch.where(legal, -parents.log(), -torch.inf)
        return masked_log_softmax(self.backward_policy(states).float(), legal)

    def value(self, states: Tensor) -> Tensor | None:
        """What the objective says a state has, in nats: ``float[batch]``.

        A critic's expected cost from the state to the end, or log F of the state.
        """
        return None if self.critic is None else self.critic(states).squeeze(-1)

    def backward_value(self, states: Tensor) -> Tensor | None:
        """The expected cost from each state back to the source, in nats: ``float[batch]``."""
        return None if self.backward_critic is None else self.backward_critic(states).squeeze(-1)
