"""Rewards and scores: the shape of a reward, tables, hypergrid regions, motifs, functions."""

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from common import model_of
from torch import nn

from gfn_design.data.functions import FunctionData
from gfn_design.data.tasks import KmerData, MotifData
from gfn_design.environments.hypergrid import Hypergrid
from gfn_design.environments.sequences.sequence import Sequence
from gfn_design.errors import InputError
from gfn_design.objectives.balance import TrajectoryBalance
from gfn_design.rewards.jaspar import Motif, jaspar_motif
from gfn_design.rewards.motif import MotifScore
from gfn_design.rewards.reward import HypergridScore, Reward, TableScore


class Constant(nn.Module):
    """Scores that do not depend on the objects."""

    def __init__(self, *scores):
        super().__init__()
        self.scores = torch.tensor(scores)

    def forward(self, objects):
        return self.scores


# The shape of a reward.


@pytest.mark.parametrize("exponent", [1, 3, 0.5, -2])
@pytest.mark.parametrize("scale", [1, 10, 0.01])
@pytest.mark.parametrize("bounds", [(None, None), (0.5, None), (None, 2.0), (0.5, 2.0)])
def test_reward_shape(exponent, scale, bounds):
    """log R = exponent * log(clip(score)) + log(scale): clipped first, then raised, then scaled."""
    scores = [0.1, 0.5, 0.9, 2.0, 7.0]
    minimum, maximum = bounds
    reward = Reward(Constant(*scores), exponent, scale, minimum, maximum)
    clipped = [max(min(score, maximum or math.inf), minimum or 0) for score in scores]
    expected = [math.log(scale * score**exponent) for score in clipped]
    assert reward(None).tolist() == pytest.approx(expected, abs=1e-6)


def test_reward_by_default_is_the_log_of_the_score():
    assert torch.equal(Reward(Constant(0.3, 4.0))(None), torch.tensor([0.3, 4.0]).log())


def test_reward_is_not_finite_where_the_score_is_not_positive():
    """Left for `GFlowNet.log_reward` to name; a minimum mends zero and below, but not NaN."""
    scores = Constant(0.0, -1.0, math.nan, 1.0)
    assert Reward(scores)(None).isfinite().tolist() == [False, False, False, True]
    mended = Reward(scores, minimum=0.1)(None)
    assert mended.isfinite().tolist() == [True, True, False, True]
    assert mended[:2].tolist() == pytest.approx([math.log(0.1)] * 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 0}, "scale must be positive, since a reward is, got 0"),
        ({"scale": -1}, "scale must be positive, since a reward is, got -1"),
        ({"scale": math.nan}, "scale must be positive, since a reward is, got nan"),
        ({"minimum": 0}, "minimum must be positive, since a reward is, got 0"),
        ({"minimum": -0.5}, "minimum must be positive, since a reward is, got -0.5"),
        ({"maximum": 0}, "maximum must exceed 0, got 0"),
        ({"minimum": 2, "maximum": 2}, "maximum must exceed 2, got 2"),
        ({"minimum": 2, "maximum": 1}, "maximum must exceed 2, got 1"),
    ],
)
def test_reward_refuses(arguments, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        Reward(Constant(1.0), **arguments)


# Tables.


@pytest.mark.parametrize(("alphabet", "length"), [("AB", 5), ("ACGT", 3), ("protein", 2)])
@pytest.mark.parametrize("order", ["append", "prepend-append", "any"])
def test_table_score_looks_up_by_content(alphabet, length, order):
    """Entry sum_j x_j V^(length - 1 - j) belongs to x: the table lists sequences like a lexicon."""
    environment = Sequence(alphabet, length, order)
    texts = ["".join(letters) for letters in product(environment.symbols, repeat=length)]
    table = torch.randperm(len(texts)).float()
    shuffled = torch.randperm(len(texts))
    objects = environment.encode([texts[i] for i in shuffled])
    assert torch.equal(TableScore(table, length)(objects), table[shuffled])


def test_table_score_refuses_what_is_no_power():
    with pytest.raises(InputError, match=r"^a table of 63 scores is no power 3 of an alphabet$"):
        TableScore(torch.zeros(63), 3)


@pytest.mark.parametrize(
    ("arguments", "clipped"),
    [
        ({"normalise": False}, [1, 2, 4, 5]),
        ({"normalise": False, "minimum": 3}, [3, 3, 4, 5]),
        ({"normalise": False, "minimum": 6}, [6, 6, 6, 6]),
        ({}, [0.001, 0.25, 0.75, 1]),
        ({"minimum": 0.5}, [0.5, 0.5, 0.75, 1]),
    ],
)
def test_kmer_data_rewards_the_best_with_the_maximum(tmp_path, arguments, clipped):
    """R = best_reward * y^exponent / max y^exponent, y being normalised and then clipped."""
    table = tmp_path / "table.csv"
    table.write_text("sequence,score\nAB,2\nBB,5\nAA,1\nBA,4\n", encoding="utf-8")
    environment = Sequence("AB", 2)
    data = KmerData(str(table), exponent=3, best_reward=7, **arguments)
    data.ready(environment, torch.device("cpu"))
    found = data.reward(environment.encode(["AA", "AB", "BA", "BB"])).exp().tolist()
    assert found == pytest.approx([7 * (y / clipped[-1]) ** 3 for y in clipped], rel=1e-5)


# The hypergrid.


def exact_regions(height, cell):
    """|x / (H - 1) - 1/2| > 1/4, and in (3/10, 4/10), in fractions."""
    distance = abs(Fraction(cell, height - 1) - Fraction(1, 2))
    return distance > Fraction(1, 4), Fraction(3, 10) < distance < Fraction(4, 10)


@pytest.mark.parametrize("height", [*range(2, 42), 64, 101, 128, 256])
def test_hypergrid_regions_of_an_axis(height):
    score, cells = HypergridScore(height), torch.arange(height)
    outer, mode = score.regions(cells[:, None])
    expected = [exact_regions(height, cell) for cell in range(height)]
    assert list(zip(outer.tolist(), mode.tolist(), strict=True)) == expected
    # In real numbers, wherever rounding cannot decide.
    distance = (cells.double() / (height - 1) - 0.5).abs()
    clear = (
        (distance[:, None] - torch.tensor([0.25, 0.3, 0.4], dtype=torch.float64)).abs() > 1e-9
    ).all(1)
    assert torch.equal(outer[clear], (distance > 0.25)[clear])
    assert torch.equal(mode[clear], ((distance > 0.3) & (distance < 0.4))[clear])


def test_hypergrid_cells_on_a_bound_are_outside():
    """51 / 255 = 0.2 and 204 / 255 = 0.8 are 0.3 off the middle, 1 / 4 and 3 / 4 are 0.25 off."""
    outer, mode = HypergridScore(256).regions(torch.tensor([[50], [51], [204], [205]]))
    assert outer.all()
    assert mode.tolist() == [True, False, False, True]
    outer, _ = HypergridScore(5).regions(torch.tensor([[0], [1], [3], [4]]))
    assert outer.tolist() == [True, False, False, True]


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_hypergrid_score(ndim):
    """R0 + R1 where all coordinates are in the outer quarters, + R2 where all are in a mode."""
    environment, score = Hypergrid(ndim, 12), HypergridScore(12, r0=0.1, r1=0.7, r2=3.0)
    cells = list(product(range(12), repeat=ndim))
    expected = []
    for cell in cells:
        outer, mode = zip(*(exact_regions(12, x) for x in cell), strict=True)
        expected.append(0.1 + 0.7 * all(outer) + 3.0 * all(mode))
    objects = environment.encode([",".join(map(str, cell)) for cell in cells])
    assert score(objects).tolist() == pytest.approx(expected)
    assert len({round(value, 6) for value in expected}) == 3


# Motifs.


@pytest.fixture
def motif():
    counts = np.random.default_rng(0).integers(0, 50, (4, 5)).astype(float)
    counts[2, 3] = 0  # a letter never seen
    return Motif("test", "made up", counts)


def log_odds(counts, pseudocount):
    """log of the frequency over a quarter, of each letter at each position."""
    counts = counts + pseudocount
    return np.log(counts / counts.sum(0) / 0.25)


def occupancy(text, odds, both_strands):
    """The sum over strands and positions of exp(log-odds of the site - the best log-odds)."""
    best, width, total = odds.max(0).sum(), odds.shape[1], 0.0
    strands = [text, text[::-1].translate(str.maketrans("ACGT", "TGCA"))]
    for strand in strands[: 1 + both_strands]:
        for start in range(len(text) - width + 1):
            site = strand[start : start + width]
            total += math.exp(sum(odds["ACGT".index(c), j] for j, c in enumerate(site)) - best)
    return total


def random_dna(environment, n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(4, (n, environment.length), generator=generator)


@pytest.mark.parametrize("both_strands", [True, False])
@pytest.mark.parametrize("pseudocount", [1.0, 0.1])
@pytest.mark.parametrize("length", [5, 6, 13])
def test_motif_score_by_double_loop(motif, length, both_strands, pseudocount):
    environment = Sequence("DNA", length)
    objects = random_dna(environment, 50)
    score = MotifScore(motif, length, both_strands, pseudocount)
    odds = log_odds(motif.counts, pseudocount)
    expected = [occupancy(text, odds, both_strands) for text in environment.decode(objects)]
    assert score(objects).tolist() == pytest.approx(expected, rel=1e-5)


def test_motif_score_of_both_strands_is_that_of_the_reverse_complement(motif):
    """The complement of letter c is 3 - c."""
    objects = random_dna(Sequence("DNA", 9), 50)
    other = 3 - objects.flip(1)
    both, one = MotifScore(motif, 9), MotifScore(motif, 9, both_strands=False)
    assert torch.allclose(both(objects), both(other), rtol=1e-5)
    assert torch.allclose(both(objects), one(objects) + one(other), rtol=1e-5)
    assert not torch.allclose(one(objects), one(other), rtol=0.1)


def test_the_best_single_site_counts_one(motif):
    """Of all 1,024 sequences of the motif's width the consensus alone reaches 1."""
    environment = Sequence("DNA", 5)
    texts = ["".join(letters) for letters in product("ACGT", repeat=5)]
    scores = MotifScore(motif, 5, both_strands=False)(environment.encode(texts))
    consensus = "".join("ACGT"[i] for i in motif.counts.argmax(0))
    assert texts[int(scores.argmax())] == consensus
    assert float(scores.max()) == 1
    assert int((scores == 1).sum()) == 1
    assert scores.min() > 0


@pytest.mark.parametrize("length", [1, 3, 4])
def test_wide_motifs_keep_the_most_informative_columns(length):
    """Information is sum_c p_c log(4 p_c): here largest in columns 4, 5 and 3, in this order."""
    strength = [40, 0, 10, 60, 200, 90, 30, 0]
    counts = np.full((4, 8), 10.0)
    for column, extra in enumerate(strength):
        counts[column % 4, column] += extra
    frequency = (counts + 1) / (counts + 1).sum(0)
    information = (frequency * np.log(4 * frequency)).sum(0)
    sums = [information[i : i + length].sum() for i in range(9 - length)]
    start = int(np.argmax(sums))
    assert start == {1: 4, 3: 3, 4: 3}[length]
    kept = Motif("test", "made up", counts[:, start : start + length])
    objects = random_dna(Sequence("DNA", length), 30)
    found = MotifScore(Motif("test", "made up", counts), length)(objects)
    assert torch.equal(found, MotifScore(kept, length)(objects))


def test_jaspar_motif_by_name_and_by_matrix():
    """FOXA1 is MA0148.5 in JASPAR 2026; without its version a matrix is the newest."""
    named, numbered = jaspar_motif("FOXA1"), jaspar_motif("MA0148.5")
    assert named.name == numbered.name == "FOXA1"
    assert named.source == numbered.source == jaspar_motif("MA0148").source
    assert named.source == "JASPAR 2026, MA0148.5"
    assert np.array_equal(named.counts, numbered.counts)
    assert named.counts.dtype == np.float64
    assert named.counts.shape[0] == 4
    assert (named.counts >= 0).all()
    consensus = "".join("ACGT"[i] for i in named.counts.argmax(0))
    reverse = consensus[::-1].translate(str.maketrans("ACGT", "TGCA"))
    assert "TAAACA" in consensus or "TAAACA" in reverse  # the forkhead site


def test_jaspar_motif_of_an_older_version():
    assert jaspar_motif("MA0148.3").source == "JASPAR 2026, MA0148.3"


@pytest.mark.parametrize("factor", ["NOPE1", "MA9999.1", "MA0148.99", "UN9999"])
def test_jaspar_motif_of_an_unknown_factor(factor):
    with pytest.raises(InputError, match=f"^JASPAR 2026 has no factor '{factor}'; give a name"):
        jaspar_motif(factor)


def test_motif_data_shapes_the_occupancy():
    """R = scale * max(occupancy, minimum)^exponent."""
    environment = Sequence("DNA", 20)
    data = MotifData("FOXA1", exponent=2, scale=3, minimum=0.01)
    objects = random_dna(environment, 200)
    odds = log_odds(jaspar_motif("FOXA1").counts, 1.0)
    found = data.make_reward(environment)(objects).tolist()
    site = [occupancy(text, odds, True) for text in environment.decode(objects)]
    assert found == pytest.approx([math.log(3 * max(x, 0.01) ** 2) for x in site], abs=1e-4)
    assert min(site) < 0.01 < max(site)


# Functions.


def count_a(texts):
    return [text.count("A") for text in texts]


def test_function_score_reads_texts():
    environment = Sequence("DNA", 4)
    score = FunctionData(count_a).make_reward(environment).score
    scores = score(environment.encode(["AAAA", "CAGA", "TTTT"]))
    assert scores.dtype == torch.float32
    assert scores.tolist() == [4, 2, 0]


class Short:
    """A function without a name."""

    def __call__(self, texts):
        return [1.0]


def too_many(texts):
    return np.ones(len(texts) + 1)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (Short(), "test_rewards.py:Short returned 1 number for 2 texts, given 'AA' and 1 more"),
        (too_many, "test_rewards.py:too_many returned 2 numbers for 1 text, given 'AA'"),
    ],
)
def test_function_score_refuses_a_wrong_number_of_scores(function, message):
    environment = Sequence("DNA", 2)
    score = FunctionData(function).make_reward(environment).score
    with pytest.raises(InputError, match=f"^{message}; mend it"):
        score(environment.encode(["AA", "CC"]))


def score_of(value):
    """1 for every object but CC."""
    return lambda texts: [value if text == "CC" else 1.0 for text in texts]


@pytest.mark.parametrize(("value", "shown"), [(0.0, "-inf"), (-1.0, "nan"), (1e300, "inf")])
def test_log_reward_names_the_object(value, shown):
    """Whatever is no positive number stops the run, with the object and how many there are."""
    environment = Sequence("DNA", 2)
    module = model_of(environment, TrajectoryBalance()).use(FunctionData(score_of(value)))
    objects = environment.encode(["AA", "CC", "GT", "CC"])
    what, bound = (
        ("too large", "maximum") if shown == "inf" else ("not a positive number", "minimum")
    )
    message = (
        rf"^the reward of 'CC' is {what} \(log R = {shown}; 2 of 4 objects\); "
        f"mend the score, or set the reward's {bound}$"
    )
    with pytest.raises(InputError, match=message):
        module.log_reward(objects)
    assert module.log_reward(objects[::2]).tolist() == [0, 0]


def test_a_minimum_mends_scores_of_zero():
    environment = Sequence("DNA", 2)
    data = FunctionData(score_of(0.0), exponent=2, minimum=0.1)
    module = model_of(environment, TrajectoryBalance()).use(data)
    found = module.log_reward(environment.encode(["AA", "CC"])).tolist()
    assert found == pytest.approx([0, 2 * math.log(0.1)])
