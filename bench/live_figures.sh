# Sourced by the scripts that measure learning: what they need to run brood and to read its figures.
# Set before: brood. From the environment: MODEL=mamba-s, OPTIONS= of brood live, FOLDER= to keep what is made.
model=${MODEL:-mamba-s}
if [ -n "${FOLDER:-}" ]; then
  work=$FOLDER
  mkdir -p "$work"
else
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
fi

# Goes on with the folder $1, begun from nothing when it is not there, by the text $2: "together alone", in bits per byte.
live() {
  [ -d "$1" ] && from=$1 || from=$model
  # shellcheck disable=SC2086
  "$brood" live --model "$from" --in "$2" --save "$1" --save-every 1000 --threads 1 --json ${OPTIONS:-} \
    >"$work/said.json" 2>"$work/said.log" || { cat "$work/said.log" >&2; exit 1; }
  echo "$(figure bits_per_byte) $(figure network_bits_per_byte)"
}

# A number of what was said last.
figure() { tr '{},' '\n' <"$work/said.json" | sed -n "s/^\"$1\"://p"; }

# Bytes [$2, $2 + $3) of the file $1.
piece() { tail -c "+$(($2 + 1))" "$1" | head -c "$3"; }
