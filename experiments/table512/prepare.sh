#!/usr/bin/env bash
# What gpu.sh needs, made on a machine with the reviews and a network.
#
#   experiments/table512/prepare.sh DATA [OVERRIDE...]
#
#   WHEELS   packages (NAME==VERSION ...) that the GPU machine's Python lacks; none by default
#   FOR      its Python's version, 3.12 by default
#   PYTHON   python3 by default, with nano-llm installed
set -euo pipefail

data=$1
shift
python=${PYTHON:-python3}
mkdir -p "$data"
for name in natural imdb; do
  model=$([ "$name" = natural ] && echo vanilla || echo tarnet)
  [ -d "$data/$name" ] ||
    "$python" -m nano_llm.cli.main prepare --to "$data/$name" experiment=reference "model=$model" "data=$name" "$@"
done
if [ -n "${WHEELS:-}" ]; then
  # shellcheck disable=SC2086  # a list of packages
  "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version "${FOR:-3.12}" --implementation cp \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 \
    --platform manylinux2014_x86_64 --dest "$data/wheels" $WHEELS
fi
du -sh "$data"/*
