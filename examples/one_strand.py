"""Makes a table of k-mers as some arrays give it: one strand of each pair, and gaps.

Usage: python examples/one_strand.py KMERS.parquet OUT.csv [--gaps 0.03] [--seed N]
"""

import argparse
import csv
import random
from pathlib import Path

from pyarrow import parquet


def main() -> None:
    """Write the table, in small letters."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kmers", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--gaps", type=float, default=0.03)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = parquet.read_table(options.kmers, columns=["sequence", "e_score"]).to_pylist()
    rng = random.Random(options.seed)
    kept = [row for row in rows if rng.random() >= options.gaps]
    with options.out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["8-mer (one strand)", "E-score"])
        writer.writerows([row["sequence"].lower(), f"{row['e_score']:.5f}"] for row in kept)
    print(f"{options.out}: {len(kept):,} of {len(rows):,} pairs of strands, one of each")


if __name__ == "__main__":
    main()
