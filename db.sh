# shellcheck shell=bash disable=SC2034
# Where the corpora lie: `. ./db.sh`. One variable per corpus, the folder of the publisher's
# layout; a value in the environment wins over the one written here:
#     EMODB=/corpora/EmoDB ./run.sh ...
# Each needs its publisher's terms to be accepted; nothing is downloaded for you. The layout that
# is expected, the licence and the citation stand on top of local/<corpus>.py.
# (mini_ser, the embedded corpus, is made on the spot and has no folder.)

# Berlin Database of Emotional Speech, German, 535 utterances: http://emodb.bilderbar.info
EMODB=${EMODB:-}

# EMOVO, Italian, 588 utterances, free for research:
# http://voice.fub.it/activities/corpora/emovo/index.html
EMOVO=${EMOVO:-}

# RAVDESS, English, 1440 utterances of speech, CC BY-NC-SA 4.0:
# https://zenodo.org/records/1188976 (Audio_Speech_Actors_01-24.zip)
RAVDESS=${RAVDESS:-}

# URDU, 400 utterances, research only: https://github.com/siddiquelatif/URDU-Dataset
URDU=${URDU:-}
