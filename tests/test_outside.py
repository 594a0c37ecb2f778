"""Scores from outside: programs of every kind, what was paid for, budgets, neighbours."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from common import model_of, section
from processes import Command, run

from gfn_design import (
    CommandData,
    FunctionData,
    MoleculeData,
    Sequence,
    TrajectoryBalance,
)
from gfn_design.config import import_class
from gfn_design.errors import InputError
from gfn_design.rewards.answers import Answer, Refusal
from gfn_design.rewards.asker import Here
from gfn_design.rewards.programs import ProgramWorker, parsed
from gfn_design.rewards.scorer import BudgetSpentError, Scorer, _Portions
from gfn_design.rewards.sources import content_of
from gfn_design.rewards.store import ScoreStore

DNA = {"alphabet": "DNA", "length": 10}
TEXTS = ["CCO", "CC", "CCCN", "C"]
LENGTHS = [3.0, 2.0, 4.0, 1.0]
# What a program does, in each of three languages; it is to write the length of each line.
PYTHON = """
import sys, time
{before}
for i, line in enumerate(sys.stdin):
    text = line.strip()
    {each}
{after}
"""
SHELL = """#!/bin/sh
{before}
i=0
while read -r text; do
    {each}
    i=$((i+1))
done
{after}
"""
C = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(void) {{
    char text[4096]; int i = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    {before}
    while (fgets(text, sizeof text, stdin)) {{
        text[strcspn(text, "\\n")] = 0;
        {each}
        i++;
    }}
    {after}
    return 0;
}}
"""
RIGHT = {
    "python": "print(len(text))",
    "shell": 'echo "${#text}"',
    "c": 'printf("%zu\\n", strlen(text));',
}
SAY = {"python": "print({0!r})", "shell": "echo '{0}'", "c": 'puts("{0}");'}
IF = {
    "python": "if i == {0}: {1}",
    "shell": "[ $i -eq {0} ] && {1}",
    "c": "if (i == {0}) {{ {1} }}",
}
END = {"python": "sys.exit(3)", "shell": "exit 3", "c": "exit(3);"}
HANG = {"python": "time.sleep(60)", "shell": "sleep 60", "c": "sleep(60);"}
JOIN = {"python": "\n    ", "shell": "\n    ", "c": " "}
LANGUAGES = [x for x in RIGHT if x != "c" or shutil.which("cc")]


def program(folder, language, before="", each="", after=""):
    """The command of a program that does `each` before it answers; ``{right}`` is the answer."""
    each = each or RIGHT[language]
    if language == "python":
        file = folder / "program.py"
        file.write_text(PYTHON.format(before=before, each=each, after=after))
        return f"{sys.executable} {file}"
    if language == "shell":
        file = folder / "program.sh"
        file.write_text(SHELL.format(before=before, each=each, after=after))
        file.chmod(0o755)
        return str(file)
    (folder / "program.c").write_text(C.format(before=before, each=each, after=after))
    subprocess.run(["cc", "-o", folder / "program", folder / "program.c"], check=True)
    return str(folder / "program")


def scorer(command, timeout=20.0, **options):
    return Scorer("program", [ProgramWorker(command, timeout)], **options)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_program_that_keeps_to_the_protocol(language, tmp_path):
    asked = scorer(program(tmp_path, language))
    assert asked(TEXTS) == [(x,) for x in LENGTHS]
    assert asked(["CCCCC", *TEXTS]) == [(5.0,), *((x,) for x in LENGTHS)]
    asked.settle()
    asked.close()


def broken(what, language):
    """Where a program says or does something wrong."""
    right, join = RIGHT[language], JOIN[language]
    say = SAY[language].format
    at = lambda i, deed: join.join([IF[language].format(i, deed), right])  # noqa: E731
    return {
        "ends at once": {"before": END[language]},
        "ends in the middle": {"each": at(2, END[language])},
        "writes a number before": {"before": say("42")},
        "writes a number too many": {"each": at(2, say("42"))},
        "writes a banner": {"before": say("loading the model")},
        "writes a comment on one": {"each": at(2, say("careful"))},
        "comments on all": {"each": join.join([say("careful"), right])},
        "hangs": {"each": at(2, HANG[language])},
        "writes nan": {"each": IF[language].format(2, say("nan")) + join.replace("\n", "\n")
                       + {"python": "else: " + right, "shell": f"[ $i -ne 2 ] && {right}",
                          "c": f"else {{ {right} }}"}[language]},
        "refuses one": {"each": IF[language].format(2, say("error: no pose")) + join
                        + {"python": "else: " + right, "shell": f"[ $i -ne 2 ] && {right}",
                           "c": f"else {{ {right} }}"}[language]},
    }[what]  # fmt: skip


SAID = {
    "ends at once": "ended with exit code 3 before it had answered",
    "ends in the middle": "ended with exit code 3 before it had answered",
    "writes a number before": "without being asked",
    "writes a number too many": "without being asked, so the scores of the latest 4 texts",
    "writes a banner": "wrote (the line )?'loading the model'",
    "writes a comment on one": "wrote 'careful' and not a number",
    "comments on all": "wrote 'careful' and not a number",
    "hangs": "took longer than 1 s",
    "writes nan": "returned nan and not a finite number",
    "refuses one": r"could not score it \(no pose\)",
}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("what", SAID)
def test_a_program_that_does_not(what, language, tmp_path):
    """It stops a run by a sentence, soon; no text ever gets another one's score."""
    asked = scorer(program(tmp_path, language, **broken(what, language)), 1.0)
    began = time.monotonic()
    with pytest.raises(InputError, match=SAID[what]):
        asked(TEXTS), asked.settle()
    assert time.monotonic() - began < 10
    asked.close()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("what", ["writes nan", "refuses one", "ends in the middle", "hangs"])
def test_only_the_texts_at_fault_are_lost(what, language, tmp_path):
    """In a fresh process text 2 of a batch is at fault, and never the first."""
    command = program(tmp_path, language, **broken(what, language))
    asked = scorer(command, 1.0, failed="floor")
    rows = asked(TEXTS)
    if what in ("writes nan", "refuses one"):
        assert rows == [(3.0,), (2.0,), None, (1.0,)]
        assert asked.failures == 1
    else:  # alone it is the first, and answered
        assert rows == [(x,) for x in LENGTHS]
    asked.close()


def test_a_program_that_comments_on_everything_ends_a_run_whatever_the_policy(tmp_path):
    command = program(tmp_path, "python", **broken("comments on all", "python"))
    with pytest.raises(InputError, match="for each of 3 texts in a row, and was started anew"):
        scorer(command, failed="floor")(TEXTS)


def test_what_a_program_has_started_ends_with_it(tmp_path):
    """Be the program still there or not."""
    for last in ("wait", "exit 0"):
        file = tmp_path / f"{last[:4]}.sh"
        file.write_text(
            f"#!/bin/sh\nsleep 321 &\necho $! > {tmp_path}/child\nread -r text\necho 1\n{last}\n"
        )
        file.chmod(0o755)
        asked = scorer(str(file))
        assert asked(["C"]) == [(1.0,)]
        child = int((tmp_path / "child").read_text())
        os.kill(child, 0)
        asked.close()
        end = time.monotonic() + 5
        while Path(f"/proc/{child}").exists() and time.monotonic() < end:
            if "Z" in Path(f"/proc/{child}/stat").read_text().rpartition(")")[2]:
                break
            time.sleep(0.05)
        else:
            assert not Path(f"/proc/{child}").exists()


@pytest.mark.parametrize(
    ("line", "value", "expected"),
    [
        ("1.5", None, 1.5),
        ("-7e3", None, -7000.0),
        ("1 2", None, Answer((1.0, 2.0), ("value_1", "value_2"))),
        ("dock=-7.1 strain=2", None, Answer((-7.1, 2.0), ("dock", "strain"))),
        ("dock=-7.1, strain=2", "strain", Answer((2.0, -7.1), ("strain", "dock"))),
        ("dock=-7.1;strain=2", "mass", None),
        ("a=1 a=2", None, None),
        ("", None, None),
        ("score: 3", None, None),
        ("error: no pose", None, Refusal("no pose")),
        ("error:", None, Refusal("no reason given")),
        ("errors 3", None, None),
    ],
)
def test_lines(line, value, expected):
    assert parsed(line, value) == expected


def test_several_numbers_are_columns(tmp_path):
    command = program(tmp_path, "python", each="print(f'dock={len(text)} As={text.count(\"A\")}')")
    data = CommandData(command, value="As", minimum=0.1)
    environment = Sequence("DNA", 3)
    module = model_of(environment, TrajectoryBalance()).use(data)
    states = environment.encode(["AAT", "CCC"])
    assert module.score_objects(states)[0].tolist() == [2.0, 0.0]
    assert data.columns(environment, ["AAT", "CCC"]) == {"dock": ["3", "3"]}
    data.teardown("fit")


# Functions.


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("x.sort()\n    return [1.0 for _ in x]", "has changed the order of the texts"),
        ("x.reverse()\n    return [1.0 for _ in x]", "has changed the order of the texts"),
        ("return [10**400 for _ in x]", "whole number that is too large for a float"),
        ("return [complex(1, 1) for _ in x]", "and not a number"),
        ("return ['1'] * len(x)", "and not a number"),
        ("return {}", "returned 0 numbers for"),
        ("return 5", "returned a int and not one number for each text"),
        ("raise ValueError('x' * 10000)", "raised ValueError"),
        ("raise SystemExit(1)", "SystemExit"),
        ("return [float('inf') for _ in x]", "not a finite number"),
        ("return [None for _ in x]", "and not a number"),
        ("return ['a\\nb' * 1000 for _ in x]", "and not a number"),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_function_is_one_sentence(body, said, workers, tmp_path):
    if "SystemExit" in said and not workers:
        pytest.skip("which ends this process as it is meant to")
    (tmp_path / "own.py").write_text(f"def f(x):\n    {body}\n")
    data = FunctionData(import_class(f"{tmp_path}/own.py:f"), n_workers=workers, minimum=0.1)
    module = model_of(Sequence("DNA", 4), TrajectoryBalance())
    with pytest.raises(InputError) as caught:
        module.use(data)(8, 0, 0)
    if said != "SystemExit":
        assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    data.teardown("fit")


def test_a_function_may_use_up_what_it_is_given(tmp_path):
    def pops(x):
        found = []
        while x:
            found.append(1.0 + x.pop(0).count("A"))
        return found

    assert Scorer("pops", [Here(pops)])(["AA", "C", "A"]) == [(3.0,), (1.0,), (2.0,)]


def test_too_large_a_score_asks_for_a_maximum():
    module = model_of(Sequence("DNA", 2), TrajectoryBalance())
    module.use(FunctionData(lambda texts: [1e308] * len(texts)))
    with pytest.raises(InputError, match=r"is too large .* or set the reward's maximum"):
        module(4, 0, 0)


def test_a_function_file_finds_its_neighbours_from_anywhere(tmp_path, monkeypatch):
    """When it is imported, and when it is called, here and in another process."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "neighbour.py").write_text(
        "def g(s):\n    import other_one\n    return other_one.h(s)\n"
    )
    (folder / "other_one.py").write_text("def h(s):\n    return 1.0 + s.count('A')\n")
    (folder / "f.py").write_text(
        "import neighbour\ndef f(x):\n    return [neighbour.g(s) for s in x]\n"
    )
    monkeypatch.chdir("/")
    for workers in (0, 1):
        data = FunctionData(import_class(f"{folder}/f.py:f"), n_workers=workers)
        assert data.scorers[0](["AA", "C"]) == [(3.0,), (1.0,)]
        data.teardown("fit")
    assert Path.cwd() == Path("/")


# What was paid for.


def slow(texts):
    time.sleep(0.002 * len(texts))
    return [1.0 + text.count("A") for text in texts]


def test_no_expensive_score_is_paid_twice(tmp_path):
    """By another scorer of the same, in this process or another; a changed one has its own."""
    asked = []

    def count(texts):
        asked.extend(texts)
        return slow(texts)

    for who, expected in (("a", 3), ("a", 3), ("b", 6)):
        it = Scorer("slow", [Here(count)], who=who)
        it.keep_in(tmp_path)
        assert it(["AA", "C", "A"]) == [(3.0,), (1.0,), (2.0,)]
        assert len(asked) == expected
        assert it.scored == 3
        it.close()


def test_what_costs_nothing_is_not_kept(tmp_path):
    it = Scorer("fast", [Here(lambda texts: [1.0] * len(texts))])
    it.keep_in(tmp_path)
    it([str(i) for i in range(1000)])
    it.close()
    assert not list(tmp_path.iterdir())


def test_failures_are_remembered_and_counted_once(tmp_path):
    def fails(texts):
        time.sleep(0.01)
        return [None if text == "C" else 1.0 for text in texts]

    for _ in range(2):
        it = Scorer("fails", [Here(fails)], failed="floor")
        it.keep_in(tmp_path)
        for _ in range(2):
            assert it(["A", "C"]) == [(1.0,), None]
        assert (it.scored, it.failures) == (2, 1)
        it.close()


def test_counts_go_on_from_a_checkpoint(tmp_path):
    """As if what was scored after it had not been."""
    it = Scorer("slow", [Here(slow)])
    it.keep_in(tmp_path)
    it(["A", "C"])
    state = it.state_dict()
    it(["A", "G", "T"])
    assert it.scored == 4
    again = Scorer("slow", [Here(slow)])
    again.keep_in(tmp_path)
    again(["TTT"])  # the trial of a resumed run
    again.load_state_dict(torch.load(saved(state, tmp_path), weights_only=True))
    assert again.scored == 2
    again(["A", "G", "T"])
    assert again.scored == 4


def saved(state, folder):
    torch.save(state, folder / "state.pt")
    return folder / "state.pt"


def test_processes_share_what_they_pay_for(tmp_path):
    """Of two that want the same at the same time one scores, and the other takes it from there."""
    one, two = (ScoreStore(tmp_path / "scores.sqlite", "x") for _ in range(2))
    mine, theirs = one.claim(["A", "B"])
    assert (mine, theirs) == (["A", "B"], [])
    with sqlite3.connect(tmp_path / "scores.sqlite") as db:  # as if another process had
        db.execute("UPDATE scores SET owner = ?", (f"{os.uname().nodename}:{os.getppid()}",))
    assert two.claim(["B", "C"]) == (["C"], ["B"])
    one.add({"A": (1.0,), "B": None})
    assert two.wait_for(["B"]) == ({"B": None}, [])
    assert two.find(["A", "B", "C"]) == {"A": (1.0,), "B": None}
    with sqlite3.connect(tmp_path / "scores.sqlite") as db:  # by one that is gone
        db.execute(
            "INSERT INTO scores VALUES ('x', 'D', NULL, ?)", (f"{os.uname().nodename}:4194999",)
        )
    assert two.claim(["D"]) == (["D"], [])


def test_a_run_that_was_killed_pays_for_nothing_twice(tmp_path):
    """Six kills; in all nothing is asked for again but what was under way at a kill."""
    (tmp_path / "paid.py").write_text(
        "import os, time\n"
        "def f(texts):\n"
        "    time.sleep(0.004 * len(texts))\n"
        "    with open(os.environ['COUNT'], 'a') as file:\n"
        "        file.write(''.join(f'{t}\\n' for t in texts))\n"
        "    return [1.0 + t.count('A') for t in texts]\n"
    )
    config = {
        "model": section(
            {
                "environment": {"class_path": "Sequence", "init_args": DNA},
                "objective": "TrajectoryBalance",
                "network": {"class_path": "MLP", "init_args": {"width": 16, "depth": 1}},
                "batch_size": 8,
            }
        ),
        "exact_limit": 1000,
        "data": {"class_path": "FunctionData", "init_args": {"function": "paid.py:f"}},
        "candidates": 10,
        "checkpoint_every": 5,
        "trainer": {"max_steps": 40, "accelerator": "cpu", "limit_val_batches": 0},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    arguments = ("fit", "--config", "run.yaml", "--output", "out")
    count = tmp_path / "count"
    for _ in range(6):
        before = count.stat().st_size if count.exists() else 0
        command = Command(*arguments, folder=tmp_path, COUNT=str(count))
        try:
            command.wait_for(lambda n=before: count.exists() and count.stat().st_size > n + 500)
        except AssertionError:  # it ended before that
            break
        command.kill()
    code, said = run(*arguments, folder=tmp_path, COUNT=str(count))
    assert code == 0, said
    paid = count.read_text().split()
    # Of each kill one batch may be lost between the score and the disk.
    assert len(paid) - len(set(paid)) <= 8 * 7


def test_a_claim_is_never_on_what_is_known(tmp_path):
    store = ScoreStore(tmp_path / "scores.sqlite", "it")
    store.add({"A": (1.0,), "C": None})
    assert store.claim(["A", "C", "G"]) == (["G"], ["A", "C"])
    assert store.wait_for(["A", "C"]) == ({"A": (1.0,), "C": None}, [])
    store.give_up(["A", "G"])
    assert len(store) == 2
    assert store.claim(["G"]) == (["G"], [])


def test_claims_of_a_run_that_was_killed_on_another_machine_end_with_the_next(tmp_path):
    store = ScoreStore(tmp_path / "scores.sqlite", "it")
    store.claim(["A"])
    with sqlite3.connect(tmp_path / "scores.sqlite") as db:
        db.execute("UPDATE scores SET owner = 'elsewhere:1'")
    assert store.claim(["A"]) == ([], ["A"])
    it = Scorer("it", [Here(slow)], who="it")
    it.keep_in(tmp_path)
    it.begin()
    assert store.claim(["A"]) == (["A"], [])


def test_what_takes_the_same_for_one_as_for_many_is_asked_for_at_once():
    """And what takes its time for each text, in pieces."""
    constant, each = _Portions(), _Portions()
    for pieces, seconds in ((constant, lambda n: 2.0), (each, lambda n: 0.5 * n)):
        for n in (8, 8, *[256] * 12):
            n = min(n, pieces.size)
            pieces.learn(n, seconds(n))
    assert constant.size >= 256
    assert each.size <= 3


def test_names_of_numbers_are_kept_with_them(tmp_path):
    store = ScoreStore(tmp_path / "scores.sqlite", "it")
    store.add({"A": (1.0, 2.0)}, ("dock", "strain"))
    it = Scorer("it", [Here(slow)], who="it")
    it.keep_in(tmp_path)
    assert it.asker.names == ("dock", "strain")


def test_who_scores_is_told_by_content(tmp_path):
    folder = tmp_path / "with a blank"
    folder.mkdir()
    file = folder / "r.py"
    file.write_text("1")
    before = content_of(f"{file}:f"), content_of(f'python "{file}"')
    file.write_text("2")
    assert before[0] != content_of(f"{file}:f")
    assert before[1] != content_of(f'python "{file}"')


# Budgets.


def budget_run(tmp_path, budget):
    (tmp_path / "own.py").write_text(
        "import os\n"
        "def f(texts):\n"
        "    with open(os.environ['COUNT'], 'a') as file:\n"
        "        file.write(''.join(f'{t}\\n' for t in texts))\n"
        "    return [1.0 + t.count('A') for t in texts]\n"
    )
    config = {
        "model": section(
            {
                "environment": {"class_path": "Sequence", "init_args": DNA},
                "objective": "TrajectoryBalance",
                "network": {"class_path": "MLP", "init_args": {"width": 16, "depth": 1}},
                "batch_size": 16,
            }
        ),
        "data": {
            "class_path": "FunctionData",
            "init_args": {"function": "own.py:f", "budget": budget},
        },
        "candidates": 50,
        "evaluate_every": 5,
        "trainer": {"max_steps": 1000, "accelerator": "cpu", "enable_progress_bar": False},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    count = tmp_path / "count"
    arguments = ("fit", "--config", "run.yaml", "--output", "out")
    code, said = run(*arguments, folder=tmp_path, COUNT=str(count))
    return code, said, count.read_text().split() if count.exists() else []


def test_a_budget_ends_a_run_and_nothing_scores_around_it(tmp_path):
    code, said, paid = budget_run(tmp_path, 200)
    assert code == 0, said
    assert "the budget of scores has no room for another batch" in said
    assert 200 - 16 < len(paid) <= 200
    assert len(set(paid)) == len(paid)
    rows = (tmp_path / "out/candidates.csv").read_text().splitlines()
    assert len(rows) == 51
    best = sorted((text.count("A") for text in paid), reverse=True)[:50]
    assert [float(row.split(",")[2]) - 1 for row in rows[1:]] == best
    saved_at = torch.load(tmp_path / "out/checkpoints/last.ckpt", weights_only=True)["global_step"]
    assert 8 <= saved_at <= 12


def test_a_spent_budget_is_no_dead_end(tmp_path):
    """The same command says the same again; a larger budget goes on."""
    first = budget_run(tmp_path, 100)
    table = (tmp_path / "out/candidates.csv").read_text()
    assert first[0] == 0, first[1]
    code, said, paid = budget_run(tmp_path, 100)
    assert code == 0, said
    assert paid == first[2]
    assert (tmp_path / "out/candidates.csv").read_text() == table
    code, said, paid = budget_run(tmp_path, 180)
    assert code == 0, said
    assert 180 - 16 < len(paid) <= 180
    assert len(set(paid)) == len(paid)
    code, said = run("sample", "out", "-n", 150, folder=tmp_path, COUNT=str(tmp_path / "count"))
    assert code == 0, said
    assert "were not drawn now, but scored in training" in said


def test_a_budget_less_than_a_batch_is_a_sentence(tmp_path):
    code, said, paid = budget_run(tmp_path, 10)
    assert code == 2
    assert "the budget of scores has room for 10, which is less than a batch (16)" in said
    assert not paid


def test_the_budget_is_checked_before_anything_is_asked():
    it = Scorer("slow", [Here(slow)], budget=3)
    assert len(it(["A", "C"])) == 2
    with pytest.raises(BudgetSpentError, match="1 are left, and 2 more are wanted"):
        it(["A", "G", "T"])
    assert len(it(["A", "G"])) == 2
    with pytest.raises(InputError, match="budget must be at least 1"):
        FunctionData(slow, budget=0)


def test_terms_have_budgets():
    data = MoleculeData(terms(), budget=5)
    assert data.room() == 5
    data.values(["CCO", "CC"])
    assert data.room() == 3


def terms():
    from gfn_design.data.molecules import Term

    return [Term(property="QED"), Term(function=slow, want=">= 1", name="slow")]


# A cluster.


DASK = """
import os, signal, sys, threading, time
from pathlib import Path

from distributed import Client, LocalCluster

from gfn_design import FunctionData
from gfn_design.config import import_class
from gfn_design.errors import InputError

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    function = import_class(f"{folder}/own.py:score")
    data = FunctionData(function, dask=cluster.scheduler_address, failed="floor", minimum=0.1)
    data.keep_in(folder)
    (scorer,) = data.scorers
    texts = [f"{'A' * (i % 7)}{i}" for i in range(60)]
    client = Client(cluster)
    victim = next(iter(client.run(os.getpid).values()))
    threading.Timer(1.0, lambda: os.kill(victim, signal.SIGKILL)).start()
    rows = scorer(texts)
    assert rows == [None if t.endswith("13") else (1.0 + t.count("A"),) for t in texts], rows
    done = (folder / "done").read_text().split()
    assert sorted(done) == sorted(t for t in texts if not t.endswith("13")), done
    assert victim not in client.run(os.getpid).values()
    assert scorer.failures == 1
    scorer(texts)
    again = FunctionData(function, dask=cluster.scheduler_address, failed="floor", minimum=0.1)
    again.keep_in(folder)
    again.scorers[0](texts)
    assert len((folder / "done").read_text().split()) == 59
    print("all is well")
    again.teardown("fit"), data.teardown("fit")
    client.close(), cluster.close()
    try:
        FunctionData(function, dask="tcp://127.0.0.1:1").scorers[0](["A"])
    except InputError as error:
        print(error)
"""


@pytest.mark.slow
def test_a_dask_cluster_of_which_a_worker_is_killed(tmp_path):
    """Nothing is lost, answers are in order, and what was finished is not scored again."""
    pytest.importorskip("distributed")
    (tmp_path / "own.py").write_text(
        "import time\n"
        "def score(texts):\n"
        "    time.sleep(0.1)\n"
        "    if texts[0].endswith('13'):\n"
        "        raise ValueError('unlucky')\n"
        f"    with open('{tmp_path}/done', 'a') as file:\n"
        "        file.write(f'{texts[0]}\\n')\n"
        "    return [1.0 + t.count('A') for t in texts]\n"
    )
    (tmp_path / "use.py").write_text(DASK)
    done = subprocess.run(
        [sys.executable, tmp_path / "use.py", tmp_path],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert "all is well" in done.stdout, done.stdout + done.stderr[-3000:]
    assert "no Dask scheduler answers at 'tcp://127.0.0.1:1'" in done.stdout, done.stderr[-2000:]
