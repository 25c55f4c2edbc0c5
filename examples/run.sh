#!/bin/sh
# The main job on real input: learn a stream live, from nothing, let the model write, and put its bits per byte beside
# those of compressors that saw the same bytes.
#   examples/run.sh BROOD [PATH]     PATH: a file or a folder; without it, 500 KB of this project's own pages and code
set -eu
brood=$(realpath "$1")
model=${MODEL:-mamba-s}
work=$(dirname "$brood")/run
mkdir -p "$work"

text_of() {  # folders: their text files in the order of their paths
  find "$@" \( -name '.?*' -o -name build -o -name 'build-*' \) -prune -o -type f -print | LC_ALL=C sort |
    while IFS= read -r file; do
      if grep -Iq '' "$file"; then cat "$file"; fi
    done
}

stream=$work/stream
effort=
if [ -z "${2:-}" ]; then
  cd "$(dirname "$0")/.."
  # The first 500 KB, and half the usual rehearsals: about a minute, after a build of three to four on two cores.
  text_of docs examples brood | head -c 500000 >"$stream"
  effort="--rehearsals 2"
elif [ -d "$2" ]; then
  (cd "$2" && text_of .) >"$stream"
else
  stream=$2
fi

rm -rf "$work/model"
# shellcheck disable=SC2086  # two words or none
"$brood" live --model "$model" --in "$stream" $effort --save "$work/model" --json >"$work/result.json"
echo
echo "--- 300 bytes of its own:"
"$brood" talk "$work/model" --prompt '' -n 300 --temperature 0.8
echo

number() { sed -n "s/.*\"$1\":\\([-+0-9.e]*\\).*/\\1/p" "$work/result.json"; }
size=$(wc -c <"$stream")
row() { awk -v name="$1" -v bytes="$2" -v size="$size" 'BEGIN { if (size) printf "%-28s %6.3f\n", name, 8 * bytes / size }'; }
echo "bits per byte of the same $size bytes"
row "gzip -9" "$(gzip -9c "$stream" | wc -c)"
row "bzip2 -9" "$(bzip2 -9c "$stream" | wc -c)"
row "xz -9e" "$(xz -9ec "$stream" | wc -c)"
printf '%-28s %6.3f   one pass, from nothing\n' "brood live, $model" "$(number bits_per_byte)"
printf '%-28s %6.3f\n' "  over the last 10 KB" "$(number last_bits_per_byte)"
printf '%-28s %6.3f   without its memory of what was seen\n' "  the network alone" "$(number network_bits_per_byte)"
