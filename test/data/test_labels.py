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
        without = {"neutral"} if corpus == "aesdd" else set()
        assert set(labels_of_it.values()) >= set(labels.emotions) - without, corpus
    assert labels.for_corpora(["emodb"]) == labels


def test_full_has_the_union_of_the_chosen_corpora():
    labels = LabelSet.load(CONF / "full.yaml")
    assert labels.for_corpora(["urdu"]).emotions == ("anger", "happiness", "neutral", "sadness")
    emodb = "anger boredom disgust fear happiness neutral sadness"
    assert labels.for_corpora(["emodb"]).emotions == tuple(emodb.split())
    four_corpora = ["urdu", "ravdess", "emovo", "emodb"]
    everything = "anger boredom calm disgust fear happiness neutral sadness surprise"
    assert labels.for_corpora(four_corpora).emotions == tuple(everything.split())
    assert labels.for_corpora({"emodb": ["Wut"], "urdu": {"Sad"}}).emotions == ("anger", "sadness")


def test_both_sets_know_the_same_corpora_and_labels():
    four, full = LabelSet.load(CONF / "four.yaml"), LabelSet.load(CONF / "full.yaml")
    assert {c: set(m) for c, m in four.maps.items()} == {
        c: set(m) for c, m in full.maps.items() if c not in four.refused
    }
    assert four.refused.keys() <= full.maps.keys()
    # TurEV-DB has no neutral: its calm stands for it among the four.
    assert (four.map("turevdb", "Calm"), full.map("turevdb", "Calm")) == ("neutral", "calm")
    for corpus, emotions in four.maps.items():
        for label, emotion in emotions.items():
            if (corpus, label) != ("turevdb", "Calm"):
                kept = full.map(corpus, label) in four.emotions
                assert emotion == (full.map(corpus, label) if kept else None), (corpus, label)


def test_default_maps_corpora_that_are_not_listed():
    four, full = LabelSet.load(CONF / "four.yaml"), LabelSet.load(CONF / "full.yaml")
    assert four.default.keys() == full.default.keys()
    for name in full.default:
        assert full.map("brand_new", name) == name
        assert four.map("brand_new", name) == (name if name in four.emotions else None)
    assert four.for_corpora(["brand_new"]).emotions == four.emotions
    found = {"brand_new": {"neutral", "disgust"}, "emodb": {"Wut", "neutral"}}
    assert full.for_corpora(found).emotions == ("anger", "disgust", "neutral")
    every_value = {e for c, m in full.maps.items() if c != "baved" for e in m.values()} - {None}
    assert every_value <= full.default.keys()


def test_a_label_that_is_no_canonical_name(load):
    labels = load(
        "name: x\nemotions: [joy]\ndefault: {joy: joy, fear: null}\ncorpora: {toy: {glad: joy}}\n"
    )
    message = (
        r"set\.yaml: corpus 'mine' is not listed .* its label 'glad' is not a canonical name; "
        r"either local/mine\.py yields one of fear joy, or"
    )
    with pytest.raises(UserError, match=message):
        labels.map("mine", "glad")
    with pytest.raises(UserError, match=message):
        labels.for_corpora({"mine": ["joy", "glad"]})
    assert labels.map("toy", "glad") == "joy"
    with pytest.raises(UserError, match="corpus 'toy' has no entry for its label 'joy'"):
        labels.map("toy", "joy")  # listed, so the default is not for it


def test_a_refused_corpus_says_why(load):
    labels = load(
        "name: x\nemotions: [joy]\ndefault: {joy: joy}\n"
        "corpora: {odd: it has levels, toy: {glad: joy}}\n"
    )
    for refuse in (lambda: labels.map("odd", "joy"), lambda: labels.for_corpora(["toy", "odd"])):
        with pytest.raises(UserError, match=r"set\.yaml: corpus 'odd' does not fit: it has levels"):
            refuse()
    assert labels.for_corpora(["toy"]).emotions == ("joy",)


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
        ("name: x\ndefault: {}\ncorpora: {toy: {a: b}}\n", "default: expected 'label: emotion'"),
        ("name: x\ndefault: {no: a}\ncorpora: {toy: {a: b}}\n", "default: label False .*quote it"),
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
