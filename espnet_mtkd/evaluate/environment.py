"""What a result was made with: versions, commit, hardware."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

PACKAGES = {"espnet": "espnet", "torch": "torch", "s3prl": "espnet-s3prl"}


def git_commit(folder: Path) -> str:
    """Short hash of the commit in ``folder``, with ``-dirty`` after changes; else ``unknown``."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git on this machine
        return "unknown"
    return done.stdout.strip() or "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def environment() -> dict[str, str]:
    """Return date, versions, commit and hardware, as ESPnet's READMEs list them."""
    versions = {name: importlib.metadata.version(dist) for name, dist in PACKAGES.items()}
    return {
        "date": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "python": platform.python_version(),
        **versions,
        "git": git_commit(Path(__file__).parent),
        "hardware": f"{_processor()}, {os.cpu_count()} cores",
    }
