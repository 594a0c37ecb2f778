"""Proxies of measurements: what they learn, how sure they are, where they may be asked, files."""

import csv
import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from common import data_at, model_of
from scipy.stats import norm

from gfn_design import MLP, Fragments, Sequence, TrajectoryBalance
from gfn_design.__main__ import main
from gfn_design.data.molecules import MoleculeData, Term
from gfn_design.data.sequence_terms import SequenceTerm
from gfn_design.data.sequences import SequenceData
from gfn_design.errors import InputError
from gfn_design.files.measured import Measured, Measurement
from gfn_design.files.measurements import Columns, read_measurements
from gfn_design.proxies.calibration import Calibration, coverage
from gfn_design.proxies.comparison import Data, HeldOut, held_out, simplest
from gfn_design.proxies.fit import data_of, fit_proxy
from gfn_design.proxies.gaussian_process import GaussianProcess
from gfn_design.proxies.groups import folds_of, groups_of
from gfn_design.proxies.inputs import Inputs, Reference
from gfn_design.proxies.limits import errors, expected_beyond, fit_with_limits
from gfn_design.proxies.models import MODELS, Guess, own
from gfn_design.proxies.proxy import load_proxy
from gfn_design.runs.guard import Point, parted

SHORT = """
candidates: 5
model:
  environment: {{class_path: Sequence, init_args: {{alphabet: protein, length: 10, order: append}}}}
  objective: TrajectoryBalance
  networks: {{network: {{class_path: MLP, init_args: {{width: 16, depth: 1}}}}}}
  batches: {{size: 8}}
data:
  class_path: SequenceData
  init_args: {{terms: [{{proxy: {proxy}, want: ">= 1"}}], exponent: 4}}
trainer: {{max_steps: 20, accelerator: cpu, enable_progress_bar: false}}
"""
QUICK = {name: MODELS[name] for name in ("mean", "nearest neighbours", "Gaussian process")}


def sequences(n, seed=0, alphabet="ACDEFGHIKLMNPQRSTVWY", low=8, high=14):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(low, high, n)
    return ["".join(rng.choice(list(alphabet), k)) for k in lengths]


def charge(text):
    return sum(x in "KR" for x in text) - sum(x in "DE" for x in text)


def table(folder, n=150, noise=0.3, seed=0, limit=None, name="peptides.csv"):
    """Peptides whose number is their charge, with noise; above a limit only that is known."""
    rng = np.random.default_rng(seed)
    path, rows = folder / name, []
    for i, text in enumerate(sequences(n, seed)):
        value = charge(text) + noise * rng.normal()
        cell = f">{limit}" if limit is not None and value > limit else f"{value:.4f}"
        rows.append(f"P{i},{text},{cell}")
    path.write_text("\n".join(["name,sequence,activity", *rows]))
    return path


@pytest.fixture(scope="module")
def peptides(tmp_path_factory):
    """A fitted proxy of peptides, its file, and its table."""
    folder = tmp_path_factory.mktemp("proxy")
    path = table(folder, 300)
    fitted = fit_proxy(read_measurements(path), path, models=QUICK)
    fitted.proxy.save(folder / "proxy.safetensors")
    return fitted, folder / "proxy.safetensors", path


def test_similarity_is_the_sum_of_minima_over_that_of_maxima():
    rng = np.random.default_rng(0)
    a, b = (rng.poisson(0.7, (n, 30)).astype(np.uint8) for n in (5, 7))
    small_a, small_b = np.minimum(a, 4).astype(float), np.minimum(b, 4).astype(float)
    expected = [[np.minimum(x, y).sum() / np.maximum(x, y).sum() for y in small_b] for x in small_a]
    assert Reference(b).similarity(a) == pytest.approx(np.array(expected), abs=1e-6)
    assert Reference(a).similarity(a).diagonal() == pytest.approx(1.0)


def test_similarity_counts_what_the_others_do_not_have():
    known, new = np.array([[1, 0, 0]], np.uint8), np.array([[1, 2, 1]], np.uint8)
    assert Reference(known).similarity(new)[0, 0] == pytest.approx(1 / 4)


def test_both_strands_give_the_same_counts():
    texts = ["AACGTTA", "GGGTACC"]
    other = ["TAACGTT", "GGTACCC"]
    for second in (False, True):
        a, b = (Inputs("DNA", x, "both", second).counts for x in (texts, other))
        assert (a == b).all()
        assert (
            Inputs("DNA", texts, "given", second).counts
            != Inputs("DNA", other, "given", second).counts
        ).any()


def test_counts_of_words_by_hand():
    counts = Inputs("protein", ["KLK"]).counts[0]
    assert counts[:20].sum() == 3
    assert counts[20:420].sum() == 2  # KL, LK
    assert counts[420:820].sum() == 1  # K.K
    assert counts[820:].sum() == 0


def test_the_gaussian_process_is_that_of_the_textbook():
    """Mean and variance by inverting the matrix; the noise has the best likelihood of some."""
    rng = np.random.default_rng(1)
    counts = rng.poisson(0.5, (40, 25)).astype(np.uint8)
    new, y = rng.poisson(0.5, (6, 25)).astype(np.uint8), rng.normal(size=40)
    process = GaussianProcess().fit(counts, y)
    kernel = Reference(counts).similarity(counts).astype(float)
    cross = Reference(counts).similarity(new).astype(float)
    best = None
    for noise in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0):
        inverse = np.linalg.inv(kernel + noise * np.eye(40))
        centred = y - y.mean()
        signal = centred @ inverse @ centred / 40
        covariance = signal * (kernel + noise * np.eye(40))
        likelihood = -0.5 * (
            np.linalg.slogdet(covariance)[1] + centred @ np.linalg.inv(covariance) @ centred
        )
        if best is None or likelihood > best[0]:
            mean = y.mean() + cross @ inverse @ centred
            variance = signal * (1 + noise - np.einsum("ij,jk,ik->i", cross, inverse, cross))
            best = likelihood, mean, variance
    mean, deviation = process.predict(new)
    assert mean == pytest.approx(best[1], abs=1e-6)
    assert deviation**2 == pytest.approx(best[2], abs=1e-5)


def test_no_group_is_split_and_folds_are_even():
    groups = [f"g{i % 17}" for i in range(200)]
    fold = folds_of(groups)
    assert all(
        len({k for k, g in zip(fold, groups, strict=True) if g == name}) == 1
        for name in set(groups)
    )
    assert np.bincount(fold).min() >= 30


def test_sequences_that_are_alike_are_of_one_cluster():
    texts = ["ACDEFGHIKLMN", "ACDEFGHIKLMW", "WYWYWYWYWY"]
    first, second, third = groups_of(Inputs("protein", texts))
    assert first == second != third


def test_scaffolds_are_groups():
    texts = ["c1ccccc1C", "c1ccccc1CC", "C1CCCCC1N", "CCO"]
    assert groups_of(Inputs("molecules", texts)) == ["c1ccccc1", "c1ccccc1", "C1CCCCC1", "no ring"]


def test_what_is_expected_beyond_a_limit_is_the_mean_of_a_cut_normal():
    rng = np.random.default_rng(0)
    mean, limit = np.array([1.0, 1.0, 0.0, -9.0]), np.array([0.5, 0.5, 2.0, 0.0])
    side = np.array([-1, 1, 1, 1], dtype=np.int8)
    found = expected_beyond(mean, 0.7, limit, side)
    for m, c, s, x in zip(mean[:3], limit[:3], side[:3], found[:3], strict=True):
        draws = m + 0.7 * rng.normal(size=400_000)
        assert x == pytest.approx(draws[s * draws > s * c].mean(), abs=0.02)
    z = 9 / 0.7  # so far away that both vanish in single numbers
    assert found[3] == pytest.approx(-9 + 0.7 * norm.pdf(z) / norm.sf(z), abs=0.01)


def test_limits_are_learned_from_as_limits(tmp_path):
    """Above 1 only that is known: predictions there are nearer the truth than the limit itself."""
    truth = data_of(read_measurements(table(tmp_path, 300, noise=0.1)))
    cut = data_of(read_measurements(table(tmp_path, 300, noise=0.1, limit=1, name="cut.csv")))
    beyond = cut.limits > 0
    assert beyond.sum() > 50
    off = {}
    for name, limits in (("as limits", cut.limits), ("as numbers", np.zeros_like(cut.limits))):
        model = MODELS["Gaussian process"]()
        fit_with_limits(model, cut.inputs, cut.values, limits)
        new = Inputs("protein", sequences(300, seed=9))
        expected = np.array([charge(text) for text in new.texts])
        high = expected > 1
        off[name] = np.abs(model.predict(new).mean[high] - expected[high]).mean()
    assert off["as limits"] < 0.8 * off["as numbers"]
    assert len(truth.values) == len(cut.values)


def test_errors_of_limits_count_on_the_wrong_side_alone():
    found = errors(np.array([4.0, 6.0, 4.0, 6.0]), np.full(4, 5.0), np.array([-1, -1, 1, 1]))
    assert found.tolist() == [0.0, 1.0, -1.0, 0.0]


def test_intervals_hold_as_many_as_they_say():
    """Errors whose size follows the spread: 2,000 new ones, of which 80 % are to be inside.

    By chance fewer than 77 or more than 83 of 100 are in one of 1,000 runs.
    """
    rng = np.random.default_rng(0)
    spread = rng.uniform(0.2, 2.0, 4000)
    error = spread * rng.standard_t(4, 4000)
    near = rng.uniform(size=4000)
    made = Calibration.of(spread[:2000], error[:2000], near[:2000])
    inside = np.abs(error[2000:]) <= made.half_width(spread[2000:])
    assert 0.77 < inside.mean() < 0.83
    wide = spread[2000:] > 1.1
    assert abs(inside[wide].mean() - inside[~wide].mean()) < 0.06  # at either end of the spread
    share = coverage(spread, error, near, np.arange(4000) % 5)
    assert 0.77 < share < 0.83


def test_the_simplest_model_that_is_not_clearly_worse_is_taken():
    def result(of_folds):
        error = np.repeat(np.sqrt(of_folds), 10)
        return HeldOut(
            Guess(error, error), error, np.repeat(np.arange(5), 10), np.ones(50, dtype=bool)
        )

    good, alike, bad = [1.0, 1.1, 0.9, 1.0, 1.0], [1.0, 1.0, 1.2, 0.9, 1.0], [2.0] * 5
    assert simplest({"mean": result(bad), "a": result(alike), "b": result(good)}) == "a"
    assert simplest({"mean": result(good), "a": result(good)}) == "mean"


def test_a_proxy_learns_what_there_is_to_learn(peptides):
    fitted, _, _ = peptides
    figures = fitted.proxy.about.figures
    assert fitted.proxy.about.model == "Gaussian process"
    assert figures["r2"] > 0.6
    assert 0.7 < figures["coverage"] < 0.9
    texts = sequences(200, seed=5)
    found = fitted.proxy.predict(texts)
    truth = np.array([charge(text) for text in texts])
    assert np.corrcoef(found.mean, truth)[0, 1] > 0.8
    assert ((found.low <= truth) & (truth <= found.high)).mean() > 0.7
    assert (found.low < found.mean).all()
    assert (found.similarity <= 1).all()


def test_a_measured_object_is_its_own_nearest(peptides):
    proxy = peptides[0].proxy
    found = proxy.predict(proxy.about.texts[:20])
    assert found.nearest.tolist() == [*range(20)]
    assert found.similarity == pytest.approx(1.0)


def test_no_model_beats_the_mean_of_noise(tmp_path):
    path = tmp_path / "noise.csv"
    rng = np.random.default_rng(0)
    rows = [f"{text},{rng.normal():.4f}" for text in sequences(80)]
    path.write_text("\n".join(["sequence,activity", *rows]))
    measured = read_measurements(path)
    with pytest.raises(InputError, match="no model predicts activity"):
        fit_proxy(measured, path, models=QUICK)
    anyway = fit_proxy(measured, path, models=QUICK, anyway=True)
    assert anyway.proxy.about.model != "mean"


def test_too_little_is_refused(tmp_path):
    path = table(tmp_path, 12)
    with pytest.raises(InputError, match="too few to test a model on"):
        fit_proxy(read_measurements(path), path, models=QUICK)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_the_same_after_saving(name, tmp_path):
    data = data_of(read_measurements(table(tmp_path, 60)))
    model, again = MODELS[name](), MODELS[name]()
    model.fit(data.inputs, data.values)
    again.load(model.state())
    some = data.inputs.take(np.arange(20))
    for one, other in zip(model.predict(some), again.predict(some), strict=True):
        assert one == pytest.approx(other, abs=1e-6)
        assert np.isfinite(one).all()


def test_a_saved_proxy_predicts_the_same_and_is_no_pickle(peptides):
    fitted, path, _ = peptides
    texts = sequences(30, seed=3)
    again = load_proxy(path)
    for one, other in zip(fitted.proxy.predict(texts), again.predict(texts), strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    assert again.second_opinion(texts) == pytest.approx(fitted.proxy.second_opinion(texts))
    size = struct.unpack("<Q", path.read_bytes()[:8])[0]
    assert size < 1e6  # of the header, JSON
    assert again.about == fitted.proxy.about


def test_a_torn_or_foreign_file_is_refused(peptides, tmp_path):
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(peptides[1].read_bytes()[:-1000])
    with pytest.raises(InputError, match="is no proxy, or is torn"):
        load_proxy(torn)
    with pytest.raises(InputError, match="no such file"):
        load_proxy(tmp_path / "none")
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(2)}, tmp_path / "other")
    with pytest.raises(InputError, match="is no proxy"):
        load_proxy(tmp_path / "other")


class Strange:
    """Not of scikit-learn."""

    def predict(self, rows):
        return np.zeros(len(rows))


def test_estimators_of_others_are_not_read(tmp_path):
    import skops.io

    model = MODELS["random forest"]()
    data = data_of(read_measurements(table(tmp_path, 60)))
    model.fit(data.inputs, data.values)
    state = model.state()
    state["estimator"] = np.frombuffer(skops.io.dumps(Strange()), dtype=np.uint8)
    with pytest.raises(InputError, match="only models of it are read"):
        MODELS["random forest"]().load(state)


# Rewards


def test_a_proxy_is_a_term_with_its_domain(peptides):
    fitted, path, _ = peptides
    data = SequenceData([SequenceTerm(proxy=str(path), want=">= 2")])
    assert data.titles == ["activity_low", "activity_similarity"]
    environment = Sequence("protein", 12, "append", 8)
    texts = sequences(20, seed=2, low=8, high=12)
    model = model_of(environment, TrajectoryBalance(), MLP, draw_seed=0).use(data)
    found = fitted.proxy.predict(texts)
    low = 2 ** -(((2 - found.low).clip(min=0) / 0.5) ** 2)
    edge = fitted.proxy.edge
    inside = 2 ** -((((float(f"{edge:.3g}")) - found.similarity).clip(min=0) / (edge / 4)) ** 2)
    expected = np.sqrt(low.clip(1e-3) * inside.clip(1e-3))
    score, _ = model.score_objects(environment.encode(texts))
    assert score.numpy() == pytest.approx(expected, rel=0.02)
    columns = data.columns(environment, texts)
    assert [float(x) for x in columns["activity_low"]] == pytest.approx(found.low, rel=1e-3)
    assert columns["activity_nearest"][0] == fitted.proxy.about.names[found.nearest[0]]
    measured = data.measure(
        environment, environment.encode(texts), torch.full((20,), 0.05, dtype=torch.float64), None
    )
    assert measured["activity"] == pytest.approx(found.mean.mean(), abs=0.02)
    assert measured["activity_in_domain"] == pytest.approx(
        (found.similarity >= edge).mean(), abs=0.02
    )


def test_two_proxies_of_one_quantity_are_told_apart(peptides, tmp_path):
    other = tmp_path / "off_proxy" / "proxy.safetensors"
    other.parent.mkdir()
    other.write_bytes(peptides[1].read_bytes())
    terms = [
        SequenceTerm(proxy=str(peptides[1]), want=">= 2"),
        SequenceTerm(proxy=str(other), want="<= 1"),
    ]
    data = SequenceData(terms)
    first, second = data.predictors
    assert (first.sign, second.sign) == (1, -1)
    assert second.name == "activity_off"
    assert len(set(data.titles)) == 4
    columns = data.columns(Sequence("protein", 12, "append", 8), sequences(3, low=8, high=12))
    assert {first.name, f"{first.name}_second", "activity_off", "activity_off_second"} <= set(
        columns
    )
    given = SequenceData([terms[0], SequenceTerm(proxy=str(other), want="1..3", name="anti")])
    assert given.predictors[1].name == "activity_anti"
    assert given.predictors[1].sign == 0
    assert "anti" in given.titles


def test_a_proxy_that_was_changed_after_training_is_refused(peptides, tmp_path, capsys):
    path = tmp_path / "proxy.safetensors"
    path.write_bytes(peptides[1].read_bytes())
    config = tmp_path / "c.yaml"
    config.write_text(SHORT.format(proxy=path))
    assert main(["fit", "--config", str(config), "--output", str(tmp_path / "run")]) == 0
    assert main(["sample", str(tmp_path / "run"), "-n", "5", "--output", str(tmp_path / "s")]) == 0
    proxy = load_proxy(path)
    proxy.about = proxy.about._replace(source="another")
    proxy.save(path)
    capsys.readouterr()
    assert main(["sample", str(tmp_path / "run"), "-n", "5", "--output", str(tmp_path / "t")]) == 2
    assert "is not the proxy that this run learned by" in capsys.readouterr().err
    longer = ["--trainer.max_steps", "40"]
    assert main(["fit", "--config", str(config), "--output", str(tmp_path / "run"), *longer]) == 2
    assert "is not the proxy that this run learned by" in capsys.readouterr().err
    again = ["finetune", str(tmp_path / "run"), "--config", str(config)]
    assert main([*again, "--output", str(tmp_path / "tuned")]) == 0


def test_peptides_without_some_residues_may_be_asked(peptides):
    term = SequenceTerm(proxy=str(peptides[1]), want=">= 1")
    some = Sequence("ADEFGHIKLMNPQRSTVWY", 12)  # no cysteine
    assert SequenceData([term]).make_reward(some) is not None


def test_a_proxy_alone_has_no_domain_if_that_is_said(peptides):
    term = SequenceTerm(proxy=str(peptides[1]), use="mean", domain=False, want=">= 2")
    assert SequenceData([term]).titles == ["activity"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: SequenceTerm(factor="FOXA1", use="mean"), "goes with proxy"),
        (lambda path: Term(property="QED", domain=False), "go with a proxy"),
        (lambda path: MoleculeData([Term(proxy="no", want=">= 1")]), "no such file"),
        (lambda path: SequenceData([SequenceTerm(proxy=path, use="x")]), "use must be one of"),
    ],
)
def test_terms_that_cannot_be_are_refused(peptides, make, said):
    with pytest.raises(InputError, match=said):
        make(str(peptides[1]))


def test_a_proxy_of_other_objects_is_refused(peptides):
    path = str(peptides[1])
    with pytest.raises(InputError, match="is a proxy of protein"):
        SequenceData([SequenceTerm(proxy=path, want=">= 1")]).make_reward(Sequence("DNA", 12))
    with pytest.raises(InputError, match="is a proxy of protein"):
        MoleculeData([Term(proxy=path, want=">= 1")]).make_reward(Fragments("druglike", 3))


# The guard


def test_models_that_go_together_do_not_part():
    up = [Point(100 * i, 5 + 0.3 * i, 4.5 + 0.2 * i) for i in range(10)]
    assert all(parted(up[: i + 1], 0.8) is None for i in range(10))


def test_models_part_when_one_draws_away_or_the_other_falls():
    away = [Point(0, 5.0, 4.5), Point(100, 7.5, 5.0)]
    assert "in the beginning" in (parted(away, 0.8) or "")
    falls = [Point(0, 5.0, 4.5), Point(100, 6.0, 5.5), Point(200, 6.3, 5.0)]
    assert "while its second opinion went from 5.50 to 5.00" in (parted(falls, 0.8) or "")
    assert parted(falls, 2.0) is None


def test_models_part_to_where_it_is_better():
    gamed = [Point(0, 7.0, 7.0), Point(100, 3.0, 7.0)]
    honest = [Point(0, 7.0, 7.0), Point(100, 6.0, 5.0)]
    assert parted(gamed, 0.5, -1) is not None
    assert parted(gamed, 0.5, 1) is None
    assert parted(honest, 0.5, -1) is None
    falls = [Point(0, 5.0, 4.5), Point(100, 4.0, 3.5), Point(200, 3.7, 4.1)]
    assert "the proxy went on from 4.00 to 3.70" in (parted(falls, 0.8, -1) or "")
    assert parted(gamed, 0.5, 0) is not None
    assert parted([Point(0, 7.0, 3.0), Point(100, 5.0, 5.0)], 0.5, 0) is None  # they come together


def loophole(path, folder):
    """A copy of a proxy whose first model was made to love tryptophan, which nobody measured."""
    proxy = load_proxy(path)
    process = proxy.model.process
    planted = Inputs("protein", ["WWWWWWWWWW"]).counts
    process.reference = Reference(np.concatenate([process.reference.counts, planted]))
    process.weights = np.append(process.weights, 40.0)
    lower = np.eye(len(process.weights)) * 1e6
    lower[:-1, :-1] = process.lower
    process.lower = lower
    proxy.save(folder / "loophole.safetensors")
    return folder / "loophole.safetensors"


@pytest.mark.slow
@pytest.mark.parametrize("guards", ["all", "second opinion", "none"])
def test_a_planted_loophole_is_caught_and_exploited_without_guards(
    peptides, tmp_path, guards, capsys
):
    """Many tryptophans raise the first model, and mean nothing; the truth is the charge."""
    path = loophole(peptides[1], tmp_path)
    term = {"proxy": str(path), "want": "maximise 0..12"}
    if guards != "all":
        term |= {"use": "mean", "domain": "false"}
    shown = ", ".join(f"{k}: {v}" for k, v in term.items())
    config = tmp_path / "c.yaml"
    config.write_text(
        f"""
seed: 0
evaluate_every: 5
candidates: 200
guard: {"false" if guards == "none" else "true"}
model:
  environment: {{class_path: Sequence, init_args: {{alphabet: protein, length: 10, order: append}}}}
  objective: TrajectoryBalance
  networks: {{network: {{class_path: MLP, init_args: {{width: 64, depth: 1}}}}}}
  batches: {{size: 64}}
  optimiser: {{lr: 5e-3}}
data:
  class_path: SequenceData
  init_args: {{terms: [{{{shown.replace("maximise 0..12", "'maximise 0..12'")}}}], exponent: 16}}
trainer: {{max_steps: 300, accelerator: cpu, enable_progress_bar: false}}
"""
    )
    run = tmp_path / "run"
    assert main(["fit", "--config", str(config), "--output", str(run)]) == 0
    said = capsys.readouterr().out
    with (run / "candidates.csv").open() as file:
        designs = [row["sequence"] for row in csv.DictReader(file)]
    tryptophans = sum(text.count("W") for text in designs) / len(designs)
    stopped = "stopped, since" in said
    assert stopped == (guards != "none")
    if guards == "none":
        assert tryptophans > 3
    else:
        assert tryptophans < 2
    assert not (run / "checkpoints" / "good.ckpt").exists()
    if guards == "second opinion":  # and again, when it goes on
        kept = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
        assert main(["fit", "--config", str(config), "--output", str(run)]) == 0
        assert "stopped, since" in capsys.readouterr().out
        again = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
        assert kept <= again < kept + 10
        assert not (run / "checkpoints" / "good.ckpt").exists()


# The commands


def test_the_walk_from_a_table_to_designs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table(tmp_path, 120)
    assert main(["data", "peptides.csv"]) == 0
    assert "Can a model learn this?" in capsys.readouterr().out
    assert main(["proxy", "peptides_clean.csv"]) == 0
    said = capsys.readouterr().out
    assert "taken: " in said
    assert "80 % intervals" in said
    with Path("peptides_proxy", "held_out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 120
    inside = [
        float(row["low"]) <= float(row["measured activity"]) <= float(row["high"]) for row in rows
    ]
    assert 0.7 < sum(inside) / len(inside) < 0.9
    assert Path("peptides_proxy", "held_out.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "asked", "least"),
    [
        ("seh_chembl/seh_chembl_ic50.csv.gz", Columns(value="pic50_median"), 0.6),
        ("amp/amp_mic_witten2019.csv.gz", Columns(value="E_coli"), 0.3),
    ],
)
def test_real_measurements_are_predicted(file, asked, least):
    """Of sEH inhibitors and antimicrobial peptides, on groups that the model has not seen."""
    path = data_at(file)
    data = data_of(read_measurements(path, asked))
    found = held_out(MODELS["Gaussian process"], data)
    assert found.r2(data.values) > least
    spread, error = found.guess.spread, found.error
    near = np.ones(len(error))
    assert 0.75 < coverage(spread, error, near, found.fold) < 0.85


def test_a_table_of_one_measurement_each_is_data(tmp_path):
    rows = [Measurement(t, t, float(charge(t))) for t in sequences(30)]
    data = data_of(Measured("protein", "charge", rows, [], [], 30))
    assert isinstance(data, Data)
    assert math.isclose(data.values[0], charge(rows[0].text))


def test_an_ensemble_of_ones_own_predicts_as_it_does(tmp_path):
    from sklearn.ensemble import VotingRegressor
    from sklearn.linear_model import Ridge
    from sklearn.tree import DecisionTreeRegressor

    data = data_of(read_measurements(table(tmp_path, 80)))
    both = [("ridge", Ridge()), ("tree", DecisionTreeRegressor(max_depth=2))]
    model = own("voting", lambda: VotingRegressor(both, weights=[1, 0]))()
    model.fit(data.inputs, data.values)
    ridge = own("ridge", Ridge)()
    ridge.fit(data.inputs, data.values)
    assert model.predict(data.inputs).mean == pytest.approx(ridge.predict(data.inputs).mean)


def test_a_regressor_of_ones_own_takes_part(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table(tmp_path, 150, noise=0.05)
    Path("mine.py").write_text(
        "from sklearn.linear_model import Ridge\n\n\n"
        "def ridge():\n    return Ridge(alpha=1.0)\n\n\ndef nothing():\n    return 3\n"
    )
    assert main(["proxy", "peptides.csv", "--model", "mine.py:ridge"]) == 0
    said = capsys.readouterr().out
    assert "ridge " in said
    assert "taken: ridge" in said  # a charge is a sum over letters
    proxy = load_proxy(Path("peptides_proxy", "proxy.safetensors"))
    found = proxy.predict(["KKKKKKKK", "DDDDDDDD"])
    assert found.mean[0] > 3 > -3 > found.mean[1]
    assert main(["proxy", "peptides.csv", "--model", "mine.py:ridge"]) == 2
    assert "holds a proxy already" in capsys.readouterr().err
    assert main(["proxy", "peptides.csv", "--model", "mine.py:nothing", "--overwrite"]) == 2
    assert "must return a regressor with fit and predict" in capsys.readouterr().err
