#!/usr/bin/env bash
# The study of this recipe: which teachers, which weighting, how many labels, which student, which
# languages. WHISPER is the folder of Whisper base; db.sh, or the environment, says where the corpora
# lie. Every part is one experiment or more in exp_study/, resumed where they were left; parts may be
# chosen: ./study.sh weightings labels
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
: "${WHISPER:?set WHISPER to the folder of a Hugging Face Whisper base model}"
seeds=${SEEDS:-"0 1 2 3 4"}
one_seed=${ONE_SEED:-0} # where a training takes minutes

# recipe NAME OPTIONS: one experiment
recipe() {
    local name=$1
    shift
    local began=${SECONDS}
    ./run.sh --upstream hf_whisper_custom --upstream_path "${WHISPER}" --pooling mean \
        --expdir "exp_study/${name}" --stop_stage 9 "$@"
    echo "${name}: $((SECONDS - began)) s" | tee -a exp_study/times.txt
}
specialists=(--teacher_init multilingual --teacher_ensemble true)
stem=(--student_mode frozen --student_config conf/train_stem_1m.yaml)

# Weightings, standardisation, lambda and temperature; teachers are ensembles of specialists.
weightings() {
    recipe weightings "${specialists[@]}" --seeds "${seeds}" --systems "ft kd mtkd mtkd_uniform \
        mtkd_cosine mtkd_cosine_batch mtkd_label mtkd_lid mtkd_similarity mtkd_learned mtkd_raw \
        mtkd_lambda25 mtkd_lambda75 mtkd_temperature1 mtkd_temperature4"
}
# Teachers: as in the paper, from scratch; one specialist; their soup; cross-fitted ones.
teachers() {
    recipe scratch --seeds "${seeds}" --systems "ft kd mtkd mtkd_uniform paper_exact"
    recipe soup --teacher_init multilingual --teacher_ensemble soup --seeds "${seeds}" \
        --systems "ft mtkd"
    recipe crossfit --teacher_init multilingual --crossfit 4 --seeds "${seeds}" \
        --systems "ft kd mtkd mtkd_label mtkd_learned"
}
# A part of the labels; the rest of the training set is unlabelled speech. (weightings has them all.)
labels() {
    recipe labels_0.25 "${specialists[@]}" --seeds "${seeds}" --labelled_share 0.25 \
        --systems "ft kd mtkd ft_mixup"
    recipe stem_labels_0.25 "${specialists[@]}" "${stem[@]}" --seeds "${seeds}" \
        --labelled_share 0.25 --systems "ft kd mtkd"
    for share in 0.1 0.5; do
        recipe "labels_${share}" "${specialists[@]}" --seeds "${seeds}" \
            --labelled_share ${share} --systems "ft kd mtkd"
        recipe "stem_labels_${share}" "${specialists[@]}" "${stem[@]}" --seeds "${seeds}" \
            --labelled_share ${share} --systems "ft kd mtkd"
    done
}
# Other emotions of the same speakers as unlabelled speech; a corpus of another language whose labels
# nobody has: not heard, and as unlabelled speech.
unlabelled() {
    local others=("${specialists[@]}" --unlabelled "ravdess emodb emovo" --seeds "${seeds}")
    for share in 1 0.25; do
        recipe "others_${share}" "${others[@]}" --labelled_share ${share} --systems "ft kd mtkd"
        recipe "stem_others_${share}" "${others[@]}" "${stem[@]}" --labelled_share ${share} \
            --systems "ft kd mtkd"
    done
    local three=(--corpora "ravdess emodb emovo" --labelled_share 0.25 --seeds "${seeds}")
    recipe three_0.25 "${specialists[@]}" "${three[@]}" --heldout urdu --systems "ft kd mtkd"
    recipe three_with_urdu_0.25 "${specialists[@]}" "${three[@]}" --unlabelled urdu \
        --systems "ft kd mtkd"
}
# Function matching: mixed utterances, which teachers hear as the student hears them.
matching() {
    for share in 1 0.25; do
        recipe "live_${share}" --teacher_init multilingual --seeds "${seeds}" \
            --labelled_share ${share} --systems "ft ft_mixup kd kd_live mtkd mtkd_live"
    done
}
# Every language once as one that no student or teacher has heard; teachers from scratch as well.
languages() {
    recipe languages "${specialists[@]}" --seeds "${seeds}" --leave_one_language_out true \
        --systems "ft kd mtkd"
    recipe languages_scratch --seeds "${seeds}" --leave_one_language_out true --systems "ft mtkd"
}
# Small students: the stem of the upstream, also with two views of each utterance and the speakers'
# other emotions; its first layer; a part of the stem; and encoders from nothing on filter banks.
students() {
    local others=(--unlabelled "ravdess emodb emovo" --seeds "${one_seed}")
    recipe stem_1m "${specialists[@]}" "${stem[@]}" --seeds "${seeds}" \
        --systems "ft kd mtkd mtkd_uniform"
    recipe stem_views_others "${specialists[@]}" "${stem[@]}" --views 2 "${others[@]}" \
        --systems "ft kd mtkd"
    for share in 1 0.25; do
        recipe "slice_${share}" "${specialists[@]}" --student_mode frozen \
            --student_config conf/train_stem_1m.yaml --student_args "--layers 1" \
            --seeds "${seeds}" --labelled_share ${share} --systems "ft kd mtkd"
    done
    recipe cut_300k --teacher_init multilingual "${others[@]}" --student_mode finetune \
        --student_config conf/train_cut_300k.yaml --systems "ft kd mtkd mtkd_uniform"
    for size in 300k 1m; do
        for share in 1 0.25; do
            recipe "others_${size}_${share}" --teacher_init multilingual "${others[@]}" \
                --student_mode own --student_config "conf/train_conv_${size}.yaml" \
                --labelled_share ${share} --systems "ft kd mtkd kd_features mtkd_features \
                ft_hints kd_hints mtkd_hints ft_frames kd_frames mtkd_frames"
        done
    done
}
# The paper's own setting, as far as two cores allow.
finetuned() {
    recipe finetuned --upstream_mode finetune --student_config conf/train_four_layers.yaml \
        --folds 1 --systems "ft mtkd paper_exact"
}

mkdir -p exp_study
parts=("$@")
all=(weightings teachers labels unlabelled matching languages students finetuned)
[ $# -gt 0 ] || parts=("${all[@]}")
for part in "${parts[@]}"; do
    case ${part} in
        weightings | teachers | labels | unlabelled | matching | languages | students | finetuned) "${part}" ;;
        *) echo "error: no part ${part}; there are ${all[*]}" >&2 && exit 1 ;;
    esac
done
experiments=() # all that have been run, now or before
for results in exp_study/*/results.json; do
    folder=${results%/results.json}
    experiments+=(--experiment "${folder##*/}=${folder}")
done
python=${MTKD_PYTHON:-../../../.venv/bin/python}
PYTHONPATH=../../.. "${python}" -m espnet_mtkd.bin.compare "${experiments[@]}" --output_dir exp_study
