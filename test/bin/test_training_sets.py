from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from espnet_mtkd.bin.training_sets import VIEW_MARK, get_parser, keep_labels, main
from espnet_mtkd.data.datadir import DataDir, read_map
from espnet_mtkd.data.labels import HIDDEN
from espnet_mtkd.errors import UserError

# Utterances of the training set by language and emotion; some groups are small.
COUNTS = {
    ("de", "anger"): 40,
    ("de", "sadness"): 3,
    ("en", "anger"): 21,
    ("en", "neutral"): 1,
    ("en", "sadness"): 16,
}


def make_data(counts: dict[tuple[str, str], int], side: str) -> DataDir:
    data = DataDir()
    for (language, emotion), count in counts.items():
        for number in range(count):
            speaker = f"toy{language}_{side}{number % 2}"
            utt = f"{speaker}_{emotion}_{number:02d}"
            data.wav_scp[utt] = f"audio/{utt}.wav"
            data.utt2spk[utt] = speaker
            data.utt2lang[utt] = language
            data.utt2emotion[utt] = emotion
            data.utt2corpus[utt] = f"toy{language}"
            data.utt2dur[utt] = "1.5000"
            data.utt2num_samples[utt] = "24000"
            data.utt2rate[utt] = "16000"
            data.utt2source[utt] = f"raw/{utt}.wav"
            data.utt2audio_hash[utt] = utt
            data.utt2fingerprint[utt] = "-"
    return data


@pytest.fixture(scope="module")
def folds(tmp_path_factory) -> Path:
    """Two folds, as make_folds writes them."""
    folder = tmp_path_factory.mktemp("folds") / "toy"
    for fold in ("fold_1", "fold_2"):
        for side in ("train", "dev", "test"):
            counts = COUNTS if side == "train" else dict.fromkeys(COUNTS, 2)
            data = make_data(counts, side + fold[-1])
            data.utt2source, data.utt2fingerprint = {}, {}  # sides of folds have none
            data.write(folder / fold / side)
            for language in data.languages:
                part = data.select(lambda u, d=data, k=language: d.utt2lang[u] == k)
                part.write(folder / fold / f"{side}_{language}")
    (folder / "emotions").write_text("anger\nneutral\nsadness\n")
    (folder / "languages").write_text("de\nen\n")
    (folder / "audit.md").write_text("# Audit\n")
    return folder


def hide(folds: Path, output: Path, share: float, *more: str) -> Path:
    argv = ["--folds_dir", str(folds), "--share", str(share), "--output_dir", str(output)]
    main([*argv, *more])
    return output


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if not p.is_dir()}


def labelled(folder: Path) -> set[str]:
    return {u for u, e in read_map(folder / "train_all/utt2emotion").items() if e != HIDDEN}


@pytest.mark.parametrize(
    ("share", "kept"), [(0.1, [4, 1, 2, 1, 2]), (0.25, [10, 1, 5, 1, 4]), (0.5, [20, 2, 10, 1, 8])]
)
def test_the_same_share_of_each_language_and_emotion(folds, tmp_path, share, kept):
    output = hide(folds, tmp_path / "few", share)
    for fold in ("fold_1", "fold_2"):
        data = DataDir.load(output / fold / "train")
        counts = Counter((data.utt2lang[u], data.utt2emotion[u]) for u in data.utterances)
        assert counts == dict(zip(COUNTS, kept, strict=True))


def test_who_gets_which_utterances(folds, tmp_path):
    output = hide(folds, tmp_path / "few", 0.25)
    for fold in ("fold_1", "fold_2"):
        before = DataDir.load(folds / fold / "train")
        every, few = (DataDir.load(output / fold / name) for name in ("train_all", "train"))
        assert every.utterances == before.utterances
        for utt in every.utterances:
            expected = before.utt2emotion[utt] if utt in few.utt2emotion else HIDDEN
            assert every.utt2emotion[utt] == expected
        assert 0 < len(few) < len(before) and HIDDEN not in few.utt2emotion.values()
        by_language = {k: DataDir.load(output / fold / f"train_{k}") for k in ("de", "en")}
        for language, part in by_language.items():
            assert set(part.utt2lang.values()) == {language}
        assert sorted(u for p in by_language.values() for u in p.utterances) == few.utterances
        # All else that is known of an utterance stays.
        for name in ("wav_scp", "utt2spk", "utt2lang", "utt2corpus", "utt2num_samples"):
            assert getattr(every, name) == getattr(before, name)


def test_development_and_test_sets_stay(folds, tmp_path):
    before, after = files_of(folds), files_of(hide(folds, tmp_path / "few", 0.25))
    untouched = {name for name in before if "/train" not in name and name != "audit.md"}
    added = {"audit.md", "languages_all"}
    assert {name for name in after if "/train" not in name} == untouched | added
    assert all(before[name] == after[name] for name in untouched)
    assert not any(HIDDEN.encode() in after[name] for name in untouched)


def test_the_folds_themselves_stay(folds, tmp_path):
    before = files_of(folds)
    hide(folds, tmp_path / "few", 0.25)
    assert files_of(folds) == before


def test_a_smaller_share_is_a_part_of_a_larger_one(folds, tmp_path):
    shares = (0.1, 0.25, 0.9)
    sets = [labelled(hide(folds, tmp_path / str(s), s) / "fold_1") for s in shares]
    for few, many in zip(sets, sets[1:], strict=False):
        assert few < many


def test_nothing_but_the_seed_decides(folds, tmp_path):
    first = files_of(hide(folds, tmp_path / "a", 0.25))
    assert files_of(hide(folds, tmp_path / "b", 0.25)) == first
    assert files_of(hide(folds, tmp_path / "a", 0.25)) == first  # over what is there
    other = hide(folds, tmp_path / "c", 0.25, "--seed", "1") / "fold_1"
    assert labelled(other) != labelled(tmp_path / "a" / "fold_1")
    assert len(labelled(other)) == len(labelled(tmp_path / "a" / "fold_1"))


def test_the_choice_does_not_depend_on_the_order_of_the_files(folds):
    data = DataDir.load(folds / "fold_1" / "train")
    turned = DataDir.load(folds / "fold_1" / "train")
    turned.utt2emotion = dict(reversed(turned.utt2emotion.items()))
    turned.utt2spk = dict(reversed(turned.utt2spk.items()))
    assert keep_labels(data, 0.3, 0) == keep_labels(turned, 0.3, 0)


@pytest.mark.parametrize("share", [0.0, -0.5, 25.0])
def test_bad_share(folds, tmp_path, share):
    with pytest.raises(UserError, match=f"--share {share}: must be above 0, at most 1"):
        hide(folds, tmp_path / "few", share)
    assert not (tmp_path / "few").exists()


def test_no_folds(tmp_path):
    with pytest.raises(UserError, match="nowhere: has no fold_./train; stage 3 makes them"):
        hide(tmp_path / "nowhere", tmp_path / "few", 0.5)
    assert not (tmp_path / "few").exists()


def test_every_option_is_explained():
    assert all(action.help for action in get_parser()._actions)


# ---- unlabelled corpora and views --------------------------------------------------------------


def unlabelled_corpus(folder: Path, clash: str = "") -> Path:
    data = make_data({("tr", "anger"): 3, ("tr", "boredom"): 2}, "more")
    if clash:
        data.utt2audio_hash[data.utterances[1]] = clash
    data.write(folder)
    return folder


def test_an_unlabelled_corpus_joins_without_its_labels(folds, tmp_path):
    corpus = unlabelled_corpus(tmp_path / "tr")
    output = hide(folds, tmp_path / "out", 1.0, "--unlabelled", str(corpus))
    before, after = (DataDir.load(f / "fold_1/train") for f in (folds, output))
    assert before == after
    every = DataDir.load(output / "fold_1/train_all")
    new = set(every.wav_scp) - set(before.wav_scp)
    assert len(new) == 5 and {every.utt2emotion[utt] for utt in new} == {HIDDEN}
    assert {u: e for u, e in every.utt2emotion.items() if u not in new} == before.utt2emotion
    assert (output / "languages").read_text() == "de\nen\n"
    assert (output / "languages_all").read_text() == "de\nen\ntr\n"
    assert "| fold_2 | 81 | 0 | 5 | 0 |" in (output / "audit.md").read_text()


def test_of_a_corpus_of_the_folds_come_other_emotions_of_training_speakers(folds, tmp_path):
    """Speakers of dev and test stay out, whatever they say."""
    whole = make_data({("de", "boredom"): 4}, "train1")
    for fold, side in (("fold_1", "train"), ("fold_1", "dev"), ("fold_1", "test")):
        own = DataDir.load(folds / fold / f"{side}_de")
        bored = make_data({("de", "boredom"): 2}, f"{side}1")
        for data in (own, bored):
            for name in ("wav_scp", "utt2spk", "utt2lang", "utt2emotion", "utt2corpus"):
                getattr(whole, name).update(getattr(data, name))
            for name in ("utt2dur", "utt2num_samples", "utt2rate", "utt2audio_hash"):
                getattr(whole, name).update(getattr(data, name))
    # Said by a speaker of the training set, but its audio is tested on.
    twin = next(utt for utt in whole.utterances if "train1" in utt and "boredom_03" in utt)
    whole.utt2audio_hash[twin] = DataDir.load(folds / "fold_1/test").utterances[0]
    whole.utt2source, whole.utt2fingerprint = {}, {}
    whole.write(tmp_path / "de")
    output = hide(folds, tmp_path / "out", 1.0, "--unlabelled", str(tmp_path / "de"))
    train, every = (DataDir.load(output / "fold_1" / x) for x in ("train", "train_all"))
    new = set(every.wav_scp) - set(train.wav_scp)
    assert sorted(utt.partition("_")[2] for utt in new) == [
        f"train1{k % 2}_boredom_0{k}" for k in (0, 2, 1)
    ]
    assert {every.utt2emotion[utt] for utt in new} == {HIDDEN}
    # The speakers of this corpus have no part in the other fold.
    other = [DataDir.load(output / "fold_2" / x) for x in ("train", "train_all")]
    assert other[0].wav_scp == other[1].wav_scp


def test_a_corpus_that_adds_nothing_is_refused(folds, tmp_path):
    corpus = tmp_path / "de"
    DataDir.load(folds / "fold_1" / "train_de").write(corpus)
    with pytest.raises(UserError, match="--unlabelled toyde: adds nothing: "):
        hide(folds, tmp_path / "out", 1.0, "--unlabelled", str(corpus))


def test_unlabelled_speech_that_is_tested_on_is_refused(folds, tmp_path):
    tested = DataDir.load(folds / "fold_2/test").utterances[0]
    corpus = unlabelled_corpus(tmp_path / "tr", clash=tested)
    with pytest.raises(UserError, match=f"--unlabelled: toytr_\\S+ is {tested} of fold_2/test"):
        hide(folds, tmp_path / "out", 1.0, "--unlabelled", str(corpus))


def views_of(folds: Path, folder: Path, number: int = 2) -> Path:
    views = DataDir()
    for fold in ("fold_1", "fold_2"):
        data = DataDir.load(folds / fold / "train")
        for utt in data.utterances:
            for k in range(1, number + 1):
                view = f"{utt}{VIEW_MARK}{k}"
                for name in ("utt2spk", "utt2lang", "utt2emotion", "utt2corpus"):
                    getattr(views, name)[view] = getattr(data, name)[utt]
                for name in ("utt2num_samples", "utt2rate", "utt2dur"):
                    getattr(views, name)[view] = getattr(data, name)[utt]
                for name in ("wav_scp", "utt2audio_hash", "utt2source", "utt2fingerprint"):
                    getattr(views, name)[view] = f"{name}_{view}"
    views.write(folder)
    return folder


def test_views_have_the_labels_of_their_utterances_hidden_or_not(folds, tmp_path):
    views = views_of(folds, tmp_path / "views")
    output = hide(folds, tmp_path / "out", 0.25, "--views", str(views))
    plain = hide(folds, tmp_path / "plain", 0.25)
    for name in ("train", "train_all", "train_de", "train_en"):
        before, after = (DataDir.load(f / "fold_1" / name) for f in (plain, output))
        assert len(after) == 3 * len(before)
        for utt in before.utterances:
            for same in (utt, f"{utt}{VIEW_MARK}1", f"{utt}{VIEW_MARK}2"):
                assert after.utt2emotion[same] == before.utt2emotion[utt]
                assert after.utt2spk[same] == before.utt2spk[utt]
    for side in ("dev", "test"):
        assert files_of(output / "fold_1" / side) == files_of(plain / "fold_1" / side)
    assert "| fold_1 | 21 | 60 | 0 | 2 |" in (output / "audit.md").read_text()


def test_an_utterance_without_a_view_is_a_mistake(folds, tmp_path):
    folder = views_of(folds, tmp_path / "views", 1)
    views = DataDir.load(folder)
    lost = views.utterances[0]
    views.select(lambda utt: utt != lost).write(folder)
    with pytest.raises(UserError, match="--views: no view of toyde_train10_anger_00"):
        hide(folds, tmp_path / "out", 1.0, "--views", str(folder))
