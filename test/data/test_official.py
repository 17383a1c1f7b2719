from __future__ import annotations

import pytest

from espnet_mtkd.data.official import OFFICIAL, count, split
from espnet_mtkd.data.protocol import Corpus, FoldOptions
from espnet_mtkd.errors import UserError

EMOTIONS = ("anger", "happiness", "neutral", "sadness")
SPEAKERS = {
    "iemocap": [f"Ses0{session}{sex}" for session in range(1, 6) for sex in "FM"],
    "fesc": ["TIRE", "TIPE", "JARA", "MIKO", "ANRO", "RIGR", "TUVA", "PEKO", "JAKA"],
    "cafe": [f"{actor:02d}" for actor in range(1, 13)],
}


def corpus(make_data, name: str, speakers: list[str] | None = None) -> Corpus:
    labels = dict.fromkeys(EMOTIONS, 3)
    data = make_data({speaker: labels for speaker in speakers or SPEAKERS[name]}, corpus=name)
    return Corpus(name, data, data)


def sides_of(made: Corpus, fold: dict[str, set[str]]) -> dict[str, list[str]]:
    return {
        side: sorted({made.data.utt2spk[utt].split("_")[1] for utt in utts})
        for side, utts in fold.items()
    }


@pytest.mark.parametrize("name", OFFICIAL)
def test_every_speaker_is_tested_once_and_on_one_side(make_data, name):
    made = corpus(make_data, name)
    folds = split(made, FoldOptions()).folds
    assert len(folds) == count(name, FoldOptions())
    tested = []
    for fold in folds:
        sides = sides_of(made, fold)
        assert sorted(sum(sides.values(), [])) == sorted(SPEAKERS[name])
        assert sum(map(len, fold.values())) == len(made.data)
        tested += sides["test"]
    assert sorted(tested) == sorted(SPEAKERS[name])


def test_iemocap_tests_a_session_and_selects_on_the_next(make_data):
    made = corpus(make_data, "iemocap")
    sides = [sides_of(made, fold) for fold in split(made, FoldOptions()).folds]
    assert [fold["test"] for fold in sides] == [[f"Ses0{k}F", f"Ses0{k}M"] for k in range(1, 6)]
    assert [fold["dev"][0] for fold in sides] == ["Ses02F", "Ses03F", "Ses04F", "Ses05F", "Ses01F"]


def test_fesc_leaves_one_speaker_out(make_data):
    made = corpus(make_data, "fesc")
    sides = [sides_of(made, fold) for fold in split(made, FoldOptions()).folds]
    assert [fold["test"] for fold in sides] == [[speaker] for speaker in SPEAKERS["fesc"]]
    assert [fold["dev"] for fold in sides[:2]] == [["TIPE"], ["JARA"]]


def test_cafe_tests_four_actors(make_data):
    made = corpus(make_data, "cafe")
    sides = [sides_of(made, fold) for fold in split(made, FoldOptions()).folds]
    assert [fold["test"] for fold in sides] == [SPEAKERS["cafe"][k : k + 4] for k in (0, 4, 8)]
    assert {len(fold["dev"]) for fold in sides} == {2}


def test_dev_of_iemocap_has_the_classes_when_it_can(make_data):
    made = corpus(make_data, "iemocap")
    lost = [u for u, e in made.data.utt2emotion.items() if e == "anger" and "Ses02" in u]
    data = made.data.select(lambda utt: utt not in lost)
    folds = split(Corpus("iemocap", data, data), FoldOptions()).folds
    assert "anger" in {data.utt2emotion[utt] for utt in folds[0]["dev"]}


def test_a_corpus_without_official_folds(make_data):
    with pytest.raises(UserError, match="emodb has no official folds; .* cafe fesc iemocap; use "):
        count("emodb", FoldOptions())
    with pytest.raises(UserError, match="toy has no official folds"):
        split(corpus(make_data, "toy", ["1", "2", "3"]), FoldOptions())


def test_a_session_is_missing(make_data):
    with pytest.raises(UserError, match="iemocap has 5 folds.* make 4 .*complete the corpus"):
        split(corpus(make_data, "iemocap", SPEAKERS["iemocap"][:8]), FoldOptions())


def test_foreign_speaker_ids(make_data):
    with pytest.raises(UserError, match="speaker 'iemocap_anna' of iemocap is not like"):
        split(corpus(make_data, "iemocap", ["anna", *SPEAKERS["iemocap"]]), FoldOptions())
