from __future__ import annotations

from pathlib import Path

import pytest

from espnet_mtkd.data.labels import LabelSet
from espnet_mtkd.errors import UserError

CONF = Path(__file__).parents[2] / "conf" / "labels"


@pytest.fixture
def load(tmp_path):
    def load(text: str) -> LabelSet:
        (tmp_path / "set.yaml").write_text(text, encoding="utf-8")
        return LabelSet.load(tmp_path / "set.yaml")

    return load


def test_four():
    labels = LabelSet.load(CONF / "four.yaml")
    assert labels.emotions == ("anger", "happiness", "neutral", "sadness")
    assert labels.map("emodb", "Freude") == "happiness"
    assert labels.map("emovo", "rabbia") == "anger"
    assert labels.map("ravdess", "calm") is None
    for corpus, labels_of_it in labels.maps.items():
        assert set(labels_of_it.values()) >= set(labels.emotions), corpus
    assert labels.for_corpora(["emodb"]) == labels


def test_full_has_the_union_of_the_chosen_corpora():
    labels = LabelSet.load(CONF / "full.yaml")
    assert labels.for_corpora(["urdu"]).emotions == ("anger", "happiness", "neutral", "sadness")
    emodb = "anger boredom disgust fear happiness neutral sadness"
    assert labels.for_corpora(["emodb"]).emotions == tuple(emodb.split())
    everything = "anger boredom calm disgust fear happiness neutral sadness surprise"
    assert labels.for_corpora(sorted(labels.maps)).emotions == tuple(everything.split())


def test_both_sets_know_the_same_corpora_and_labels():
    four, full = LabelSet.load(CONF / "four.yaml"), LabelSet.load(CONF / "full.yaml")
    assert {c: set(m) for c, m in four.maps.items()} == {c: set(m) for c, m in full.maps.items()}
    for corpus, emotions in four.maps.items():
        for label, emotion in emotions.items():
            assert emotion in (None, full.map(corpus, label))


def test_unknown_corpus_and_label(load):
    labels = load("name: x\nemotions: [joy]\ncorpora: {toy: {glad: joy, odd: null}}\n")
    assert labels.map("toy", "odd") is None
    with pytest.raises(UserError, match=r"set\.yaml: unknown corpus 'other'.*there are: toy"):
        labels.map("other", "glad")
    with pytest.raises(UserError, match="unknown corpus 'other'"):
        labels.for_corpora(["toy", "other"])
    with pytest.raises(
        UserError, match=r"set\.yaml: corpus 'toy' has no entry for its label 'sad'"
    ):
        labels.map("toy", "sad")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nemotions: [joy\n", r"set\.yaml:\d: YAML: "),
        ("- a\n", "expected the keys name, emotions and corpora"),
        ("emotions: [joy]\ncorpora: {toy: {a: joy}}\n", "expected the keys name"),
        ("name: x\nemotion: [joy]\ncorpora: {toy: {a: joy}}\n", "unknown key 'emotion'"),
        ("name: x\nemotions: joy\ncorpora: {toy: {a: joy}}\n", "emotions must be a list of words"),
        ("name: x\nemotions: [joy, joy]\ncorpora: {toy: {a: joy}}\n", "an emotion comes twice"),
        ("name: x\nemotions: [joy]\n", "corpora must map"),
        ("name: x\nemotions: [joy]\ncorpora: {toy: [a]}\n", "toy: expected 'label: emotion' pairs"),
        ("name: x\nemotions: [joy]\ncorpora: {toy: {no: joy}}\n", "label False .*quote it"),
        (
            "name: x\nemotions: [joy]\ncorpora: {toy: {a: yoy}}\n",
            "unknown emotion 'yoy'; known: joy",
        ),
        ("name: x\nemotions: [joy]\ncorpora: {toy: {a: [joy]}}\n", "not an emotion"),
        ("name: x\ncorpora:\n  toy: {a: joy,\n   a: b}\n", r"set\.yaml:4: YAML: 'a' twice"),
    ],
)
def test_wrong_files(load, text, message):
    with pytest.raises(UserError, match=message):
        load(text)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"no\.yaml: cannot be read"):
        LabelSet.load(tmp_path / "no.yaml")
