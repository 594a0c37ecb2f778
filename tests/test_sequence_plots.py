"""What a logo shows of designs: DNA, RNA, proteins, edits, one strand or two, several lengths."""

import itertools

import numpy as np
import pytest
import torch
from common import model_of

from gfn_design import (
    MLP,
    Edits,
    Forbid,
    FunctionData,
    KmerData,
    Sequence,
    SequenceData,
    SequenceTerm,
    TrajectoryBalance,
)
from gfn_design.results import plots
from gfn_design.results.alignment import GAP
from gfn_design.results.candidates import draw_candidates
from gfn_design.results.sequence_plots import draw_changes, draw_logo, lined_up, plot_on_off


def table_of(folder, alphabet, name="own", width=3, seed=0):
    scores = np.random.default_rng(seed).normal(size=4**width)
    words = ["".join(x) for x in itertools.product(alphabet, repeat=width)]
    path = folder / f"{name}.csv"
    rows = [f"{word},{x:.5f}" for word, x in zip(words, scores, strict=True)]
    path.write_text("\n".join(["kmer,score", *rows]))
    return str(path)


def greedy(texts):
    return [1.0 + text.count("A") for text in texts]


def shown_of(environment, data, n=30):
    torch.manual_seed(0)
    model = model_of(environment, TrajectoryBalance(), MLP, draw_seed=0).use(data)
    candidates, _ = draw_candidates(model, n)
    shown = lined_up(candidates, model)
    draw_logo(shown, environment.symbols, plots.axes())
    assert len({*map(len, shown.lines)}) == 1
    return shown, [candidate.text for candidate in candidates]


@pytest.mark.filterwarnings("ignore")  # logomaker's own use of pandas
@pytest.mark.parametrize(
    ("environment", "data", "said"),
    [
        (Sequence("RNA", 6, "append", 4), "RNA table", "the best windows of own"),
        (Sequence("DNA", 6, "append", 4), "DNA table", "the best windows of own"),
        (Sequence("DNA", 6, "append"), "one strand", "the best windows of own"),
        (Sequence("DNA", 9), "motif", r"FOXA1 \(JASPAR 2026, MA"),
        (Sequence("DNA", 8), "GC", "best candidates"),
        (Edits("ACGTACGT", 2, alphabet="DNA"), "GC", "best candidates"),
        (Edits("ACGTACGT", 2, alphabet="DNA"), "function", "best candidates"),
        (Sequence("protein", 20, "append", 3), "function", "moved to where they agree"),
        (Sequence("DNA", 6, "append", constraints=[Forbid("ACG")]), "function", "best candidates"),
    ],
)
def test_every_kind_of_design_has_a_logo(environment, data, said, tmp_path):
    made = {
        "RNA table": lambda: SequenceTerm(table=table_of(tmp_path, "ACGU")),
        "DNA table": lambda: SequenceTerm(table=table_of(tmp_path, "ACGT")),
        "one strand": lambda: SequenceTerm(table=table_of(tmp_path, "ACGT"), strands="given"),
        "motif": lambda: SequenceTerm(factor="FOXA1"),
        "GC": lambda: SequenceTerm(property="GC", want="0.4..0.6"),
        "function": lambda: None,
    }[data]()
    reward = FunctionData(greedy) if made is None else SequenceData([made])
    shown, texts = shown_of(environment, reward)
    assert any(part in shown.title for part in (said, said.replace("\\", "")))
    if data == "one strand":  # none is turned round
        assert all(any(line.strip(GAP) in text for text in texts) for line in shown.lines)


def test_both_strands_are_one_design_where_both_score_alike(tmp_path):
    """A measured table of DNA: half of all 4-mers are the other strand of another."""
    environment = Sequence("DNA", 4, "append")
    words = ["".join(x) for x in itertools.product("ACGT", repeat=4)]
    other = {word: word.translate(str.maketrans("ACGT", "TGCA"))[::-1] for word in words}
    path = tmp_path / "own.csv"
    rows = [f"{word},{len({*min(word, other[word])})}" for word in words]
    path.write_text("\n".join(["kmer,score", *rows]))
    shown, texts = shown_of(environment, KmerData(str(path)), 100)
    pairs = {min(text, other[text]) for text in texts}
    assert len(shown.lines) == len(pairs) < len(texts)
    assert "are the other strand of another" in shown.title


def test_on_and_off_target_are_drawn(tmp_path):
    """What is marked is within the limits as often as the title says."""
    on = SequenceTerm(table=table_of(tmp_path, "ACGT", "on"), want=">= 0.5 within 0.5")
    off = SequenceTerm(table=table_of(tmp_path, "ACGT", "off", seed=1), want="<= 1 within 0.5")
    data, environment = SequenceData([on, off]), Sequence("DNA", 6, "append")
    _, texts = shown_of(environment, data)
    found = data.on_off(environment, texts)
    values = [[float(x) for x in data.columns(environment, texts)[name]] for name in ("on", "off")]
    assert np.allclose(found.chosen.T, values, atol=1e-5)
    assert found.words.shape == (64, 2)
    ax = plots.axes()
    plot_on_off(found, ax)
    good = sum(a >= 0.5 and b <= 1 for a, b in zip(*values, strict=True))
    assert ax.get_title() == f"{good} of {len(texts)} candidates meet both limits (dashed)"
    longer = SequenceTerm(table=table_of(tmp_path, "ACGT", "longer", width=4), want=">= 0.5")
    assert SequenceData([on, longer]).on_off(environment, texts) is None


@pytest.mark.filterwarnings("ignore")  # logomaker's own use of pandas
def test_of_a_long_wild_type_the_changed_places_are_shown():
    wild = "ACGT" * 15
    texts = [wild[:4] + "C" + wild[5:]] * 3 + [wild[:4] + "G" + wild[5:40] + "T" + wild[41:]]
    ax = plots.axes()
    draw_changes(texts, Edits(wild, 2, alphabet="DNA"), ax)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["A5", "A41"]
    assert ax.get_ylim()[1] >= 100  # of four designs all change the fifth letter
