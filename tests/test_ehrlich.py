"""Ehrlich functions are those of pytorch-holo, feasible by construction, and exact where small."""

import gzip
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from common import model_of

from gfn_design import (
    MLP,
    EhrlichData,
    EhrlichSequence,
    InputError,
    Sequence,
    TrajectoryBalance,
    Transitions,
    check_environment,
    target_distribution,
)
from gfn_design.evaluation.transfer import TransferTarget

FILE = Path(__file__).with_name("ehrlich_holo_0.0.5.json.gz")
PUBLISHED = json.loads(gzip.decompress(FILE.read_bytes()))
SMALL = [(4, 8, 2, 2, None, 0.0), (4, 9, 2, 3, None, 0.5), (4, 9, 2, 4, 2, 0.0), (5, 7, 1, 4, 4, 0)]


@pytest.mark.parametrize("known", PUBLISHED, ids=lambda known: str(known["arguments"].values()))
def test_functions_are_those_of_the_published_package(known):
    """The same transitions, motifs and spacings by seed, and 1,000 values; written by holo."""
    environment = EhrlichSequence(**known["arguments"])
    assert environment.allowed.int().tolist() == known["allowed"]
    assert environment.motifs.tolist() == known["motifs"]
    assert environment.offsets.diff(dim=1).tolist() == known["spacings"]
    strings = torch.tensor(known["strings"])
    feasible = environment.is_feasible(strings)
    assert feasible.tolist() == [value is not None for value in known["values"]]
    assert 250 < feasible.sum() < 1001
    wanted = torch.tensor([value for value in known["values"] if value is not None])
    found = environment.worth(strings[feasible])
    assert len({*wanted.tolist()}) > 3
    torch.testing.assert_close(found.float(), wanted, rtol=1e-6, atol=1e-7)
    assert float(environment.worth(environment.encode([environment.solution()]))) == 1


@pytest.mark.parametrize("setting", SMALL)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_exact_target_is_that_of_all_strings(setting, seed):
    environment = EhrlichSequence(*setting, seed=seed)
    data = EhrlichData(4.0)
    reward = data.make_reward(environment)
    listed = target_distribution(environment, lambda objects: reward(objects).double())
    strings = torch.tensor([*itertools.product(range(setting[0]), repeat=setting[1])])
    assert len(listed.objects) == environment.is_feasible(strings).sum()
    target = TransferTarget(data.automaton(environment))
    assert target.log_z == pytest.approx(listed.log_z, abs=1e-10)
    assert target.log_size == pytest.approx(math.log(len(listed.objects)), abs=1e-10)
    best = (environment.worth(listed.objects) == 1).double()
    assert target.share(target.automaton.all_hit) == pytest.approx(
        float(best @ listed.probability), abs=1e-10
    )
    letters, log_reward = target.sample(300, np.random.default_rng(0))
    assert environment.is_feasible(torch.from_numpy(letters)).all()
    assert np.array_equal(reward(torch.from_numpy(letters)).double().numpy(), log_reward)


def test_every_string_that_is_drawn_is_feasible():
    environment = EhrlichSequence(32, 32, 4, 4)
    torch.manual_seed(0)
    model = model_of(environment, TrajectoryBalance(), MLP, draw_seed=0).use(EhrlichData())
    drawn = model.draw(2000, 0, 0).objects
    assert environment.is_feasible(drawn).all()
    assert len(environment.encode(environment.decode(drawn))) == 2000


def test_what_is_measured_of_a_policy():
    environment = EhrlichSequence(4, 8, 2, 2)
    torch.manual_seed(0)
    model = model_of(environment, TrajectoryBalance(), MLP, draw_seed=0).use(EhrlichData(2.0))
    exact = model.evaluate().metrics
    model.exact_limit = 0
    found = model.use(EhrlichData(2.0)).evaluate().metrics
    assert found["D_TV"] == pytest.approx(exact["D_TV"], abs=4 * found["D_TV_error"])
    assert found["target_hit_rate"] == pytest.approx(exact["target_hit_rate"], abs=1e-6)
    assert found["mean_worth"] == pytest.approx(exact["mean_worth"], abs=0.05)
    text = environment.solution()
    assert model.data.columns(environment, [text]) == {"worth": ["1"]}
    assert environment.columns([text]) == {"motif_1": ["2"], "motif_2": ["2"]}


def test_the_environment_keeps_the_contract():
    check_environment(EhrlichSequence(4, 8, 2, 2, seed=3))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: EhrlichSequence(3, 8), "n_letters must be from 4 to 36, got 3"),
        (lambda: EhrlichSequence(4, 7), "2 motifs of 4 elements do not fit 7 letters"),
        (lambda: EhrlichSequence(4, 12, quantization=5), "quantization must be from 1 to 4"),
        (
            lambda: EhrlichSequence(4, 12, 2, 5, 3),
            "with quantization 3 no motif of 5 elements is ever whole",
        ),
        (lambda: EhrlichSequence(4, 12, epistasis=4.0), "epistasis must be from 0 to 3"),
        (lambda: EhrlichSequence(4, 12, 0), "n_motifs must be at least 1"),
        (lambda: EhrlichData(minimum=0.0), "minimum must lie between 0 and 1"),
        (lambda: EhrlichData().make_reward(Sequence("DNA", 8)), "strings of EhrlichSequence, got"),
        (
            lambda: Sequence("DNA", 4, "append", constraints=[Transitions({"A": "X"})]),
            "transitions: 'X' is not in the alphabet A C G T",
        ),
        (
            lambda: EhrlichData().automaton(EhrlichSequence(20, 64, 2, 4)),
            "more than 50,000 states of an automaton would follow this function",
        ),
    ],
)
def test_mistakes_are_said(make, said):
    with pytest.raises(InputError, match=said):
        make()
