"""The short form of ``kill_harness.py``: a kill in each of five stages; minutes, so by command."""

from __future__ import annotations

import importlib.util
import os
import random
import sys
from pathlib import Path

import pytest

# Beside this file, and no part of a package.
_spec = importlib.util.spec_from_file_location(
    "kill_harness", Path(__file__).with_name("kill_harness.py")
)
kill_harness = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(kill_harness)

pytest.importorskip("espeakng_loader", reason="the embedded corpus needs the extra 'mini'")
pytestmark = pytest.mark.skipif(
    "MTKD_KILLS" not in os.environ, reason="takes minutes; MTKD_KILLS=1 runs it"
)
STAGES = (1, 2, 3, 4, 5)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    options = [*kill_harness.TINY, "--systems", "ft mtkd", "--stop_stage", str(STAGES[-1])]
    return kill_harness.Recipe(tmp_path_factory.mktemp("kill"), sys.executable, options)


def test_a_killed_recipe_makes_what_an_undisturbed_one_makes(recipe):
    durations = recipe.durations(STAGES)
    recipe.run.rename(recipe.folder / "reference")
    hits = []

    def say(**facts):
        hits.append(facts.get("hit"))

    assert kill_harness.disturb(recipe, durations, random.Random(3), STAGES, 1, say) == []
    assert any(hits)  # a moment may come too late for one of them


def test_the_comparison_sees_a_changed_bit(recipe):
    other = recipe.run / "exp" / "fold_1" / "seed_0" / "teacher_en"
    weights = next(path for path in other.glob("*epoch.pth"))
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    (other / "config.yaml").unlink()
    name = other.relative_to(recipe.run)
    found = kill_harness.differences(recipe.folder / "reference", recipe.run)
    assert f"{name}/config.yaml: only in one" in found
    assert f"{name}/{weights.name}: differs" in found
