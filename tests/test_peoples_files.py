"""Tables and lists as people have them, for every command that reads molecules or k-mers."""

import csv
import gzip
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from common import section
from processes import run

from gfn_design.errors import InputError
from gfn_design.files import texts
from gfn_design.files.kmer_tables import kmer_scores
from gfn_design.files.objects import read_molecules, read_texts

MOLECULES = [
    "CC(=O)Oc1ccccc1C(=O)O",
    "CC(=O)Nc1ccc(O)cc1",
    "CC(C)Cc1ccc(cc1)C(C)C(=O)O",
    "COc1ccc2cc(ccc2c1)C(C)C(=O)O",
    "CN1CCN(CC1)c1ccc(cc1)NC(=O)c1ccccc1",
    "O=C(Nc1ccccc1)N1CCCCC1",
    "CC(=O)N1CCN(CC1)c1ccccc1",
    "O=C(NCc1ccccc1)c1ccncc1",
]
HEADERS = ["smiles", "SMILES", "Smiles", "Canonical SMILES", "Structure", "compound_structure", "x"]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"]


def table(header="smiles", separator=",", note="µM"):
    rows = [f"name{separator}{header}{separator}IC50 ({note})"]
    rows += [f"mol {i}{separator}{text}{separator}{i}" for i, text in enumerate(MOLECULES)]
    return "\n".join([*rows, ""])


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_any_usual_table_of_molecules(header, separator, encoding, tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(table(header, separator).encode(encoding))
    found = read_molecules(path)
    assert [row.text for row in found.rows] == MOLECULES
    assert [row.name for row in found.rows] == [f"mol {i}" for i in range(len(MOLECULES))]
    assert [row.line for row in found.rows] == list(range(2, 2 + len(MOLECULES)))
    assert not found.aside


def test_open_positions_are_set_aside(tmp_path):
    path = tmp_path / "a.smi"
    path.write_text("CCO\n*\nC.*\n*CC*\nCCN\n")
    found = read_molecules(path)
    assert [row.text for row in found.rows] == ["CCO", "CCN"]
    assert [row.line for row in found.aside] == [2, 3, 4]


def test_a_table_without_a_header_loses_no_row(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("CCO,1\nCCN,2\nCCC,3\n")
    assert [row.text for row in read_molecules(path).rows] == ["CCO", "CCN", "CCC"]
    path.write_text("ACGT\nACGA\n")
    assert [row.text for row in read_texts(path)] == ["ACGT", "ACGA"]


def test_fasta_may_be_wrapped(tmp_path):
    path = tmp_path / "a.fasta"
    path.write_text(">one of two\nACGT\nAC\n\n>b\nGGG\n")
    assert [(r.text, r.name, r.line) for r in read_texts(path)] == [
        ("ACGTAC", "one", 2),
        ("GGG", "b", 6),
    ]


def test_a_table_with_the_name_of_a_list_is_read(tmp_path):
    path = tmp_path / "known.smi"
    path.write_text("Name;SMILES\nethanol;CCO\n")
    assert [row.text for row in read_molecules(path).rows] == ["CCO"]


def test_a_column_can_be_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("smiles,Parent Structure\nCCO,c1ccccc1\n")
    assert read_molecules(path).rows[0].text == "CCO"
    assert read_molecules(path, "parent structure").rows[0].text == "c1ccccc1"
    with pytest.raises(InputError, match="has no column 'x'; its columns are 'smiles', 'Parent"):
        read_molecules(path, "x")


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


MESSY = [
    ("Structure", "IC50 (nM)"),
    ("CC(=O)Nc1ccc(O)cc1", "12"),
    ("CN1CCN(CC1)c1ccccc1.Cl", "1,250"),
    ("", "3"),
    ("not measured", ">10000"),
    ("C1CC", "4"),
    ("CC(=O)N1CCN(CC1)c1ccccc1", "=cmd()"),
    ("[Na+].CC(=O)[O-]", ""),
    ("c1ccccc1C(=O)NCc1ccncc1", "7"),
]


def write_messy(path, more=()):
    with path.open("w", encoding="utf-16", newline="") as file:
        csv.writer(file, delimiter=";").writerows([*MESSY, *more])


def test_rows_are_set_aside_with_reason_and_remedy(tmp_path):
    write_messy(tmp_path / "messy.csv")
    found = read_molecules(tmp_path / "messy.csv")
    assert [row.text for row in found.rows] == [
        "CC(=O)Nc1ccc(O)cc1",
        "CN1CCN(c2ccccc2)CC1",
        "CC(=O)N1CCN(CC1)c1ccccc1",
        "CC(=O)O",
        "c1ccccc1C(=O)NCc1ccncc1",
    ]
    assert [(row.line, row.text) for row in found.aside] == [
        (4, ""),
        (5, "not measured"),
        (6, "C1CC"),
    ]
    assert found.salts == 2
    told = found.told(Path("messy.csv"))
    assert "of 2 salts the largest part is taken" in told
    assert "3 of 8 rows are set aside, the first in line 4: no structure" in told


def test_mine_reads_them_all_and_says_what_it_left_out(tmp_path):
    """The command, on the table of a notebook and on lists; no row ends it."""
    write_messy(tmp_path / "messy.csv")
    code, said = run("mine", "messy.csv", "--at_least", 1, folder=tmp_path)
    assert code == 0, said
    assert "3 of 8 rows are set aside" in said
    assert "messy_set_aside.csv" in said
    rows = rows_of(tmp_path / "messy_set_aside.csv")
    assert [row["line"] for row in rows] == ["4", "5", "6"]
    assert all(row["reason"] and row["remedy"] for row in rows)
    counts = set()
    files = {
        "title.csv": table("Smiles"),
        "upper.csv": table("SMILES"),
        "plain.tsv": table("smiles", "\t"),
        "bom.csv": "\ufeff" + table(),
        "salt.smi": "".join(f"{text} mol\n" for text in MOLECULES)
        + "CN1CCN(CC1)c1ccccc1.Cl salt\n",
        "empty.csv": table() + "no structure,,\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        code, said = run("mine", name, "--at_least", 1, folder=tmp_path)
        assert code == 0, said
        if name != "salt.smi":
            counts.add(said.partition(" fragments")[0].rpartition("\n")[2])
    assert len(counts) == 1


def test_the_walk_from_a_messy_table_to_picked_molecules(tmp_path):
    """mine, fit on what was mined, sample --pick with the table as reference."""
    write_messy(tmp_path / "messy.csv", [(text, "1") for text in MOLECULES])
    assert run("mine", "messy.csv", "--at_least", 1, folder=tmp_path)[0] == 0
    config = {
        "model": section(
            {
                "environment": {
                    "class_path": "Fragments",
                    "init_args": {
                        "fragments": "messy_fragments.csv",
                        "max_blocks": 4,
                        "forbidden": ["unstable"],
                        "closed": True,
                    },
                },
                "objective": "TrajectoryBalance",
                "network": {"class_path": "MLP", "init_args": {"width": 32, "depth": 1}},
                "batch_size": 32,
            }
        ),
        "data": {"class_path": "MoleculeData", "init_args": {"terms": [{"property": "QED"}]}},
        "candidates": 100,
        "trainer": {"max_steps": 30, "accelerator": "cpu", "limit_val_batches": 0},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    code, said = run("fit", "--config", "run.yaml", "--output", "out", folder=tmp_path)
    assert code == 0, said
    arguments = ("sample", "out", "-n", 200, "--pick", 12, "--reference", "messy.csv")
    code, said = run(*arguments, "--output", "picked", folder=tmp_path)
    assert code == 0, said
    assert "picked 12 far apart among" in said
    rows = rows_of(tmp_path / "picked/candidates.csv")
    assert len(rows) == 12
    assert max(int(row["rank"]) for row in rows) <= 48
    assert all(row["nearest"] for row in rows)
    assert (tmp_path / "picked/reference_set_aside.csv").exists()
    floors = {
        "QED>=0.6": lambda row: float(row["QED"]) >= 0.6,
        "top:15": lambda row: int(row["rank"]) <= 15,
    }
    for floor, good in floors.items():
        folder = floor[:3]
        code, said = run(*arguments, "--pick_from", floor, "--output", folder, folder=tmp_path)
        assert code == 0, said
        assert all(map(good, rows_of(tmp_path / folder / "candidates.csv")))
    code, said = run(*arguments, "--pick_from", "2.0", "--output", "none", folder=tmp_path)
    assert code == 2
    assert "none of" in said
    shutil.copy(tmp_path / "messy.csv", tmp_path / "known.csv")
    code, said = run(
        "finetune", "out", "--data", "MoleculeData", "--data.terms", "[{property: QED}]",
        "--known", "known.csv", "--output", "tuned", "--trainer.max_steps", 3, folder=tmp_path,
    )  # fmt: skip
    assert code == 0, said
    assert "known objects are learned from, the others cannot be built or read" in said
    assert (tmp_path / "tuned/known_set_aside.csv").exists()


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", ["sequence", "Seq", "8-mer", "Site"])
def test_any_usual_table_of_kmers(separator, encoding, name, tmp_path):
    kmers = ["".join(letters) for letters in itertools.product("ACGT", repeat=2)]
    rows = [f"note µ{separator}{name}{separator}E-score"]
    rows += [f"x{separator}{kmer}{separator}{i / 7}" for i, kmer in enumerate(kmers)]
    path = tmp_path / "t.csv"
    path.write_bytes("\r\n".join([*rows, ""]).encode(encoding))
    np.testing.assert_allclose(kmer_scores(path), np.arange(16) / 7, rtol=1e-6)
    packed = tmp_path / "t.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_allclose(kmer_scores(packed), np.arange(16) / 7, rtol=1e-6)


def test_a_table_has_limits(tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_text(table())
    monkeypatch.setattr(texts, "MOST_ROWS", 3)
    with pytest.raises(InputError, match="has more than 3 rows"):
        read_molecules(tmp_path / "t.csv")
    monkeypatch.setattr(texts, "MOST_BYTES", 10)
    with pytest.raises(InputError, match="is larger than"):
        read_molecules(tmp_path / "t.csv")


@pytest.mark.parametrize(
    "content", [b"\x00\x01\x02" * 50, b"\x89PNG\r\n\x1a\n" + b"\x00" * 80, b""]
)
def test_what_is_no_text_is_one_sentence(content, tmp_path):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"t\.csv"):
        read_molecules(tmp_path / "t.csv")
