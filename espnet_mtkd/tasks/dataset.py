"""A dataset that stays in memory: stored features are small, and every epoch wants all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from espnet2.train.dataset import ESPnetDataset


class MemoryDataset(ESPnetDataset):
    """ESPnet's dataset, which reads and preprocesses every utterance only once.

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
