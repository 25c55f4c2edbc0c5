#!/bin/sh
# What is recalled after one exposure: 200 facts ("key -> value", 16 random bytes) scattered among 200 KB of a text, and a
# spreadsheet of 300 rows. Learnt live once, saved, then asked for by brood talk, a process for each question.
#   bench/recall.sh BUILD TEXT [MODEL]
set -eu
brood=$(realpath "$1")/brood
text=$(realpath "$2")
model=${3:-mamba-xs}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# Lines "question<TAB>answer" of what is hidden in the stream.
awk -v seed=7 'BEGIN {
  srand(seed)
  letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
  for (i = 1; i <= 200; ++i) {
    value = ""
    for (j = 0; j < 16; ++j) value = value substr(letters, 1 + int(rand() * 62), 1)
    printf "key %d -> \t%s\n", i, value
  }
}' >facts
awk -v seed=8 'BEGIN {
  srand(seed)
  for (i = 1; i <= 300; ++i)
    printf "A%d,\t%d,%d.%02d,2024-%02d-%02d\n", 1000 + i, rand() * 1000, rand() * 900, rand() * 100, 1 + rand() * 12,
      1 + rand() * 28
}' >rows

# Facts one by one after lines of the text, evenly; then the spreadsheet; then a little more text.
head -c 200000 "$text" | awk -v facts=facts '
  { print }
  NR % 15 == 0 && (getline fact < facts) > 0 { sub(/\t/, "", fact); print fact }
  END { while ((getline fact < facts) > 0) { sub(/\t/, "", fact); print fact } }' >stream
{ echo "id,count,price,day"; sed 's/\t//' rows; head -c 20000 "$text"; echo; } >>stream

"$brood" live --model "$model" --in stream --save m --rehearsals 0 --json

ask() {  # ASKED FILE: how many answers are right
  right=0
  while IFS="$(printf '\t')" read -r question answer; do
    said=$("$brood" talk m --prompt "$question" -n ${#answer} --temperature 0 2>/dev/null)
    if [ "$said" = "$answer" ]; then right=$((right + 1)); fi
  done <"$2"
  echo "$1: $right of $(wc -l <"$2")"
}
ask "facts recalled" facts
ask "rows looked up" rows
