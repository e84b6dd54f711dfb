#!/usr/bin/env bash
# The reference's table on a GPU machine without network, in slices; the same command again goes on where it was.
#
#   experiments/table512/gpu.sh DATA [OVERRIDE...]
#
# DATA holds what `prepare.sh DATA` has made on a machine with the reviews: natural/, imdb/ and wheels/. On a new disk
# it may hold home/ too, with what the last slice left in OUT: the rows go on from there. OVERRIDEs are Hydra's, for all
# rows; trainer.compile=false where the GPU machine has no C compiler.
#
#   MINUTES  of a slice, 7 by default. Training stops in time. On top come what a row does not interrupt (its start and
#            first compilation, a validation, at its end the scoring of its best checkpoint), the report and the packing
#   RUNS     folder of the runs, kept between slices, with the installed wheels and the compiled code; outputs by default
#   OUT      folder for what is to be brought home, in pieces of 15 MiB; RUNS/home by default
#   PYTHON   python3 by default, with a torch that knows the GPU
#   CPU      1: train on the CPU, uncompiled. These are other runs than a GPU's
set -euo pipefail

if (($# == 0)); then
  echo "usage: experiments/table512/gpu.sh DATA [OVERRIDE...]; DATA is what prepare.sh has made" >&2
  exit 2
fi
root=$(realpath "$(dirname "$0")/../..")
data=$(realpath "$1")
shift
runs=$(realpath -m "${RUNS:-outputs}")
out=$(realpath -m "${OUT:-$runs/home}")
python=${PYTHON:-python3}
end=$((SECONDS + ${MINUTES:-7} * 60))
table=$runs/table512
archives=(figures weights state)
failed=()

export PYTHONPATH="$root/src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 TORCHINDUCTOR_CACHE_DIR=$runs/compiled
mkdir -p "$runs" "$out"

# Each folder gets its name when it is whole: a slice may be killed at any time.
if [ -d "$data/wheels" ]; then
  site=$runs/site
  if [ ! -d "$site" ]; then
    rm -rf "$site.new"
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$site.new" "$data"/wheels/*.whl
    mv "$site.new" "$site"
  fi
  export PYTHONPATH="$PYTHONPATH:$site"
fi
if [ -d "$data/home" ] && [ ! -d "$table" ]; then
  rm -rf "$table.new"
  mkdir "$table.new"
  for archive in "${archives[@]}"; do
    cat "$data/home/$archive.tar."* | tar --extract --directory="$table.new"
  done
  mv "$table.new" "$table"
fi

train() { # OVERRIDE...: train one row for what is left of the slice
  local left=$((end - SECONDS)) machine=(trainer.device=cuda trainer.compile=true) status=0
  if ((left < 20)); then
    echo "$1 waits for the next slice."
    return
  fi
  if [ "${CPU:-}" = 1 ]; then
    machine=(trainer.device=cpu)
  fi
  "$python" -m nano_llm.run experiment=table512 'sweep.rows=[]' "data.prepared=$data/\${data.name}" "paths.outputs=$runs" \
    trainer.eval_batch_size=512 trainer.evaluation=none \
    "trainer.session_minutes=$(printf '%d.%02d' $((left / 60)) $((left % 60 * 100 / 60)))" "${machine[@]}" "$@" || status=$?
  if ((status > 128)); then # a signal is meant for the slice
    exit "$status"
  elif ((status)); then
    failed+=("$1")
  fi
}

pack() { # ARCHIVE: the files named on the standard input, in pieces
  tar --create --directory="$table" --null --files-from=- | split --bytes=15M - "$out/$1.tar."
}

rows=$(
  "$python" - <<'PYTHON'
from hydra import compose
from nano_llm.config.compose import composing

with composing():
    print(*compose("config", overrides=["experiment=table512"]).sweep.rows, sep="\n")
PYTHON
)
while read -ra row; do
  train "${row[@]}" "$@" </dev/null
done <<<"$rows"

if [ -d "$table" ]; then
  "$python" -m nano_llm.cli.main report "$table"
  "$python" - "$table" <<'PYTHON'
import json, sys
from pathlib import Path

for metrics in sorted(Path(sys.argv[1]).glob("*/seed-*/metrics.jsonl")):
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    steps = [row for row in rows if row["split"] == "train"]
    if steps:
        rates = sorted(row["tokens_per_second"] for row in steps)
        used = sorted(row["mfu"] for row in steps if "mfu" in row)
        utilisation = f"{used[len(used) // 2]:.1%}" if used else "n/a"
        print(f"{metrics.parent.parent.name}: {rates[len(rates) // 2]:,.0f} tokens/s, MFU {utilisation} (medians of log rows)")
PYTHON

  cd "$table"
  for archive in "${archives[@]}"; do
    rm -f "$out/$archive.tar."*
  done
  find . -path '*/checkpoints' -prune -o -type f -print0 | pack figures
  # Of a finished row the weights; of another one all that going on needs.
  for run in */seed-*; do
    [ ! -f "$run/summary.json" ] || find "$run/checkpoints/best" -type f -print0
  done | pack weights
  for run in */seed-*; do
    [ -f "$run/summary.json" ] ||
      find "$run" \( -path '*/checkpoints/best/*' -o -path '*/checkpoints/last/*' \) -type f -print0
  done | pack state
  echo "To bring home (cat figures.tar.* | tar x): $out"
fi
if ((${#failed[@]})); then
  echo "Failed, for the reasons above: ${failed[*]}" >&2
  exit 1
fi
