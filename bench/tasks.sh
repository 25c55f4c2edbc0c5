#!/bin/sh
# Trains small models on the tasks of docs/tasks.md and prints a table of their scores. The JSON of every line goes to
# RESULTS (build/tasks.jsonl).
#   bench/tasks.sh BROOD [MINUTES] [FILTER]    MINUTES a training may take at most (10); FILTER: a regular expression of lines
set -eu
brood=$1
minutes=${2:-10}
filter=${3:-.}
results=${RESULTS:-build/tasks.jsonl}
mkdir -p "$(dirname "$results")"
: >"$results"

# A line of the table: its name, and the arguments of `brood tasks`.
learn() {
  name=$1
  shift
  printf '%s\n' "$name" | grep -Eq "$filter" || return 0
  json=$("$brood" tasks "$@" --json 2>/dev/null) || { printf '%-34s failed: brood tasks %s\n' "$name" "$*"; return 0; }
  printf '%s\n' "$json" >>"$results"
  printf '%s\n' "$json" | awk -v name="$name" '{
    line = ""
    while (match($0, /"accuracy":[0-9.e+-]+,"answers":[0-9]+,"length":[0-9]+/)) {
      split(substr($0, RSTART, RLENGTH), part, /[:,]/)
      line = line sprintf("  %s: %.2f %%", part[6], 100 * part[2])
      $0 = substr($0, RSTART + RLENGTH)
    }
    printf "%-34s%s\n", name, line }'
}

spring() {
  printf '%s\n' spring | grep -Eq "$filter" || return 0
  for seed in 0 1 2; do
    json=$("$brood" tasks spring --seed $seed --json 2>/dev/null)
    printf '%s\n' "$json" >>"$results"
    printf '%s\n' "$json" | sed 's/.*"damping_error":\([^,]*\),.*"mass_error":\([^,]*\),.*"stiffness_error":\([^,]*\),.*/\2 \1 \3/' |
      awk -v seed=$seed '{ printf "%-34s  off by: mass %.3f %%, damping %.3f %%, stiffness %.3f %%\n",
                           "spring, seed " seed, 100 * $1, 100 * $2, 100 * $3 }'
  done
}

spring
for mixer in mamba s4d mcsd; do
  learn "copying $mixer" copying --mixer $mixer --minutes "$minutes" --check-every 500 --until 0.999
done
learn "induction mamba" induction --mixer mamba --minutes "$minutes" --check-every 500 --until 0.9999
for mixer in mamba gated_deltanet rwkv7 attention mcsd; do
  learn "mqar $mixer" mqar --mixer $mixer --minutes "$minutes" --check-every 500 --until 0.995
done
for mixer in gated_deltanet rwkv7 mamba attention; do
  learn "parity $mixer" parity --mixer $mixer --minutes "$minutes" --check-every 500 --until 0.999
done
