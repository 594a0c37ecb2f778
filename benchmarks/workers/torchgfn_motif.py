"""torchgfn on the motif of motif_30.py: trajectory balance as in its tutorials, the same rewards.

    python torchgfn_motif.py PROBLEM.npz LOG_Q.npy

Writes log of the probability with which the trained policy builds each object of the problem.
"""

import sys

import numpy as np
import torch
from gfn.estimators import DiscretePolicyEstimator
from gfn.gflownet import TBGFlowNet
from gfn.preprocessors import KHotPreprocessor
from gfn.samplers import Sampler
from gfn.utils.modules import MLP
from torchgfn_worker import Strings

LETTERS, WIDTH, DEPTH = 4, 256, 2
RATE, LOG_Z_RATE = 1e-3, 0.1


class Motif(Strings):
    """Strings that grow at the end; the best window on either strand, on levels."""

    def __init__(self, problem: dict):
        length = int(problem["length"])
        self.odds, self.edges, self.log_levels = (
            torch.from_numpy(problem[name]).float() for name in ("odds", "edges", "log_rewards")
        )
        self.empty, self.prepending = LETTERS, 0
        super(Strings, self).__init__(
            n_actions=LETTERS + 1,
            s0=torch.full((length,), LETTERS),
            state_shape=(length,),
            sf=torch.full((length,), -1),
        )

    def log_reward(self, states):
        windows = states.tensor.unfold(-1, len(self.odds), 1)
        place = torch.arange(len(self.odds))
        both = [self.odds[place, words].sum(-1) for words in (windows, 3 - windows.flip(-1))]
        best = torch.maximum(*both).amax(-1)
        return self.log_levels[torch.bucketize(best, self.edges, right=True)]


def main(problem_path: str, output: str) -> None:
    torch.set_num_threads(1)
    problem = dict(np.load(problem_path))
    torch.manual_seed(int(problem["seed"]))
    torch.distributions.Distribution.set_default_validate_args(False)
    length = int(problem["length"])
    env, preprocessor = Motif(problem), KHotPreprocessor(height=LETTERS + 1, ndim=length)
    module = MLP(preprocessor.output_dim, env.n_actions, WIDTH, DEPTH)
    pf = DiscretePolicyEstimator(module, env.n_actions, preprocessor)
    gflownet, sampler = TBGFlowNet(pf, pb=None, constant_pb=True), Sampler(pf)
    groups = [
        {"params": gflownet.pf_pb_parameters(), "lr": RATE},
        {"params": gflownet.logz_parameters(), "lr": LOG_Z_RATE},
    ]
    optimizer = torch.optim.Adam(groups, fused=True)
    for _ in range(int(problem["steps"])):
        with torch.no_grad():
            trajectories = sampler.sample_trajectories(env, n=int(problem["batch"]))
        optimizer.zero_grad()
        gflownet.loss(env, trajectories).backward()
        optimizer.step()
    objects = torch.from_numpy(problem["objects"]).long()
    total = torch.zeros(len(objects), dtype=torch.float64)
    with torch.no_grad():
        for place in range(length):
            seen = objects.where(torch.arange(length) < place, LETTERS)
            logits = module(preprocessor(env.states_from_tensor(seen)))[:, :LETTERS]
            total += logits.double().log_softmax(-1).gather(1, objects[:, place, None])[:, 0]
    np.save(output, total.numpy())


if __name__ == "__main__":
    main(*sys.argv[1:])
