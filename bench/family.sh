#!/bin/sh
# Every architecture's preset of about 0.5 M parameters in one table: training, reading and decoding speed, what a step at
# a depth of FAR costs beside one at 1,000, the state, the memory. The JSON of every measurement goes to BUILD/family.jsonl.
#   bench/family.sh BUILD [FAR] [PRESET...]     FAR: 1000000 unless given; PRESET: all whose name ends with -s
set -eu
build=$1
far=${2:-1000000}
[ $# -ge 2 ] && shift 2 || shift 1
brood=$build/brood
presets=${*:-$("$brood" info | awk '$1 ~ /-s$/ { print $1 }')}
results=$build/family.jsonl
: >"$results"
log=$(mktemp)
trap 'rm -f "$log"' EXIT

field() { printf '%s' "$2" | sed -n "s/.*\"$1\":\\([-+0-9.e]*\\).*/\\1/p"; }
speed() {
  json=$("$brood" speed --model "$preset" "$@" --json 2>"$log") ||
    { echo "brood speed --model $preset $* failed:" >&2; cat "$log" >&2; exit 1; }
  printf '%s\n' "$json" >>"$results"
}
rate() { field tokens_per_second "$json"; }

printf '| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n' preset parameters "state, bytes" "training tok/s" "of peak" \
  "reading tok/s" "decoding tok/s at 1,000" "at $far" "far over near" "memory, far over near"
printf '|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n'
for preset in $presets; do
  about=$("$brood" info "$preset" --json)
  speed --what train --batch 16 --context 128
  train=$(rate)
  share=$(field limit_share "$json")
  speed --what prefill
  prefill=$(rate)
  # Near and far take turns: the machine's mood is the same for both.
  speed --depth 1000 --threads 1
  near=$(rate)
  near_memory=$(field peak_memory_bytes "$json")
  speed --depth "$far" --threads 1
  far_rate=$(rate)
  far_memory=$(field peak_memory_bytes "$json")
  speed --depth 1000 --threads 1
  awk -v preset="$preset" -v parameters="$(field parameters "$about")" -v state="$(field state_bytes_per_stream "$about")" \
    -v train="$train" -v share="$share" -v prefill="$prefill" -v near="$near" -v again="$(rate)" -v far="$far_rate" \
    -v memory="$(awk -v f="$far_memory" -v n="$near_memory" 'BEGIN { print f / n }')" 'BEGIN {
      near = (near + again) / 2
      printf "| `%s` | %d | %d | %.0f | %.0f %% | %.0f | %.0f | %.0f | %.2f | %.2f |\n",
        preset, parameters, state, train, 100 * share, prefill, near, far, far / near, memory }'
done
