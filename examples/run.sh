#!/bin/sh
# The main job on real input: learn a stream live, from nothing, let the model write, and put its bits per byte beside
# those of compressors that saw the same bytes.
#   examples/run.sh BROOD [PATH]     PATH: a file or a folder; without it, the text of this project
set -eu
brood=$1
path=${2:-$(dirname "$0")/..}
model=${MODEL:-mamba-s}
work=$(dirname "$brood")/run
mkdir -p "$work"

if [ -d "$path" ]; then
  stream=$work/stream
  (cd "$path" && find . \( -name '.?*' -o -name build -o -name 'build-*' \) -prune -o -type f -print |
    LC_ALL=C sort | while IFS= read -r file; do
      if grep -Iq '' "$file"; then cat "$file"; fi
    done) >"$stream"
else
  stream=$path
fi

rm -rf "$work/model"
"$brood" live --model "$model" --in "$stream" --save "$work/model" --json >"$work/result.json"
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
