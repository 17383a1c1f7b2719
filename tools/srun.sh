#!/usr/bin/env bash
# Run a job through Slurm where no checkout of Kaldi or ESPnet has slurm.pl:
#     srun.sh [--gpu N] [--mem SIZE] [--num_nodes N] LOG COMMAND...
# Waits for the job's end and exits as it does; told to end (SIGTERM), srun cancels the job. Options
# for every job: SRUN_OPTIONS, e.g. "--partition cpu --time 24:00:00".
set -euo pipefail
options=(--ntasks=1)
while [[ ${1-} == --* ]]; do
    case $1 in
        --gpu) [ "$2" = 0 ] || options+=("--gpus-per-node=$2") ;;
        --mem) options+=("--mem=$2") ;;
        --num_nodes) options+=("--nodes=$2" "--ntasks=$2" --ntasks-per-node=1 --kill-on-bad-exit) ;;
        *)
            echo "error: srun.sh: unknown option $1; there are --gpu, --mem and --num_nodes" >&2
            exit 1
            ;;
    esac
    shift 2
done
log=$1
shift
# shellcheck disable=SC2086 # several words
exec srun --quiet --job-name="$(basename "${log}" .job.log)" --output="${log}" \
    "${options[@]}" ${SRUN_OPTIONS:-} "$@" </dev/null
