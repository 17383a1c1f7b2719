"""What a large experiment takes, by what a finished one took.

    python benchmarks/scaling.py --expdir exp --data dump/raw/emodb dump/raw/urdu \
        --hours 10000 --languages 50 --folds 5 --seeds 3 --systems 2

Reads from ``results.json`` the CPU seconds that the stages took, divides them by hours of audio and
(trainings, logits, predictions) by models, and multiplies by those of the large experiment. Costs
that do not grow with the audio (loading libraries) are not taken out: an upper bound.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from espnet_mtkd.data.datadir import DataDir

STAGES = {
    1: "data directories",
    2: "audio, checked",
    3: "folds and audit",
    4: "features",
    5: "teachers",
    6: "their logits",
    7: "students",
    8: "predictions",
}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--expdir", type=Path, default=Path("exp"))
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="Output of stage 2")
    parser.add_argument("--hours", type=float, default=10000)
    parser.add_argument("--languages", type=int, default=50)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--systems", type=int, default=2, help="Students")
    args = parser.parse_args()
    hours = sum(DataDir.load(folder).hours for folder in args.data)
    results = json.loads((args.expdir / "results.json").read_text(encoding="utf-8"))
    known = results["experiment"]
    runs = len(known["folds"]) * len(known["seeds"])
    large = args.folds * args.seeds
    students, teachers = len(known["systems"]), len(known["languages"])
    # How often the whole audio is gone through, then and now. All teachers together see it once.
    passes = {
        5: (runs, large),
        6: (runs * teachers, large * args.languages),
        7: (runs * students, large * args.systems),
        8: (runs * (students + teachers), large * (args.systems + args.languages)),
    }
    print(
        f"{hours:.2f} h measured, for {args.hours:g} h, {args.languages} languages, {large} runs:\n"
    )
    print("| stage | CPU s per hour of audio | passes | CPU hours | peak memory now (MB) |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for stage, cost in sorted((int(stage), cost) for stage, cost in results["costs"].items()):
        then, now = passes.get(stage, (1, 1))
        each = cost["cpu_seconds"] / hours / then
        total = each * args.hours * now / 3600
        cells = [f"{stage} {STAGES[stage]}", f"{each:.1f}", str(now), f"{total:.0f}"]
        print(f"| {' | '.join(cells)} | {cost['peak_memory'] / 1e6:.0f} |")


if __name__ == "__main__":
    main()
