"""What the stages of the recipe need in memory and time, by the number of utterances.

    python benchmarks/memory.py --folder memory --utterances 1000 20000 [recipe's options]

A corpus of noise, 0.15 s an utterance, four emotions, 20 speakers, runs through the recipe in a
folder of its own, or a part of it (``--stop_stage 3``); the figures are those that the recipe keeps
of every job (``.stamps``): CPU time of all jobs of a stage, and the resident size of its largest
process, libraries included.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

from espnet_mtkd.stamps import costs

ROOT = Path(__file__).parents[1]
SPEAKERS = 20
OPTIONS = ["--corpora", "noise", "--systems", "ft mtkd", "--num_folds", "4", "--folds", "1"]
OPTIONS += ["--teacher_args", "--max_epoch 2", "--student_args", "--max_epoch 2", "--nj", "2"]


def make_corpus(folder: Path, number: int) -> None:
    """Write ``number`` recordings in the layout that ``local/TEMPLATE.py`` reads."""
    rng = np.random.default_rng(0)
    codes = ("rage", "joy", "plain", "grief")
    for i in range(number):
        speaker = folder / f"s{i % SPEAKERS:02d}"
        speaker.mkdir(parents=True, exist_ok=True)
        noise = rng.normal(scale=1000, size=2400).astype(np.int16)
        soundfile.write(speaker / f"{codes[i // SPEAKERS % 4]}_{i:06d}.wav", noise, 16000)


def measure(folder: Path, number: int, options: list[str]) -> dict[int, dict[str, float]]:
    """Run the recipe on a corpus of this size."""
    shutil.rmtree(folder, ignore_errors=True)
    ignored = shutil.ignore_patterns(".venv", ".git", "dump", "exp", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT, folder / "code", ignore=ignored, symlinks=True)
    shutil.copy(ROOT / "local" / "TEMPLATE.py", folder / "code" / "local" / "noise.py")
    make_corpus(folder / "corpus", number)
    env = {**os.environ, "NOISE": str(folder / "corpus"), "HF_HUB_OFFLINE": "1"}
    env.pop("PYTHONPATH", None)
    command = [folder / "code" / "run.sh", "--python", sys.executable, *OPTIONS, *options]
    with open(folder / "said.log", "wb") as said:
        subprocess.run(command, cwd=folder, env=env, stdout=said, stderr=said, check=True)
    os.chdir(folder)
    made = (p for top in ("data", "dump", "exp") for p in Path(top).glob("**/.stamps/*.json"))
    return costs(*(path.parent.parent / path.stem for path in made))


def main() -> None:
    """Print a table, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--utterances", type=int, nargs="+", default=[1000, 20000])
    args, options = parser.parse_known_args()
    root = args.folder.absolute()
    found = {n: measure(root / str(n), n, options) for n in args.utterances}
    (root / "memory.json").write_text(json.dumps(found, indent=1))
    print("| stage |" + "".join(f" {n} utt., MB | CPU s |" for n in found))
    print("| ---: |" + " ---: | ---: |" * len(found))
    for stage in sorted({stage for table in found.values() for stage in table}):
        cells = (
            f" {t[stage]['peak_memory'] / 1e6:.0f} | {t[stage]['cpu_seconds']:.1f} |"
            for t in found.values()
        )
        print(f"| {stage} |" + "".join(cells))


if __name__ == "__main__":
    main()
