from __future__ import annotations

import pytest

from espnet_mtkd.data.files import atomic_path, write_text


def test_content_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "x.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.suffix == ".txt"
    assert path.read_text() == "half"


def test_a_failure_keeps_the_old_content(tmp_path):
    path = tmp_path / "x"
    write_text(path, "old")
    with pytest.raises(ValueError, match="no"), atomic_path(path) as temporary:
        temporary.write_text("new")
        raise ValueError("no")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def test_text_is_utf8_with_unix_lines(tmp_path):
    write_text(tmp_path / "x", "ä\nb\n")
    assert (tmp_path / "x").read_bytes() == b"\xc3\xa4\nb\n"
