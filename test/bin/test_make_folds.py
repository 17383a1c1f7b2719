"""Stages 1 to 3 in one go, on a tree of generated audio."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_mtkd.bin import format_audio
from espnet_mtkd.bin.make_folds import main
from espnet_mtkd.data.corpus import Utterance, prepare
from espnet_mtkd.data.datadir import DataDir
from espnet_mtkd.errors import UserError

LABELS = """\
name: two
emotions: [anger, joy]
corpora:
  toy: {anger: anger, joy: joy, odd: null}
  more: {rage: anger, glad: joy}
"""
EMOTIONS = {"toy": ("anger", "joy", "odd"), "more": ("rage", "glad")}
LANGUAGES = {"toy": "en", "more": "fi"}


def noise(seed: int, rate: int) -> np.ndarray:
    """One second of noise whose colour changes: something that a fingerprint can hold on to."""
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(10):
        spectrum = np.fft.rfft(rng.standard_normal(rate // 10))
        level = rng.normal(0, 15, 12)
        at = np.linspace(0, 11, len(spectrum))
        parts.append(np.fft.irfft(spectrum * 10 ** (np.interp(at, np.arange(12), level) / 20)))
    samples = np.concatenate(parts)
    return 0.5 * samples / np.abs(samples).max()


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> dict[str, list[Utterance]]:
    folder = tmp_path_factory.mktemp("audio")
    corpora: dict[str, list[Utterance]] = {}
    seed = 0
    for corpus, emotions in EMOTIONS.items():
        for speaker in range(4):
            for emotion in emotions:
                seed += 1
                rate = (16000, 22050)[seed % 2]
                path = folder / f"{corpus}_{speaker}_{emotion}.wav"
                soundfile.write(path, noise(seed, rate), rate)
                corpora.setdefault(corpus, []).append(
                    Utterance(
                        f"{corpus}_{speaker}_{emotion}",
                        f"{corpus}_{speaker}",
                        path,
                        emotion,
                        LANGUAGES[corpus],
                    )
                )
    return corpora


def stages_1_and_2(source, folder: Path, seed: int = 0, nj: int = 1) -> list[str]:
    (folder / "set.yaml").write_text(LABELS)
    names = sorted(source)
    random.Random(seed).shuffle(names)
    for name in names:
        utterances = list(source[name])
        random.Random(seed).shuffle(utterances)
        prepare(name, utterances, folder / "data" / name)
        argv = ["--in", str(folder / "data" / name), "--out", str(folder / "raw" / name)]
        format_audio.main([*argv, "--nj", str(nj)])
    return ["--in", *(str(folder / "raw" / name) for name in names)]


def stage_3(folder: Path, inputs: list[str], *options: str) -> Path:
    out = folder / "folds"
    main([*inputs, "--labels", str(folder / "set.yaml"), "--out", str(out), *options])
    return out


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes().replace(bytes(folder), b"")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_neither_order_nor_processes_change_a_byte(tmp_path, source):
    results = []
    for run, nj in enumerate((1, 2)):
        folder = tmp_path / f"run{run}"
        folder.mkdir()
        stage_3(folder, stages_1_and_2(source, folder, seed=run, nj=nj), "--num_folds", "4")
        results.append(content(folder))
    assert results[0].keys() == results[1].keys()
    assert results[0] == results[1]
    # The same again in the same place.
    folder = tmp_path / "run1"
    stage_3(folder, stages_1_and_2(source, folder, seed=7), "--num_folds", "4")
    assert content(folder) == results[1]


def test_output_and_a_failed_run(tmp_path, source, capsys):
    inputs = stages_1_and_2(source, tmp_path)
    out = stage_3(tmp_path, inputs, "--num_folds", "4")
    assert "4 folds, 16 utterances, 2 emotions, 2 languages -> " in capsys.readouterr().out
    report = json.loads((out / "audit.json").read_text())
    assert report["seed"] == 0
    assert report["corpora"]["toy"]["rates"] == {"16000": 6, "22050": 6}
    assert report["corpora"]["toy"]["left_out"] == {"odd": 4}
    # A failed run must not leave the audit of the one before.
    with pytest.raises(UserError, match="--num_folds 9: no corpus has so many speakers"):
        stage_3(tmp_path, inputs, "--num_folds", "9")
    assert not (out / "audit.json").exists()


def test_a_whole_corpus_held_out(tmp_path, source):
    inputs = stages_1_and_2(source, tmp_path)
    out = stage_3(tmp_path, inputs, "--num_folds", "4", "--heldout", "more")
    assert (out / "languages").read_text() == "en\n"
    held = DataDir.load(out / "heldout")
    assert held.languages == ["fi"]
    assert len(held) == 8
    assert set(held.utt2emotion.values()) == {"anger", "joy"}
    assert not held.utt2fingerprint, "only the audit needs it"
    for number in range(1, 5):
        for side in ("train", "dev", "test"):
            assert DataDir.load(out / f"fold_{number}" / side).corpora == ["toy"]
    report = json.loads((out / "audit.json").read_text())
    assert report["heldout"]["utterances"] == 8
    assert "Held out:" in (out / "audit.md").read_text()


@pytest.mark.parametrize("form", ["copy", "MP3"])
def test_a_recording_under_two_speakers_stops_si(tmp_path, source, form):
    left, right = source["toy"][0], source["toy"][4]
    assert left.speaker != right.speaker
    samples, rate = soundfile.read(left.wav)
    if form == "MP3":
        path = tmp_path / "twin.mp3"
        soundfile.write(path, 0.7 * np.r_[np.zeros(999), samples], rate, format="MP3")
    else:
        path = tmp_path / "twin.wav"
        path.write_bytes(left.wav.read_bytes())
    toy = [utt for utt in source["toy"] if utt is not right]
    toy.append(Utterance(right.utt_id, right.speaker, path, right.emotion, right.language))
    inputs = stages_1_and_2({"toy": toy}, tmp_path)
    with pytest.raises(UserError, match=f"the same audio, as toy_\\S+ and as toy_.*{'--keep'}"):
        stage_3(tmp_path, inputs, "--num_folds", "3")
    out = stage_3(tmp_path, inputs, "--num_folds", "3", "--keep_together")
    report = json.loads((out / "audit.json").read_text())
    (twin,) = report["same_audio"]
    assert twin["utterances"] == [left.utt_id, right.utt_id]
    assert not twin["same_speaker"]
    assert "**two speakers**" in (out / "audit.md").read_text()


def test_protocols_of_other_corpora(tmp_path, source):
    inputs = stages_1_and_2(source, tmp_path)
    with pytest.raises(UserError, match="--protocol official: more has no official folds; these"):
        stage_3(tmp_path, inputs, "--protocol", "official")
    with pytest.raises(UserError, match="--protocol emobox needs --emobox_root"):
        stage_3(tmp_path, inputs, "--protocol", "emobox")
    with pytest.raises(UserError, match="--protocol sd: unknown; there are: emobox official si"):
        stage_3(tmp_path, inputs, "--protocol", "sd")
