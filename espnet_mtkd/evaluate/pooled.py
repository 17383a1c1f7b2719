"""The test predictions of one model with all folds and seeds together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import log_softmax

from espnet_mtkd.evaluate.calibration import temperature_of
from espnet_mtkd.evaluate.experiment import Experiment
from espnet_mtkd.evaluate.predictions import (
    Predictions,
    check_same_utterances,
    read_predictions,
)


@dataclass(frozen=True)
class Pooled:
    """What one model says of all N test utterances, sorted by their ids.

    Attributes:
        utt_ids, languages, folds: one entry per utterance (N,).
        ref: index of the reference class (N,).
        log_probabilities: (Seeds, N, C).
    """

    utt_ids: np.ndarray
    languages: np.ndarray
    folds: np.ndarray
    ref: np.ndarray
    log_probabilities: np.ndarray

    @property
    def hyp(self) -> np.ndarray:
        """Index of the hypothesis (Seeds, N)."""
        return self.log_probabilities.argmax(-1)

    def of_reference(self) -> np.ndarray:
        """Probability of the right class (Seeds, N)."""
        index = np.broadcast_to(self.ref[None, :, None], (*self.hyp.shape, 1))
        return np.exp(np.take_along_axis(self.log_probabilities, index, axis=2)[..., 0])


def read_pooled(experiment: Experiment, model: str, calibrated: bool = False) -> Pooled:
    """Read the test predictions of ``model``.

    Args:
        experiment: Where they are.
        model: One of its models.
        calibrated: Divide the logits of every fold and seed by the temperature that fits its
            development set best; default False.

    Raises:
        UserError: a file is missing or malformed, or a seed was tested on other utterances.
    """

    def read(fold: Any, seed: Any) -> Predictions:
        folder = experiment.model_dir(fold, seed, model)
        names = experiment.emotions, experiment.languages
        test = read_predictions(folder / "test.tsv", *names)
        if not calibrated:
            return test
        temperature = temperature_of(folder / "dev.tsv", *names)
        return replace(test, logits=test.logits / temperature)

    first = {fold: read(fold, experiment.seeds[0]) for fold in experiment.folds}
    seeds = [np.concatenate([part.logits for part in first.values()])]
    for seed in experiment.seeds[1:]:
        logits = []
        for fold, reference in first.items():
            part = read(fold, seed)
            check_same_utterances(reference, part)
            place = {utt_id: index for index, utt_id in enumerate(part.utt_ids)}
            logits.append(part.logits[[place[utt_id] for utt_id in reference.utt_ids]])
        seeds.append(np.concatenate(logits))
    parts = first.values()
    utt_ids = np.concatenate([part.utt_ids for part in parts])
    folds = np.concatenate([[str(fold)] * len(part.utt_ids) for fold, part in first.items()])
    order = np.argsort(utt_ids)
    return Pooled(
        utt_ids=utt_ids[order],
        languages=np.concatenate([part.languages for part in parts])[order],
        folds=folds[order],
        ref=np.concatenate([part.ref for part in parts])[order],
        log_probabilities=log_softmax(np.stack(seeds), axis=-1)[:, order],
    )
