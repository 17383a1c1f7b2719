"""Numbers as people write them: YAML 1.1, which PyYAML reads, takes ``1e-3`` for a text."""

from __future__ import annotations

import re
from typing import Any

from espnet_mtkd.errors import UserError

EXPONENTIAL = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


def with_numbers(value: Any) -> Any:
    """Return what YAML was read to, texts like ``1e-3`` as the numbers that they mean."""
    if isinstance(value, dict):
        return {key: with_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_numbers(item) for item in value]
    if isinstance(value, str) and EXPONENTIAL.fullmatch(value):
        return float(value)
    return value


def check_number(option: str, value: Any) -> float:
    """Return the value of an option that is a number.

    Raises:
        UserError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UserError(f"{option} {value!r}: must be a number")
    return value
