"""Turn the predictions of Le et al. (2018) into a table of 10-mers.

    python prepare.py all_predicted_ddGs.csv [pho4.parquet]

The list is part of the deposit doi:10.6084/m9.figshare.5728467. It was not at hand when this was
written: that it has a column of 10-mers and columns Pho4_ddG and Cbf1_ddG is taken from the
authors' code. What is missing or named otherwise is reported, never guessed.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gfn_design.errors import InputError
from gfn_design.files.kmer_tables import kmer_scores


def prepare(text: Path, output: Path) -> None:
    table: dict[str, pa.Array] = {
        "sequence": pa.array(map("".join, product("ACGT", repeat=10)), pa.large_string())
    }
    for factor in ("Pho4", "Cbf1"):
        ddg = kmer_scores(text, score=f"{factor}_ddG").astype(np.float64)
        if ddg.size != 4**10:
            raise InputError(f"{text} has {ddg.size:,} flanks, expected all 1,048,576 10-mers.")
        table[f"{factor.lower()}_ddg"] = pa.array(np.round(ddg - ddg.mean(), 5).astype(np.float32))
    pq.write_table(pa.table(table), output, compression="zstd")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write a table of 10-mers from the public list.")
    parser.add_argument("text", type=Path, help="all_predicted_ddGs.csv as deposited")
    parser.add_argument("output", type=Path, nargs="?", default=Path("pho4.parquet"))
    options = parser.parse_args()
    try:
        prepare(options.text, options.output)
    except InputError as error:
        parser.exit(2, f"{error}\n")
