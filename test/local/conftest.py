"""Making small trees in the publishers' layouts, and running corpus scripts on them."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Result:
    """How a script ended and what it printed."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Run local/<corpus>.py, or another script by its path, as from the command line."""

    def run(corpus: str | Path, *options: str | Path) -> Result:
        script = corpus if isinstance(corpus, Path) else ROOT / "local" / f"{corpus}.py"
        monkeypatch.setattr(sys, "argv", [str(script), *map(str, options)])
        capsys.readouterr()
        code = 0
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture
def make() -> Callable[..., None]:
    """Write short tones to files whose names lack a suffix; the suffixes take turns."""

    def make(
        root: Path, names: Iterable[str], suffixes: tuple[str, ...] = (".wav", ".flac")
    ) -> None:
        for index, name in enumerate(names):
            path = root / (name + suffixes[index % len(suffixes)])
            path.parent.mkdir(parents=True, exist_ok=True)
            tone = 0.1 * np.sin(np.arange(1600) * (index + 1) / 50)
            soundfile.write(path, tone, 16000, format=path.suffix[1:].upper())

    return make
