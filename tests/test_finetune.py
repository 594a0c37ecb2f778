"""Fine-tuning: what is carried over, what begins anew, and what an anchored policy goes to."""

import csv
import re
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from common import model_of
from torch import nn

from gfn_design import (
    MLP,
    ActorCritic,
    DetailedBalance,
    FineTuning,
    FlowMatching,
    FunctionData,
    GFlowNet,
    Hypergrid,
    HypergridData,
    InputError,
    LogVariance,
    MotifData,
    Sequence,
    SubTrajectoryBalance,
    TrajectoryBalance,
    TrustRegion,
    terminating_distribution,
)
from gfn_design.__main__ import main
from gfn_design.files.checkpoints import load_checkpoint
from gfn_design.files.objects import read_texts
from gfn_design.metrics.distributions import total_variation
from gfn_design.objectives.actor_critic import step_costs
from gfn_design.runs.run import open_run
from gfn_design.sampling.log_probabilities import log_probabilities

SOURCE = """
evaluate_every: 20
candidates: 10
model:
  environment: {class_path: Sequence, init_args: {alphabet: DNA, length: 3}}
  objective: {class_path: ActorCritic}
  networks:
    network: {class_path: MLP, init_args: {width: 16, depth: 2}}
    critic: {class_path: MLP, init_args: {width: 16, depth: 1}}
  batches: {size: 16}
data: {class_path: MotifData, init_args: {factor: FOXA1}}
trainer: {max_steps: 20, log_every_n_steps: 5, enable_progress_bar: false, accelerator: cpu}
"""
NEW = ["--data.factor", "GATA4"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a finished run, `source`, which every test gets a copy of."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "source.yaml").write_text(SOURCE)
    arguments = ["--config", str(folder / "source.yaml"), "--output", str(folder / "source")]
    assert main(["fit", *arguments]) == 0
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    shutil.copytree(made / "source", tmp_path / "source")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"]


def small(start: FineTuning | None, **options) -> GFlowNet:
    """The module of `source`."""
    usual = {
        "objective": ActorCritic(),
        "batch_size": 16,
        "critic": partial(MLP, width=16, depth=1),
    }
    torch.manual_seed(3)
    return model_of(
        Sequence("DNA", 3),
        network=partial(MLP, width=16, depth=2),
        start=start,
        **(usual | options),
    )


def test_the_policy_is_carried_over_and_the_critic_begins_anew(here):
    fresh = small(None)
    module = small(FineTuning("source"), batch_size=4096).use(MotifData("GATA4"))
    module.begin()
    old = weights(here / "source")
    for name, value in module.policy.state_dict().items():
        if name.startswith("forward_policy."):
            assert torch.equal(value, old[f"policy.{name}"]), name
        else:
            assert name.startswith("critic.")
            move = (value - fresh.policy.state_dict()[name]).abs().max()
            assert 0 < move < 0.08 < (value - old[f"policy.{name}"]).abs().max(), (
                name
            )  # 50 steps of 1e-3
    # Log Z begins at the mean of log R + log P_B - log P_F, here against that over all ways.
    exact, variance = expected_log_z(module)
    assert module.log_z == pytest.approx(exact, abs=4 * (variance / 4096) ** 0.5)
    assert module.tally.reward_calls == 4096
    assert module.log_z != pytest.approx(float(old["objective.log_z"]), abs=0.1)


def expected_log_z(module: GFlowNet) -> tuple[float, float]:
    """Mean and variance of log R + log P_B - log P_F over all 256 trajectories."""
    environment, policy = module.environment, module.policy
    state, log_pf, steps = environment.initial(1), torch.zeros(1), 0
    while environment.legal(state).any():
        log_probs = policy.forward_log_probs(state, environment.legal(state)).detach()
        row, action = environment.legal(state).nonzero(as_tuple=True)
        log_pf = log_pf[row] + log_probs[row, action]
        state, steps = environment.step(state[row], action)[0], steps + 1
    log_pb = -steps * torch.tensor(2.0).log()
    estimate, p = module.log_reward(state) + log_pb - log_pf, log_pf.exp()
    assert p.sum() == pytest.approx(1)
    mean = float(p @ estimate)
    return mean, float(p @ (estimate - mean).square())


@pytest.mark.parametrize(
    ("objective", "name", "share"),
    [(ActorCritic, "critic", 0.6), (DetailedBalance, "balance", 0.8)],
)
def test_critic_and_flows_are_fitted_before_the_policy_moves(here, objective, name, share):
    """Their loss on another batch is a share of what it is at chance."""
    made = partial(small, objective=objective(), batch_size=64, critic=partial(MLP, width=128))
    module = made(FineTuning("source")).use(MotifData("GATA4", minimum=1e-2))
    module.begin()

    def loss():
        with torch.no_grad():
            steps = log_probabilities(module.environment, module.policy, module(64, 0, 0))
            return module.objective(steps, steps)[name].item()

    fitted = loss()
    module.policy.critic.load_state_dict(made(None).policy.critic.state_dict())
    assert fitted < share * loss()


def test_last_layers_alone_move(here):
    assert main(["finetune", "source", *NEW, "--way", "last", "--output", "new"]) == 0
    old, new = weights(here / "source"), weights(here / "new")
    moved = {name for name, value in new.items() if not torch.equal(value, old[name])}
    assert {name for name in moved if "forward_policy" in name} == {
        "policy.forward_policy.layers.1.weight",
        "policy.forward_policy.layers.1.bias",
    }
    assert any("critic" in name for name in moved)
    module = small(FineTuning("source", way="last"))
    trained = [p for group in module.configure_optimizers().param_groups for p in group["params"]]
    assert {id(p) for p in trained} == {id(p) for p in module.parameters() if p.requires_grad}
    assert len(trained) == 2 + len(list(module.policy.critic.parameters())) + 1


class Table(nn.Module):
    """A number of its own for every state and output."""

    def __init__(self, environment, outputs):
        super().__init__()
        self.index, self.rows = environment.state_index, nn.Embedding(environment.n_states, outputs)

    def forward(self, states):
        return self.rows(self.index(states))


CASES = {
    "strings": (partial(Sequence, "DNA", 3), partial(MotifData, "GATA4", minimum=1e-3)),
    "grid": (partial(Hypergrid, 2, 5), HypergridData),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "objective",
    [TrajectoryBalance, LogVariance, DetailedBalance, SubTrajectoryBalance, ActorCritic],
)
def test_losses_vanish_at_prior_times_reward(case, objective):
    """And the policy that they vanish at builds objects with the probability of the target."""
    make, data = CASES[case]
    environment = make()
    start = FineTuning("nowhere", way="anchored")
    module = model_of(environment, objective(), Table, Table, start=start).use(data())
    policy, prior = module.policy, module.policy.prior
    with torch.no_grad():  # P_F(s' | s) = prior(s' | s) h(s') / h(s), h being what is to come
        log_h = ahead(environment, prior, module.log_reward)
        for index, (_, after) in log_h.items():
            policy.forward_policy.rows.weight[index] = after
            if objective.value_kind == "flow":
                policy.critic.rows.weight[index] = after.logsumexp(0)
        log_z = next(iter(log_h.values()))[1].logsumexp(0).item()
        if objective.value_kind != "flow":
            module.objective.log_z.fill_(log_z)
    law = terminating_distribution(environment, policy)[1]
    assert total_variation(law, module.target.probability) < 1e-6
    assert module.target.log_z == pytest.approx(log_z, abs=1e-4)
    drawn = module(64, 0, 0)
    steps = log_probabilities(environment, policy, drawn)
    if objective is ActorCritic:
        assert step_costs(steps, module.objective.log_z).sum(1).abs().max() < 1e-4
    else:
        losses = module.objective(steps, steps.detach())
        assert all(loss.item() < 1e-8 for loss in losses.values())
        plain = log_probabilities(environment, policy.without_prior(), drawn)
        assert module.objective(plain, plain.detach())["balance"].item() > 1e-3


def ahead(environment, prior, log_reward):
    """By number of the state: log prior(a | s) + log h(s') of every action, -inf where illegal."""
    found, after = {}, {}
    layer = [environment.initial(1)]
    for _ in range(environment.max_steps + 1):
        states = torch.cat(layer) if layer else environment.initial(0)
        layer = []
        for state in states.unique(dim=0)[:, None]:
            legal = environment.legal(state)[0, : environment.n_moves].nonzero()[:, 0]
            children = environment.step(state.expand(len(legal), *state.shape[1:]), legal)[0]
            found[int(environment.state_index(state))] = state, legal, children
            layer.append(children)
    for index, (state, legal, children) in reversed(found.items()):
        log_prior = prior.forward_log_probs(state, environment.legal(state))[0]
        value = torch.full_like(log_prior, -torch.inf)
        for action, child in zip(legal, children, strict=True):
            number = int(environment.state_index(child[None]))
            if number in after:
                to_come = after[number][1].logsumexp(0)
            else:  # finished
                to_come = log_reward(child[None])[0]
            value[action] = log_prior[action] + to_come
        if not environment.fixed_length:
            value[-1] = log_prior[-1] + log_reward(state)[0]
        if environment.fixed_length and not len(legal):
            continue
        after[index] = state, value
    return dict(reversed(after.items()))


@pytest.mark.parametrize("objective", ["TrajectoryBalance", "ActorCritic"])
def test_anchored_training_reaches_prior_times_reward(here, objective):
    options = [
        "--model.objective",
        objective,
        "--trainer.max_steps",
        "400",
        "--model.optimiser.lr",
        "0.01",
    ]
    options += ["--model.batches.size", "64", "--data.minimum", "0.03"]
    assert main(["finetune", "source", *NEW, *options, "--way", "anchored", "--output", "n"]) == 0
    prior = open_run(here / "source").module
    run = open_run(here / "n")
    target, law = run.module.target, terminating_distribution(prior.environment, prior.policy)[1]
    wanted = law * run.module.data.reward(target.objects).exp()
    reached = terminating_distribution(run.module.environment, run.module.policy)[1]
    assert total_variation(reached, wanted / wanted.sum()) < 0.02
    assert total_variation(reached, target.log_reward.softmax(0)) > 0.04  # another target
    metrics = yaml.safe_load((here / "n" / "evaluation.yaml").read_text())
    assert metrics["D_TV"] < 0.02
    assert metrics["log_z_error"] < 0.02
    for name, value in weights(here / "n").items():  # the prior is as it was
        if name.startswith("policy.prior."):
            old = weights(here / "source")[name.replace("prior.", "")]
            assert torch.equal(value, old), name


def test_a_resumed_run_needs_neither_its_start_nor_its_known_objects(here, monkeypatch):
    Path("known.txt").write_text("AAC\nGAT\n")
    options = [*NEW, "--known", "known.txt", "--model.objective", "TrajectoryBalance"]
    for way in ("all", "anchored"):
        command = ["finetune", "source", *options, "--way", way]
        assert main([*command, "--output", f"whole-{way}", "--trainer.max_steps", "30"]) == 0
        assert main([*command, "--output", f"cut-{way}", "--trainer.max_steps", "15"]) == 0
    Path("known.txt").unlink()
    Path("source").rename("elsewhere")
    for way in ("all", "anchored"):
        monkeypatch.chdir(here / f"cut-{way}")
        again = ["fit", "--config", "config.yaml", "--output", "."]
        assert main([*again, "--trainer.max_steps", "30"]) == 0
        first, second = weights(here / f"whole-{way}"), weights(here / f"cut-{way}")
        assert all(torch.equal(value, second[name]) for name, value in first.items())
        for command in (["evaluate", "."], ["sample", ".", "-n", "5"]):
            assert main(command) == 0
        logs = [(here / f"{name}-{way}" / "log.csv").read_text() for name in ("whole", "cut")]
        assert logs[0] == logs[1]
    rows = list(csv.DictReader((here / "whole-all" / "log.csv").read_text().splitlines()))
    assert float(rows[0]["reward_calls"]) == 18  # for log Z, and the known
    assert float(rows[-1]["trajectories"]) == 480


def favourite(texts):
    """Two strings of 1,024 are a thousand times as good."""
    return [1000.0 if text in ("ACGTT", "TTTCA") else 1.0 for text in texts]


@pytest.mark.parametrize("objective", [ActorCritic, TrajectoryBalance])
def test_known_objects_are_learned_from(tmp_path, objective):
    from lightning.pytorch import Trainer

    (tmp_path / "known.smi").write_text("ACGTT the first\nTTTCA the second\n")
    reached = {}
    for known in (None, str(tmp_path / "known.smi")):
        torch.manual_seed(0)
        start = None if known is None else FineTuning(known=known, known_batches=60)
        module = model_of(
            Sequence("DNA", 5),
            objective(),
            partial(MLP, width=32, depth=2),
            start=start,
            batch_size=8,
            lr=0.01,
        )
        quiet = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar"], False)
        trainer = Trainer(max_steps=60, limit_val_batches=0, enable_model_summary=False, **quiet)
        trainer.fit(module, datamodule=FunctionData(favourite))
        module.tally.draws = 61  # after the last batch with them
        if (tune := module.fine_tune) is not None:
            assert tune.losses(module.engine, module.tally, module.noise, 0) == {}
        law = terminating_distribution(module.environment, module.policy)[1]
        best = module.environment.encode(["ACGTT", "TTTCA"])
        place = torch.searchsorted(module.target.indices, module.environment.state_index(best))
        reached[known is not None] = law[place]
    assert reached[True].min() > 0.1
    assert reached[False].max() < 0.05


def test_without_a_run_known_objects_are_needed(tmp_path):
    for options in ({}, {"known": str(tmp_path / "known.smi"), "way": "last"}):
        with pytest.raises(InputError, match="without a run to start from, give known objects"):
            FineTuning(**options)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "id,Sequence,score\n1,AAC,3\n2,ACG,\n3,,\n"),
        ("a.csv", "\ufeffAAC\nACG\n"),
        ("a.tsv", "score\tSMILES\n1\tAAC\n2\tACG\n"),
        ("a.smi", "AAC one\n\nACG\ttwo words\n"),
        ("a.fasta", ">one\nAAC\n>two\nACG\n"),
        ("a.txt", "# two\nAAC\n\n  ACG \n"),
    ],
)
def test_files_of_known_objects(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    rows = read_texts(tmp_path / name)
    assert [row.text for row in rows] == ["AAC", "ACG"]
    lines = text.splitlines()
    for row in rows:
        assert row.text in lines[int(row.where.split()[1]) - 1]


FILES = {
    "empty.txt": "\n",
    "blank.csv": "sequence\n",
    "long.txt": "AACC\n",
    "half.csv": "sequence,y\nAA_,2\n",
    "letter.smi": "AXC name\n",
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", *NEW], r"nowhere: holds no run"),
        (["source"], r"needs a new reward"),
        (["source", "--data", "NoData"], r"unknown class 'NoData'"),
        (["source", "--data.factor", "NOPE"], r"no factor 'NOPE'"),
        (["source", *NEW, "--way", "some"], r"invalid choice: 'some'"),
        (["source", *NEW, "--model.environment.length", "4"], r"keeps the environment of the run"),
        (["source", *NEW, "--model.networks.network.width", "8"], r"keeps the networks of the run"),
        (["source", *NEW, "--model.fine_tune.known_size", "0"], r"must be at least 1, got 0"),
        (["source", *NEW, "--known", "nothing.txt"], r"nothing\.txt: cannot be read \(No such"),
        (["source", *NEW, "--known", "empty.txt"], r"empty\.txt: holds no objects"),
        (["source", *NEW, "--known", "blank.csv"], r"blank\.csv: holds no objects"),
        (
            ["source", *NEW, "--known", "long.txt"],
            r"long\.txt: none of .*'AACC' has 4 symbols",
        ),
        (
            ["source", *NEW, "--known", "half.csv"],
            r"half\.csv: none .*'AA_' is not finished",
        ),
        (
            ["source", *NEW, "--known", "letter.smi"],
            r"letter\.smi: none of .*'AXC' holds 'X'",
        ),
        (["empty", *NEW], r"last\.ckpt: there is no checkpoint"),
        (["source", *NEW, "--output", "source"], r"another '(model|data)' section"),
        (["source", *NEW, "--frob", "1"], r"unknown key 'frob'"),
    ],
)
def test_mistakes_are_answered_with_one_sentence_and_leave_nothing(
    here, capsys, arguments, message
):
    for name, text in FILES.items():
        (here / name).write_text(text)
    (here / "empty").mkdir()
    shutil.copy(here / "source" / "config.yaml", here / "empty")
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    assert main(["finetune", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert re.search(message, error), error
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": FlowMatching(), "way": "anchored"}, "no place for a prior"),
        ({"objective": TrustRegion(), "way": "last"}, "moves all layers"),
        (
            {"objective": TrajectoryBalance(), "backward": "learned", "way": "anchored"},
            "no backward policy to learn",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(options, message):
    way = options.pop("way")
    with pytest.raises(InputError, match=message):
        small(FineTuning("nowhere", way=way), **options)


def test_the_new_run_is_called_after_its_task(here):
    fast = ["--trainer.max_steps", "5"]
    assert main(["finetune", "source", *NEW, *fast, "--way", "last"]) == 0
    Path("task.py").write_text("def gc(texts): return [1.0 + t.count('G') for t in texts]\n")
    own = ["--data", "FunctionData", "--data.function", "task.py:gc"]
    assert main(["finetune", "source", *own, *fast]) == 0
    assert main(["finetune", "runs/source-finetuned-task", "--data", "MotifData", *NEW, *fast]) == 0
    assert {path.name for path in Path("runs").iterdir()} == {
        "source-finetuned-gata4-last",
        "source-finetuned-task",
        "source-finetuned-task-finetuned-gata4",
    }


def test_a_learned_backward_policy_comes_along_or_makes_way_for_a_prior(here):
    learned = ["--model.backward", "LearnedBackward", "--model.objective", "TrajectoryBalance"]
    shutil.rmtree("source/checkpoints")
    again = ["fit", "--config", "source/config.yaml", *learned, "--output", "learned"]
    assert main(again) == 0
    old = weights(here / "learned")
    for way in ("last", "anchored"):
        assert main(["finetune", "learned", *NEW, "--way", way, "--output", way]) == 0
    first = "policy.backward_policy.embedding.weight"
    assert torch.equal(weights(here / "last")[first], old[first])
    assert not any("backward_policy" in name for name in weights(here / "anchored"))
    assert (
        yaml.safe_load(Path("anchored/config.yaml").read_text())["model"]["backward"]["class_path"]
        == "UniformBackward"
    )
