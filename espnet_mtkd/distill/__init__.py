"""Distillation: loss, weightings, teachers."""

# Modules of a student's training alone: of no use without its teachers.
TRAINING_ONLY = ("weighting", "feature_loss")
