#!/usr/bin/env bash
# IEMOCAP (en), FESC (fi) and CaFE (fr), four emotions, with the settings of the paper
# (https://arxiv.org/abs/2506.08717): wav2vec2-base fine-tuned with a frozen feature encoder, 20 s of
# speech at most, teachers from scratch; here on speaker-independent official folds, with a dev set
# of its own for every fold, which the paper's code lacks. db.sh of the project, or the environment,
# says where the corpora lie; WAV2VEC2 is a folder with Hugging Face's facebook/wav2vec2-base:
#   IEMOCAP=/corpora/IEMOCAP FESC=... CAFE=... WAV2VEC2=/models/wav2vec2-base ./run.sh --ngpu 1
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

exec ../../../run.sh \
    --corpora "iemocap fesc cafe" \
    --labels four \
    --protocol official \
    --max_wav_duration 60 \
    --upstream hf_wav2vec2_custom \
    --upstream_path "${WAV2VEC2:?must name a folder with wav2vec2-base}" \
    --upstream_mode finetune \
    --pooling mean \
    --student_config conf/train_paper.yaml \
    --systems "ft kd mtkd paper_exact" \
    "$@"
