#!/usr/bin/env bash
# shellcheck disable=SC2317
# Runs a SLURM of one node on this machine, over loopback, until its standard input is closed.
#
#   slurm_on_one_machine.sh DIRECTORY
#
# Prints "ready" when jobs can be submitted with SLURM_CONF=DIRECTORY/slurm.conf.

set -euo pipefail

dir=$1
host=$(hostname -s)
getent ahostsv4 "$host" | grep -q '^127\.' || echo "127.0.0.1 $host" >>/etc/hosts
mkdir -p "$dir"/{controller,node,munge}
free_ports() {
  python3 -c 'import socket
s = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*[x.getsockname()[1] for x in s])'
}
read -r control node < <(free_ports)
sed -e '/^#/d' -e "s|HOST|$host|g" -e "s|DIR|$dir|g" -e "s|CONTROL_PORT|$control|" \
  -e "s|NODE_PORT|$node|" "$(dirname "$0")/slurm.conf" >"$dir/slurm.conf"
export SLURM_CONF=$dir/slurm.conf

dd if=/dev/urandom of="$dir/munge/key" bs=128 count=1 status=none
chmod 400 "$dir/munge/key"
chmod 755 "$dir/munge"
pids=()
stop() {
  trap - EXIT
  kill "${pids[@]}" 2>/dev/null || true
  wait || true
}
trap stop EXIT
munged --foreground --force --socket="$dir/munge/socket" --key-file="$dir/munge/key" \
  --pid-file="$dir/munge/pid" --log-file="$dir/munge/log" --seed-file="$dir/munge/seed" >/dev/null 2>&1 &
pids+=($!)
until [[ -S $dir/munge/socket ]]; do sleep 0.1; done
slurmctld -D >/dev/null 2>&1 &
pids+=($!)
slurmd -D -N "$host" >/dev/null 2>&1 &
pids+=($!)
for _ in {1..100}; do
  if [[ $(sinfo --noheader --format=%t 2>/dev/null) == idle ]]; then
    echo ready
    cat >/dev/null
    exit
  fi
  sleep 0.2
done
cat "$dir"/*.log >&2
exit 1
