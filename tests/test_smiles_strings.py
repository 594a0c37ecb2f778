"""Molecules written as SMILES strings."""

from functools import partial

import pytest
import torch
from lightning.pytorch import Trainer
from rdkit import Chem

from gfn_design import (
    MLP,
    FunctionData,
    GFlowNet,
    InputError,
    Networks,
    Optimiser,
    Smiles,
    TrajectoryBalance,
    check_environment,
)
from gfn_design.__main__ import main

SMALL = ["C", "O", "=", "(", ")"]
QUIET = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar"], False)
KNOWN = ["CCO", "CC(C)O", "c1ccccc1", "C[C@H](N)C(=O)O", "ClCCBr", "C1CC1", "CC#N", "[nH]1cccc1"]


@pytest.mark.parametrize("max_length", [1, 4])
def test_the_contract_is_kept(max_length):
    check_environment(Smiles(SMALL, max_length), examples=5)


@pytest.mark.parametrize("text", KNOWN)
def test_strings_are_split_into_atoms_bonds_and_rings(text):
    environment = Smiles(sorted({x for y in KNOWN for x in Smiles().split(y)}), 20)
    state = environment.encode([text])
    assert environment.decode(state) == [text]
    assert environment.smiles(state) == [Chem.CanonSmiles(text)]
    assert environment.rejected_for(state) == [None]


def test_atoms_of_two_letters_and_brackets_are_one_symbol():
    split = Smiles().split
    assert split("Clc1cc[nH]c1Br") == ["Cl", "c", "1", "c", "c", "[nH]", "c", "1", "Br"]
    assert split("C%12C") == ["C", "%12", "C"]
    with pytest.raises(InputError, match="is no SMILES of one molecule"):
        split("CC.O")


def test_what_is_no_molecule_is_rejected():
    environment = Smiles(SMALL, 5)
    states = environment.encode(["C(", "C=O", "C==C", "CC"])
    assert environment.smiles(states) == ["", "C=O", "", "CC"]
    reasons = environment.rejected_for(states)
    assert reasons == ["RDKit does not read it", None, "RDKit does not read it", None]


@pytest.mark.parametrize(
    ("alphabet", "said"),
    [
        (["C", "??"], "is no symbol of SMILES"),
        (["=", "("], "an atom among them"),
        ("no.smi", "file"),
    ],
)
def test_alphabets_that_cannot_be(alphabet, said):
    with pytest.raises(InputError, match=said):
        Smiles(alphabet)


def test_strings_that_are_molecules_are_learned():
    """Of 340 strings some are molecules; what is built at the end nearly always is one."""
    environment = Smiles(["C", "O", "=", "N"], 4)
    torch.manual_seed(0)
    module = GFlowNet(
        environment,
        TrajectoryBalance(),
        Networks(partial(MLP, width=64, depth=1)),
        optimiser=Optimiser(lr=5e-3),
        draw_seed=0,
    )
    data = FunctionData(lambda texts: [1.0 + text.count("O") for text in texts])
    trainer = Trainer(
        max_steps=1500, limit_val_batches=0, enable_model_summary=False, accelerator="cpu", **QUIET
    )
    trainer.fit(module, datamodule=data)
    module.use(data)
    drawn = module.draw(500, 0, 1).objects
    good = [reason is None for reason in environment.rejected_for(drawn)]
    assert sum(good) > 475
    assert module.evaluate().metrics["D_TV"] < 0.1


def test_a_prior_writes_smiles(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "known.smi").write_text(
        "\n".join(a + "C" * n + "O" for n in range(1, 12) for a in "CNO")
    )
    quick = ["--trainer.max_steps", "150", "--candidates", "5", "--length", "14"]
    assert main(["pretrain", "known.smi", "--write", "smiles", "--output", "prior", *quick]) == 0
    assert "held out:" in capsys.readouterr().out
    with (tmp_path / "prior" / "candidates.smi").open() as file:
        assert all(Chem.MolFromSmiles(line.split()[0]) is not None for line in file)
