#!/usr/bin/env bash
# The GPU's part of the benchmarks, in under 9 minutes: ratios to the textbook's and to timm's way, with their goals.
#
#   benchmarks/gpu.sh [FOLDER] [OPTION...]
#
# Rows go to FOLDER/speed-*.csv (default: ledger) as soon as they are measured. Cut off, it goes on where it was when it
# is called again: what stands in the files is not measured again. OPTIONs go to every `pictorch bench` (--quick and
# --device cpu show on any machine that all of it runs). Needs python with torch and the package's own dependencies; the
# images are CIFAR-10's under PICTORCH_DATA, or random ones where it is missing, and the rows say which.
set -u
cd "$(dirname "$0")/.."
folder=${1:-ledger}
shift $(($# > 0))
options=("$@")
end=$((SECONDS + ${GPU_SECONDS:-530}))
status=0

# part SECONDS ARGUMENT...: one `pictorch bench`, ended after so many seconds, or when all of them are over.
part() {
  local left=$((end - SECONDS)) limit=$1
  shift
  ((limit < left)) || limit=$left
  if ((limit <= 5)); then
    echo "no time left for: $*"
    status=1
    return
  fi
  timeout --kill-after=5 "$limit" "${PYTHON:-python}" -m pictorch bench "$@" --write "$folder" "${options[@]}" && return
  local code=$?
  ((code == 124 || code == 137)) && echo "cut off after $limit s: $*" || echo "failed with status $code: $*"
  status=1
}

# The compiled networks last: compiling takes most of their time, and what is compiled is kept for the next call.
part 60 epoch --device cuda --rounds 3 --networks resnet_preact_20
part 75 epoch --device cuda --rounds 3 --networks wrn_28_10
part 60 epoch --device cuda --rounds 3 --networks resnet18,shake_shake_26_2x32d
part 90 epoch --device cuda --rounds 3 --networks resnet_110,densenet_bc_100_12
part 90 epoch --device cuda --rounds 3 --networks resnet_preact_20 --against timm-style
part 110 epoch --device cuda --rounds 3 --networks wrn_28_10 --against timm-style
part 150 epoch --device cuda --rounds 3 --networks resnet_110 --against timm-style
part 90 replicas --device cuda --rounds 1
part 60 loader --device cuda --rounds 3
exit $status
