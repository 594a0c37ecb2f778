"""The exact target beyond enumeration is enumeration where that can be, and so are its samples."""

import itertools
import math
import os
import re
from functools import partial
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
import yaml
from Bio import SeqIO
from common import model_of
from lightning.pytorch import Trainer
from torch.optim.lr_scheduler import CosineAnnealingLR

from gfn_design import (
    GC,
    GRU,
    MLP,
    Batches,
    Edits,
    Forbid,
    FunctionData,
    GFlowNet,
    Hypergrid,
    InputError,
    LogVariance,
    LongestRun,
    Networks,
    Optimiser,
    Require,
    Sequence,
    SequenceData,
    SequenceTerm,
    TrajectoryBalance,
    target_distribution,
    terminating_distribution,
)
from gfn_design.__main__ import main
from gfn_design.evaluation.probabilities import log_probability
from gfn_design.evaluation.transfer import TransferTarget, total_variation_from
from gfn_design.files.completed_tables import completed_scores
from gfn_design.policies.policy import Policy
from gfn_design.rewards.desirability import loosened
from gfn_design.rewards.jaspar import Motif
from gfn_design.rewards.levels import Levels
from gfn_design.rewards.motif_window import MotifWindow
from gfn_design.rewards.windows import TableWindow
from gfn_design.runs.feasible import of_parts


def other(text):
    return text[::-1].translate(str.maketrans("ACGT", "TGCA"))


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Scores of 4-mers, and others of 3-mers, by a random number; of one strand each."""
    folder, rng = tmp_path_factory.mktemp("tables"), np.random.default_rng(0)
    for name, k in (("on", 4), ("off", 3)):
        words = ["".join(x) for x in itertools.product("ACGT", repeat=k)]
        rows = [f"{w},{rng.normal():.5f}" for w in words if w <= other(w)]
        (folder / f"{name}.csv").write_text("\n".join(["kmer,score", *rows]))
    matrix = "\n".join(" ".join(map(str, row)) for row in rng.integers(0, 30, (4, 5)))
    (folder / "own.pfm").write_text(f">M1 OWN\n{matrix}\n")
    return folder


def terms(folder, which):
    return {
        "on": [SequenceTerm(table=str(folder / "on.csv"), want=">= 1.5 within 0.5")],
        "off": [SequenceTerm(table=str(folder / "off.csv"), want="<= 0.6 within 0.3")],
        "on, not off": [
            SequenceTerm(table=str(folder / "on.csv"), want=">= 1.2 within 0.5"),
            SequenceTerm(table=str(folder / "off.csv"), want="<= 0.9 within 0.3", weight=2.0),
        ],
        "range": [SequenceTerm(table=str(folder / "on.csv"), want="0.8..1.2 within 0.2")],
        "one strand": [
            SequenceTerm(table=str(folder / "on.csv"), want="maximise 0..2", strands="given")
        ],
        "motif": [SequenceTerm(factor=str(folder / "own.pfm"), want="maximise 0.4..1")],
        "on, and GC": [
            SequenceTerm(property="GC", want="0.3..0.6 within 0.2"),
            SequenceTerm(table=str(folder / "on.csv"), want=">= 1.2 within 0.5"),
        ],
        "length": [SequenceTerm(property="length", want="maximise 4..6")],
        "length, and GC": [
            SequenceTerm(property="length", want="<= 5 within 1"),
            SequenceTerm(property="GC", want="<= 0.5 within 0.3"),
        ],
    }[which]


RULES = [Require("AC"), GC(0.2, 0.6)]
ENVIRONMENTS = {
    "7": partial(Sequence, "DNA", 7, "append"),
    "5 to 7": partial(Sequence, "DNA", 7, "append", 5),
    "inserted": partial(Sequence, "DNA", 6, "insert", 5),
    "at either end": partial(Sequence, "DNA", 6, "prepend-append"),
    "constraints": partial(
        Sequence, "DNA", 7, "append", constraints=[Forbid("GAG"), LongestRun(2)]
    ),
    "constraints and lengths": partial(Sequence, "DNA", 7, "append", 5, RULES),
    "edits": partial(Edits, "ACGTACGT", 3, alphabet="DNA"),
    "edits and constraints": partial(Edits, "ACGTACGT", 3, "2-7", "ACG", "DNA", 0, RULES),
    "two edits at least": partial(Edits, "ACGTACGT", 3, "1,3-6", alphabet="DNA", at_least=2),
}
TERMS = ("on", "off", "on, not off", "range", "one strand", "motif")
EVERYWHERE = [(term, where) for term in (*TERMS, "on, and GC") for where in ENVIRONMENTS]
LENGTHS = ("5 to 7", "inserted", "constraints and lengths")


@pytest.mark.parametrize(
    ("which", "where"),
    [*EVERYWHERE, *((x, where) for x in ("length", "length, and GC") for where in LENGTHS)],
)
def test_the_recursion_is_enumeration(tables, which, where):
    """log Z, the number of objects, and what is as wanted, to rounding; all samples' rewards."""
    environment = ENVIRONMENTS[where]()
    data = SequenceData(terms(tables, which), exponent=3.0)
    reward = data.make_reward(environment)
    listed = target_of(environment, data)
    target = TransferTarget(data.automaton(environment))
    assert target.log_z == pytest.approx(listed.log_z, abs=1e-10)
    assert target.log_size == pytest.approx(math.log(len(listed.probability)), abs=1e-10)
    hits = data.hits(data.score_of(environment).values(listed.objects)).numpy()
    good = target.automaton.all_hit
    assert target.share(good) == pytest.approx(float(listed.probability.numpy() @ hits), abs=1e-10)
    assert target.share_of_objects(good) == pytest.approx(hits.mean(), abs=1e-10)
    letters, log_reward = target.sample(500, np.random.default_rng(0))
    objects = environment.states_of(torch.from_numpy(letters))
    assert np.array_equal(reward(objects).double().numpy(), log_reward)
    assert torch.equal(environment.encode(environment.decode(objects)), objects)
    assert np.array_equal(environment.letters_of(objects).numpy(), letters)
    assert np.array_equal(target.log_reward_of(letters), log_reward)
    every, weight = environment.letters_of(listed.objects), listed.probability.numpy()
    marginals = [
        [weight @ (every[:, j] == x).numpy() for x in range(4)] for j in range(len(every.T))
    ]
    assert target.marginals() == pytest.approx(np.array(marginals), abs=1e-10)


def target_of(environment, data):
    """The target by enumeration."""
    reward = data.make_reward(environment)
    return target_distribution(environment, lambda objects: reward(objects).double())


@pytest.mark.parametrize(
    ("make", "which"),
    [
        (partial(Sequence, "DNA", 6, "append", 5, [LongestRun(3)]), "on"),
        (partial(Edits, "ACGTACGT", 3, "2-7", alphabet="DNA", at_least=1), "on, and GC"),
    ],
)
def test_samples_are_of_the_target(tables, make, which):
    """Each object as often as it should be, by chi squared over 4,096 and fewer objects."""
    environment = make()
    data = SequenceData(terms(tables, which), exponent=2.0)
    listed = target_of(environment, data)
    target, n = TransferTarget(data.automaton(environment)), 400_000
    letters, _ = target.sample(n, np.random.default_rng(1))
    objects = environment.states_of(torch.from_numpy(letters))
    place = torch.searchsorted(listed.indices, environment.state_index(objects))
    counts = place.bincount(minlength=len(listed.indices)).numpy()
    expected = n * listed.probability.numpy()
    rare = expected < 5  # together, for the law of chi squared
    counts, expected = (np.append(x[~rare], x[rare].sum()) for x in (counts, expected))
    chi, free = float(((counts - expected) ** 2 / expected).sum()), len(expected) - 1
    assert abs(chi - free) < 5 * math.sqrt(2 * free)


def test_the_distance_of_a_policy_is_in_its_interval(tables):
    """Of 200 estimates by 1,000 samples each, those within two errors are 91 % to 99 %."""
    environment = Sequence("DNA", 5, "append")
    data = SequenceData(terms(tables, "on"), exponent=2.0)
    torch.manual_seed(0)
    model = model_of(environment, TrajectoryBalance(), MLP, draw_seed=0).use(data)
    for parameter in model.policy.forward_policy.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    indices, probability = terminating_distribution(environment, model.policy)
    exact = model.evaluate().metrics["D_TV"]
    assert 0.2 < exact < 0.8
    target, log_q = TransferTarget(data.automaton(environment)), probability.log()
    covered = 0
    for seed in range(200):
        letters, log_reward = target.sample(1000, np.random.default_rng(seed))
        row = torch.searchsorted(indices, environment.state_index(torch.from_numpy(letters)))
        found, error = total_variation_from(log_q[row].numpy(), log_reward - target.log_z)
        covered += abs(found - exact) < 1.96 * error
    assert 182 <= covered <= 198
    model.exact_limit = 0  # as if there were too many
    model.use(data)
    metrics = model.evaluate().metrics
    assert metrics["D_TV"] == pytest.approx(exact, abs=4 * metrics["D_TV_error"])
    assert metrics["D_TV_error"] < 0.005
    assert metrics["log_z_error"] == pytest.approx(abs(model.log_z - target.log_z), abs=1e-6)


WAYS = {
    "append": partial(Sequence, "DNA", 5, "append", 2),
    "prepend-append": partial(Sequence, "DNA", 5, "prepend-append"),
    "prepend-append, 2 to 5": partial(Sequence, "DNA", 5, "prepend-append", 2),
    "any": partial(Sequence, "ACG", 4, "any"),
    "insert": partial(Sequence, "ACG", 5, "insert", 2),
    "edits": partial(Edits, "ACGTAC", 3, alphabet="DNA"),
    "a grid": partial(Hypergrid, 2, 6),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_sum_over_histories_is_the_probability(way):
    """Of every object, beside the recursion over all states; few are asked as all are."""
    environment = WAYS[way]()
    torch.manual_seed(0)
    policy = Policy(environment, partial(MLP, width=32), "uniform")
    for parameter in policy.forward_policy.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    target = target_distribution(environment, lambda x: torch.zeros(len(x)).double())
    exact = target.of_objects(terminating_distribution(environment, policy)[1])
    found = log_probability(environment, policy, target.objects)
    assert found.exp().numpy() == pytest.approx(exact.numpy(), rel=1e-5, abs=1e-9)
    some = log_probability(environment, policy, target.objects[5:9])
    assert some.numpy() == pytest.approx(found[5:9].numpy(), abs=1e-5)


def test_too_many_histories_are_bounded_from_above(tables, monkeypatch):
    """In any order, 7 letters have 128 subsets: if these are too many, the distance is larger."""
    data = SequenceData(terms(tables, "on"), exponent=2.0)
    found = {}
    for most in (1100, 100):
        monkeypatch.setattr("gfn_design.evaluation.probabilities.MOST", most)
        torch.manual_seed(0)
        environment, network = Sequence("DNA", 7, "any"), partial(MLP, width=16)
        model = model_of(environment, TrajectoryBalance(), network, draw_seed=0)
        for parameter in model.policy.forward_policy.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
        model.exact_limit = 0
        found[most] = model.use(data).evaluate().metrics
    assert "D_TV_bound" not in found[1100]
    assert "D_TV" not in found[100]
    exact, bound, error = (
        found[1100]["D_TV"],
        found[100]["D_TV_bound"],
        found[100]["D_TV_bound_error"],
    )
    assert exact - 3 * error < bound < 1
    assert bound > exact + 0.01  # of so few histories
    assert error < 0.02


@pytest.mark.parametrize("order", ["prepend-append", "insert"])
def test_the_distance_is_that_of_enumeration(tables, order):
    environment = Sequence("DNA", 5, order)
    data = SequenceData(terms(tables, "on"), exponent=2.0)
    torch.manual_seed(0)
    model = model_of(environment, TrajectoryBalance(), MLP, draw_seed=0).use(data)
    exact = model.evaluate().metrics
    model.exact_limit = 0  # as if there were too many
    found = model.use(data).evaluate().metrics
    assert found["D_TV"] == pytest.approx(exact["D_TV"], abs=4 * found["D_TV_error"])
    assert found["D_TV_error"] < 0.005


def test_thirty_letters_take_seconds(tables):
    """10^18 objects: the number is exact, and both rates are probabilities."""
    environment = Sequence("DNA", 30, "append")
    data = SequenceData(terms(tables, "on, not off"))
    target = TransferTarget(data.automaton(environment))
    assert target.log_size == pytest.approx(30 * math.log(4), abs=1e-9)
    good = target.automaton.all_hit
    assert 0 < target.share_of_objects(good) < target.share(good) < 1


def test_whether_a_value_is_as_wanted_is_never_rounded():
    values = torch.cat([torch.linspace(-1, 1, 5001).double(), torch.tensor([0.3, 0.45])])
    for want, low, high in (
        (">= 0.45 within 0.1", 0.45, math.inf),
        ("<= 0.3 within 0.05", -math.inf, 0.3),
        ("0.3..0.45 within 0.1", 0.3, 0.45),
        ("maximise 0..0.45", 0.45, math.inf),
        ("minimise 0.3..0.8", -math.inf, 0.3),
    ):
        levels = Levels(want, -1.0, 1.0, 16, 1e-3)
        assert 8 < len(levels) < 24
        assert torch.equal(levels.hits[levels.of(values)], (values >= low) & (values <= high))
        assert torch.equal(levels(values) == 1, levels.hits[levels.of(values)])


def test_the_best_window_by_hand():
    """Against a loop over windows and strands, of sequences of several lengths."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=64)
    motif = Motif("X", "test", rng.integers(0, 30, (4, 3)).astype(float))
    objects = torch.from_numpy(rng.integers(0, 4, (50, 6)))
    objects[:10, 4:] = -1
    objects[10:15, 2:] = -1
    odds = np.log((motif.counts + 1) / (motif.counts + 1).sum(0) / 0.25)
    worst, best = odds.min(0).sum(), odds.max(0).sum()

    def of_table(word):
        return scores[int("".join(map(str, word)), 4)]

    def of_motif(word):
        return (sum(odds[x, i] for i, x in enumerate(word)) - worst) / (best - worst)

    for value, module in (
        (of_table, partial_window(TableWindow, scores, 4)),
        (of_motif, partial_window(MotifWindow, motif)),
    ):
        for both in (False, True):
            found = module(both)(objects).tolist()
            for row, answer in zip(objects.tolist(), found, strict=True):
                text = [x for x in row if x >= 0]
                words = [text[i : i + 3] for i in range(len(text) - 2)]
                words += [[3 - x for x in word[::-1]] for word in words] if both else []
                wanted = max(map(value, words), default=-math.inf)
                assert answer == pytest.approx(wanted, abs=1e-12)
            words, values = module(both).words_from(0.5)
            every = torch.tensor(list(itertools.product(range(4), repeat=3)))
            reach = module(both)(every) >= 0.5
            assert {*map(tuple, words.tolist())} == {*map(tuple, every[reach].tolist())}
            assert np.allclose(values, module(both)(torch.from_numpy(words)).numpy())


def partial_window(kind, *arguments):
    return lambda both: kind(*arguments, both)


def test_a_table_of_one_strand_and_with_gaps_is_completed(tmp_path):
    words = ["".join(x) for x in itertools.product("ACGT", repeat=3)]
    rows = {word: float(i) for i, word in enumerate(words) if word <= other(word)}
    del rows["AAC"]
    path = tmp_path / "own.csv"
    path.write_text("kmer,score\n" + "\n".join(f"{w},{x}" for w, x in rows.items()))
    scores, said = completed_scores(path, "ACGT", None, strands=True)
    assert scores[words.index("TCT")] == rows["AGA"]
    near = [w for w in words if sum(a != b for a, b in zip(w, "AAC", strict=True)) == 1]
    mean = np.mean([scores[words.index(w)] for w in near])
    assert scores[words.index("AAC")] == pytest.approx(mean)
    assert "31 scores are those of the other strand and 2 missing ones the mean" in said
    path.write_text("kmer,score\n" + "\n".join(f"{w},{x}" for w, x in [*rows.items()][:20]))
    with pytest.raises(InputError, match="more than a tenth"):
        completed_scores(path, "ACGT", None, strands=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: SequenceTerm(),
            "needs one of table, factor, property, mutants, function, command and proxy",
        ),
        (lambda: SequenceTerm(property="weight"), "is no property of sequences"),
        (lambda: SequenceTerm(factor="FOXA1", want="good"), "want of FOXA1: 'good' does not say"),
        (lambda: SequenceData([]), "there are no terms"),
        (
            lambda: SequenceData([SequenceTerm(property="GC", want="40..60")]).make_reward(
                Sequence("DNA", 9)
            ),
            "GC: want: '40..60' asks for what there is not; values lie from 0 to 1",
        ),
        (
            lambda: SequenceData([SequenceTerm(property="GC", want="0..1")] * 2),
            "two terms are called GC",
        ),
        (
            lambda: SequenceData([SequenceTerm(factor="FOXA1")]).make_reward(Sequence("DNA", 6)),
            "windows have 8 letters, and the shortest sequence 6",
        ),
        (
            lambda: SequenceData([SequenceTerm(property="GC", want="0..1")]).make_reward(
                Sequence("protein", 6)
            ),
            "GC is about DNA and RNA",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.slow
def test_a_policy_learns_the_constrained_target(tables):
    """All 4- to 5-letter sequences that meet four constraints, to a distance below 0.02."""
    rules = [Forbid("GAG"), LongestRun(2), GC(0.2, 0.7), Require("AC")]
    environment = Sequence("DNA", 5, "append", 4, rules)
    data = SequenceData(terms(tables, "on"), exponent=1.0)
    torch.manual_seed(0)
    model = GFlowNet(
        environment,
        LogVariance(),
        Networks(partial(GRU, width=128)),
        batches=Batches(128),
        optimiser=Optimiser(3e-3, schedule=partial(CosineAnnealingLR, T_max=1000)),
        draw_seed=0,
    )
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    trainer = Trainer(max_steps=1000, limit_val_batches=0, accelerator="cpu", **off)
    trainer.fit(model, datamodule=data)
    metrics = model.use(data).evaluate().metrics
    assert metrics["D_TV"] < 0.02
    assert abs(metrics["hit_rate"] - metrics["target_hit_rate"]) < 0.01


SHIPPED = sorted((Path(__file__).parents[1] / "configs" / "sequences").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_configuration_runs_to_its_files(path, tmp_path, monkeypatch):
    """What it writes opens in pandas and as FASTA, and complies; nothing is padded."""
    if ("table:" in path.read_text() or "mutants:" in path.read_text()) and not os.environ.get(
        "GFN_DESIGN_DATA"
    ):
        pytest.skip("GFN_DESIGN_DATA names no folder with the public data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gfn_design.evaluation.evaluate.TARGET_SAMPLES", 500)
    options = {"--trainer.max_steps": 3, "--candidates": 20, "--evaluate_every": 3}
    if "table:" in path.read_text():
        options["--data.levels"] = 4  # as exact, sooner
    flags = [str(x) for item in options.items() for x in item]
    assert main(["fit", "--config", str(path), "--output", "run", *flags]) == 0
    table = pandas.read_csv("run/candidates.csv", keep_default_na=False)
    with Path("run/candidates.fasta").open() as file:
        records = [*SeqIO.parse(file, "fasta")]
    assert [*table["sequence"]] == [str(record.seq) for record in records]
    assert len({record.id for record in records}) == len(records)
    assert table["log_reward"].dtype == float
    environment = module_of(path).environment
    assert len(environment.encode([*table["sequence"]])) == len(table) == 20
    assert "_" not in "".join(table["sequence"])
    assert Path("run/logo.png").stat().st_size > 3000


def module_of(path):
    from gfn_design.config import build_section, read
    from gfn_design.config.root import ROOT

    return build_section(read([path])["model"], ROOT["model"], "model")


def test_feasible_says_what_share_is_as_wanted(tables, tmp_path, capsys):
    config = {
        "model": {
            "environment": {
                "class_path": "Sequence",
                "init_args": {"alphabet": "DNA", "length": 7, "order": "append"},
            },
            "objective": "TrajectoryBalance",
        },
        "data": {
            "class_path": "SequenceData",
            "init_args": {
                "terms": [
                    {"table": str(tables / "on.csv"), "want": ">= 1.2 within 0.5"},
                    {"table": str(tables / "off.csv"), "want": "<= 0.9 within 0.3"},
                ]
            },
        },
    }
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(config))
    assert main(["feasible", "--config", str(path)]) == 0
    said = capsys.readouterr().out
    environment = Sequence("DNA", 7, "append")
    data = SequenceData([SequenceTerm(**term) for term in config["data"]["init_args"]["terms"]])
    target = TransferTarget(data.automaton(environment))
    share = target.share_of_objects(target.automaton.all_hit)
    assert "objects: 16,384" in said
    assert f"as wanted by all: {share:.3g}, that is {share * 4**7:,.0f}" in said
    assert f"exponent 1: {target.share(target.automaton.all_hit):.3g}, of " in said
    terms_of = config["data"]["init_args"]["terms"]
    terms_of[1] = {**terms_of[0], "want": "<= 0.5 within 0.1", "name": "not on"}
    path.write_text(yaml.safe_dump(config))
    assert main(["feasible", "--config", str(path)]) == 2
    said = capsys.readouterr().err
    assert "no sequence of 7 letters is as wanted in all terms" in said
    found = re.search(
        r"loosened alike, on >= ([\d.]+) and not on <= ([\d.]+) would be met by", said
    )
    assert found is not None
    assert float(found[1]) <= float(found[2])  # of one table, what is met


def test_feasible_proposes_an_exponent(tables):
    """By which half of the exact target is as wanted, and how diverse it is."""
    environment = Sequence("DNA", 6, "append")
    data = SequenceData(terms(tables, "on, not off"), exponent=2.0)
    lines = [*feasible_lines(environment, data)]
    exponent = float(
        re.search(r"half of the samples are as wanted at exponent (\S+)", lines[-1])[1]
    )
    data.exponent = exponent
    target = TransferTarget(data.automaton(environment))
    assert target.share(target.automaton.all_hit) == pytest.approx(0.5, abs=0.02)
    data.exponent = 2.0
    listed = target_of(environment, data).probability
    (configured,) = (line for line in lines if "as configured" in line)
    assert f"of {1 / float(listed.square().sum()):,.0f} " in configured


def test_feasible_by_chance_is_near_the_truth(tables, monkeypatch):
    """Where no automaton follows: 2,000 random walks, of objects with unequal chances."""
    monkeypatch.setattr("gfn_design.runs.feasible.LISTED", 0)
    environment = Sequence("DNA", 6, "append", 4)
    mean = SequenceTerm(table=str(tables / "on.csv"), of="mean", want=">= 0.2 within 0.2")
    data = SequenceData([mean], exponent=3.0)
    lines = "\n".join(feasible_lines(environment, data))
    listed = target_of(environment, data)
    good = data.as_wanted(environment, listed.objects).double()
    number = float(re.search(r"objects: about ([\d,]+)", lines)[1].replace(",", ""))
    assert number == pytest.approx(len(good), rel=0.1)
    share = float(re.search(r"as wanted by all: about (\S+) of them", lines)[1])
    assert share == pytest.approx(float(good.mean()), abs=0.05)
    rate = float(re.search(r"exponent 3: (\S+), by", lines)[1])
    assert rate == pytest.approx(float(good @ listed.probability), abs=0.06)
    never = SequenceTerm(table=str(tables / "on.csv"), of="mean", want=">= 9 within 1")
    said = "\n".join(feasible_lines(environment, SequenceData([never])))
    assert "none of the 2,000, so probably fewer than" in said
    with pytest.raises(InputError, match="FunctionData does not say what is as wanted"):
        [*feasible_lines(environment, FunctionData(lambda texts: [1.0] * len(texts)))]


def test_feasible_looks_at_all_where_they_can_be_listed(tables):
    """Where no automaton follows, and there are few."""
    environment = Sequence("DNA", 5, "append", 4)
    mean = SequenceTerm(table=str(tables / "on.csv"), of="mean", want=">= 0.2 within 0.2")
    data = SequenceData([mean], exponent=3.0)
    lines = "\n".join(feasible_lines(environment, data))
    listed = target_of(environment, data)
    good = data.as_wanted(environment, listed.objects).double()
    assert "objects: 1,280, all of which were looked at" in lines
    assert f"as wanted by all: {float(good.mean()):.3g} of them" in lines
    rate = float(good @ listed.probability)
    effective = 1 / float(listed.probability.square().sum())
    assert f"exponent 3: {rate:.3g}, of {effective:,.0f}  (as configured)" in lines


def feasible_lines(environment, data):
    data.ready(environment, torch.device("cpu"))
    return of_parts(environment, data)


def test_wishes_are_loosened_by_what_counts_half():
    for want, wanted in (
        (">= 0.45 within 0.1", ">= 0.35 within 0.1"),
        ("<= 2", "<= 2.5 within 0.5"),
        ("2..4", "1.5..4.5 within 0.5"),
        ("2..4 within 1", "1..5 within 1"),
        ("maximise 4..8", "maximise 4..7"),
        ("minimise -12..-8", "minimise -11..-8"),
        ("/ 8", "/ 8"),
    ):
        assert loosened(want, 1.0) == wanted


def test_edits_are_wanted_as_sequences_are(tables):
    """The same rewards for the same letters, and columns that say what was changed."""
    wild = "ACGTACGT"
    near = Edits(wild, at_most=2, alphabet="DNA")
    data = SequenceData(terms(tables, "on, not off"))
    texts = [wild, "ACGTAAGT", "CCGTACGA"]
    here = data.make_reward(near)(near.encode(texts))
    whole = Sequence("DNA", 8, "append")
    assert torch.equal(here, data.make_reward(whole)(whole.encode(texts)))
    exact = TransferTarget(data.automaton(near)).log_z
    assert exact == pytest.approx(target_of(near, data).log_z, abs=1e-10)
    assert [*data.columns(near, texts)] == ["on", "off", "as_wanted"]
    name, best, in_place, both = data.windows(near, texts)
    assert (name, in_place, both) == ("the best windows of on", False, True)
    for text, window in zip(texts, best, strict=True):
        assert window in text or window in other(text)


def test_a_target_that_is_too_large_is_said_and_does_without(tables, monkeypatch, caplog):
    monkeypatch.setattr("gfn_design.rewards.sequence_automaton.MAX_STATES", 100)
    data = SequenceData(terms(tables, "on"))
    model = model_of(Sequence("DNA", 9, "append"), TrajectoryBalance(), MLP).use(data)
    model.exact_limit = 0
    with caplog.at_level("WARNING"):
        metrics = model.evaluate().metrics
        model.evaluate()
    assert "D_TV" not in metrics
    assert caplog.text.count("the exact target is not known") == 1
