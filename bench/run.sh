#!/bin/sh
# Measures what the README's table of speeds says, one line each, beside this machine's limit; then the benchmarks of single
# kernels. The JSON of every line goes to BUILD/bench.jsonl.
#   bench/run.sh BUILD [FILTER]     FILTER: a regular expression of the lines wanted
set -eu
build=$1
filter=${2:-.}
results=$build/bench.jsonl
: >"$results"

field() { printf '%s' "$2" | sed -n "s/.*\"$1\":\\([-+0-9.e]*\\).*/\\1/p"; }

# A line of the table: its name, and the arguments of `brood speed`. Leaves the median in $median.
measure() {
  name=$1
  shift
  median=
  printf '%s\n' "$name" | grep -Eq "$filter" || return 0
  json=$("$build/brood" speed "$@" --json 2>/dev/null)
  printf '%s\n' "$json" >>"$results"
  median=$(field tokens_per_second "$json")
  awk -v name="$name" -v median="$median" -v mad="$(field tokens_per_second_mad "$json")" \
    -v least="$(field tokens_per_second_min "$json")" -v most="$(field tokens_per_second_max "$json")" \
    -v share="$(field limit_share "$json")" 'BEGIN {
      printf "%-52s %10.1f %9.1f %10.1f %10.1f %8.1f %%\n", name, median, mad, least, most, 100 * share }'
}

# What the line before last gives, divided by what the last one gives.
ratio() {
  [ -n "$1" ] && [ -n "$2" ] || return 0
  awk -v a="$1" -v b="$2" -v of="$3" 'BEGIN { printf "%-52s %10.2f times\n", "  " of, a / b }'
}

printf '%-52s %10s %9s %10s %10s %10s\n' "tokens per second" median MAD min max "of limit"
for activity in 0.05 0.12; do
  measure "bdh-25m decode, $activity awake" --model bdh-25m --activity $activity
  sparse=$median
  measure "bdh-25m decode, $activity awake, dense" --model bdh-25m --activity $activity --dense
  ratio "$sparse" "$median" "sparse over dense"
done
measure "bdh-25m decode, 0.05 awake, bf16" --model bdh-25m --activity 0.05 --precision bf16
measure "bdh-25m decode, 0.05 awake, after 1,000" --model bdh-25m --activity 0.05 --depth 1000
early=$median
measure "bdh-25m decode, 0.05 awake, after 100,000" --model bdh-25m --activity 0.05 --depth 100000
ratio "$early" "$median" "early over late"
measure "bdh-25m train, 0.12 awake" --model bdh-25m --what train --context 256 --batch 1 --activity 0.12
sparse=$median
measure "bdh-25m train, 0.12 awake, dense" --model bdh-25m --what train --context 256 --batch 1 --activity 0.12 --dense
ratio "$sparse" "$median" "sparse over dense"
for threads in 1 2; do
  measure "mamba-130m decode, bf16, $threads threads" --model mamba-130m --precision bf16 --threads $threads
done
measure "mamba-130m prefill of 512, f32, 1 thread" --model mamba-130m --what prefill --threads 1
measure "mamba-130m prefill of 512, bf16, 2 threads" --model mamba-130m --what prefill --precision bf16 --threads 2
measure "mamba-1m decode, 1 thread" --model mamba-1m --threads 1
measure "mamba-s decode, 1 thread" --model mamba-s --threads 1
measure "mamba-s live" --model mamba-s --what live
measure "mamba-s live, chunks of 16, no rehearsal" --model mamba-s --what live --chunk 16 --rehearsals 0
for precision in f32 bf16; do
  measure "transformer-130m train, $precision" --model transformer-130m --what train --precision $precision --repeats 3
done

for bench in "$build"/bench/*_bench; do
  if [ -x "$bench" ] && basename "$bench" | grep -Eq "$filter"; then
    echo
    basename "$bench"
    case $bench in
      */bdh_bench) "$bench" ;;  # measures and repeats by itself
      */series_ridge_bench) echo "wants data: $bench ETTh1.csv" ;;
      *) "$bench" --benchmark_repetitions=5 --benchmark_report_aggregates_only=true 2>/dev/null ;;
    esac
  fi
done
