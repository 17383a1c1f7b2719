"""Vectors that a model makes of utterances: the file they are kept in, and a map of them."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from espnet_mtkd.data.files import atomic_path
from espnet_mtkd.errors import UserError

PERPLEXITY = 30.0


@dataclass(frozen=True)
class Embeddings:
    """What :mod:`espnet_mtkd.bin.embed` writes, N utterances.

    Attributes:
        utt_id, spk_id, lang, ref: names (N,), as in the predictions.
        embedding: what the model's last linear layer sees (N, D), float32.
        layers: numbers of the upstream's layers in use (L,).
        layer_weights: how much each of them counts (L,); they sum to one.
    """

    utt_id: np.ndarray
    spk_id: np.ndarray
    lang: np.ndarray
    ref: np.ndarray
    embedding: np.ndarray
    layers: np.ndarray
    layer_weights: np.ndarray

    def write(self, path: str | Path) -> None:
        """Write an ``.npz``."""
        with atomic_path(path) as part:
            np.savez(part, **{field.name: getattr(self, field.name) for field in fields(self)})


def read_embeddings(path: str | Path) -> Embeddings:
    """Read an ``.npz``.

    Raises:
        UserError: it is no such file.
    """
    remedy = "make it again with python -m espnet_mtkd.bin.embed"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = Embeddings(**{field.name: arrays[field.name] for field in fields(Embeddings)})
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: no file of embeddings ({error}); {remedy}") from None
    counts = {len(getattr(found, name)) for name in ("utt_id", "spk_id", "lang", "ref")}
    if counts != {len(found.embedding)} or len(found.layers) != len(found.layer_weights):
        raise UserError(f"{path}: its arrays have different lengths; {remedy}")
    return found


def project(vectors: np.ndarray) -> np.ndarray:
    """Lay vectors (N, D) out on a plane (N, 2) by t-SNE (van der Maaten and Hinton 2008).

    Cosine distances, seed 0, perplexity 30 or what N allows; fewer than five vectors, which have
    no neighbourhoods, are laid out by their principal components.
    """
    if len(vectors) < 5:
        centred = vectors - vectors.mean(axis=0)
        left, size, _ = np.linalg.svd(centred, full_matrices=False)
        points = np.zeros((len(vectors), 2))
        points[:, : min(2, len(size))] = (left * size)[:, :2]
        return points
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, metric="cosine", init="pca", random_state=0)
    return tsne.fit_transform(vectors)


def same_as_neighbour(
    vectors: np.ndarray, labels: np.ndarray, speakers: np.ndarray
) -> float | None:
    """Share of utterances whose nearest neighbour of another speaker has the same label.

    Args:
        vectors: (N, D), compared by their cosine.
        labels, speakers: (N,).

    Returns:
        0 to 1; None if all are of one speaker.
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(norms > 0, norms, 1.0)
    _, group = np.unique(speakers, return_inverse=True)
    if group.max() == 0:
        return None
    hits = 0
    for start in range(0, len(unit), 512):  # the whole matrix could be large
        rows = slice(start, start + 512)
        likeness = unit[rows] @ unit.T
        likeness[group[rows, None] == group[None, :]] = -np.inf
        hits += int((labels[likeness.argmax(axis=1)] == labels[rows]).sum())
    return hits / len(unit)
