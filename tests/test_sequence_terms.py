"""What can be read of sequences: mutants, functions, programs, means, bits and p-values."""

import itertools
import math
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from common import model_of

from gfn_design import (
    MLP,
    Edits,
    InputError,
    Sequence,
    SequenceData,
    SequenceTerm,
    Template,
    TrajectoryBalance,
)
from gfn_design.environments.sequences.letters import Letters
from gfn_design.environments.sequences.words import TooManyStatesError
from gfn_design.evaluation.exact import target_distribution
from gfn_design.evaluation.transfer import TransferTarget
from gfn_design.rewards.jaspar import Motif, motif_of
from gfn_design.rewards.motif_window import UNITS, MotifWindow
from gfn_design.rewards.mutant_tables import read_mutants
from gfn_design.rewards.mutants import UNIT, MutantValue, fit_mutants
from gfn_design.runs.feasible import of_parts

WILD = "ACDEFGHIKL"
LETTERS = "ACDEFGHIKLMNPQRSTVWY"
PROTEIN = Letters(tuple(LETTERS))


def written(changes):
    """As tables write changes, by place and letter."""
    parts = [f"{WILD[place]}{place + 1}{LETTERS[letter]}" for place, letter in sorted(changes)]
    return ":".join(parts) or "WT"


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A thousand mutants whose truth is known: effects of letters A to L that add up, bent."""
    rng = np.random.default_rng(0)
    effects = rng.normal(-0.5, 1.0, (10, 20))
    rows = []
    for _ in range(1000):
        places = rng.choice(9, rng.integers(0, 5), replace=False)  # never the last
        changes = [(int(p), int(rng.choice([x for x in range(10) if x != p]))) for p in places]
        latent = 2.0 + sum(effects[change] for change in changes)
        value = 1.0 + 3.0 / (1 + math.exp(-latent))
        rows.append((changes, value + rng.normal(0, 0.02)))
    path = tmp_path_factory.mktemp("mutants") / "own.csv"
    lines = [f"{written(changes)},{value:.5f}" for changes, value in rows]
    path.write_text("\n".join(["mutant,shines", *lines, "A1*,1.0", "A1del,1.2"]))
    return path, effects


def test_effects_are_found_again(measured):
    path, effects = measured
    mutants = read_mutants(path, WILD, PROTEIN, 1, None)
    assert (len(mutants.values), mutants.aside) == (1000, 2)
    wild = torch.tensor([LETTERS.index(x) for x in WILD])
    model = fit_mutants(mutants, wild, 20)
    assert model.explained > 0.97
    assert (model.low, model.high) == pytest.approx((1.0, 4.0), abs=0.2)
    some = model.seen[:9, :10]
    assert some.sum() == 81
    found, true = model.effects[:9, :10][some].numpy(), torch.from_numpy(effects)[:9, :10][some]
    assert np.corrcoef(found, true)[0, 1] > 0.98
    # What was never measured: the mean at its place, and where nothing was, the mean of all.
    mean = model.effects[0][model.seen[0]].mean()
    assert torch.allclose(model.effects[0][10:], mean)
    assert torch.allclose(model.effects[9][:9], model.effects[model.seen].mean())
    assert float(model.effects[9][wild[9]]) == 0
    value = MutantValue(model)
    changed = wild.clone()
    changed[2], changed[5] = 0, 3
    latent = model.start + sum(
        round(float(model.effects[x]) / UNIT) * UNIT for x in ((2, 0), (5, 3))
    )
    wanted = model.low + (model.high - model.low) / (1 + math.exp(-latent))
    assert float(value(changed[None])) == pytest.approx(wanted, abs=1e-9)


def test_mutants_are_read_as_people_write_them(tmp_path):
    path = tmp_path / "own.tsv"
    path.write_text("sequence\ty\nACDEFGHIKL\t1\nACDEFGHIKV\t2\nWT\t3\nC0A D1C\t4\nSC0A/SD1C\t5\n")
    mutants = read_mutants(path, WILD, PROTEIN, -1, None)
    assert mutants.values.tolist() == [1, 2, 3, 4, 5]
    assert mutants.places.tolist() == [[-1, -1], [9, -1], [-1, -1], [1, 2], [1, 2]]
    assert mutants.letters[3].tolist() == [0, 1]
    for text, said in (
        ("A108D,1", "row 1: 'A108D' is of another wild type, which has nothing there"),
        ("C1A,1", "which has A there, if the first letter has the number 1"),
        ("A1C,much", "row 1: 'much' is not a finite number"),
        ("A1C:A1D,1", "row 1: 'A1C:A1D' changes one place twice"),
    ):
        (tmp_path / "bad.csv").write_text(f"mutations,y\n{text}\n")
        with pytest.raises(InputError, match=said):
            read_mutants(tmp_path / "bad.csv", WILD, PROTEIN, 1, None)
    (tmp_path / "few.csv").write_text("mutations,y\nA1C,1\n")
    with pytest.raises(InputError, match=r"few\.csv: 1 mutants are too few"):
        SequenceData([SequenceTerm(mutants=str(tmp_path / "few.csv"))]).make_reward(Edits(WILD, 2))


def test_small_letters_rna_and_synonyms_are_read(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("mutations,y\na1c d3k,1\nA1A,2\nA1A:C2D,3\n")
    mutants = read_mutants(path, WILD, PROTEIN, 1, None)
    assert mutants.places.tolist() == [[0, 2], [-1, -1], [1, -1]]
    path.write_text("mutations,y\nA1T,1\nt2a,2\n")
    mutants = read_mutants(path, "AUGC", Letters(tuple("ACGU")), 1, None)
    assert mutants.places.tolist() == [[0], [1]]
    assert mutants.letters.tolist() == [[3], [0]]


def test_an_empty_cell_of_sequences_is_no_wild_type(tmp_path):
    table = {"sequence": [WILD, None, WILD[:-1] + "V"], "y": [1.0, 2.0, 3.0]}
    pq.write_table(pa.table(table), tmp_path / "own.parquet")
    mutants = read_mutants(tmp_path / "own.parquet", WILD, PROTEIN, 1, None)
    assert mutants.values.tolist() == [1.0, 3.0]
    assert mutants.aside == 1


def test_mutants_have_an_exact_target(measured):
    """log Z, sizes and rewards of samples equal those of all 2,500 that are near."""
    environment = Edits(WILD, 3, letters="ACDEF", positions="1-7", at_least=1)
    data = SequenceData([SequenceTerm(mutants=str(measured[0]), want=">= 3.5 within 0.5")], 3.0)
    reward, texts = data.make_reward(environment), []
    for places in itertools.chain(*(itertools.combinations(range(7), n) for n in (1, 2, 3))):
        others = [[x for x in "ACDEF" if x != WILD[place]] for place in places]
        for letters in itertools.product(*others):
            text = [*WILD]
            for place, letter in zip(places, letters, strict=True):
                text[place] = letter
            texts.append("".join(text))
    target = TransferTarget(data.automaton(environment))
    log_z = reward(environment.encode(texts)).double().logsumexp(0)
    assert target.log_z == pytest.approx(float(log_z), abs=1e-10)
    assert target.log_size == pytest.approx(math.log(len(texts)), abs=1e-10)
    letters, log_reward = target.sample(500, np.random.default_rng(0))
    objects = environment.states_of(torch.from_numpy(letters))
    assert np.array_equal(reward(objects).double().numpy(), log_reward)
    remark, _ = data.remarks()
    assert "fitted to 1,000 mutants (2 rows are no substitutions); explains 100 % of" in remark
    with pytest.raises(InputError, match="mutants are of a wild type; take the environment Edits"):
        data.make_reward(Sequence("protein", 10))


def test_a_model_that_predicts_nothing_is_refused(tmp_path):
    """Sixty mutants whose numbers are chance; of 60 whose numbers are not there is one."""
    rng = np.random.default_rng(0)
    for works in (False, True):
        lines = ["mutations,y"]
        for _ in range(60):
            places = rng.choice(10, rng.integers(1, 4), replace=False)
            changes = [(int(p), int(rng.choice([x for x in range(3) if x != p]))) for p in places]
            value = -len(changes) if works else 0.0
            lines.append(f"{written(changes)},{value + rng.normal(0, 0.2):.4f}")
        path = tmp_path / f"{works}.csv"
        path.write_text("\n".join(lines))
        data = SequenceData([SequenceTerm(mutants=str(path), want="maximise -4..0")])
        if works:
            data.make_reward(Edits(WILD, 2))
            assert float(data.remarks()[0].split("explains ")[1].split(" %")[0]) > 20
        else:
            with pytest.raises(
                InputError, match=r"False\.csv: a model of 60 mutants predicts those"
            ):
                data.make_reward(Edits(WILD, 2))


def test_what_is_only_to_be_more_is_not_refused(tmp_path, measured):
    """No mutant reaches 9, and the best there are may be learned all the same."""
    data = SequenceData([SequenceTerm(mutants=str(measured[0]), want="maximise 1..3.99")])
    environment = Edits(WILD, 1, positions="9-10", letters="WY")
    target = TransferTarget(data.automaton(environment))
    assert not target.share_of_objects(target.automaton.all_hit)
    target.check()
    assert "as wanted by all: none, for the best" in "\n".join(of_parts(environment, data))
    bound = SequenceData([SequenceTerm(mutants=str(measured[0]), want=">= 3.99 within 1")])
    with pytest.raises(InputError, match="no sequence of 10 letters is as wanted"):
        TransferTarget(bound.automaton(environment)).check()


def test_the_script_makes_a_table_of_the_public_list(tmp_path):
    path = Path(__file__).parents[1] / "datasets" / "gfp" / "prepare.py"
    spec = spec_from_file_location("prepare_gfp", path)
    assert spec is not None
    prepare = module_from_spec(spec)
    spec.loader.exec_module(prepare)
    text = tmp_path / "list.tsv"
    header = "aaMutations\tuniqueBarcodes\tmedianBrightness\tstd"
    text.write_text(f"{header}\n\t3645\t3.7192\t0.107\nSA108D:SN144D\t1\t1.3\t\n")
    prepare.prepare(text, tmp_path / "own.parquet")
    table = pq.read_table(tmp_path / "own.parquet").to_pydict()
    assert table["mutations"] == ["", "A108D:N144D"]
    assert table["brightness"] == pytest.approx([3.7192, 1.3])
    text.write_text("aaMutations\tbrightness\nSA1C\t1\n")
    with pytest.raises(InputError, match="has no column uniqueBarcodes"):
        prepare.prepare(text, tmp_path / "own.parquet")


def greasy(texts):
    """The share of leucines and alanines."""
    return [sum(x in "LA" for x in text) / len(text) for text in texts]


PROGRAM = """\
import sys
for line in sys.stdin:
    print(line.strip().count("K"), flush=True)
"""


def test_functions_and_programs_are_terms_as_others(tmp_path):
    (tmp_path / "count.py").write_text(PROGRAM)
    terms = [
        SequenceTerm(function=greasy, want=">= 0.5 within 0.2"),
        SequenceTerm(command=f"{sys.executable} {tmp_path / 'count.py'}", want="2..3", name="K"),
        SequenceTerm(property="length", want="<= 5 within 1"),
    ]
    data, environment = SequenceData(terms, exponent=2.0), Sequence("protein", 6, "append", 4)
    texts = ["LLAKK", "LLLL", "LKLKLK", "WWWW"]
    columns = data.columns(environment, texts)
    assert [*columns] == ["greasy", "K", "length", "as_wanted"]
    assert columns["greasy"] == ["0.6", "1", "0.5", "0"]
    assert columns["K"] == ["2", "0", "3", "0"]
    assert columns["as_wanted"] == ["yes", "no", "no", "no"]
    found = data.make_reward(environment)(environment.encode(texts)).exp().double().tolist()
    off = 2.0 ** -((2 / 0.25 / 2) ** 2)  # of no K: two below 2..3, of which a quarter counts half
    far = 2.0 ** -((0.5 / 0.2) ** 2)
    wanted = [1.0, max(2.0**-64, 1e-3), 0.5, far * 1e-3]
    assert off < 1e-3
    assert found == pytest.approx([x ** (2 / 3) for x in wanted], rel=1e-5)
    assert data.automaton(environment) is None
    assert data.counts() == {"scored": 4.0, "failed": 0.0}
    data.teardown("fit")


def test_options_belong_to_kinds():
    for make, said in (
        (lambda: SequenceTerm(factor="FOXA1", score="x"), "'score' goes with table or mutants"),
        (lambda: SequenceTerm(table="a", units="p"), "'units' goes with factor, not with a"),
        (lambda: SequenceTerm(property="GC", of="mean"), "'of' goes with table or factor, not"),
        (lambda: SequenceTerm(table="a", first=3), "'first' goes with mutants"),
        (lambda: SequenceTerm(factor="a", units="nats"), "units must be one of relative, bits, p"),
        (
            lambda: SequenceData([SequenceTerm(function=greasy, name="score")]),
            "'score' is a column of candidates.csv already",
        ),
        (lambda: SequenceTerm(table="a", function=greasy), "needs one of table, factor,"),
        (
            lambda: SequenceData([SequenceTerm(mutants="none.csv")]).prepare_data(),
            r"none\.csv: no such file, and no data set of that name \(gfp\)",
        ),
    ):
        with pytest.raises(InputError, match=said):
            make()


@pytest.mark.parametrize("both", [False, True])
def test_bits_and_p_values_are_those_of_all_words(both):
    rng = np.random.default_rng(3)
    motif = Motif("X", "test", rng.integers(0, 30, (4, 4)).astype(float))
    odds = np.log2((motif.counts + 1) / (motif.counts + 1).sum(0) / 0.25)
    words = torch.tensor([*itertools.product(range(4), repeat=4)])
    bits = np.array([sum(odds[x, i] for i, x in enumerate(word)) for word in words.tolist()])
    found = MotifWindow(motif, False, "bits")
    assert found.of_words(words).numpy() == pytest.approx(bits, abs=1e-9)
    assert (found.lowest, found.highest) == pytest.approx((bits.min(), bits.max()))
    share = np.array([(bits >= x - 1e-9).mean() for x in bits])
    p = MotifWindow(motif, False, "p")
    # Words of nearly one value may fall into one bin.
    assert p.of_words(words).numpy() == pytest.approx(-np.log10(share), abs=0.05)
    assert p.highest == pytest.approx(math.log10(256), abs=1e-6)
    for units, least in (("bits", 1.0), ("p", 1.2), ("relative", 0.6)):
        window = MotifWindow(motif, both, units)
        some, values = window.words_from(least)
        every = window.of_windows(words)
        assert {*map(tuple, some.tolist())} == {*map(tuple, words[every >= least].tolist())}
        assert np.allclose(values, window.of_windows(torch.from_numpy(some)).numpy())


@pytest.mark.parametrize("units", ["bits", "p"])
def test_other_units_are_followed_exactly(tmp_path, units):
    counts = np.random.default_rng(1).integers(0, 30, (4, 4))
    matrix = "\n".join(" ".join(map(str, row)) for row in counts)
    (tmp_path / "own.pfm").write_text(f">M1 OWN\n{matrix}\n")
    want = {"bits": ">= 1 within 2", "p": ">= 2 within 1"}[units]
    data = SequenceData([SequenceTerm(factor=str(tmp_path / "own.pfm"), units=units, want=want)])
    environment = Sequence("DNA", 6, "append")
    reward = data.make_reward(environment)
    listed = target_distribution(environment, lambda objects: reward(objects).double())
    assert TransferTarget(data.automaton(environment)).log_z == pytest.approx(
        listed.log_z, abs=1e-10
    )


@pytest.mark.parametrize("factor", ["SIX6", "KLF4", "E2F1", "TP53", "JUN", "HNF4A", "FOXA1", "MAX"])
def test_the_best_word_has_the_best_value(factor):
    """What asks for all of a motif can be met, in every unit."""
    motif = motif_of(factor)
    best = torch.from_numpy(motif.counts.argmax(0))
    for units in UNITS:
        window = MotifWindow(motif, False, units)
        assert float(window.of_words(best)) == window.highest
        worst = torch.from_numpy(window.odds.numpy().argmin(1))
        assert float(window.of_words(worst)) == pytest.approx(window.lowest, abs=1e-9)
    data = SequenceData([SequenceTerm(factor=factor, want=">= 1 within 0.01")])
    environment = Sequence("DNA", len(best) + 1, "append")
    assert TransferTarget(data.automaton(environment)).share_of_objects(
        data.automaton(environment).all_hit
    )


def test_too_many_words_are_done_without(caplog):
    """Neither `fit` nor `feasible` ends there."""
    data = SequenceData([SequenceTerm(factor="CTCF", want="maximise 0.5..1")])
    environment = Sequence("DNA", 40, "append")
    with pytest.raises(TooManyStatesError, match="more than 300,000 words"):
        data.automaton(environment)
    model = model_of(environment, TrajectoryBalance(), MLP, draw_seed=0).use(data)
    with caplog.at_level("WARNING"):
        assert "D_TV" not in model.evaluate().metrics
    assert "the exact target is not known: more than 300,000 words" in caplog.text
    lines = "\n".join(of_parts(environment, data))
    assert lines.startswith("what is exact is not known: more than 300,000 words")
    assert "by 2,000 built at random" in lines


def test_the_mean_window_is_the_mean_of_windows(tmp_path):
    words = ["".join(x) for x in itertools.product("ACGT", repeat=2)]
    scores = dict(zip(words, np.random.default_rng(0).normal(size=16).round(4), strict=True))
    path = tmp_path / "own.csv"
    path.write_text("kmer,score\n" + "\n".join(f"{w},{x}" for w, x in scores.items()))
    term = SequenceTerm(table=str(path), of="mean", strands="given", want="maximise 0..1")
    data, environment = SequenceData([term]), Sequence("DNA", 6, "append", 3)
    texts = ["ACGTTA", "ACG", "TTTT"]
    found = [float(x) for x in data.columns(environment, texts)["own"]]
    wanted = [np.mean([scores[t[i : i + 2]] for i in range(len(t) - 1)]) for t in texts]
    assert found == pytest.approx(wanted, abs=1e-5)
    assert data.automaton(environment) is None


def test_windows_over_a_fixed_flank_count(tmp_path):
    """Off-target windows that only the flank makes: the best is over the whole element."""
    words = ["".join(x) for x in itertools.product("ACGT", repeat=4)]
    path = tmp_path / "own.csv"
    rows = [f"{word},{1.0 if word in ('GGAT', 'ATCC') else 0.0}" for word in words]
    path.write_text("\n".join(["kmer,score", *rows]))
    term = SequenceTerm(table=str(path), want="<= 0.5 within 0.1")
    environment = Sequence("DNA", 8, "append", constraints=[Template("NNNNNGAT")])
    data = SequenceData([term], exponent=4.0)
    assert data.columns(environment, ["ACACGGAT", "ACACAGAT"])["own"] == ["1", "0"]
    target = TransferTarget(data.automaton(environment))
    texts = ["".join(x) + "GAT" for x in itertools.product("ACGT", repeat=5)]
    bad = [any(t[i : i + 4] in ("GGAT", "ATCC") for i in range(5)) for t in texts]
    share = target.share_of_objects(target.automaton.all_hit)
    assert share == pytest.approx(1 - np.mean(bad), abs=1e-10)


def test_what_rounding_costs_is_stated_and_kept(tmp_path):
    """log R on levels beside that of values as they are, over 4,096 sequences."""
    words = ["".join(x) for x in itertools.product("ACGT", repeat=3)]
    scores = np.random.default_rng(0).normal(size=64)
    path = tmp_path / "own.csv"
    rows = [f"{word},{x:.5f}" for word, x in zip(words, scores, strict=True)]
    path.write_text("\n".join(["kmer,score", *rows]))
    environment = Sequence("DNA", 6, "append")
    terms = [
        SequenceTerm(table=str(path), want=">= 1.5 within 0.4"),
        SequenceTerm(property="GC", want="0.3..0.5 within 0.2", weight=2.0),
    ]
    objects = torch.tensor([*itertools.product(range(4), repeat=6)])
    data = SequenceData(terms, exponent=3.0, levels=8)
    found = data.make_reward(environment)(objects).double()
    finest = SequenceData(terms, exponent=3.0, levels=3000).make_reward(environment)(objects)
    stated = float(data.remarks()[-1].split("at most ")[1].split()[0])
    lost = finest.double() - found
    assert lost.min() > -0.05
    assert 0.2 * stated < lost.max() <= 1.05 * stated
