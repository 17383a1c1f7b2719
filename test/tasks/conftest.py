"""Trained models, which the tests of this folder only read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from espnet_mtkd.tasks.mtkd import MTKDTask
from espnet_mtkd.tasks.ser import SERTask


@pytest.fixture(scope="session")
def teacher(toy, tmp_path_factory) -> Path:
    """Folder of a classifier after three epochs."""
    output = tmp_path_factory.mktemp("teacher") / "ft"
    SERTask.main(cmd=toy.argv(output))
    return output


@pytest.fixture(scope="session")
def student(toy, tmp_path_factory) -> Path:
    """Folder of a student after three epochs."""
    output = tmp_path_factory.mktemp("student") / "mtkd"
    MTKDTask.main(cmd=toy.argv(output, "--weighting", "label", student=True))
    return output


@pytest.fixture(scope="session")
def live(teacher, student, tmp_path_factory) -> Path:
    """File of two live teachers; that one of them was a student makes no difference."""
    path = tmp_path_factory.mktemp("live") / "teachers"
    path.write_text(f"teacher_en en {teacher}\nteacher_fi fi {student}\n")
    return path


@pytest.fixture
def train(toy, tmp_path) -> Callable[..., Path]:
    """Train in a folder of the test's own and return it."""

    def run(
        *more: str, name: str = "model", student: bool = False, live: Path | None = None
    ) -> Path:
        task = MTKDTask if student or live else SERTask
        more = (*more, "--teachers", str(live)) if live else more
        task.main(cmd=toy.argv(tmp_path / name, *more, student=student))
        return tmp_path / name

    return run
