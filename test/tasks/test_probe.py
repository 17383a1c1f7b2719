"""Probes: parts of the recipe's model, trained without ESPnet's trainer."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from espnet_mtkd.bin import probe_upstream
from espnet_mtkd.errors import UserError
from espnet_mtkd.evaluate.predictions import read_predictions
from espnet_mtkd.tasks.probe import (
    Examples,
    FrameProbe,
    Probe,
    ProbeOptions,
    logits_of_probe,
    train_probe,
    unweighted_recall,
)

PLAIN = ProbeOptions(head="linear", head_conf={"projector_size": 0}, lr=0.02, max_epoch=20)


def examples(num: int, informative: int = 1, seed: int = 0) -> Examples:
    """Three layers of noise, of which one holds the class (of three)."""
    rng = torch.Generator().manual_seed(seed)
    emotions = torch.arange(num) % 3
    features = torch.randn(num, 3, 6, generator=rng)
    features[torch.arange(num), informative, emotions] += 4
    return Examples(features, emotions)


def nothing() -> Examples:
    return Examples(torch.zeros(0, 3, 6), torch.zeros(0, dtype=torch.int64))


def test_a_probe_learns_and_finds_the_layer():
    probe, info = train_probe(examples(90), examples(30, seed=1), 3, PLAIN, seed=0)
    test = examples(60, seed=2)
    assert unweighted_recall(logits_of_probe(probe, test.features), test.emotions) > 0.9
    weights = info["layer_weights"]
    assert sum(weights) == pytest.approx(1) and int(np.argmax(weights)) == 1
    assert info["layers"] == [0, 1, 2] and 1 <= info["best_epoch"] <= 20
    assert info["num_trainable"] == 3 + 3 * 6 + 3


def test_single_layers():
    scores = []
    for layer in range(3):
        probe, info = train_probe(examples(90), nothing(), 3, PLAIN, seed=0, layers=[layer])
        test = examples(60, seed=2)
        scores.append(unweighted_recall(logits_of_probe(probe, test.features), test.emotions))
        assert info["layers"] == [layer] and info["layer_weights"] == [1.0]
    assert scores[1] > 0.9 and max(scores[0], scores[2]) < 0.6


def test_the_same_seed_gives_the_same_probe():
    runs = [train_probe(examples(30), examples(9), 3, PLAIN, seed=s)[0] for s in (3, 3, 4)]
    a, b, c = (logits_of_probe(p, examples(5).features) for p in runs)
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_standardised_by_the_training_set_only():
    train = examples(50)
    train.features[:, 0, 0] = 7.0  # carries nothing
    probe = Probe(train.features, 3, PLAIN)
    normal = probe.normalize(train.features)
    np.testing.assert_allclose(normal.mean(0), 0, atol=1e-5)
    expected = np.ones((3, 6))
    expected[0, 0] = 0
    np.testing.assert_allclose(normal.std(0, correction=0), expected, atol=1e-4)


def test_without_a_development_set_the_last_epoch_counts():
    _, info = train_probe(examples(30), nothing(), 3, PLAIN, seed=0)
    assert (info["best_epoch"], info["dev_uar"]) == (20, None)
    last = ProbeOptions(**{**vars(PLAIN), "select": "last"})
    assert train_probe(examples(30), examples(9), 3, last, seed=0)[1]["best_epoch"] == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": "mlp"}, "x.yaml: probe: unknown option heads; use head, head_conf"),
        ({"head": "tree"}, "x.yaml: probe: head 'tree': must be linear, mlp or frames"),
        ({"lr": "fast"}, "x.yaml: probe: lr 'fast': must be a number"),
        ({"head_conf": {"hidden": 3}}, "x.yaml: probe: head_conf: .*hidden"),
        ({"select": "first"}, "select 'first': must be best or last"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(UserError, match=message):
        ProbeOptions.parse(options, "x.yaml")


def test_the_head_on_frames_is_that_of_emobox():
    head = FrameProbe(4, 3, hidden_size=5)
    matrices = [np.random.default_rng(n).normal(size=(n, 4)).astype(np.float32) for n in (7, 1, 3)]
    w, b = head.hidden.weight.detach().numpy(), head.hidden.bias.detach().numpy()
    v, c = head.output.weight.detach().numpy(), head.output.bias.detach().numpy()
    expected = [np.maximum(m @ w.T + b, 0).mean(0) @ v.T + c for m in matrices]
    logits = logits_of_probe(head, [torch.from_numpy(m) for m in matrices])
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
    assert logits_of_probe(head, []).shape == (0, 3)


def test_frames_tell_what_their_mean_does_not():
    """Two classes with the same mean: the rectifier has to come before the pooling."""
    rng = torch.Generator().manual_seed(0)
    emotions = torch.arange(60) % 2
    frames = [
        (1 + 3 * emotion) * torch.randn(9 + n % 3, 2, generator=rng)
        for n, emotion in enumerate(emotions)
    ]
    frames = [matrix - matrix.mean(0) for matrix in frames]
    options = ProbeOptions(head="frames", head_conf={"hidden_size": 16}, lr=0.01)
    train, test = Examples(frames[:40], emotions[:40]), Examples(frames[40:], emotions[40:])
    probe, info = train_probe(train, test, 2, options, seed=0)
    assert unweighted_recall(logits_of_probe(probe, test.features), test.emotions) > 0.9
    assert info["layers"] == [-1] and info["num_trainable"] == 2 * 16 + 16 + 16 * 2 + 2


def test_frames_and_their_head_go_together():
    frames, pooled = ProbeOptions(head="frames"), ProbeOptions()
    frames.check_pooling("last_frames", "x")
    pooled.check_pooling("stats", "x")
    for options, pooling in ((frames, "mean"), (pooled, "last_frames")):
        with pytest.raises(
            UserError, match=f"x: pooling {pooling} does not go with .* {options.head}"
        ):
            options.check_pooling(pooling, "x")


@pytest.fixture
def fold(toy, tmp_path):
    """A fold whose test set is the toy's development set."""
    for name in ("emotions", "languages"):
        (tmp_path / name).write_bytes((toy.folder / name).read_bytes())
    for side, source in (("train", "train"), ("dev", "dev"), ("test", "dev")):
        (tmp_path / "fold_1").mkdir(exist_ok=True)
        (tmp_path / "fold_1" / side).symlink_to(toy.folder / source)
    return tmp_path / "fold_1"


def run(toy, fold, output, *more: str) -> None:
    argv = ["--feats_dir", str(toy.folder), "--sets_dir", str(fold), "--output_dir", str(output)]
    probe_upstream.main([*argv, "--probe", '{"max_epoch": 2}', *more])


def test_the_command_line_writes_predictions(toy, fold, tmp_path):
    run(toy, fold, tmp_path / "out")
    for side in ("dev", "test"):
        table = read_predictions(tmp_path / "out" / f"{side}.tsv", toy.emotions, toy.languages)
        assert table.utt_ids == list(toy.records["dev"])
        assert [toy.emotions[i] for i in table.ref] == [r[0] for r in toy.records["dev"].values()]
        assert table.corpora[0] == "toy" and table.speakers[0] == "toy_dev"
    info = json.loads((tmp_path / "out" / "info.json").read_text())
    assert info["layers"] == [0, 1] and info["train_seconds"] > 0


def test_each_layer_has_a_folder(toy, fold, tmp_path):
    run(toy, fold, tmp_path / "out", "--layers", "each")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["layer_0", "layer_1"]
    run(toy, fold, tmp_path / "one", "--layers", "1")
    one = (tmp_path / "one" / "test.tsv").read_text()
    assert one == (tmp_path / "out" / "layer_1" / "test.tsv").read_text()


def test_layers_that_are_none(toy, fold, tmp_path):
    with pytest.raises(UserError, match="--layers some: must be all, each, or numbers as in 0,3"):
        run(toy, fold, tmp_path / "out", "--layers", "some")
    with pytest.raises(UserError, match="the upstream has layers 0 to 1"):
        run(toy, fold, tmp_path / "out", "--layers", "7")


def test_layers_of_frames(toy, fold, tmp_path):
    info = json.loads((toy.folder / "info.json").read_text()) | {"pooling": "last_frames"}
    (tmp_path / "feats").mkdir()
    (tmp_path / "feats" / "info.json").write_text(json.dumps(info))
    (tmp_path / "feats" / "feats.scp").symlink_to(toy.folder / "feats.scp")
    argv = ["--feats_dir", str(tmp_path / "feats"), "--sets_dir", str(fold), "--output_dir"]
    argv += [str(tmp_path / "out"), "--probe", '{"max_epoch": 2, "head": "frames"}', "--layers"]
    with pytest.raises(UserError, match="--layers 0: frames are those of the last layer: -1"):
        probe_upstream.main([*argv, "0"])
    probe_upstream.main([*argv, "-1"])  # the toy's matrices (Layers, D) taken for frames
    table = read_predictions(tmp_path / "out" / "test.tsv", toy.emotions, toy.languages)
    assert table.utt_ids == list(toy.records["dev"])
