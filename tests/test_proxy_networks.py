"""Ensembles of neural networks that learn from measurements."""

from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from test_proxies import charge, sequences, table

from gfn_design.__main__ import main
from gfn_design.errors import InputError
from gfn_design.files.measured import other_strand
from gfn_design.proxies import networks
from gfn_design.proxies.inputs import Inputs
from gfn_design.proxies.networks import Networks
from gfn_design.proxies.proxy import load_proxy

CHAINS = [a + "C" * n + b for n in range(1, 16) for a in ("O", "N", "F", "S") for b in ("C", "CO")]


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(networks, "STEPS", 120)
    monkeypatch.setattr(networks, "MEMBERS", 2)


def fitted(kind, texts, values, strands="both"):
    model = Networks()
    model.fit(Inputs(kind, texts, strands), np.asarray(values, dtype=np.float64))
    return model


def explained(model, inputs, values):
    """Of the variance of what the model has not seen."""
    values = np.asarray(values, dtype=np.float64)
    return 1 - np.mean((model.predict(inputs).mean - values) ** 2) / values.var()


def test_sequences_are_learned_from():
    texts, new = sequences(300), sequences(100, seed=1)
    model = fitted("protein", texts, list(map(charge, texts)))
    found = model.predict(Inputs("protein", new))
    assert explained(model, Inputs("protein", new), list(map(charge, new))) > 0.7
    assert (found.spread >= 0).all()
    assert found.spread.max() > 0  # members differ


def test_molecules_are_learned_from_whatever_the_order_of_their_atoms():
    rows = np.random.default_rng(0).permutation(len(CHAINS))
    known, new = ([CHAINS[i] for i in part] for part in (rows[:80], rows[80:]))
    heavy = [[Chem.MolFromSmiles(x).GetNumAtoms() for x in part] for part in (known, new)]
    model = fitted("molecules", known, heavy[0])
    assert explained(model, Inputs("molecules", new), heavy[1]) > 0.5
    turned = [Chem.MolToSmiles(Chem.MolFromSmiles(x), doRandom=True) for x in new]
    one, other = (model.predict(Inputs("molecules", x)).mean for x in (new, turned))
    assert one == pytest.approx(other, abs=1e-4)


def test_a_molecule_of_one_atom_can_be_asked_of():
    networks.STEPS = 10
    model = fitted("molecules", CHAINS[:40], np.arange(40.0))
    assert np.isfinite(model.predict(Inputs("molecules", ["C", "CCO"])).mean).all()


@pytest.mark.parametrize("strands", ["both", "given"])
def test_both_strands_are_read_alike_if_they_are_one_object(strands):
    texts = sequences(60, alphabet="ACGT", low=6, high=9)
    model = fitted("DNA", texts, [x.count("A") for x in texts], strands)
    ones, others = (
        model.predict(Inputs("DNA", some, strands)).mean
        for some in (texts, list(map(other_strand, texts)))
    )
    assert (ones == pytest.approx(others, abs=1e-4)) == (strands == "both")


@pytest.mark.parametrize("kind", ["protein", "molecules"])
def test_networks_are_the_same_after_saving(kind):
    networks.STEPS = 10
    texts = sequences(40) if kind == "protein" else CHAINS[:40]
    model = fitted(kind, texts, np.arange(40.0))
    again = Networks()
    again.load(model.state())
    for own, other in zip(
        model.predict(Inputs(kind, texts)), again.predict(Inputs(kind, texts)), strict=True
    ):
        assert own == pytest.approx(other, abs=1e-6)


def test_the_same_data_give_the_same_networks_and_leave_randomness_alone():
    import torch

    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    texts = sequences(40)
    said = [
        fitted("protein", texts, np.arange(40.0)).predict(Inputs("protein", texts)).mean
        for _ in range(2)
    ]
    assert torch.equal(torch.rand(2), expected)
    assert said[0] == pytest.approx(said[1], abs=1e-6)


def test_a_network_of_another_shape_is_refused():
    state = fitted("protein", sequences(40), np.arange(40.0)).state()
    state["0.output.1.weight"] = state["0.output.1.weight"][:, 1:]
    with pytest.raises(ValueError, match="network 1 is of another shape"):
        Networks().load(state)


def test_networks_take_part_if_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table(tmp_path, 80, noise=0.05)
    monkeypatch.setattr(networks, "STEPS", 20)
    assert main(["proxy", "peptides.csv", "--networks"]) == 0
    assert "neural networks" in capsys.readouterr().out
    proxy = load_proxy(Path("peptides_proxy", "proxy.safetensors"))
    proxy.model = fitted("protein", proxy.about.texts, proxy.about.values)
    proxy.about = proxy.about._replace(model=Networks.name)
    proxy.save(tmp_path / "networks.safetensors")
    again = load_proxy(tmp_path / "networks.safetensors")
    texts = sequences(20, seed=5)
    assert again.predict(texts).mean == pytest.approx(proxy.predict(texts).mean, abs=1e-5)
    torn = fitted("protein", sequences(40), np.arange(40.0))
    torn.members = torn.members[:1]
    again.model = torn
    again.save(tmp_path / "torn.safetensors")
    with pytest.raises(InputError, match="its neural networks is not whole"):
        load_proxy(tmp_path / "torn.safetensors")
