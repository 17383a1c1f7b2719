"""Whether a model is as sure as it is right: the reliability diagrams of the report."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from espnet_mtkd.evaluate import page, plots
from espnet_mtkd.evaluate.calibration import NUM_BINS, calibration_error, reliability
from espnet_mtkd.evaluate.pooled import Pooled

FEWEST = 5  # utterances of a bin that is drawn


def _table(model: Pooled, language: str) -> np.ndarray:
    """Size, mean confidence and accuracy of every bin; seeds are pooled."""
    chosen = model.languages == language
    scores = model.log_probabilities[:, chosen]
    return reliability(
        scores.reshape(-1, scores.shape[-1]), np.tile(model.ref[chosen], len(scores))
    )


def section(models: Mapping[str, Pooled]) -> list[str]:
    """A diagram for every language.

    Args:
        models: Test predictions by what they are to be called; at most a few.
    """
    pooled = next(iter(models.values()))
    panels = []
    for language in dict.fromkeys(pooled.languages.tolist()):
        tables = {name: _table(model, language) for name, model in models.items()}
        errors = (f"{name} {100 * calibration_error(table):.1f}" for name, table in tables.items())
        said = f"calibration error: {'; '.join(errors)}"
        series = {}
        for name, table in tables.items():
            sizes, confidences, accuracies = table[table[:, 0] >= FEWEST].T.tolist()
            series[name] = (confidences, accuracies, sizes)
        description = f"Accuracy by confidence, {language}; {said}"
        svg = plots.reliability(f"reliability-{language}", description, series)
        panels.append(page.figure(language, svg, caption=said))
    return [
        '<h2 id="reliability">Reliability</h2>',
        '<p class="quiet">How often a model is right (up) when it is so sure (right), on the test '
        "sets, seeds pooled. On the dotted line it is as sure as it is right, below it too sure. "
        f"Larger dots hold more utterances, and what holds less than {FEWEST} is not drawn. "
        f"Calibration error: mean distance from the line over {NUM_BINS} bins of equal width, in "
        "points. Calibrated: logits divided by a temperature that was fitted on the dev set.</p>",
        plots.legend(list(models)),
        page.grid(panels),
    ]
