#!/usr/bin/env bash
# Train in several processes on this machine, connected over loopback.
#
#   launch/local.sh PROCESSES TRAIN_FLAGS...
#   PYTHON=.venv/bin/python launch/local.sh 2 --config=configs/digits.py --workdir=runs/digits
#
# GPUs, if there are any, are divided equally; CUDA_VISIBLE_DEVICES limits them. Each line of output
# begins with the number of its process. SIGTERM and Ctrl-C are forwarded, and the script waits
# until all processes have saved. Its exit code is that of the process that failed first; 75 means
# saved after SIGTERM or Ctrl-C: run the same command again.
#
# environment: PYTHON            the interpreter; default python
#              ICT_GRACE_SECS    time until the others are stopped when one process has failed;
#                                default 90, in which they usually notice by themselves

set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[[ ${1:-} != --help && ${1:-} != -h ]] || { usage; exit 0; }
[[ ${1:-} =~ ^[1-9][0-9]*$ ]] ||
  fail "the first argument is '${1:-}', expected the number of processes, as in launch/local.sh 2 --config=configs/digits.py --workdir=runs/digits."
count=$1
shift
python=${PYTHON:-python}
ICT_GRACE_SECS=${ICT_GRACE_SECS:-90}
need_number ICT_GRACE_SECS 90
grace_secs=$ICT_GRACE_SECS
need_python "$python"

# The GPUs of process $1, as indices among the visible ones.
share_of_gpus() { seq -s, $(($1 * gpus / count)) $((($1 + 1) * gpus / count - 1)); }

count_gpus() {
  local visible gpu
  if [[ ${JAX_PLATFORMS:-} == cpu || -n ${JAX_LOCAL_DEVICE_IDS:-} ]]; then
    visible=()
  elif [[ -n ${CUDA_VISIBLE_DEVICES+set} ]]; then
    IFS=, read -ra visible <<<"$CUDA_VISIBLE_DEVICES"
  else
    shopt -s nullglob
    visible=(/dev/nvidia[0-9]*)
  fi
  gpus=0
  for gpu in "${visible[@]}"; do # CUDA sees those before the first invalid one, as -1
    [[ $gpu =~ ^([0-9]+|GPU-.+|MIG-.+|/dev/nvidia[0-9]+)$ ]] || break
    gpus=$((gpus + 1))
  done
}
count_gpus
((gpus % count == 0)) ||
  fail "$count processes cannot share $gpus GPUs equally; start a number that divides them, as in launch/local.sh $gpus."

port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export JAX_COORDINATOR_ADDRESS=127.0.0.1:$port JAX_NUM_PROCESSES=$count

# Ctrl-C in the terminal reaches these too: they go on until the output ends.
numbered() (
  trap '' INT TERM
  exec sed -u "s/^/[$1] /"
)

processes=()
printers=()
for ((i = 0; i < count; i++)); do
  exec {out}> >(numbered "$i")
  printers+=($!)
  exec {err}> >(numbered "$i" >&2)
  printers+=($!)
  (
    export JAX_PROCESS_ID=$i
    if ((gpus)); then
      JAX_LOCAL_DEVICE_IDS=$(share_of_gpus "$i")
      export JAX_LOCAL_DEVICE_IDS
    fi
    exec "$python" -m ict_jax.cli.train "$@" >&"$out" 2>&"$err" {out}>&- {err}>&-
  ) &
  processes[i]=$!
  exec {out}>&- {err}>&-
done

signal_all() { kill -s "$1" "${processes[@]}" 2>/dev/null || true; }
# Whatever ends this script, no process is left behind.
trap '((${#processes[@]} == 0)) || signal_all KILL' EXIT
# Forward SIGTERM: the processes may have seen the Ctrl-C too, and a second one does not save.
trap 'signal_all TERM' INT TERM

code=0
stop_at=
while ((${#processes[@]})); do
  for i in "${!processes[@]}"; do
    kill -0 "${processes[i]}" 2>/dev/null && continue
    wait "${processes[i]}" && ended=0 || ended=$?
    unset "processes[i]"
    ((ended == 0)) || echo "process $i ended with exit code $ended" >&2
    ((ended == 0 || (code != 0 && code != 75))) || code=$ended
    [[ $ended == 0 || $ended == 75 || $stop_at ]] || stop_at=$((SECONDS + grace_secs))
  done
  if [[ $stop_at ]] && ((SECONDS >= stop_at && ${#processes[@]})); then
    echo "the others have not ended within $grace_secs s: stopping them" >&2
    signal_all TERM
    sleep 5
    signal_all KILL
  fi
  sleep 0.2
done
for printer in "${printers[@]}"; do wait "$printer" || true; done
exit "$code"
