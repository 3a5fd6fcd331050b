#!/usr/bin/env bash
# Install (apt) and start a throw-away one-machine SLURM cluster on Debian/Ubuntu, as root, without
# systemd. Two virtual nodes (node1, node2), two slurmd on this machine; outside STATE it writes only
# the apt packages and /etc/hosts lines for names that do not resolve. Idempotent: a cluster that
# already answers from STATE is left alone.
#
#   bash start_cluster.sh STATE_DIR         # then:  . STATE_DIR/env.sh && sinfo
#   bash stop_cluster.sh  STATE_DIR
#
# Knobs (environment): SLURM_TEST_NODES=2  SLURM_TEST_CPUS=16 (per node, may exceed the real cores)
#   SLURM_TEST_MEM=65536 (MiB per node, may exceed the real memory)  SLURM_TEST_GPUS=0 (make-believe GPUs per node, so
#   that --gpus-per-node is accepted; no device behind them)  SLURM_TEST_PORT=16817 (to PORT+NODES)
set -euo pipefail

STATE=$(realpath -m "${1:?usage: start_cluster.sh STATE_DIR}")
NODES=${SLURM_TEST_NODES:-2} CPUS=${SLURM_TEST_CPUS:-16} MEM=${SLURM_TEST_MEM:-65536}
GPUS=${SLURM_TEST_GPUS:-0} PORT=${SLURM_TEST_PORT:-16817}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
die() { echo "start_cluster: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || die "must run as root"

# An inherited SLURM_* variable (we may be inside a job) would change what the daemons and sinfo do.
for v in $(compgen -e | grep '^SLURM_' | grep -v '^SLURM_TEST_' || true); do unset "$v"; done
export SLURM_CONF=$STATE/slurm.conf

ready() { # every node idle, allocated or mixed; none down/unknown ("*" marks "not responding")
  local up
  kill -0 "$(cat "$STATE/run/slurmctld.pid" 2>/dev/null)" 2>/dev/null || return 1
  up=$(timeout 5 sinfo -h -N -o '%N %t' 2>/dev/null | grep -cE ' (idle|alloc|mix)$') || true
  [ "${up:-0}" -eq "$NODES" ]
}

# 1. packages -------------------------------------------------------------------------------------
if ! { command -v slurmctld && command -v slurmd && command -v sbatch && command -v munged; } >/dev/null
then
  # A policy-rc.d that says no keeps apt from starting system services with the distribution's config.
  PRC=/usr/sbin/policy-rc.d; MADE=
  [ -e $PRC ] || { printf '#!/bin/sh\nexit 101\n' >$PRC; chmod 755 $PRC; MADE=1; }
  mkdir -p "$STATE/log"
  apt_get() { DEBIAN_FRONTEND=noninteractive apt-get -q -o Dpkg::Use-Pty=0 "$@" >>"$STATE/log/apt.txt" 2>&1; }
  PKGS="munge slurmctld slurmd slurm-client"
  apt_get install -y --no-install-recommends $PKGS ||
    { apt_get update && apt_get install -y --no-install-recommends $PKGS; } ||
    die "apt-get: see $STATE/log/apt.txt"
  [ -z "$MADE" ] || rm -f $PRC
fi

if [ -f "$SLURM_CONF" ] && ready; then echo "already running: . $STATE/env.sh"; exit 0; fi
[ ! -d "$STATE" ] || bash "$HERE/stop_cluster.sh" "$STATE" # half-started remains of an earlier try

# 2. configuration --------------------------------------------------------------------------------
umask 022
rm -rf "$STATE/ctld" "$STATE/spool" "$STATE/munge" # job queue of an earlier run: start empty
mkdir -p "$STATE"/{ctld,spool,log,run,munge}
chmod 700 "$STATE/ctld"
# munged refuses a key, log or seed file in a directory that others can write.
chmod 755 "$STATE" "$STATE"/{munge,run,log}
[ -s "$STATE/munge/munge.key" ] ||
  (umask 077; dd if=/dev/urandom of="$STATE/munge/munge.key" bs=1 count=1024 status=none)

# The daemons bind to this host's own address only (loopback where /etc/hosts says so); the node names
# must resolve too, because Lightning takes rank 0's address from SLURM_NODELIST.
HOST=$(uname -n) HOST=${HOST%%.*}
resolve() { { getent ahostsv4 "$1" || true; } | awk 'NR == 1 {print $1}'; }
ADDR=$(resolve "$HOST")
[ -n "$ADDR" ] || { ADDR=127.0.0.1; echo "$ADDR $HOST # start_cluster.sh" >>/etc/hosts; }
for i in $(seq "$NODES"); do
  [ -n "$(resolve "node$i")" ] || echo "$ADDR node$i # start_cluster.sh" >>/etc/hosts
done

cat >"$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=$HOST($ADDR)
SlurmUser=root
SlurmdUser=root
SlurmctldPort=$PORT
SlurmctldPidFile=$STATE/run/slurmctld.pid
SlurmdPidFile=$STATE/run/slurmd.%n.pid
SlurmctldLogFile=$STATE/log/slurmctld.log
SlurmdLogFile=$STATE/log/slurmd.%n.log
StateSaveLocation=$STATE/ctld
SlurmdSpoolDir=$STATE/spool/%n
AuthType=auth/munge
CredType=cred/munge
# cred_expire: a requeued job waits this long (default 120 s) before it may start again.
AuthInfo=socket=$STATE/run/munge.socket,cred_expire=5
# No systemd, no cgroups, no affinity, no accounting database, no mail.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
MailProg=/bin/true
PlugStackConfig=$STATE/plugstack.conf
PropagateResourceLimits=NONE
# CPUs and memory are counted (not enforced): a job that asks for more than a node has is refused.
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerNode=$((MEM / 8))
# Fast and forgiving, for tests.
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=5,bf_interval=5
ReturnToService=2
JobRequeue=1
KillWait=5
MinJobAge=3600
SlurmdParameters=config_overrides
InactiveLimit=0
# Sockets on ADDR only, not on every interface.
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
CONF
: >"$STATE/plugstack.conf"
: >"$STATE/gres.conf"
GRES=
[ "$GPUS" = 0 ] || {
  GRES=" Gres=gpu:$GPUS"
  for g in $(seq 0 $((GPUS - 1))); do ln -sfn /dev/null "$STATE/gpu$g"; done # a device node is required
  echo "Name=gpu File=$STATE/gpu[0-$((GPUS - 1))]" >"$STATE/gres.conf"
  echo "GresTypes=gpu" >>"$SLURM_CONF"
}
for i in $(seq "$NODES"); do
  mkdir -p "$STATE/spool/node$i"
  echo "NodeName=node$i NodeHostname=$HOST NodeAddr=$ADDR Port=$((PORT + i)) CPUs=$CPUS RealMemory=$MEM$GRES State=UNKNOWN"
done >>"$SLURM_CONF"
echo "PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=60 State=UP" >>"$SLURM_CONF"
# submitit polls `sacct -o JobID,State,NodeList --parsable2 -j ID...`, but the real sacct needs slurmdbd
# and MariaDB. squeue knows the same for MinJobAge seconds; without it a job that dies before it wrote
# its result makes submitit (hence the Hydra launcher) wait for ever.
mkdir -p "$STATE/bin"
cat >"$STATE/bin/sacct" <<'SACCT'
#!/bin/sh
jobs=
while [ $# -gt 0 ]; do
  if [ "$1" = -j ]; then jobs="$jobs,$2"; shift; fi
  shift
done
echo "JobID|State|NodeList"
exec squeue --states=all --array --noheader --format="%i|%T|%N" ${jobs:+--jobs="${jobs#,}"}
SACCT
chmod 755 "$STATE/bin/sacct"
printf 'export SLURM_CONF=%q PATH=%q:$PATH\n' "$SLURM_CONF" "$STATE/bin" >"$STATE/env.sh"

# 3. daemons (each forks itself into the background and writes STATE/run/*.pid) ---------------------
munged --force --key-file="$STATE/munge/munge.key" --socket="$STATE/run/munge.socket" \
  --pid-file="$STATE/run/munged.pid" --log-file="$STATE/log/munged.log" \
  --seed-file="$STATE/munge/munged.seed" || die "munged: see $STATE/log/munged.log"
slurmctld || die "slurmctld: see $STATE/log/slurmctld.log"
for i in $(seq "$NODES"); do
  slurmd -N "node$i" || die "slurmd: see $STATE/log/slurmd.node$i.log"
done

# 4. wait -----------------------------------------------------------------------------------------
for _ in $(seq 120); do
  if ready; then sinfo; echo "ready: . $STATE/env.sh"; exit 0; fi
  sleep 0.25
done
sinfo -N -l || true
tail -n 20 "$STATE"/log/*.log >&2
die "nodes not idle after 30 s"
