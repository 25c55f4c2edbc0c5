#!/bin/sh
# Installs the Debian packages that the build needs and that are missing. Says nothing when none is.
#   cmake/dependencies.sh [build] [run] [test] [ci] [bench]
set -eu

# ocl-icd-opencl-dev: the CMake files of libdnnl-dev look for OpenCL, which that package only recommends.
packages="g++ cmake ninja-build pkg-config libhwy-dev libdnnl-dev ocl-icd-opencl-dev libcli11-dev libfmt-dev nlohmann-json3-dev"
for group in "$@"; do
  case $group in
    build) ;;
    run) packages="$packages bzip2 xz-utils" ;;
    test) packages="$packages libgtest-dev libbenchmark-dev" ;;
    bench) packages="$packages libbenchmark-dev" ;;
    ci) packages="$packages clang-14 libclang-rt-14-dev clang-format-14" ;;
    *) echo "dependencies: no group is called $group; there are build, run, test, bench and ci" >&2; exit 2 ;;
  esac
done

command -v dpkg-query >/dev/null || exit 0   # not Debian: the build says itself what it cannot find
missing=
for package in $packages; do
  status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) || status=
  [ "$status" = "install ok installed" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

root=
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "dependencies: as root: apt-get install$missing" >&2; exit 2; }
  root=sudo
fi
echo "installing$missing" >&2
$root apt-get update -qq
# shellcheck disable=SC2086  # one word per package
$root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
