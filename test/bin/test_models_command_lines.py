"""The command lines around the models: features, training, teachers' logits, inference, stages."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from espnet2.main_funcs.pack_funcs import pack
from sklearn.metrics import balanced_accuracy_score

from espnet_mtkd.bin import (
    extract_features,
    merge_features,
    mtkd_train,
    run_stage,
    ser_inference,
    ser_train,
    teacher_logits,
)
from espnet_mtkd.data.ark import read_ark, write_ark
from espnet_mtkd.data.datadir import read_map, write_map
from espnet_mtkd.data.labels import HIDDEN
from espnet_mtkd.distill.weighting import WEIGHTINGS, read_relevance
from espnet_mtkd.errors import UserError
from espnet_mtkd.models.pooling import MeanPooling, StatsPooling
from espnet_mtkd.models.upstream import Upstream
from espnet_mtkd.tasks.extraction import checkpoint_hash
from espnet_mtkd.tasks.inference import load_model, logits_of
from espnet_mtkd.tasks.ser import SERTask

pytestmark = pytest.mark.usefixtures("no_network")


@pytest.fixture(scope="module")
def models(toy, tmp_path_factory) -> dict[str, Path]:
    """Two trained teachers with different seeds."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("teacher_en", "teacher_fi")):
        ser_train.main(toy.argv(folder / name, "--max_epoch", "1", "--seed", str(seed)))
    return {name: folder / name for name in ("teacher_en", "teacher_fi")}


def logits_by_python(toy, folder: Path, side: str) -> dict[str, np.ndarray]:
    model, args = load_model(folder)
    speech = (str(toy.folder / "feats.scp"), "kaldi_ark")
    return dict(logits_of(model, args, speech, toy.folder / side / "utt2emotion"))


# ---- extract_features --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def audio(tmp_path_factory) -> Path:
    """A data directory with three utterances of noise."""
    folder = tmp_path_factory.mktemp("audio")
    rng, paths = np.random.default_rng(0), {}
    for utt, seconds in (("a", 0.5), ("b", 0.11), ("c", 0.8)):
        path = folder / f"{utt}.wav"
        soundfile.write(path, 0.1 * rng.normal(size=int(16000 * seconds)), 16000)
        paths[utt] = str(path)
    write_map(folder / "wav.scp", paths)
    return folder


@pytest.mark.parametrize("pooling", [MeanPooling(), StatsPooling()])
@pytest.mark.parametrize("kind", ["fbank_no_cmvn", "hf_wav2vec2_custom"])
@torch.no_grad()
def test_features_are_the_pooled_layers(audio, checkpoints, tmp_path, pooling, kind):
    path = None if kind == "fbank_no_cmvn" else str(checkpoints["wav2vec2_group"])
    name = "stats" if isinstance(pooling, StatsPooling) else "mean"
    argv = ["--data_dir", str(audio), "--output_dir", str(tmp_path), "--upstream", kind]
    argv += ["--pooling", name, *(["--upstream_path", path] if path else [])]
    extract_features.main(argv)
    feats, upstream = read_ark(tmp_path / "feats.scp"), Upstream(kind, path)
    assert list(feats) == ["a", "b", "c"]
    for utt, wav in read_map(audio / "wav.scp").items():
        samples = torch.from_numpy(soundfile.read(wav, dtype="float32")[0])[None]
        states, lengths = upstream(samples, torch.tensor([samples.shape[1]]))
        expected = [pooling(h, n)[0].numpy() for h, n in zip(states, lengths, strict=True)]
        np.testing.assert_allclose(feats[utt], expected, atol=1e-6)
    info = json.loads((tmp_path / "info.json").read_text())
    assert info["pooling"] == name
    conf = info["frontend_conf"]
    assert (conf["upstream"], conf["path_or_url"], conf["mode"]) == (kind, path, "frozen")
    assert Upstream(**conf)._facts == upstream._facts
    assert Upstream(**conf).checkpoint == checkpoint_hash(path)


@pytest.mark.parametrize("problem", ["rate", "stereo"])
def test_audio_that_stage_2_did_not_make(tmp_path, problem):
    wav, scale = tmp_path / "x.wav", np.zeros(8000)
    data = np.stack([scale, scale], 1) if problem == "stereo" else scale
    soundfile.write(wav, data, 8000 if problem == "rate" else 16000)
    write_map(tmp_path / "wav.scp", {"u": str(wav)})
    with pytest.raises(UserError, match=f"{wav}: must be mono at 16000 Hz; stage 2 makes it so"):
        extract_features.main(["--data_dir", str(tmp_path), "--output_dir", str(tmp_path / "o")])
    assert not list((tmp_path / "o").glob("*"))


def test_features_of_shards_lie_in_one_store(audio, tmp_path):
    argv = ["--data_dir", str(audio), "--store_dir", str(tmp_path / "store"), "--output_dir"]
    for k in (1, 2):
        extract_features.main([*argv, str(tmp_path / f"{k}"), "--shard", f"{k}/2"])
    parts = [read_ark(tmp_path / f"{k}" / "feats.scp") for k in (1, 2)]
    extract_features.main([*argv, str(tmp_path / "all")])
    whole = read_ark(tmp_path / "all" / "feats.scp")
    assert whole.keys() == parts[0].keys() | parts[1].keys() == read_map(audio / "wav.scp").keys()
    assert not parts[0].keys() & parts[1].keys()
    extract_features.main(["--data_dir", str(audio), "--output_dir", str(tmp_path / "alone")])
    alone = read_ark(tmp_path / "alone" / "feats.scp")
    for utt, matrix in whole.items():
        np.testing.assert_allclose(matrix, alone[utt], atol=1e-5)


def test_unknown_upstream(audio, tmp_path):
    argv = ["--data_dir", str(audio), "--output_dir", str(tmp_path / "o"), "--upstream", "xbank"]
    with pytest.raises(UserError, match="--upstream xbank: S3PRL has no such upstream"):
        extract_features.main(argv)
    assert not (tmp_path / "o").exists()


# ---- merge_features ----------------------------------------------------------------------------


@pytest.fixture
def stores(tmp_path) -> list[str]:
    rng, folders = np.random.default_rng(0), []
    for corpus in ("x", "y"):
        folder = tmp_path / corpus
        items = {f"{corpus}{i}": rng.normal(size=(2, 3)).astype(np.float32) for i in range(5)}
        write_ark(folder / "feats.scp", items.items())
        (folder / "info.json").write_text('{"pooling": "mean"}')
        folders.append(str(folder))
    for name, utts in (("train", "x0 x1 y0 y3"), ("train_en", "x0 x1"), ("dev", "x2 y1")):
        write_map(tmp_path / f"folds/fold_1/{name}/utt2emotion", dict.fromkeys(utts.split(), "e"))
    return folders


def test_statistics_are_of_the_training_sets_only(stores, tmp_path):
    output = tmp_path / "merged"
    argv = ["--feats_dir", *stores, "--folds_dir", str(tmp_path / "folds")]
    merge_features.main([*argv, "--output_dir", str(output)])
    feats = read_ark(output / "feats.scp")
    assert len(feats) == 10 and (output / "info.json").is_file()
    assert sorted(p.name for p in (output / "fold_1").iterdir()) == ["train.npz", "train_en.npz"]
    for name, utts in (("train", "x0 x1 y0 y3"), ("train_en", "x0 x1")):
        vectors = np.stack([feats[utt].ravel() for utt in utts.split()]).astype(float)
        stats = np.load(output / "fold_1" / f"{name}.npz")
        assert stats["count"] == len(vectors)
        np.testing.assert_allclose(stats["sum"] / stats["count"], vectors.mean(0))
        variance = stats["sum_square"] / stats["count"] - vectors.mean(0) ** 2
        np.testing.assert_allclose(variance, vectors.var(0))


def test_frames_have_no_statistics(stores, tmp_path):
    for folder in stores:
        (Path(folder) / "info.json").write_text('{"pooling": "last_frames", "frame_shift": 320}')
    argv = ["--feats_dir", *stores, "--folds_dir", str(tmp_path / "folds")]
    merge_features.main([*argv, "--output_dir", str(tmp_path / "merged")])
    assert sorted(p.name for p in (tmp_path / "merged").iterdir()) == ["feats.scp", "info.json"]
    with pytest.raises(UserError, match="utterance y0 has no features; run stage 4 again"):
        merge_features.main([*argv[:2], *argv[3:], "--output_dir", str(tmp_path / "half")])


def test_stores_of_two_upstreams_do_not_mix(stores, tmp_path):
    (tmp_path / "y" / "info.json").write_text('{"pooling": "stats"}')
    argv = ["--feats_dir", *stores, "--folds_dir", str(tmp_path / "folds")]
    with pytest.raises(UserError, match="y/info.json: another upstream than in .*x"):
        merge_features.main([*argv, "--output_dir", str(tmp_path / "merged")])


# ---- teacher_logits ----------------------------------------------------------------------------


def teacher_argv(toy, models, output: Path) -> list[str]:
    argv = ["--output_dir", str(output)]
    for side in ("train", "dev"):
        argv += ["--keys", str(toy.folder / side / "utt2emotion")]
        argv += ["--speech", f"{toy.folder}/feats.scp,kaldi_ark"]
    for name, lang in (("teacher_en", "en"), ("teacher_fi", "fi")):
        argv += ["--teacher", f"{name},{lang},{models[name]}"]
    return argv


def test_logits_of_all_teachers_in_their_order(toy, models, tmp_path):
    teacher_logits.main(teacher_argv(toy, models, tmp_path))
    assert (tmp_path / "teachers").read_text() == "teacher_en en\nteacher_fi fi\n"
    cache = read_ark(tmp_path / "logits.scp")
    assert list(cache) == sorted(toy.feats)
    for side in ("train", "dev"):
        opinions = [logits_by_python(toy, models[name], side) for name in models]
        for utt in toy.records[side]:
            assert cache[utt].shape == (2, 3)
            np.testing.assert_allclose(cache[utt], [o[utt] for o in opinions], atol=1e-6)


def test_a_student_learns_from_the_cache(toy, models, tmp_path):
    teacher_logits.main(teacher_argv(toy, models, tmp_path / "logits"))
    argv = toy.argv(tmp_path / "mtkd", "--max_epoch", "1", student=True)
    argv = [word.replace(f"{toy.folder}/logits", f"{tmp_path}/logits/logits") for word in argv]
    mtkd_train.main([*argv, "--teachers", str(tmp_path / "logits" / "teachers")])
    history = json.loads((tmp_path / "mtkd" / "history.json").read_text())
    assert history["1"]["train"]["weight_en_teacher_en"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--teacher", "x,/nowhere"), "--teacher x,/nowhere: must be NAME,LANGUAGE,PATH"),
        (("--teacher", "teacher_en,en,/nowhere"), "at least one teacher .*, and none twice"),
        (("--external", "x,en,/nowhere"), "2 --keys need as many --wav, not 0"),
        (("--copy", "x,/d,/k,/p"), "--copy x,/d,/k,/p: must be NAME,DIR,KEYS,PATH,TYPE"),
        (("--copy", "x,/d,/k,/p,sound"), "no teacher x; teacher_en, teacher_fi are"),
        (("--emotions", "/nowhere"), "--emotions /nowhere: must be a file with one name"),
        (("--teacher", "x,en,/nowhere"), "/nowhere/model.pth|/nowhere.*no such file"),
        (("--keys", "{toy}/dev/utt2lang"), "3 --keys need as many --speech PATH,TYPE, not 2"),
    ],
)
def test_mistakes_with_teachers(toy, models, tmp_path, more, message):
    more = [word.format(toy=toy.folder) for word in more]
    with pytest.raises(UserError, match=message):
        teacher_logits.main([*teacher_argv(toy, models, tmp_path / "o"), *more])
    assert not (tmp_path / "o").exists()


def test_teachers_of_two_label_sets(toy, models, tmp_path):
    other = shutil.copytree(models["teacher_fi"], tmp_path / "other", symlinks=True)
    config = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(config.replace("- sadness", "- sorrow"))
    with pytest.raises(
        UserError, match="teacher teacher_fi knows .*sorrow, the first one .*--emotions"
    ):
        teacher_logits.main(teacher_argv(toy, {**models, "teacher_fi": other}, tmp_path / "o"))


@pytest.fixture
def stranger(models, tmp_path) -> Path:
    """A teacher that knows joy in the place of anger, and in another order."""
    other = shutil.copytree(models["teacher_fi"], tmp_path / "stranger", symlinks=True)
    config = yaml.safe_load((other / "config.yaml").read_text())
    config["emotions"] = ["sadness", "joy", "neutral"]
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    return other


def test_label_sets_are_matched_by_name(toy, models, stranger, tmp_path):
    argv = teacher_argv(toy, {**models, "teacher_fi": stranger}, tmp_path / "o")
    argv += ["--emotions", f"{toy.folder}/emotions", "--dev_set", f"{toy.folder}/dev"]
    teacher_logits.main(argv)
    cache = read_ark(tmp_path / "o" / "logits.scp")
    own, theirs = (logits_by_python(toy, p, "train") for p in (models["teacher_en"], stranger))
    for utt in toy.records["train"]:
        sadness, _, neutral = theirs[utt]
        expected = [own[utt], [np.nan, neutral, sadness]]
        np.testing.assert_allclose(cache[utt], expected, atol=1e-6)
    dev = logits_by_python(toy, stranger, "dev")
    of = [utt for utt, record in toy.records["dev"].items() if record[1] == "en"]
    said = [("sadness", "neutral")[int(dev[utt][0] < dev[utt][2])] for utt in of]
    gold = [toy.records["dev"][utt][0] for utt in of]
    uar = read_relevance(tmp_path / "o" / "relevance")["teacher_fi", "en"]
    assert uar == pytest.approx(balanced_accuracy_score(gold, said), abs=1e-6)
    # And a student learns from it.
    argv = toy.argv(tmp_path / "mtkd", "--weighting", "learned", student=True)
    argv = [word.replace(f"{toy.folder}/logits", f"{tmp_path}/o/logits") for word in argv]
    gate = ("--weighting_conf", f"gate={tmp_path}/o/gate")
    mtkd_train.main([*argv, *gate, "--teachers", str(tmp_path / "o" / "teachers")])
    history = json.loads((tmp_path / "mtkd" / "history.json").read_text())
    assert all(np.isfinite(history[e]["train"]["loss_kd"]) for e in history)


def test_too_few_emotions_in_common(toy, models, stranger, tmp_path):
    (tmp_path / "emotions").write_text("joy\nanger\nfear\n")
    argv = teacher_argv(toy, {**models, "teacher_en": stranger}, tmp_path / "o")
    with pytest.raises(UserError, match="teacher teacher_en knows sadness, joy, neutral, the stud"):
        teacher_logits.main([*argv, "--emotions", str(tmp_path / "emotions")])


@pytest.mark.parametrize("count", [2, 50])
def test_logits_of_shards_put_together(toy, models, tmp_path, count):
    some = sorted(toy.records["train"])[::3]
    write_map(tmp_path / "keys", dict.fromkeys(some, "x"))
    copy = f"teacher_en,{models['teacher_fi']},{tmp_path}/keys,{toy.folder}/feats.scp,kaldi_ark"
    more = ["--emotions", f"{toy.folder}/emotions", "--dev_set", f"{toy.folder}/dev"]
    more += ["--copy", copy, "--embeddings", "true"]
    teacher_logits.main([*teacher_argv(toy, models, tmp_path / "whole"), *more])
    shards = [str(tmp_path / f"{k}of{count}") for k in range(1, count + 1)]
    for k, folder in enumerate(shards, 1):
        argv = [*teacher_argv(toy, models, Path(folder)), *more]
        teacher_logits.main([*argv, "--shard", f"{k}/{count}"])
    argv = [*teacher_argv(toy, models, tmp_path / "put"), *more]
    teacher_logits.main([*argv, "--shards", *shards])
    for kind in ("logits.scp", "embeddings.scp"):
        whole, put = (read_ark(tmp_path / name / kind) for name in ("whole", "put"))
        assert list(whole) == list(put)
        for utt in whole:
            np.testing.assert_allclose(put[utt], whole[utt], atol=1e-6)
    for kind in ("teachers", "relevance"):
        assert (tmp_path / "put" / kind).read_text() == (tmp_path / "whole" / kind).read_text()
    with pytest.raises(UserError, match="other teachers than teacher_en"):
        swapped = [word for word in argv if not word.startswith("teacher_fi,")]
        del swapped[swapped.index("--teacher", swapped.index("--teacher") + 1)]
        teacher_logits.main([*swapped, "--shards", *shards])
    with pytest.raises(UserError, match="--shard, --shards: need --emotions"):
        teacher_logits.main([*teacher_argv(toy, models, tmp_path / "x"), "--shard", "1/2"])


def test_a_copy_speaks_of_what_the_teacher_has_heard(toy, models, tmp_path):
    some = sorted(toy.records["train"])[::3]
    write_map(tmp_path / "keys", dict.fromkeys(some, "x"))
    path = shutil.copytree(models["teacher_fi"], tmp_path / "fi", symlinks=True)
    state = torch.load(path / "model.pth")
    state["layer_weighting.weight"] += torch.tensor([2.0, -2.0])
    torch.save(state, path / "1epoch.pth")
    models = {**models, "teacher_fi": path}
    copy = f"{path},{tmp_path}/keys,{toy.folder}/feats.scp,kaldi_ark"
    argv = teacher_argv(toy, models, tmp_path / "o")
    teacher_logits.main([*argv, "--embeddings", "true", "--copy", f"teacher_en,{copy}"])
    teacher_logits.main([*argv[:1], str(tmp_path / "p"), *argv[2:]])
    cache, plain = (read_ark(tmp_path / x / "logits.scp") for x in ("o", "p"))
    vectors = read_ark(tmp_path / "o" / "embeddings.scp")
    for utt in toy.feats:
        en, fi = plain[utt]
        np.testing.assert_allclose(cache[utt], [fi if utt in some else en, fi], atol=1e-6)
        assert np.allclose(*vectors[utt], atol=1e-6) == (utt in some)


def test_a_copy_for_utterances_that_are_not_there(toy, models, tmp_path):
    write_map(tmp_path / "keys", {"nobody": "x"})
    argv = teacher_argv(toy, models, tmp_path / "o")
    argv += ["--copy", f"teacher_en,/d,{tmp_path}/keys,{toy.folder}/feats.scp,kaldi_ark"]
    with pytest.raises(UserError, match="--copy teacher_en,.*: nobody is in none of --keys"):
        teacher_logits.main(argv)


def test_a_copy_that_knows_other_emotions(toy, models, stranger, tmp_path):
    argv = teacher_argv(toy, models, tmp_path / "o")
    keys, speech = toy.folder / "train" / "utt2emotion", f"{toy.folder}/feats.scp,kaldi_ark"
    argv += ["--copy", f"teacher_en,{stranger},{keys},{speech}"]
    argv += ["--emotions", f"{toy.folder}/emotions"]
    with pytest.raises(UserError, match="--copy .*stranger: knows other emotions than teacher_en"):
        teacher_logits.main(argv)


def test_embeddings_are_what_the_heads_see(toy, models, tmp_path):
    teacher_logits.main([*teacher_argv(toy, models, tmp_path), "--embeddings", "true"])
    vectors, logits = (read_ark(tmp_path / f"{x}.scp") for x in ("embeddings", "logits"))
    assert vectors.keys() == logits.keys()
    for k, name in enumerate(models):
        model, _ = load_model(models[name])
        for utt in toy.feats:
            assert vectors[utt].shape == (2, 5)
            said = model.head(torch.from_numpy(vectors[utt][k]))
            np.testing.assert_allclose(said.detach(), logits[utt][k], atol=1e-5)


@pytest.fixture(scope="module")
def waves(toy, tmp_path_factory) -> Path:
    """wav.scp with noise for every utterance of the toy."""
    folder, paths = tmp_path_factory.mktemp("waves"), {}
    rng = np.random.default_rng(0)
    for utt in sorted(toy.feats):
        paths[utt] = str(folder / f"{utt}.wav")
        soundfile.write(paths[utt], 0.1 * rng.normal(size=rng.integers(3000, 5000)), 16000)
    write_map(folder / "wav.scp", paths)
    return folder / "wav.scp"


@pytest.fixture(scope="module")
def external(models, tmp_path_factory) -> Path:
    """A teacher on another upstream than the stored features."""
    folder = tmp_path_factory.mktemp("external")
    config = yaml.safe_load((models["teacher_en"] / "config.yaml").read_text())
    config.update(frontend_conf={"upstream": "fbank_no_cmvn"}, normalize=None)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    model = SERTask.build_model(argparse.Namespace(**config))
    torch.save(model.state_dict(), folder / "model.pth")
    return folder


@pytest.mark.parametrize("form", ["folder", "zip", "pth"])
def test_a_teacher_that_hears_waveforms(toy, models, waves, external, form, tmp_path, monkeypatch):
    path = {"folder": external, "pth": external / "model.pth"}.get(form)
    if form == "zip":
        path = tmp_path / "packed.zip"
        monkeypatch.chdir(external)  # members of the archive are named relative to it
        pack(
            files={"ser_model_file": "model.pth"},
            yaml_files={"ser_train_config": "config.yaml"},
            option=[],
            outpath=path,
        )
    argv = teacher_argv(toy, models, tmp_path / "o")
    argv += ["--external", f"x,all,{path}", "--wav", str(waves), "--wav", str(waves)]
    teacher_logits.main(argv)
    assert (tmp_path / "o" / "teachers").read_text().endswith("teacher_fi fi\nx all\n")
    cache = read_ark(tmp_path / "o" / "logits.scp")
    model, args = load_model(external)
    keys = toy.folder / "dev" / "utt2emotion"
    for utt, logits in logits_of(model, args, (str(waves), "sound"), keys):
        np.testing.assert_allclose(cache[utt][2], logits, atol=1e-6)
    plain = logits_by_python(toy, models["teacher_en"], "dev")
    np.testing.assert_allclose(cache[utt][0], plain[utt], atol=1e-6)


def test_embeddings_of_two_sizes(toy, models, waves, external, tmp_path):
    argv = teacher_argv(toy, models, tmp_path / "o")
    argv += ["--external", f"x,en,{external}", "--wav", str(waves), "--wav", str(waves)]
    with pytest.raises(UserError, match="teacher x has vectors of another size than teacher_en"):
        teacher_logits.main([*argv, "--embeddings", "true"])


def test_stored_features_of_another_upstream(toy, models, external, tmp_path):
    argv = teacher_argv(toy, {**models, "teacher_fi": external}, tmp_path / "o")
    with pytest.raises(UserError, match="this model does not hear the stored features .*external"):
        teacher_logits.main(argv)


def test_relevance_is_the_uar_on_each_language_of_the_development_set(toy, models, tmp_path):
    dev = toy.folder / "dev"
    teacher_logits.main([*teacher_argv(toy, models, tmp_path), "--dev_set", str(dev)])
    found = [line.split() for line in (tmp_path / "relevance").read_text().splitlines()]
    pairs = [(t, k) for t in ("teacher_en", "teacher_fi") for k in ("en", "fi")]
    assert [(t, k) for t, k, _ in found] == pairs
    for teacher, language, value in found:
        of = [utt for utt, record in toy.records["dev"].items() if record[1] == language]
        logits = logits_by_python(toy, models[teacher], "dev")
        gold = [toy.records["dev"][utt][0] for utt in of]
        said = [toy.emotions[logits[utt].argmax()] for utt in of]
        assert float(value) == pytest.approx(balanced_accuracy_score(gold, said), abs=1e-6)
    values = read_relevance(tmp_path / "relevance")
    assert values == {(t, k): float(v) for t, k, v in found}
    weighting = WEIGHTINGS["similarity"](
        [("teacher_en", "en"), ("teacher_fi", "fi")], ["en", "fi"], str(tmp_path / "relevance")
    )
    assert weighting.scores[0, 1].item() == pytest.approx(values["teacher_fi", "en"])


def test_relevance_of_an_emotion_that_a_language_lacks(tmp_path):
    write_map(tmp_path / "utt2emotion", {"a": "x", "b": "x", "c": "y", "d": "y"})
    write_map(tmp_path / "utt2lang", {"a": "en", "b": "en", "c": "en", "d": "fi"})
    x, y, z = np.eye(3)
    logits = {"a": x, "b": z, "c": y, "d": y}
    uar = teacher_logits.relevance(tmp_path, ["x", "y", "z"], logits)
    assert uar == {"en": pytest.approx(0.75), "fi": 1.0}


def test_no_relevance_without_a_development_set(toy, models, tmp_path):
    teacher_logits.main(teacher_argv(toy, models, tmp_path))
    assert not (tmp_path / "relevance").exists()


def test_a_development_set_that_is_not_among_the_keys(toy, models, tmp_path):
    argv = teacher_argv(toy, models, tmp_path / "o")
    at = argv.index(str(toy.folder / "dev" / "utt2emotion"))
    argv = argv[: at - 1] + argv[at + 3 :]  # without --keys and --speech of the development set
    with pytest.raises(UserError, match="--dev_set .*dev: its utt2emotion must be one of --keys"):
        teacher_logits.main([*argv, "--dev_set", str(toy.folder / "dev")])
    assert not (tmp_path / "o").exists()


def test_logits_of_utterances_with_a_hidden_label(own_toy, models, tmp_path):
    path = own_toy.folder / "train" / "utt2emotion"
    write_map(path, dict.fromkeys(read_map(path), HIDDEN))
    teacher_logits.main(teacher_argv(own_toy, models, tmp_path / "o"))
    assert list(read_ark(tmp_path / "o" / "logits.scp")) == sorted(own_toy.feats)


# ---- ser_inference -----------------------------------------------------------------------------


def inference_argv(toy, model: Path, output: Path) -> list[str]:
    argv = ["--model_dir", str(model), "--data_dir", str(toy.folder / "dev")]
    argv += ["--speech", f"{toy.folder}/feats.scp,kaldi_ark"]
    return [*argv, "--output", str(output)]


def test_table_of_logits(toy, models, tmp_path):
    output = tmp_path / "sub" / "dev.tsv"
    ser_inference.main(inference_argv(toy, models["teacher_en"], output))
    rows = [line.split("\t") for line in output.read_text().splitlines()]
    assert rows[0] == [
        *("utt_id", "spk_id", "lang", "corpus", "ref"),
        *(f"logit_{emotion}" for emotion in toy.emotions),
    ]
    assert [row[0] for row in rows[1:]] == sorted(toy.records["dev"])
    expected = logits_by_python(toy, models["teacher_en"], "dev")
    for utt, spk, lang, corpus, ref, *logits in rows[1:]:
        assert (ref, lang) == toy.records["dev"][utt] and (spk, corpus) == ("toy_dev", "toy")
        np.testing.assert_allclose(np.array(logits, dtype=np.float32), expected[utt], atol=1e-6)


def test_columns_in_another_order_and_of_an_emotion_that_a_model_does_not_know(
    toy, models, waves, external, tmp_path
):
    wanted = [*reversed(toy.emotions[1:]), "boredom"]
    (tmp_path / "emotions").write_text("\n".join(wanted) + "\n")
    argv = inference_argv(toy, external / "model.pth", tmp_path / "test.tsv")
    argv[argv.index("--speech") + 1] = f"{waves},sound"
    ser_inference.main([*argv, "--emotions", str(tmp_path / "emotions")])
    rows = [line.split("\t") for line in (tmp_path / "test.tsv").read_text().splitlines()]
    assert rows[0][5:] == [f"logit_{emotion}" for emotion in wanted]
    model, args = load_model(external)
    keys = toy.folder / "dev" / "utt2emotion"
    expected = dict(logits_of(model, args, (str(waves), "sound"), keys))
    for utt, _, _, _, _, *logits in rows[1:]:
        own = [*expected[utt][:0:-1], -1e9]
        np.testing.assert_allclose(np.array(logits, dtype=np.float32), own, atol=1e-6)


@pytest.mark.parametrize("count", [2, 50])
def test_tables_of_shards_put_together(toy, models, tmp_path, count):
    ser_inference.main(inference_argv(toy, models["teacher_en"], tmp_path / "whole.tsv"))
    shards = [str(tmp_path / f"{k}.tsv") for k in range(1, count + 1)]
    for k, table in enumerate(shards, 1):
        argv = inference_argv(toy, models["teacher_en"], Path(table))
        ser_inference.main([*argv, "--shard", f"{k}/{count}"])
    argv = inference_argv(toy, models["teacher_en"], tmp_path / "put.tsv")
    ser_inference.main([*argv, "--shards", *shards])
    put, whole = (
        [line.split("\t") for line in (tmp_path / name).read_text().splitlines()]
        for name in ("put.tsv", "whole.tsv")
    )
    assert put[0] == whole[0] and [row[:5] for row in put] == [row[:5] for row in whole]
    logits = (np.array([row[5:] for row in rows[1:]], dtype=float) for rows in (put, whole))
    np.testing.assert_allclose(*logits, atol=1e-6)
    with pytest.raises(UserError, match="shards hold no toy_dev_"):
        ser_inference.main([*argv, "--shards", *shards[1:]])


def test_an_utterance_without_speech(own_toy, models, tmp_path):
    feats = dict(own_toy.feats)
    del feats["toy_dev_03"]
    write_ark(own_toy.folder / "feats.scp", sorted(feats.items()))
    with pytest.raises(UserError, match="feats.scp: no .*toy_dev_03"):
        ser_inference.main(inference_argv(own_toy, models["teacher_en"], tmp_path / "dev.tsv"))
    assert not (tmp_path / "dev.tsv").exists()


def test_a_model_that_was_not_trained(toy, tmp_path):
    with pytest.raises(UserError, match="config.yaml: no such file; has this model been trained"):
        ser_inference.main(inference_argv(toy, tmp_path, tmp_path / "dev.tsv"))


# ---- run_stage ---------------------------------------------------------------------------------


def test_the_command_line_shows_one_line(tmp_path):
    command = [sys.executable, "-m", "espnet_mtkd.bin.run_stage", "1", "--folds", "9"]
    command += ["--expdir", str(tmp_path / "exp")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: --folds 9: there are folds 1 to 4\n"


def test_a_stage_before_its_turn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="stage 2 needs data/mini_ser, .* run with --stage 1"):
        run_stage.main(["2"])


def test_a_stage_without_jobs_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_stage.main(["4", "--upstream_mode", "finetune"])
    assert "nothing to do: all is up to date" in capsys.readouterr().out
