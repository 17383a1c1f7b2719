"""Distillation: loss, weightings, teachers."""
