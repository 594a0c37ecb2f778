"""Makes a clean table of measurements look as an electronic notebook exports it.

Usage: python examples/make_messy.py CLEAN.csv[.gz] MESSY.csv [--seed N]

CLEAN has the columns of the sEH measurements (chembl_id, smiles, pic50_median, ...). MESSY has a
column `IC50 (nM)` with thousands separators, limits and blanks, salts, compounds that were
measured twice, structures that are no SMILES, and columns nobody asked for; what a reader of
measurements should make of it is known: `expected` says it.
"""

import argparse
import csv
import gzip
import random
from pathlib import Path

WEAK = 5.0  # pIC50 below which the assay says >10000 nM alone
SALTS = (".Cl", ".OC(=O)C(F)(F)F", ".[Na+].[Cl-]")


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a table, packed or not."""
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    return list(csv.DictReader(text.splitlines()))


def messy(rows: list[dict[str, str]], seed: int = 0) -> tuple[list[list[str]], dict[str, int]]:
    """The cells of a messy table, and how many of each thing are in it."""
    rng = random.Random(seed)
    cells = [["Compound ID", "Structure", "IC50 (nM)", "n", "Operator", "Comment"]]
    counts = dict.fromkeys(("limits", "salts", "twice", "blank", "no structure", "words"), 0)
    for row in rows:
        value = float(row["pic50_median"])
        smiles, name = row["smiles"], row["chembl_id"]
        number = 10 ** (9 - value)
        text = f"{number:,.0f}" if number >= 1000 else f"{number:.3g}"
        if value < WEAK:
            text, counts["limits"] = ">10000", counts["limits"] + 1
        draw = rng.random()
        if draw < 0.03 and "." not in smiles:
            smiles += rng.choice(SALTS)
            counts["salts"] += 1
        elif draw < 0.05 and value >= WEAK:
            again = 10 ** (9 - value + rng.uniform(-0.2, 0.2))
            cells.append([name, smiles, f"{again:.4g}", "1", rng.choice(("AB", "CD")), "repeat"])
            counts["twice"] += 1
        cells.append([name, smiles, text, row["n_measurements"], rng.choice(("AB", "CD")), ""])
    for i in range(12):
        cells.append([f"X-{i}", "CCO", ("", "N/A", "n.d.")[i % 3], "", "EF", "not tested"])
        cells.append([f"Y-{i}", f"Compound of Ex. {i + 1}", "120", "1", "EF", ""])
        counts["blank"] += 1
        counts["words"] += 1
    for i in range(5):
        cells.append([f"Z-{i}", "", "35", "1", "EF", "structure to follow"])
        counts["no structure"] += 1
    body = cells[1:]
    rng.shuffle(body)
    return [cells[0], *body], counts


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clean", type=Path)
    parser.add_argument("messy", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cells, counts = messy(rows_of(options.clean), options.seed)
    with options.messy.open("w", newline="", encoding="cp1252") as file:
        csv.writer(file, delimiter=";").writerows(cells)
    told = ", ".join(f"{n} {what}" for what, n in counts.items())
    print(f"{options.messy}: {len(cells) - 1} rows, among them {told}")


if __name__ == "__main__":
    main()
