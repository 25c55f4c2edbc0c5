#!/bin/sh
# What a live learner still knows of a text after another one: BYTES of A are read, then BYTES of B, then the 50 KB that
# follow in A. Beside it the same 50 KB read by a new learner, and right after A.
#   retention = (new - after B) / (new - right after A)    of bits per byte over the first 5 KB and over all 50 KB
# "together" is with the memory of what was seen once, "alone" the network, whose weights are the same with and without.
#   bench/forgetting.sh BROOD A B...     environment: BYTES=300000 MODEL=mamba-s OPTIONS="--rehearsals 0" FOLDER=kept
set -eu
brood=$(realpath "$1") a=$2 bytes=${BYTES:-300000}
shift 2
. "$(dirname "$0")/live_figures.sh"

# Reads what follows in A, and says what was read before: name, first 5 KB and 50 KB together, the same alone.
score() {
  first=$(live "$2" "$work/a2_first")
  rest=$(live "$2" "$work/a2_rest")
  echo "$1 $first $rest" |
    awk '{ print $1, $2, ($2 * 5 + $4 * 45) / 50, $3, ($3 * 5 + $5 * 45) / 50 }' | tee -a "$work/scores"
}

piece "$a" 0 "$bytes" >"$work/a1"
piece "$a" "$bytes" 5000 >"$work/a2_first"
piece "$a" "$((bytes + 5000))" 45000 >"$work/a2_rest"
: >"$work/scores"
echo "before together-5k together-50k alone-5k alone-50k"
score nothing "$work/new"
echo "# reading A costs $(live "$work/after_a" "$work/a1")"
for b in "$@"; do
  cp -r "$work/after_a" "$work/after_b"
  piece "$b" 0 "$bytes" >"$work/b"
  echo "# reading $b costs $(live "$work/after_b" "$work/b")"
  cp -r "$work/after_b" "$work/after_b_a"
  score "A,$(basename "$b")" "$work/after_b_a"
  rm -rf "$work/after_b" "$work/after_b_a"
done
cp -r "$work/after_a" "$work/after_a_a"
score A "$work/after_a_a"
awk '{ for (i = 2; i <= 5; ++i) cost[$1, i] = $i; if ($1 ~ /,/) names[++n] = $1 }
  END {
    print "retention in %"
    for (k = 1; k <= n; ++k) {
      printf "%s", names[k]
      for (i = 2; i <= 5; ++i)
        printf " %.1f", 100 * (cost["nothing", i] - cost[names[k], i]) / (cost["nothing", i] - cost["A", i])
      print ""
    }
  }' "$work/scores"
