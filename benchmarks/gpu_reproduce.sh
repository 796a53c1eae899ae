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
#        f      document 1: a whole run each of five networks, those that fit into $FIT (6h); the price of each in plan.txt
#
# Run directories go to FOLDER/STUDY (default: runs/gpu). Exits with 0 when the study is finished, with 1 when it is to be
# called again or a run failed. `pictorch claims add FOLDER/STUDY/*/` puts what is finished into the ledger, for which an
# installed package has to know its commit. Needs python with torch and the package's own dependencies, the data sets
# under PICTORCH_DATA, and nothing else.
set -u
repository=$(cd "$(dirname "$0")/.." && pwd)
quick=()
[ "${1:-}" = --quick ] && quick=(--quick) && shift
study=${1:?the study: a, b, c, d, e or f}
folder=${2:-runs/gpu}
shift $(($# > 1 ? 2 : 1))
settings=("$@")
end=$((SECONDS + ${GPU_SECONDS:-520}))
status=0
export PYTHONPATH=${PYTHONPATH:+$PYTHONPATH:}$repository
mkdir -p "$folder/$study" && cd "$folder/$study" || exit 2

# pictorch ARGUMENT...: the command, stopped when the time is over. A run that is stopped saves the step it is at.
pictorch() {
  local left=$((end - SECONDS))
  if ((left <= 20)); then
    echo "no time left for: pictorch $*"
    status=1
    return 1
  fi
  timeout --signal=INT --kill-after=20 "$left" "${PYTHON:-python}" -m pictorch "$@" && return
  local code=$?
  ((code == 124 || code == 137)) && echo "stopped: pictorch $*: call again" || echo "status $code: pictorch $*"
  status=1
  return 1
}

# sweep GRID ARGUMENT...: what is left of it; all sweeps of a study share its runs.
sweep() {
  pictorch sweep "$@" --out . "${quick[@]}" "${settings[@]}"
}

case $study in
  a)
    # Replicas begin together; those that were stopped go on beside each other.
    if ! compgen -G "runs/*/*/config.yaml" > /dev/null; then
      ((${#quick[@]})) || settings+=(train.replicas=5)
      pictorch train seed2/cifar10/resnet_preact_20 as_published=seed2 "${quick[@]}" "${settings[@]}"
    else
      for run in runs/*/*/; do
        [ -e "$run/result.json" ] && continue
        pictorch train --resume "$run" > "$run/resumed.log" 2>&1 &
      done
      wait
    fi
    for run in runs/*/*/; do
      [ -e "$run/result.json" ] || status=1
    done
    ;;
  b) sweep seed1_resnet_110 as_published=seed1 ;;
  c)
    sweep seed2_initial_lr as_published=seed2 \
      --where "train.batch_size in [128, 256, 512, 1024] and optim.lr in [0.4, 0.8, 1.6]" &&
      sweep seed2_initial_lr as_published=seed2 &&
      sweep seed2_linear_scaling as_published=seed2
    ;;
  d) sweep seed1_mnist as_published=seed1 && sweep seed1_fashion_mnist as_published=seed1 ;;
  e) sweep seed3_cifar10 as_published=seed3 --where "model.name in ['resnet18', 'resnet50', 'vgg16_bn', 'densenet121']" ;;
  f)
    [ -e plan.txt ] || { sweep seed1_whole_runs as_published=seed1 --dry-run > plan.part && mv plan.part plan.txt; }
    cat plan.txt
    sweep seed1_whole_runs as_published=seed1 --budget "${FIT:-6h}"
    ;;
  *)
    echo "no study '$study': expected a, b, c, d, e or f" >&2
    exit 2
    ;;
esac
exit $status
