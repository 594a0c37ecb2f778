"""A run of an earlier version is opened, and goes on as it would have then."""

import csv
import shutil
from pathlib import Path

import pytest
import yaml

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
