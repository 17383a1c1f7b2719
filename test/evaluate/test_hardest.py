import base64
import io
import re

import numpy as np
import pytest
import soundfile

from espnet_mtkd.bin import report, score
from espnet_mtkd.data.datadir import write_map
from espnet_mtkd.errors import UserError
from espnet_mtkd.evaluate.hardest import hardest
from espnet_mtkd.evaluate.pooled import Pooled


def _pooled(probabilities):
    """Two classes, label always the first."""
    p = np.array(probabilities)
    return Pooled(
        utt_ids=np.array(["a", "b", "c", "d"]),
        languages=np.array(["en", "fi", "en", "en"]),
        folds=np.array(["1"] * 4),
        ref=np.zeros(4, dtype=int),
        log_probabilities=np.log(np.stack([p, 1 - p], axis=-1))[None],
    )


def test_lowest_mean_probability_of_the_label_first():
    models = {"ft": _pooled([0.9, 0.5, 0.1, 0.3]), "mtkd": _pooled([0.1, 0.5, 0.3, 0.2])}
    # Means: a 0.5, b 0.5, c 0.2, d 0.25.
    assert hardest(models, 2) == [2, 3, 1]
    assert hardest(models, 9) == [2, 3, 0, 1]


@pytest.fixture
def spoken(make_exp, tmp_path):
    """An experiment whose test utterances have recordings."""
    expdir = make_exp(seeds=(0,), systems=("ft", "mtkd"))
    wav = tmp_path / "sound.wav"
    soundfile.write(wav, np.linspace(-0.5, 0.5, 800), 16000, subtype="PCM_16")
    for fold in (1, 2):
        lines = (expdir / f"fold_{fold}/seed_0/ft/test.tsv").read_text().splitlines()[1:]
        utts = sorted(line.split("\t")[0] for line in lines)
        folder = tmp_path / "dump" / "folds" / "tag" / f"fold_{fold}" / "test"
        write_map(folder / "wav.scp", dict.fromkeys(utts, str(wav)))
    score.main(["--expdir", str(expdir), "--num_resamples", "100"])
    return expdir, wav


def test_recordings_are_embedded_on_request_only(spoken):
    expdir, wav = spoken
    report.main(["--expdir", str(expdir)])
    html = (expdir / "report.html").read_text()
    assert html.count('class="card"') == 15  # five of each of three languages
    assert "<audio" not in html and "--embed_audio 5" in html
    report.main(["--expdir", str(expdir), "--embed_audio", "6"])
    html = (expdir / "report.html").read_text()
    assert html.count('class="card"') == html.count("<audio") == 18
    data = re.search(r'src="data:audio/flac;base64,([^"]+)"', html)[1]
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(data)), dtype="int16")
    np.testing.assert_array_equal(samples, soundfile.read(wav, dtype="int16")[0])
    assert rate == 16000


def test_what_cannot_be_embedded_is_named(spoken):
    expdir, wav = spoken
    wav.write_bytes(b"noise")
    with pytest.raises(UserError, match="--embed_audio: .*sound.wav"):
        report.main(["--expdir", str(expdir), "--embed_audio", "1"])
    with pytest.raises(UserError, match="--embed_audio -1: must not be negative"):
        report.main(["--expdir", str(expdir), "--embed_audio", "-1"])
