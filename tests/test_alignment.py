"""Logos of designs that share a motif, wherever it stands and on whichever strand."""

import numpy as np
import pytest

from gfn_design.results.alignment import GAP, aligned, merged, other_strand

DNA = tuple("ACGT")


def planted(rng, motif, length, strands):
    """A random text with the motif somewhere, on either strand."""
    text = "".join(rng.choice([*"ACGT"], length))
    place = rng.integers(0, length - len(motif) + 1)
    text = text[:place] + motif + text[place + len(motif) :]
    return other_strand(text, DNA) if strands and rng.random() < 0.5 else text


@pytest.mark.parametrize("strands", [False, True])
@pytest.mark.parametrize("length", [12, 20])
def test_a_planted_motif_ends_up_in_the_same_columns(strands, length):
    """In nine of ten texts, for 20 random motifs of seven letters."""
    right = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        motif = "".join(rng.choice([*"ACGT"], 7))
        texts = [planted(rng, motif, length, strands) for _ in range(60)]
        lines = aligned(texts, DNA, strands, farthest=length - 7)
        assert len({*map(len, lines)}) == 1
        shown = max(
            (motif, other_strand(motif, DNA)), key=lambda m: sum(m in line for line in lines)
        )
        places = [line.find(shown) for line in lines]
        common = max(places.count(place) for place in {*places} - {-1})
        right += common >= 54
    assert right >= 18


def test_what_is_aligned_already_stays():
    texts = ["ACGTAC", "ACGTAA", "TCGTAC"]
    assert aligned(texts, DNA, False) == texts
    assert aligned(["ACGTAC"], DNA, True) == ["ACGTAC"]


def test_lengths_may_differ():
    """Columns that most have nothing in are left out."""
    lines = aligned(["ACGTTGCA", "CGTTGC", "ACGTTG"], DNA, False)
    assert lines == ["ACGTTGC", f"{GAP}CGTTGC", f"ACGTTG{GAP}"]


def test_both_strands_of_one_design_are_one():
    assert merged(["AACC", "GGTT", "AACC", "ACGT", "TTTT"], DNA) == ["AACC", "ACGT", "TTTT"]
    assert other_strand("AUGC", tuple("ACGU")) == "GCAU"
    assert other_strand("AAGG", tuple("ACGU")) == "CCUU"


@pytest.mark.parametrize("strands", [False, True])
def test_texts_that_have_nothing_in_common_are_lined_up_anyhow(strands):
    """Of many lengths: all letters of the longest are somewhere, and some column is left."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        texts = ["".join(rng.choice([*"ACGT"], rng.integers(3, 30))) for _ in range(60)]
        lines = aligned(texts, DNA, strands)
        assert len({*map(len, lines)}) == 1
        assert len(lines[0]) > 0
