#!/usr/bin/env bash
# From a table of 8-mers, one strand of each pair and with gaps, to 24 binding sites to order.
#
#     examples/kmers.sh OUT [TABLE.parquet]
#
# TABLE is of a protein-binding microarray (default: tfbind8/crx_ref_r1_raw.parquet in the folder
# that GFN_DESIGN_DATA names). OUT gets picked.csv and report.html. Six minutes on two cores.
set -euo pipefail

out=${1:?say where the results go, as in: examples/kmers.sh results}
table=${2:-${GFN_DESIGN_DATA:?name the folder with the public data, or give a TABLE}/tfbind8/crx_ref_r1_raw.parquet}
here=$(cd "$(dirname "$0")" && pwd)
export PATH="$here/../.venv/bin:$PATH"
mkdir -p "$out"

python "$here/one_strand.py" "$table" "$out/kmers.csv"
gfn-design data "$out/kmers.csv"
gfn-design proxy "$out/kmers_clean.csv" --output "$out/proxy" --overwrite
cp "$here/kmers.yaml" "$out/wishes.yaml"
(cd "$out" && gfn-design feasible --config wishes.yaml)
(cd "$out" && gfn-design fit --config wishes.yaml --output run)
gfn-design sample "$out/run" -n 500 --pick 24 --output "$out/designs" --overwrite
cp "$out/designs/candidates.csv" "$out/picked.csv"
gfn-design report "$out/run" --designs "$out/designs" --output "$out/report.html"
