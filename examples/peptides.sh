#!/usr/bin/env bash
# From measured peptides of any length to 24 to make next: potent against E. coli by a proxy.
#
#     examples/peptides.sh OUT [TABLE]
#
# TABLE is the table of measurements (default: amp/amp_mic_witten2019.csv.gz in the folder that
# GFN_DESIGN_DATA names): log10 of minimal inhibitory concentrations in micromolar, the lower the
# better. OUT gets picked.csv and report.html. Eight minutes on two cores.
set -euo pipefail

out=${1:?say where the results go, as in: examples/peptides.sh results}
table=${2:-${GFN_DESIGN_DATA:?name the folder with the public data, or give a TABLE}/amp/amp_mic_witten2019.csv.gz}
here=$(cd "$(dirname "$0")" && pwd)
export PATH="$here/../.venv/bin:$PATH"
mkdir -p "$out"

gfn-design data "$table" --value E_coli --output "$out/clean.csv"
gfn-design proxy "$out/clean.csv" --output "$out/proxy" --overwrite
cp "$here/peptides.yaml" "$out/wishes.yaml"
(cd "$out" && gfn-design fit --config wishes.yaml --output run)
gfn-design sample "$out/run" -n 2000 --pick 24 --pick_by ucb --output "$out/designs" --overwrite
cp "$out/designs/candidates.csv" "$out/picked.csv"
gfn-design report "$out/run" --designs "$out/designs" --output "$out/report.html"
