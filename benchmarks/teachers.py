"""What teachers cost: seconds of a training step with 0, 1, 3 and 10 teachers, cached and live.

    python benchmarks/teachers.py

Stored features of the size of Whisper base (7 layers of 512), batches of 32, one thread. Every
setting is measured in turn, round after round in one process, and given as a ratio to the student
without teachers, since times of a shared machine drift.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from espnet_mtkd.distill.loss import MultiTeacherLoss
from espnet_mtkd.distill.weighting import Cosine
from espnet_mtkd.models.head import MLPHead
from espnet_mtkd.models.layers import LayerWeighting, Standardize
from espnet_mtkd.models.mtkd_model import ESPnetMTKDModel
from espnet_mtkd.models.pooling import MeanPooling
from espnet_mtkd.models.ser_model import ESPnetSERModel
from espnet_mtkd.models.upstream import Upstream

LAYERS, SIZE, BATCH, EMOTIONS, LANGUAGES = 7, 512, 32, list("ahns"), ["de", "en", "it", "ur"]
ROUNDS, STEPS = 15, 20


def parts() -> dict:
    """The parts of a classifier on stored features; its upstream is never loaded."""
    frontend = Upstream("fbank_no_cmvn", num_layers=LAYERS, hidden_size=SIZE, num_params=0)
    return dict(
        emotions=EMOTIONS,
        languages=LANGUAGES,
        frontend=frontend,
        pooling=MeanPooling(),
        normalize=Standardize((LAYERS, SIZE)),
        layer_weighting=LayerWeighting(LAYERS),
        head=MLPHead(SIZE, len(EMOTIONS)),
    )


def step_of(teachers: int, live: bool) -> Callable[[], None]:
    """Return a training step of a student with ``teachers`` teachers."""
    batch = dict(
        speech=torch.randn(BATCH, LAYERS, SIZE),
        speech_lengths=torch.full((BATCH,), LAYERS),
        emotion=torch.randint(len(EMOTIONS), (BATCH, 1)),
        language=torch.randint(len(LANGUAGES), (BATCH, 1)),
    )
    if teachers == 0:
        model: ESPnetSERModel = ESPnetSERModel(**parts())
    else:
        names = [(f"teacher_{k}", LANGUAGES[k % len(LANGUAGES)]) for k in range(teachers)]
        model = ESPnetMTKDModel(
            teachers=[name for name, _ in names],
            weighting=Cosine(names, LANGUAGES),
            distill_loss=MultiTeacherLoss(),
            live_teachers=[ESPnetSERModel(**parts()) for _ in names] if live else None,
            **parts(),
        )
        if not live:
            batch["teacher_logits"] = torch.randn(BATCH, teachers, len(EMOTIONS))
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> None:
        loss, *_ = model(**batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def main() -> None:
    """Measure and print a table."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    settings = [(0, False), (1, False), (3, False), (10, False), (1, True), (3, True), (10, True)]
    steps = {setting: step_of(*setting) for setting in settings}
    seconds: dict[tuple[int, bool], list[float]] = {setting: [] for setting in settings}
    for _ in range(ROUNDS):
        for setting, step in steps.items():
            start = time.perf_counter()
            for _ in range(STEPS):
                step()
            seconds[setting].append((time.perf_counter() - start) / STEPS)
    alone = np.array(seconds[settings[0]])
    rows = []
    for (teachers, live), values in seconds.items():
        ratios = np.array(values) / alone
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        kind = "-" if teachers == 0 else "live" if live else "cached"
        rows.append(
            {
                "teachers": teachers,
                "kind": kind,
                "ms a step (median)": f"{1000 * np.median(values):.2f}",
                "ratio (median)": f"{middle:.2f}",
                "quartiles": f"{low:.2f} to {high:.2f}",
            }
        )
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
