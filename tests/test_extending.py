"""An environment, an objective and a reward of one's own: one file each, outside the package."""

import inspect
import textwrap

import pytest

OWN_ENVIRONMENT = '''
"""Pick k of n things: every subset of size k is an object, in whatever order it was picked."""

import torch

from gfn_design import Environment, InputError


class Subsets(Environment):
    """A state says of each thing whether it was picked; action i picks thing i."""

    def __init__(self, n: int = 6, k: int = 3) -> None:
        super().__init__()
        self.n, self.k = n, k
        self.n_actions = self.n_backward_actions = n
        self.max_steps, self.fixed_length = k, True
        self.slot_sizes, self.n_states = (2,) * n, 2**n
        self.register_buffer("bits", 2 ** torch.arange(n), persistent=False)

    def extra_repr(self):
        return f"n={self.n}, k={self.k}"

    def initial(self, n):
        return torch.zeros(n, self.n, dtype=torch.int64, device=self.bits.device)

    def legal(self, states):
        return (states == 0) & (states.sum(1, keepdim=True) < self.k)

    def legal_backward(self, states):
        return states == 1

    def step(self, states, actions):
        return states.scatter(1, actions[:, None], 1), actions

    def backward_step(self, states, backward_actions):
        return states.scatter(1, backward_actions[:, None], 0), backward_actions

    def state_index(self, states):
        return (states * self.bits).sum(1)

    def decode(self, states):
        return ["".join(map(str, row)) for row in states.tolist()]

    def encode(self, texts):
        if any(set(text) - set("01") or len(text) != self.n for text in texts):
            raise InputError(f"expected {self.n} digits 0 or 1 each, got {texts}")
        rows = [[int(digit) for digit in text] for text in texts]
        return torch.tensor(rows, device=self.bits.device).view(-1, self.n)
'''

OWN_OBJECTIVE = '''
"""VarGrad: the variance of log Z as each trajectory estimates it (Richter et al. 2020)."""

from gfn_design import Objective


class VarGrad(Objective):
    """Vanishes where log R + log P_B - log P_F is the same for all; log Z follows its mean."""

    def forward(self, now, then):
        estimate = now.log_reward + (now.log_pb - now.log_pf).sum(1)
        return {
            "variance": (estimate - estimate.mean()).square().mean(),
            "log_z": (self.log_z - estimate.mean().detach()).square(),
        }
'''

OWN_REWARD = '''
"""A score of texts: one more than twice the number of ones in the first half."""


def weight(texts):
    return [1.0 + 2.0 * text[: len(text) // 2].count("1") for text in texts]
'''

CONFIG = """
seed: 1
evaluate_every: 100
model:
  environment: {class_path: "own_environment.py:Subsets", init_args: {n: 6, k: 3}}
  objective: {class_path: "own_objective.py:VarGrad"}
  networks: {network: {class_path: MLP, init_args: {width: 64, depth: 2}}}
  optimiser: {log_z_lr: 0.05}
data: {class_path: FunctionData, init_args: {function: "own_reward.py:weight"}}
trainer: {max_steps: 300, accelerator: cpu, enable_progress_bar: false}
"""

FILES = {
    "own_environment.py": OWN_ENVIRONMENT,
    "own_objective.py": OWN_OBJECTIVE,
    "own_reward.py": OWN_REWARD,
    "own.yaml": CONFIG,
}


@pytest.fixture
def own(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("text", [OWN_ENVIRONMENT, OWN_OBJECTIVE, OWN_REWARD])
def test_one_file_stays_below_60_lines(text):
    assert len(inspect.cleandoc(textwrap.dedent(text)).splitlines()) < 60


def test_own_environment_keeps_the_contract(own, capsys):
    from gfn_design.__main__ import main

    assert main(["check", "own_environment.py:Subsets", "--n", "5", "--k", "2"]) == 0
    assert "Subsets(n=5, k=2) keeps the contract" in capsys.readouterr().out


@pytest.mark.slow
def test_own_environment_objective_and_reward_train_together(own, capsys):
    """20 objects, known exactly: the run ends near the target, through the command line."""
    from gfn_design.__main__ import main

    assert main(["fit", "--config", "own.yaml", "--output", "run"]) == 0
    assert main(["evaluate", "run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    d_tv = [float(line.split()[1]) for line in lines if line.startswith("D_TV ")]
    assert d_tv[-1] < 0.03
    assert d_tv[0] == d_tv[-1]  # what fit printed at its end
    assert (own / "run" / "candidates.csv").read_text().count("\n") == 21


def test_own_environment_is_refused_when_it_breaks_the_contract(own, capsys):
    from gfn_design.__main__ import main

    broken = OWN_ENVIRONMENT.replace("return states == 1", "return states >= 0")
    (own / "broken.py").write_text(broken)
    assert main(["check", "broken.py:Subsets"]) == 2
    assert "000000" in capsys.readouterr().err  # the source, which then has parents
