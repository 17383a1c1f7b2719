"""The store of pooled layers: equal to the upstream itself, resumed, shared, never stale."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import espnet_mtkd.tasks.extraction as extraction
from espnet_mtkd.bin import extract_features
from espnet_mtkd.data.ark import read_ark
from espnet_mtkd.data.datadir import read_map, write_map
from espnet_mtkd.errors import UserError
from espnet_mtkd.models.pooling import MeanPooling, StatsPooling
from espnet_mtkd.models.upstream import Upstream
from espnet_mtkd.tasks.extraction import FeatureStore, Recording, batches, read_recordings

pytestmark = pytest.mark.usefixtures("no_network")

KINDS = {
    "wav2vec2_group": "hf_wav2vec2_custom",
    "wav2vec2_layer": "hf_wav2vec2_custom",
    "hubert": "hf_hubert_custom",
    "whisper": "hf_whisper_custom",
    "wavlm": "hf_wavlm_custom",
    "wavlm_layer": "hf_wavlm_custom",
    "wav2vec2_bert": "hf_wav2vec2_bert_custom",
}
SECONDS = {"a": 0.5, "b": 0.11, "c": 0.8, "d": 0.5, "e": 0.31}


@pytest.fixture(scope="module")
def audio(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("audio")
    rng, paths = np.random.default_rng(0), {}
    for utt, seconds in SECONDS.items():
        paths[utt] = str(folder / f"{utt}.wav")
        soundfile.write(paths[utt], 0.1 * rng.normal(size=int(16000 * seconds)), 16000)
    write_map(folder / "wav.scp", paths)
    return folder


@pytest.fixture
def small_shards(monkeypatch) -> None:
    monkeypatch.setattr(extraction, "SHARD_SECONDS", 0.6)


def count_calls(monkeypatch, limit: int | None = None) -> list[int]:
    """Count utterances that the upstream computes; fail like a kill behind ``limit`` batches."""
    sizes: list[int] = []
    original = extraction.pool_batch

    def pool_batch(upstream, pooling, wavs):
        if limit is not None and len(sizes) == limit:
            raise KeyboardInterrupt
        sizes.append(len(wavs))
        return original(upstream, pooling, wavs)

    monkeypatch.setattr(extraction, "pool_batch", pool_batch)
    return sizes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nj", [1, 2])
@torch.no_grad()
def test_equals_the_upstream_utterance_by_utterance(
    audio, checkpoints, tmp_path, kind, nj, small_shards
):
    path = str(checkpoints[kind])
    argv = ["--data_dir", str(audio), "--output_dir", str(tmp_path / "out"), "--nj", str(nj)]
    extract_features.main([*argv, "--upstream", KINDS[kind], "--upstream_path", path])
    feats, upstream = read_ark(tmp_path / "out" / "feats.scp"), Upstream(KINDS[kind], path)
    assert list(feats) == list(SECONDS)
    for utt, wav in read_map(audio / "wav.scp").items():
        samples = torch.from_numpy(soundfile.read(wav, dtype="float32")[0])[None]
        states, lengths = upstream(samples, torch.tensor([samples.shape[1]]))
        expected = [MeanPooling()(h, n)[0].numpy() for h, n in zip(states, lengths, strict=True)]
        np.testing.assert_allclose(feats[utt], expected, rtol=1e-5, atol=2e-6)


@torch.no_grad()
def test_frames_of_the_last_layer(audio, checkpoints, tmp_path):
    path = str(checkpoints["whisper"])
    argv = ["--data_dir", str(audio), "--output_dir", str(tmp_path), "--pooling", "last_frames"]
    extract_features.main([*argv, "--upstream", "hf_whisper_custom", "--upstream_path", path])
    feats, upstream = read_ark(tmp_path / "feats.scp"), Upstream("hf_whisper_custom", path)
    assert json.loads((tmp_path / "info.json").read_text())["frame_shift"] == 320
    for utt, wav in read_map(audio / "wav.scp").items():
        samples = torch.from_numpy(soundfile.read(wav, dtype="float32")[0])[None]
        states, _ = upstream(samples, torch.tensor([samples.shape[1]]))
        np.testing.assert_allclose(feats[utt], states[-1][0], rtol=1e-5, atol=2e-6)


def test_what_was_done_before_a_kill_is_not_done_again(audio, tmp_path, monkeypatch, small_shards):
    recordings = read_recordings(audio)
    upstream, pooling = Upstream("mfcc"), MeanPooling()
    store = FeatureStore(tmp_path / "store")
    count_calls(monkeypatch, limit=2)
    with pytest.raises(KeyboardInterrupt):
        store.add(upstream, pooling, recordings.values())
    monkeypatch.undo()
    monkeypatch.setattr(extraction, "SHARD_SECONDS", 0.6)
    done = len(store.index())
    assert 0 < done < len(SECONDS)
    assert not list(store.folder.glob(".*"))  # nothing half written is left
    sizes = count_calls(monkeypatch)
    assert store.add(upstream, pooling, recordings.values()) == len(SECONDS) - done == sum(sizes)
    assert store.add(upstream, pooling, recordings.values()) == 0
    assert len(store.index()) == len(SECONDS)


def test_an_ark_without_its_index_does_not_count(audio, tmp_path, small_shards):
    store = FeatureStore(tmp_path / "store")
    recordings = read_recordings(audio)
    store.add(Upstream("mfcc"), MeanPooling(), recordings.values())
    lost = next(store.folder.glob("*.scp"))
    utts = len(read_map(lost))
    lost.unlink()
    assert store.add(Upstream("mfcc"), MeanPooling(), recordings.values()) == utts


def test_what_another_process_has_begun_does_not_count(audio, tmp_path, small_shards):
    store = FeatureStore(tmp_path / "store")
    recordings = read_recordings(audio)
    store.add(Upstream("mfcc"), MeanPooling(), recordings.values())
    (store.folder / ".half.123.scp").write_text("")
    (store.folder / ".quarter.124.scp").write_text("x nowhere.ark:3\n")
    assert "x" not in store.index()
    assert store.costs({r.sha for r in recordings.values()})["audio_seconds"] > 2


def test_the_same_audio_under_another_name_is_known(audio, tmp_path, capsys):
    other = tmp_path / "other"
    paths = read_map(audio / "wav.scp")
    write_map(other / "wav.scp", {f"new_{utt}": path for utt, path in paths.items()})
    for folder, new in ((audio, 5), (other, 0)):
        output = tmp_path / "feats" / folder.name
        argv = ["--data_dir", str(folder), "--output_dir", str(output), "--upstream", "mfcc"]
        extract_features.main(argv)
        assert f"5 utterances, {new} of them computed" in capsys.readouterr().out
    feats = read_ark(output / "feats.scp")
    assert list(feats) == [f"new_{utt}" for utt in SECONDS]


def test_another_checkpoint_pooling_or_precision_is_another_store(checkpoints, tmp_path):
    def key(path="wav2vec2_group", pooling="mean", bits=32):
        return extraction.store_key(
            "hf_wav2vec2_custom", extraction.checkpoint_hash(checkpoints[path]), pooling, bits
        )

    keys = {key(), key("wav2vec2_layer"), key(pooling="stats"), key(bits=16)}
    assert len(keys) == 4 and key() in keys


def test_a_checkpoint_is_known_by_its_content(checkpoints, tmp_path):
    import shutil

    copy = shutil.copytree(checkpoints["hubert"], tmp_path / "elsewhere")
    same = extraction.checkpoint_hash(checkpoints["hubert"])
    assert extraction.checkpoint_hash(copy) == same
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "note": 1}))
    assert extraction.checkpoint_hash(copy) != same


def test_two_bytes_a_number(audio, tmp_path):
    sizes, values = {}, {}
    for bits in (32, 16):
        output = tmp_path / str(bits)
        argv = ["--data_dir", str(audio), "--output_dir", str(output), "--upstream", "mfcc"]
        extract_features.main([*argv, "--bits", str(bits), "--pooling", "stats"])
        values[bits] = read_ark(output / "feats.scp")
        sizes[bits] = json.loads((output / "costs.json").read_text())["feature_bytes"]
    assert sizes[16] < 0.65 * sizes[32]
    for utt, exact in values[32].items():
        bound = (exact.max() - exact.min()) / 131070 * 1.01
        assert 0 < np.abs(values[16][utt] - exact).max() <= bound


def test_costs(audio, tmp_path, small_shards):
    store = FeatureStore(tmp_path / "store")
    recordings = read_recordings(audio)
    store.add(Upstream("mfcc"), StatsPooling(), recordings.values())
    everything = store.costs({r.sha for r in recordings.values()})
    assert everything["audio_seconds"] == pytest.approx(sum(SECONDS.values()), abs=1e-3)
    assert everything["cpu_seconds"] > 0 and everything["peak_memory"] > 1e7
    arks = sum(p.stat().st_size for p in store.folder.glob("*.ark"))
    assert everything["feature_bytes"] == pytest.approx(arks)
    assert store.costs(set())["audio_seconds"] == 0


@pytest.mark.parametrize("nj", [1, 2])
def test_a_file_that_cannot_be_read(audio, tmp_path, nj, small_shards):
    paths = read_map(audio / "wav.scp")
    rate = tmp_path / "8k.wav"
    soundfile.write(rate, np.zeros(8000), 8000)
    write_map(tmp_path / "wav.scp", {**paths, "x": str(rate)})
    argv = ["--data_dir", str(tmp_path), "--output_dir", str(tmp_path / "o"), "--nj", str(nj)]
    with pytest.raises(UserError, match=f"{rate}: must be mono at 16000 Hz; stage 2 makes it so"):
        extract_features.main(argv)
    assert not (tmp_path / "o").exists()


def test_a_missing_file_is_named(tmp_path):
    write_map(tmp_path / "wav.scp", {"x": str(tmp_path / "gone.wav")})
    with pytest.raises(UserError, match=r"wav.scp: x: .*gone.wav"):
        read_recordings(tmp_path)


def test_hashes_and_lengths_of_stage_2_are_used(tmp_path):
    write_map(tmp_path / "wav.scp", {"x": "not_there.wav"})
    write_map(tmp_path / "utt2audio_hash", {"x": "f00"})
    write_map(tmp_path / "utt2num_samples", {"x": "123"})
    assert read_recordings(tmp_path) == {"x": Recording("f00", "not_there.wav", 123)}


@pytest.mark.parametrize("padding", [True, False])
def test_batches(padding):
    lengths = [16000, 16000, 15000, 8000, 8000, 8000, 400, 100000]
    items = [Recording(str(i), "", n) for i, n in enumerate(lengths)]
    cut = list(batches(items, 2.0, padding))
    assert [r for batch in cut for r in batch] == items
    for batch in cut:
        assert len(batch) == 1 or len(batch) * max(r.samples for r in batch) <= 32000
        assert padding or len({r.samples for r in batch}) == 1
    assert len(cut) == (4 if padding else 5)


@pytest.mark.parametrize(
    ("option", "message"), [("--nj", "--nj 0: must be at least 1"), ("--bits", None)]
)
def test_wrong_options(audio, tmp_path, option, message):
    argv = ["--data_dir", str(audio), "--output_dir", str(tmp_path), option, "0"]
    if message is None:
        with pytest.raises(SystemExit):
            extract_features.main(argv)
        with pytest.raises(UserError, match="--bits 8: must be 32 or 16"):
            FeatureStore(tmp_path, 8)
    else:
        with pytest.raises(UserError, match=message):
            extract_features.main(argv)
