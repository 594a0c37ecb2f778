"""Two runs together: what is drawn is the composition, exactly, and files say whose it is."""

import csv
import math
from functools import partial

import pytest
import torch
from common import model_of
from lightning.pytorch import Trainer

from gfn_design import MLP, FunctionData, InputError, Sequence, TrajectoryBalance
from gfn_design.__main__ import main
from gfn_design.evaluation.exact import terminating_distribution
from gfn_design.results.composed import compose, distribution, kept_with

QUIET = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar"], False)


def rich(letter, texts):
    return [0.2 + text.count(letter) ** 2 for text in texts]


def trained(letter, order, seed, length=3):
    torch.manual_seed(seed)
    environment = Sequence("DNA", length, order)
    network = partial(MLP, width=32, depth=1)
    module = model_of(environment, TrajectoryBalance(), network, draw_seed=seed, lr=1e-2)
    data = FunctionData(partial(rich, letter))
    options = {"limit_val_batches": 0, "enable_model_summary": False, "accelerator": "cpu"}
    Trainer(max_steps=30, **options, **QUIET).fit(module, datamodule=data)
    return module.use(data)


@pytest.fixture(scope="module", params=["append", "prepend-append"])
def pair(request):
    """Two policies that are trained a little, so that what they build is not their target."""
    return trained("A", request.param, 0), trained("C", request.param, 1)


@pytest.mark.parametrize("how", ["mixture", "and", "not"])
def test_what_is_drawn_is_the_composition(pair, how):
    """By chi squared on all 64 objects; by chance one of 10,000 runs would fail."""
    found = compose(*pair, how, 20_000)
    assert found.exact
    assert len(found.objects) == 20_000
    laws = [terminating_distribution(m.environment, m.policy) for m in pair]
    (indices, p), (_, q) = laws
    expected = {"mixture": (p + q) / 2, "and": p * q / (p + q), "not": p * p / (p + q)}[how]
    expected = torch.where(p + q > 0, expected, 0.0)
    expected = expected / expected.sum()
    assert distribution(*pair, how)[1] == pytest.approx(expected)
    index = torch.searchsorted(indices, pair[0].environment.state_index(found.objects))
    counts = torch.bincount(index, minlength=len(expected)).double()
    some = expected > 0
    assert counts[~some].sum() == 0
    wanted = 20_000 * expected[some]
    chi = float(((counts[some] - wanted) ** 2 / wanted).sum())
    freedom = int(some.sum()) - 1
    assert chi < freedom + 3.72 * math.sqrt(2 * freedom) + 5
    share = (p / (p + q))[index]
    assert found.share == pytest.approx(share, abs=1e-4)


def test_and_is_what_both_build_and_not_what_one_does(pair):
    means = {}
    for how in ("mixture", "and", "not"):
        found = compose(*pair, how, 4000)
        texts = pair[0].environment.decode(found.objects)
        means[how] = [sum(t.count(x) for t in texts) / 4000 for x in "AC"]
    assert means["not"][0] > means["mixture"][0]
    assert means["not"][1] < means["mixture"][1]
    assert abs(means["and"][0] - means["and"][1]) < abs(means["not"][0] - means["not"][1])


def test_what_is_kept_is_a_probability():
    share = torch.linspace(0, 1, 101).double()
    for how in ("mixture", "and", "not"):
        kept = kept_with(share, how)
        assert kept.min() >= 0
        assert kept.max() <= 1


def test_runs_that_build_different_things_are_refused(pair):
    other = trained("A", "append", 0, length=4)
    with pytest.raises(InputError, match="build different things"):
        compose(pair[0], other, "and", 10)
    with pytest.raises(InputError, match="--how must be one of"):
        compose(*pair, "or", 10)


def test_the_command_writes_what_both_say(tmp_path, capsys):
    for name, factor in (("a", "FOXA1"), ("b", "GATA4")):
        config = tmp_path / f"{name}.yaml"
        config.write_text(
            f"""
model:
  environment: {{class_path: Sequence, init_args: {{alphabet: DNA, length: 6, order: append}}}}
  objective: TrajectoryBalance
  networks: {{network: {{class_path: MLP, init_args: {{width: 32, depth: 1}}}}}}
data: {{class_path: MotifData, init_args: {{factor: {factor}}}}}
candidates: 10
trainer: {{max_steps: 20, accelerator: cpu, enable_progress_bar: false}}
"""
        )
        assert main(["fit", "--config", str(config), "--output", str(tmp_path / name)]) == 0
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    out = tmp_path / "both"
    command = ["compose", a, b, "--how", "and", "-n", "200", "--output", str(out)]
    assert main(command) == 0
    assert "exactly, by the probabilities of both" in capsys.readouterr().out
    with (out / "candidates.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["draws"]) for row in rows) == 200
    sums = [float(row["log_reward_A"]) + float(row["log_reward_B"]) for row in rows]
    assert sums == sorted(sums, reverse=True)
    assert all(0 <= float(row["share_A"]) <= 1 for row in rows)
    assert main(command) == 2
    assert "holds candidates already" in capsys.readouterr().err
