# shellcheck shell=bash
# How run.sh starts its jobs: `. ./cmd.sh`, after path.sh.
#
#   local   on this machine, with the project's own job runner (the default; needs nothing else)
#   run     on this machine, with Kaldi's run.pl
#   stdout  the same with the log on the terminal as well (stdout.pl)
#   slurm   sbatch, by slurm.pl; settings in conf/slurm.conf; where there is no slurm.pl: srun, by
#           tools/srun.sh; settings in SRUN_OPTIONS
#   sge     qsub, by queue.pl; settings in conf/queue.conf
#   pbs     qsub of PBS, by pbs.pl; settings in conf/pbs.conf
#   ssh     over ssh, by ssh.pl; the machines in .queue/machines
#
# The others need Kaldi's or ESPnet's scripts: set KALDI_ROOT or ESPNET_ROOT to a checkout (path.sh
# puts their utils on PATH). They share one form: <cmd>.pl [--mem 4G] [--gpu 1]
# JOB=1:<nj> <log> <command>; see https://kaldi-asr.org/doc/queue.html. Options for every job go
# behind the script's name below.

cmd_backend=${cmd_backend:-local}

case ${cmd_backend} in
    local) _script= ;;
    run | stdout | slurm | pbs | ssh) _script=${cmd_backend}.pl ;;
    sge) _script=queue.pl ;;
    *)
        echo "error: cmd_backend=${cmd_backend}: use local, run, stdout, slurm, sge, pbs or ssh" >&2
        return 1
        ;;
esac
if [ "${_script}" = slurm.pl ] && ! command -v slurm.pl >/dev/null &&
    command -v srun >/dev/null; then
    _script=${MAIN_ROOT:?source path.sh first}/tools/srun.sh
fi
if [ -n "${_script}" ] && ! command -v "${_script}" >/dev/null; then
    echo "error: cmd_backend=${cmd_backend} needs ${_script}, which is not on PATH:" \
        "set KALDI_ROOT or ESPNET_ROOT to a checkout that has it, or use cmd_backend=local" >&2
    return 1
fi

export train_cmd="${_script}"  # jobs without a GPU: formatting, features
export cuda_cmd="${_script}"   # training; run.sh adds --gpu <ngpu>, and --num_nodes
export decode_cmd="${_script}" # inference
unset _script
