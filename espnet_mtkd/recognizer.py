"""Use a trained model: from recordings to emotions.

>>> from espnet_mtkd import EmotionRecognizer  # doctest: +SKIP
>>> recognizer = EmotionRecognizer.from_pretrained("exp/packed/mtkd.zip")  # doctest: +SKIP
>>> recognizer("speech.wav").probabilities  # doctest: +SKIP
{'anger': 0.91, 'happiness': 0.05, 'neutral': 0.03, 'sadness': 0.01}
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from espnet_mtkd.data.wavheader import SAMPLE_RATE
from espnet_mtkd.errors import UserError
from espnet_mtkd.use.archive import open_model
from espnet_mtkd.use.windows import SHORTEST, read_blocks, resampled, windows

WINDOW, HOP = 10.0, 5.0  # seconds
BACKENDS = ("torch", "onnx")
_READ_AHEAD = 16  # batches of windows that are sorted by length


class Backend(Protocol):
    """What runs a model: :class:`~espnet_mtkd.use.torch_backend.TorchBackend` or the one of ONNX.

    Attributes:
        emotions: names of the C emotions.
        languages: names of the L languages that it can tell; None if it cannot.
        temperature: divides the logits; None if the model was not calibrated.
        max_seconds: how much it can hear at a time; None: any.
    """

    emotions: list[str]
    languages: list[str] | None
    temperature: float | None
    max_seconds: float | None

    def __call__(self, speech: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return logits (Batch, C), (Batch, L) or None, of (Batch, Samples) at 16 kHz."""
        ...


@dataclass(frozen=True)
class Segment:
    """What a window of a recording sounds like.

    Attributes:
        start, end: seconds.
        probabilities: by emotion, in the order of the label set.
        languages: probabilities by language; None for a model that does not tell it.
    """

    start: float
    end: float
    probabilities: dict[str, float]
    languages: dict[str, float] | None = None

    @property
    def emotion(self) -> str:
        """The most probable emotion."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def confidence(self) -> float:
        """Probability of that emotion; to be believed as far as the model is calibrated."""
        return max(self.probabilities.values())

    def to_dict(self) -> dict[str, Any]:
        """Return what is written as JSON; six decimals."""
        facts: dict[str, Any] = {
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "emotion": self.emotion,
            "confidence": round(self.confidence, 6),
            "probabilities": _rounded(self.probabilities),
        }
        if self.languages is not None:
            facts["languages"] = _rounded(self.languages)
        return facts


@dataclass(frozen=True)
class Prediction(Segment):
    """What a recording sounds like: the mean of its windows' probabilities.

    Attributes:
        timeline: the windows; a short recording is one.
    """

    timeline: tuple[Segment, ...] = ()

    @property
    def duration(self) -> float:
        """Of the recording, seconds."""
        return self.end - self.start

    def to_dict(self) -> dict[str, Any]:
        """Return what is written as JSON: ``timeline`` only where there are several windows."""
        facts = super().to_dict()
        del facts["start"]
        facts = {"duration": facts.pop("end"), **facts}
        if len(self.timeline) > 1:
            facts["timeline"] = [segment.to_dict() for segment in self.timeline]
        return facts


@dataclass
class _Recording:
    """A recording on its way: what became of its windows, and whether all were read."""

    segments: dict[int, Segment] = field(default_factory=dict)
    num_windows: int = 0
    is_read: bool = False
    error: UserError | None = None

    def is_done(self) -> bool:
        return self.error is not None or (self.is_read and len(self.segments) == self.num_windows)


class EmotionRecognizer:
    """A teacher or student that takes recordings.

    Args:
        backend: what runs the model.
        window: a longer recording is heard in windows of this length, seconds; default 10, or what
            the model can hear at a time if that is less.
        hop: between the starts of windows, seconds; default half a window.

    Raises:
        UserError: the window is longer than what the model can hear, or the hop than the window.
    """

    def __init__(
        self, backend: Backend, window: float | None = None, hop: float | None = None
    ) -> None:
        self.backend = backend
        longest = backend.max_seconds
        window = min(WINDOW, longest or WINDOW) if window is None else window
        hop = window / 2 if hop is None else hop
        if window < SHORTEST or (longest is not None and window > longest):
            most = "" if longest is None else f" and at most {longest:g} s, which the model hears"
            raise UserError(f"--window {window:g}: must be at least {SHORTEST} s{most}")
        if not 0.01 <= hop <= window:
            raise UserError(f"--hop {hop:g}: must be at least 0.01 s and at most the window")
        self.window = round(window * SAMPLE_RATE)
        self.hop = round(hop * SAMPLE_RATE)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        device: str = "cpu",
        backend: str | None = None,
        window: float | None = None,
        hop: float | None = None,
    ) -> EmotionRecognizer:
        """Load a model.

        Args:
            model: an archive (``exp/packed/mtkd.zip``), an exported model (``mtkd.onnx``), the
                folder of a training (``exp/fold_1/seed_0/mtkd``) or of an unpacked archive; or, if
                there is no such path, a model on the Hugging Face hub, as ``user/name``, which is
                downloaded and kept where ``huggingface_hub`` keeps things.
            device: as torch writes it.
            backend: ``torch`` or ``onnx``; default: by the kind of file.
            window, hop: see the class.

        Raises:
            UserError: no such model, not one of this project, broken, or of a newer version.
        """
        if backend not in (None, *BACKENDS):
            raise UserError(f"--backend {backend}: must be one of {', '.join(BACKENDS)}")
        exported = Path(model).suffix == ".onnx"
        if backend == "onnx" and not exported:
            raise UserError(
                f"--backend onnx: {model} is no .onnx file; make one with "
                f"mtkd export --model {model}"
            )
        if exported:
            if backend == "torch" or device != "cpu":
                raise UserError(f"{model}: an exported model needs --backend onnx and --device cpu")
            from espnet_mtkd.use.onnx_backend import OnnxBackend

            return cls(OnnxBackend(model), window, hop)
        with open_model(model) as files:
            from espnet_mtkd.use.torch_backend import TorchBackend

            return cls(TorchBackend(files, device), window, hop)

    @property
    def emotions(self) -> list[str]:
        """The label set."""
        return self.backend.emotions

    @property
    def languages(self) -> list[str] | None:
        """The languages that the model can tell; None if it cannot."""
        return self.backend.languages

    @property
    def temperature(self) -> float | None:
        """By which logits are divided; None if the model was never calibrated."""
        return self.backend.temperature

    def __call__(self, speech: str | Path | np.ndarray, rate: float = SAMPLE_RATE) -> Prediction:
        """Recognise one recording.

        Args:
            speech: an audio file that libsndfile reads, or samples (Samples,) in -1..1.
            rate: sampling rate of samples, Hz; default 16000.

        Raises:
            UserError: it is not readable, not finite, digital silence, or shorter than 0.1 s.
        """
        (outcome,) = self.predict([speech], rate=rate)
        if isinstance(outcome, UserError):
            raise outcome
        return outcome

    def predict(
        self,
        recordings: Iterable[str | Path | np.ndarray],
        batch_size: int = 8,
        rate: float = SAMPLE_RATE,
    ) -> Iterator[Prediction | UserError]:
        """Recognise many recordings, in their order; one that cannot be used yields its error.

        Windows of equal length are run together; what is in a batch does not change the result.
        Memory is bounded whatever the number and length of the recordings.

        Args:
            recordings: files, or samples (Samples,) in -1..1.
            batch_size: windows at a time.
            rate: sampling rate of samples, Hz.
        """
        if batch_size < 1:
            raise UserError(f"--batch_size {batch_size}: must be at least 1")
        queue: deque[_Recording] = deque()
        pool: list[tuple[_Recording, int, int, np.ndarray]] = []
        for speech in recordings:
            recording = _Recording()
            queue.append(recording)
            try:
                for start, samples in self._windows(speech, rate):
                    pool.append((recording, recording.num_windows, start, samples))
                    recording.num_windows += 1
                    if len(pool) == _READ_AHEAD * batch_size:
                        self._run(pool, batch_size)
                        pool = []
                recording.is_read = True
            except UserError as error:
                recording.error = error
            while queue and queue[0].is_done():
                yield self._outcome(queue.popleft())
        self._run(pool, batch_size)
        yield from map(self._outcome, queue)

    def _windows(
        self, speech: str | Path | np.ndarray, rate: float
    ) -> Iterator[tuple[int, np.ndarray]]:
        if isinstance(speech, np.ndarray):
            if speech.ndim != 1 or not np.issubdtype(speech.dtype, np.floating):
                raise UserError("samples must be a vector of floats in -1..1")
            if not rate > 0:
                raise UserError(f"samples at {rate} Hz: the rate must be above 0")
            blocks, name = resampled([speech.astype(np.float32)], rate), "samples"
        else:
            blocks, name = read_blocks(speech), str(speech)
        heard = False
        for start, samples in windows(blocks, self.window, self.hop, name):
            heard = heard or np.ptp(samples) > 0
            yield start, samples
        if not heard:
            raise UserError(f"{name}: silent: all samples are the same")

    def _run(self, pool: list[tuple[_Recording, int, int, np.ndarray]], batch_size: int) -> None:
        """Give every window of the pool to its recording; equal lengths share a batch."""
        by_length: dict[int, list[tuple[_Recording, int, int, np.ndarray]]] = {}
        for item in pool:
            by_length.setdefault(len(item[3]), []).append(item)
        for length in sorted(by_length):
            items = by_length[length]
            for first in range(0, len(items), batch_size):
                batch = items[first : first + batch_size]
                logits, language_logits = self.backend(np.stack([item[3] for item in batch]))
                rows = _softmax(logits / (self.temperature or 1.0))
                heard = None if language_logits is None else _softmax(language_logits)
                for i, (recording, number, start, samples) in enumerate(batch):
                    if not np.isfinite(rows[i]).all():
                        recording.error = UserError("the model has no finite answer for it")
                        continue
                    recording.segments[number] = Segment(
                        start / SAMPLE_RATE,
                        (start + len(samples)) / SAMPLE_RATE,
                        _named(self.emotions, rows[i]),
                        None if heard is None else _named(self.languages, heard[i]),
                    )

    @staticmethod
    def _outcome(recording: _Recording) -> Prediction | UserError:
        if recording.error is not None:
            return recording.error
        timeline = tuple(recording.segments[i] for i in range(recording.num_windows))
        languages = None
        if timeline[0].languages is not None:
            languages = _mean([segment.languages for segment in timeline])
        return Prediction(
            0.0, timeline[-1].end, _mean([s.probabilities for s in timeline]), languages, timeline
        )


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _named(names: list[str] | None, values: np.ndarray) -> dict[str, float]:
    return dict(zip(names or [], values.tolist(), strict=True))


def _mean(tables: list[dict[str, float]]) -> dict[str, float]:
    return {name: sum(table[name] for table in tables) / len(tables) for name in tables[0]}


def _rounded(table: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in table.items()}
