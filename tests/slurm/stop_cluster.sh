#!/usr/bin/env bash
# Stop the cluster that start_cluster.sh started in STATE_DIR: running jobs first, then exactly the
# daemons whose pid is in STATE_DIR/run/*.pid (checked by name, so that a stale, reused pid is safe).
set -uo pipefail
STATE=$(realpath -m "${1:?usage: stop_cluster.sh STATE_DIR}")
export SLURM_CONF=$STATE/slurm.conf

# One of our daemons by name, and not a zombie that a lazy pid 1 has yet to reap.
alive() { [[ "$(cut -d' ' -f2,3 "/proc/$1/stat" 2>/dev/null)" =~ ^\((munged|slurmctld|slurmd)\)\ [^ZX]$ ]]; }

if [ -f "$STATE/run/slurmctld.pid" ] && alive "$(cat "$STATE/run/slurmctld.pid")"; then
  for state in PENDING RUNNING SUSPENDED; do timeout 10 scancel --state="$state" 2>/dev/null; done
  for _ in $(seq 40); do [ -z "$(timeout 5 squeue -h 2>/dev/null)" ] && break; sleep 0.25; done
fi
for name in slurmd. slurmctld. munged.; do
  for f in "$STATE/run/$name"*pid; do
    [ -s "$f" ] || continue
    pid=$(cat "$f")
    if alive "$pid"; then
      kill "$pid"
      for _ in $(seq 40); do alive "$pid" || break; sleep 0.25; done
      alive "$pid" && kill -KILL "$pid"
    fi
    rm -f "$f"
  done
done
rm -f "$STATE/run/munge.socket"*
exit 0
