"""Kill the recipe at random moments, start it again, and compare with an undisturbed run.

    python test/trust/kill_harness.py --folder kills --kills 100

Every round starts in an empty folder. For each stage the command is started again and again, and at
a random moment of that stage all of its processes, or a random one of them, get SIGKILL. At the end
of a round the command runs to its end, and all that it made must be what the undisturbed run made,
byte for byte, apart from what :func:`differences` says. ``kills.log`` has a line for each kill.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
STAGES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12)
TINY = [
    *("--local_data_opts", "--num_voices 6 --num_utts 1"),
    *("--num_folds", "3", "--folds", "1", "--nj", "2"),
    *("--teacher_args", "--max_epoch 4", "--student_args", "--max_epoch 4"),
]
TEMPORARY = re.compile(r"\..+\.[\w-]+-\d+(\.\w+)?")  # left by a killed process; never read
TIMES = re.compile(r"time|seconds|memory|date")  # keys of what no two runs have in common


class Recipe:
    """The recipe from a copy of the code, run in ``folder/run`` again and again."""

    def __init__(self, folder: Path, python: str, options: Sequence[str]) -> None:
        self.folder, self.run = folder, folder / "run"
        self.code = folder / "code"
        if not self.code.exists():
            ignored = shutil.ignore_patterns(
                *(".venv", ".git", "dump", "exp", "__pycache__", "downloads", "*.egg-info")
            )
            shutil.copytree(ROOT, self.code, ignore=ignored, symlinks=True)
        self.command = [str(self.code / "run.sh"), "--python", python, *options]
        self.env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        self.env.pop("PYTHONPATH", None)

    def start(self, *more: str) -> subprocess.Popen:
        """Start the command in a process group of its own; what it says is in ``said``."""
        self.run.mkdir(exist_ok=True)
        self.said, self.started = self.folder / "said.log", time.time()
        with open(self.said, "wb") as said:
            return subprocess.Popen(
                [*self.command, *more],
                cwd=self.run,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def working(self) -> bool:
        """Whether a job of the command that runs has begun, which opens its log."""
        logs = (path for top in ("data", "dump", "exp") for path in _logs(self.run / top))
        return any(path.stat().st_mtime >= self.started for path in logs)

    def wait_for(self, process: subprocess.Popen, text: str) -> None:
        """Wait until it has said ``text`` or has ended."""
        while text not in self.said.read_text(errors="replace") and not _ended(process, 0.1):
            pass

    def wait_for_work(self, process: subprocess.Popen, stage: int) -> None:
        """Wait until a job of the stage has begun or the command has ended."""
        self.wait_for(process, f"stage {stage}: ")
        self.started = time.time()
        while not self.working() and not _ended(process, 0.03):
            pass

    def durations(self, stages: Sequence[int]) -> dict[int, tuple[float, float]]:
        """Run to the end; return for each stage the seconds before its first job and after it.

        Raises:
            RuntimeError: the recipe failed.
        """
        seconds = {}
        for stage in stages:
            start = time.monotonic()
            process = self.start("--stage", str(stage), "--stop_stage", str(stage))
            self.wait_for_work(process, stage)
            begun = time.monotonic()
            if process.wait() != 0:
                raise RuntimeError(self.said.read_text())
            seconds[stage] = (begun - start, time.monotonic() - begun)
        return seconds

    def leftovers(self, group: int) -> list[str]:
        """Return the processes of a killed run that still live after some seconds."""
        end = time.monotonic() + 10
        while (alive := members(group)) and time.monotonic() < end:
            time.sleep(0.2)
        for pid, _ in alive:
            os.kill(pid, signal.SIGKILL)
        return [f"{pid} {name}" for pid, name in alive]


def _ended(process: subprocess.Popen, seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _logs(folder: Path) -> Iterator[Path]:
    for path, folders, files in os.walk(folder):
        if "audio" in folders:  # many files, no log
            folders.remove("audio")
        if Path(path).name == "log":
            yield from (Path(path) / name for name in files)


def members(group: int) -> list[tuple[int, str]]:
    """Return id and command of the living processes of a process group."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, _, pgrp = status.rpartition(")")[2].split()[:3]
        if int(pgrp) == group and state not in "ZX":
            found.append((int(folder.name), command[:80]))
    return found


def kill(process: subprocess.Popen, rng: random.Random, single: bool) -> str:
    """Send SIGKILL to a process group or to one of it, and return what was hit."""
    alive = members(process.pid)
    if single and alive:
        victim, name = rng.choice(alive)
        os.kill(victim, signal.SIGKILL)
        end = time.monotonic() + 600  # the others end by themselves, or go on to the end
        while members(process.pid) and time.monotonic() < end:
            time.sleep(0.2)
        return f"one: {name}"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return f"all {len(alive)}"


# ---- comparison ------------------------------------------------------------------------------


def differences(one: Path, other: Path) -> list[str]:
    """Return the files that differ between two runs.

    Not compared, since no two runs have them in common: logs and locks; costs (CPU time and memory
    of the extraction); lists of hashes, which hash such files. Times, dates and the command as it
    was typed (with its ``--stop_stage``) are left out of the comparison of stamps, results,
    histories, checkpoints (whose reporter has the time of every epoch) and of the archive's card;
    all else in them is compared. All other files are compared byte for byte.
    """
    left, right = (dict(_files(folder)) for folder in (one, other))
    found = [f"{name}: only in one" for name in sorted(left.keys() ^ right.keys())]
    for name in sorted(left.keys() & right.keys()):
        content = _content(name)
        same = left[name].read_bytes() == right[name].read_bytes()
        if not same and content is not None:
            same = content(left[name]) == content(right[name])
        if not same:
            found.append(f"{name}: differs")
    return found


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        costs = path.name == "costs.json" or (".store" in name and path.suffix == ".json")
        printed = path.parent.name == "log" or path.suffix in (".lock", ".sha256")
        if path.is_file() and not (costs or printed or TEMPORARY.fullmatch(path.name)):
            yield name, path


def _content(name: str) -> Callable[[Path], Any] | None:
    """Return how to read what counts of a file that has times in it; None: all of it counts."""
    if name.endswith("checkpoint.pth"):
        return _checkpoint
    if ".stamps" in name or name.endswith((".json",)):
        return lambda path: _without_times(json.loads(path.read_text()))
    if name.endswith((".md", ".html")):
        return lambda path: _plain(path.read_text())
    return _archive if name.endswith(".zip") else None


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        hashes = ("outputs", "read")  # of lists of files that have times in them
        kept = {k: v for k, v in value.items() if not TIMES.search(str(k)) and k not in hashes}
        if isinstance(kept.get("command"), str):  # as it was typed, with its --stop_stage
            del kept["command"]
        return {key: _without_times(v) for key, v in kept.items()}
    return [_without_times(v) for v in value] if isinstance(value, list) else value


def _plain(text: str) -> str:
    """Blank the date, the command as it was typed and the column of the training times."""
    text = re.sub(r"\./run\.sh [^`<]*", "COMMAND", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d \w+", "DATE", text)
    text = re.sub(r"\| [\d.]+ \|$", "| SECONDS |", text, flags=re.MULTILINE)
    return re.sub(r"<td[^>]*>[\d.]+</td></tr>", "SECONDS", text)


def _checkpoint(path: Path) -> list[Any]:
    import torch

    states = torch.load(path, map_location="cpu", weights_only=False)
    epochs = states["reporter"]["stats"]
    states["reporter"] = {
        (epoch, phase): {k: v for k, v in values.items() if not TIMES.search(k)}
        for epoch, phases in epochs.items()
        for phase, values in phases.items()
    }
    return _numbers(states)  # not its pickle, which depends on what is one object and what two


def _numbers(value: Any) -> Any:
    if hasattr(value, "numpy"):
        return (str(value.dtype), tuple(value.shape), value.numpy().tobytes())
    if isinstance(value, dict):
        return [(key, _numbers(v)) for key, v in value.items()]
    return [_numbers(v) for v in value] if isinstance(value, (list, tuple)) else repr(value)


def _archive(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name, content in members.items():
        if name.endswith(".md"):
            members[name] = _plain(content.decode()).encode()
        if name == "meta.yaml":  # when it was packed
            members[name] = re.sub(rb"timestamp: .*", b"", content)
    return members


# ---- the long form ---------------------------------------------------------------------------


def disturb(
    recipe: Recipe,
    durations: dict[int, tuple[float, float]],
    rng: random.Random,
    stages: Sequence[int],
    per_stage: int,
    say: Callable[..., None],
) -> list[str]:
    """Kill the recipe in each stage, let it end and return what is wrong then.

    One kill in five comes while the stage still loads its libraries, the others while jobs run.
    """
    wrong = []
    for stage in (stage for stage in stages for _ in range(per_stage)):
        process = recipe.start("--stop_stage", str(stage))
        loading, working = durations[stage]
        single = rng.random() < 0.25
        if rng.random() < 0.2:
            recipe.wait_for(process, f"stage {stage}: ")
            delay = rng.random() * loading
        else:
            recipe.wait_for_work(process, stage)
            delay = 0.8 * rng.random() * working
        if _ended(process, delay):
            say(stage=stage, missed=f"it had ended, {process.returncode}")
            if process.returncode != 0:
                wrong.append(recipe.said.read_text()[-2000:])
            continue
        during = re.findall(r"stage (\d+): ", recipe.said.read_text())
        hit = kill(process, rng, single)
        say(stage=int(during[-1]) if during else stage, after=round(delay, 2), hit=hit)
        wrong += [f"still alive: {name}" for name in recipe.leftovers(process.pid)]
    process = recipe.start()
    if process.wait() != 0:
        return [*wrong, f"it does not run to its end: {recipe.said.read_text()[-2000:]}"]
    return [*wrong, *differences(recipe.folder / "reference", recipe.run)]


def main() -> None:
    """Run the long form; a folder that has a ``reference`` already is gone on with."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="Gets everything")
    parser.add_argument("--kills", type=int, default=100, help="At least so many")
    parser.add_argument("--per_stage", type=int, default=3, help="Kills in a stage and round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--python", default=sys.executable)
    args, options = parser.parse_known_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(args.folder.absolute(), args.python, [*TINY, *options])
    rng, counts, start, lost, rounds = random.Random(args.seed), Counter(), time.time(), 0, 0

    def say(**facts: Any) -> None:
        if "hit" in facts:
            counts[facts["stage"]] += 1
        line = json.dumps({"seconds": round(time.time() - start), "round": rounds, **facts})
        with open(args.folder / "kills.log", "a", encoding="utf-8") as log:
            log.write(line + "\n")
        print(line, flush=True)

    known = args.folder / "durations.json"
    if not known.exists():
        durations = recipe.durations(STAGES)
        recipe.run.rename(args.folder / "reference")
        known.write_text(json.dumps(durations))
    durations = {int(stage): times for stage, times in json.loads(known.read_text()).items()}
    say(undisturbed={stage: f"{a:.1f}+{b:.1f} s" for stage, (a, b) in durations.items()})
    while sum(counts.values()) < args.kills:
        rounds += 1
        wrong = disturb(recipe, durations, rng, STAGES, args.per_stage, say)
        lost += bool(wrong)
        say(wrong=wrong)
        recipe.run.rename(args.folder / f"round_{rounds}")
        if not wrong:
            shutil.rmtree(args.folder / f"round_{rounds}")
    say(kills=sum(counts.values()), stages=dict(sorted(counts.items())), rounds_lost=lost)
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
