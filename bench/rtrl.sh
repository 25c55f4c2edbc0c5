#!/bin/sh
# What real-time recurrent learning gives (docs/rtrl.md): small S4D and Mamba models of one layer read each text once and
# learn from chunks of 1, 8 and 32 bytes, truncated and with --rtrl; no rehearsal, no memory, all else the same. Bits per
# byte at the best of some learning rates for each.
#   bench/rtrl.sh BUILD TEXT...     RTRL_BYTES=100000 of each text, RTRL_RATES="5e-4 1e-3 2e-3 4e-3 8e-3 16e-3" RTRL_SEED=0
set -eu
brood=$1/brood
shift
bytes=${RTRL_BYTES:-100000}
rates=${RTRL_RATES:-5e-4 1e-3 2e-3 4e-3 8e-3 16e-3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '{"architecture": "s4d", "d_model": 64, "n_layer": 1, "d_state": 32}\n' >"$work/s4d.json"
printf '{"architecture": "mamba", "d_model": 64, "n_layer": 1}\n' >"$work/mamba.json"

best() {  # model, chunk, more options: "bits per byte (learning rate)" of the best rate
  model=$1 chunk=$2
  shift 2
  for rate in $rates; do
    "$brood" live --model "$work/$model.json" --in "$work/text" --chunk "$chunk" --learning-rate "$rate" \
      --rehearsals 0 --memory 0 --threads 1 --seed "${RTRL_SEED:-0}" --json "$@" 2>/dev/null |
      sed -n "s/.*\"bits_per_byte\": *\([0-9.]*\).*/\1 ($rate)/p"
  done | sort -n | awk 'NR == 1 { printf "%.4f %s\n", $1, $2 }'
}

printf '%-12s %-6s %5s   %-16s %-16s %s\n' text model chunk truncated --rtrl change
for text in "$@"; do
  head -c "$bytes" "$text" >"$work/text"
  for model in s4d mamba; do
    for chunk in 1 8 32; do
      without=$(best $model $chunk)
      with=$(best $model $chunk --rtrl)
      change=$(awk -v a="${without%% *}" -v b="${with%% *}" 'BEGIN { printf "%+.2f %%", 100 * (b / a - 1) }')
      printf '%-12s %-6s %5s   %-16s %-16s %s\n' "$(basename "$text")" $model $chunk "$without" "$with" "$change"
    done
  done
done
