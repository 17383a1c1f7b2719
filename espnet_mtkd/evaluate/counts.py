"""From files of predictions to confusion matrices per language, run and speaker.

On the test sets a run is a seed: the folds' test sets are disjoint and are pooled before a metric
is computed. Held-out corpora are tested by the model of every fold, so there a run is one model.
A left-out language (``left_out``) is tested on the test sets as well, by models trained without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from espnet_mtkd.errors import UserError
from espnet_mtkd.evaluate.experiment import Experiment
from espnet_mtkd.evaluate.metrics import absent_classes, count_confusions
from espnet_mtkd.evaluate.predictions import (
    Predictions,
    check_disjoint,
    check_same_utterances,
    mean_of,
    read_predictions,
)

Counts = dict[str, np.ndarray]  # language -> matrices (runs, speakers, C, C)


def _load(
    experiment: Experiment, split: str, languages: Sequence[str], model: str
) -> list[list[Predictions]]:
    """Predictions of one model: runs, each a list of files that are pooled."""

    def read(fold: Any, seed: Any) -> list[Predictions]:
        return [
            read_predictions(path, experiment.emotions, languages)
            for path in _paths(experiment, split, fold, seed, model)
        ]

    if split == "heldout":
        return [read(fold, seed) for seed in experiment.seeds for fold in experiment.folds]
    return [
        [part for fold in experiment.folds for part in read(fold, seed)]
        for seed in experiment.seeds
    ]


def _paths(experiment: Experiment, split: str, fold: Any, seed: Any, model: str) -> list[Path]:
    """Files of predictions of one model."""
    if split == "left_out":
        names = [f"without_{language}/{model}" for language in experiment.left_out]
        return [experiment.model_dir(fold, seed, name) / "test.tsv" for name in names]
    return [experiment.model_dir(fold, seed, model) / f"{split}.tsv"]


def models_of(experiment: Experiment, split: str) -> list[str]:
    """The models that are tested on a set."""
    return experiment.systems if split == "left_out" else experiment.models


def languages_of(experiment: Experiment, split: str) -> list[str]:
    """The languages of a set."""
    return {"heldout": experiment.heldout_languages, "left_out": experiment.left_out}.get(
        split, experiment.languages
    )


def _require_files(experiment: Experiment, split: str) -> None:
    """Say at once how many files of predictions are missing, and which is the first."""
    paths = [
        path
        for model in models_of(experiment, split)
        for fold in experiment.folds
        for seed in experiment.seeds
        for path in _paths(experiment, split, fold, seed, model)
    ]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise UserError(f"{missing[0]}: no predictions{more}; make them with ./run.sh --stage 8")


def _speakers(reference: Sequence[Predictions], languages: Sequence[str]) -> dict[str, list[str]]:
    """Speakers of every language, sorted."""
    pairs = {pair for part in reference for pair in zip(part.languages, part.speakers, strict=True)}
    speakers = {language: sorted(s for at, s in pairs if at == language) for language in languages}
    for language, names in speakers.items():
        if not names:
            raise UserError(
                f"{reference[0].path}: no utterance of language {language} in any fold; "
                "make the folds again with ./run.sh --stage 3"
            )
    return speakers


def _count(
    runs: Sequence[Sequence[Predictions]], speakers: Mapping[str, list[str]], num_classes: int
) -> Counts:
    """Confusion matrices per language, run and speaker."""
    index = {
        (language, speaker): i
        for language, names in speakers.items()
        for i, speaker in enumerate(names)
    }
    counts: Counts = {}
    for language, names in speakers.items():
        matrices = np.zeros((len(runs), len(names), num_classes, num_classes), dtype=np.int64)
        for run, parts in enumerate(runs):
            for part in parts:
                chosen = np.array([at == language for at in part.languages])
                group = [index[language, part.speakers[i]] for i in np.flatnonzero(chosen)]
                matrices[run] += count_confusions(
                    part.ref[chosen],
                    part.hyp[chosen],
                    np.array(group, dtype=np.int64),
                    len(names),
                    num_classes,
                )
        counts[language] = matrices
    return counts


def read_taught(experiment: Experiment) -> Counts | None:
    """Return the counts of what teaches together, each language by its own teachers; one run.

    With ``teacher_ensemble`` ``true`` that is the mean of the probabilities that the teachers of
    all seeds give, with ``soup`` the average of their parameters; None: teachers teach alone.
    """
    how = experiment.raw.get("teacher_ensemble", "false")
    if how == "false" or len(experiment.seeds) == 1:
        return None
    counts: Counts = {}
    for teacher in experiment.teachers:
        if how == "soup":
            parts = _of_folds(experiment, f"soup/{teacher}")
        else:
            seeds = _load(experiment, "test", experiment.languages, teacher)
            parts = [mean_of(members) for members in zip(*seeds, strict=True)]
        language = experiment.own_language(teacher)
        speakers = _speakers(parts, [language])
        counts.update(_count([parts], speakers, len(experiment.emotions)))
    return {at: counts[at] for at in experiment.languages if at in counts}


def read_external(experiment: Experiment, name: str) -> Counts:
    """Return the counts of a teacher from elsewhere on the test sets; one run."""
    parts = _of_folds(experiment, f"external/{name}")
    return _count([parts], _speakers(parts, experiment.languages), len(experiment.emotions))


def _of_folds(experiment: Experiment, model: str) -> list[Predictions]:
    """Test predictions of a model that all seeds share, one for each fold."""
    return [
        read_predictions(
            experiment.expdir / f"fold_{fold}" / model / "test.tsv",
            experiment.emotions,
            experiment.languages,
        )
        for fold in experiment.folds
    ]


def read_counts(experiment: Experiment, split: str) -> tuple[dict[str, Counts], dict[str, Any]]:
    """Read and check the predictions of all models on one set.

    Returns:
        The counts of every model, and what the set holds (``runs``, ``data``).

    Raises:
        UserError: If predictions are missing, malformed, or of other utterances than those of the
            first model.
    """
    languages, models = languages_of(experiment, split), models_of(experiment, split)
    _require_files(experiment, split)
    num_classes = len(experiment.emotions)
    counts: dict[str, Counts] = {}
    reference: list[Predictions] = []
    speakers: dict[str, list[str]] = {}
    for model in models:
        runs = _load(experiment, split, languages, model)
        if not reference:
            reference = runs[0]
            check_disjoint(reference)
            speakers = _speakers(reference, languages)
        for run in runs:
            for first, part in zip(reference, run, strict=True):
                check_same_utterances(first, part)
        counts[model] = _count(runs, speakers, num_classes)
    data = {}
    for language, matrices in counts[models[0]].items():
        pooled = matrices[0].sum(axis=0)
        support = pooled.sum(axis=-1).tolist()
        data[language] = {
            "utterances": int(pooled.sum()),
            "speakers": len(speakers[language]),
            "classes": dict(zip(experiment.emotions, support, strict=True)),
            "absent": absent_classes(pooled, experiment.emotions),
        }
    if split == "heldout":
        names = [f"fold {f}, seed {s}" for s in experiment.seeds for f in experiment.folds]
    else:
        names = [f"seed {s}" for s in experiment.seeds]
    return counts, {"runs": names, "data": data}
