"""What stage 2 costs: per hour of audio beside librosa (and sox, where it is installed), per file.

    OMP_NUM_THREADS=1 python benchmarks/audio_format.py [--minutes 10] [--files 1000 20000]

Makes its audio on the spot, in a temporary folder that is removed, and runs one process, so that
the ratios do not depend on the number of cores. Every tool reads the same stereo 44.1 kHz files and
writes mono 16 kHz 16 bit FLAC. Stage 2 does more beside: checks, the hash and the fingerprint; a
second line shows it without writing, for files that are right already.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import soundfile

from espnet_mtkd.data.audio import Form, format_corpus, format_utterance
from espnet_mtkd.data.datadir import DataDir

SECONDS = 4.0  # of an utterance


def make(folder: Path, number: int, seconds: float, rate: int, channels: int) -> list[Path]:
    """Write ``number`` files of noise whose level rises and falls like that of speech."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    size = round(seconds * rate)
    level = 0.1 * (1.1 + np.sin(2 * np.pi * 4 * np.arange(size) / rate))
    paths = []
    for index in range(number):
        noise = rng.standard_normal((size, channels)).astype(np.float32)
        paths.append(folder / f"{index:06d}.wav")
        soundfile.write(paths[-1], np.clip(noise * level[:, None], -1, 1), rate)
    return paths


def timed(work: Callable[[], object]) -> float:
    """Seconds that ``work`` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def with_librosa(source: Path, target: Path) -> None:
    """What one would write by hand."""
    samples, _ = librosa.load(source, sr=16000, mono=True)
    soundfile.write(target, samples, 16000, format="FLAC", subtype="PCM_16")


def with_sox(source: Path, target: Path) -> None:
    """One process a file, as in a Kaldi recipe."""
    command = ["sox", str(source), "-r", "16000", "-c", "1", "-b", "16", str(target)]
    subprocess.run(command, check=True)


def per_hour(folder: Path, minutes: float) -> None:
    """Compare the tools on the same files, file by file in turn."""
    paths = make(folder / "in", round(minutes * 60 / SECONDS), SECONDS, 44100, 2)
    ready = make(folder / "ready", len(paths), SECONDS, 16000, 1)
    (folder / "librosa").mkdir()
    (folder / "sox").mkdir()
    tools: dict[str, Callable[[int], object]] = {
        "stage 2": lambda n: format_utterance(f"u_{n}", str(paths[n]), folder / "out", Form()),
        "stage 2, nothing to convert": lambda n: format_utterance(
            f"u_{n}", str(ready[n]), folder / "out", Form()
        ),
        "librosa": lambda n: with_librosa(paths[n], folder / "librosa" / f"{n}.flac"),
    }
    if shutil.which("sox"):
        tools["sox"] = lambda n: with_sox(paths[n], folder / "sox" / f"{n}.flac")
    spent = dict.fromkeys(tools, 0.0)
    for name in tools:
        tools[name](0)  # the first call imports and plans
    for number in range(len(paths)):
        for name in tools:
            spent[name] += timed(lambda name=name, number=number: tools[name](number))
    hours = len(paths) * SECONDS / 3600
    print(f"\n{hours:.2f} h in files of {SECONDS:.0f} s, 44.1 kHz stereo, one process:\n")
    print("| tool | s per hour of audio | of librosa |\n| --- | ---: | ---: |")
    for name, seconds in spent.items():
        print(f"| {name} | {seconds / hours:.1f} | {seconds / spent['librosa']:.2f} |")


def per_file(folder: Path, counts: list[int]) -> None:
    """Compare corpora of different sizes: the cost of a file must not grow with their number."""
    # The smaller corpora are the beginning of the largest one.
    paths = make(folder / "many", max(counts), 0.3, 8000, 1)
    print("\nFiles of 0.3 s at 8 kHz, all converted, data directory included, one process:\n")
    print("| files | ms per file | of the first line |\n| ---: | ---: | ---: |")
    first = 0.0
    for count in counts:
        data = DataDir()
        for path in paths[:count]:
            utt = f"toy_a_{path.stem}"
            data.wav_scp[utt] = str(path)
            data.utt2spk[utt], data.utt2lang[utt] = "toy_a", "en"
            data.utt2emotion[utt], data.utt2corpus[utt] = "joy", "toy"
        with contextlib.redirect_stderr(io.StringIO()):
            seconds = timed(lambda d=data, n=count: format_corpus(d, folder / f"out{n}"))
        cost = 1000 * seconds / count
        first = first or cost
        print(f"| {count} | {cost:.2f} | {cost / first:.2f} |", flush=True)


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="audio for the comparison")
    parser.add_argument("--files", type=int, nargs="+", default=[1000, 20000])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        per_hour(Path(folder) / "hours", args.minutes)
        per_file(Path(folder) / "files", args.files)


if __name__ == "__main__":
    main()
