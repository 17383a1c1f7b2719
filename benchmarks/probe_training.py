"""What an epoch of a probe costs from stored features, against recomputing the upstream.

    python benchmarks/probe_training.py UPSTREAM CHECKPOINT FOLDER_OF_AUDIO [--num 60]

S3PRL's downstream training runs the frozen upstream on every batch of every epoch. Both loops train
the same probe (all layers weighted, mean pooling, a head with one hidden layer) with batches of 16
utterances on one thread; labels are made up, since only time is measured. Prints the ratio.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from espnet_mtkd.models.pooling import MeanPooling
from espnet_mtkd.models.upstream import load_upstream
from espnet_mtkd.tasks.extraction import read_speech
from espnet_mtkd.tasks.probe import Examples, ProbeOptions, train_probe
from espnet_mtkd.tasks.probe import Probe as ProbeModel

BATCH = 16


def pooled(upstream: torch.nn.Module, wavs: list[torch.Tensor]) -> torch.Tensor:
    """Return the pooled layers (Batch, Layers, D), as S3PRL's runner computes them."""
    lengths = torch.tensor([len(wav) for wav in wavs])
    with torch.no_grad():
        speech = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
        states, frames = upstream(speech, lengths)
    return torch.stack([MeanPooling()(h, n) for h, n in zip(states, frames, strict=True)], dim=1)


def recomputing(
    upstream: torch.nn.Module, paths: list[str], emotions: torch.Tensor, probe: ProbeModel
) -> float:
    """Seconds of an epoch that reads the audio and runs the upstream."""
    optimizer = torch.optim.AdamW(probe.parameters(), lr=1e-3)
    probe.train()
    start = time.monotonic()
    for rows in torch.randperm(len(paths)).split(BATCH):
        optimizer.zero_grad()
        logits = probe(pooled(upstream, [read_speech(paths[i]) for i in rows]))
        F.cross_entropy(logits, emotions[rows]).backward()
        optimizer.step()
    return time.monotonic() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("upstream")
    parser.add_argument("checkpoint")
    parser.add_argument("audio", type=Path)
    parser.add_argument("--num", type=int, default=60, help="utterances")
    parser.add_argument("--epochs", type=int, default=50, help="epochs from stored features")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = sorted(p for p in options.audio.rglob("*") if p.suffix in (".wav", ".flac"))
    paths = [str(p) for p in found[:: max(1, len(found) // options.num)]][: options.num]
    upstream = load_upstream(options.upstream, options.checkpoint).eval()
    emotions = torch.arange(len(paths)) % 4
    start = time.monotonic()
    features = torch.cat([pooled(upstream, [read_speech(path)]) for path in paths])
    once = time.monotonic() - start
    probe_options = ProbeOptions(batch_size=BATCH, max_epoch=options.epochs)
    nothing = Examples(features[:0], emotions[:0])
    start = time.monotonic()
    probe, _ = train_probe(Examples(features, emotions), nothing, 4, probe_options, seed=0)
    stored = (time.monotonic() - start) / options.epochs
    again = min(recomputing(upstream, paths, emotions, probe) for _ in range(2))
    print(f"{len(paths)} utterances; extraction, once: {once:.1f} s")
    print(f"an epoch from stored features: {1000 * stored:.1f} ms")
    print(
        f"an epoch with the upstream recomputed: {again:.1f} s, {again / stored:.0f} times as long"
    )


if __name__ == "__main__":
    main()
