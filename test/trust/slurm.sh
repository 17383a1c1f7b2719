#!/usr/bin/env bash
# Run the recipe through a real Slurm of two nodes, both on this machine and on loopback only:
#     sudo test/trust/slurm.sh FOLDER [options of run.sh, such as --num_nodes 2]
# Needs root and `apt-get install slurm-wlm munge`. Starts munged, slurmctld and a slurmd for each
# node with state of their own in FOLDER, runs the tiny recipe with cmd_backend=slurm, prints what
# Slurm has run, and ends the daemons. Not part of `make test`.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: $0 FOLDER [options of run.sh]" >&2 && exit 1; }
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
mkdir -p "$1"/{state,spool,run,munge}
folder=$(cd "$1" && pwd)
shift

pids=()
finish() {
    for pid in "${pids[@]}"; do kill "${pid}" 2>/dev/null || true; done
    wait
}
trap finish EXIT

# munge: who talks to Slurm; a key and a socket of its own
dd if=/dev/urandom bs=1 count=1024 of="${folder}/munge/key" status=none
chmod 700 "${folder}/munge" && chmod 600 "${folder}/munge/key"
chown -R "$(id -u)" "${folder}/munge"
munged --foreground --force --socket="${folder}/munge/socket" --key-file="${folder}/munge/key" \
    --pid-file="${folder}/munge/pid" --seed-file="${folder}/munge/seed" \
    --log-file="${folder}/munge/log" &
pids+=($!)

host=$(hostname -s)
cores=$(getconf _NPROCESSORS_ONLN)
cat >"${folder}/slurm.conf" <<CONF
ClusterName=mtkd
SlurmctldHost=${host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=${folder}/munge/socket
CommunicationParameters=NoCtldInAddrAny
StateSaveLocation=${folder}/state
SlurmdSpoolDir=${folder}/spool/%n
SlurmctldPidFile=${folder}/run/slurmctld.pid
SlurmdPidFile=${folder}/run/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MinJobAge=36000
NodeName=mtkd[1-2] NodeHostname=${host} NodeAddr=127.0.0.1 Port=[17001-17002] CPUs=${cores}
PartitionName=all Nodes=mtkd[1-2] Default=YES State=UP
CONF
export SLURM_CONF=${folder}/slurm.conf
slurmctld -D >"${folder}/slurmctld.log" 2>&1 &
pids+=($!)
for node in mtkd1 mtkd2; do
    mkdir -p "${folder}/spool/${node}"
    slurmd -D -N "${node}" >"${folder}/${node}.log" 2>&1 &
    pids+=($!)
done
for _ in $(seq 60); do
    [ "$(sinfo -h -o '%T %D' 2>/dev/null)" = "idle 2" ] && break
    sleep 1
done
sinfo

mkdir -p "${folder}/work" && cd "${folder}/work"
export GLOO_SOCKET_IFNAME=lo # where the processes of a training talk to each other
cmd_backend=slurm HF_HUB_OFFLINE=1 "${root}/run.sh" \
    --local_data_opts "--num_voices 6 --num_utts 1" --num_folds 3 --folds 1 --nj "${cores}" \
    --teacher_args "--max_epoch 2" --student_args "--max_epoch 2" --systems "ft mtkd" "$@"
echo "jobs that Slurm has run, by state and number of nodes:"
scontrol -o show job | grep -oE '(JobState|NumNodes)=[A-Z0-9]*' | paste - - | sort | uniq -c
