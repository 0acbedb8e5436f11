#!/usr/bin/env bash
# Train in several processes started by Open MPI (version 4).
#
#   launch/mpi.sh PROCESSES TRAIN_FLAGS...
#   MPIRUN_OPTIONS='--hostfile hosts --map-by ppr:1:node' \
#     launch/mpi.sh 2 --config=configs/cifar10_ict.py --workdir=/shared/RUN
#
# Run it on the first host of the hostfile: process 0 is expected where mpirun runs. If that host
# has several networks, choose one: --mca oob_tcp_if_include eth0. On one machine:
# MPIRUN_OPTIONS='--oversubscribe --mca oob_tcp_if_include lo --mca btl_tcp_if_include lo'.
# The processes of a host share its GPUs equally. SIGTERM and Ctrl-C are forwarded, and the script
# waits until all processes have saved. Its exit code is that of the process that failed first; 75
# means saved after SIGTERM or Ctrl-C: run the same command again.
#
# environment: PYTHON            the interpreter, the same path on all hosts; default python
#              MPIRUN_OPTIONS    more options of mpirun, separated by spaces
#              JAX_*, XLA_*, LIBTPU_*, NCCL_*, ICT_*, PYTHONPATH are forwarded to all hosts

set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[[ ${1:-} != --help && ${1:-} != -h ]] || { usage; exit 0; }
[[ ${1:-} =~ ^[1-9][0-9]*$ ]] ||
  fail "the first argument is '${1:-}', expected the number of processes, as in launch/mpi.sh 2 --config=configs/digits.py --workdir=runs/digits."
count=$1
shift
need_python "${PYTHON:-python}"
command -v mpirun >/dev/null || fail "mpirun is not installed; install Open MPI, as in apt-get install openmpi-bin."

read -ra options <<<"${MPIRUN_OPTIONS:-}"
# Processes are not bound to cores, and not killed when another one ends.
options+=(--bind-to none --tag-output --mca orte_abort_on_non_zero_status 0)
for name in $(compgen -e | grep -E '^((JAX|XLA|LIBTPU|NCCL|ICT)_|PYTHONPATH$)'); do
  options+=(-x "$name")
done

# mpirun kills on SIGTERM but forwards SIGUSR1, which this turns into SIGTERM for the training. Its
# exit code ignores processes that it may not abort, so they print their own.
# shellcheck disable=SC2016
worker='(trap "" USR1; exec "$@") & child=$!
trap "kill -TERM $child" USR1
while code=0; wait "$child" || code=$?; kill -0 "$child" 2>/dev/null; do :; done
((code == 0)) || echo "training ended with exit code $code" >&2'

codes=$(mktemp)
trap 'rm -f "$codes"' EXIT
note_codes() (
  trap '' INT TERM
  while IFS= read -r line; do
    echo "$line" >&2
    [[ $line != *"training ended with exit code "* ]] || echo "${line##* }" >>"$codes"
  done
)
exec {err}> >(note_codes)
notes=$!
setsid mpirun -n "$count" "${options[@]}" \
  bash -c "$worker" worker "${PYTHON:-python}" -m ict_jax.cli.train "$@" 2>&"$err" {err}>&- &
mpirun=$!
exec {err}>&-
trap 'kill -USR1 "$mpirun"' INT TERM
while code=0; wait "$mpirun" || code=$?; kill -0 "$mpirun" 2>/dev/null; do :; done
wait "$notes" || true
((code != 0)) || code=$(grep -vx 75 "$codes" | head -n 1) || true
((code != 0)) || code=$(head -n 1 "$codes")
exit "${code:-0}"
