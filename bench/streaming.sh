#!/bin/sh
# Does Dragon Hatchling stand a stream longer than the windows that it was trained on? Trains bdh-s on windows of 128 from a
# zero state, without and with fading synapses, and scores 100 KB of what it has not seen: as one stream, and in windows of 128.
#   bench/streaming.sh BUILD TEXT     TEXT: one file; its last tenth is held out. Some four minutes on two cores.
set -eu
brood=$1/brood
text=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

printf '{"architecture": "bdh", "d_model": 64, "n_neuron": 2048, "n_head": 4, "n_layer": 4, "decay": 0.98}\n' >"$work/fading.json"
tail -c "$(($(wc -c <"$text") / 10))" "$text" | head -c 100000 >"$work/unseen"

train() {  # model, directory
  "$brood" train --model "$1" --data "$text" --hold-out 0.1 --steps 1200 --warmup 0 --decay constant --clip 0 \
    --save "$work/$2" --json >/dev/null 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
}
score() {  # name, directory, options of eval
  name=$1
  shift
  nats=$("$brood" eval "$work/$1" --data "$work/unseen" --json 2>/dev/null ${2:+"$2" "$3"} |
    sed -n 's/.*"nats_per_byte":\([0-9.]*\).*/\1/p')
  printf '%-62s %s\n' "$name" "$nats"
}

train bdh-s plain
train "$work/fading.json" fading
cp -r "$work/plain" "$work/late"
sed -i 's/"decay": *1.0/"decay": 0.98/' "$work/late/config.json"
printf '%-62s %s\n' "" "nats per byte"
score "trained without fading: windows of 128 from a zero state" plain --context 128
score "                        one stream" plain
score "                        one stream, decay 0.98 when reading only" late
score "trained with decay 0.98: windows of 128 from a zero state" fading --context 128
score "                         one stream" fading
