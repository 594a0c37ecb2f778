"""Sequences that meet constraints: by enumeration, and by samples where they are too many."""

import itertools
import math
import random
import re
from functools import cache

import pytest
import torch

from gfn_design import (
    GC,
    MLP,
    Edits,
    EndsWith,
    Forbid,
    InputError,
    LongestRun,
    NoSelfComplement,
    NoStop,
    Policy,
    Require,
    Sequence,
    StartsWith,
    Template,
    check_environment,
    sample,
)
from gfn_design.environments.sequences.enzymes import site_of
from gfn_design.environments.sequences.language import Language
from gfn_design.environments.sequences.letters import NUCLEOTIDES, Letters
from gfn_design.rewards.examples import amphipathic, paired

DNA = Letters(tuple("ACGT"))
PAIRS = str.maketrans("ACGTRYKMBVDH", "TGCAYRMKVBHD")


def other(text):
    return text[::-1].translate(PAIRS)


def holds(text, motif, both=True):
    """By regular expressions, which share nothing with automata."""
    found = False
    for one in (motif, other(motif)) if both else (motif,):
        pattern = "".join(f"[{NUCLEOTIDES.get(letter, letter)}]" for letter in one)
        found |= re.search(f"(?={pattern})", text) is not None
    return found


def is_own_complement(text, longer):
    words = (text[i:j] for i in range(len(text)) for j in range(i + longer + 1, len(text) + 1))
    return any(word == other(word) for word in words)


def codons(text, frame):
    return [text[i : i + 3] for i in range(frame, len(text) - 2, 3)]


STOPS = {"TAA", "TAG", "TGA"}
# Constraint, and whether a text meets it.
CONSTRAINTS = {
    "forbid": (Forbid("ACG"), lambda x: not holds(x, "ACG")),
    "forbid one strand": (Forbid("AAC", "given"), lambda x: not holds(x, "AAC", both=False)),
    "forbid two": (Forbid(["GRA", "TT"]), lambda x: not holds(x, "GRA") and not holds(x, "TT")),
    "forbid ambiguous": (Forbid("ANNC"), lambda x: not holds(x, "ANNC")),
    "require": (Require("GAT"), lambda x: holds(x, "GAT")),
    "require two": (Require(["CC", "RAY"]), lambda x: holds(x, "CC") and holds(x, "RAY")),
    "run": (LongestRun(2), lambda x: not re.search(r"(.)\1\1", x)),
    "gc": (GC(0.25, 0.6), lambda x: 0.25 * len(x) <= sum(c in "GC" for c in x) <= 0.6 * len(x)),
    "start": (StartsWith("AN"), lambda x: x[0] == "A"),
    "end": (EndsWith("GA"), lambda x: x.endswith("GA")),
    "end in overlap": (EndsWith("AAR"), lambda x: bool(re.search("AA[AG]$", x))),
    "palindrome": (NoSelfComplement(2), lambda x: not is_own_complement(x, 2)),
    "none": (NoSelfComplement(1), lambda x: not is_own_complement(x, 1)),
    "stop": (NoStop(), lambda x: not STOPS & {*codons(x, 0)}),
    "stop in frame 2": (NoStop(2), lambda x: not STOPS & {*codons(x, 2)}),
    "stop in all": (NoStop(None), lambda x: not any(stop in x for stop in STOPS)),
}
TEXTS = {k: ["".join(x) for x in itertools.product("ACGT", repeat=k)] for k in range(3, 7)}


@cache
def those_that_meet(name, k):
    return {text for text in TEXTS[k] if CONSTRAINTS[name][1](text)}


def allowed(names, shortest, longest):
    lengths = range(shortest, longest + 1)
    return set().union(
        *(set.intersection(*(those_that_meet(n, k) for n in names)) for k in lengths)
    )


def finished(environment):
    """Every object, by walking all legal actions."""
    states, objects = environment.initial(1), set()
    for _ in range(environment.max_steps):
        legal = environment.legal(states)
        assert bool(legal.any(1).all())  # no dead end
        if not environment.fixed_length:
            objects |= {*environment.decode(states[legal[:, -1]])}
            legal = legal[:, : environment.n_moves]
        row, action = legal.nonzero(as_tuple=True)
        states = environment.step(states[row], action)[0].unique(dim=0)
    return objects | ({*environment.decode(states)} if environment.fixed_length else set())


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_a_constraint_allows_what_meets_it(name):
    """All sequences of 3 to 6 letters, and as many as are counted."""
    constraint = CONSTRAINTS[name][0]
    environment = Sequence("DNA", 6, "append", min_length=3, constraints=[constraint])
    expected = allowed([name], 3, 6)
    assert finished(environment) == expected
    assert environment.language.log_size() == pytest.approx(math.log(len(expected)), abs=1e-9)
    try:
        environment = Sequence("DNA", 5, "any", constraints=[constraint])
    except InputError:
        assert not allowed([name], 5, 5)
    else:
        assert finished(environment) == allowed([name], 5, 5)


def test_many_constraints_are_met_together_or_refused():
    """A thousand random sets that nothing meets are refused, and the others met exactly."""
    lots, refused, met = random.Random(0), 0, 0
    while refused < 1000:
        names = lots.sample(sorted(CONSTRAINTS), lots.randint(2, 6))
        shortest, longest = sorted((lots.randint(3, 5), lots.randint(3, 5)))
        expected = allowed(names, shortest, longest)
        given = [CONSTRAINTS[name][0] for name in names]
        if not expected:
            refused += 1
            with pytest.raises(InputError, match=r"no sequence of .* letters? meets '"):
                Sequence("DNA", longest, "append", shortest, given)
            continue
        met += 1
        language = Language(DNA, shortest, longest, given)
        assert math.exp(language.log_size()) == pytest.approx(len(expected), rel=1e-9)
    assert met > 500


def test_the_clash_is_named_and_nothing_else():
    given = [LongestRun(4), Forbid("BamHI"), GC(0.2, 0.8), EndsWith("TTGGATCC")]
    with pytest.raises(InputError) as error:
        Sequence("DNA", 30, "append", constraints=given)
    assert str(error.value) == (
        "no sequence of 30 letters meets 'forbid BamHI' and 'ends with TTGGATCC' together; "
        "loosen one of them"
    )
    with pytest.raises(InputError, match=r"meets 'GC from 0.5 to 0.55'; loosen it"):
        Sequence("DNA", 3, "append", constraints=[GC(0.5, 0.55), LongestRun(3)])


ALL = [
    Forbid(["BamHI", "EcoRI", "BsaI"]),
    Require("TATAWR"),
    LongestRun(4),
    GC(0.4, 0.6),
    NoSelfComplement(6),
    NoStop(0),
    StartsWith("ACGT"),
    EndsWith("RGC"),
]


def meets_all(text):
    return (
        not any(holds(text, site_of(enzyme)) for enzyme in ("bamhi", "ecori", "bsai"))
        and holds(text, "TATAWR")
        and not re.search(r"(.)\1{4}", text)
        and 0.4 <= sum(letter in "GC" for letter in text) / len(text) <= 0.6
        and not is_own_complement(text, 6)
        and not STOPS & {*codons(text, 0)}
        and text.startswith("ACGT")
        and bool(re.search("[AG]GC$", text))
    )


@pytest.mark.parametrize("lengths", [(60, 60), (30, 60)])
def test_ten_thousand_samples_meet_everything(lengths):
    """Of an untrained network, of sequences of up to 60 letters; none runs into a dead end."""
    environment = Sequence("DNA", lengths[1], "append", lengths[0], ALL)
    torch.manual_seed(0)
    policy = Policy(environment, lambda environment, n: MLP(environment, n, width=16, depth=1))
    texts = []
    for _ in range(5):
        drawn = sample(environment, policy, torch.rand(2000, environment.max_steps))
        texts += environment.decode(drawn.objects)
    assert len({*texts}) > 9000
    assert all(map(meets_all, texts))
    assert {len(text) for text in texts} <= {*range(lengths[0], lengths[1] + 1)}


@pytest.mark.parametrize(
    ("wild", "options"),
    [
        ("ACGTAC", {"at_most": 2}),
        ("ACGTAC", {"at_most": 3, "positions": "2-4,6", "letters": "AG"}),
        ("ACGTAC", {"at_most": 2, "at_least": 1}),
        ("ACGGAC", {"at_most": 3, "constraints": [Forbid("GG"), GC(0.5, 1.0)]}),
        ("AAAAAA", {"at_most": 2, "constraints": [LongestRun(3)]}),
    ],
)
def test_edits_are_all_that_is_near_the_wild_type(wild, options):
    environment = Edits(wild, alphabet="DNA", **options)
    places = {2, 3, 4, 6} if "positions" in options else {*range(1, 7)}
    letters = options.get("letters", "ACGT")
    expected = set()
    for text in TEXTS[6]:
        new = [(i, b) for i, (a, b) in enumerate(zip(wild, text, strict=True), 1) if a != b]
        near = options.get("at_least", 0) <= len(new) <= options["at_most"]
        meant = all(place in places and letter in letters for place, letter in new)
        if wild == "AAAAAA":
            met = not re.search(r"(.)\1{3}", text)
        elif "constraints" in options:
            met = not holds(text, "GG") and sum(c in "GC" for c in text) >= 3
        else:
            met = True
        expected |= {text} if near and meant and met else set()
    assert finished(environment) == expected
    assert 5 < len(expected) < 400
    check_environment(environment)


def test_edits_of_a_protein_are_written_as_one_does():
    environment = Edits("MSKGEELFTG", at_most=2)
    states = environment.encode(["MSKGEELFTG", "mskgeelytg", "ASKGEELFTW"])
    assert environment.changes(states) == ["", "F8Y", "M1A G10W"]
    assert environment.decode(states)[1] == "MSKGEELYTG"
    assert environment.columns(["MSKGEELYTG"]) == {"changes": ["F8Y"]}
    assert (Edits("acgt", 1).alphabet, Edits("ACGU", 1).alphabet) == ("DNA", "RNA")
    with pytest.raises(InputError, match="is 3 substitutions from the wild type, expected at most"):
        environment.encode(["AAAGEELFTG"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Edits("ACGX", alphabet="DNA"), "wild_type holds 'X'"),
        (lambda: Edits("ACGT", positions="3-9", alphabet="DNA", at_most=1), "from 1 to 4"),
        (lambda: Edits("ACGT", positions="a", alphabet="DNA"), "such as '3,17-25'"),
        (lambda: Edits("ACGT", at_most=5, alphabet="DNA"), "at_most from 1 to 4"),
        (
            lambda: Edits("AAAAAA", 1, alphabet="DNA", constraints=[LongestRun(2)]),
            "within 1 substitutions of the wild type meets 'no run longer than 2'",
        ),
        (lambda: Sequence("protein", 5, "append", constraints=[GC(0.1, 0.2)]), "about DNA or RNA"),
        (lambda: Sequence("DNA", 5, "append", constraints=[Forbid("AXE")]), "'AXE' is no motif"),
        (
            lambda: Sequence("DNA", 9, "append", constraints=[Forbid("EcoR1")]),
            "no restriction enzyme that is known; did you mean .*EcoRI",
        ),
        (lambda: Edits("ACGT", positions="4-2"), "'4-2' runs backwards"),
        (lambda: Sequence("DNA", 5, "append", constraints=[Template("ACG")]), "has 3 letters"),
        (lambda: Sequence("DNA", 5, constraints=[Forbid("AC")]), "need order: append"),
        (lambda: Sequence("DNA", 5, "any", min_length=2), "all slots are filled"),
        (lambda: Sequence("DNA", 5, "append", min_length=6), "from 1 to length"),
        (lambda: Sequence("protein", 9, "append", constraints=[Forbid("WC", "both")]), "strand"),
        (lambda: GC(0.6, 0.4), "lowest <= highest"),
        (lambda: NoStop(3), "frame 0, 1 or 2"),
        (lambda: Forbid("AC", "up"), "strands must be both or given"),
        (
            lambda: Sequence("DNA", 99, "append", constraints=[NoSelfComplement(10), GC(0.4, 0.6),
                             Forbid(["ACGTNNNNNNNNNNACGT", "CCNNNNNNNNNNNNGG"])]),
            "states of an automaton",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_rna_reads_t_as_u_and_proteins_read_lower_case():
    rna = Sequence("RNA", 8, "append", min_length=4)
    assert rna.decode(rna.encode(["acgt", "UUTTA"])) == ["ACGU", "UUUUA"]
    dna = Sequence("DNA", 4, "append")
    assert dna.decode(dna.encode(["acgu"])) == ["ACGT"]


@pytest.mark.parametrize(
    "environment",
    [
        Sequence("AB", 4, "append", min_length=2),
        Sequence("AB", 3, "prepend-append", min_length=1),
        Sequence("ABC", 3, "insert"),
        Sequence("AB", 4, "insert", min_length=2),
        Sequence("DNA", 6, "append", constraints=[Forbid("AC"), GC(0.3, 0.7)]),
        Sequence("DNA", 4, "any", constraints=[Forbid("AC"), Template("NNGN")]),
        Sequence("RNA", 4, "any", constraints=[NoStop(0), EndsWith("AU")]),
        Sequence("DNA", 30, "append", 12, ALL[:5]),
    ],
    ids=lambda environment: environment.describe()[:60],
)
def test_the_contract_is_kept(environment):
    check_environment(environment)


def test_examples_of_scores_by_hand():
    """An ideal helix of leucines and lysines beside one of the same letters that is not."""
    helix, mixed = amphipathic(["LKKLLKKLLKKLLKKL", "LLLLLLLLKKKKKKKK"])
    assert helix > 2 * mixed > 0
    hairpin = "GGGGAAAACCCC"
    assert paired([hairpin, "AAAAAAAA", "GAAAC", "GAAC"]) == [8 / 12, 0.0, 2 / 5, 0.0]


def by_force(text):
    """The most pairs that do not cross, by trying what the first base does."""
    if len(text) < 5:
        return 0
    best = by_force(text[1:])
    for k in range(4, len(text)):
        if text[0] + text[k] in ("AU", "UA", "GC", "CG", "GU", "UG"):
            best = max(best, 1 + by_force(text[1:k]) + by_force(text[k + 1 :]))
    return best


def test_pairs_are_the_most_there_can_be():
    lots = random.Random(0)
    texts = ["".join(lots.choices("ACGU", k=k)) for k in (5, 8, 11, 13) for _ in range(10)]
    expected = [2 * by_force(text) / len(text) for text in texts]
    assert paired(texts) == pytest.approx(expected)
