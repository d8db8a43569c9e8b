#!/usr/bin/env bash
# Builds `salience` with CUDA on a machine without the CUDA toolkit and without a GPU: the compiler
# comes from PyPI. Everything that is made lies in one folder outside the repository.
#
#   build.sh --into FOLDER [--capability 90] [--python python3] [-- CARGO ARGUMENTS]
#
# FOLDER gets the compiler (about 350 MB), a copy of candle-core with one word of its manifest
# changed, a lockfile and the build. The last line printed is the binary. Arguments after -- are
# for cargo in place of `build --release --package cli --features cuda`.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
into="" capability=90 python=python3 arguments=()
while [ $# -gt 0 ]; do
  case "$1" in
    --into) into=$2; shift 2 ;;
    --capability) capability=$2; shift 2 ;;
    --python) python=$2; shift 2 ;;
    --) shift; arguments=("$@"); break ;;
    *) sed -n '2,9p' "$0" | sed 's/^# \{0,1\}//' >&2; exit 2 ;;
  esac
done

say() { echo "cuda: $*" >&2; }
fail() { say "$@"; exit 1; }

[ -n "$into" ] || fail "--into FOLDER is missing"
mkdir -p "$into"
into=$(cd "$into" && pwd)
case "$into/" in "$repository"/*) fail "--into must name a folder outside the repository" ;; esac
[ ${#arguments[@]} -gt 0 ] || arguments=(build --release --package cli --features cuda)

# The compiler: 13.0 goes with driver R580 and newer; the code of a newer compiler would be refused
# by that driver, and the packages of 12 hold no compiler.
toolkit="$into/toolkit/nvidia/cu13"
if [ ! -e "$toolkit/link/libcudart.a" ]; then
  say "fetching the compiler"
  "$python" -m pip install --quiet --disable-pip-version-check --no-deps --no-compile \
    --only-binary=:all: --upgrade --target "$into/toolkit" \
    nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 \
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
  chmod +x "$toolkit"/bin/* "$toolkit"/nvvm/bin/*
  ln -sfn lib "$toolkit/lib64"
  # Alone in its folder: beside libcudart.so the linker would take that.
  mkdir -p "$toolkit/link"
  ln -sfn ../lib/libcudart_static.a "$toolkit/link/libcudart.a"
fi

# The workspace, seen from outside with a lockfile of its own: what is changed below must not end in
# the repository's.
workspace="$into/workspace"
mkdir -p "$workspace"
for entry in "$repository"/*; do
  case "$(basename "$entry")" in
    target*|Cargo.lock) ;;
    *) ln -sfn "$entry" "$workspace/$(basename "$entry")" ;;
  esac
done
cp "$repository/Cargo.lock" "$workspace/Cargo.lock"

# candle-core links CUDA's libraries, which are not here; with this word changed, they are loaded
# when the device is opened, wherever the target machine has them.
say "changing candle-core's manifest"
manifest=$(cargo metadata --format-version 1 --locked --manifest-path "$repository/Cargo.toml" |
  "$python" -c 'import json, sys
print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "candle-core"))')
# Copied once: a new copy would be compiled again.
if [ "$(cat "$into/candle-core/copied-from" 2>/dev/null)" != "$manifest" ]; then
  rm -rf "$into/candle-core"
  cp -r "$(dirname "$manifest")" "$into/candle-core"
  sed -i 's/"dynamic-linking"/"fallback-dynamic-loading"/' "$into/candle-core/Cargo.toml"
  grep -q '"fallback-dynamic-loading"' "$into/candle-core/Cargo.toml" ||
    fail "candle-core's manifest is not as expected: $manifest"
  echo "$manifest" > "$into/candle-core/copied-from"
fi

export CUDA_HOME="$toolkit" PATH="$toolkit/bin:$PATH" CUDA_COMPUTE_CAP="$capability"
export NVCC_APPEND_FLAGS=--compress-mode=size CUDAFORGE_THREADS="${CUDAFORGE_THREADS:-$(nproc)}"
export CARGO_TARGET_DIR="$into/target"
# `cuda_loaded`: the libraries are looked for before they are used (model/src/device.rs).
export RUSTFLAGS="${RUSTFLAGS:-} -L native=$toolkit/link --cfg cuda_loaded"
say "cargo ${arguments[*]}"
(cd "$workspace" && cargo --config "patch.crates-io.candle-core.path='$into/candle-core'" "${arguments[@]}")
if [ -x "$into/target/release/salience" ]; then
  ls -l "$into/target/release/salience" >&2
  echo "$into/target/release/salience"
fi
