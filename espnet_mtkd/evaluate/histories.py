"""Curves over training, averaged over folds and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

History = Mapping[int, Mapping[str, Mapping[str, float]]]
Curve = tuple[list[int], list[float]]
WEIGHT = "weight_"


def mean_curve(histories: Sequence[History], phase: str, key: str) -> Curve:
    """Mean over runs of one value per epoch.

    Runs that stop early end before others. A mean over the few that go on would jump, so an epoch
    is kept only if at least half of the runs reached it.

    Args:
        histories: One per run: epoch -> {"train": {...}, "valid": {...}}.
        phase: ``train`` or ``valid``.
        key: Name of the value.

    Returns:
        Epochs and means; empty if no run has the value.
    """
    values: dict[int, list[float]] = {}
    for history in histories:
        for epoch, phases in history.items():
            value = phases.get(phase, {}).get(key)
            if value is not None:
                values.setdefault(epoch, []).append(value)
    epochs = [epoch for epoch in sorted(values) if 2 * len(values[epoch]) >= len(histories)]
    return epochs, [sum(values[epoch]) / len(values[epoch]) for epoch in epochs]


def weight_teachers(histories: Sequence[History], language: str) -> list[str]:
    """Teachers that have a weight ``weight_<language>_<teacher>`` in any epoch, sorted."""
    prefix = f"{WEIGHT}{language}_"
    return sorted(
        {
            key.removeprefix(prefix)
            for history in histories
            for phases in history.values()
            for key in phases.get("train", {})
            if key.startswith(prefix)
        }
    )
