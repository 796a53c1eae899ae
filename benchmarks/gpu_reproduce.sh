#!/usr/bin/env bash
# Studies of the seed documents' tables on one GPU, under 9 minutes a call; the next call goes on where one was cut off.
#
#   benchmarks/gpu_reproduce.sh STUDY [FOLDER] [KEY=VALUE...]
#   benchmarks/gpu_reproduce.sh --quick STUDY [FOLDER] train.device=cpu       a look at each run, no results
#
# STUDY  a      document 2: ResNet-preact-20 on CIFAR-10, 200 epochs, 5 seeds at once
#        b      document 1: ResNet-110 and ResNet-preact-110, 3 seeds
#        c      document 2: 12 cells of batch size and learning rate, 200 epochs; then all of them, and linear scaling
#        d      document 1: its tables of FashionMNIST and MNIST
#        e      document 3: ResNet-18, ResNet-50, VGG-16 and DenseNet-121 by its protocol
#        f      document 1: a whole run each of five networks, those that take no more than $FIT (6h); what the others
#               would take stands in NETWORK.txt
#
# Run directories go to FOLDER/STUDY, looks to FOLDER/STUDY-quick (default: runs/gpu). Exits with 0 when the study is
# finished, with 1 when it is to be called again or a run failed, with 2 for a mistake. `pictorch claims add RUN_DIR...`
# puts finished runs into the ledger, for which an installed package has to know its commit. Needs python with torch and
# the package's own dependencies, the data sets under PICTORCH_DATA, and nothing else.
set -u -o pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
quick=()
[ "${1:-}" = --quick ] && quick=(--quick) && shift
study=${1:-}
case $study in
  a | b | c | d | e | f) shift ;;
  *)
    echo "no study '$study': expected a, b, c, d, e or f" >&2
    exit 2
    ;;
esac
folder=runs/gpu
[[ ${1:-} == "" || ${1:-} == *=* ]] || { folder=$1 && shift; }
settings=("$@")
end=$((SECONDS + ${GPU_SECONDS:-520}))
status=0
# The runs lie in the working directory of what makes them: whatever the user named stays where it was.
python=${PYTHON:-python}
[[ $python != */* ]] || python=$(realpath -s "$python")
[ -z "${PICTORCH_DATA:-}" ] || PICTORCH_DATA=$(realpath -s "$PICTORCH_DATA")
export PYTHONPATH=${PYTHONPATH:+$PYTHONPATH:}$repository
place=$folder/$study${quick:+-quick}
mkdir -p "$place" && cd "$place" || exit 2
trap 'kill -INT $(jobs -p) 2> /dev/null; wait; exit 130' INT TERM

# pictorch ARGUMENT...: the command, asked to stop when the time is over; it saves the step that it is at.
pictorch() {
  local left=$((end - SECONDS))
  if ((left <= 20)); then
    echo "no time left for: pictorch $*"
    return 1
  fi
  timeout --foreground --signal=INT --kill-after=20 "$left" "$python" -m pictorch "$@" && return
  local code=$?
  ((code == 124 || code == 137)) && echo "stopped: pictorch $*: call again" || echo "status $code: pictorch $*"
  return 1
}

# sweep GRID ARGUMENT...: what is left of it; all sweeps of a study share its runs.
sweep() {
  pictorch sweep "$@" --out . "${quick[@]}" "${settings[@]}"
}

# seed N: study a's run of this seed, from where it is.
seed() {
  local run
  for run in runs/*/*-seed"$1"; do
    [ ! -e "$run/result.json" ] || return 0
    [ ! -e "$run/config.yaml" ] || { pictorch train --resume "$run" && return; return 1; }
    rmdir "$run" 2> /dev/null # reserved and never begun
  done
  pictorch train seed2/cifar10/resnet_preact_20 as_published=seed2 "${quick[@]}" "${settings[@]}" "train.seed=$1"
}

case $study in
  a)
    if [ -n "${quick:-}" ]; then
      seed 1 || status=1
    elif ! compgen -G "runs/*/*-seed*" > /dev/null; then
      # As threads over one copy of the images; what was stopped goes on as processes.
      pictorch train seed2/cifar10/resnet_preact_20 as_published=seed2 train.replicas=5 "${settings[@]}" || status=1
    else
      for n in 1 2 3 4 5; do
        seed "$n" > "seed$n.log" 2>&1 &
        seeds[n]=$!
      done
      for n in 1 2 3 4 5; do
        wait "${seeds[n]}" || { status=1 && tail -n 3 "seed$n.log"; }
      done
    fi
    ;;
  b) sweep seed1_resnet_110 as_published=seed1 || status=1 ;;
  c)
    sweep seed2_initial_lr as_published=seed2 \
      --where "train.batch_size in [128, 256, 512, 1024] and optim.lr in [0.4, 0.8, 1.6]" &&
      sweep seed2_initial_lr as_published=seed2 &&
      sweep seed2_linear_scaling as_published=seed2 || status=1
    ;;
  d) sweep seed1_mnist as_published=seed1 && sweep seed1_fashion_mnist as_published=seed1 || status=1 ;;
  e)
    networks="['resnet18', 'resnet50', 'vgg16_bn', 'densenet121']"
    sweep seed3_cifar10 as_published=seed3 --where "model.name in $networks" || status=1
    ;;
  f)
    budget=(--budget "${FIT:-6h}")
    [ -z "${quick:-}" ] || budget=()
    for network in wrn_28_10 densenet_bc_100_12 pyramidnet_110_a84 resnext_29_4x64d shake_shake_26_2x32d; do
      if grep -qs "no run fits" "$network.txt"; then
        grep "no run fits" "$network.txt"
        continue
      fi
      sweep seed1_whole_runs as_published=seed1 --where "model.name == '$network'" "${budget[@]}" 2>&1 |
        tee "$network.txt" || grep -qs "no run fits" "$network.txt" || status=1
    done
    ;;
esac
exit $status
