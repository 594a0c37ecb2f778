"""Turn the public SIX6 text into six6_ref_r1.parquet: python prepare.py SIX6_REF_R1_8mers.txt

The output has the columns described in the README beside this file. Its values are those of the
published file; its bytes, and so its sha256, depend on the version of pyarrow.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gfn_design.errors import InputError
from gfn_design.files.kmer_tables import diverse_modes, kmer_scores
from gfn_design.files.registry import SOURCES, content_sha256


def prepare(text: Path, output: Path) -> None:
    e_score = kmer_scores(text, score="E-score")
    if content_sha256(e_score) != SOURCES["six6"].content_sha256:
        raise InputError(f"{text} is a complete table, but not that of SIX6_REF_R1.")
    # Back to the five published decimals: float32 differences would move the last bit of a reward.
    exact = np.round(e_score.astype(np.float64), 5)
    reward = ((exact - exact.min()) / (exact.max() - exact.min())).astype(np.float32)
    published = np.zeros(reward.size, bool)
    published[diverse_modes(reward, count=328, alphabet_size=4, length=8)] = True
    table = {
        "sequence": pa.array(map("".join, product("ACGT", repeat=8)), pa.large_string()),
        "e_score": e_score,
        "median_intensity": kmer_scores(text, score="Median"),
        "z_score": kmer_scores(text, score="Z-score"),
        "reward": reward,
        "is_mode_shen328": published,
        "is_mode_top0p5pct": reward >= np.percentile(reward, 99.5),
    }
    pq.write_table(pa.table(table), output, compression="zstd")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write six6_ref_r1.parquet from the public text.")
    parser.add_argument("text", type=Path, help="SIX6_REF_R1_8mers.txt as published")
    parser.add_argument("output", type=Path, nargs="?", default=Path("six6_ref_r1.parquet"))
    options = parser.parse_args()
    try:
        prepare(options.text, options.output)
    except InputError as error:
        parser.exit(2, f"{error}\n")
