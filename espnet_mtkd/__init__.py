"""Multilingual speech emotion recognition by language-aware multi-teacher distillation."""

__version__ = "0.1.0"
