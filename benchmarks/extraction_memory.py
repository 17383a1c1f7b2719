"""What memory an extraction of features takes, by the number of utterances.

    python benchmarks/extraction_memory.py UPSTREAM [CHECKPOINT] [--nums 200 2000]

Utterances are noise of 1 to 3 s, the longest ones the same in every run. Each run is a process of
its own, with one worker; printed is the peak of its resident memory, Python and torch included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from espnet_mtkd.data.datadir import write_map
from espnet_mtkd.data.wavheader import SAMPLE_RATE


def write_noise(folder: Path, num: int) -> None:
    """Write ``num`` utterances and their index."""
    paths = {}
    for i in range(num):
        rng = np.random.default_rng(i)
        samples = SAMPLE_RATE * (3 if i < 20 else rng.uniform(1, 3))
        paths[f"u{i:06d}"] = str(folder / f"u{i:06d}.wav")
        soundfile.write(paths[f"u{i:06d}"], 0.1 * rng.normal(size=int(samples)), SAMPLE_RATE)
    write_map(folder / "wav.scp", paths)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("upstream")
    parser.add_argument("checkpoint", nargs="?")
    parser.add_argument("--nums", type=int, nargs="+", default=[200, 2000])
    options = parser.parse_args()
    for num in options.nums:
        with tempfile.TemporaryDirectory() as folder:
            write_noise(Path(folder), num)
            command = [sys.executable, "-m", "espnet_mtkd.bin.extract_features"]
            command += ["--data_dir", folder, "--output_dir", f"{folder}/out"]
            command += ["--upstream", options.upstream]
            command += ["--upstream_path", options.checkpoint] if options.checkpoint else []
            start = time.monotonic()
            subprocess.run(command, check=True, capture_output=True)
            took = time.monotonic() - start
            costs = json.loads((Path(folder) / "out" / "costs.json").read_text(encoding="utf-8"))
        peak = costs["peak_memory"] / 1e6
        print(f"{num} utterances: peak memory {peak:.0f} MB, {took:.0f} s", flush=True)


if __name__ == "__main__":
    main()
