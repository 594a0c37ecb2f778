"""SELFIES strings: the contract, that each is a molecule, and where symbols come from."""

import pytest
import torch
from rdkit import Chem

from gfn_design import InputError, Selfies, check_environment

SMALL = ["[C]", "[=O]", "[Branch1]", "[Ring1]"]


@pytest.mark.parametrize("max_length", [1, 3])
def test_strings_keep_the_contract(max_length):
    check_environment(Selfies(SMALL, max_length), examples=5)


def test_long_strings_keep_the_contract():
    environment = Selfies(max_length=30)
    assert (environment.n_states, environment.n_actions) == (None, 22)
    check_environment(environment, examples=3, brute_force_limit=50)


def test_what_may_come_next():
    environment = Selfies(SMALL, 2)
    states = environment.encode(["", "[C]", "[=O][Ring1]"])
    assert environment.legal(states).int().tolist() == [
        [1, 1, 0, 0, 0],  # an atom, and no stop: the empty string is no molecule
        [1, 1, 1, 1, 1],
        [0, 0, 0, 0, 1],
    ]
    assert environment.legal_backward(states).tolist() == [[False], [True], [True]]
    assert environment.log_ways(states).tolist() == [0, 0, 0]
    assert environment.n_states == 1 + 4 + 16


def test_every_string_is_a_molecule_without_radicals():
    environment, random = Selfies(max_length=20), torch.Generator().manual_seed(0)
    states, met = environment.initial(100), []
    for _ in range(20):
        moves = environment.legal(states)[:, :-1].float()
        states, _ = environment.step(states, moves.multinomial(1, generator=random)[:, 0])
        met.append(states[:20])
    smiles = environment.smiles(torch.cat([states, *met]))
    for text in smiles:
        molecule = Chem.MolFromSmiles(text)
        assert molecule.GetNumAtoms() > 0
        assert Chem.MolToSmiles(molecule) == text
        assert not any(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms())


def test_the_object_is_the_string():
    """Two strings of one molecule are two objects, each with its own share of probability."""
    environment = Selfies(max_length=6)
    texts = ["[C][C][O]", "[O][C][C]", "[C][Branch1][C][O][C]"]
    states = environment.encode(texts)
    assert environment.decode(states) == texts
    assert environment.smiles(states) == ["CCO"] * 3
    assert environment.log_states_per_object(states).tolist() == [0, 0, 0]
    assert environment.molecules
    assert not environment.several_states


def test_symbols_are_taken_from_a_file_of_smiles(tmp_path):
    file = tmp_path / "known.smi"
    file.write_text("CC(=O)N ethanamide\n\nC1CC1\n")
    environment = Selfies(str(file), 8)
    assert environment.symbols == ("[=Branch1]", "[=O]", "[C]", "[N]", "[Ring1]")
    assert environment.describe() == Selfies(list(environment.symbols), 8).describe()
    file.write_text("CC(=O)N\nC(\nC1CC1.Cl\n")  # what cannot be read is set aside, salts are cut
    assert Selfies(str(file), 8).symbols == environment.symbols
    file.write_text("C(\n")
    with pytest.raises(InputError, match=r"known\.smi: holds no molecule that RDKit reads"):
        Selfies(str(file))
    with pytest.raises(InputError, match=r"alphabet has '\.', which would join two molecules"):
        Selfies(["[C]", "."])
    with pytest.raises(InputError, match=r"cannot read nowhere\.smi"):
        Selfies("nowhere.smi")


@pytest.mark.parametrize(
    ("alphabet", "length", "message"),
    [
        (["[C]", "[C]"], 5, "alphabet needs different symbols, an atom among them"),
        (["[Ring1]", "[Branch1]"], 5, "alphabet needs different symbols, an atom among them"),
        (["[C]", "[Xx]"], 5, r"alphabet has '\[Xx\]', which is no symbol of SELFIES"),
        (["[C]"], 0, "max_length must be at least 1, got 0"),
    ],
)
def test_constructor_refuses(alphabet, length, message):
    with pytest.raises(InputError, match=message):
        Selfies(alphabet, length)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[C][N]", r"holds '\[N\]', which is not in the alphabet \[C\] \[=O\]"),
        ("[C][C][C]", "has 3 symbols, expected at most 2"),
        ("[Ring1]", r"begins with \[Ring1\], expected an atom"),
        ("[C", "is neither SELFIES nor a SMILES"),
    ],
)
def test_encode_refuses(text, message):
    with pytest.raises(InputError, match=message):
        Selfies(SMALL, 2).encode([text])
