#!/bin/sh
# What becomes of two Dragon Hatchlings that grew from one and are merged: bdh-s learns a first text for 500 steps, two copies
# of it learn a second and a third for 250 steps each, and both are laid side by side, and averaged. All are scored on the
# last tenth of each text, in windows of 128 from a zero state. (arXiv 2509.26507, section 7.1, in kind: the paper merges
# languages.)
#   bench/merge_table.sh BUILD FIRST SECOND THIRD     three text files: Shakespeare, C and Python, say. Some four minutes on two cores.
set -eu
brood=$1/brood
first=$2 second=$3 third=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

quietly() { "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }; }
learn() {  # model, text, steps, directory
  quietly "$brood" train --model "$1" --data "$2" --hold-out 0.1 --steps "$3" --warmup 0 --decay constant --clip 0 --save "$work/$4"
}
for i in 1 2 3; do
  eval "text=\$$((i + 1))"
  tail -c "$(($(wc -c <"$text") / 10))" "$text" >"$work/unseen$i"
done
row() {  # name, directory
  printf '%-44s' "$1"
  for i in 1 2 3; do
    json=$("$brood" eval "$work/$2" --data "$work/unseen$i" --context 128 --json 2>"$work/log") || { cat "$work/log" >&2; exit 1; }
    nats=$(printf '%s' "$json" | sed -n 's/.*"nats_per_byte":\([-+0-9.e]*\).*/\1/p')
    [ -n "$nats" ] || { echo "brood eval gave no nats_per_byte: $json" >&2; exit 1; }
    printf '%8.3f' "$nats"
  done
  printf '\n'
}

learn bdh-s "$first" 500 base
learn "$work/base" "$second" 250 second
learn "$work/base" "$third" 250 third
quietly "$brood" merge "$work/second" "$work/third" --save "$work/beside"
quietly "$brood" merge "$work/second" "$work/third" --average --save "$work/average"
# What the frequencies that were kept are worth: the same neurons, turned as those of one wider model.
cp -r "$work/beside" "$work/anew"
tr -d '\n' <"$work/beside/config.json" | sed 's/"parts": *\[[^]]*\],*//' >"$work/anew/config.json"
cat "$second" "$third" >"$work/both"
learn "$work/beside" "$work/both" 25 joint25
learn "$work/beside" "$work/both" 100 joint100

printf '%-44s%8s%8s%8s\n' "nats per byte on the last tenth of" first second third
row "base: 500 steps on the first" base
row "then 250 steps on the second" second
row "or 250 steps on the third" third
row "side by side" beside
row "side by side, frequencies made anew" anew
row "average" average
row "side by side and 25 steps on second and third" joint25
row "                 100 steps" joint100
