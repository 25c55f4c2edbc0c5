#!/bin/sh
# Builds every fuzz target and runs it for some seconds from its seeds, as many at a time as there are cores:
#   tests/fuzz/run.sh BUILD SECONDS
set -eu
here=$(dirname "$0")
build=$1
seconds=$2

names=$(for source in "$here"/*.cc; do basename "$source" .cc; done)
# shellcheck disable=SC2086  # one word per target
cmake --build "$build" -j "$(nproc)" --target $names

run=$build/run-one.sh  # one of them; says how it went, or what was found
cat >"$run" <<'END'
name=$1 here=$2 build=$3 seconds=$4
found=$build/found/$name
log=$build/$name.log
mkdir -p "$found"
if ! "$build/tests/fuzz/$name" -max_total_time="$seconds" -malloc_limit_mb=16 -max_len=65536 \
    -artifact_prefix="$build/$name-" "$found" "$here/seeds/$name" >"$log" 2>&1; then
  { echo "fuzz: $name"; tail -n 60 "$log"; } >&2
  exit 1
fi
echo "fuzz: $name for $seconds s: $(tail -n 1 "$log")"
END
printf '%s\n' $names | xargs -P "$(nproc)" -I '{}' sh "$run" '{}' "$here" "$build" "$seconds"
