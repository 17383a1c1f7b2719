from __future__ import annotations

import numpy as np
import pytest
import soundfile
from scipy.special import softmax

from espnet_mtkd import EmotionRecognizer
from espnet_mtkd.errors import UserError
from espnet_mtkd.recognizer import Prediction, Segment
from espnet_mtkd.use.windows import read_blocks

pytestmark = pytest.mark.usefixtures("no_network")


class Loudness:
    """A model whose logits are known: the loudness of what it hears, and minus that."""

    emotions = ["loud", "quiet"]
    languages: list[str] | None = ["en", "fi"]
    temperature: float | None = 2.0
    max_seconds: float | None = None

    def __init__(self, **facts: object) -> None:
        self.batches: list[tuple[int, int]] = []
        for name, value in facts.items():
            setattr(self, name, value)

    def __call__(self, speech: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        self.batches.append(speech.shape)
        assert speech.dtype == np.float32
        loud = 10 * np.abs(speech).mean(1)
        logits = np.stack([loud, -loud], axis=1)
        return logits, None if self.languages is None else logits / 3


def by_hand(samples: np.ndarray) -> np.ndarray:
    loud = 10 * np.abs(samples).mean()
    return softmax(np.array([loud, -loud]) / 2.0)


def test_a_short_recording(recordings):
    samples = soundfile.read(recordings["a.wav"], dtype="float32")[0]
    found = EmotionRecognizer(Loudness())(recordings["a.wav"])
    np.testing.assert_allclose(list(found.probabilities.values()), by_hand(samples), rtol=1e-5)
    assert list(found.probabilities) == ["loud", "quiet"]
    assert found.emotion == "loud" and found.confidence == found.probabilities["loud"]
    loud = 10 * np.abs(samples).mean()
    expected = softmax(np.array([loud, -loud]) / 3)  # languages have no temperature
    np.testing.assert_allclose(list(found.languages.values()), expected, rtol=1e-5)
    assert found.duration == 1.0 and len(found.timeline) == 1
    assert EmotionRecognizer(Loudness())(samples) == found


def test_a_long_recording_is_the_mean_of_its_windows():
    samples = np.random.default_rng(0).normal(0, np.linspace(0.01, 0.5, 41000)).astype(np.float32)
    found = EmotionRecognizer(Loudness(), window=1.0, hop=0.5)(samples)
    starts = [0, 8000, 16000, 24000, 25000]
    rows = np.array([by_hand(samples[s : s + 16000]) for s in starts])
    assert [(s.start, s.end) for s in found.timeline] == [
        (s / 16000, (s + 16000) / 16000) for s in starts
    ]
    for segment, row in zip(found.timeline, rows, strict=True):
        np.testing.assert_allclose(list(segment.probabilities.values()), row, rtol=1e-5)
    np.testing.assert_allclose(list(found.probabilities.values()), rows.mean(0), rtol=1e-5)
    assert found.duration == 41000 / 16000
    assert sum(found.probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_order_and_results_do_not_depend_on_batches(recordings, batch_size):
    paths = [recordings[name] for name in ("e.wav", "a.wav", "b.flac", "f.wav", "d.wav", "c.ogg")]
    backend = Loudness()
    recognizer = EmotionRecognizer(backend, window=2.0)
    single = [recognizer(path) for path in paths]
    backend.batches.clear()
    assert list(recognizer.predict(paths, batch_size)) == single
    sizes = [batch for batch, _ in backend.batches]
    assert max(sizes) == min(batch_size, 4)  # e.wav has four windows of 2 s
    assert sum(sizes) == 5 + 4


def test_one_broken_file_among_many(recordings, tmp_path):
    broken = tmp_path / "x.wav"
    broken.write_bytes(b"RIFF")
    paths = [recordings["a.wav"], broken, tmp_path / "gone.wav", recordings["f.wav"]]
    found = list(EmotionRecognizer(Loudness()).predict(paths))
    kinds = [type(outcome) for outcome in found]
    assert kinds == [Prediction, UserError, UserError, Prediction]
    assert str(found[2]) == f"{tmp_path}/gone.wav: no such file"
    with pytest.raises(UserError, match="gone.wav: no such file"):
        EmotionRecognizer(Loudness())(tmp_path / "gone.wav")


def test_outcomes_come_while_others_wait(recordings):
    def endless():
        while True:
            yield recordings["a.wav"]

    found = EmotionRecognizer(Loudness()).predict(endless(), batch_size=2)
    assert [next(found).duration for _ in range(100)] == [1.0] * 100


def test_a_model_without_a_finite_answer(recordings):
    backend = Loudness()
    backend.__class__ = type(
        "Broken", (Loudness,), {"__call__": lambda self, x: (np.full((len(x), 2), np.nan), None)}
    )
    with pytest.raises(UserError, match="the model has no finite answer"):
        EmotionRecognizer(backend)(recordings["a.wav"])


@pytest.mark.parametrize(
    ("speech", "rate", "message"),
    [
        (np.zeros((16000, 2)), 16000, "must be a vector of floats"),
        (np.zeros(16000, dtype=np.int16), 16000, "must be a vector of floats"),
        (np.zeros(0), 16000, "samples: 0 s of sound; at least 0.1 s"),
        (np.zeros(80000), 16000, "^samples: silent: all samples are the same$"),
        (np.zeros(80000), 44100, "^samples: silent: all samples are the same$"),
        (np.full(16000, np.nan), 16000, "NaN or infinite"),
        (np.zeros(16000), 0, "samples at 0 Hz: the rate must be above 0"),
        (np.zeros(16000), -1, "the rate must be above 0"),
    ],
)
def test_samples_that_cannot_be_used(speech, rate, message):
    with pytest.raises(UserError, match=message):
        EmotionRecognizer(Loudness())(speech, rate)


def test_samples_of_another_rate(recordings):
    samples, rate = soundfile.read(recordings["d.wav"])
    recognizer = EmotionRecognizer(Loudness())
    assert rate == 8000
    a, b = recognizer(samples, rate), recognizer(recordings["d.wav"])
    assert a.probabilities == pytest.approx(b.probabilities, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(window=0.05), "--window 0.05: must be at least 0.1 s and at most 3 s, which the mod"),
        (dict(window=5), "--window 5: must be at least 0.1 s and at most 3 s"),
        (dict(hop=0), "--hop 0: must be"),
        (dict(window=2, hop=2.5), "--hop 2.5: must be at least 0.01 s and at most the window"),
    ],
)
def test_windows_that_are_not_possible(options, message):
    with pytest.raises(UserError, match=message):
        EmotionRecognizer(Loudness(max_seconds=3.0), **options)


def test_default_windows():
    recognizer = EmotionRecognizer(Loudness())
    assert (recognizer.window, recognizer.hop) == (160000, 80000)
    recognizer = EmotionRecognizer(Loudness(max_seconds=3.0))
    assert (recognizer.window, recognizer.hop) == (48000, 24000)
    with pytest.raises(UserError, match="--batch_size 0: must be at least 1"):
        list(recognizer.predict([], 0))


def test_what_is_written():
    segments = (Segment(0.0, 10.0, {"a": 0.25, "b": 0.75}), Segment(5.0, 12.5, {"a": 1.0, "b": 0}))
    one = Prediction(0.0, 10.0, segments[0].probabilities, None, segments[:1])
    assert one.to_dict() == {
        "duration": 10.0,
        "emotion": "b",
        "confidence": 0.75,
        "probabilities": {"a": 0.25, "b": 0.75},
    }
    both = Prediction(0.0, 12.5, {"a": 0.625, "b": 0.375}, {"en": 1 / 3, "fi": 2 / 3}, segments)
    facts = both.to_dict()
    assert facts["languages"] == {"en": 0.333333, "fi": 0.666667}
    assert [(s["start"], s["end"], s["emotion"]) for s in facts["timeline"]] == [
        (0.0, 10.0, "b"),
        (5.0, 12.5, "a"),
    ]


@pytest.mark.parametrize("kind", ["fbank_no_cmvn", "whisper", "whisper_tuned", "hubert", "conv"])
def test_an_archive_where_its_upstream_never_was(trained, recordings, kind, tmp_path, monkeypatch):
    folder = trained(kind, lid_lambda=0.1)
    archive = trained.packed(kind, lid_lambda=0.1)
    # Nothing but the archive may be opened from now on.
    opened = []
    real = open

    def watch(path, *args, **kwargs):
        opened.append(str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr("builtins.open", watch)
    recognizer = EmotionRecognizer.from_pretrained(archive, window=2.0)
    roots = [str(trained.root)] + [str(path) for path in trained.checkpoints.values()]
    assert not [p for p in opened if any(p.startswith(r) for r in roots) and p != str(archive)]
    monkeypatch.undo()
    other = EmotionRecognizer.from_pretrained(folder, window=2.0)
    for name in ("a.wav", "e.wav"):
        found, expected = recognizer(recordings[name]), other(recordings[name])
        assert found.probabilities == pytest.approx(expected.probabilities, abs=1e-6)
        assert list(found.languages) == ["en", "fi"]


def test_probabilities_are_calibrated_logits(trained, recordings):
    import torch

    from espnet_mtkd.tasks.inference import load_model

    recognizer = EmotionRecognizer.from_pretrained(trained.packed("whisper"))
    model, _ = load_model(trained("whisper"))
    x = torch.from_numpy(np.concatenate(list(read_blocks(recordings["b.flac"]))))[None]
    with torch.no_grad():
        logits = model.logits(x, torch.tensor([x.shape[1]]))[0].numpy()
    assert recognizer.temperature != 1
    found = list(recognizer(recordings["b.flac"]).probabilities.values())
    np.testing.assert_allclose(found, softmax(logits / recognizer.temperature), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(backend="tpu"), "--backend tpu: must be one of torch, onnx"),
        (dict(backend="onnx"), "ft.zip is no .onnx file; make one with mtkd export --model"),
        (dict(device="abacus"), "^--device abacus: RuntimeError: .*abacus"),
    ],
)
def test_backends_and_devices(trained, options, message):
    with pytest.raises(UserError, match=message):
        EmotionRecognizer.from_pretrained(trained.packed("fbank"), **options)
