"""What small students cost: parameters, seconds of a training epoch, and of a prediction.

    python benchmarks/students.py [--whisper FOLDER] [--configs conv_300k conv_1m]

Made-up speech of 3 s, an epoch of 1050 utterances in batches of 32 as in the recipe for four real
corpora, one thread. The time of an epoch is that of its steps (forward, backward, optimizer) by
the fastest of the batches that are measured; reading comes on top, about half a second with
``keep_in_memory``. Parts of Whisper (cut_300k, stem_1m,
slice_5m, slice_20m), and all of it (frozen: the
teachers of the study), need --whisper. Frozen ones train from stored features, in seconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch

from espnet_mtkd.models.ser_model import SAMPLE_RATE, ESPnetSERModel
from espnet_mtkd.systems import ROOT, read_yaml
from espnet_mtkd.tasks.ser import SERTask

UTTERANCES, SECONDS, BATCH = 1050, 3, 32
WHISPER = ["cut_300k", "stem_1m", "slice_5m", "slice_20m", "frozen"]
SMALL = ["conv_300k", "conv_1m", "conformer_5m"]


def build(name: str, whisper: str | None) -> ESPnetSERModel:
    """Return the untrained model of ``conf/train_NAME.yaml``."""
    conf: dict[str, Any] = read_yaml(ROOT / "conf" / f"train_{name}.yaml")
    if "frontend" not in conf:
        own = {"upstream": "hf_whisper_custom", "path_or_url": whisper}
        own["mode"] = "finetune" if "frontend_conf" in conf else "frozen"
        if "layers" in conf:  # as it is packed
            own.update(keep_layers=max(conf["layers"]), raw=True)
        conf["frontend_conf"] = {**conf.get("frontend_conf", {}), **own}
    parts = [f"{choices.name}_conf" for choices in SERTask.class_choices_list]
    base = dict(frontend="s3prl", pooling="mean", normalize=None, layers=None, feats_info=None)
    labels = dict(emotions=list("ahns"), languages=["de", "en", "it", "ur"])
    args = argparse.Namespace(**{**{part: {} for part in parts}, **base, **conf, **labels})
    return SERTask.build_model(args)


def fastest(function: Callable[[], Any], rounds: int) -> float:
    """Return the least processor seconds of a call; other programs do not count."""
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return min(seconds[1:])


def measure(name: str, whisper: str | None, rounds: int) -> dict[str, str]:
    """Return a row of the table."""
    model = build(name, whisper)
    speech = 0.1 * torch.randn(BATCH, SECONDS * SAMPLE_RATE)
    lengths = torch.full((BATCH,), speech.shape[1])
    labels = {key: torch.zeros(BATCH, 1, dtype=torch.long) for key in ("emotion", "language")}
    optimizer = torch.optim.AdamW(p for p in model.parameters() if p.requires_grad)

    def step() -> None:
        model(speech=speech, speech_lengths=lengths, **labels)[0].backward()
        optimizer.step()
        optimizer.zero_grad()

    @torch.no_grad()
    def predict() -> None:
        model.logits(speech[:1], lengths[:1])

    epoch = "–"
    if model.frontend.mode != "frozen":
        model.train()
        epoch = f"{fastest(step, rounds) * UTTERANCES / BATCH:.1f}"
    model.eval()
    prediction = fastest(predict, 3 * rounds)
    return {
        "student": name,
        "parameters": f"{model.count_params()['num_params']:,}",
        "s an epoch": epoch,
        "ms a prediction": f"{1000 * prediction:.1f}",
        "ms a second of speech": f"{1000 * prediction / SECONDS:.1f}",
    }


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--whisper", help="Hugging Face folder of Whisper base")
    parser.add_argument("--configs", nargs="+", help="X of conf/train_X.yaml")
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    names = options.configs or SMALL + (WHISPER if options.whisper else [])
    rows = [measure(name, options.whisper, options.rounds) for name in names]
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
