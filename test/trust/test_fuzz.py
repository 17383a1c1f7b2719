"""Hostile input: whatever a file holds, its reader gives an answer or one clear error.

While a reader runs, an audit hook of Python watches it: no process may be started, nothing may be
unpickled, and nothing outside of the test's folder may be written. ``MTKD_FUZZ=2000`` is the long
form, that many cases a test instead of 40.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from espnet_mtkd import systems
from espnet_mtkd.data.ark import check_index, read_ark, write_ark
from espnet_mtkd.data.audio import Form, format_utterance
from espnet_mtkd.data.datadir import DataDir, read_map
from espnet_mtkd.data.labels import LabelSet
from espnet_mtkd.data.wavheader import wav_defect
from espnet_mtkd.errors import UserError
from espnet_mtkd.use.archive import open_model

CASES = int(os.environ.get("MTKD_FUZZ", "40"))
fuzz = settings(
    max_examples=CASES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    database=None,
    derandomize=CASES == 40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.startfile")
RUNS = ("pickle.find_class", "ctypes.dlopen")
PATHS = ("os.rename", "os.mkdir", "os.symlink", "os.link", "os.remove", "os.truncate", "os.rmdir")
armed: list[Path] = []  # the folder that may be written, while a reader runs
broken: list[str] = []  # rules that were broken, since a reader might catch the error


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if not armed:
        return
    complaint = None
    from_text = event == "exec" and getattr(args[0], "co_filename", "") == "<string>"
    if event in STARTS or event in RUNS or from_text:
        complaint = f"{event} {args[:1]}"
    elif event in PATHS or (event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
        path = args[0]
        if isinstance(path, (str, bytes, os.PathLike)):
            # Relative to a folder that is open, as shutil.rmtree does it.
            opened = args[-1] if event in ("os.remove", "os.rmdir", "os.mkdir") else -1
            base = os.readlink(f"/proc/self/fd/{opened}") if opened >= 0 else ""
            where = Path(os.path.realpath(os.path.join(base, os.fsdecode(path))))
            if armed[0] not in (where, *where.parents) and where != Path(os.devnull):
                complaint = f"{event} {where}"
    if complaint:
        broken.append(complaint)
        raise AssertionError(complaint)


sys.addaudithook(_watch)


@contextmanager
def watched() -> Iterator[Path]:
    """Yield a folder, the only one that may be written; only UserError may come out."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(os.path.realpath(name))
        before = tempfile.tempdir
        tempfile.tempdir = name
        try:
            yield folder
        finally:
            tempfile.tempdir = before
            armed.clear()
            assert not broken, broken.pop()


def reads(reader: Callable[..., Any], *args: Any) -> Any:
    """Run a reader under watch; None: it refused."""
    armed.append(Path(os.path.realpath(tempfile.gettempdir())))
    try:
        return reader(*args)
    except UserError as error:
        assert str(error).strip()
        return None
    finally:
        armed.clear()


COMMAND = "touch {folder}/../mtkd_was_here"
VALUES = [
    "a",
    "spk_1",
    "spk_1-u",
    "en",
    "anger",
    "|",
    f"{COMMAND} |",
    "-",
    "../../etc/passwd",
    "nan",
]
VALUES += ["1e999", "-1", "0", "/dev/zero", "/dev/stdin", "x.ark:0", "x.ark:99999999999999999999"]
VALUES += ["x.ark:-1", "x.ark:0[0:1]", "\u2028", "\ud7ff", "a\0b", "ü", "%s", "$(id)", "`id`"]
words = st.sampled_from(VALUES) | st.text(max_size=12)
lines = st.lists(st.tuples(words, words), max_size=6).map(
    lambda pairs: "".join(f"{a} {b}\n" for a, b in pairs).encode("utf-8", "surrogatepass")
)
texts = lines | st.binary(max_size=200)


def test_the_watch_bites(tmp_path):
    code = "/bin/true |"
    (tmp_path / "feats.scp").write_text(f"a {code}\n")
    from omniio.kaldi import load_mat

    with pytest.raises(AssertionError, match=r"subprocess\.Popen"), watched():
        reads(load_mat, code)
    broken.clear()
    with pytest.raises(AssertionError, match="open /"), watched():
        reads(open, tmp_path / "x", "w")
    broken.clear()


# ---- data directories ------------------------------------------------------------------------


@fuzz
@given(texts)
def test_maps(content):
    with watched() as folder:
        (folder / "utt2spk").write_bytes(content)
        records = reads(read_map, folder / "utt2spk")
        assert records is None or all(k and v for k, v in records.items())


FILES = ("wav.scp", "utt2spk", "spk2utt", "utt2lang", "utt2emotion", "utt2corpus", "utt2dur")
FILES += ("spk2gender", "text", "utt2num_samples", "utt2rate", "utt2source", "utt2audio_hash")
GOOD = {"wav.scp": "s_u x.wav\n", "utt2spk": "s_u s\n", "spk2utt": "s s_u\n"}
GOOD |= {"utt2lang": "s_u en\n", "utt2emotion": "s_u anger\n", "utt2corpus": "s_u toy\n"}


@fuzz
@given(st.dictionaries(st.sampled_from(FILES), texts | words.map(lambda w: f"s_u {w}\n".encode())))
def test_data_directories(files):
    with watched() as folder:
        for name, content in {**{k: v.encode() for k, v in GOOD.items()}, **files}.items():
            (folder / name).write_bytes(content.replace(b"\xed\xa0\x80", b""))
        data = reads(DataDir.load, folder)
        if data is not None:
            assert not any("|" in path or "\0" in path for path in data.wav_scp.values())
            reads(data.write, folder / "again")


# ---- arks ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ark(tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("ark")
    write_ark(folder / "feats.scp", [("a", np.ones((2, 3), np.float32))])
    return (folder / "feats.ark").read_bytes()


def damaged(content: bytes, cut: int, place: int, piece: bytes) -> bytes:
    """Overwrite a piece and cut the end off."""
    place %= len(content)
    content = content[:place] + piece + content[place + len(piece) :]
    return content[: len(content) - cut % len(content)]


damages = st.tuples(
    st.integers(0, 3) | st.integers(0, 10**6), st.integers(0, 10**6), st.binary(max_size=8)
)


@fuzz
@given(damage=damages, entry=words | st.just("feats.ark:2"))
def test_arks(ark, damage, entry):
    with watched() as folder:
        (folder / "feats.ark").write_bytes(damaged(ark, *damage))
        entry = entry.replace("feats.ark", str(folder / "feats.ark"))
        (folder / "feats.scp").write_bytes(f"a {entry}\n".encode("utf-8", "surrogatepass"))
        found = reads(read_ark, folder / "feats.scp")
        assert found is None or all(isinstance(m, np.ndarray) for m in found.values())


@pytest.mark.parametrize("entry", ["touch x |", "| tee x", "-", "cat f.ark |:2"])
def test_an_index_with_a_command_is_refused(tmp_path, entry):
    (tmp_path / "feats.scp").write_text(f"a {entry}\n")
    for reader in (check_index, read_ark):
        with pytest.raises(UserError, match="a: a pipe; give the path of a file"):
            reader(tmp_path / "feats.scp")


# ---- configs ---------------------------------------------------------------------------------

TAGS = ["!!python/object/apply:os.system [id]", "!!python/name:os.system", "!!binary zzzz", "!x y"]
TAGS += [
    "&a [*a]",
    "a: &a [x]\nb: [*a, *a]\n<<: *a",
    "1: 2\n1: 3",
    "\x00",
]
TAGS += [
    "0x" + "f" * 6000,
    "a: 2001-99-99",
    "? [a]\n: b",
    "? {a: b}\n: c",
    "a: 0_0b_",
    "a: 1:99:99",
]
TAGS += ["1" * 5000, "corpora: {toy: {N: anger}}", "<<: 1", "=: 1"]
values = st.recursive(
    words | st.none() | st.booleans() | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
KEYS = ("name", "emotions", "default", "corpora", "teachers", "teaching")
configs = st.one_of(
    st.sampled_from(TAGS).map(str.encode),
    st.binary(max_size=100),
    st.dictionaries(st.sampled_from(KEYS), values).map(
        lambda c: yaml.safe_dump(c, allow_unicode=True).encode("utf-8", "surrogatepass")
    ),
)


@fuzz
@given(configs)
def test_label_sets(content):
    with watched() as folder:
        (folder / "labels.yaml").write_bytes(content)
        reads(LabelSet.load, folder / "labels.yaml")


@fuzz
@given(configs)
def test_configs(content):
    with watched() as folder:
        (folder / "train.yaml").write_bytes(content)
        reads(systems.read_yaml, folder / "train.yaml")


@pytest.mark.parametrize("tag", [*TAGS, "[" * 2000, "{a: " * 2000])  # slow, so not above
@pytest.mark.parametrize("reader", [LabelSet.load, systems.read_yaml])
def test_known_bad_yaml(reader, tag):
    with watched() as folder:
        (folder / "x.yaml").write_text(tag)
        reads(reader, folder / "x.yaml")


# ---- audio -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recordings() -> list[bytes]:
    tone = 0.3 * np.sin(np.arange(3200) / 9)
    kinds = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")]
    kinds += [("AIFF", "PCM_24"), ("AU", "ULAW"), ("MP3", "MPEG_LAYER_III"), ("W64", "PCM_16")]
    found = []
    for form, subtype in kinds:
        file = io.BytesIO()
        soundfile.write(file, tone, 16000, format=form, subtype=subtype)
        found.append(file.getvalue())
    return found


heads = st.tuples(
    st.integers(0, 3) | st.integers(0, 10**6), st.integers(0, 60), st.binary(max_size=8)
)


@fuzz
@given(st.integers(0, 8), damages | heads, damages | heads)
def test_audio(recordings, kind, first, second):
    content = recordings[kind] if kind < len(recordings) else b"RIFF"
    with watched() as folder:
        source = folder / "x.wav"
        source.write_bytes(damaged(damaged(content, *first), *second))
        out = folder / "out"
        audio = reads(format_utterance, "u", str(source), out, Form(16000, 0.1, 30.0))
        assert audio is not None and (audio.reject or audio.num_samples > 0)
        reads(wav_defect, source)
        assert {path.name for path in out.glob("*")} <= {"u.flac"}


@pytest.mark.parametrize("source", ["cat /dev/zero |", "| tee x", "/dev/zero", "-", "", "."])
def test_what_is_no_file_is_no_audio(source):
    with watched() as folder:
        assert reads(format_utterance, "u", source, folder, Form(16000, 0.1, 30.0)).reject


# ---- archives --------------------------------------------------------------------------------

NAMES = ["meta.yaml", "config.yaml", "model.pth", "../x", "/tmp/mtkd_x", "a/../../x", "a\\..\\x"]
NAMES += ["C:x", "config.yaml/x", "upstream/config.json", "."]
META = b"files: {ser_model_file: model.pth}\nyaml_files: {ser_train_config: config.yaml}\n"
CONFIG = b"emotions: [a]\nlanguages: [en]\nfrontend_conf: {upstream: fbank, path_or_url: PLACE}\n"
members = st.dictionaries(
    st.sampled_from(NAMES),
    configs | words.map(lambda w: CONFIG.replace(b"PLACE", repr(w).encode())),
)


@fuzz
@given(members, damages)
def test_archives(files, damage):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in {"meta.yaml": META, "config.yaml": CONFIG, **files}.items():
            archive.writestr(name, data)
    broken_too = damaged(content.getvalue(), *damage) if damage[0] < 3 else content.getvalue()
    with watched() as folder:
        (folder / "x.zip").write_bytes(broken_too)

        def read(path: Path) -> None:
            with open_model(path) as model:
                assert model.config["emotions"]

        reads(read, folder / "x.zip")
        assert [path.name for path in folder.iterdir()] == ["x.zip"]
