"""The next round: tables put together, and sealed predictions scored by what was measured."""

import csv
import json
from pathlib import Path

import pytest
from test_proxies import QUICK, charge, table

from gfn_design.__main__ import main
from gfn_design.errors import InputError
from gfn_design.files.measurements import read_measurements
from gfn_design.files.seals import sealed_on, write_seal
from gfn_design.proxies.fit import fit_proxy
from gfn_design.proxies.rounds import appended, scored

CONFIG = """
model:
  environment:
    class_path: Sequence
    init_args: {alphabet: protein, length: 12, min_length: 8, order: append}
  objective: TrajectoryBalance
  networks: {network: {class_path: MLP, init_args: {width: 32, depth: 1}}}
  batches: {size: 16}
data:
  class_path: SequenceData
  init_args: {terms: [{proxy: proxy.safetensors, want: ">= 1"}], exponent: 4}
candidates: 20
trainer: {max_steps: 20, accelerator: cpu, enable_progress_bar: false}
"""


@pytest.fixture
def first_round(tmp_path, monkeypatch, capsys):
    """A cleaned table, a run on its proxy, and twelve designs picked from it."""
    monkeypatch.chdir(tmp_path)
    path = table(tmp_path, 120)
    assert main(["data", str(path)]) == 0
    clean = Path("peptides_clean.csv")
    fit_proxy(read_measurements(clean), clean, models=QUICK).proxy.save(Path("proxy.safetensors"))
    Path("c.yaml").write_text(CONFIG)
    assert main(["fit", "--config", "c.yaml", "--output", "run"]) == 0
    assert main(["sample", "run", "-n", "60", "--pick", "12", "--output", "picked"]) == 0
    capsys.readouterr()
    return Path("picked")


def designs_of(folder):
    with (folder / "candidates.csv").open() as file:
        return list(csv.DictReader(file))


def measured(folder, path, off=0.0):
    """What an assay says of the designs: their predictions, off by so much, and two controls."""
    rows = [
        f"D{i},{row['sequence']},{float(row['activity']) + off * (-1) ** i}"
        for i, row in enumerate(designs_of(folder))
    ]
    path.write_text("\n".join(["name,sequence,activity", *rows, "K1,KKKKKKKK,8.1"]))
    return path


def test_a_round_is_sealed_scored_and_put_beside_the_first(first_round, capsys):
    path = measured(first_round, Path("round2.csv"))
    command = ["data", str(path), "--append", "peptides_clean.csv", "--predicted", "picked"]
    assert main([*command, "--output", "both.csv"]) == 0
    said = capsys.readouterr().out
    assert "12 of 12 were measured" in said
    assert "12 of them lie within their 80 % intervals (10 were expected" in said
    both = read_measurements(Path("both.csv"))
    assert len(both.rows) == 133
    assert [row.round for row in both.rows].count("2") == 13
    again = ["data", "round2.csv", "--append", "both.csv", "--output", "three.csv"]
    assert main(again) == 2
    assert "seem to have been appended before" in capsys.readouterr().err
    measured(first_round, path, off=0.1)
    assert main(again) == 0
    assert "round 3: 13 objects, 13 of which were measured before" in capsys.readouterr().out


def test_what_is_known_as_a_limit_is_scored_too(first_round, capsys):
    path = measured(first_round, Path("round2.csv"))
    lines = path.read_text().splitlines()
    name, text, _ = lines[1].split(",")
    low = float(designs_of(first_round)[0]["activity_low"])
    lines[1] = f"{name},{text},<{low - 1:.2f}"
    path.write_text("\n".join(lines))
    assert main(["data", str(path), "--predicted", "picked"]) == 0
    said = capsys.readouterr().out
    assert "12 of 12 were measured" in said
    assert "11 of them lie within" in said
    assert f"1 of 1 that are known as limits lie beyond their intervals, such as {text}" in said


def test_a_proxy_that_was_too_sure_is_told(first_round, capsys):
    path = measured(first_round, Path("round2.csv"), off=9.0)
    assert main(["data", str(path), "--predicted", "picked"]) == 0
    said = capsys.readouterr().out
    assert "0 of them lie within" in said
    assert "surer, or less sure, than it should be" in said


def test_another_quantity_is_not_scored(first_round, capsys):
    path = measured(first_round, Path("round2.csv"))
    text = path.read_text().replace("activity", "solubility")
    path.write_text(text)
    assert main(["data", str(path), "--value", "solubility", "--predicted", "picked"]) == 2
    said = capsys.readouterr().err
    assert "predicts activity, but what was measured is called solubility" in said


def test_no_predictions_are_no_predictions(first_round, capsys):
    path = measured(first_round, Path("round2.csv"))
    file = first_round / "candidates.csv"
    file.write_text(file.read_text().splitlines()[0] + "\n")
    write_seal(first_round)
    assert main(["data", str(path), "--predicted", "picked"]) == 2
    assert "holds no predictions of a proxy" in capsys.readouterr().err


def test_predictions_that_were_changed_are_not_scored(first_round, capsys):
    path = measured(first_round, Path("round2.csv"))
    text = (first_round / "candidates.csv").read_text()
    (first_round / "candidates.csv").write_text(text + "\n")
    assert main(["data", str(path), "--predicted", "picked"]) == 2
    assert "is not what was sealed on" in capsys.readouterr().err
    assert main(["data", str(path), "--predicted", "run"]) == 2
    assert "holds no sealed predictions" in capsys.readouterr().err
    (first_round / "seal.json").write_text("{}")
    assert main(["data", str(path), "--predicted", "picked"]) == 2
    assert "seal.json: cannot be read" in capsys.readouterr().err


def test_a_seal_says_what_was_sealed_and_when(tmp_path):
    (tmp_path / "candidates.csv").write_text("x\n1\n")
    write_seal(tmp_path)
    assert sealed_on(tmp_path) == json.loads((tmp_path / "seal.json").read_text())["day"]


def test_tables_of_other_things_are_not_put_together(tmp_path):
    old = read_measurements(table(tmp_path, 30))
    other = tmp_path / "other.csv"
    other.write_text("sequence,brightness\nKKLLKK,1\nKKLLKA,2\n")
    with pytest.raises(InputError, match="holds activity, but the new table brightness"):
        appended(old, read_measurements(other), "both", tmp_path)
    other.write_text("smiles,activity\nCCO,1\nCCN,2\n")
    with pytest.raises(InputError, match="holds protein, but the new table molecules"):
        appended(old, read_measurements(other), "both", tmp_path)


def test_nothing_measured_of_what_was_predicted(first_round):
    other = Path("other.csv")
    other.write_text(f"sequence,activity\nWWWWWWWW,{charge('W')}\nAAAAAAAAA,1\n")
    lines = scored(first_round, read_measurements(other), "both")
    assert lines[0].endswith("0 of 12 were measured")
    assert len(lines) == 1
