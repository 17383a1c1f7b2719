"""Throughput of prediction, against a plain loop over transformers' pipeline; what int8 costs.

    python benchmarks/prediction.py --model exp/packed/mtkd.zip --encoder /models/whisper-base \
        --data_dir dump/folds/.../fold_1/test

The model must have been trained on the encoder, a Hugging Face folder of Whisper. All ways take
turns on pieces of the utterances, so that a busy machine slows all of them; ratios of CPU time are
printed too, which a busy machine changes less. The pipeline has the
same encoder; its weighted sum of the layers and its linear head are fresh. It pads to 30 s, as its
feature extractor does. UAR is of all utterances of the data directory, the mean over languages.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import (
    AutoFeatureExtractor,
    WhisperConfig,
    WhisperForAudioClassification,
    pipeline,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from espnet_mtkd import EmotionRecognizer
from espnet_mtkd.bin import export
from espnet_mtkd.data.datadir import read_map
from espnet_mtkd.evaluate.metrics import count_confusions, uar
from espnet_mtkd.use.windows import read_blocks

PIECES = 10


def transformers_loop(folder: str, num_classes: int) -> Callable[[list[str]], None]:
    """Return a loop over the audio-classification pipeline."""
    config = WhisperConfig.from_pretrained(folder, num_labels=num_classes)
    config.use_weighted_layer_sum = True
    model = WhisperForAudioClassification(config)
    model.encoder = WhisperEncoder.from_pretrained(folder, dtype=torch.float32)
    classify = pipeline(
        "audio-classification",
        model=model.eval(),
        feature_extractor=AutoFeatureExtractor.from_pretrained(folder),
        device="cpu",
    )

    def run(paths: list[str]) -> None:
        for path in paths:
            classify({"raw": np.concatenate(list(read_blocks(path))), "sampling_rate": 16000})

    return run


def measure(ways: dict[str, Callable], paths: list[str]) -> dict[str, np.ndarray]:
    """Return the seconds of every way: by the clock, and of CPU time."""
    seconds = {name: np.zeros(2) for name in ways}
    for run in ways.values():  # what is loaded at the first call is not counted
        run(paths[:2])
    for piece in range(PIECES):
        for name, run in ways.items():
            began = np.array([time.perf_counter(), time.process_time()])
            run(paths[piece::PIECES])
            seconds[name] += np.array([time.perf_counter(), time.process_time()]) - began
    return seconds


def score(recognizer: EmotionRecognizer, data: Path) -> tuple[float, np.ndarray]:
    """Return the UAR, and the probabilities (N, C)."""
    wavs, languages = read_map(data / "wav.scp"), read_map(data / "utt2lang")
    refs = read_map(data / "utt2emotion")
    emotions = recognizer.emotions
    rows = np.array([list(p.probabilities.values()) for p in recognizer.predict(wavs.values())])
    ref = np.array([emotions.index(refs[utt]) for utt in wavs])
    names = sorted(set(languages.values()))
    group = np.array([names.index(languages[utt]) for utt in wavs])
    counts = count_confusions(ref, rows.argmax(1), group, len(names), len(emotions))
    return float(uar(counts).mean()), rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--num_utts", type=int, default=200)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        files = {"torch": Path(args.model)}
        for kind, more in (("onnx", []), ("onnx int8", ["--int8"])):
            files[kind] = Path(name) / f"{kind}.onnx"
            export.main(["--model", args.model, "--output", str(files[kind]), *more])
        sizes = {kind: path.stat().st_size / 1e6 for kind, path in files.items()}
        recognizers = {k: EmotionRecognizer.from_pretrained(path) for k, path in files.items()}
    wavs = list(read_map(args.data_dir / "wav.scp").values())
    chosen = [wavs[i] for i in np.linspace(0, len(wavs) - 1, args.num_utts).astype(int)]
    ways = {k: lambda paths, r=r: list(r.predict(paths)) for k, r in recognizers.items()}
    plain = "transformers pipeline"
    emotions = recognizers["torch"].emotions
    seconds = measure({plain: transformers_loop(args.encoder, len(emotions)), **ways}, chosen)
    heard = sum(len(block) for path in chosen for block in read_blocks(path)) / 16000
    print(f"{len(chosen)} utterances, {heard:.0f} s, {torch.get_num_threads()} threads")
    for kind, spent in seconds.items():
        size = f", {sizes[kind]:.1f} MB" if kind in sizes else ""
        clock, cpu = seconds[plain] / spent
        print(
            f"{kind}: {len(chosen) / spent[0]:.1f} utterances/s, {clock:.2f} times {plain} "
            f"({cpu:.2f} times by CPU time){size}",
            flush=True,
        )
    scores = {kind: score(recognizer, args.data_dir) for kind, recognizer in recognizers.items()}
    for kind, (value, rows) in scores.items():
        apart = np.abs(rows - scores["torch"][1]).max()
        changed = (rows.argmax(1) != scores["torch"][1].argmax(1)).sum()
        print(
            f"{kind}: UAR {100 * value:.2f} of {len(rows)} utterances; to torch: {changed} other "
            f"answers, probabilities differ by {apart:.1e} at most"
        )


if __name__ == "__main__":
    main()
