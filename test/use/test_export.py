from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from espnet_mtkd import EmotionRecognizer
from espnet_mtkd.bin import export
from espnet_mtkd.errors import UserError
from espnet_mtkd.use.archive import FORMAT, open_model
from espnet_mtkd.use.onnx_backend import METADATA, OnnxBackend
from espnet_mtkd.use.torch_backend import TorchBackend
from espnet_mtkd.use.windows import read_blocks

onnx = pytest.importorskip("onnx", reason="export needs the extra 'onnx'")
pytest.importorskip("onnxruntime", reason="export needs the extra 'onnx'")
pytest.importorskip("onnxscript", reason="export needs the extra 'onnx'")


KINDS = [
    *("fbank", "conv", "conformer"),
    *("whisper", "whisper_slice_tuned", "whisper_cut", "whisper_stem", "whisper_lora"),
    *("wav2vec2", "hubert_lora", "wavlm"),
]


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """Exported models, by kind and options."""
    folder, done = tmp_path_factory.mktemp("exported"), {}

    def make(kind: str, *more: str):
        key = f"{kind}{''.join(more)}"
        if key not in done:
            done[key] = folder / f"{len(done)}.onnx"
            source = str(trained.packed(kind, lid_lambda=0.1))
            export.main(["--model", source, "--output", str(done[key]), *more])
        return done[key]

    return make


def speech(batch: int, samples: int) -> np.ndarray:
    noise = np.random.default_rng(samples).normal(0, 0.1, (batch, samples))
    return (noise * np.linspace(0.1, 1, samples)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_of_any_batch_and_length(trained, exported, kind):
    backend = OnnxBackend(exported(kind))
    with open_model(trained.packed(kind, lid_lambda=0.1)) as files:
        torch_backend = TorchBackend(files)
    assert backend.emotions == torch_backend.emotions
    assert backend.languages == torch_backend.languages == ["en", "fi"]
    assert backend.temperature == torch_backend.temperature
    # Of a Conformer: as many frames as it has positions for, 40 ms each.
    limit = 4999 * 0.04 if kind == "conformer" else torch_backend.max_seconds
    assert backend.max_seconds == pytest.approx(limit)
    for batch, samples in ((1, 1600), (2, 1601), (5, 7999), (1, 40000), (3, 16000)):
        x = speech(batch, samples)
        for found, expected in zip(backend(x), torch_backend(x), strict=True):
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, atol=1e-4)


def test_predictions_are_those_of_torch(trained, exported, recordings):
    one = EmotionRecognizer.from_pretrained(trained.packed("whisper", lid_lambda=0.1))
    two = EmotionRecognizer.from_pretrained(exported("whisper"), backend="onnx")
    for a, b in zip(
        one.predict(recordings.values()), two.predict(recordings.values()), strict=True
    ):
        assert b.languages == pytest.approx(a.languages, abs=1e-4)
        assert b.probabilities == pytest.approx(a.probabilities, abs=1e-4)
        assert len(a.timeline) == len(b.timeline)


def test_what_is_not_heard_is_not_exported(trained, tmp_path):
    output = tmp_path / "x.onnx"
    source = trained.packed("conv", max_duration=0.5)
    export.main(["--model", str(source), "--output", str(output)])
    backend = OnnxBackend(output)
    assert backend.max_seconds == 0.5
    with open_model(source) as files:
        torch_backend = TorchBackend(files)
    for samples in (1600, 8000, 20000):
        x = speech(2, samples)
        np.testing.assert_allclose(backend(x)[0], torch_backend(x)[0], atol=1e-4)


def test_int8_is_near_and_smaller(exported):
    plain, small = exported("whisper"), exported("whisper", "--int8")
    a, b = OnnxBackend(plain)(speech(2, 16000))[0], OnnxBackend(small)(speech(2, 16000))[0]
    assert np.abs(a - b).max() > 0
    np.testing.assert_allclose(a, b, atol=0.5)
    kinds = {node.op_type for node in onnx.load(small).graph.node}
    assert "MatMulInteger" in kinds or "DynamicQuantizeLinear" in kinds


def test_int8_leaves_the_filter_banks_as_they_are(exported):
    # Powers of a spectrum lie ten thousandfold apart: in 8 bits most of them are 0.
    plain, small = exported("fbank"), exported("fbank", "--int8")
    a, b = OnnxBackend(plain)(speech(8, 16000))[0], OnnxBackend(small)(speech(8, 16000))[0]
    assert 0 < np.abs(a - b).max() < 0.1 * np.abs(a).max()


def test_prediction_does_without_torch(exported, recordings):
    path, wav = exported("fbank"), recordings["a.wav"]
    code = (
        "import sys; from espnet_mtkd.bin.mtkd import main;"
        f"main(['predict', {str(wav)!r}, '--model', {str(path)!r}, '--backend', 'onnx']);"
        "print([m for m in ('torch', 'transformers', 'espnet2', 'pandas', 'scipy') "
        "if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    assert json.loads(done.stdout)["duration"] == 1.0


def test_beside_the_archive(trained, tmp_path, capsys):
    archive = shutil.copy(trained.packed("fbank"), tmp_path / "mtkd.zip")
    export.main(["--model", str(archive)])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mtkd.onnx", "mtkd.zip"]
    assert "wrote" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "argv", "message"),
    [
        (
            "mfcc",
            ["--output", "x.onnx"],
            "upstream mfcc cannot be exported; those that can are",
        ),
        ("fbank", ["--output", "x.bin"], "--output x.bin: must end in .onnx"),
    ],
)
def test_mistakes(trained, tmp_path, monkeypatch, kind, argv, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        export.main(["--model", str(trained.packed(kind)), *argv])
    assert not list(tmp_path.iterdir())


def test_a_folder_needs_a_place_for_the_result(trained):
    with pytest.raises(UserError, match="--output: say where to, as ft.onnx"):
        export.main(["--model", str(trained("fbank"))])


def with_metadata(path, target, **changes):
    model = onnx.load(path)
    facts = {p.key: p.value for p in model.metadata_props}
    facts = {} if changes.get("none") else {METADATA: {**json.loads(facts[METADATA]), **changes}}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {k: json.dumps(v) for k, v in facts.items()})
    onnx.save(model, target)
    return target


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p, t: None, "no such file; mtkd export makes it"),
        (lambda p, t: t.write_bytes(b"no model"), "no ONNX model, or a broken one"),
        (lambda p, t: t.write_bytes(p.read_bytes()[:5000]), "no ONNX model, or a broken one"),
        (lambda p, t: with_metadata(p, t, none=True), "no emotions are named in it"),
        (lambda p, t: with_metadata(p, t, format=FORMAT + 1), "made by a newer espnet-mtkd"),
    ],
)
def test_models_that_cannot_be_run(exported, tmp_path, make, message):
    target = tmp_path / "x.onnx"
    make(exported("fbank"), target)
    with pytest.raises(UserError, match=f"{target}: .*{message}|{target}: {message}"):
        EmotionRecognizer.from_pretrained(target)


CORPORA, ENCODER = (os.environ.get(name) for name in ("MTKD_CORPORA", "MTKD_WHISPER"))


@pytest.mark.skipif(
    not (CORPORA and ENCODER),
    reason="MTKD_CORPORA and MTKD_WHISPER do not name folders with corpora and a Whisper encoder",
)
@pytest.mark.parametrize("kind", ["whisper", "conformer"])
def test_real_utterances(trained, tmp_path, monkeypatch, kind):
    if kind == "whisper":
        monkeypatch.setitem(trained.checkpoints, "whisper", Path(ENCODER))
    source = trained.packed(kind, name=f"real_{kind}", lid_lambda=0.1)
    output = tmp_path / "x.onnx"
    export.main(["--model", str(source), "--output", str(output)])
    backend = OnnxBackend(output)
    with open_model(source) as files:
        torch_backend = TorchBackend(files)
    corpora = ("EmoDB", "EMOVO", "RAVDESS", "URDU")
    paths = [p for c in corpora for p in sorted(Path(CORPORA, c).rglob("*.[fw][la][av]*"))[:3]]
    assert len(paths) == 12
    for path in paths:
        x = np.concatenate(list(read_blocks(path)))[None]
        for found, expected in zip(backend(x), torch_backend(x), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-4)


def test_options_that_do_not_fit(exported):
    for options in (dict(backend="torch"), dict(device="cuda")):
        with pytest.raises(UserError, match="needs --backend onnx and --device cpu"):
            EmotionRecognizer.from_pretrained(exported("fbank"), **options)


def test_an_export_that_differs_is_not_kept(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("espnet_mtkd.use.export.compare", lambda network, backend: 1e-3)
    output = tmp_path / "x.onnx"
    with pytest.raises(UserError, match="logits differ from the trained model's by 1.0e-03"):
        export.main(["--model", str(trained.packed("fbank")), "--output", str(output)])
    assert not list(tmp_path.iterdir())
