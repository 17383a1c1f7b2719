#!/usr/bin/env bash
# RAVDESS (en), EmoDB (de), EMOVO (it) and URDU (ur), four emotions, speaker-independent folds.
# db.sh of the project, or the environment, says where the corpora lie. All options of the
# project's run.sh may follow and win, e.g. for a better upstream:
#   ./run.sh --upstream hf_whisper_custom --upstream_path /models/whisper-base --pooling mean
# URDU has some recordings under the names of two speakers: --keep_together puts both on one side.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

exec ../../../run.sh \
    --corpora "ravdess emodb emovo urdu" \
    --labels four \
    --num_folds 5 \
    --keep_together true \
    --upstream fbank_no_cmvn \
    --pooling stats \
    "$@"
