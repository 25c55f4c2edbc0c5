#!/bin/sh
# What learning while predicting is worth, in bits per byte of a text that follows.
#   bench/value_of_learning.sh live BROOD TEXT             a learner that has read BYTES of it, on the next BYTES
#   bench/value_of_learning.sh trained BROOD TEXT OTHER    a network trained STEPS batches on all of TEXT, on BYTES of OTHER,
#                                                          by each of RATES
# environment: BYTES=300000 STEPS=1500 RATES="3e-5 1e-4" MODEL=mamba-s OPTIONS= FOLDER=kept
set -eu
kind=$1 brood=$(realpath "$2") text=$3 bytes=${BYTES:-300000}
. "$(dirname "$0")/live_figures.sh"

# eval WHAT MODEL TEXT OPTION...: frozen without an option.
eval_it() {
  what=$1
  shift
  "$brood" eval "$1" --data "$2" --threads 1 --json $3 >"$work/said.json" 2>"$work/said.log" ||
    { cat "$work/said.log" >&2; exit 1; }
  cost=$(figure bits_per_byte) alone=$(figure network_bits_per_byte)
  [ "$what" = frozen ] && frozen=$cost
  echo "$what $cost ${alone:-$cost} $frozen" |
    awk '{ printf "%s %.4f alone %.4f (%+.1f %%, alone %+.1f %%)\n", $1, $2, $3, 100 * ($2 / $4 - 1), 100 * ($3 / $4 - 1) }'
}

case $kind in
live)
  piece "$text" 0 "$bytes" >"$work/first"
  piece "$text" "$bytes" "$bytes" >"$work/next"
  echo "read: $(live "$work/learner" "$work/first")"
  eval_it frozen "$work/learner" "$work/next" ""
  eval_it live "$work/learner" "$work/next" "--live ${OPTIONS:-}"
  ;;
trained)
  piece "$4" 0 "$bytes" >"$work/next"
  "$brood" train --model "$model" --data "$text" --steps "${STEPS:-1500}" --save "$work/trained" --threads 1 --json 2>/dev/null
  eval_it frozen "$work/trained" "$work/next" ""
  for rate in ${RATES:-3e-5 1e-4}; do
    eval_it "live-$rate" "$work/trained" "$work/next" "--live --learning-rate $rate ${OPTIONS:-}"
  done
  ;;
esac
