from __future__ import annotations

from pathlib import Path

import numpy as np
import omniio.kaldi
import pytest

from espnet_mtkd.data.ark import read_ark, write_ark
from espnet_mtkd.errors import UserError

MATRICES = {
    "a_1": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a_2": np.random.default_rng(0).normal(size=(1, 240)).astype(np.float32),
    "b-3.x": np.full((13, 1), -1e-7, dtype=np.float32),
}


def same(read: dict[str, np.ndarray]) -> bool:
    return read.keys() == MATRICES.keys() and all(
        read[k].dtype == np.float32 and np.array_equal(read[k], MATRICES[k]) for k in MATRICES
    )


@pytest.mark.parametrize("folder", ["plain", "with a space", "sub/folder"])
def test_round_trip(tmp_path, folder):
    scp = tmp_path / folder / "feats.scp"
    write_ark(scp, MATRICES.items())
    assert same(read_ark(scp))
    assert sorted(p.name for p in scp.parent.iterdir()) == ["feats.ark", "feats.scp"]


def test_paths_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_ark("store/feats.scp", MATRICES.items())
    lines = Path("store/feats.scp").read_text().splitlines()
    assert all(line.split(" ")[1].startswith(f"{tmp_path}/store/feats.ark:") for line in lines)
    monkeypatch.chdir("/")
    assert same(read_ark(tmp_path / "store/feats.scp"))


def test_some_keys(tmp_path):
    write_ark(tmp_path / "x.scp", MATRICES.items())
    assert list(read_ark(tmp_path / "x.scp", ["a_2"])) == ["a_2"]
    with pytest.raises(UserError, match="x.scp: no utterance c_9"):
        read_ark(tmp_path / "x.scp", ["a_1", "c_9"])


@pytest.mark.parametrize("before", [False, True])
def test_nothing_half_written_when_the_source_fails(tmp_path, before):
    scp = tmp_path / "feats.scp"
    if before:
        write_ark(scp, MATRICES.items())

    def source():
        yield "a_1", 7 * MATRICES["a_1"]
        raise RuntimeError("the upstream is out of memory")

    with pytest.raises(RuntimeError):
        write_ark(scp, source())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["feats.ark", "feats.scp"] * before
    assert not before or same(read_ark(scp))


def test_kaldiio_and_omniio_read_each_other(tmp_path):
    kaldiio = pytest.importorskip("kaldiio", reason="kaldiio is an optional extra")
    write_ark(tmp_path / "ours.scp", MATRICES.items())
    assert same(dict(kaldiio.load_scp(str(tmp_path / "ours.scp"))))
    with kaldiio.WriteHelper(f"ark,scp:{tmp_path}/theirs.ark,{tmp_path}/theirs.scp") as writer:
        for key, matrix in MATRICES.items():
            writer[key] = matrix
    assert same(dict(omniio.kaldi.load_scp(str(tmp_path / "theirs.scp"))))
    assert same(read_ark(tmp_path / "theirs.scp"))
    assert (tmp_path / "ours.ark").read_bytes() == (tmp_path / "theirs.ark").read_bytes()
