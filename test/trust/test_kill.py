"""The short form of ``kill_harness.py``: a kill in each of five stages."""

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
    "CI" in os.environ, reason="takes minutes, which `make test` has and CI has not"
)
STAGES = (1, 2, 3, 4, 5)


def test_a_killed_recipe_makes_what_an_undisturbed_one_makes(tmp_path):
    options = [*kill_harness.TINY, "--systems", "ft mtkd", "--stop_stage", str(STAGES[-1])]
    recipe = kill_harness.Recipe(tmp_path, sys.executable, options)
    durations = recipe.durations(STAGES)
    recipe.run.rename(recipe.folder / "reference")
    hits = []

    def say(**facts):
        hits.append(facts.get("hit"))

    assert kill_harness.disturb(recipe, durations, random.Random(3), STAGES, 1, say) == []
    assert any(hits)  # a moment may come too late for one of them

    # The comparison that found no difference does see one.
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
