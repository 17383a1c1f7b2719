"""How fast features are stored, against S3PRL one utterance at a time; prints ratios of one run.

    python benchmarks/extraction.py UPSTREAM CHECKPOINT FOLDER_OF_AUDIO [--num 60] [--nj 2]

FOLDER_OF_AUDIO is searched for 16 kHz mono WAV or FLAC. S3PRL is run as its documentation shows it,
with torch's own choice of threads and with one; the project with ``--nj`` processes. All see the
same utterances, in turns, so that what else the machine does meets all of them. Then memory: the
peak of an extraction of a quarter of the utterances, and of all of them, in processes of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from espnet_mtkd.data.datadir import write_map
from espnet_mtkd.models.pooling import MeanPooling
from espnet_mtkd.models.upstream import Upstream, load_upstream
from espnet_mtkd.tasks.extraction import FeatureStore, read_recordings, read_speech


def s3prl_seconds(upstream: torch.nn.Module, paths: list[str], threads: int) -> float:
    """Seconds that S3PRL takes for the means of all layers, an utterance at a time."""
    torch.set_num_threads(threads)
    start = time.monotonic()
    with torch.no_grad():
        for path in paths:
            wav = read_speech(path)
            states, _ = upstream(wav[None], torch.tensor([len(wav)]))
            torch.stack([h[0].mean(0) for h in states]).numpy()
    return time.monotonic() - start


def own_seconds(upstream: Upstream, recordings: list, nj: int) -> float:
    """Seconds that the project takes, with writing the store."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        FeatureStore(folder).add(upstream, MeanPooling(), recordings, nj)
        return time.monotonic() - start


def peak_memory(options: argparse.Namespace, paths: list[str]) -> float:
    """Peak memory in MB of a process that extracts the features of ``paths``."""
    with tempfile.TemporaryDirectory() as folder:
        write_map(Path(folder) / "wav.scp", {f"u{i:05d}": p for i, p in enumerate(paths)})
        command = [sys.executable, "-m", "espnet_mtkd.bin.extract_features", "--data_dir", folder]
        command += ["--output_dir", f"{folder}/out", "--upstream", options.upstream]
        command += ["--upstream_path", options.checkpoint]
        subprocess.run(command, check=True, capture_output=True)
        costs = json.loads((Path(folder) / "out" / "costs.json").read_text(encoding="utf-8"))
    return costs["peak_memory"] / 1e6


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
    theirs = load_upstream(options.upstream, options.checkpoint).eval()
    ours = Upstream(options.upstream, options.checkpoint)
    # First the processes: a fork after threads have run would have none.
    rounds: dict[str, list[float]] = {"own": [], "one thread": [], "all threads": []}
    for _ in range(options.rounds):
        rounds["own"].append(own_seconds(ours, recordings, options.nj))
        rounds["one thread"].append(s3prl_seconds(theirs, paths, 1))
    for _ in range(options.rounds):
        rounds["all threads"].append(s3prl_seconds(theirs, paths, os.cpu_count() or 1))
    best = {name: min(seconds) for name, seconds in rounds.items()}
    speech = sum(r.samples for r in recordings) / 16000
    print(f"{len(paths)} utterances, {speech:.0f} s of speech, best of {options.rounds} rounds")
    print(f"this project, {options.nj} processes: {best['own']:.1f} s")
    for name in ("one thread", "all threads"):
        ratio = best[name] / best["own"]
        print(
            f"S3PRL an utterance at a time, {name}: {best[name]:.1f} s, {ratio:.2f} times as long"
        )
    # Memory is that of the longest utterance: it is in both.
    order = [r.path for r in sorted(recordings, key=lambda r: -r.samples)]
    quarter, whole = (peak_memory(options, order[:n]) for n in (len(order) // 4, len(order)))
    print(f"peak memory: {quarter:.0f} MB for a quarter of them, {whole:.0f} MB for all")


if __name__ == "__main__":
    main()
