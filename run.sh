#!/usr/bin/env bash
# shellcheck disable=SC2034 # options are read by name
# Multilingual speech emotion recognition by multi-teacher distillation: the whole recipe.
# ./run.sh --help lists stages and options.
set -euo pipefail
SECONDS=0
start_command="./${0##*/}"
for word in "$@"; do # as it may be typed again
    [[ ${word} =~ ^[A-Za-z0-9_./:=-]+$ ]] && start_command+=" ${word}" || start_command+=" ${word@Q}"
done
log() { echo "$(date '+%Y-%m-%dT%H:%M:%S') $*"; }

# General
stage=1              # Stage to start from.
stop_stage=12        # Stage to stop after.
skip_data_prep=false # Skip stages 1 to 4.
skip_train=false     # Skip stages 5 to 7.
skip_eval=false      # Skip stages 8 to 11.
skip_packing=false   # Skip stage 12.
ngpu=0               # GPUs of a training, on each of its machines; 0: CPU.
num_nodes=1          # Machines of a training, with cmd_backend=slurm.
nj=                  # Jobs side by side; default: the number of cores.
python=              # Python of an environment with ESPnet; default: .venv, which is made if missing.
datadir=data         # Where stage 1 writes.
dumpdir=dump         # Where stages 2 to 4 write.
expdir=exp           # Where stages 5 to 12 write.

# Data
corpora="mini_ser"   # Corpora, each a script in local/; db.sh says where they lie.
heldout=""           # Corpora that are only tested on.
leave_one_language_out=false # Train once more without each language, and test on it.
local_data_opts=""   # More options for the scripts in local/.
labels=four          # Label set, a file in conf/labels/.
fs=16000             # Sampling rate after stage 2, Hz; the upstreams take 16000.
min_wav_duration=0.1 # Shorter utterances are rejected, seconds.
max_wav_duration=30  # Longer utterances are rejected, seconds.
max_rejects=0        # Number of rejected utterances a corpus may have.
protocol=si          # How to split: si (speaker-independent), official or emobox.
emobox_root=""       # A checkout of EmoBox, for protocol emobox.
keep_together=false  # si: speakers with audio in common go to one side, instead of an error.
num_folds=4          # Number of folds.
folds=all            # Folds to run, e.g. "1 2".
fold_seed=0          # Seed of the split.
labelled_share=1     # Share of the training labels to use; the rest teaches without a label.
unlabelled=""           # Corpora that teach without labels; of --corpora: what has other emotions.
views=0              # Views of each training utterance to add: other speeds, noise, rooms.

# Models
upstream=fbank_no_cmvn  # Any S3PRL upstream.
upstream_path=""        # Its checkpoint: a file, or a folder for hf_*_custom.
upstream_mode=frozen    # frozen, or finetune.
pooling=stats           # mean, or stats (mean and standard deviation).
shards=1                # Jobs that share a corpus in stages 2 and 4, a set in 6 and 8; for a cluster.
feats_bits=32           # Of stored features; 16: half the space, and computed in bfloat16: faster.
systems="ft kd mtkd_uniform mtkd_cosine_batch mtkd" # Students to train, files in conf/systems/.
seeds="0"               # Seeds, e.g. "0 1 2".
teacher_init=scratch    # Teachers start from scratch, or from ft: multilingual.
teacher_ensemble=false  # true: teachers of all seeds teach together; soup: specialists' average does.
crossfit=0              # Parts of the speakers for cross-fitted teachers, e.g. 4; 0: none.
external_teachers=""    # More teachers: NAME,LANGUAGE,PATH of an archive or a training; "all" for any language.
teacher_config=""       # Training of the teachers; default: student_config, conf/train_specialist.yaml after ft.
student_mode=""         # Upstream of the students, if not as the teachers': a mode, or own encoder.
student_config=conf/train_frozen.yaml # Training of the students.
teacher_args=""         # More ESPnet options for the teachers, e.g. "--max_epoch 50".
student_args=""         # More ESPnet options for the students.
benchmark_config=""     # Upstreams to compare in stage 11, e.g. whisper: a file in conf/benchmark/.
benchmark_layers=all    # Their layers: all (weighted), each, or a number for one alone.
benchmark_add=""        # One more upstream for the table, e.g. name=hf_hubert_custom,path=/models/hubert.
pack_system=""          # Student to pack; default: mtkd, or else the last of --systems.
upload_repo=""          # user/name on the Hugging Face hub, for stage 13.

stages() {
    cat <<'EOF'
Stages:
   1  corpora to data directories            7  train the students, for every system
   2  audio to 16 kHz mono, with checks      8  inference
   3  folds and their audit                  9  scores: RESULTS.md, results.json
   4  features of a frozen upstream         10  report: report.html
   5  train the teachers                    11  compare upstreams (--benchmark_config)
   6  logits of the teachers                12  pack a student
                                            13  upload it to a hub (--upload_repo)
EOF
}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
usage() {
    printf 'Usage: %s [--option value ...]\n\n' "./${0##*/}"
    stages
    printf '\nWith --verify nothing is made: the finished experiment in --expdir is checked against\n'
    printf 'its stamps, and what was altered is named.\n'
    printf '\nOptions, with their defaults:\n'
    # The lines above are the list.
    sed -nE '/^# General/,/^stages/{
        s/^# (General|Data|Models)$/ \1:/p
        s/^([a-z_]+)=("[^"]*"|[^ ]*) +# (.*)$/  --\1 \2\t\3/p
    }' "${here}/run.sh" | awk -F'\t' 'NF == 1 { print } NF == 2 { printf "%-44s %s\n", $1, $2 }'
}

# The same lines are the list of the options.
verify=false
options=" $(sed -nE '/^# General/,/^stages/s/^([a-z_]+)=.*/\1/p' "${here}/run.sh" | tr '\n' ' ')"
while [ $# -gt 0 ]; do
    name=${1#--}
    case $1 in
        --help | -h) usage && exit 0 ;;
        --verify)
            verify=true
            shift
            continue
            ;;
        --*) ;;
        *) echo "error: '$1' is not an option; ./run.sh --help lists them" >&2 && exit 1 ;;
    esac
    value=${2-}
    [ $# -ge 2 ] || { echo "error: $1 needs a value" >&2 && exit 1; }
    name=${name//-/_}
    case ${options} in
        *" ${name} "*) ;;
        *) echo "error: unknown option $1; ./run.sh --help lists them" >&2 && exit 1 ;;
    esac
    printf -v "${name}" '%s' "${value}"
    shift 2
done
for name in stage stop_stage; do
    if ! [[ ${!name} =~ ^([1-9]|1[0-3])$ ]]; then
        echo "error: --${name} ${!name}: must be a number from 1 to 13" >&2 && exit 1
    fi
done
if [ "${stage}" -gt "${stop_stage}" ]; then
    echo "error: --stage ${stage} comes after --stop_stage ${stop_stage}: nothing would be run" >&2
    exit 1
fi
for name in skip_data_prep skip_train skip_eval skip_packing; do
    case ${!name} in
        true | false) ;;
        *) echo "error: --${name} ${!name}: must be true or false" >&2 && exit 1 ;;
    esac
done

[ -z "${python}" ] || export MTKD_PYTHON=${python}
"${here}/tools/install.sh"
. "${here}/path.sh"
. "${here}/cmd.sh"
if [ -e db.sh ]; then . ./db.sh; else . "${here}/db.sh"; fi
: "${nj:=$(getconf _NPROCESSORS_ONLN)}"

if ${verify}; then
    python -m espnet_mtkd.bin.verify --expdir "${expdir}"
    exit
fi

# One run at a time: the lock ends with this shell and with what it starts.
mkdir -p "${expdir}"
[ -w "${expdir}" ] || { echo "error: --expdir ${expdir}: may not be written to" >&2 && exit 1; }
exec 9>"${expdir}/.lock"
python -m espnet_mtkd.bin.lock --fd 9 --expdir "${expdir}"

# A signal to this shell ends the step that it waits for as well.
step=
stopped() {
    trap '' HUP INT TERM
    [ -z "${step}" ] || { kill "${step}" && wait "${step}"; } 2>/dev/null || true
    echo "error: stopped by a signal; the same command goes on from here" >&2
    exit "$1"
}
trap 'stopped 129' HUP
trap 'stopped 130' INT
trap 'stopped 143' TERM
run() {
    "$@" &
    step=$!
    wait "${step}"
    step=
}

roots=()
for corpus in ${corpora} ${heldout} ${unlabelled}; do
    variable=${corpus^^}
    [[ ${variable} =~ ^[A-Z_][A-Z0-9_]*$ ]] || continue # no such corpus; the plan says so
    roots+=(--corpus_root "${variable}=${!variable:-}")
done

plan_options=("${roots[@]}" --nj "${nj}" --train_cmd="${train_cmd}" --cuda_cmd="${cuda_cmd}"
    --decode_cmd="${decode_cmd}" --command="${start_command}")
for name in ${options}; do
    case ${name} in
        stage | stop_stage | skip_* | nj | python | benchmark_* | upload_repo) ;; # not the plan's
        # In one word and with a blank, since a value may start with a dash.
        local_data_opts | *_args) plan_options+=("--${name}= ${!name}") ;;
        *) plan_options+=("--${name}" "${!name}") ;;
    esac
done
run_stage() {
    local began=${SECONDS}
    log "stage $1: $2"
    if [ "$1" -eq 11 ]; then
        run python -m espnet_mtkd.bin.benchmark_upstreams --benchmark_config "${benchmark_config}" \
            --layers="${benchmark_layers}" ${benchmark_add:+--add "${benchmark_add}"} \
            "${plan_options[@]}"
    else
        run python -m espnet_mtkd.bin.run_stage "$1" "${plan_options[@]}"
    fi
    log "stage $1 took $((SECONDS - began)) s; its output is in $3"
}
# due N SKIP: whether stage N is in range and not skipped
due() { [ "${stage}" -le "$1" ] && [ "${stop_stage}" -ge "$1" ] && ! "$2"; }

if due 1 "${skip_data_prep}"; then
    run_stage 1 "corpora to data directories" "${datadir}/"
fi
if due 2 "${skip_data_prep}"; then
    run_stage 2 "audio to ${fs} Hz mono, with checks" "${dumpdir}/raw/"
fi
if due 3 "${skip_data_prep}"; then
    run_stage 3 "folds and their audit" "${dumpdir}/folds/"
fi
if due 4 "${skip_data_prep}"; then
    run_stage 4 "features of upstream ${upstream}" "${dumpdir}/feats/"
fi
if due 5 "${skip_train}"; then
    run_stage 5 "train the teachers" "${expdir}/fold_*/seed_*/"
fi
if due 6 "${skip_train}"; then
    run_stage 6 "logits of the teachers" "${expdir}/fold_*/seed_*/logits_*/"
fi
if due 7 "${skip_train}"; then
    run_stage 7 "train the students: ${systems}" "${expdir}/fold_*/seed_*/"
fi
if due 8 "${skip_eval}"; then
    run_stage 8 "inference" "${expdir}/fold_*/seed_*/*/*.tsv"
fi
if due 9 "${skip_eval}"; then
    run_stage 9 "scores" "${expdir}/RESULTS.md and ${expdir}/results.json"
fi
if due 10 "${skip_eval}"; then
    run_stage 10 "report" "${expdir}/report.html"
fi
if due 11 "${skip_eval}" && [ -n "${benchmark_config}" ]; then
    run_stage 11 "compare upstreams" "${expdir}/benchmark/"
fi
if due 12 "${skip_packing}"; then
    run_stage 12 "pack a student" "${expdir}/packed/"
fi
if due 13 false; then
    [ -n "${upload_repo}" ] || { echo "error: stage 13 needs --upload_repo user/name" >&2 && exit 1; }
    # shellcheck disable=SC2206 # the star is a pattern
    archives=("${expdir}"/packed/${pack_system:-*}.zip)
    if [ ${#archives[@]} -ne 1 ] || [ ! -f "${archives[0]}" ]; then
        echo "error: stage 13 needs one archive in ${expdir}/packed/; run stage 12, or name one with" \
            "--pack_system" >&2 && exit 1
    fi
    run python -m espnet_mtkd.bin.upload --archive "${archives[0]}" --repo "${upload_repo}"
fi
if due 9 "${skip_eval}"; then
    printf '\n%s\n' "${expdir}/RESULTS.md:"
    awk '/^\| system/ { found = 1 } found { if (!/^\|/) exit; print }' "${expdir}/RESULTS.md"
fi
log "all done in ${SECONDS} s"
