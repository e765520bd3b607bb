#!/usr/bin/env bash
# gpu/run.sh MINUTES OUT [DEVICE]: all that a lent GPU is for, in one call, without a network.
#
# Installs what gpu/kit holds into a folder of its own, then: A tests of the engines on the device,
# B speed side by side, C a campaign with the minutes that are left, D its packs merged and looked
# at. Each under its own limit; a stage that fails does not stop the others. OUT: log.txt,
# replicas.json, pack-*.zip, manifest.json. MINUTES: a whole number. PLAN=file.csv: another plan; DEVICE: cuda, or cpu.
set -uo pipefail
minutes=${1:?usage: gpu/run.sh MINUTES OUT [DEVICE]}
mkdir -p "${2:?usage: gpu/run.sh MINUTES OUT [DEVICE]}" || exit 1
out=$(cd "$2" && pwd)
device=${3:-cuda}
cd "$(dirname "$0")/.."
end=$((SECONDS + minutes * 60))
work=$(mktemp -d)
python=${PYTHON:-python3}
[ -d gpu/kit/wheels ] || { echo "gpu/kit is not here: make gpu-kit, and bring it" >&2; exit 1; }
exec > >(tee "$out/log.txt") 2>&1

stage() { # NAME SECONDS COMMAND...
  local name=$1 limit=$2 started=$SECONDS
  shift 2
  echo "=== $name (at most $limit s)"
  timeout --kill-after=5 "$limit" "$@"
  local code=$?
  echo "=== $name: exit $code after $((SECONDS - started)) s"
  return $code
}

export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 PYTHONPATH="$work/site:$PWD" PYTHONUNBUFFERED=1 CUDA_DEVICE_MAX_CONNECTIONS=32 LRSC_CACHE="$work/cache"
export LRSC_DATA=${LRSC_DATA:-$PWD/gpu/kit/data} LRSC_TEST_DEVICE=$device
stage "install" 60 "$python" -m pip install --quiet --no-index --no-deps --no-compile \
  --target "$work/site" gpu/kit/wheels/*.whl
stage "imports" 150 "$python" -c "
import torch, lrsc, lrsc.sweep.campaign, lrsc.sweep.care
from lrsc.training import arguments
print('torch', torch.__version__, 'on', arguments.device('$device'), torch.get_num_threads())
if torch.cuda.is_available(): print(torch.cuda.get_device_name())
" || exit 1
engine=auto
tests() { stage "$1" 150 "$python" -m pytest -q -m gpu -k "$2" -p no:cacheprovider \
  -o filterwarnings= tests/test_gpu.py; }
tests "A: engines" "side_by_side or checkpoint"
[ $? -eq 1 ] && engine=reference # a test failed; one that only took too long says nothing
tests "A: measures" "measures"
echo "=== engine for the campaign: $engine"
stage "B: speed" 100 "$python" benchmarks/replicas.py --device "$device" --short \
  --output "$out/replicas.json"
left=$((end - SECONDS - 20))
plan=()
[ -n "${PLAN:-}" ] && plan=(--plan "$PLAN")
stage "C: campaign" "$left" "$python" -m lrsc campaign --device "$device" --engine "$engine" \
  --minutes "$(awk "BEGIN { print ($left - 20) / 60 }")" --results "$work/results" --out "$out" \
  --raw --light "${plan[@]}"
[ -f "$out/manifest.json" ] || stage "C: packs, since it ended early" 40 "$python" -c "
import pathlib
from lrsc.sweep import packs
root = pathlib.Path('$work/results')
names = [path.stem for path in sorted(root.glob('runs/*.nc'))]
print(packs.write(packs.prepare('$out'), root, names, light=True))"
stage "D: packs" 20 "$python" -m lrsc results merge "$out"/pack-*.zip --results "$work/merged"
ls -l "$out"
rm -rf "$work"
exec >&- 2>&-
wait # for tee
