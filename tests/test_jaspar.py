"""Which matrix of JASPAR is taken, and motifs of one's own."""

import numpy as np
import pytest
import yaml
from common import section
from processes import run

from gfn_design import MotifData
from gfn_design.errors import InputError
from gfn_design.rewards.jaspar import jaspar_motif, motif_of, read_motif

ROWS = np.array([[10, 0, 80, 5], [20, 90, 0, 5], [30, 10, 20, 85], [40, 0, 0, 5.0]])  # A, C, G, T


@pytest.mark.parametrize(
    ("name", "matrix"),
    [
        ("RORA", "MA0072.2"),
        ("SREBF1", "MA0829.3"),
        ("TFAP2A", "MA0872.1"),
        ("rora", "MA0072.2"),
        ("ma0148.5", "MA0148.5"),
        ("MA0148", "MA0148.5"),
        ("MYC::MAX", "MA0059.2"),
        ("max::myc", "MA0059.2"),
        (" FOXA1 ", "MA0148.5"),
    ],
)
def test_the_newest_matrix_of_a_name(name, matrix):
    assert jaspar_motif(name).source == f"JASPAR 2026, {matrix}"


def test_other_matrices_of_a_name_are_listed():
    motif = jaspar_motif("RORA")
    assert "MA0071.1" in motif.others
    assert "JASPAR 2026, MA0072.2" in motif.remark
    assert "others of that name: MA0071.1" in motif.remark


@pytest.mark.parametrize(
    "name",
    ["5'-ETS", "x' OR '1'='1", '"; DROP TABLE MATRIX; --', "", "%", "\x00", "Ω" * 500, "FOXQQ"],
)
def test_a_name_is_never_part_of_a_query(name):
    with pytest.raises(InputError, match="JASPAR 2026 has no factor"):
        jaspar_motif(name)
    assert jaspar_motif("FOXA1")


def test_a_name_that_begins_alike_is_a_hint():
    with pytest.raises(InputError, match=r"there are FOX.*give a name such as FOXA1"):
        jaspar_motif("FOXQQ")


def files():
    columns = [list(map(float, column)) for column in ROWS.T]
    shares = [[x / 100 for x in column] for column in columns]
    head = "MEME version 4\n\nALPHABET= ACGT\n\nMOTIF M1 OWN\n"
    head += "letter-probability matrix: alength= 4 w= 4 nsites= 100 E= 0\n"
    letters = dict(zip("ACGT", ROWS.tolist(), strict=True))
    numbered = dict(enumerate(columns, 1))
    return {
        "own.meme": head + lines_of(shares) + "\nURL x\n",
        "own.motif": ">AACC\tOWN/some\t6.0\n" + lines_of(shares, "\t"),
        "own.jaspar": ">MA1 OWN\n"
        + "".join(f"{x} [ {' '.join(map(str, row))} ]\n" for x, row in letters.items()),
        "own.pfm": ">OWN\n" + lines_of(ROWS.tolist()),
        "own.transfac": "AC M1\nXX\nID OWN\nXX\nP0  A C G T\n"
        + "".join(f"{i:02d} {' '.join(map(str, row))} N\n" for i, row in numbered.items())
        + "XX\n//\n",
    }


def lines_of(rows, separator=" "):
    return "".join(separator.join(map(str, row)) + "\n" for row in rows)


DAMAGED = [
    "ID x\nP0 A C G T\n01 1 2 3 4\n02 1 2 3\n",
    "MEME version 4\n\nMOTIF x\nletter-probability matrix: w= 3\n.1 .2 .3 .4\n.1 .2 .3 .4\n.1 .2\n",
    ">x\n.1\t.2\t.3\t.4\n.1\t.2\t.3\n",
]
NO_MOTIFS = [
    *DAMAGED,
    "",
    "hello\n",
    ">x\n1 2\n3 4\n",
    ">x\n0 0\n0 0\n0 0\n0 0\n",
    "MEME version 4\n",
]


@pytest.mark.parametrize("name", files())
def test_motif_files(name, tmp_path):
    path = tmp_path / name
    path.write_text(files()[name])
    motif = motif_of(str(path))
    np.testing.assert_allclose(motif.counts, ROWS, atol=1e-6)
    assert motif.name == "OWN"
    assert motif.source.startswith(name)
    assert MotifData(str(path)).remarks() == [motif.remark]


@pytest.mark.parametrize("text", NO_MOTIFS)
def test_what_holds_no_motif(text, tmp_path):
    (tmp_path / "own.meme").write_text(text)
    with pytest.raises(InputError, match=r"own\.meme: holds no motif"):
        read_motif(tmp_path / "own.meme")


def test_a_run_says_and_writes_down_which_matrix_it_took(tmp_path):
    config = {
        "model": section(
            {
                "environment": {
                    "class_path": "Sequence",
                    "init_args": {"alphabet": "DNA", "length": 4},
                },
                "objective": "TrajectoryBalance",
                "network": {"class_path": "MLP", "init_args": {"width": 16, "depth": 1}},
            }
        ),
        "data": {"class_path": "MotifData", "init_args": {"factor": "RORA"}},
        "candidates": 0,
        "trainer": {"max_steps": 3, "accelerator": "cpu"},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    code, said = run("fit", "--config", "run.yaml", "--output", "out", folder=tmp_path)
    assert code == 0, said
    assert "The motif of RORA is JASPAR 2026, MA0072.2" in said
    assert "others of that name: MA0071.1" in (tmp_path / "out/README.md").read_text()
    assert not (tmp_path / "out/candidates.csv").exists()  # none were asked for
    flags = ("--output", "no", "--candidates", -1)
    code, said = run("fit", "--config", "run.yaml", *flags, folder=tmp_path)
    assert code == 2
    assert "candidates must not be negative" in said


@pytest.mark.parametrize(
    "flags",
    [
        ("--trainer.logger", "{class_path: shutil.rmtree, init_args: {path: precious}}"),
        ("--trainer.callbacks", "[{class_path: os.mkdir, init_args: {path: made}}]"),
        (
            "--trainer.callbacks",
            "[{class_path: subprocess.Popen, init_args: {args: [touch, made]}}]",
        ),
        ("--model.networks.network", "{class_path: shutil.rmtree, init_args: {path: precious}}"),
        ("--data", "{class_path: shutil.rmtree, init_args: {path: precious}}"),
    ],
)
def test_a_class_path_builds_what_the_place_wants_and_nothing_else(flags, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "run.yaml").write_text(
        "model: {environment: {class_path: Sequence, init_args: {alphabet: DNA, length: 3}},"
        " objective: TrajectoryBalance}\ndata: MotifData\ntrainer: {max_steps: 2}\n"
    )
    code, said = run("fit", "--config", "run.yaml", "--output", "out", *flags, folder=tmp_path)
    assert code == 2, said
    assert "Traceback" not in said
    assert (tmp_path / "precious").is_dir()
    assert not (tmp_path / "made").exists()
