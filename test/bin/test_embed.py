"""Vectors of a trained classifier."""

import numpy as np
import pytest
import torch
import yaml

from espnet_mtkd.bin import embed, ser_train
from espnet_mtkd.evaluate.embeddings import read_embeddings
from espnet_mtkd.systems import read_yaml
from espnet_mtkd.tasks.inference import load_model, logits_of

pytestmark = pytest.mark.usefixtures("no_network")


@pytest.mark.parametrize(
    ("head", "conf", "size"), [("mlp", {}, 128), ("linear", {"projector_size": 7}, 7)]
)
def test_the_last_layer_makes_the_logits_of_the_vectors(toy, tmp_path, head, conf, size):
    config = read_yaml("conf/train_frozen.yaml") | {"head": head, "head_conf": conf}
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(config))
    argv = toy.argv(tmp_path / "model", "--max_epoch", "1")
    argv[argv.index("--config") + 1] = str(tmp_path / "conf.yaml")
    ser_train.main(argv)
    out = tmp_path / "test.npz"
    speech = (str(toy.folder / "feats.scp"), "kaldi_ark")
    dev = toy.folder / "dev"
    options = ["--model_dir", str(tmp_path / "model"), "--data_dir", str(dev)]
    options += ["--speech", ",".join(speech), "--batch_size", "3", "--output", str(out)]
    embed.main(options)
    found = read_embeddings(out)
    assert found.embedding.shape == (len(toy.records["dev"]), size)
    model, args = load_model(tmp_path / "model")
    logits = dict(logits_of(model, args, speech, dev / "utt2emotion"))
    with torch.no_grad():
        expected = model.head[-1](torch.from_numpy(found.embedding)).numpy()
    for utt, speaker, language, emotion, row in zip(
        found.utt_id, found.spk_id, found.lang, found.ref, expected, strict=True
    ):
        np.testing.assert_allclose(logits[utt], row, atol=1e-5)
        assert (emotion, language) == toy.records["dev"][utt]
        assert speaker == "toy_dev"
    assert found.layers.tolist() == [0, 1]
    np.testing.assert_allclose(
        found.layer_weights, model.layer_weighting.weight.detach().softmax(0), rtol=1e-6
    )
