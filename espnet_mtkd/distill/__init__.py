"""Distillation: loss, weightings, teachers."""

import re
from typing import Any

MEMBER = re.compile(r"\.\d+$")  # ends the name of an ensemble's teacher: NAME.SEED
# Modules of a student's training alone: of no use without its teachers.
TRAINING_ONLY = ("weighting", "feature_loss", "hint_loss")
# What stage 6 measures for a weighting: its option, and the name of the file beside the logits.
MEASURED = {"similarity": "relevance", "learned": "gate"}


def without_training(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state dict without what only a student's training has."""
    return {key: v for key, v in state.items() if key.split(".")[0] not in TRAINING_ONLY}
