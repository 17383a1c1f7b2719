from __future__ import annotations

from pathlib import Path

import pytest

from espnet_mtkd.bin.leave_out import main, speakers_of_part
from espnet_mtkd.data.datadir import DataDir
from espnet_mtkd.errors import UserError

EMOTIONS = ("anger", "neutral")


def make_data(speakers: dict[str, int], side: str) -> DataDir:
    """Speakers by language, each with two utterances of both emotions."""
    data = DataDir()
    for language, count in speakers.items():
        for number in range(count):
            speaker = f"toy{language}_{side}{number:02d}"
            for utt in (f"{speaker}_{emotion}{take}" for emotion in EMOTIONS for take in "ab"):
                data.wav_scp[utt] = f"audio/{utt}.wav"
                data.utt2spk[utt] = speaker
                data.utt2lang[utt] = language
                data.utt2emotion[utt] = utt.split("_")[-1][:-1]
                data.utt2corpus[utt] = f"toy{language}"
                data.utt2dur[utt], data.utt2num_samples[utt] = "1.5000", "24000"
                data.utt2rate[utt], data.utt2audio_hash[utt] = "16000", utt
    return data


def write_folds(folder: Path, speakers: dict[str, int]) -> Path:
    for fold in ("fold_1", "fold_2"):
        for side in ("train", "dev", "test"):
            count = speakers if side == "train" else dict.fromkeys(speakers, 1)
            data = make_data(count, side + fold[-1])
            data.write(folder / fold / side)
            for language in data.languages:
                own = data.select(lambda u, d=data, k=language: d.utt2lang[u] == k)
                own.write(folder / fold / f"{side}_{language}")
    (folder / "emotions").write_text("anger\nneutral\n")
    (folder / "languages").write_text("".join(f"{k}\n" for k in sorted(speakers)))
    return folder


def leave_out(folds: Path, output: Path, *options: str) -> Path:
    main(["--folds_dir", str(folds), "--output_dir", str(output), *options])
    return output


def test_every_speaker_is_left_out_of_one_part(tmp_path):
    folds = write_folds(tmp_path / "folds", {"de": 5, "en": 4})
    train = DataDir.load(folds / "fold_1/train")
    left = []
    for k in (1, 2, 3):
        output = leave_out(folds, tmp_path / str(k), "--part", f"{k}/3") / "fold_1"
        out, rest = DataDir.load(output / "left_out"), DataDir.load(output / "train")
        assert not set(out.speakers) & set(rest.speakers)
        assert sorted(out.utterances + rest.utterances) == train.utterances
        assert out.languages == rest.languages == ["de", "en"]
        for language in ("de", "en"):
            own = DataDir.load(output / f"train_{language}")
            assert own.utterances == [u for u in rest.utterances if rest.utt2lang[u] == language]
        assert DataDir.load(output / "dev") == DataDir.load(folds / "fold_1/dev")
        assert not (output / "test").exists()
        left += out.speakers
    assert sorted(left) == train.speakers


def test_what_a_left_out_speaker_says_without_a_label_is_left_out_too(tmp_path):
    folds = write_folds(tmp_path / "folds", {"de": 4, "en": 4})
    for fold in ("fold_1", "fold_2"):
        train = DataDir.load(folds / fold / "train")
        train.write(folds / fold / "train_all")
        some = train.select(lambda utt: utt.endswith("a"))  # half of them have a label
        some.write(folds / fold / "train")
    out = leave_out(folds, tmp_path / "out", "--part", "1/2") / "fold_1"
    left, every, train = (DataDir.load(out / n) for n in ("left_out", "train_all", "train"))
    assert {utt[-1] for utt in left.utterances} == {"a", "b"}
    assert not set(left.speakers) & {*every.speakers, *train.speakers}
    assert (
        sorted(left.utterances + every.utterances)
        == DataDir.load(folds / "fold_1/train_all").utterances
    )


def test_speakers_of_one_recording_go_together():
    data = make_data({"de": 6}, "train")
    twins = ("toyde_train00", "toyde_train03")
    for emotion in EMOTIONS:
        data.utt2audio_hash[f"{twins[0]}_{emotion}a"] = data.utt2audio_hash[
            f"{twins[1]}_{emotion}b"
        ]
    parts = [speakers_of_part(data, k, 3, 0) for k in (1, 2, 3)]
    assert sum(set(twins) <= part for part in parts) == 1
    assert sum(bool(set(twins) & part) for part in parts) == 1


def test_a_language_of_one_speaker_stays_whole(tmp_path):
    folds = write_folds(tmp_path / "folds", {"de": 4, "en": 1})
    for k in (1, 2):
        output = leave_out(folds, tmp_path / str(k), "--part", f"{k}/2") / "fold_1"
        assert DataDir.load(output / "train_en") == DataDir.load(folds / "fold_1/train_en")
        assert DataDir.load(output / "left_out").languages == ["de"]


def test_too_many_parts(tmp_path):
    folds = write_folds(tmp_path / "folds", {"de": 3, "en": 2})
    with pytest.raises(UserError, match="--part 4/4: no speaker of fold_1/train is left"):
        leave_out(folds, tmp_path / "out", "--part", "4/4")


def test_a_language_is_left_out_of_training_and_development(tmp_path):
    folds = write_folds(tmp_path / "folds", {"de": 3, "en": 2, "it": 2})
    output = leave_out(folds, tmp_path / "out", "--language", "de")
    assert (output / "languages").read_text() == "en\nit\n"
    assert (output / "emotions").read_text() == "anger\nneutral\n"
    for side in ("train", "dev"):
        data, whole = (DataDir.load(f / "fold_2" / side) for f in (output, folds))
        assert data.utterances == [u for u in whole.utterances if whole.utt2lang[u] != "de"]
        assert not (output / "fold_2" / f"{side}_de").exists()
        assert (output / "fold_2" / f"{side}_it").exists()
    assert not (output / "fold_2/left_out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--part", "0/4"), "--part 0/4: must be K/N"),
        (("--part", "5/4"), "--part 5/4: must be K/N"),
        (("--part", "1/1"), "--part 1/1: must be K/N"),
        (("--part", "x"), "--part x: must be K/N"),
        (("--language", "fi"), "--language fi: must be one of several, here de, en"),
    ],
)
def test_mistakes(tmp_path, options, message):
    folds = write_folds(tmp_path / "folds", {"de": 2, "en": 2})
    with pytest.raises(UserError, match=message):
        leave_out(folds, tmp_path / "out", *options)
