#!/bin/sh
# Kills `brood live` at random moments of its run and compares what is left with an undisturbed run, to the bit:
#   bench/kills.sh BROOD TEXT [MODEL [KILLS [FOLDER]]]     defaults: mamba-s, 100, a new folder
#   bench/kills.sh BROOD TABLE.csv series [KILLS [FOLDER]]     the rows of a table, with --out and --rejects
set -eu
brood=$1 text=$2 model=${3:-mamba-s} kills=${4:-100} folder=${5:-$(mktemp -d)}
mkdir -p "$folder"
least=0.2  # seconds that every run has: to load, and to get further than the last
files="kept/config.json kept/model.safetensors kept/state.safetensors kept/optimizer.safetensors kept/memory.safetensors
  kept/rehearsal.safetensors"
if [ "$model" = series ]; then
  least=0.02
  files="kept/series.brood said.csv rejects.csv"
fi

# The shell that runs it becomes the program: its number is the program's. All write under one name: a series notes where.
live() {
  mkdir -p "$folder/run"
  if [ "$model" = series ]; then
    exec "$brood" live --as series --horizon 24 --in "$text" --save "$folder/run/kept" --save-every "$1" \
      --out "$folder/run/said.csv" --rejects "$folder/run/rejects.csv" --json
  fi
  exec "$brood" live --model "$model" --in "$text" --save "$folder/run/kept" --save-every "$1" --json
}

begin=$(date +%s)
(live 60) >"$folder/undisturbed.json" 2>"$folder/undisturbed.log"
seconds=$(($(date +%s) - begin + 1))
mv "$folder/run" "$folder/undisturbed"
echo "undisturbed: $seconds s, $(cat "$folder/undisturbed.json")"

# So often that all kills fall into about one run: each costs what must be learnt again.
save_every=$(awk "BEGIN { print $seconds / $kills / 4 }")
killed=0
while [ "$killed" -lt "$kills" ]; do
  live "$save_every" >"$folder/killed.json" 2>"$folder/killed.log" &
  process=$!
  sleep "$(awk "BEGIN { srand($$ + $killed); print 2 * rand() * $seconds / $kills + $least }")"
  kill -9 "$process" 2>/dev/null || break  # it is through
  wait "$process" 2>/dev/null || true
  killed=$((killed + 1))
done
(live "$save_every") >"$folder/killed.json" 2>"$folder/killed.log"
mv "$folder/run" "$folder/killed"
echo "killed $killed times: $(cat "$folder/killed.json")"

# Without the names drawn at random, and without what the clock decides.
plain() { sed -e 's/"save":"[0-9a-f]*"//; s/\\"name\\":\\"[0-9a-f]*\\"//' "$folder/$1" 2>/dev/null | cksum; }
figures() { sed -e 's/"\(seconds\|bytes_per_second\|rows_per_second\|peak_memory_bytes\)":[^,}]*//g' "$folder/$1.json"; }
verdict="everything equal"
for file in $files; do
  [ -e "$folder/undisturbed/$file" ] || [ "$file" = kept/rehearsal.safetensors ] || verdict="MISSING: $file"
  [ "$(plain "undisturbed/$file")" = "$(plain "killed/$file")" ] || verdict="DIFFERENT in $file"
done
[ "$(figures undisturbed)" = "$(figures killed)" ] || verdict="DIFFERENT in what is reported"
echo "$killed kills, $verdict"
[ "$verdict" = "everything equal" ]
