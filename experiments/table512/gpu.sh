#!/usr/bin/env bash
# The reference's table on a GPU machine without network, in slices; the same command again goes on where it was.
#
#   experiments/table512/gpu.sh DATA [OVERRIDE...]
#
# DATA holds what `prepare.sh DATA` has made on a machine with the reviews: natural/, imdb/ and, for what the GPU
# machine's Python lacks, wheels/. OVERRIDEs are Hydra's, for all rows.
#
#   MINUTES  of a slice, 9 by default; training stops in time, the last validation and the report come on top
#   RUNS     folder of the runs, kept between slices; outputs by default
#   OUT      folder for what is to be brought home, in pieces of at most 15 MB; RUNS/home by default
#   PYTHON   python3 by default, with a torch that knows the GPU
set -euo pipefail
cd "$(dirname "$0")/../.."

data=$(realpath "$1")
shift
runs=${RUNS:-outputs}
out=${OUT:-$runs/home}
python=${PYTHON:-python3}
end=$((SECONDS + ${MINUTES:-9} * 60))

export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
if [ -d "$data/wheels" ]; then
  site=$(realpath -m "$runs/site")
  [ -d "$site" ] || "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$data"/wheels/*.whl
  export PYTHONPATH="$PYTHONPATH:$site"
fi

# Compiled where there is a GPU; on a CPU that takes longer than it gives.
compile=$("$python" -c 'import torch; print(str(torch.cuda.is_available()).lower())')

row() { # NAME PREPARED OVERRIDE...: train one row for what is left of the slice
  local name=$1 prepared=$2 left=$((end - SECONDS))
  shift 2
  if ((left < 20)); then
    echo "$name waits for the next slice."
    return
  fi
  "$python" -m nano_llm.run experiment=reference scale=w512 study=table512 "name=$name" "data.prepared=$data/$prepared" "paths.outputs=$runs" \
    "trainer.compile=$compile" "trainer.session_minutes=$(printf '%d.%02d' $((left / 60)) $((left % 60 * 100 / 60)))" "$@"
}

row imdb_baseline_vanilla_20m natural model=vanilla data=natural "$@"
row imdb_baseline_natural_20m natural model=interblock data=natural "$@"
row counterfactual_repeat_20m imdb model=tarnet data=imdb trainer.max_epochs=40 "$@"

"$python" -m nano_llm.cli.main report "$runs/table512"
"$python" - "$runs/table512" <<'PYTHON'
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

rm -rf "$out"
mkdir -p "$out"
(cd "$runs/table512" && find . -path '*/checkpoints' -prune -o -type f -print0 | tar --null --files-from=- -cz) |
  split --bytes=15M - "$out/figures.tar.gz."
(cd "$runs/table512" && find . -path '*/checkpoints/best/*' -type f -print0 | tar --null --files-from=- -cz) |
  split --bytes=15M - "$out/weights.tar.gz."
echo "To bring home (cat figures.tar.gz.* | tar xz): $out"
