"""Use a trained model: from a recording to emotions.

>>> from espnet_mtkd import EmotionRecognizer  # doctest: +SKIP
>>> EmotionRecognizer.from_pretrained("exp/packed/mtkd.zip")("speech.wav")  # doctest: +SKIP
{'anger': 0.91, 'happiness': 0.05, 'neutral': 0.03, 'sadness': 0.01}
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from espnet2.main_funcs.pack_funcs import unpack

from espnet_mtkd.errors import UserError
from espnet_mtkd.models.ser_model import SAMPLE_RATE, ESPnetSERModel
from espnet_mtkd.tasks.inference import load_model


class EmotionRecognizer:
    """A teacher or student that takes recordings.

    Args:
        model: from :func:`~espnet_mtkd.tasks.inference.load_model`.
    """

    def __init__(self, model: ESPnetSERModel) -> None:
        self.model = model.eval()

    @staticmethod
    def from_pretrained(path: str | Path, device: str = "cpu") -> EmotionRecognizer:
        """Load an archive of stage 12 or the folder of a training.

        Args:
            path: ``exp/packed/mtkd.zip``, or ``exp/fold_1/seed_0/mtkd``.
            device: as torch writes it.

        Raises:
            UserError: the file is missing or is no archive of this project.
        """
        path = Path(path)
        if path.is_dir():
            return EmotionRecognizer(load_model(path, device=device)[0])
        if not path.is_file():
            raise UserError(f"{path}: no such archive or folder of a trained model")
        folder = tempfile.TemporaryDirectory(prefix="espnet_mtkd_")
        try:
            files = unpack(path, folder.name)
            model, _ = load_model(files["ser_train_config"], files["ser_model_file"], device=device)
        except (KeyError, ValueError, RuntimeError, OSError) as error:
            raise UserError(f"{path}: no archive of stage 12: {error}") from None
        recognizer = EmotionRecognizer(model)
        recognizer._folder = folder  # a frozen upstream is read from it at the first recording
        return recognizer

    @torch.no_grad()
    def __call__(
        self, speech: str | Path | np.ndarray, rate: int = SAMPLE_RATE
    ) -> dict[str, float]:
        """Return the probability of every emotion.

        Args:
            speech: an audio file that libsndfile reads, or samples (Samples,) in -1..1.
            rate: sampling rate of samples, Hz; default 16000.
        """
        if isinstance(speech, (str, Path)):
            try:
                speech, rate = soundfile.read(speech, dtype="float32", always_2d=True)
            except (OSError, soundfile.SoundFileError) as error:
                raise UserError(f"{error}") from None
            speech = speech.mean(1)
        samples = np.asarray(speech, dtype=np.float32)
        if samples.ndim != 1 or not len(samples) or not np.isfinite(samples).all():
            raise UserError("speech must be a vector of finite samples, and not an empty one")
        if rate != SAMPLE_RATE:
            samples = soxr.resample(samples, rate, SAMPLE_RATE, quality="HQ")
        device = self.model.confusion.device
        batch = torch.from_numpy(samples)[None].to(device)
        logits = self.model.logits(batch, torch.tensor([batch.shape[1]], device=device))[0]
        return dict(zip(self.model.emotions, logits.softmax(-1).tolist(), strict=True))
