"""What a training reads: a dataset that stays in memory, and last steps before the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from espnet2.train.dataset import ESPnetDataset

from espnet_mtkd.models.encoders import ConvEncoder


class MemoryDataset(ESPnetDataset):
    """ESPnet's dataset, which reads and preprocesses every utterance only once.

    Stored features are small, and every epoch wants all of them.

    ESPnet's own ``--max_cache_size`` keeps its cache in a server process, because data loaders may
    have workers; passing a matrix of a few kilobytes through a pipe costs more than reading it.
    Meant for ``num_workers: 0``; with workers each of them fills a memory of its own.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.memory: dict[str | int, tuple[str, dict[str, np.ndarray]]] = {}

    def __getitem__(self, uid: str | int) -> tuple[str, dict[str, np.ndarray]]:
        """Return an utterance; who gets it must not change it."""
        if uid not in self.memory:
            self.memory[uid] = super().__getitem__(uid)
        return self.memory[uid]


class FilterBanks:
    """A preprocessor's last step: filter banks (Frames, 80) in place of a waveform (Samples,).

    What is kept in memory is then half as large and ready for the encoder, which would compute the
    same in every epoch: a third of the training of a small student.

    Args:
        preprocess: what comes before.
        max_samples: what comes later is not heard; None: all of it.
    """

    def __init__(self, preprocess: Callable, max_samples: int | None) -> None:
        self.preprocess = preprocess
        self.max_samples = max_samples
        self.encoder = ConvEncoder()

    def __call__(self, uid: str, data: dict[str, Any]) -> dict[str, np.ndarray]:
        """Preprocess an utterance."""
        data = self.preprocess(uid, data)
        speech = torch.from_numpy(data["speech"][: self.max_samples]).float()
        banks, _ = self.encoder.features(speech[None], torch.tensor([len(speech)]))
        return {**data, "speech": banks[0].numpy()}


class MeanHints:
    """A preprocessor's last step: one hint for each of the encoder's frames, where there are hints.

    Args:
        preprocess: what comes before.
        frames: of the upstream that are averaged to one.
    """

    def __init__(self, preprocess: Callable, frames: int) -> None:
        self.preprocess = preprocess
        self.frames = frames

    def __call__(self, uid: str, data: dict[str, Any]) -> dict[str, np.ndarray]:
        """Preprocess an utterance; frames that do not fill a hint make a last one."""
        data = self.preprocess(uid, data)
        if "hint" not in data:
            return data
        starts = np.arange(0, len(data["hint"]), self.frames)
        sums = np.add.reduceat(data["hint"], starts, axis=0)
        counts = np.minimum(self.frames, len(data["hint"]) - starts)
        return {**data, "hint": (sums / counts[:, None]).astype(np.float32)}
