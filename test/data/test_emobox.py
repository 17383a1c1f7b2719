from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from espnet_mtkd.bin.make_folds import main
from espnet_mtkd.data.datadir import DataDir
from espnet_mtkd.data.emobox import count, split
from espnet_mtkd.data.protocol import Corpus, FoldOptions
from espnet_mtkd.errors import UserError

CLASSES = {"A": "Angry", "J": "Happy", "N": "Neutral"}
LABELS = {"anger": "A", "joy": "J", "calm": "n"}  # the data have n, the map has N


def key_of(utt: str) -> str:
    """toy_s1_anger_000 -> toy-anger-000: names in a checkout have other marks than our ids."""
    return "toy-" + utt.split("_", 2)[2].replace("_", "-")


def write_fold(root: Path, data: DataDir, number: int, sides: dict[str, list[str]]) -> None:
    folder = root / "data" / "toy" / f"fold_{number}"
    folder.mkdir(parents=True, exist_ok=True)
    for side, utts in sides.items():
        rows = [
            {"key": key_of(utt), "dataset": "toy", "emo": LABELS[data.utt2emotion[utt]]}
            for utt in utts
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"toy_{side}_fold_{number}.jsonl").write_text(text)


@pytest.fixture
def data(make_data) -> DataDir:
    # File names are unique in the corpus, as EmoBox's keys need.
    data = make_data({f"s{n}": {f"{e}-{n}": 5 for e in LABELS} for n in range(6)})
    data.utt2emotion = {utt: label.split("-")[0] for utt, label in data.utt2emotion.items()}
    return data


@pytest.fixture
def root(tmp_path, data) -> Path:
    """Two folds without common speakers; the label map is EMOVO's file name."""
    for number, tested in ((1, "s0"), (2, "s1")):
        test = [utt for utt in data.utterances if f"_{tested}_" in utt]
        train = [utt for utt in data.utterances if utt not in test]
        write_fold(tmp_path, data, number, {"train": train[::-1], "test": test})
    (tmp_path / "data" / "toy" / "label_dict.json").write_text(json.dumps(CLASSES))
    return tmp_path


def run(data: DataDir, root: Path, **options):
    whole = options.pop("whole", data)
    return split(Corpus("toy", data, whole), FoldOptions(emobox_root=root, **options))


def test_speaker_independent_folds_get_a_dev_set_of_speakers(data, root):
    made = run(data, root)
    assert count("toy", FoldOptions(emobox_root=root)) == len(made.folds) == 2
    for fold, tested in zip(made.folds, ("toy_s0", "toy_s1"), strict=True):
        speakers = {side: {data.utt2spk[utt] for utt in utts} for side, utts in fold.items()}
        assert speakers["test"] == {tested}
        assert len(speakers["dev"]) == 1
        assert len(speakers["train"]) == 4
        assert not speakers["dev"] & speakers["train"]
        assert sum(map(len, fold.values())) == len(data)
    assert made.notes == [
        "EmoBox's fold(s) 1 2: 75 utterances to train and 15 to test, 0 of 1 test speakers in the "
        "training set; dev: about a fifth of the training set's speakers"
    ]


def test_speaker_dependent_folds_get_a_dev_set_of_utterances(data, root):
    test = data.utterances[::5]
    train = [utt for utt in data.utterances if utt not in test]
    write_fold(root, data, 1, {"train": train, "test": test})
    made = run(data, root)
    fold = made.folds[0]
    assert fold["test"] == set(test)
    assert fold["dev"] | fold["train"] == set(train)
    for emotion in LABELS:
        of_class = {utt for utt in train if data.utt2emotion[utt] == emotion}
        assert len(fold["dev"] & of_class) == round(len(of_class) / 5)
    assert "6 of 6 test speakers in the training set; dev: about a fifth of the training set's " \
        "utterances of each class" in made.notes[0]  # fmt: skip
    assert run(data, root).folds == made.folds
    assert run(data, root, seed=1).folds != made.folds


def test_a_dev_set_of_emobox_is_taken(data, root):
    dev = [utt for utt in data.utterances if "_s2_" in utt]
    test = [utt for utt in data.utterances if "_s0_" in utt]
    train = [utt for utt in data.utterances if utt not in dev + test]
    write_fold(root, data, 1, {"train": train, "valid": dev, "test": test})
    assert run(data, root).folds[0] == {"train": set(train), "dev": set(dev), "test": set(test)}


def test_only_labels_of_the_set(data, root):
    part = data.select(lambda utt: data.utt2emotion[utt] != "calm")
    for fold in run(part, root, whole=data).folds:
        assert set().union(*fold.values()) == set(part.utterances)


def test_utterances_that_are_not_ours(data, root):
    whole = data.select(lambda utt: not utt.endswith("_003"))
    with pytest.raises(
        UserError, match=r"fold_1: not our toy: 18 utterances are not in the data directory \(the "
    ):  # fmt: skip
        run(whole, root)


def test_utterances_that_are_in_no_side(data, root, make_data):
    more = make_data({"s9": {"anger-9": 4}})
    more.utt2emotion = dict.fromkeys(more.utt2emotion, "anger")
    for name, records in vars(more).items():
        getattr(data, name).update(records)
    with pytest.raises(
        UserError,
        match=r"4 of the 94 utterances .* are in no side \(the first is 'toy_s9_anger-9_000'\)",
    ):
        run(data, root)


def test_names_are_found_by_the_path_of_the_file(data, root):
    # As in CASIA: the key puts the parts in another order, and file names come again and again.
    paths = {}
    for utt in data.utterances:
        _, speaker, label, number = utt.split("_")
        paths[utt] = f"Actor {speaker}/{label}/{number}.wav"
        data.utt2source[utt] = f"/corpora/TOY/{paths[utt].replace('.wav', '.flac')}"
    keys = {key_of(utt): path for utt, path in paths.items()}
    for path in root.glob("data/toy/fold_*/*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            wav = keys[row["key"]]
            row |= {"key": "toy-" + "-".join(wav.split("/")[::-1]), "wav": f"downloads/toy/{wav}"}
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = run(data, root)
    assert [{data.utt2spk[utt] for utt in fold["test"]} for fold in made.folds] == [
        {"toy_s0"},
        {"toy_s1"},
    ]


def test_an_utterance_twice(data, root):
    path = root / "data" / "toy" / "fold_1" / "toy_test_fold_1.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines, lines[0]]))
    with pytest.raises(UserError, match="two of its utterances would be our toy_s0_"):
        run(data, root)


def test_labels_that_disagree(data, root):
    data.utt2emotion["toy_s3_joy-3_002"] = "anger"
    with pytest.raises(
        UserError, match=r"label 'anger' have several .*'Angry': 30, 'Happy': 1}; see toy_s3_joy-3"
    ):
        run(data, root)


def test_what_is_wrong_with_a_checkout(data, root, tmp_path):
    def refuses(message: str, base: Path | None = root) -> None:
        with pytest.raises(UserError, match=message):
            run(data, base)

    refuses("--protocol emobox needs --emobox_root", None)
    refuses("no folder data/ in it", tmp_path / "none")
    path = root / "data" / "toy" / "fold_1" / "toy_test_fold_1.jsonl"
    good = path.read_text()
    path.write_text(good + "{")
    refuses(r"toy_test_fold_1\.jsonl:16: not JSON")
    path.write_text('{"key": "toy-x"}\n')
    refuses(r"jsonl:1: expected an object with 'key' and 'emo'")
    path.write_text('{"key": "toy-x", "emo": "zeal"}\n')
    refuses(r"jsonl:1: label 'zeal' is not in EmoBox's label map")
    path.write_text("")
    refuses("empty")
    path.unlink()
    refuses("no such file; is the EmoBox checkout complete?")
    path.write_text(good)
    (root / "data" / "toy" / "fold_2").rename(root / "data" / "toy" / "fold_3")
    refuses(r"expected fold_1, fold_2, ..., found \[1, 3\]")
    (root / "data" / "toy" / "label_dict.json").unlink()
    refuses("no label_map.json or label_dict.json")
    with pytest.raises(UserError, match="no folds of more; there are: toy"):
        count("more", FoldOptions(emobox_root=root))


def test_command_line_warns_of_shared_speakers(data, root, tmp_path, capsys):
    test = data.utterances[::5]
    train = [utt for utt in data.utterances if utt not in test]
    for number in (1, 2):
        write_fold(root, data, number, {"train": train, "test": test})
    (root / "data" / "toy" / "fold_2").rename(root / "old")
    data.write(tmp_path / "raw")
    (tmp_path / "set.yaml").write_text(
        "name: three\nemotions: [anger, joy, calm]\ncorpora:\n"
        "  toy: {anger: anger, joy: joy, calm: calm}\n"
    )
    argv = ["--in", str(tmp_path / "raw"), "--labels", str(tmp_path / "set.yaml")]
    argv += ["--out", str(tmp_path / "f"), "--protocol", "emobox", "--emobox_root", str(root)]
    main(argv)
    out = capsys.readouterr().out
    assert "1 folds" in out
    assert "warning: toy: protocol emobox is speaker-dependent: up to 6 of 6 tested" in out
    page = (tmp_path / "f" / "audit.md").read_text()
    assert "**toy is speaker-dependent under this protocol**" in page
    with pytest.raises(UserError, match="needs --emobox_root"):
        main(argv[:-2])


CORPORA, EMOBOX = (os.environ.get(name, "") for name in ("MTKD_CORPORA", "MTKD_EMOBOX"))


@pytest.mark.skipif(
    not (CORPORA and EMOBOX),
    reason="MTKD_CORPORA and MTKD_EMOBOX do not name folders with the corpora and EmoBox",
)
@pytest.mark.parametrize(
    ("name", "folder", "folds", "fact"),
    [
        ("emodb", "EmoDB", 5, "428 utterances to train and 107 to test, 10 of 10 test speakers"),
        ("emovo", "EMOVO", 6, "490 utterances to train and 98 to test, 0 of 1 test speakers"),
        ("ravdess", "RAVDESS", 6, "1200 utterances to train and 240 to test, 0 of 4 test speakers"),
        ("urdu", "URDU", 1, "300 utterances to train and 100 to test, 18 of 19 test speakers"),
    ],
)
def test_real_corpora(tmp_path, name, folder, folds, fact):
    import importlib.util

    from espnet_mtkd.data.corpus import prepare

    script = Path(__file__).parents[2] / "local" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    data = prepare(name, module.utterances(Path(CORPORA) / folder), tmp_path)
    made = split(Corpus(name, data, data), FoldOptions(emobox_root=Path(EMOBOX)))
    assert len(made.folds) == folds
    (note,) = made.notes
    assert fact in note
