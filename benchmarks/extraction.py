"""How fast features are stored, against S3PRL one utterance at a time; prints ratios of one run.

    python benchmarks/extraction.py UPSTREAM CHECKPOINT FOLDER_OF_AUDIO [--num 60] [--nj 2]

FOLDER_OF_AUDIO is searched for 16 kHz mono WAV or FLAC. S3PRL is run as its documentation shows it,
with torch's own choice of threads and with one; the project with ``--nj`` processes, in float32 and
in bfloat16. All see the same utterances, in turns, so that what else the machine does meets all of
them, and all are ready when the clock starts: loaded, for the project also packed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from espnet_mtkd.data.datadir import write_map
from espnet_mtkd.data.wavheader import SAMPLE_RATE
from espnet_mtkd.models.packing import limit_caches
from espnet_mtkd.models.pooling import MeanPooling
from espnet_mtkd.models.upstream import Upstream, load_upstream
from espnet_mtkd.tasks.extraction import FeatureStore, read_recordings, read_speech


def s3prl(upstream: torch.nn.Module, paths: list[str], threads: int) -> None:
    """Compute the means of all layers as S3PRL does, an utterance at a time."""
    torch.set_num_threads(threads)
    with torch.no_grad():
        for path in paths:
            wav = read_speech(path)
            states, _ = upstream(wav[None], torch.tensor([len(wav)]))
            torch.stack([h[0].mean(0) for h in states]).numpy()


def own(upstream: Upstream, recordings: list, nj: int, bits: int) -> None:
    """Compute and store them as the project does."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        FeatureStore(folder, bits).add(upstream, MeanPooling(), recordings, nj)


def seconds(work: Callable[[], None]) -> float:
    """Seconds that ``work`` takes in a process of its own: this one never has threads to fork."""
    process = multiprocessing.get_context("fork").Process(target=work)
    start = time.monotonic()
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError("a measurement failed; its traceback is above")
    return time.monotonic() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("upstream")
    parser.add_argument("checkpoint")
    parser.add_argument("audio", type=Path)
    parser.add_argument("--num", type=int, default=60, help="utterances")
    parser.add_argument("--nj", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found = sorted(p for p in options.audio.rglob("*") if p.suffix in (".wav", ".flac"))
    paths = [str(p.absolute()) for p in found[:: max(1, len(found) // options.num)]][: options.num]
    with tempfile.TemporaryDirectory() as folder:
        write_map(Path(folder) / "wav.scp", {f"u{i:05d}": p for i, p in enumerate(paths)})
        recordings = list(read_recordings(folder).values())
    limit_caches()
    torch.set_num_threads(1)
    theirs = load_upstream(options.upstream, options.checkpoint).eval()
    ours = {bits: Upstream(options.upstream, options.checkpoint) for bits in (32, 16)}
    for bits, upstream in ours.items():
        upstream.pack(bits)
    cores = os.cpu_count() or 1
    ways = {
        "this project": lambda: own(ours[32], recordings, options.nj, 32),
        "this project, --feats_bits 16": lambda: own(ours[16], recordings, options.nj, 16),
        "S3PRL, one thread": lambda: s3prl(theirs, paths, 1),
        f"S3PRL, {cores} threads": lambda: s3prl(theirs, paths, cores),
    }
    rounds = [{name: seconds(way) for name, way in ways.items()} for _ in range(options.rounds)]
    speech = sum(r.samples for r in recordings) / SAMPLE_RATE
    print(f"{len(paths)} utterances, {speech:.0f} s of speech, best of {options.rounds} rounds")
    best = {name: min(r[name] for r in rounds) for name in ways}
    for name in ways:
        ratio = best[name] / best["this project"]
        ratios = [r[name] / r["this project"] for r in rounds]
        print(
            f"{name}: {best[name]:.1f} s, {ratio:.2f} times as long as this project "
            f"(median of the rounds' ratios {statistics.median(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
