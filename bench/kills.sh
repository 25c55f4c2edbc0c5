#!/bin/sh
# Kills `brood live` at random moments of its run and compares what is left with an undisturbed run, to the bit:
#   bench/kills.sh BROOD TEXT [MODEL [KILLS [FOLDER]]]     defaults: mamba-s, 100, a new folder
set -eu
brood=$1 text=$2 model=${3:-mamba-s} kills=${4:-100} folder=${5:-$(mktemp -d)}
mkdir -p "$folder"

# The shell that runs it becomes the program: its number is the program's.
live() { exec "$brood" live --model "$model" --in "$text" --save "$folder/$1" --save-every "$2" --json; }

begin=$(date +%s)
(live undisturbed 60) >"$folder/undisturbed.json" 2>"$folder/undisturbed.log"
seconds=$(($(date +%s) - begin + 1))
echo "undisturbed: $seconds s, $(cat "$folder/undisturbed.json")"

# So often that all kills fall into about one run: each costs what must be learnt again.
save_every=$(awk "BEGIN { print $seconds / $kills / 4 }")
killed=0
while [ "$killed" -lt "$kills" ]; do
  live killed "$save_every" >"$folder/killed.json" 2>"$folder/killed.log" &
  process=$!
  sleep "$(awk "BEGIN { srand($$ + $killed); print 2 * rand() * $seconds / $kills + 0.2 }")"
  kill -9 "$process" 2>/dev/null || break  # it is through
  wait "$process" 2>/dev/null || true
  killed=$((killed + 1))
done
(live killed "$save_every") >"$folder/killed.json" 2>"$folder/killed.log"
echo "killed $killed times: $(cat "$folder/killed.json")"

# Without the names drawn at random, and without what the clock decides.
plain() { sed -e 's/"save":"[0-9a-f]*"//; s/\\"name\\":\\"[0-9a-f]*\\"//' "$folder/$1" | cksum; }
figures() { sed -e 's/"\(seconds\|bytes_per_second\|peak_memory_bytes\)":[^,}]*//g' "$folder/$1.json"; }
verdict=equal
for file in config.json model.safetensors state.safetensors optimizer.safetensors memory.safetensors; do
  [ "$(plain "undisturbed/$file")" = "$(plain "killed/$file")" ] || verdict="DIFFERENT in $file"
done
[ "$(figures undisturbed)" = "$(figures killed)" ] || verdict="DIFFERENT in what is reported"
echo "verdict: $verdict, after $killed kills"
[ "$verdict" = equal ]
