from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_mtkd.bin import format_audio
from espnet_mtkd.data.datadir import DataDir
from espnet_mtkd.data.shards import Shard, check_whole, read_output, shard
from espnet_mtkd.errors import UserError


@pytest.mark.parametrize("length", [0, 2, 7, 12])
def test_every_item_is_in_one_shard(length):
    items = list(range(length))
    parts = [Shard(k, 3).of(items) for k in (1, 2, 3)]
    assert sorted(x for part in parts for x in part) == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/2/3", "-1/2"])
def test_what_is_no_shard(text):
    with pytest.raises(UserError, match=f"--shard {text}: must be K/N, from 1/N to N/N"):
        shard(text)


def test_shards_must_hold_all_and_nothing_twice():
    folders = [Path("x/a"), Path("x/b")]
    check_whole(["c", "a", "b"], ["a", "b", "c"], folders)
    with pytest.raises(UserError, match="x: the 2 shards hold no c; make them again"):
        check_whole(["a", "b"], ["a", "b", "c"], folders)
    with pytest.raises(UserError, match="not wanted, or twice"):
        check_whole(["a", "b", "b"], ["a", "b"], folders)


@pytest.fixture
def corpus(tmp_path) -> Path:
    """Five utterances: three in form, one to be converted, one that cannot be used."""
    data = DataDir()
    for number, rate in enumerate([16000, 16000, 22050, 16000, 16000]):
        utt, path = f"s-{number}", tmp_path / f"{number}.wav"
        seconds = 0.01 if number == 4 else 0.5
        noise = np.random.default_rng(number).normal(0, 0.1, int(rate * seconds))
        soundfile.write(path, noise, rate, subtype="PCM_16")
        records = dict(wav_scp=str(path), utt2spk="s", utt2lang="en", utt2emotion="anger")
        for name, value in {**records, "utt2corpus": "x"}.items():
            getattr(data, name)[utt] = value
    data.write(tmp_path / "data")
    return tmp_path / "data"


def run(corpus: Path, out: Path, *more: str) -> None:
    format_audio.main(["--in", str(corpus), "--out", str(out), "--max_rejects", "1", *more])


@pytest.mark.parametrize("count", [2, 7])
def test_formatted_in_shards_it_is_the_same(corpus, tmp_path, count):
    run(corpus, tmp_path / "whole")
    shards = [tmp_path / f"shard_{k}" for k in range(1, count + 1)]
    for k, folder in enumerate(shards, 1):
        run(corpus, folder, "--shard", f"{k}/{count}")
        assert not (folder / "wav.scp").exists()  # it is no data directory
    run(corpus, tmp_path / "put", "--shards", *map(str, shards))
    whole, put = (DataDir.load(tmp_path / name) for name in ("whole", "put"))
    assert len(put.utterances) == 4
    converted = [Path(data.wav_scp.pop("s-2")) for data in (whole, put)]
    assert converted[0].read_bytes() == converted[1].read_bytes()
    assert [path.parent for path in converted] == [tmp_path / n / "audio" for n in ("whole", "put")]
    assert put == whole
    rejects = [(tmp_path / name / "rejects.tsv").read_text() for name in ("whole", "put")]
    assert rejects[0] == rejects[1] and "too short" in rejects[0]
    with pytest.raises(UserError, match="the 1 shards hold no s-"):
        run(corpus, tmp_path / "part", "--shards", str(shards[0]))


def test_the_log_counts_what_shards_have_converted(corpus, tmp_path, capsys):
    run(corpus, tmp_path / "a", "--shard", "1/1")
    run(corpus, tmp_path / "put", "--shards", str(tmp_path / "a"))
    assert "(1 converted, 3 in place, 1 rejected)" in capsys.readouterr().out


def test_a_shard_that_was_not_made(tmp_path):
    with pytest.raises(UserError, match="no.tsv: no output of --shard; make it first"):
        read_output(tmp_path / "no.tsv")
