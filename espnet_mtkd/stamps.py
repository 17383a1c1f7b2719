"""What a finished job leaves beside its output, and what that says later: verification.

``.stamps/NAME.json`` holds what the output was made from: the command line, and hashes of the input
files, of the code and of the outputs of other jobs. ``.stamps/NAME.sha256`` holds the hash of
every file that was made, as ``sha256sum`` writes them.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_mtkd.data.files import atomic_path, write_text
from espnet_mtkd.errors import UserError

PACKAGE = Path(__file__).parent
LARGE = 1 << 20  # bytes from which on an input is known by size and time instead of its content
NOT_OUTPUT = ("log", ".stamps")  # what the job runner itself writes into folders


@dataclass(frozen=True)
class Stamp:
    """The stamp of an output, a file or a folder."""

    output: Path

    @property
    def path(self) -> Path:
        """Where the stamp is."""
        return self.output.parent / ".stamps" / f"{self.output.name}.json"

    @property
    def listing(self) -> Path:
        """Where the hashes of the output's files are."""
        return self.path.with_suffix(".sha256")

    @property
    def lock(self) -> Path:
        """The file whose lock says that somebody makes the output."""
        return self.path.with_suffix(".lock")

    def read(self) -> dict[str, Any]:
        """Return its content; nothing where there is none, or none that can be read."""
        try:
            state = json.loads(self.path.read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}

    def write(self, content: dict[str, Any]) -> None:
        """Store its content."""
        write_text(self.path, json.dumps(content, indent=1) + "\n")

    def list_files(self, outputs: Iterable[Path]) -> str:
        """Write the hashes of all files of the outputs and return the hash of that list."""
        folder = self.output.parent
        sha = hashlib.sha256()
        with atomic_path(self.listing) as temporary, open(temporary, "wb") as listing:
            for file in (file for output in outputs for file in [*files_of(output), *arks(output)]):
                line = f"{file_hash(file)}  ".encode() + os.fsencode(os.path.relpath(file, folder))
                sha.update(line + b"\n")
                listing.write(line + b"\n")
        return sha.hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(output: Path) -> Iterator[Path]:
    """Yield an output's files in order, without logs and what other jobs made inside of it."""
    if output.is_file():
        yield output
    elif output.is_dir():
        for path in sorted(output.iterdir()):
            if path.name not in NOT_OUTPUT and not Stamp(path).path.exists():
                yield from files_of(path)


def arks(output: Path) -> list[Path]:
    """Return the arks outside of an output that its indices point into: parts of a common store."""
    found = set()
    for scp in output.glob("*.scp"):
        with open(scp, "rb") as lines:
            found.update(a for a, ark, _ in (x.rpartition(b".ark:") for x in lines) if ark)
    paths = {Path(os.fsdecode(line.partition(b" ")[2]) + ".ark") for line in found}
    return sorted(path for path in paths if output.absolute() not in path.parents)


def digest(path: Path) -> str:
    """Hash of an input: a file's content, or a folder's listing with sizes and times.

    Code folders are hashed by content, so that a fresh clone is not taken for a change. Files of
    1 MiB and more (audio, checkpoints) count by size and time of change.
    """
    sha = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    if not files:
        raise UserError(f"{path}: no such file or folder, or an empty one")
    by_content = path.is_file() or PACKAGE in (path, *path.parents)
    for file in files:
        if file.suffix == ".pyc":
            continue
        sha.update(os.fsencode(file.relative_to(path)))
        try:
            status = file.stat()
            if by_content and status.st_size < LARGE:
                sha.update(file.read_bytes())
            else:
                sha.update(f"{status.st_size} {status.st_mtime_ns}".encode())
        except FileNotFoundError:
            raise UserError(f"{file}: has gone while {path} was looked through") from None
    return sha.hexdigest()


def costs(*outputs: Path) -> dict[int, dict[str, float]]:
    """Return what outputs, and all that they were made from, took, by stage.

    ``seconds`` and ``cpu_seconds`` are sums over the ``jobs``; ``peak_memory`` is that of a stage's
    largest process in bytes, libraries included. Of a job on another machine it is the command that
    waited for it. An output that is being made does not count.
    """
    found: dict[int, dict[str, float]] = {}
    for stamp in _with_needs(map(Stamp, outputs)):
        state = stamp.read()
        if "seconds" in state:
            total = found.setdefault(
                state["stage"], {"jobs": 0, "seconds": 0.0, "cpu_seconds": 0.0, "peak_memory": 0}
            )
            total["jobs"] += 1
            for name in ("seconds", "cpu_seconds"):
                total[name] = round(total[name] + state[name], 3)
            total["peak_memory"] = max(total["peak_memory"], state["peak_memory"])
    return dict(sorted(found.items()))


def verify(expdir: Path) -> tuple[int, list[str]]:
    """Check the results of an experiment, and all that they were made from, against the stamps.

    Returns:
        How many files were compared, and a line for each that is not as it was.

    Raises:
        UserError: there is no finished experiment.
    """
    paths = sorted(p for depth in ("", "*/") for p in expdir.glob(f"{depth}.stamps/*.json"))
    if not paths:
        raise UserError(f"{expdir}: no finished experiment: no {expdir}/.stamps/*.json")
    complaints, compared = [], 0
    for stamp in _with_needs(Stamp(path.parent.parent / path.stem) for path in paths):
        count, lines = _verify_one(stamp)
        compared += count
        complaints += lines
    return compared, complaints


def _with_needs(stamps: Iterable[Stamp]) -> Iterator[Stamp]:
    """Yield stamps and those of all that their outputs were made from, each once."""
    todo = list(stamps)
    seen = set(todo)
    while todo:
        stamp = todo.pop(0)
        yield stamp
        for need in map(Stamp, map(Path, stamp.read().get("needs", {}))):
            if need not in seen:
                seen.add(need)
                todo.append(need)


def _verify_one(stamp: Stamp) -> tuple[int, list[str]]:
    """Check one output; return how many files were compared and what is wrong."""
    state, output = stamp.read(), stamp.output
    if state.get("state") != "done":
        return 0, [f"{output}: not finished, or its stamp {stamp.path} is gone or damaged"]
    complaints = []
    for kind in ("inputs", "code"):
        for name, known in state[kind].items():
            try:
                changed = digest(Path(name)) != known
            except UserError:
                complaints.append(f"{name}: missing, {output} was made from it")
                continue
            if changed:
                complaints.append(f"{name}: altered since {output} was made from it")
    for package, known in state["packages"].items():
        version = importlib.metadata.version(package)
        if version != known:
            complaints.append(f"{output}: made with {package} {known}; {version} is installed")
    for need, key in state["needs"].items():
        if Stamp(Path(need)).read().get("key") != key:
            complaints.append(f"{need}: made anew since {output} was made from it")
    compared, differences = _compare(stamp)
    return compared, complaints + differences


def altered(output: Path, stage: int) -> list[str]:
    """Return a line for each file of a stage, under an output, that is not as it was made."""
    stamps = [stamp for stamp in _with_needs([Stamp(output)]) if stamp.read().get("stage") == stage]
    return [line for stamp in stamps for line in _compare(stamp)[1]]


def _compare(stamp: Stamp) -> tuple[int, list[str]]:
    """Compare the files of an output with the hashes; return how many, and what is wrong."""
    output, complaints = stamp.output, []
    if not stamp.listing.is_file() or file_hash(stamp.listing) != stamp.read().get("outputs"):
        return 0, [f"{stamp.listing}: missing or altered"]
    listed = set()
    with open(stamp.listing, "rb") as listing:
        for line in listing:
            known, _, name = line.rstrip(b"\n").partition(b"  ")
            file = Path(os.path.normpath(output.parent / os.fsdecode(name)))
            listed.add(file)
            if not file.is_file():
                complaints.append(f"{file}: missing")
            elif file_hash(file) != known.decode():
                complaints.append(f"{file}: altered")
    for file in files_of(output):
        if file not in listed:
            complaints.append(f"{file}: not there when {output} was made")
    return len(listed), complaints
