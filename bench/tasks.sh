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
log=$(mktemp)
models=$(mktemp -d)
trap 'rm -rf "$log" "$models"' EXIT

# The line of what could not be done, with the reason that was given last; the others go on.
failed() { printf '%-34s failed: brood %s: %s\n' "$1" "$2" "$(tail -n 1 "$log")"; }

# A line of the table: its name, and the arguments of `brood tasks`.
learn() {
  name=$1
  shift
  printf '%s\n' "$name" | grep -Eq "$filter" || return 0
  json=$("$brood" tasks "$@" --json 2>"$log") || { failed "$name" "tasks $*"; return 0; }
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
    json=$("$brood" tasks spring --seed $seed --json 2>"$log") || { failed "spring, seed $seed" "tasks spring --seed $seed"; continue; }
    printf '%s\n' "$json" >>"$results"
    printf '%s\n' "$json" | sed 's/.*"damping_error":\([^,]*\),.*"mass_error":\([^,]*\),.*"stiffness_error":\([^,]*\),.*/\2 \1 \3/' |
      awk -v seed=$seed '{ printf "%-34s  off by: mass %.3f %%, damping %.3f %%, stiffness %.3f %%\n",
                           "spring, seed " seed, 100 * $1, 100 * $2, 100 * $3 }'
  done
}

# Mixers with the feed they are at home with; the negative eigenvalues of Gated DeltaNet are what parity is about.
with() {
  case $1 in
    rwkv7) echo '{"feed": "rwkv7_ffn"}' ;;
    gated_deltanet) echo '{"allow_neg_eigval": true}' ;;
    *) echo '{}' ;;
  esac
}

# A mixer at a task: learn_mixer TASK MIXER [ARGUMENT...]
learn_mixer() {
  task=$1
  mixer=$2
  shift 2
  learn "$task $mixer" "$task" --mixer "$mixer" --with "$(with "$mixer")" "$@"
}

# Where few answers are asked for there is little to learn from: begun on short sequences, each length going on from the model
# of the one before, seconds do what minutes did not. grow TASK MIXER "LENGTHS" LAST [ARGUMENT...]; LAST: arguments of the last.
grow() {
  task=$1
  mixer=$2
  lengths=$3
  last=$4
  shift 4
  printf '%s\n' "$task $mixer" | grep -Eq "$filter" || return 0
  from=$models/$task-$mixer
  first=1
  for length in ${lengths% *}; do
    if [ $first = 1 ]; then set -- --mixer "$mixer" --with "$(with "$mixer")" "$@"; fi
    "$brood" tasks "$task" "$@" --length "$length" --test-length "$length" --minutes "$minutes" --check-every 250 --until 0.97 \
      --decay constant --save "$from" --overwrite >/dev/null 2>"$log" || { failed "$task $mixer" "tasks $task"; return 0; }
    if [ $first = 1 ]; then shift 4; set -- --model "$from" "$@"; fi
    first=0
  done
  # shellcheck disable=SC2086  # words
  learn "$task $mixer" "$task" "$@" --length "${lengths##* }" $last
}

# Small batches make many updates of the same minutes, which is what recall is short of. Parity is right at 40 steps long
# before it is right at 256, so there it goes on to the end.
until="--minutes $minutes --check-every 500 --until 0.9995"
spring
for mixer in mamba s4d mcsd; do grow copying $mixer "32 64" "--test-length 64 128 $until" --batch 16; done
for mixer in mamba mcsd; do learn_mixer delay $mixer $until; done
# Long after all answers are right, large steps of small batches go on making what is not asked for weigh nothing.
grow induction mamba "16 64 256" "--steps 3000 --batch 8 --learning-rate 1e-2 --weight-decay 0"
for mixer in gated_deltanet rwkv7 attention mcsd; do grow mqar $mixer "24 64" "$until" --batch 16 --beta2 0.99; done
grow mqar mamba "24 64" "$until --batch 32 --learning-rate 6e-3" --batch 16 --beta2 0.99
for mixer in gated_deltanet rwkv7 mamba attention; do learn_mixer parity $mixer --steps 3000; done
