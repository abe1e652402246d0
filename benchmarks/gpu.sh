#!/usr/bin/env bash
# All that is measured on one GPU, within 10 minutes:   bash benchmarks/gpu.sh [--tiny] [--out DIR]
#
# --tiny runs the parts on a CPU within a minute, to see that they run; what needs a GPU is left out. PYTHON is the
# Python that is used, with torch and what samson-torch[cli] needs; SAMSON_DATA is where CIFAR-10 is looked for.
# Records are JSON files in DIR, runs/gpu by default. A part that fails or takes too long leaves the others alone.
set -euo pipefail

tiny="" out="runs/gpu" failed=0
while [ $# -gt 0 ]; do
    case "$1" in
        --tiny) tiny=1; shift ;;
        --out) out="${2:?must be a folder}"; shift 2 ;;
        *) echo "gpu.sh: unknown argument $1; there are --tiny and --out DIR" >&2; exit 2 ;;
    esac
done
mkdir -p "$out" && out="$(cd "$out" && pwd)"
data="$(cd "${SAMSON_DATA:-data}" 2>/dev/null && pwd || echo "${SAMSON_DATA:-data}")"
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"
export PYTHONPATH="src:.${PYTHONPATH:+:$PYTHONPATH}"

part() { # NAME SECONDS COMMAND...: run it for so long at most, and say how that ended
    local name="$1" limit="$2" start=$SECONDS status=0
    timeout --kill-after=10 "$limit" "${@:3}" 2>"$out/$name.log" || status=$?
    if [ "$status" = 0 ]; then echo "[$name] done in $((SECONDS - start)) s"; return; fi
    tail -n 5 "$out/$name.log"
    echo "[$name] FAILED with status $status (124: more than $limit s), see $out/$name.log"
    failed=1
}
benchmark() { part "$1" "$2" "$python" -m "benchmarks.${1//-/_}" --out "$out/$1.json" "${@:3}"; }
compare() {
    part "$1" "$2" "$python" -c "from samson.cli import main; main()" compare --out "$out/$1" --quiet "${@:3}"
}

if [ -n "$tiny" ]; then
    benchmark step-cost 100 --sets small --rounds 2 --no-compiled
    echo "[step-cost-compiled] skipped: kernels, and the compiled climb, need a GPU"
    benchmark evaluation-cost 100 --only CNN --images 100 --chips 2 --rounds 1
    benchmark throughput 100 --tiny
    compare digits 100 --methods sgd,samson+clip --epochs 1 --seeds 1 --trials 2 --levels 0,.1 --jobs 1
    echo "[cifar10] skipped: it needs a GPU"
    exit "$failed"
fi
"$python" -c "import torch; print(torch.cuda.get_device_name())" || { echo "no GPU; --tiny needs none"; exit 1; }
benchmark step-cost 50 --sets small resnet18 --rounds 20 --no-compiled --device cuda
part step-cost-compiled 90 "$python" -m benchmarks.step_cost --sets resnet18 --device cuda \
    --out "$out/step-cost-compiled.json"
benchmark evaluation-cost 60 --device cuda
benchmark throughput 110 --rounds 3 --device cuda
needed="import sys, pathlib; from samson.experiments import load_splits
load_splits('cifar10', pathlib.Path(sys.argv[1]))"
if why="$("$python" -c "$needed" "$data" 2>&1)"; then
    compare cifar10 240 benchmarks/gpu-cifar10.toml --data-root "$data" --device cuda --jobs 2
else
    echo "[cifar10] skipped: ${why##*$'\n'} (SAMSON_DATA is $data)"
fi
exit "$failed"
