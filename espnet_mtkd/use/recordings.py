"""Which recordings a user means: files, folders, patterns, a wav.scp, or a list."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from espnet_mtkd.errors import UserError

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".w64")


@dataclass(frozen=True)
class Recording:
    """A recording and what it is called in the output: its id of a ``wav.scp``, or its path."""

    name: str
    path: str


def find_recordings(inputs: Iterable[str]) -> list[Recording]:
    """Return the recordings in the order of the inputs, files of a folder or pattern sorted.

    Args:
        inputs: audio files; folders, searched to the bottom for audio files; patterns such as
            ``rec/*.wav`` or ``rec/**/*.flac``; Kaldi's ``*.scp``; ``-`` for standard input with one
            path on each line.

    Raises:
        UserError: a folder without audio, a pattern that fits nothing, a broken ``wav.scp``, or no
            recording at all. Whether a file is there is seen when it is read.
    """
    found: list[Recording] = []
    for text in inputs:
        path = Path(text)
        if text == "-":
            paths = [line.strip() for line in sys.stdin if line.strip()]
            found += [Recording(path, path) for path in paths]
        elif path.is_dir():
            found += _in_folder(path)
        elif path.suffix == ".scp":
            found += _in_scp(path)
        elif glob.has_magic(text) and not path.exists():
            matches = sorted(m for m in glob.glob(text, recursive=True) if Path(m).is_file())
            if not matches:
                raise UserError(f"{text}: no file fits this pattern")
            found += [Recording(match, match) for match in matches]
        else:
            found.append(Recording(text, text))
    if not found:
        raise UserError(f"{' '.join(inputs)}: no recording named")
    return found


def _in_folder(folder: Path) -> list[Recording]:
    paths = sorted(str(p) for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise UserError(f"{folder}: no audio file in this folder ({', '.join(SUFFIXES)})")
    return [Recording(path, path) for path in paths]


def _in_scp(path: Path) -> list[Recording]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8") from None
    found: dict[str, Recording] = {}
    for number, line in enumerate(lines, start=1):
        name, _, wav = line.strip().partition(" ")
        wav = wav.strip()
        if not wav or wav.endswith("|"):
            what = "a pipe, which is not run" if wav else "not an id and a path"
            raise UserError(f"{path}:{number}: {what}; each line must be: ID PATH")
        if name in found:
            raise UserError(f"{path}:{number}: {name} comes a second time")
        found[name] = Recording(name, wav)
    return list(found.values())
