#!/bin/sh
# Sparse experts on real text: transformer-s and switch-s, which do the same work for a byte, learn four (or any number of)
# texts together in the same steps; bits per byte of the last tenth of each, which neither has seen, and the time.
#   bench/experts_text.sh BUILD STEPS TEXT...     TEXT: one file a domain, of about equal size
set -eu
brood=$1/brood
steps=$2
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

domains=0
for text; do
  domains=$((domains + 1))
  unseen=$(($(wc -c <"$text") / 10))
  tail -c "$unseen" "$text" >"$work/unseen.$domains"
  head -c "-$unseen" "$text" >"$work/seen.$domains"
done

# A number of a result; none there: the script ends, and says so.
field() {
  value=$(printf '%s' "$2" | sed -n "s/.*\"$1\":\\([-+0-9.e]*\\).*/\\1/p")
  [ -n "$value" ] || { echo "brood gave no $1: $2" >&2; exit 1; }
}

printf '%-16s %10s %9s' model parameters seconds
for text; do printf ' %14.14s' "$(basename "$text")"; done
printf ' %9s\n' mean
for model in transformer-s switch-s; do
  result=$("$brood" train --model "$model" --data "$work"/seen.* --steps "$steps" --batch 16 --context 256 \
    --learning-rate 3e-3 --save "$work/$model" --json 2>"$work/log") || { cat "$work/log" >&2; exit 1; }
  field parameters "$result"
  printf '%-16s %10s' "$model" "$value"
  field seconds "$result"
  printf ' %9.0f' "$value"
  sum=0
  for i in $(seq "$domains"); do
    result=$("$brood" eval "$work/$model" --data "$work/unseen.$i" --context 256 --json 2>"$work/log") ||
      { cat "$work/log" >&2; exit 1; }
    field bits_per_byte "$result"
    printf ' %14.4f' "$value"
    sum=$(awk -v a="$sum" -v b="$value" 'BEGIN { print a + b }')
  done
  awk -v sum="$sum" -v n="$domains" 'BEGIN { printf " %9.4f\n", sum / n }'
done
