"""A run of an earlier version is opened, and goes on as it would have then."""

import csv
import shutil
from pathlib import Path

import pytest
import yaml

import gfn_design
from gfn_design import Environment, Exploration, InputError, Objective
from gfn_design.__main__ import main
from gfn_design.config.renamed import upgraded

BEFORE = Path(__file__).with_name("before")


def rows(path):
    with path.open(newline="") as file:
        return [{k: float(x) for k, x in row.items() if x} for row in csv.DictReader(file)]


def test_a_run_of_an_earlier_version_goes_on_as_it_would_have(tmp_path, monkeypatch):
    """Its configuration, its checkpoint, and its log to the end."""
    shutil.copytree(BEFORE, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    text = (tmp_path / "run/config.yaml").read_text()
    assert main(["fit", "--config", "run/config.yaml", "--output", "run"]) == 2  # old names
    (tmp_path / "now.yaml").write_text(yaml.safe_dump(upgraded(yaml.safe_load(text))))
    options = ["--config", "now.yaml", "--output", "run", "--trainer.max_steps", "20"]
    assert main(["evaluate", "run"]) == 0  # as it is
    assert main(["fit", *options]) == 0
    expected = rows(tmp_path / "whole.csv")
    found = rows(tmp_path / "run/log.csv")
    assert len(found) == len(expected)
    for row, wanted in zip(found, expected, strict=True):
        assert row == pytest.approx(wanted, rel=1e-3, abs=1e-3)


def test_names_of_before_are_answered_with_the_new_ones(capsys, tmp_path):
    with pytest.raises(ImportError, match=r"gfn_design.score is gfn_design.log_probabilities now"):
        gfn_design.score  # noqa: B018
    with pytest.raises(InputError, match="Exploration: 'heads' is 'members' now"):
        Exploration(heads=3)
    with pytest.raises(InputError, match="Own: 'head' is 'value_kind' now"):
        type("Own", (Objective,), {"head": "flow"})
    with pytest.raises(InputError, match="Own: 'log_copies' is 'log_states_per_object' now"):
        type("Own", (Environment,), {"log_copies": None})
    explores = {"class_path": "Exploration", "init_args": {"heads": 3}}
    config = tmp_path / "own.yaml"
    for model, said in (
        ({"seed": 3}, "own.yaml: 'model.seed' is model.draw_seed now"),
        ({"start": "run"}, "own.yaml: 'model.start' is model.fine_tune now"),
        ({"batches": {"exploration": explores}}, "exploration.heads' is 'members' now"),
    ):
        parts = {"environment": {"class_path": "Hypergrid"}, "objective": "TrajectoryBalance"}
        config.write_text(yaml.safe_dump({"model": parts | model}))
        assert main(["fit", "--config", str(config), "--output", str(tmp_path / "run")]) == 2
        assert said in capsys.readouterr().err


def test_a_configuration_of_before_is_read_as_one_of_now():
    before = {
        "model": {
            "objective": {"class_path": "ActorCritic", "init_args": {"critic_loss": "pieces"}},
            "exploration": {"class_path": "Exploration", "init_args": {"heads": 3, "share": 0.5}},
            "seed": 3,
        }
    }
    now = {"class_path": "Exploration", "init_args": {"members": 3, "share": 0.5}}
    sub_balance = {"class_path": "ActorCritic", "init_args": {"critic_loss": "sub_balance"}}
    wanted = {"objective": sub_balance, "batches": {"exploration": now}, "draw_seed": 3}
    assert upgraded(before) == {"model": wanted}
