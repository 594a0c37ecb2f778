#!/usr/bin/env bash
# From a messy table of measured sEH inhibitors to 24 molecules to make next, with one page on them.
#
#     examples/chembl_table.sh OUT [TABLE]
#
# TABLE is the table of measurements (default: seh_chembl/seh_chembl_ic50.csv.gz in the folder that
# GFN_DESIGN_DATA names). OUT gets picked.csv (24 rows) and report.html, and all that led to them.
# Ten minutes on two cores.
set -euo pipefail

out=${1:?say where the results go, as in: examples/chembl_table.sh results}
table=${2:-${GFN_DESIGN_DATA:?name the folder with the public data, or give a TABLE}/seh_chembl/seh_chembl_ic50.csv.gz}
here=$(cd "$(dirname "$0")" && pwd)
export PATH="$here/../.venv/bin:$PATH"
mkdir -p "$out"

# What an electronic notebook would export.
python "$here/make_messy.py" "$table" "$out/series.csv"

# 1. Read it, clean it, see whether there is anything to learn.
gfn-design data "$out/series.csv" --to pIC50

# 2. Learn to predict pIC50, and say how far that can be trusted.
gfn-design proxy "$out/series_clean.csv" --output "$out/proxy" --overwrite

# 3. Build from the fragments of these very molecules, beginning from the best of them.
gfn-design mine "$out/series_clean.csv" --at_least 3 --output "$out/fragments.csv"
awk -F, 'NR == 1 || $3 >= 8.5' "$out/series_clean.csv" > "$out/actives.csv"
cp "$here/chembl_table.yaml" "$out/wishes.yaml"

# 4. Train. The reward takes the lower bound of the proxy, in its domain.
(cd "$out" && gfn-design fit --config wishes.yaml --known actives.csv --output run)

# 5. Pick 24 by what a measurement of them is expected to bring, and put all on one page.
gfn-design sample "$out/run" -n 2000 --pick 24 --pick_by ei --output "$out/designs" --overwrite
cp "$out/designs/candidates.csv" "$out/picked.csv"
gfn-design report "$out/run" --designs "$out/designs" --output "$out/report.html"
