"""Seconds from typing `mtkd predict ONE.wav` to its answer, by back-end.

python benchmarks/cold_start.py --audio speech.wav exp/packed/mtkd.zip exp/packed/mtkd.onnx
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time


def main() -> None:
    """Measure and print; the first start, which fills the disk's cache, is left out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audio", required=True)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("models", nargs="+")
    args = parser.parse_args()
    seconds: dict[str, list[float]] = {model: [] for model in args.models}
    for start in range(args.starts + 1):
        for model, spent in seconds.items():
            command = ["predict", args.audio, "--model", model]
            began = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "espnet_mtkd.bin.mtkd", *command],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            if start:
                spent.append(time.perf_counter() - began)
    for model, spent in seconds.items():
        median = statistics.median(spent)
        print(f"{model}: {median:.2f} s (median; {min(spent):.2f} to {max(spent):.2f})")


if __name__ == "__main__":
    main()
