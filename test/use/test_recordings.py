from __future__ import annotations

import io

import pytest

from espnet_mtkd.errors import UserError
from espnet_mtkd.use.recordings import Recording, find_recordings


def names(inputs: list[str]) -> list[str]:
    return [recording.name for recording in find_recordings(inputs)]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("rec/b.wav", "rec/a.FLAC", "rec/deep/c.mp3", "rec/notes.txt", "x[1].wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_folders_are_searched_to_the_bottom(tree):
    assert names(["rec"]) == ["rec/a.FLAC", "rec/b.wav", "rec/deep/c.mp3"]


def test_patterns(tree):
    assert names(["rec/*.wav"]) == ["rec/b.wav"]
    assert names(["rec/**/*.mp3"]) == ["rec/deep/c.mp3"]
    assert names(["x[1].wav"]) == ["x[1].wav"]  # a file, not a pattern


def test_order_is_that_of_the_inputs(tree):
    assert names(["z.wav", "rec/b.wav", "rec/a.FLAC"]) == ["z.wav", "rec/b.wav", "rec/a.FLAC"]


def test_wav_scp(tree):
    (tree / "wav.scp").write_text("u2 rec/b.wav\nu1  a path/x.wav \n")
    assert find_recordings(["wav.scp"]) == [
        Recording("u2", "rec/b.wav"),
        Recording("u1", "a path/x.wav"),
    ]


def test_standard_input(tree, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("rec/b.wav\n\n a b.wav\n"))
    assert names(["-"]) == ["rec/b.wav", "a b.wav"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["empty"], "empty: no audio file in this folder .*flac"),
        (["rec/*.ogg"], r"rec/\*.ogg: no file fits this pattern"),
        (["no.scp"], "no.scp: no such file"),
        (["pipe.scp"], "pipe.scp:2: a pipe, which is not run"),
        (["short.scp"], "short.scp:1: not an id and a path"),
        (["twice.scp"], "twice.scp:2: u comes a second time"),
        (["latin.scp"], "latin.scp: not UTF-8"),
        (["none.scp"], "none.scp: no recording named"),
    ],
)
def test_mistakes(tree, inputs, message):
    (tree / "pipe.scp").write_text("u a.wav\nv touch owned |\n")
    (tree / "short.scp").write_text("u\n")
    (tree / "twice.scp").write_text("u a.wav\nu b.wav\n")
    (tree / "latin.scp").write_bytes(b"u \xe9.wav\n")
    (tree / "none.scp").write_text("")
    with pytest.raises(UserError, match=message):
        find_recordings(inputs)
    assert not (tree / "owned").exists()
