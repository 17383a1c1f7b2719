"""Maps of utterances for the report: near on the map is alike for the model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from espnet_mtkd.evaluate import page, plots
from espnet_mtkd.evaluate.embeddings import Embeddings, project, same_as_neighbour

MAX_POINTS = 500  # on a map; the picture of each takes about 60 kB


def _percent(value: float | None) -> str:
    return "unknown, all are of one speaker" if value is None else f"{100 * value:.0f} %"


def section(models: Mapping[str, Embeddings]) -> list[str]:
    """For every model the same map twice, coloured by emotion and by language.

    Args:
        models: What :mod:`espnet_mtkd.bin.embed` wrote, by the name of the model.
    """
    body = [
        '<h2 id="map">Map of the test utterances</h2>',
        '<p class="quiet">What the last layer of a model sees of each test utterance of the first '
        "fold and seed, laid out by t-SNE: neighbours are alike, but distances between groups say "
        "little. Nearest neighbours are sought among other speakers, by cosine, before the "
        "layout.</p>",
    ]
    if not models:
        text = "No vectors were stored; <code>python -m espnet_mtkd.bin.embed</code> writes them."
        return [*body, f"<p>{text}</p>"]
    for name, found in models.items():
        drawn = np.arange(len(found.utt_id))
        if len(drawn) > MAX_POINTS:
            drawn = np.sort(np.random.default_rng(0).choice(drawn, MAX_POINTS, replace=False))
        points = [(float(x), float(y)) for x, y in project(found.embedding[drawn])]
        panels = []
        for title, values in (("emotion", found.ref), ("language", found.lang)):
            labels, groups, counts = np.unique(values, return_inverse=True, return_counts=True)
            share = same_as_neighbour(found.embedding, values, found.spk_id)
            # What a neighbour drawn at random would give.
            chance = float(((counts / counts.sum()) ** 2).sum())
            said = (
                f"nearest neighbour of the same {title}: {_percent(share)} "
                f"(by chance {_percent(chance)})"
            )
            svg = plots.scatter(
                f"map-{name}-{title}",
                f"Map of {len(points)} utterances, {name}, by {title}; {said}",
                points,
                groups[drawn].tolist(),
                labels.tolist(),
            )
            panels.append(page.figure(f"{name}, by {title}", svg, caption=said))
        body.append(page.grid(panels))
    return body
