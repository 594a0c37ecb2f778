"""Before training, term by term: what is met, how far off the rest is, what was measured."""

import pytest
import torch
from test_proxies import table

from gfn_design import Fragments, MoleculeData, Sequence, SequenceData, SequenceTerm, Term
from gfn_design.__main__ import main
from gfn_design.evaluation.by_chance import Chance
from gfn_design.files.measurements import read_measurements
from gfn_design.proxies.fit import fit_proxy
from gfn_design.runs.feasible import of_parts
from gfn_design.runs.term_shares import by_term


def lines_of(environment, data):
    data.ready(environment, torch.device("cpu"))
    return [*of_parts(environment, data)]


def test_each_wish_has_a_line_with_its_share():
    data = MoleculeData([Term(property="QED", want=">= 0.5"), Term(property="logP", want=">= 40")])
    said = "\n".join(lines_of(Fragments("druglike", 3), data))
    assert "  QED >= 0.5: 0." in said
    assert "  logP >= 40: none of the 2,000; the nearest has" in said
    assert "as wanted by all: none of the 2,000" in said


def test_shares_are_those_of_the_objects():
    environment = Sequence("DNA", 4, "append")
    data = SequenceData([SequenceTerm(property="GC", want=">= 0.5")])
    objects = environment.encode(["AAAA", "AAGC", "GCGC", "ATAT"])
    drawn = Chance(objects, torch.tensor([0.0, 1.0, 1.0, 0.0]).double())
    (line,) = by_term(drawn, environment, data)
    weight = torch.tensor([0.0, 1.0, 1.0, 0.0]).double().softmax(0)
    assert line == f"  GC >= 0.5: {float(weight[1:3].sum()):.3g} of them"


@pytest.mark.slow
def test_near_a_run_and_what_was_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = table(tmp_path, 120)
    fit_proxy(read_measurements(path), path).proxy.save(tmp_path / "proxy.safetensors")
    text = """
model:
  environment:
    class_path: Sequence
    init_args: {alphabet: protein, length: 12, min_length: 8, order: append}
  objective: TrajectoryBalance
  networks: {network: {class_path: MLP, init_args: {width: 32, depth: 1}}}
  batches: {size: 16}
data:
  class_path: SequenceData
  init_args: {terms: [{proxy: proxy.safetensors, want: ">= WANT", domain: false}], exponent: 2}
candidates: 20
trainer: {max_steps: 10, accelerator: cpu, enable_progress_bar: false}
"""
    for want in ("0.5", "3.5"):
        (tmp_path / f"{want}.yaml").write_text(text.replace("WANT", want))
    assert main(["fit", "--config", "0.5.yaml", "--output", "run"]) == 0
    capsys.readouterr()
    assert main(["feasible", "--config", "0.5.yaml", "--near", "run"]) == 0
    said = capsys.readouterr().out
    assert "2,000 that run draws" in said
    assert "exponent 2: 0." in said
    assert main(["feasible", "--config", "3.5.yaml", "--near", "run"]) == 0
    said = capsys.readouterr().out
    assert "activity_low >= 3.5: none of the 2,000; the nearest has" in said
    assert "of your own 120 do, measured" in said
