# shellcheck shell=bash disable=SC2034
# Where the corpora lie: `. ./db.sh`. One variable per corpus, the folder of the publisher's
# layout; a value in the environment wins over the one written here:
#     EMODB=/corpora/EmoDB ./run.sh ...
# Each needs its publisher's terms to be accepted. The layout that is expected, the licence and the
# citation stand on top of local/<corpus>.py; local/README.md lists all. Nothing is downloaded unless
# you ask for it: where an anonymous download exists, an empty folder here and
#     ./run.sh --stop_stage 1 --corpora cafe --local_data_opts --cafe.download
# fetch and check it. A corpus that is not listed here needs no line: NAME=/folder ./run.sh will do.
# (mini_ser, the embedded corpus, is made on the spot and has no folder.)

# Berlin Database of Emotional Speech, German, free: http://emodb.bilderbar.info
EMODB=${EMODB:-}

# EMOVO, Italian, free for research: http://voice.fub.it/activities/corpora/emovo/index.html
EMOVO=${EMOVO:-}

# RAVDESS, English, speech only (can be downloaded): https://zenodo.org/records/1188976
RAVDESS=${RAVDESS:-}

# URDU, research only: https://github.com/siddiquelatif/URDU-Dataset
URDU=${URDU:-}

# IEMOCAP, English, on request: https://sail.usc.edu/iemocap/
IEMOCAP=${IEMOCAP:-}

# Finnish Emotional Speech Corpus, on request
FESC=${FESC:-}

# CaFE, Canadian French (can be downloaded): https://zenodo.org/records/1478765
CAFE=${CAFE:-}

# CREMA-D, English: https://github.com/CheyneyComputerScience/CREMA-D
CREMAD=${CREMAD:-}

# Toronto Emotional Speech Set, English: https://doi.org/10.5683/SP2/E8H2MF
TESS=${TESS:-}

# SAVEE, English, on registration: http://kahlan.eps.surrey.ac.uk/savee/
SAVEE=${SAVEE:-}

# JL-Corpus, English: https://www.kaggle.com/tli725/jl-corpus
JLCORPUS=${JLCORPUS:-}

# Oréau, French: https://zenodo.org/records/4405783
OREAU=${OREAU:-}

# TurEV-DB, Turkish: https://github.com/Xeonen/TurEV-DB
TUREVDB=${TUREVDB:-}

# ShEMO, Persian: https://github.com/pariajm/sharif-emotional-speech-dataset
SHEMO=${SHEMO:-}

# SUBESCO, Bangla (can be downloaded): https://zenodo.org/records/4526477
SUBESCO=${SUBESCO:-}

# nEMO, Polish: https://github.com/amu-cai/nEMO
NEMO=${NEMO:-}

# CASIA, Mandarin, the part with 50 sentences
CASIA=${CASIA:-}

# Emotional Speech Dataset, Mandarin and English: https://hltsingapore.github.io/ESD/
ESD=${ESD:-}

# AESDD, Greek: http://m3c.web.auth.gr/research/aesdd-speech-emotion-recognition/
AESDD=${AESDD:-}

# MESD, Mexican Spanish: https://data.mendeley.com/datasets/cy34mh68j9/5
MESD=${MESD:-}

# emoUERJ, Brazilian Portuguese (can be downloaded): https://zenodo.org/records/5427549
EMOUERJ=${EMOUERJ:-}

# BAVED, Arabic: https://github.com/40uf411/Basic-Arabic-Vocal-Emotions-Dataset
BAVED=${BAVED:-}
