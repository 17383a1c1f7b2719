"""Does the Python that runs this file have what setup.py asks for, and does it import?

    python tools/check_environment.py [--extras mini,test] [--stamp FILE]

Called by tools/install.sh. Needs the standard library only: it must be able to say what is
missing in an environment that lacks everything. Imports take 10 s, so ``--stamp FILE`` remembers
for which versions they have been tried. Exit status 1 when a package is missing, too old or
broken; a missing extra is only reported, because most work needs no extra.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import io
import shlex
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The packages whose import has been seen to fail although the versions are right (a missing
# system library, a torchaudio that does not match its torch).
IMPORTS = ("torch", "torchaudio", "soundfile", "omniio", "espnet2.tasks.abs_task", "s3prl.nn")


def read_requirements(setup_py: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Return ``REQUIREMENTS`` and ``EXTRAS`` of a setup.py, without running it."""
    found = {}
    for node in ast.parse(setup_py.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id in ("REQUIREMENTS", "EXTRAS"):
                found[node.targets[0].id] = ast.literal_eval(node.value)
    return found["REQUIREMENTS"], found["EXTRAS"]


def split_requirement(requirement: str) -> tuple[str, tuple[int, ...]]:
    """Return name and least version: ``"espnet>=202609"`` gives ``("espnet", (202609,))``."""
    name, _, least = requirement.partition(">=")
    return name.strip(), numbers(least)


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: ``"2.14.1+cpu"`` gives ``(2, 14, 1)``."""
    parts = []
    for part in version.partition("+")[0].split("."):
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)


def unmet(requirements: list[str]) -> list[str]:
    """Return the requirements that this environment does not meet."""
    missing = []
    for requirement in requirements:
        name, least = split_requirement(requirement)
        try:
            if numbers(metadata.version(name)) < least:
                missing.append(requirement)
        except metadata.PackageNotFoundError:
            missing.append(requirement)
    return missing


def pip_command(requirements: list[str]) -> str:
    """Return the command that adds ``requirements`` to this environment."""
    return shlex.join([sys.executable, "-m", "pip", "install", *requirements])


def broken_imports() -> list[str]:
    """Import what the project stands on; return one line for each failure."""
    broken = []
    for name in IMPORTS:
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # ESPnet misses optional packages aloud
                importlib.import_module(name)
        except Exception as error:  # a broken package may raise anything, and all of it matters
            broken.append(f"{name} does not import: {type(error).__name__}: {error}")
    return broken


def main() -> int:
    """Check, print one line per finding, return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--extras", default="", help="comma-separated extras of setup.py")
    parser.add_argument("--stamp", type=Path, help="file that remembers a successful check")
    args = parser.parse_args()

    required, extras = read_requirements(ROOT / "setup.py")
    missing = unmet(required)
    if missing:
        print(f"error: {sys.executable} lacks {', '.join(missing)}; to add it:", file=sys.stderr)
        print(f"  {pip_command(missing)}", file=sys.stderr)
        return 1
    optional = unmet([item for name in args.extras.split(",") if name for item in extras[name]])
    if optional:
        print(f"note: for the embedded corpus and the tests {sys.executable} also needs:")
        print(f"  {pip_command(optional)}")

    names = [split_requirement(item)[0] for item in required]
    state = "\n".join(
        [sys.executable, sys.version, *(f"{n}=={metadata.version(n)}" for n in names)]
    )
    if args.stamp and args.stamp.exists() and args.stamp.read_text(encoding="utf-8") == state:
        return 0
    broken = broken_imports()
    for line in broken:
        print(f"error: {sys.executable}: {line}", file=sys.stderr)
    if args.stamp and not broken:
        args.stamp.write_text(state, encoding="utf-8")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
