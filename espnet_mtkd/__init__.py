"""Multilingual speech emotion recognition by language-aware multi-teacher distillation."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["EmotionRecognizer"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; the data and evaluation side of the package does without.
    if name == "EmotionRecognizer":
        from espnet_mtkd.recognizer import EmotionRecognizer

        return EmotionRecognizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
