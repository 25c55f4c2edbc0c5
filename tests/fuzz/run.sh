#!/bin/sh
# Builds every fuzz target and runs it for some seconds, from its seeds: tests/fuzz/run.sh BUILD SECONDS
set -eu
here=$(dirname "$0")
build=$1
seconds=$2

for source in "$here"/*.cc; do
  name=$(basename "$source" .cc)
  found=$build/found/$name
  log=$build/$name.log
  mkdir -p "$found"
  cmake --build "$build" --target "$name"
  echo "fuzz: $name for $seconds s"
  if ! "$build/tests/fuzz/$name" -max_total_time="$seconds" -malloc_limit_mb=16 -max_len=65536 \
      -artifact_prefix="$build/$name-" "$found" "$here/seeds/$name" >"$log" 2>&1; then
    tail -n 60 "$log" >&2
    exit 1
  fi
  tail -n 1 "$log"
done
