#!/usr/bin/env bash
# Train on Cloud TPU VMs: one slice, or several slices as one queued resource.
#
#   launch/tpu_vm.sh create [--spot] [FLAGS of gcloud compute tpus queued-resources create]
#   launch/tpu_vm.sh status | wait             print its state; wait until it is ACTIVE
#   launch/tpu_vm.sh install [GIT_URL [REF]]   on all hosts: this source tree, or a repository
#   launch/tpu_vm.sh run TRAIN_FLAGS...        on all hosts, in the background
#   launch/tpu_vm.sh logs [HOST]               follow the log of a host of the first slice
#   launch/tpu_vm.sh stop                      send SIGTERM: it saves, and exits with 75
#   launch/tpu_vm.sh delete
#
# To resume, run the same command again; after a pre-emption create, wait and install first.
#
# environment: ICT_NAME, ICT_PROJECT, ICT_ZONE   of the queued resource
#              ICT_TPU_TYPE, ICT_TPU_RUNTIME     for create, as v5litepod-16 and v2-alpha-tpuv5-lite
#              ICT_SLICES                        default 1
#              ICT_POLL_SECS                     of wait, default 30

set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

command=${1:-}
[[ $command != --help && $command != -h ]] || { usage; exit 0; }
[[ $command =~ ^(create|status|wait|install|run|logs|stop|delete)$ ]] ||
  fail "the first argument is '$command', expected create, status, wait, install, run, logs, stop or delete, as in launch/tpu_vm.sh create."
shift
need ICT_NAME my-tpu "the name of the queued resource"
need ICT_PROJECT my-project "the Google Cloud project"
need ICT_ZONE us-west4-a "the zone of the TPU"
slices=${ICT_SLICES:-1}
ICT_SLICES=$slices
need_count ICT_SLICES
place=(--project="$ICT_PROJECT" --zone="$ICT_ZONE")

# With several slices gcloud numbers the nodes.
nodes=("$ICT_NAME")
if ((slices > 1)); then
  nodes=()
  for ((i = 0; i < slices; i++)); do nodes+=("$ICT_NAME-$i"); done
fi

queued() { gcloud compute tpus queued-resources "$1" "$ICT_NAME" "${place[@]}" "${@:2}"; }

state() { queued describe --format='value(state.state)'; }

# Run a command on all slices at the same time; fail if it fails on one.
on_all_hosts() {
  local job jobs=() failed=0
  for node in "${nodes[@]}"; do
    gcloud compute tpus tpu-vm ssh "$node" "${place[@]}" --worker=all --command="$1" &
    jobs+=($!)
  done
  for job in "${jobs[@]}"; do wait "$job" || failed=1; done
  return "$failed"
}

create() {
  need ICT_TPU_TYPE v5litepod-16 "the accelerator type"
  need ICT_TPU_RUNTIME v2-alpha-tpuv5-lite "the runtime version"
  local now naming
  now=$(state 2>/dev/null || true)
  case $now in
    SUSPENDED | FAILED) queued delete --force --quiet ;; # left by a pre-emption
    ?*) fail "$ICT_NAME exists and is $now; go on with launch/tpu_vm.sh wait, or launch/tpu_vm.sh delete it." ;;
  esac
  naming=(--node-id="$ICT_NAME")
  ((slices == 1)) || naming=(--node-count="$slices" --node-prefix="$ICT_NAME")
  queued create --accelerator-type="$ICT_TPU_TYPE" --runtime-version="$ICT_TPU_RUNTIME" "${naming[@]}" "$@"
}

wait_until_active() {
  local now before=
  ICT_POLL_SECS=${ICT_POLL_SECS:-30}
  need_number ICT_POLL_SECS 30
  while now=$(state); [[ $now != ACTIVE ]]; do
    [[ $now != FAILED && $now != SUSPEND* ]] ||
      fail "$ICT_NAME is $now; request it again, as in launch/tpu_vm.sh create."
    [[ $now == "$before" ]] || echo "$now"
    before=$now
    sleep "$ICT_POLL_SECS"
  done
  echo ACTIVE
}

# The images have Python 3.10; uv installs a newer one.
# shellcheck disable=SC2016
SETUP='cd ict_jax && export PIP_BREAK_SYSTEM_PACKAGES=1 &&
python3 -m pip install --quiet --user uv && python3 -m uv venv --quiet --clear --python=3.11 .venv &&
python3 -m uv pip install --quiet --python=.venv/bin/python -c constraints.txt -e ".[tpu,gcs]"'

install() {
  if (($# > 0)); then
    on_all_hosts "rm -rf ict_jax && git clone --quiet $(quoted "$1") ict_jax && git -C ict_jax checkout --quiet $(quoted "${2:-HEAD}") && $SETUP"
    return
  fi
  local archive
  archive=$(mktemp -d)/ict_jax.tgz
  tar --create --gzip --file="$archive" --exclude-vcs --exclude=./.venv --exclude=./runs \
    --exclude=__pycache__ --directory="$(dirname "${BASH_SOURCE[0]}")/.." .
  for node in "${nodes[@]}"; do
    gcloud compute tpus tpu-vm scp "$archive" "$node:ict_jax.tgz" "${place[@]}" --worker=all
  done
  rm -r "$(dirname "$archive")"
  on_all_hosts "rm -rf ict_jax && mkdir ict_jax && tar xzf ict_jax.tgz -C ict_jax && $SETUP"
}

run() {
  need_flags "$@"
  local train
  train="$(quoted "${PYTHON:-.venv/bin/python}" -m ict_jax.cli.train "$@") & echo \$! >train.pid; code=0; wait \$! || code=\$?; echo exit code \$code"
  on_all_hosts "cd ict_jax && if kill -0 \$(cat train.pid 2>/dev/null) 2>/dev/null; then echo it is already running >&2; exit 1; fi; nohup setsid bash -c $(quoted "$train") </dev/null >>train.log 2>&1 &"
}

# shellcheck disable=SC2016
STOP='cd ict_jax && pid=$(cat train.pid) && if kill -TERM $pid 2>/dev/null; then
while kill -0 $pid 2>/dev/null; do sleep 1; done; fi; sleep 1; tail -n 1 train.log'

case $command in
  create) create "$@" ;;
  status) state ;;
  wait) wait_until_active ;;
  install) install "$@" ;;
  run) run "$@" ;;
  logs)
    gcloud compute tpus tpu-vm ssh "${nodes[0]}" "${place[@]}" --worker="${1:-0}" \
      --command="tail -n 100 -F ict_jax/train.log"
    ;;
  stop) on_all_hosts "$STOP" ;;
  delete) queued delete --force --quiet ;;
esac
