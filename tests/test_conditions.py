"""One policy for many questions: settings drawn in training, and chosen afterwards."""

from functools import partial

import pytest
import torch
from common import model_of
from lightning.pytorch import Trainer

from gfn_design import (
    MLP,
    ActorCritic,
    Conditions,
    FlowMatching,
    FunctionData,
    GFlowNet,
    InputError,
    LearnedBackward,
    Networks,
    Optimiser,
    Replay,
    Sequence,
    SequenceData,
    SequenceTerm,
    SubTrajectoryBalance,
    TrajectoryBalance,
    TrustRegion,
)
from gfn_design.__main__ import main
from gfn_design.policies.knots import Knots, PolicyAt, policy_at
from gfn_design.sampling.log_probabilities import log_probabilities

QUIET = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar"], False)


def score(texts):
    """From 1 to 3: how many A, and a little for a C at the end."""
    return [1.0 + text.count("A") / 2 + 0.5 * text.endswith("C") for text in texts]


def made(objective=TrajectoryBalance, conditions=None, order="append", **options):
    torch.manual_seed(0)
    return GFlowNet(
        Sequence("DNA", 4, order),
        objective(),
        Networks(partial(MLP, width=64, depth=2), partial(MLP, width=64, depth=2)),
        optimiser=Optimiser(lr=5e-3),
        conditions=conditions or Conditions(exponent="1..8", knots=4),
        draw_seed=0,
        **options,
    )


def trained(module, data, steps):
    options = {"enable_model_summary": False, "limit_val_batches": 0, "accelerator": "cpu"}
    Trainer(max_steps=steps, **options, **QUIET).fit(module, datamodule=data)
    return module.use(data)


def test_settings_are_drawn_evenly_and_mixed_between_their_knots():
    conditions = Conditions(exponent="1..16", weights={"GC": "0..2"}, knots=5)
    uniform = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0))
    settings = conditions.drawn(uniform)
    assert settings[:, 0].log2().mean() == pytest.approx(2, abs=0.15)  # evenly among logarithms
    assert settings[:, 1].mean() == pytest.approx(1, abs=0.1)
    mix = conditions.mix(settings)
    assert mix.shape == (1000, 10)
    assert mix[:, :5].sum(1) == pytest.approx(1, abs=1e-5)
    assert mix[:, 5:].sum(1) == pytest.approx(1, abs=1e-5)
    assert ((mix > 1e-6).sum(1) <= 4).all()
    at_knots = conditions.mix(torch.tensor([[1.0, 0.0], [4.0, 1.0], [16.0, 2.0]]))
    expected = torch.zeros(3, 10)
    expected[[0, 0, 1, 1, 2, 2], [0, 5, 2, 7, 4, 9]] = 1
    assert at_knots == pytest.approx(expected, abs=1e-5)


def test_a_policy_at_settings_of_rows_is_the_policy_at_each():
    module = made(order="prepend-append")
    conditions = module.log_z_at.conditions
    settings = torch.tensor([[1.0], [2.5], [8.0], [3.0]])
    at_rows = PolicyAt(module.policy, conditions.mix(settings))
    uniform = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
    drawn = module.engine.sample(at_rows, uniform)
    together = log_probabilities(module.environment, at_rows, drawn)
    for i, setting in enumerate(settings):
        alone = policy_at(module.policy, conditions.mix(setting[None])[0])
        own = module.engine.sample(alone, uniform[i : i + 1])
        assert (own.objects == drawn.objects[i : i + 1]).all()
        steps = log_probabilities(module.environment, alone, own)
        assert steps.log_pf.allclose(together.log_pf[i : i + 1], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("objective", [TrajectoryBalance, SubTrajectoryBalance, ActorCritic])
def test_exact_distances_at_settings_never_trained_on(objective):
    data = FunctionData(score, exponent=2)
    module = trained(made(objective), data, 500)
    fresh = made(objective).use(data)
    for exponent in (1.3, 2.2, 3.7, 6.1):
        at = module.at(exponent=exponent)
        found = at.evaluate().metrics
        assert found["D_TV"] < 0.1
        assert found["log_z_error"] < 0.3
        if exponent > 3:
            assert fresh.at(exponent=exponent).evaluate().metrics["D_TV"] > 0.3
    # As its data has it, if nothing is said.
    usual = module.evaluate().metrics["D_TV"]
    assert usual == pytest.approx(module.at(exponent=2).evaluate().metrics["D_TV"], abs=1e-5)


def test_the_target_at_a_setting_is_that_of_data_with_its_exponent():
    module = made().use(FunctionData(score, exponent=2))
    other = model_of(Sequence("DNA", 4, "append"), TrajectoryBalance(), MLP)
    other = other.use(FunctionData(score, exponent=5))
    assert module.at(exponent=5).target.probability == pytest.approx(other.target.probability)


@pytest.mark.slow
def test_weights_of_terms_are_chosen_afterwards():
    terms = [
        SequenceTerm(property="GC", want=">= 0.9 within 0.3"),
        SequenceTerm(function=score, want="maximise 0.5..3", name="A"),
    ]
    conditions = Conditions(weights={"GC": "0..4"}, knots=5)
    data = SequenceData(terms, exponent=3)
    module = trained(made(conditions=conditions), data, 400)
    shares = {}
    for weight in (0.1, 3.5):
        at = module.at(GC=weight)
        assert at.evaluate().metrics["D_TV"] < 0.15
        texts = at.environment.decode(at.draw(2000, 0, 1).objects)
        shares[weight] = sum(text.count("G") + text.count("C") for text in texts) / 8000
    assert shares[3.5] > shares[0.1] + 0.2
    weighed = SequenceData(
        [SequenceTerm(property="GC", want=">= 0.9 within 0.3", weight=3.5), terms[1]], exponent=3
    )
    other = model_of(Sequence("DNA", 4, "append"), TrajectoryBalance(), MLP).use(weighed)
    assert module.at(GC=3.5).target.probability == pytest.approx(other.target.probability, abs=1e-6)


def test_what_was_learned_is_saved_and_read_again(tmp_path):
    module = made()
    trainer = Trainer(
        max_steps=5,
        limit_val_batches=0,
        enable_model_summary=False,
        logger=False,
        enable_progress_bar=False,
        default_root_dir=tmp_path,
        accelerator="cpu",
        enable_checkpointing=False,
    )
    data = FunctionData(score, exponent=2)
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = GFlowNet.load_from_checkpoint(tmp_path / "last.ckpt").use(data)
    for exponent in (1.5, 6.0):
        first, second = module.use(data).at(exponent=exponent), again.at(exponent=exponent)
        assert first.log_z == pytest.approx(second.log_z)
        same = first.evaluate().metrics["D_TV"], second.evaluate().metrics["D_TV"]
        assert same[0] == pytest.approx(same[1], abs=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"exponent": "16..1"}, "from a number to a larger one"),
        ({"exponent": "0..4"}, "both positive"),
        ({"exponent": "a..b"}, "must be from..to"),
        ({}, "say what is to be chosen"),
        ({"exponent": "1..4", "knots": 1}, "at least 2"),
        ({"weights": {"QED": "2..4"}}, "it must hold 1"),
    ],
)
def test_conditions_that_cannot_be_are_refused(options, said):
    with pytest.raises(InputError, match=said):
        Conditions(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"objective": FlowMatching}, "do not go with FlowMatching"),
        ({"objective": TrustRegion}, "do not go with TrustRegion"),
    ],
)
def test_what_does_not_go_with_conditions_is_refused(options, said):
    with pytest.raises(InputError, match=said):
        made(**options)


def test_replay_does_not_go_with_conditions():
    from gfn_design import Batches

    with pytest.raises(InputError, match=r"do not go with batches\.replay"):
        made(batches=Batches(8, replay=Replay()))
    with pytest.raises(InputError, match="GFlowNet: conditions must be"):
        GFlowNet(Sequence("DNA", 4), TrajectoryBalance(), conditions="1..16")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"exponent": 9}, "was learned from 1 to 8, got 9"),
        ({"GC": 1}, "there is no condition 'GC'; this run knows exponent"),
    ],
)
def test_settings_that_were_not_learned_are_refused(setting, said):
    module = made().use(FunctionData(score, exponent=2))
    with pytest.raises(InputError, match=said):
        module.at(**setting)


def test_data_outside_the_range_or_without_an_exponent_is_refused():
    with pytest.raises(InputError, match="was learned from 1 to 8, got 9"):
        made().use(FunctionData(score, exponent=9))
    module = made(conditions=Conditions(weights={"GC": "0..2"}))
    data = SequenceData([SequenceTerm(function=score, want=">= 2", name="A")])
    with pytest.raises(InputError, match="there is no term 'GC'"):
        trained(module, data, 2)


def test_a_module_without_conditions_has_no_settings():
    module = model_of(Sequence("DNA", 4), TrajectoryBalance(), MLP).use(FunctionData(score))
    with pytest.raises(InputError, match="was trained for one question"):
        module.at(exponent=2)


def test_every_parameter_that_learns_has_a_gradient():
    """As DDP asks for."""
    module = made(SubTrajectoryBalance).use(FunctionData(score, exponent=2))
    assert not module.log_z_at.at_knots.requires_grad
    _, losses, _ = module.next_step()
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in module.parameters() if p.requires_grad)


def test_a_learned_backward_policy_is_told_too():
    module = made(order="prepend-append", backward=LearnedBackward(shared=True))
    assert isinstance(module.policy.forward_policy, Knots)
    data = FunctionData(score, exponent=2)
    trained(module, data, 3)
    assert module.at(exponent=4).evaluate().metrics["D_TV"] < 1


def test_the_commands_choose_a_setting(tmp_path, capsys):
    config = tmp_path / "c.yaml"
    config.write_text(
        """
model:
  environment: {class_path: Sequence, init_args: {alphabet: DNA, length: 4, order: append}}
  objective: TrajectoryBalance
  networks: {network: {class_path: MLP, init_args: {width: 32, depth: 1}}}
  conditions: {exponent: 0.5..4}
data: {class_path: MotifData, init_args: {factor: FOXA1, exponent: 1}}
candidates: 20
trainer: {max_steps: 20, accelerator: cpu, enable_progress_bar: false}
"""
    )
    run = str(tmp_path / "run")
    assert main(["fit", "--config", str(config), "--output", run]) == 0
    capsys.readouterr()
    distances = []
    for exponent in ("0.5", "4"):
        assert main(["evaluate", run, "--at", f"exponent={exponent}"]) == 0
        distances.append(capsys.readouterr().out.splitlines()[0])
    assert distances[0] != distances[1]
    assert main(["sample", run, "-n", "10", "--at", "exponent=3"]) == 0
    assert main(["report", run, "--at", "exponent=3"]) == 0
    capsys.readouterr()
    for given, said in (("exponent=9", "was learned from 0.5 to 4"), ("x", "names and numbers")):
        assert main(["evaluate", run, "--at", given]) == 2
        assert said in capsys.readouterr().err
