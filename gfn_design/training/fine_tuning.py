"""Fine-tuning: another reward for the policy of an earlier run, or known objects to begin with."""

from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.optim import Adam

from gfn_design.data.known import read_known
from gfn_design.described import Described
from gfn_design.environments.base import Environment
from gfn_design.errors import InputError
from gfn_design.files.checkpoints import latest_checkpoint
from gfn_design.files.objects import SetAside
from gfn_design.files.run_folder import CONFIG
from gfn_design.objectives.base import BackwardObjective, Objective
from gfn_design.objectives.penalty import penalty
from gfn_design.policies.policy import Policy
from gfn_design.sampling.histories import sample_backward
from gfn_design.sampling.noise import KNOWN, Randomness
from gfn_design.sampling.trajectories import Trajectories
from gfn_design.training.engine import Engine, named_losses, rewarded, total_loss
from gfn_design.training.log_z import log_z_of
from gfn_design.training.rewarding import LearnedReward, calibrate
from gfn_design.training.tally import Tally

FITS, FIT_RATE = 50, 1e-3  # steps of Adam by which a critic begins, and their size
Way = Literal["all", "last", "anchored"]


class FineTuning(Described):
    """Starts from the policy of another run, to learn another reward; or from known objects.

    The environment and the network must be those of the run, if there is one. log Z and the critic,
    or the flows, start anew, fitted to one batch of the policy as it comes, which takes as many
    reward calls
    (see `fit_to`): else the policy would be pulled off by a wrong log Z, which all trajectories
    share, and by a critic that knows nothing.

    Args:
        run: The folder of the run; None begins with a policy that knows nothing, and with known
            objects. Training has no use for it after its first checkpoint.
        way: ``all`` trains all layers; ``last`` the last layer of each policy; ``anchored`` all,
            towards prior times reward, the prior being the policy as it came (see `StepLogProbs`).
        known: A file of good objects, to be learned from besides: a table with a column of SMILES
            or sequences by its usual names, else the first; SMILES (.smi: the first word of each
            line); FASTA, or one object on each line. What cannot be built is left out, and said.
            They are walked back by the backward policy, and the forward policy learns to balance
            these trajectories, of which the cost is Huber's (see `TrajectoryBalance`); log Z does
            not.
        known_size: How many of them, drawn with replacement, are learned from with each update.
        known_batches: In so many of the first batches.
    """

    def __init__(
        self,
        run: str | None = None,
        way: Way = "all",
        known: str | None = None,
        known_size: int = 32,
        known_batches: int = 100,
    ) -> None:
        if way not in get_args(Way):
            raise InputError(f"way must be one of {', '.join(get_args(Way))}, got '{way}'")
        if known_size < 1 or known_batches < 1:
            given = f"{known_size} and {known_batches}"
            raise InputError(f"known_size and known_batches must be at least 1, got {given}")
        if run is None and (known is None or way != "all"):
            raise InputError(
                "without a run to start from, give known objects, and train all layers"
            )
        self.run, self.way = None if run is None else Path(run), way
        self.known = None if known is None else Path(known)
        self.known_size, self.known_batches = known_size, known_batches
        self.begun = False
        self.objects = torch.zeros(0, 0, dtype=torch.int64)  # the known ones
        self.log_reward = torch.zeros(0)
        self.aside: list[SetAside] = []  # known objects that cannot be built

    @property
    def anchored(self) -> bool:
        """The policy as it came is a prior of the target."""
        return self.way == "anchored"

    def check(
        self, objective: Objective, backward: str, backward_objective: BackwardObjective | None
    ) -> None:
        """Refuse what does not go together."""
        name = type(objective).__name__
        if self.anchored and (objective.value_kind == "edges" or objective.scores_states):
            raise InputError(
                f"{name} has no place for a prior; take way: all, or an objective such as "
                "TrajectoryBalance"
            )
        if self.anchored and (backward == "learned" or backward_objective is not None):
            raise InputError(
                "anchored to a prior there is no backward policy to learn; set "
                "backward: UniformBackward"
            )
        if objective.brings_optimizer and (self.way == "last" or self.known is not None):
            raise InputError(
                "a trust region moves all layers, by its own batches alone; take way: all or "
                "anchored, without known objects"
            )

    def freeze(self, policy: Policy) -> None:
        """Leave only the last layers of `policy` to be trained, if that is the way."""
        if self.way == "last":
            for network in (policy.forward_policy, policy.backward_policy):
                if network is not None:
                    network.requires_grad_(False)
                    last_layer(network).requires_grad_(True)

    @torch.no_grad()
    def begin(self, engine: Engine, tally: Tally, reward: LearnedReward, noise: Tensor) -> None:
        """Take over the policy of the run, read the known objects, fit log Z and the critic; once.

        Args:
            engine: Of the module that learns.
            tally: Counts what is asked of the reward.
            reward: log R as it is learned from.
            noise: The randomness of the batch they are fitted to, ``float[batch, max_steps]`` in
                [0, 1), the same on all ranks.

        Raises:
            InputError: There is no such run, it has another environment or network, or a known
                object is none.
        """
        if self.begun:
            return
        environment, policy = engine.parts.environment, engine.parts.policy
        if self.run is not None:
            self._take_policy(self.run, environment, policy)
        if self.known is not None:
            objects, self.aside = read_known(environment, self.known)
            self.objects = objects.to(noise.device)
        drawn = rewarded(engine.sample(policy, noise), reward)
        tally.check_rewards(drawn.objects, drawn.log_reward)
        fit_to(engine, reward, drawn)
        tally.reward_calls += len(noise)
        if self.known is not None:
            self._reward_known(tally, reward, self.known)
        if engine.parts.slow is not None:
            engine.parts.slow.load_state_dict(policy.state_dict())
        self.begun = True

    def _take_policy(self, run: Path, environment: Environment, policy: Policy) -> None:
        if not (run / CONFIG).exists():
            raise InputError(f"{run}: holds no run (no {CONFIG} in it) to start from")
        content = latest_checkpoint(run)[1]
        here, there = environment.describe(), content.get("environment")
        if here != there:
            raise InputError(
                f"{run}: was trained on {there or 'something unknown'}, but the environment "
                f"is {here}; fine-tuning keeps the environment of the run"
            )
        networks = {"forward_policy": policy.forward_policy}
        if policy.backward_policy is not None:
            networks["backward_policy"] = policy.backward_policy
        for name, network in networks.items():
            prefix, state = f"policy.{name}.", content["state_dict"]
            weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            if name == "backward_policy" and not weights:
                continue  # the run had none; this one begins by chance
            try:
                network.load_state_dict(weights)
            except RuntimeError as error:
                raise InputError(
                    f"{run}: has another network than the one configured; fine-tuning keeps "
                    "the networks of the run, so leave out networks, and a shared backward "
                    "policy if the run has another"
                ) from error
        if policy.prior is not None:
            policy.prior.forward_policy.load_state_dict(policy.forward_policy.state_dict())

    def _reward_known(self, tally: Tally, reward: LearnedReward, path: Path) -> None:
        self.log_reward = reward(self.objects).float()
        try:
            tally.check_rewards(self.objects, self.log_reward)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        tally.reward_calls += len(self.objects)

    def losses(
        self, engine: Engine, tally: Tally, numbers: Randomness, update: int
    ) -> dict[str, Tensor]:
        """The loss of known objects while they are learned from.

        Args:
            engine: Of the module that learns.
            tally: Knows how many batches there were.
            numbers: The randomness of this rank.
            update: How many updates of the networks there were.
        """
        if not len(self.objects) or tally.draws > self.known_batches:
            return {}
        environment, policy, objective, *_ = engine.parts
        noise = numbers(self.known_size, KNOWN, update, environment.max_steps + 1)
        self.objects = self.objects.to(noise.device)
        self.log_reward = self.log_reward.to(noise.device)
        row = (noise[:, 0] * len(self.objects)).long()
        walked = sample_backward(environment, policy, self.objects[row], noise[:, 1:])
        log_z = log_z_of(environment, policy, objective)
        steps = engine.log_probabilities(policy, walked)
        residual = log_z + (steps.log_pf - steps.log_pb.detach()).sum(1) - self.log_reward[row]
        return {"known": penalty(residual, "huber").mean()}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint carries, so that neither run nor file is needed again."""
        return {"objects": self.objects, "log_reward": self.log_reward}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.objects, self.log_reward = state["objects"], state["log_reward"]
        self.begun = True


def fit_to(engine: Engine, reward: LearnedReward, drawn: Trajectories) -> None:
    """Begin log Z and the critic, or the flows, by trajectories, which the policy does not follow.

    log Z is the mean of log R + log P_B - log P_F over them; then the critic alone descends the
    losses of the objective.

    Args:
        engine: Of the module whose log Z and critic begin.
        reward: log R as it is learned from.
        drawn: Of its policy, with log-rewards as they are learned from before there is a scale.
    """
    policy, objective = engine.parts.policy, engine.parts.objective
    with torch.no_grad():
        steps = engine.log_probabilities(policy, drawn)
        calibrate(objective, steps, lambda x: x)  # all ranks have the same batch
        rescaled = reward.rescaled(drawn.log_reward, drawn.objects)
        drawn = drawn._replace(log_reward=rescaled)
        if objective.value_kind not in ("flow", "edges"):
            of_each = drawn.log_reward + (steps.log_pb - steps.log_pf).sum(1)
            objective.log_z.fill_(of_each.mean())
    if policy.critic is None:
        return
    parameters = list(policy.critic.parameters())
    optimizer = Adam(parameters, FIT_RATE)
    with torch.enable_grad():
        for _ in range(FITS):
            now = engine.log_probabilities(policy, drawn, all_actions=objective.needs_policy)
            loss = total_loss(named_losses(objective, objective(now, now.detach())))
            gradients = torch.autograd.grad(loss, parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
    optimizer.zero_grad()


def last_layer(network: nn.Module) -> nn.Module:
    """What a network calls its `outputs`, else its last submodule with parameters of its own."""
    named = getattr(network, "outputs", None)
    if isinstance(named, nn.Module):
        return named
    return [m for m in network.modules() if any(True for _ in m.parameters(recurse=False))][-1]
