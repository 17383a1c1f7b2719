"""The table of the corpora."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from espnet_mtkd.bin import list_corpora
from espnet_mtkd.errors import UserError

ROOT = Path(__file__).parents[2]


def test_readme_is_up_to_date():
    list_corpora.main(["--check"])


def test_stale(tmp_path):
    out = tmp_path / "README.md"
    with pytest.raises(UserError, match=r"README\.md: stale; run python -m espnet_mtkd\.bin\.list"):
        list_corpora.main(["--check", "--out", str(out)])
    list_corpora.main(["--out", str(out)])
    list_corpora.main(["--check", "--out", str(out)])
    out.write_text(out.read_text().replace("| 535 |", "| 536 |"))
    with pytest.raises(UserError, match="stale"):
        list_corpora.main(["--check", "--out", str(out)])


def test_rows():
    text = (ROOT / "local" / "README.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| [")]
    assert len(rows) == len(list_corpora.read_entries(ROOT / "local"))
    assert (
        "| [emodb](emodb.py), EmoDB | de | 535 | 10 | 0.41 | 7 | 4 "
        "| free to use; cite the paper | si emobox |"
    ) in rows
    assert any("AESDD | el |" in row and "| 3 (no neutral) |" in row for row in rows)
    assert any("BAVED | ar |" in row and "| refused |" in row for row in rows)
    assert not any("TEMPLATE" in row or "mini_ser" in row for row in rows)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Licence:  ", "License:  ", "mine.py: the docstring has no line 'Licence: ...'"),
        ("100 utterances", "many utterances", "mine.py: Numbers: expected '535 utterances"),
        ("Protocols: si", "Protocols: best", "mine.py: Protocols: unknown 'best'; known: si"),
    ],
)
def test_a_script_without_its_lines(tmp_path, old, new, message):
    text = (ROOT / "local" / "TEMPLATE.py").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "mine.py").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        list_corpora.main(["--local", str(tmp_path)])


def test_a_corpus_that_is_in_no_label_set(tmp_path):
    shutil.copy(ROOT / "local" / "TEMPLATE.py", tmp_path / "mine.py")
    list_corpora.main(["--local", str(tmp_path)])
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| [mine](mine.py), Your corpus in one line | en | 100 | 10 | 0.1 | 4 | 4 |" in text
