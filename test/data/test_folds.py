from __future__ import annotations

import json
import random
from collections import Counter

import pytest

from espnet_mtkd.data import si
from espnet_mtkd.data.audit import audit, to_markdown
from espnet_mtkd.data.datadir import DataDir, combine
from espnet_mtkd.data.folds import (
    PROTOCOLS,
    check_sides,
    deal,
    make_folds,
    map_labels,
    num_folds,
    shared_audio,
    write_folds,
)
from espnet_mtkd.data.labels import LabelSet
from espnet_mtkd.data.protocol import Corpus, FoldOptions, Protocol, Split
from espnet_mtkd.errors import UserError

EMOTIONS = ("anger", "joy", "calm")


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "set.yaml"
    path.write_text(
        "name: three\nemotions: [anger, joy, calm]\ncorpora:\n"
        "  toy: {anger: anger, joy: joy, calm: calm, odd: null}\n"
        "  more: {rage: anger, glad: joy, still: calm}\n"
        "  lone: {rage: anger}\n"
    )
    return LabelSet.load(path)


def balanced(make_data, speakers: int, each: int = 4, **options) -> DataDir:
    return make_data(
        {f"{n:02d}": dict.fromkeys(EMOTIONS, each) for n in range(speakers)}, **options
    )


def uneven(make_data, speakers: int, seed: int) -> DataDir:
    """Like URDU: most speakers have one or two classes, and sizes differ by a factor of 40."""
    rng = random.Random(seed)
    return make_data(
        {
            f"{n:03d}": {
                e: rng.choice((2, 4, 10, 40)) for e in rng.sample(EMOTIONS, rng.choice((1, 2)))
            }
            for n in range(speakers)
        }
    )


def shuffled(data: DataDir, seed: int) -> DataDir:
    """The same records in another order."""
    rng = random.Random(seed)

    def shuffle(records: dict[str, str]) -> dict[str, str]:
        items = list(records.items())
        rng.shuffle(items)
        return dict(items)

    return DataDir(**{name: shuffle(records) for name, records in vars(data).items()})


def split_si(data: DataDir, options: FoldOptions, tied=None) -> list[dict[str, set[str]]]:
    return si.split(Corpus("toy", data, data, tied or {}), options).folds


def speakers_of(data: DataDir, utts: set[str]) -> set[str]:
    return {data.utt2spk[utt] for utt in utts}


@pytest.mark.parametrize(
    ("speakers", "k"),
    [(3, 3), (4, 4), (6, 5), (6, 6), (8, 5), (10, 5), (24, 5), (24, 6), (29, 5), (91, 5), (91, 10)],
)
@pytest.mark.parametrize("even", [True, False])
def test_si_invariants(make_data, speakers, k, even):
    data = balanced(make_data, speakers) if even else uneven(make_data, speakers, speakers)
    folds = split_si(data, FoldOptions(k))
    assert len(folds) == k
    tested = Counter()
    for fold in folds:
        sides = {side: speakers_of(data, utts) for side, utts in fold.items()}
        assert all(sides.values())
        assert sides["train"] | sides["dev"] | sides["test"] == set(data.speakers)
        assert sum(map(len, sides.values())) == len(data.speakers)
        assert sum(map(len, fold.values())) == len(data)
        tested.update(sides["test"])
    assert tested == Counter(data.speakers), "every speaker is tested exactly once"
    if even:
        assert {len(speakers_of(data, f["test"])) for f in folds} <= {
            speakers // k,
            -(-speakers // k),
        }


@pytest.mark.parametrize("seed", range(3))
def test_si_does_not_depend_on_order(make_data, seed):
    data = uneven(make_data, 23, 5)
    assert split_si(shuffled(data, seed), FoldOptions(5)) == split_si(data, FoldOptions(5))


def test_si_depends_on_the_seed(make_data):
    data = balanced(make_data, 12)
    assert split_si(data, FoldOptions(4, 0)) == split_si(data, FoldOptions(4, 0))
    assert split_si(data, FoldOptions(4, 0)) != split_si(data, FoldOptions(4, 1))


def test_si_does_not_change_when_other_corpora_join(make_data):
    toy = balanced(make_data, 9)
    alone = split_si(toy, FoldOptions(3))
    joined = combine({"a": toy, "b": balanced(make_data, 9, corpus="more", lang="fi")})
    part = joined.select(lambda utt: joined.utt2corpus[utt] == "toy")
    assert split_si(part, FoldOptions(3)) == alone


@pytest.mark.parametrize("seed", range(5))
def test_si_finds_the_even_partition_where_there_is_one(make_data, seed):
    # Three sizes of speakers; only one of each per group balances the classes.
    sizes = [1, 1, 1, 5, 5, 5, 9, 9, 9]
    random.Random(seed).shuffle(sizes)
    data = make_data({f"{n}": dict.fromkeys(EMOTIONS, size) for n, size in enumerate(sizes)})
    for fold in split_si(data, FoldOptions(3, seed)):
        for side in ("test", "dev", "train"):
            assert Counter(data.utt2emotion[utt] for utt in fold[side]) == dict.fromkeys(
                EMOTIONS, 15
            )


def test_si_balances_gender(make_data):
    data = balanced(make_data, 10)  # odd and even speakers alternate
    for fold in split_si(data, FoldOptions(5)):
        assert {data.spk2gender[s] for s in speakers_of(data, fold["test"])} == {"m", "f"}


def test_si_spreads_a_rare_class(make_data):
    # Only the four smallest of 16 speakers have calm: each fold must get one of them.
    data = make_data(
        {f"{n:02d}": {"anger": 20, "joy": 20} for n in range(12)}
        | {f"{n:02d}": {"calm": 1} for n in range(12, 16)}
    )
    for fold in split_si(data, FoldOptions(4)):
        for utts in fold.values():
            assert {data.utt2emotion[utt] for utt in utts} == set(EMOTIONS)


def test_si_dev_avoids_a_group_without_a_class(make_data):
    # Two of three speakers of joy can be tested or in dev; the fold that tests a speaker without
    # joy must not also select on one that has none.
    data = make_data(
        {f"{n}": {"anger": 5, "calm": 5} | ({"joy": 5} if n < 3 else {}) for n in range(4)}
    )
    for fold in split_si(data, FoldOptions(4)):
        assert "joy" in {data.utt2emotion[utt] for utt in fold["dev"]}
        assert "joy" in {data.utt2emotion[utt] for utt in fold["train"]}


def test_si_every_fold_has_every_language_of_a_corpus(make_data):
    data = combine({lang: balanced(make_data, 8, corpus=f"toy_{lang}", lang=lang) for lang in "ab"})
    data.utt2lang = {utt: {"a": "en", "b": "fi"}[lang] for utt, lang in data.utt2lang.items()}
    data.utt2corpus = dict.fromkeys(data.utt2corpus, "toy")
    for fold in split_si(data, FoldOptions(5)):
        for utts in fold.values():
            assert {data.utt2lang[utt] for utt in utts} == {"en", "fi"}


def test_si_keeps_a_speaker_of_two_languages_together(make_data):
    data = balanced(make_data, 6)
    data.utt2lang = {
        utt: "fi" if index % 2 else "en" for index, utt in enumerate(sorted(data.utt2lang))
    }
    for fold in split_si(data, FoldOptions(3)):
        assert not speakers_of(data, fold["train"]) & speakers_of(data, fold["test"])


def test_si_large_corpora(make_data):
    data = uneven(make_data, 300, 1)
    totals = Counter(data.utt2emotion.values())
    for fold in split_si(data, FoldOptions(5)):
        counts = Counter(data.utt2emotion[utt] for utt in fold["test"])
        for emotion, total in totals.items():
            assert counts[emotion] == pytest.approx(total / 5, rel=0.05)


def test_si_too_few_speakers_or_folds(make_data):
    with pytest.raises(UserError, match=r"corpus toy has only 2 speaker\(s\) of en"):
        split_si(balanced(make_data, 2), FoldOptions(5))
    with pytest.raises(UserError, match="--num_folds 2: protocol si needs 3 or more"):
        split_si(balanced(make_data, 4), FoldOptions(2))


def test_si_has_no_more_folds_than_speakers(make_data):
    data = balanced(make_data, 4)
    made = si.split(Corpus("toy", data, data), FoldOptions(6))
    assert len(made.folds) == 4
    assert made.notes == ["4 folds, because there are no more speakers"]


def test_si_keeps_tied_speakers_on_one_side(make_data):
    data = balanced(make_data, 8)
    tied = {"toy_01": "toy_01", "toy_05": "toy_01", "toy_06": "toy_01"}
    for fold in split_si(data, FoldOptions(4), tied):
        for utts in fold.values():
            assert len(speakers_of(data, utts) & set(tied)) in (0, 3)


def test_map_labels(make_data, labels):
    data = make_data({"a": {"joy": 2, "odd": 3}, "b": {"odd": 1}})
    mapped, dropped = map_labels(data, labels)
    assert set(mapped.utt2emotion.values()) == {"joy"}
    assert mapped.speakers == ["toy_a"]
    assert dropped == {"odd": 4}
    with pytest.raises(
        UserError, match="no utterance of toy has one of the emotions anger joy calm"
    ):
        map_labels(make_data({"a": {"odd": 1}}), labels)


def test_leaks_are_errors(make_data):
    one, two = make_data({"a": {"joy": 2}}), make_data({"b": {"joy": 2}})
    check_sides("fold 1", {"train": one, "test": two}, True, [])
    with pytest.raises(UserError, match="fold 1: in train and in test: utterance toy_a_joy_000"):
        check_sides("fold 1", {"train": one, "test": one}, False, [])
    left, right = one.subset(["toy_a_joy_000"]), one.subset(["toy_a_joy_001"])
    check_sides("fold 1", {"train": left, "test": right}, False, [])
    with pytest.raises(UserError, match="fold 1: in train and in test: speaker toy_a"):
        check_sides("fold 1", {"train": left, "test": right}, True, [])
    twins = [("toy_a_joy_000", "toy_b_joy_001", 0.02)]
    check_sides("fold 1", {"train": one, "test": two}, False, twins)
    with pytest.raises(UserError, match="the same audio, as toy_a_joy_000 and as toy_b_joy_001"):
        check_sides("fold 1", {"train": one, "test": two}, True, twins)


def test_audio_is_shared_also_by_way_of_a_third(make_data):
    one, two = make_data({"a": {"joy": 2}}), make_data({"b": {"joy": 2}})
    # The third utterance that ties them is on neither side.
    twins = [("toy_a_joy_001", "toy_c_joy_000", 0.0), ("toy_b_joy_001", "toy_c_joy_000", 0.1)]
    assert shared_audio(one, two, twins) == [("toy_a_joy_001", "toy_b_joy_001")]
    assert shared_audio(one, one, []) == []


def test_deal_tests_everything_once_and_keeps_training_sets(make_data):
    data = balanced(make_data, 6, each=4)
    folds = split_si(data, FoldOptions(3))
    dealt = deal(data, folds, 7)
    assert len(dealt) == 7
    for number, fold in enumerate(dealt):
        source = folds[number % 3]
        assert (fold["train"], fold["dev"]) == (source["train"], source["dev"])
        assert fold["test"] <= source["test"]
        assert {data.utt2emotion[utt] for utt in fold["test"]} == set(EMOTIONS)
    tested = Counter(utt for fold in dealt for utt in fold["test"])
    assert tested == Counter(data.utterances)
    assert deal(data, folds, 3) == folds
    with pytest.raises(UserError, match="fold 1 has only 24 utterances to test, and 25 folds"):
        deal(data, folds, 75)


@pytest.fixture
def toy(tmp_path, make_data):
    """Two corpora on disk, one of them with a label that is left out."""
    speakers = {f"{n:02d}": dict.fromkeys(EMOTIONS, 3) for n in range(6)}
    speakers["00"]["odd"] = 5
    make_data(speakers).write(tmp_path / "raw" / "toy")
    more = {f"{n:02d}": {"rage": 2, "glad": 2, "still": 1} for n in range(4)}
    make_data(more, corpus="more", lang="fi").write(tmp_path / "raw" / "more")
    return [tmp_path / "raw" / "toy", tmp_path / "raw" / "more"]


def test_make_folds_and_what_is_written(tmp_path, toy, labels):
    folds = make_folds(toy, labels, "si", FoldOptions(3))
    write_folds(folds, tmp_path / "out")
    assert (tmp_path / "out" / "emotions").read_text() == "anger\njoy\ncalm\n"
    assert (tmp_path / "out" / "languages").read_text() == "en\nfi\n"
    names = {f"{s}{t}" for s in ("train", "dev", "test") for t in ("", "_en", "_fi")}
    tested = []
    for number in (1, 2, 3):
        folder = tmp_path / "out" / f"fold_{number}"
        assert {path.name for path in folder.iterdir()} == names
        for side in ("train", "dev", "test"):
            whole = DataDir.load(folder / side)
            parts = [DataDir.load(folder / f"{side}_{lang}") for lang in ("en", "fi")]
            assert combine(dict(enumerate(parts))) == whole
            assert [part.languages for part in parts] == [["en"], ["fi"]]
            assert set(whole.utt2emotion.values()) == set(EMOTIONS)
        tested += DataDir.load(folder / "test").utterances
    assert len(tested) == len(set(tested)) == 6 * 9 + 4 * 5
    assert not (tmp_path / "out" / "heldout").exists()


def test_order_of_corpora_does_not_matter(toy, labels):
    forward = make_folds(toy, labels, "si", FoldOptions(3))
    assert make_folds(toy[::-1], labels, "si", FoldOptions(3)).folds == forward.folds


def test_heldout(tmp_path, toy, labels):
    folds = make_folds(toy, labels, "si", FoldOptions(5), heldout=["more"])
    write_folds(folds, tmp_path / "out")
    assert (tmp_path / "out" / "languages").read_text() == "en\n"
    assert DataDir.load(tmp_path / "out" / "heldout").corpora == ["more"]
    assert DataDir.load(tmp_path / "out" / "fold_1" / "train").corpora == ["toy"]
    report = audit(folds)
    assert report["corpora"]["more"]["heldout"] is True
    assert report["heldout"]["emotions"] == {"fi": {"anger": 8, "joy": 8, "calm": 4}}
    assert "- fi: 8 / 8 / 4" in to_markdown(report)


def test_writing_again_removes_old_folds_and_nothing_else(tmp_path, toy, labels):
    out = tmp_path / "out"
    write_folds(make_folds(toy, labels, "si", FoldOptions(4)), out)
    (out / "my_notes").write_text("keep")
    write_folds(make_folds(toy, labels, "si", FoldOptions(3), heldout=["more"]), out)
    write_folds(make_folds(toy, labels, "si", FoldOptions(3)), out)
    assert {path.name for path in out.iterdir()} == {
        "fold_1", "fold_2", "fold_3", "emotions", "languages", "my_notes"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol_name": "sd"}, "--protocol sd: unknown; there are: .*si"),
        ({"heldout": ["many"]}, "--heldout many: not among --in; there are: more toy"),
        ({"heldout": ["more", "toy"]}, "every corpus is held out"),
        (
            {"options": FoldOptions(7)},
            "--num_folds 7: no corpus has so many.*at most --num_folds 6",
        ),
        ({"options": FoldOptions(2)}, "--num_folds 2: protocol si needs 3 or more"),
    ],
)
def test_make_folds_refuses(toy, labels, options, message):
    with pytest.raises(UserError, match=message):
        make_folds(toy, labels, **options)


def test_a_folder_given_twice(toy, labels):
    with pytest.raises(UserError, match="given twice"):
        make_folds([toy[0], toy[0]], labels)


def test_stage_2_must_have_run(tmp_path, make_data, labels):
    data = balanced(make_data, 5)
    data.utt2audio_hash = {}
    data.write(tmp_path / "x")
    with pytest.raises(UserError, match="x: no utt2audio_hash; run .*format_audio"):
        make_folds([tmp_path / "x"], labels)


def test_an_emotion_that_nobody_has(tmp_path, make_data, labels):
    make_data({f"{n}": {"joy": 1, "anger": 1} for n in range(5)}).write(tmp_path / "x")
    with pytest.raises(UserError, match=r"set\.yaml: no utterance of toy has the emotion 'calm'"):
        make_folds([tmp_path / "x"], labels)


def test_unknown_corpus(tmp_path, make_data, labels):
    make_data({"1": {"joy": 1}}, corpus="strange").write(tmp_path / "x")
    with pytest.raises(UserError, match="unknown corpus 'strange'"):
        make_folds([tmp_path / "x"], labels)


def test_the_same_audio_under_two_speakers_is_found(tmp_path, make_data, labels):
    data = balanced(make_data, 3)
    data.utt2audio_hash["toy_01_joy_000"] = data.utt2audio_hash["toy_00_joy_000"]
    data.write(tmp_path / "x")
    with pytest.raises(UserError, match="the same audio, as toy_0._joy_000 and as toy_0._joy_000"):
        make_folds([tmp_path / "x"], labels, "si", FoldOptions(3))


def test_keep_together_is_the_way_out(tmp_path, make_data, labels):
    data = balanced(make_data, 6)
    data.utt2audio_hash["toy_04_joy_000"] = data.utt2audio_hash["toy_01_joy_003"]
    data.write(tmp_path / "x")
    with pytest.raises(UserError, match="the same audio.*--keep_together"):
        make_folds([tmp_path / "x"], labels, "si", FoldOptions(3))
    folds = make_folds([tmp_path / "x"], labels, "si", FoldOptions(3, keep_together=True))
    for fold in folds.folds:
        for side in fold.values():
            assert len({"toy_01", "toy_04"} & set(side.speakers)) in (0, 2)
    page = to_markdown(audit(folds))
    assert "toy: kept on one side because they share audio: toy_01 toy_04" in page
    assert (
        "toy_01_joy_003 = toy_04_joy_000 (equal samples or fingerprints, **two speakers**)" in page
    )


def test_fewer_speakers_than_folds_in_one_corpus(toy, labels):
    folds = make_folds(toy, labels, "si", FoldOptions(6))
    assert len(folds.folds) == 6
    tested = Counter(utt for fold in folds.folds for utt in fold["test"].wav_scp)
    assert len(tested) == 74
    assert set(tested.values()) == {1}
    assert "more: 4 fold(s), the experiment has 6" in to_markdown(audit(folds))


def test_audio_that_heldout_shares_with_training(tmp_path, make_data, labels):
    data, more = balanced(make_data, 4), make_data({"9": {"rage": 2}}, corpus="more", lang="fi")
    more.utt2audio_hash["more_9_rage_001"] = data.utt2audio_hash["toy_02_joy_000"]
    data.write(tmp_path / "x")
    more.write(tmp_path / "y")
    with pytest.raises(UserError, match="in heldout: the same audio"):
        make_folds([tmp_path / "x", tmp_path / "y"], labels, "si", FoldOptions(4), ["more"])


def test_num_folds_is_known_beforehand():
    assert num_folds("si", ["a", "b"], FoldOptions(7)) == 7
    assert num_folds("official", ["iemocap", "fesc", "cafe"], FoldOptions()) == 9
    with pytest.raises(UserError, match="--protocol sd: unknown; there are: emobox official si"):
        num_folds("sd", ["a"], FoldOptions())


def test_a_protocol_that_shares_speakers_is_audited(monkeypatch, toy, labels):
    def thirds(corpus, options):
        utts = corpus.data.utterances
        return Split([{"train": set(utts[::3]), "dev": set(utts[1::3]), "test": set(utts[2::3])}])

    def protocol(**options):
        return Protocol(thirds, lambda corpus, options: 1, **options)

    monkeypatch.setitem(PROTOCOLS, "thirds", protocol(speaker_independent=False))
    report = audit(make_folds(toy, labels, "thirds"))
    assert report["folds"][0]["shared_speakers"]["train test"][:2] == ["more_00", "more_01"]
    assert report["folds"][0]["tested_speakers"]["toy"] == {"test": 6, "in_train": 6}
    page = to_markdown(report)
    assert "- train and test share speakers: 10 in fold 1; the first is more_00" in page
    assert "**toy is speaker-dependent under this protocol**" in page
    assert "6 of 6 in fold 1" in page
    monkeypatch.setitem(PROTOCOLS, "thirds", protocol(speaker_independent=True))
    with pytest.raises(UserError, match="fold 1: in train and in dev: speaker more_00"):
        make_folds(toy, labels, "thirds")


def test_audit_counts(toy, labels):
    folds = make_folds(toy, labels, "si", FoldOptions(3))
    report = audit(folds)
    assert report["corpora"]["toy"] == {
        "languages": ["en"],
        "heldout": False,
        "utterances": 59,
        "used": 54,
        "hours": round(59 * 1.5 / 3600, 4),
        "speakers": 6,
        "left_out": {"odd": 5},
        "rates": {16000: 59},
        "notes": [],
        "confounds": report["corpora"]["toy"]["confounds"],
    }
    for fold in report["folds"]:
        assert fold["test"]["emotions"]["en"] == {"anger": 6, "joy": 6, "calm": 6}
        assert sum(fold[side]["utterances"] for side in ("train", "dev", "test")) == 54 + 20
        assert not any(fold["shared_speakers"].values())
        assert not any(fold["shared_audio"].values())
    assert report["same_audio"] == []
    assert json.loads(json.dumps(report)) == json.loads(json.dumps(audit(folds)))
    page = to_markdown(report)
    assert "| toy | en | folds | 59 | 54 | 0.02 | 6 | 16000 | odd 5 |" in page
    assert "None: no two sides" in page


def test_audit_names_what_is_out_of_balance_and_twins(tmp_path, make_data, labels):
    # Two of three speakers have calm.
    data = make_data(
        {
            "a": dict.fromkeys(EMOTIONS, 6),
            "b": dict.fromkeys(EMOTIONS, 6),
            "c": {"joy": 6, "anger": 6},
        }
    )
    data.utt2audio_hash["toy_a_joy_000"] = data.utt2audio_hash["toy_a_joy_001"]
    data.write(tmp_path / "x")
    report = audit(make_folds([tmp_path / "x"], labels, "si", FoldOptions(3)))
    (entry,) = report["unbalanced"]
    assert (entry["emotion"], entry["utterances"], entry["speakers"]) == ("calm", 12, 2)
    assert entry["mean"]["test"] == 4
    assert {(c["side"], c["count"]) for c in entry["counts"]} <= {
        (s, 0) for s in ("train", "dev", "test")
    }
    assert len(entry["counts"]) == 3, "the speaker without calm is somewhere in every fold"
    page = to_markdown(report)
    assert "- toy_a_joy_000 = toy_a_joy_001 (equal samples" in page
    assert "- en calm: 12 utterances of 2 speakers" in page
