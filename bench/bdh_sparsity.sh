#!/bin/sh
# How many neurons of a Dragon Hatchling are awake, and how many pass the gate, as it learns and as it grows: bdh-s after 300,
# 600 and 1,200 steps on TEXT, and with twice and four times the neurons after 1,200, on the last tenth, in windows of 128.
#   bench/bdh_sparsity.sh BUILD TEXT
set -eu
brood=$1/brood
text=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

tail -c "$(($(wc -c <"$text") / 10))" "$text" >"$work/unseen"
train() {  # model, steps, directory
  "$brood" train --model "$1" --data "$text" --hold-out 0.1 --steps "$2" --warmup 0 --decay constant --clip 0 \
    --save "$work/$3" --json >/dev/null 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
}
field() { printf '%s' "$2" | sed -n "s/.*\"$1\":\\([-+0-9.e]*\\).*/\\1/p"; }
row() {  # name, directory
  json=$("$brood" eval "$work/$2" --data "$work/unseen" --context 128 --json 2>"$work/log") || { cat "$work/log" >&2; exit 1; }
  awk -v name="$1" -v nats="$(field nats_per_byte "$json")" -v x="$(field active_fraction "$json")" \
    -v gated="$(field gated_fraction "$json")" 'BEGIN { printf "%-28s %8.3f %9.1f %% %9.1f %%\n", name, nats, 100 * x, 100 * gated }'
}

printf '%-28s %8s %11s %11s\n' "" "nats" awake gated
for steps in 300 600 1200; do
  train bdh-s $steps "s$steps"
  row "bdh-s, $steps steps" "s$steps"
done
for neurons in 4096 8192; do
  printf '{"architecture": "bdh", "d_model": 64, "n_neuron": %d, "n_head": 4, "n_layer": 4}\n' $neurons >"$work/$neurons.json"
  train "$work/$neurons.json" 1200 "n$neurons"
  row "$neurons neurons, 1200 steps" "n$neurons"
done
