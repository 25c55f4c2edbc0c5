#!/bin/sh
# Runs every fuzz target of a build for some seconds, each from its seeds: tests/fuzz/run.sh BUILD SECONDS
set -eu
here=$(dirname "$0")
build=$1
seconds=$2

for source in "$here"/*.cc; do
  name=$(basename "$source" .cc)
  corpus=$build/corpus/$name
  mkdir -p "$corpus"
  seeds=$here/seeds/$name
  [ -d "$seeds" ] || seeds=
  echo "fuzz: $name for $seconds s"
  log=$build/$name.log
  # shellcheck disable=SC2086  # no seeds: no word
  if ! "$build/tests/fuzz/$name" -max_total_time="$seconds" -rss_limit_mb=2048 -malloc_limit_mb=512 -max_len=65536 \
      -artifact_prefix="$build/$name-" "$corpus" $seeds >"$log" 2>&1; then
    tail -n 60 "$log" >&2
    exit 1
  fi
  tail -n 1 "$log"
done
