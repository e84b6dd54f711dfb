#!/usr/bin/env bash
# What gpu.sh needs, made on a machine with the reviews and a network.
#
#   experiments/table512/prepare.sh DATA [OVERRIDE...]
#
#   WHEELS   packages that the GPU machine's Python lacks, and with them what they need; by default all that nano-llm
#            needs but torch, in the versions of constraints.txt; WHEELS= for none
#   FOR      its Python's version, 3.12 by default; it is to run Linux on x86-64
#   PYTHON   python3 by default, with nano-llm installed
set -euo pipefail

if (($# == 0)); then
  echo "usage: experiments/table512/prepare.sh DATA [OVERRIDE...]" >&2
  exit 2
fi
data=$1
shift
root=$(realpath "$(dirname "$0")/../..")
python=${PYTHON:-python3}

fetch_wheels() { # PACKAGE...
  # The one that is published as source only; Hydra and OmegaConf need it. It is pure Python, so built here it fits there.
  "$python" -m pip wheel --quiet --no-deps --wheel-dir "$data/wheels" --constraint "$root/constraints.txt" antlr4-python3-runtime
  "$python" -m pip download --quiet --only-binary=:all: --find-links "$data/wheels" --dest "$data/wheels" \
    --constraint "$root/constraints.txt" --python-version "${FOR:-3.12}" --implementation cp \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 \
    --platform manylinux2014_x86_64 "$@"
}

mkdir -p "$data"
for name in natural imdb; do
  model=$([ "$name" = natural ] && echo vanilla || echo tarnet)
  [ -d "$data/$name" ] ||
    "$python" -m nano_llm.cli.main prepare --to "$data/$name" experiment=reference "model=$model" "data=$name" "$@"
done
needed=$("$python" - "$root/pyproject.toml" <<'PYTHON'
import sys, tomllib

with open(sys.argv[1], "rb") as file:
    needed = tomllib.load(file)["project"]["dependencies"]
print(*(package for package in needed if not package.startswith("torch")))
PYTHON
)
read -ra packages <<<"${WHEELS-$needed}"
if ((${#packages[@]})); then
  fetch_wheels "${packages[@]}"
fi
du -sh "$data"/*
