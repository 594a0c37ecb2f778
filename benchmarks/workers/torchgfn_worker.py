"""torchgfn at work: trajectory balance as in its tutorials, on policy and without validation.

The hypergrid is torchgfn's; the strings are an environment written on its base classes. Forward and
backward policies share the trunk of one ReLU MLP that reads one-hot states. Of what torchgfn offers
the fastest is taken: trajectories sampled without gradients and evaluated again by the loss, and no
backward policy where every state has one parent (strings that only grow at the end). Adam is fused,
and PyTorch's checks of distributions are off. The learning rate is zero: Adam does all of its work
and the lengths stay put. Rewards of strings are drawn at random, as their values cost nothing.
Mean lengths count the exit, a move that ends strings in torchgfn too.
"""

from importlib.metadata import version

import torch
from gfn.containers import Trajectories
from gfn.env import DiscreteEnv
from gfn.estimators import DiscretePolicyEstimator
from gfn.gflownet import TBGFlowNet
from gfn.gym import HyperGrid
from gfn.preprocessors import KHotPreprocessor
from gfn.samplers import Sampler
from gfn.states import DiscreteStates
from gfn.utils.modules import MLP
from protocol import given_stop, serve, stop_bias
from torch import Tensor

SAMPLE = 1024  # trajectories from which a mean length is taken


class Strings(DiscreteEnv):
    """Strings of a fixed length that grow at the end, or at both ends.

    A state holds letters from the left and, in the slots still empty, the number of letters. Moves
    append a letter; with both ends open, the moves before them prepend one.
    """

    def __init__(self, letters: int, length: int, both_ends: bool):
        self.empty, self.prepending = letters, letters if both_ends else 0
        self.places = letters ** torch.arange(length)
        self.log_rewards = torch.rand(letters**length).clamp(min=1e-3).log()
        super().__init__(
            n_actions=self.prepending + letters + 1,
            s0=torch.full((length,), letters),
            state_shape=(length,),
            sf=torch.full((length,), -1),
        )

    def filled(self, strings: Tensor) -> Tensor:
        return (strings != self.empty).sum(-1, keepdim=True)

    def make_states_class(self) -> type[DiscreteStates]:
        env = self

        class StringStates(super().make_states_class()):
            def _compute_forward_masks(self) -> Tensor:
                exit_only = self.tensor[..., -1:] != env.empty
                growing = ~exit_only.expand(*self.batch_shape, env.n_actions - 1)
                return torch.cat([growing, exit_only], -1)

            def _compute_backward_masks(self) -> Tensor:
                last = self.tensor.gather(-1, env.filled(self.tensor) - 1) + env.prepending
                moves = torch.cat([last, self.tensor[..., :1]], -1) if env.prepending else last
                masks = torch.zeros(*self.batch_shape, env.n_actions - 1, dtype=torch.bool)
                return masks.scatter(-1, moves, True)

        return StringStates

    def step(self, states: DiscreteStates, actions) -> DiscreteStates:
        strings, moves = states.tensor, actions.tensor
        appended = strings.scatter(-1, self.filled(strings), moves - self.prepending)
        if self.prepending:
            prepended = torch.cat([moves, strings[:, :-1]], -1)
            appended = torch.where(moves < self.prepending, prepended, appended)
        return self.States(appended)

    def backward_step(self, states: DiscreteStates, actions) -> DiscreteStates:
        raise NotImplementedError("training on policy takes no step back")

    def log_reward(self, states: DiscreteStates) -> Tensor:
        return self.log_rewards[(states.tensor * self.places).sum(-1)]


def environment(work: dict) -> tuple[DiscreteEnv, KHotPreprocessor]:
    if work["kind"] == "hypergrid":
        rewards = {"R0": 0.01, "R1": 0.5, "R2": 2.0}
        env = HyperGrid(work["ndim"], work["height"], reward_fn_kwargs=rewards)
        return env, KHotPreprocessor(height=work["height"], ndim=work["ndim"])
    letters, length = work["alphabet_size"], work["length"]
    env = Strings(letters, length, both_ends=work["order"] == "prepend-append")
    return env, KHotPreprocessor(height=letters + 1, ndim=length)


def prepare(task: dict) -> tuple:
    work = task["work"]
    torch.manual_seed(0)
    torch.distributions.Distribution.set_default_validate_args(False)
    env, preprocessor = environment(work)
    module = MLP(preprocessor.output_dim, env.n_actions, work["width"], work["depth"])
    pf = DiscretePolicyEstimator(module, env.n_actions, preprocessor)
    if work["kind"] == "string" and work["order"] == "append":
        gflownet = TBGFlowNet(pf, pb=None, constant_pb=True)
    else:
        other = MLP(preprocessor.output_dim, env.n_actions - 1, trunk=module.trunk)
        pb = DiscretePolicyEstimator(other, env.n_actions, preprocessor, is_backward=True)
        gflownet = TBGFlowNet(pf, pb)
    sampler = Sampler(pf)
    optimizer = torch.optim.Adam(gflownet.parameters(), lr=0.0, fused=True)

    @torch.no_grad()
    def rollout() -> Trajectories:
        return sampler.sample_trajectories(env, n=work["batch_size"])

    def step() -> None:
        trajectories = rollout()
        optimizer.zero_grad()
        gflownet.loss(env, trajectories).backward()
        optimizer.step()

    @torch.no_grad()
    def mean_length(seed: int, stop: float | Tensor) -> float:
        module.last_layer.bias[-1] = stop
        torch.manual_seed(seed)
        return sampler.sample_trajectories(env, n=SAMPLE).terminating_idx.float().mean().item()

    def find() -> float:
        return stop_bias(lambda bias: mean_length(1, bias), work["target_length"])

    stop = given_stop(task, find, module.last_layer.bias[-1].detach().clone())
    with torch.no_grad():
        module.last_layer.bias[-1] = stop
    reached = None if "cold" in task else mean_length(2, stop)

    iterate = {"step": step, "rollout": rollout}[task["level"]]

    def run(iterations: int) -> None:
        for _ in range(iterations):
            iterate()

    parameters = sum(parameter.numel() for parameter in gflownet.parameters())
    facts = {
        "version": version("torchgfn"),
        "parameters": parameters,
        "mean_length": reached,
        "stop": float(stop),
    }
    return run, facts


if __name__ == "__main__":
    serve(prepare)
