"""Turn the genotypes of Sarkisyan et al. (2016) into a table of mutants.

    python prepare.py amino_acid_genotypes_to_brightness.tsv [avgfp_sarkisyan2016.parquet]

The list is the deposit doi:10.6084/m9.figshare.3102154. It was not at hand when this was written:
that it has the columns aaMutations (such as SA108D:SN144D, empty for the wild type),
uniqueBarcodes, medianBrightness and std is taken from its description. What is named otherwise is
reported.
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gfn_design.errors import InputError
from gfn_design.files.kmer_tables import number_of, read_columns

COLUMNS = {"uniqueBarcodes": "n_barcodes", "medianBrightness": "brightness", "std": "std"}


def prepare(text: Path, output: Path) -> None:
    columns = read_columns(text)
    lacking = [name for name in ("aaMutations", *COLUMNS) if name not in columns.names]
    if lacking:
        raise InputError(f"{text} has no column {lacking[0]}, only {columns.names}.")
    mutants = columns.values[columns.names.index("aaMutations")]
    # Every change has an S for "substitution" before it.
    table: dict[str, pa.Array] = {
        "mutations": pa.array(
            [":".join(part.removeprefix("S") for part in x.split(":")) for x in mutants],
            pa.large_string(),
        )
    }
    for theirs, ours in COLUMNS.items():
        numbers = [number_of(x) for x in columns.values[columns.names.index(theirs)]]
        kind = np.int32 if ours == "n_barcodes" else np.float32
        table[ours] = pa.array(np.array(numbers).astype(kind))
    pq.write_table(pa.table(table), output, compression="zstd")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write a table of mutants from the public list.")
    parser.add_argument("text", type=Path, help="the .tsv file as deposited")
    parser.add_argument("output", type=Path, nargs="?", default=Path("avgfp_sarkisyan2016.parquet"))
    options = parser.parse_args()
    try:
        prepare(options.text, options.output)
    except InputError as error:
        parser.exit(2, f"{error}\n")
