"""Tables of measurements as people have them: what is read, merged, converted and set aside."""

import csv
import itertools
import math
from pathlib import Path

import pytest

from gfn_design.__main__ import main
from gfn_design.errors import InputError
from gfn_design.files.measured import merged, other_strand
from gfn_design.files.measurements import Columns, read_measurements
from gfn_design.files.readings import Conversion, Reading, has_decimal_commas, read_number, unit_in
from gfn_design.files.structures import Structure, Unusable, clean_structure

TABLES = Path(__file__).with_name("tables")


def written(folder, text, name="t.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("cell", "value", "limit", "unit"),
    [
        (">10000", 10000, ">", ""),
        ("≥ 10", 10, ">", ""),
        ("&gt;50", 50, ">", ""),
        ("<= 0.5", 0.5, "<", ""),
        ("1,250", 1250, "", ""),
        ("1,250.5", 1250.5, "", ""),
        ("1.250,5", 1250.5, "", ""),
        ("0,35", 0.35, "", ""),
        ("1 250", 1250, "", ""),
        ("1'250", 1250, "", ""),
        ("12 ± 3 nM", 12, "", "nM"),
        ("5.2 (0.3)", 5.2, "", ""),
        ("3+/-1", 3, "", ""),
        ("~7.2", 7.2, "", ""),
        ("> 10 µM", 10, ">", "µM"),
        ("1e-9", 1e-9, "", ""),
        ("-4", -4, "", ""),
        (".5", 0.5, "", ""),
    ],
)
def test_numbers_as_notebooks_export_them(cell, value, limit, unit):
    assert read_number(cell, has_decimal_commas([cell])) == Reading(value, limit, unit)


@pytest.mark.parametrize("cell", ["yes", "", "N/A", "12 to 14", "1.2.3", "inf", "2024-01-05"])
def test_what_is_no_number_is_refused(cell):
    with pytest.raises(InputError, match="not a"):
        read_number(cell)


def test_a_column_says_whether_its_commas_are_decimal():
    assert not has_decimal_commas(["1,250", "3,000", "12.5"])
    assert has_decimal_commas(["1,250", "0,35"])
    assert has_decimal_commas(["0,350", "0,125", "1,250"])


@pytest.mark.parametrize(
    ("cell", "value"),
    [("0,35", 0.35), ("7.31", 7.31), ("12.5", 12.5), ("1.5e-3", 1.5e-3), ("1.250,5", 1250.5)],
)
def test_points_among_decimal_commas_stay_points(cell, value):
    assert read_number(cell, commas=True).value == pytest.approx(value)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("IC50 (nM)", "nM"),
        ("IC50_uM", "uM"),
        ("Ki [µM]", "uM"),
        ("nmol/L", "nM"),
        ("MIC", ""),
        ("M1 receptor IC50 (nM)", "nM"),
        ("M. tuberculosis MIC (uM)", "uM"),
        ("M2 inhibition", ""),
        ("concentration / M", "M"),
        ("EC50 nM mean", "nM"),
    ],
)
def test_units_in_names_of_columns(name, unit):
    assert unit_in(name) == unit


def test_conversions_turn_limits_round():
    convert = Conversion("pIC50")
    assert convert(Reading(10_000, ">"), "nM") == Reading(5.0, "<")
    assert convert(Reading(1.0, "", "mM"), "nM") == Reading(3.0)
    assert Conversion("log10")(Reading(100, ">"), "") == Reading(2.0, ">")
    assert Conversion(None)(Reading(7, "<"), "") == Reading(7, "<")
    for bad in (Reading(0.0), Reading(-3.0), Reading(1.0, "", "ug/mL")):
        with pytest.raises(InputError):
            convert(bad, "nM")


@pytest.mark.parametrize(
    ("text", "smiles"),
    [
        ("CCO", "CCO"),
        ("CCN.Cl", "CCN"),
        ("CC(=O)[O-].[Na+]", "CC(=O)O"),
        ("NCCO.Cc1ccc(S(=O)(=O)O)cc1", "NCCO"),  # not the largest part, but the acid is known
        ("C[N+](C)(C)CC(=O)[O-]", "C[N+](C)(C)CC(=O)[O-]"),  # no neutral form
        ("InChI=1S/CH4/h1H4", "C"),
    ],
)
def test_structures_are_standardised(text, smiles):
    found = clean_structure(text)
    assert isinstance(found, Structure)
    assert found.smiles == smiles


@pytest.mark.parametrize("text", ["", "c1ccccc1(", "Compound of Ex. 14", "[*]C", "V2000 M  END"])
def test_what_is_no_molecule_says_what_to_do(text):
    found = clean_structure(text)
    assert isinstance(found, Unusable)
    assert found.reason
    assert found.remedy


def test_the_torture_table_has_its_golden_report(tmp_path, monkeypatch, capsys):
    """40 rows with all that exports contain: decimal commas, units in cells, salts, limits, ..."""
    monkeypatch.chdir(tmp_path)
    Path("torture.csv").write_bytes((TABLES / "torture.csv").read_bytes())
    assert main(["data", "torture.csv", "--to", "pIC50"]) == 0
    said = capsys.readouterr().out
    golden = (TABLES / "torture_report.txt").read_text()
    found = "\n".join(
        [said, Path("torture_clean.csv").read_text(), Path("torture_set_aside.csv").read_text()]
    )
    assert found.splitlines() == golden.splitlines()


def test_ends_of_peptides_and_strands_are_left_out(tmp_path):
    text = "Peptide,log10 MIC\nAc-KLLKW-NH2,0.5\nH-KLKKW-OH,1\nKLAKLAK,1\ncyclo(RRWWRF),1\n"
    found = read_measurements(written(tmp_path, text))
    assert [row.text for row in found.rows] == ["KLLKW", "KLKKW", "KLAKLAK"]
    assert any("2 are written with ends" in note for note in found.notes)
    text = "site,score\n5'-AGAGGAGT-3',1\nAGAGGAGA,2\nAGAGGAGC,2\n"
    found = read_measurements(written(tmp_path, text, "dna.csv"))
    assert found.texts == ["AGAGGAGT", "AGAGGAGA", "AGAGGAGC"]


def test_peptides_all_in_small_letters_are_read(tmp_path):
    found = read_measurements(written(tmp_path, "Peptide,log10 MIC\nkllkw,1\nklakl,2\n"))
    assert found.texts == ["KLLKW", "KLAKL"]


def test_units_that_contradict_each_other_are_refused(tmp_path):
    path = written(tmp_path, "smiles,IC50 (nM)\nCCO,10\nCCN,20\n")
    with pytest.raises(InputError, match="says nM, but --unit uM"):
        read_measurements(path, Columns(to="pIC50", unit="uM"))
    path = written(tmp_path, "smiles,% ctrl\nCCO,10\nCCN,20\n", "percent.csv")
    with pytest.raises(InputError, match="is a percentage"):
        read_measurements(path, Columns(to="pIC50"))


def test_rna_stays_rna(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f"R{i},{'ACGU'[i % 4]}UAGU{'ACGU'[i // 4]}GU,{i}" for i in range(16)]
    Path("rna.csv").write_text("\n".join(["name,sequence,activity", *rows]))
    assert main(["data", "rna.csv", "--kind", "RNA"]) == 0
    again = read_measurements(Path("rna_clean.csv"))
    assert again.kind == "RNA"
    assert again.texts == read_measurements(Path("rna.csv")).texts


def test_names_and_quantities_like_formulas_are_read_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f"={i}+A,CC{'C' * i}O,{i + 1}" for i in range(5)]
    Path("t.csv").write_text("\n".join(["name,smiles,-log10 MIC", *rows]))
    assert main(["data", "t.csv", "--value", "-log10 MIC"]) == 0
    assert "\n'=0+A," in Path("t_clean.csv").read_text()  # no spreadsheet runs it
    again = read_measurements(Path("t_clean.csv"))
    assert again.quantity == "-log10 MIC"
    assert [row.name for row in again.rows] == [f"={i}+A" for i in range(5)]
    Path("u.csv").write_text(Path("t.csv").read_text().replace(",1\n", ",1.5\n"))
    assert main(["data", "u.csv", "--value", "-log10 MIC", "--append", "t_clean.csv"]) == 0


def test_minus_the_logarithm_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text("smiles,MIC\nCCO,100\nCCN,>10\n")
    assert main(["data", "t.csv", "--to", "neglog10"]) == 0
    found = read_measurements(Path("t_clean.csv"))
    assert found.quantity == "neglog10 MIC"
    assert [(row.value, row.limit) for row in found.rows] == [(-2.0, ""), (-1.0, "<")]


@pytest.mark.parametrize("value", ["logP", "purity", "length"])
def test_whatever_was_measured_is_known_in_a_cleaned_table(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text(f"smiles,{value}\nCCO,1\nCCN,2\n")
    assert main(["data", "t.csv", "--value", value]) == 0
    assert read_measurements(Path("t_clean.csv")).quantity == value


def test_columns_of_others_called_like_ours_are_not_ours(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("smiles,pIC50,measurements,spread\nCCO,5,n/a,x\nCCN,6,2.0,y\n")
    assert [row.times for row in read_measurements(path).rows] == [1, 1]


def test_dates_in_names_of_files_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("2026.11.03_plate1.csv", "2026.11.04_plate2.csv"):
        Path(name).write_text("smiles,pIC50\nCCO,5\nCCN,6\n")
        assert main(["data", name]) == 0
    assert Path("2026.11.03_plate1_clean.csv").is_file()
    assert Path("2026.11.04_plate2_clean.csv").is_file()


def test_a_cleaned_table_is_read_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("torture.csv").write_bytes((TABLES / "torture.csv").read_bytes())
    assert main(["data", "torture.csv", "--to", "pIC50"]) == 0
    first = read_measurements(Path("torture.csv"), Columns(to="pIC50"))
    again = read_measurements(Path("torture_clean.csv"))
    assert again.quantity == first.quantity == "pIC50"
    assert not again.aside
    assert not [note for note in again.notes if "salt" in note]
    for own, other in zip(first.rows, again.rows, strict=True):
        assert own.text == other.text
        assert own.value == pytest.approx(other.value, rel=1e-5)
        assert (own.limit, own.times, own.round) == (other.limit, other.times, other.round)


def test_relations_and_units_in_columns_of_their_own(tmp_path):
    path = written(
        tmp_path,
        "Molecule ChEMBL ID,Smiles,Standard Relation,Standard Value,Standard Units\n"
        "A,CCO,'=',100,nM\nB,CCN,'>',10,uM\nC,CCC,'<',1,nM\n",
    )
    rows = read_measurements(path, Columns(to="pIC50")).rows
    assert [(row.name, row.limit) for row in rows] == [("A", ""), ("B", "<"), ("C", ">")]
    assert [round(row.value, 6) for row in rows] == [7.0, 5.0, 9.0]


def test_both_strands_are_one_object_unless_they_are_not(tmp_path):
    path = written(tmp_path, "seq,score\nacgta,1\nTACGT,3\nGGGGA,2\nGGNGA,2\n")
    both = read_measurements(path)
    assert both.kind == "DNA"
    assert [(row.text, row.value, row.times) for row in both.rows] == [
        ("ACGTA", 2.0, 2),
        ("GGGGA", 2.0, 1),
    ]
    assert "holds 'N'" in both.aside[0].reason
    assert len(read_measurements(path, Columns(strands="given")).rows) == 3


def test_peptides_with_strange_residues_are_set_aside(tmp_path):
    path = written(tmp_path, "Peptide,log10 MIC\nKLLKW,0.5\nKLXKW,1\nACE-KLLK,1\nklaklak,0.7\n")
    found = read_measurements(path)
    assert found.kind == "protein"
    assert [row.text for row in found.rows] == ["KLLKW"]
    assert "D residues" in found.aside[-1].reason
    assert [row.line for row in found.aside] == [3, 4, 5]


@pytest.mark.parametrize(
    ("text", "asked", "said"),
    [
        ("a,IC50 (nM)\nCCO,1\n", Columns(value="IC50"), "did you mean 'IC50 \\(nM\\)'"),
        ("smiles,a,b\nCCO,1,2\nCCN,1,3\n", Columns(), "--value NAME; columns of numbers: 'a', 'b'"),
        ("smiles,IC50\nCCO,1\nCCN,12000\n", Columns(to="pIC50"), "looks like nM: say --unit nM"),
        ("smiles,IC50\nCCO,1\n", Columns(to="IC50"), "--to takes pIC50"),
        ("words,IC50\nhello there,1\n", Columns(), "no column of SMILES or sequences"),
        ("smiles,IC50\n", Columns(), "no rows below its header"),
        ("smiles,IC50\nCCO,N/A\nxx,3\n", Columns(value="IC50"), "no row can be used"),
    ],
)
def test_mistakes_have_one_clear_sentence(tmp_path, text, asked, said):
    with pytest.raises(InputError, match=said):
        read_measurements(written(tmp_path, text), asked)


def test_a_workbook_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(InputError, match="export the sheet as CSV"):
        read_measurements(written(tmp_path, "x", "t.xlsx"))


def test_merging_equals_brute_force():
    """Any order of the same rows gives the same mean, and the closest of limits."""
    from gfn_design.files.measured import Measurement

    rows = [
        Measurement("a", "CCO", 5.0, line=2),
        Measurement("a", "CCO", 7.0, line=3),
        Measurement("a", "CCO", 4.0, "<", line=4),
        Measurement("b", "CCN", 4.0, "<", line=5),
        Measurement("b", "CCN", 4.5, "<", line=6),
        Measurement("c", "CCC", 9.0, ">", line=7),
        Measurement("c", "CCC", 4.0, "<", line=8),
    ]
    for order in itertools.islice(itertools.permutations(rows), 0, 5040, 97):
        kept, merging = merged(order, "molecules")
        found = {row.text: (row.value, row.limit, row.times) for row in kept}
        assert found == {"CCO": (6.0, "", 2), "CCN": (4.0, "<", 2)}
        assert [row.text for row in merging.aside] == ["CCC"]
        assert sum("that its numbers are beyond" in note for note in merging.notes) == 1  # CCO < 4


def test_the_other_strand():
    assert other_strand("AACGT") == "ACGTT"
    assert math.isclose(len(other_strand("A" * 7)), 7)


def test_the_table_itself_is_not_overwritten(tmp_path, capsys):
    path = written(tmp_path, "smiles,IC50\nCCO,1\n")
    assert main(["data", str(path), "--output", str(path)]) == 2
    assert "choose another --output" in capsys.readouterr().err
    assert path.read_text() == "smiles,IC50\nCCO,1\n"


def test_set_aside_rows_open_in_a_spreadsheet(tmp_path):
    path = written(tmp_path, 'smiles,score\nCCO,1\n"=1+1",2\n')
    assert main(["data", str(path)]) == 0
    with (tmp_path / "t_set_aside.csv").open() as file:
        assert next(csv.DictReader(file))["text"].startswith("'=")
