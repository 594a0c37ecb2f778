"""The engine that is used gives the numbers of the plain one, for every method and environment."""

from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Trainer

from gfn_design import Atoms, Fragments, FunctionData, Hypergrid, InputError, Sequence
from gfn_design.config import build_section
from gfn_design.config.root import ROOT
from gfn_design.environments.dag import DAG
from gfn_design.fast.engine import FastEngine
from gfn_design.fast.step import set_gradients
from gfn_design.policies.policy import Policy
from gfn_design.training.engine import Engine
from gfn_design.training.extras import EngineWithExtras

METHODS = sorted((Path(__file__).parents[1] / "configs" / "methods").glob("*.yaml"))
ENVIRONMENTS = {
    "hypergrid": {"class_path": "Hypergrid", "init_args": {"ndim": 2, "height": 8}},
    "append": {
        "class_path": "Sequence",
        "init_args": {"alphabet": "ABC", "length": 9, "order": "append"},
    },
    "prepend-append": {
        "class_path": "Sequence",
        "init_args": {"alphabet": "ACGT", "length": 5, "order": "prepend-append"},
    },
    "any": {
        "class_path": "Sequence",
        "init_args": {"alphabet": "AB", "length": 5, "order": "any"},
    },
    "dag": {"class_path": "DAG", "init_args": {"nodes": 3}},
    "fragments": {"class_path": "Fragments", "init_args": {"max_blocks": 3}},
    "atoms": {"class_path": "Atoms", "init_args": {"elements": "CNO", "max_atoms": 4}},
}
KINDS = {Hypergrid, Sequence, DAG, Fragments, Atoms}
MLP = {"class_path": "MLP", "init_args": {"width": 8, "depth": 2}}
UPDATES = 100
QUIET = dict.fromkeys(
    ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
)
LENGTHS_DIFFER = ("hypergrid", "dag", "fragments", "atoms")
REFUSED = {  # local search needs equal lengths, a guide strings, and a balance states as objects
    "tb_local_search": LENGTHS_DIFFER,
    "rl_g": LENGTHS_DIFFER,
    "tb_g": LENGTHS_DIFFER,
    "mdb_u": ("append", "prepend-append", "any", "fragments", "atoms"),
}
PAIRS = [
    pytest.param(method, environment, id=f"{method.stem}-{environment}")
    for method in METHODS
    for environment in ENVIRONMENTS
    if environment not in REFUSED.get(method.stem, ())
]


def score(texts):
    return [0.1 + len(text) % 5 + text.count("A") + 2 * text.count("1") for text in texts]


def module(method, environment, fast):
    """A module of a shipped method on one of the environments, from the seed."""
    torch.manual_seed(0)
    section = yaml.safe_load(method.read_text())["model"]
    section |= {"environment": ENVIRONMENTS[environment], "draw_seed": 0, "speed": {"fast": fast}}
    section["networks"] = {"network": MLP, "critic": MLP}
    section.setdefault("batches", {})["size"] = 8
    objective = section["objective"]
    if (
        objective["class_path"] == "TrustRegion"
    ):  # each step more makes a thousand times of rounding
        objective.setdefault("init_args", {})["conjugate_steps"] = 2
    return build_section(section, ROOT["model"], "model").use(FunctionData(score))


def learn(model, updates):
    """All batches, all losses, and the first gradients."""
    optimizer = model.configure_optimizers()
    drawn, losses, gradients = [], [], None
    for _ in range(updates):
        step = model.next_step()
        drawn.append(step.batch.drawn)
        losses.append({name: loss.item() for name, loss in step.losses.items()})
        set_gradients(optimizer, step.losses, step.gradients)
        if gradients is None:
            gradients = {
                name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None
            }
        optimizer.step()
    return drawn, losses, gradients


@pytest.fixture
def _in_float64(monkeypatch):
    """Rounding is far below what any step makes of it: a trust region makes much of it."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    monkeypatch.setattr(Policy.forward_log_probs, "__defaults__", (torch.float64,))
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("method", REFUSED)
def test_what_no_pair_can_do_is_refused(method):
    """So that the pairs below are all there are."""
    path = next(path for path in METHODS if path.stem == method)
    for environment in REFUSED[method]:
        with pytest.raises(InputError, match=r"need|asks"):
            module(path, environment, True)


@pytest.mark.usefixtures("_in_float64")
@pytest.mark.parametrize(("method", "environment"), PAIRS)
def test_the_engine_gives_the_numbers_of_the_plain_one(method, environment):
    """Equal draws, losses and gradients up to rounding, and weights after 100 updates."""
    plain, fast = (module(method, environment, fast) for fast in (False, True))
    assert type(plain.environment) in KINDS
    assert type(fast.engine) is FastEngine
    assert type(plain.engine) in (Engine, EngineWithExtras)
    ours, theirs = learn(plain, UPDATES), learn(fast, UPDATES)
    for left, right in zip(ours[0], theirs[0], strict=True):
        for name, a, b in zip(left._fields[:-1], left, right, strict=False):
            assert torch.equal(a, b), name
        torch.testing.assert_close(left.log_reward, right.log_reward, rtol=1e-6, atol=1e-6)
    for left, right in zip(ours[1], theirs[1], strict=True):
        assert left == pytest.approx(right, rel=1e-6, abs=1e-6)
    torch.testing.assert_close(ours[2], theirs[2], rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(plain.state_dict(), fast.state_dict(), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("_in_float64")
@pytest.mark.parametrize("environment", ["hypergrid", "prepend-append", "fragments"])
@pytest.mark.parametrize("method", ["tb_u", "rl_u", "rl_b", "tb_replay", "ppo", "tb_ts", "q_much"])
def test_the_trainer_takes_the_same_updates_one_by_one_and_several_at_once(method, environment):
    """Lightning's steps carry one batch each on the plain path, and many on the fast one."""
    path = next(path for path in METHODS if path.stem == method)
    weights = []
    for fast in (False, True):
        model, data = module(path, environment, fast), FunctionData(score)
        trainer = Trainer(max_steps=40, limit_val_batches=0, accelerator="cpu", **QUIET)
        trainer.fit(model, datamodule=data)
        assert trainer.global_step == model.tally.draws * model.learner.updates == 40
        weights.append(model.state_dict())
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-5)
