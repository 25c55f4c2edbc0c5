#!/bin/sh
# Whether a learner that has learnt much still learns as fast: STREAMS times the same BYTES of a text, its byte values
# renamed anew each time at random, one after the other. To who knows nothing all are as hard as the first.
#   bench/plasticity.sh BROOD TEXT     environment: STREAMS=10 BYTES=50000 MODEL=mamba-s OPTIONS="--rehearsals 0" FOLDER=kept
set -eu
brood=$(realpath "$1") text=$2 bytes=${BYTES:-50000} streams=${STREAMS:-10}
. "$(dirname "$0")/live_figures.sh"

# A permutation of all byte values, as tr reads it.
permutation() {
  awk -v seed="$1" 'BEGIN {
    srand(seed)
    for (i = 0; i < 256; ++i) to[i] = i
    for (i = 255; i > 0; --i) { j = int(rand() * (i + 1)); k = to[i]; to[i] = to[j]; to[j] = k }
    for (i = 0; i < 256; ++i) printf "\\%03o", to[i]
  }'
}

echo "stream together alone"
for n in $(seq "$streams"); do
  head -c "$bytes" "$text" | LC_ALL=C tr '\000-\377' "$(permutation "$n")" >"$work/stream$n"
  echo "$n $(live "$work/learner" "$work/stream$n")" | tee -a "$work/costs"
done
awk 'NR == 1 { together = $2; alone = $3 } END {
  printf "the last beside the first: %+.1f %% together, %+.1f %% alone\n", 100 * ($2 / together - 1), 100 * ($3 / alone - 1)
}' "$work/costs"
