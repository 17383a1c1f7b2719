import numpy as np
import pytest

from espnet_mtkd.errors import UserError
from espnet_mtkd.evaluate.predictions import (
    check_disjoint,
    check_same_utterances,
    read_predictions,
)

EMOTIONS = ["anger", "sadness"]
HEADER = "utt_id\tspk_id\tlang\tcorpus\tref\tlogit_anger\tlogit_sadness"
ROWS = [
    "a_1_x\ta_1\tde\ta\tanger\t1.5\t-2",
    "a_1_y\ta_1\tde\ta\tsadness\t0.25\t0.5",
    "b_1_x\tb_1\ten\tb\tanger\t-1e-3\t3",
]


def _write(path, rows, header=HEADER):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def _read(path):
    return read_predictions(path, EMOTIONS, ["de", "en"])


@pytest.mark.parametrize("name", ["test.tsv", "dev.tsv", "heldout.tsv"])
def test_reads_what_inference_writes(tmp_path, name):
    found = _read(_write(tmp_path / name, ROWS))
    assert found.utt_ids == ["a_1_x", "a_1_y", "b_1_x"]
    assert found.speakers == ["a_1", "a_1", "b_1"]
    assert found.languages == ["de", "de", "en"]
    assert found.corpora == ["a", "a", "b"]
    assert found.ref.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(found.logits, [[1.5, -2], [0.25, 0.5], [-1e-3, 3]])
    assert found.hyp.tolist() == [0, 1, 1]
    assert found.at(1).endswith(f"{name}:3")


def test_missing_file_names_the_stage(tmp_path):
    with pytest.raises(UserError, match=r"test\.tsv: no predictions.*\./run\.sh --stage 8"):
        _read(tmp_path / "test.tsv")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a_1_x\ta_1\tde\ta\tanger\t1\t2", r"test\.tsv:5: duplicate utterance a_1_x.* line 2"),
        ("c\ta_1\tde\ta\tjoy\t1\t2", r"test\.tsv:5: unknown emotion 'joy'.*anger, sadness"),
        ("c\ta_1\tfi\ta\tanger\t1\t2", r"test\.tsv:5: unknown language 'fi'.*de, en"),
        ("c\ta_1\tde\ta\tanger\tnan\t2", r"test\.tsv:5: logit_anger of utterance c is 'nan'"),
        ("c\ta_1\tde\ta\tanger\t1\tinf", r"test\.tsv:5: logit_sadness of utterance c is 'inf'"),
        ("c\ta_1\tde\ta\tanger\t1\tx", r"test\.tsv:5: logit_sadness of utterance c is 'x'"),
        ("c\ta_1\tde\ta\tanger\t1", r"test\.tsv:5: 6 columns instead of 7"),
        ("", r"test\.tsv:5: 1 columns instead of 7"),
    ],
)
def test_bad_row_is_named(tmp_path, row, message):
    with pytest.raises(UserError, match=message):
        _read(_write(tmp_path / "test.tsv", [*ROWS, row]))


@pytest.mark.parametrize(
    "header",
    ["", HEADER.replace("anger", "joy"), "utt_id\tspk_id\tlang\tcorpus\tref\tlogit_sadness\tx"],
)
def test_header_must_be_that_of_the_label_set(tmp_path, header):
    with pytest.raises(UserError, match=r"test\.tsv:1: the header must be .*logit_anger"):
        _read(_write(tmp_path / "test.tsv", ROWS, header))


def test_empty_files(tmp_path):
    (tmp_path / "test.tsv").write_text("")
    with pytest.raises(UserError, match=r"test\.tsv:1: .*an empty file"):
        _read(tmp_path / "test.tsv")
    with pytest.raises(UserError, match=r"holds no utterance"):
        _read(_write(tmp_path / "test.tsv", []))


def test_same_utterances_in_another_order_are_fine(tmp_path):
    first = _read(_write(tmp_path / "a.tsv", ROWS))
    check_same_utterances(first, _read(_write(tmp_path / "b.tsv", ROWS[::-1])))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS[:2], r"b\.tsv: lacks utterance b_1_x of .*a\.tsv:4"),
        ([*ROWS, "z\tb_1\ten\tb\tanger\t1\t2"], r"b\.tsv:5: utterance z is not in .*a\.tsv"),
        (
            [*ROWS[:2], ROWS[2].replace("anger", "sadness")],
            r"b\.tsv:4: speaker, language, corpus or reference of b_1_x is not that of .*a\.tsv:4",
        ),
    ],
)
def test_other_utterances_are_named(tmp_path, rows, message):
    first = _read(_write(tmp_path / "a.tsv", ROWS))
    other = _read(_write(tmp_path / "b.tsv", rows))
    with pytest.raises(UserError, match=message):
        check_same_utterances(first, other)


def test_utterance_tested_in_two_folds(tmp_path):
    first = _read(_write(tmp_path / "a.tsv", ROWS[:2]))
    check_disjoint([first, _read(_write(tmp_path / "b.tsv", ROWS[2:]))])
    with pytest.raises(UserError, match=r"c\.tsv:2: utterance a_1_y is also tested in .*a\.tsv:3"):
        check_disjoint([first, _read(_write(tmp_path / "c.tsv", ROWS[1:]))])
