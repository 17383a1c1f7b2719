"""Distillation: loss, weightings, teachers."""

import re

MEMBER = re.compile(r"\.\d+$")  # ends the name of an ensemble's teacher: NAME.SEED
# Modules of a student's training alone: of no use without its teachers.
TRAINING_ONLY = ("weighting", "feature_loss", "hint_loss")
# What stage 6 measures for a weighting: its option, and the name of the file beside the logits.
MEASURED = {"similarity": "relevance", "learned": "gate"}
