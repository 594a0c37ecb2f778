"""A policy that learns what a library looks like, and goes on from there."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from gfn_design import (
    GRU,
    MLP,
    FunctionData,
    GFlowNet,
    InputError,
    LibraryData,
    MaximumLikelihood,
    Networks,
    Optimiser,
    Selfies,
    Sequence,
    Speed,
)
from gfn_design.__main__ import main
from gfn_design.evaluation.evaluate import log_probability_of
from gfn_design.evaluation.exact import terminating_distribution
from gfn_design.files.objects import Row, evenly
from gfn_design.metrics.library import compared

QUIET = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar"], False)
SMILES = ["CCO", "CCN", "CCC", "CC(=O)N", "CC(=O)O", "CCCl", "CCF", "CC=O", "CC#N", "CCCO"]


def library(folder, texts, name="library.txt"):
    path = folder / name
    path.write_text("\n".join(texts))
    return str(path)


def taught(environment, data, steps, network=MLP, **options):
    torch.manual_seed(0)
    module = GFlowNet(
        environment,
        MaximumLikelihood(),
        Networks(network),
        optimiser=Optimiser(lr=5e-3),
        draw_seed=0,
        **options,
    )
    trainer = Trainer(
        max_steps=steps, limit_val_batches=0, enable_model_summary=False, accelerator="cpu", **QUIET
    )
    trainer.fit(module, datamodule=data)
    return module.use(data)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["append", "prepend-append"])
@pytest.mark.parametrize("fast", [True, False])
def test_a_policy_learns_how_frequent_objects_are(tmp_path, order, fast):
    """What it builds is distributed as the library, exactly, whatever the histories."""
    rng = np.random.default_rng(0)
    law = {"ACG": 0.5, "TTT": 0.3, "GAT": 0.2}
    texts = rng.choice(list(law), 900, p=list(law.values())).tolist()
    data = LibraryData(library(tmp_path, texts))
    environment = Sequence("DNA", 3, order)
    speed = Speed() if fast else Speed(fast=False)
    module = taught(environment, data, 250, partial(MLP, width=64, depth=1), speed=speed)
    indices, found = terminating_distribution(environment, module.policy)
    for text, share in law.items():
        place = int((indices == environment.state_index(environment.encode([text]))).nonzero())
        assert float(found[place]) == pytest.approx(share, abs=0.06)
    held = data.kept_back(environment)
    likelihood = -float(log_probability_of(module, held).detach().mean())
    entropy = -sum(p * math.log(p) for p in law.values())
    assert likelihood == pytest.approx(entropy, abs=0.15)


def test_the_fast_engine_gives_the_numbers_of_the_plain_one(tmp_path):
    data = LibraryData(library(tmp_path, ["ACG", "TTT", "GAT", "CCC"] * 20))
    environment = Sequence("DNA", 3, "prepend-append")
    network = partial(MLP, width=16, depth=1)
    first, second = (
        taught(environment, data, 5, network, speed=Speed(fast=fast)) for fast in (True, False)
    )
    for own, other in zip(first.parameters(), second.parameters(), strict=True):
        assert own.allclose(other, atol=1e-6)


def test_a_tenth_is_held_out_and_rows_are_taken_evenly(tmp_path):
    texts = ["".join(x) for x in np.random.default_rng(0).choice(list("ACGT"), (100, 4))]
    data = LibraryData(library(tmp_path, texts))
    environment = Sequence("DNA", 4)
    held = environment.decode(data.kept_back(environment))
    assert set(held) == set(list(dict.fromkeys(texts))[9::10])
    own = environment.decode(data.library(environment))
    assert not set(own) & set(held)  # not even its repeats
    assert sorted(own + held) == sorted(texts)
    few = LibraryData(library(tmp_path, texts), most=50)
    assert len(few.library(environment)) + len(few.kept_back(environment)) == 50
    rows = [Row(str(i), "", i) for i in range(10)]
    assert [row.line for row in evenly(rows, 4)] == [0, 2, 5, 7]
    assert evenly(rows, None) == rows


def test_samples_are_compared_with_the_library():
    environment = Selfies(max_length=6)
    own, held = environment.encode(SMILES[:8]), environment.encode(SMILES[8:])
    drawn = environment.encode(["CCO", "CCO", "CCBr", "CCS"])
    found = compared(environment, drawn, own, held)
    assert found["valid"] == 1
    assert found["unique"] == 0.75
    assert found["novel"] == pytest.approx(2 / 3)
    assert 0 < found["diversity"] < 1
    assert 0 < found["nearest_held_out"] < 1
    assert compared(environment, held, own, held)["nearest_held_out"] == 1


def test_selfies_are_read_from_smiles_and_by_recurrent_networks():
    environment = Selfies(max_length=8)
    states = environment.encode(["CC(=O)N", "[C][C]"])
    assert environment.smiles(states) == ["CC(N)=O", "CC"]
    network = GRU(environment, 5, width=8)
    answers = network.of_prefixes(states)
    assert answers.shape == (2, 9, 5)
    assert network(states)[1].allclose(answers[1, 2], atol=1e-6)


@pytest.mark.parametrize(
    ("texts", "options", "said"),
    [
        (["ACG"] * 12, {}, "are too few to learn from; it takes 20"),
        (["ACG"] * 30, {"most": 5}, "most must be at least 10"),
    ],
)
def test_libraries_that_cannot_be_are_refused(tmp_path, texts, options, said):
    with pytest.raises(InputError, match=said):
        LibraryData(library(tmp_path, texts), **options).library(Sequence("DNA", 3))


def test_likelihood_needs_a_library():
    module = GFlowNet(Sequence("DNA", 3), MaximumLikelihood())
    with pytest.raises(InputError, match="learns from a library of objects; take LibraryData"):
        module.use(FunctionData(len))


@pytest.mark.slow
def test_the_walk_from_a_library_to_a_tuned_policy(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = library(tmp_path, SMILES * 6, "known.smi")
    quick = [
        "--trainer.max_steps",
        "30",
        "--trainer.enable_progress_bar",
        "false",
        "--trainer.accelerator",
        "cpu",
        "--candidates",
        "20",
    ]
    assert main(["pretrain", path, "--length", "10", "--output", "prior", *quick]) == 0
    said = capsys.readouterr().out
    assert "held out: " in said
    assert "exactly" in said
    assert "novel" in said
    wishes = tmp_path / "wishes.yaml"
    wishes.write_text(
        "data: {class_path: MoleculeData, init_args: {terms: [{property: QED}], exponent: 2}}\n"
    )
    tuned = ["finetune", "prior", "--way", "anchored", "--config", "wishes.yaml"]
    assert main([*tuned, "--output", "tuned", *quick]) == 0
    capsys.readouterr()
    assert main(["pretrain", "nothing.smi"]) == 2
    assert "no such file of objects" in capsys.readouterr().err
