"""From the predictions of an experiment to everything that is reported: ``results.json``.

The content is a plain dictionary, because the same thing is written as JSON, printed as Markdown
(:mod:`espnet_mtkd.evaluate.markdown`) and drawn (:mod:`espnet_mtkd.evaluate.report`)::

    format, experiment, bootstrap {num_resamples, seed, level}, warnings {synthetic, teachers,
    notes}, teachers {names, languages, uar, ft}, audit, audit_text, test, heldout (or null),
    left_out (or null), costs

``test``, ``heldout`` and ``left_out`` hold ``runs`` (names), ``data`` (per language: utterances,
speakers, classes), ``pairs`` (for every two systems the difference of their mean UAR, and
``languages`` with that of each) and ``rows``: name -> {kind, languages, macro, runs, difference,
confusion, num_params, train_seconds, dev_uar, calibration, language_accuracy}. Systems of ``test``
have ``dev_uar`` and ``calibration``, which is {temperature, ece_raw, ece}
(:func:`~espnet_mtkd.evaluate.calibration.measure_calibration`), those with a language head also its
accuracy on the development sets; else they are null.
An estimate is {value, low, high} in 0..1; low and high are null where there is no interval.
``macro`` is the unweighted mean of the languages' values.

``costs`` is stage -> {jobs, seconds, cpu_seconds, peak_memory} of all that the results were made
from (:func:`espnet_mtkd.stamps.costs`); :mod:`espnet_mtkd.bin.score` adds it.

What a run is, is said in :mod:`espnet_mtkd.evaluate.counts`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_mtkd.errors import UserError
from espnet_mtkd.evaluate.calibration import measure_calibration
from espnet_mtkd.evaluate.counts import (
    Counts,
    languages_of,
    models_of,
    read_counts,
    read_external,
    read_taught,
)
from espnet_mtkd.evaluate.experiment import Experiment, read_info, read_json
from espnet_mtkd.evaluate.intervals import (
    estimate,
    observed,
    p_value,
    plain,
    resampled,
    speaker_weights,
)
from espnet_mtkd.evaluate.metrics import METRICS, count_confusions, majority_confusion
from espnet_mtkd.evaluate.predictions import read_predictions

FORMAT = 1
BASELINE = "ft"
MAJORITY = "majority"
TEACHERS = "monolingual_teachers"
TOGETHER = "teachers_together"
FEW_SPEAKERS = 10


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are computed: number of resamples, seed, confidence level."""

    num_resamples: int = 2000
    seed: int = 0
    level: float = 0.95


@dataclass(frozen=True)
class Row:
    """Metrics of one system on one set: observed values (L,) and bootstrap values (L, B)."""

    counts: Counts
    values: dict[str, np.ndarray]
    draws: dict[str, np.ndarray]


def _row(counts: Counts, bootstrap: Bootstrap) -> Row:
    values = {
        name: np.array([observed(matrices, metric) for matrices in counts.values()])
        for name, metric in METRICS.items()
    }
    draws: dict[str, list[np.ndarray]] = {name: [] for name in METRICS}
    for language, matrices in counts.items():
        num_speakers = matrices.shape[1]
        weights = speaker_weights(num_speakers, bootstrap.num_resamples, bootstrap.seed, language)
        sums = resampled(matrices, weights)
        for name, metric in METRICS.items():
            drawn = metric(sums).mean(axis=1)
            # One speaker cannot be resampled: no interval rather than one of width zero.
            draws[name].append(drawn if num_speakers > 1 else np.full_like(drawn, np.nan))
    return Row(counts, values, {name: np.stack(drawn) for name, drawn in draws.items()})


def _difference(value: float, draws: np.ndarray, level: float) -> dict[str, float | None]:
    p = np.nan if np.isnan(draws).any() else p_value(draws)
    return {**estimate(value, draws, level), "p": plain(p)}


def _describe(
    kind: str, row: Row, baseline: Row | None, languages: Sequence[str], level: float
) -> dict[str, Any]:
    """The entry of one row. ``macro`` is null unless the row covers all ``languages``."""
    covered = list(row.counts)
    complete = covered == list(languages)
    entry: dict[str, Any] = {
        "kind": kind,
        "languages": {
            language: {
                name: estimate(row.values[name][i], row.draws[name][i], level) for name in METRICS
            }
            for i, language in enumerate(covered)
        },
        "macro": None,
        "runs": None,
        "difference": None,
        "confusion": {at: m.sum(axis=(0, 1)).tolist() for at, m in row.counts.items()},
        "num_params": None,
        "train_seconds": None,
        "dev_uar": None,
        "calibration": None,
        "language_accuracy": None,
    }
    if complete:
        entry["macro"] = {
            name: estimate(row.values[name].mean(), row.draws[name].mean(axis=0), level)
            for name in METRICS
        }
        by_run = [METRICS["uar"](matrices.sum(axis=1)) for matrices in row.counts.values()]
        entry["runs"] = [plain(value) for value in np.mean(by_run, axis=0)]
    if baseline is not None:
        at = [list(languages).index(language) for language in covered]
        values = row.values["uar"] - baseline.values["uar"][at]
        draws = row.draws["uar"] - baseline.draws["uar"][at]
        entry["difference"] = {
            "languages": {
                language: _difference(values[i], draws[i], level)
                for i, language in enumerate(covered)
            },
            "macro": _difference(values.mean(), draws.mean(axis=0), level) if complete else None,
        }
    return entry


def _majority(counts: Counts) -> dict[str, Any]:
    """Always the most frequent class of a language's test set; a bound, so without interval."""
    constant = {at: majority_confusion(m[0].sum(axis=0)) for at, m in counts.items()}

    def point(value: float) -> dict[str, float | None]:
        return {"value": plain(value), "low": None, "high": None}

    values = {at: {n: f(c) for n, f in METRICS.items()} for at, c in constant.items()}
    return {
        "kind": "baseline",
        "languages": {at: {n: point(v) for n, v in of.items()} for at, of in values.items()},
        "macro": {n: point(np.mean([of[n] for of in values.values()])) for n in METRICS},
        "runs": None,
        "difference": None,
        "confusion": {at: c.tolist() for at, c in constant.items()},
        "num_params": None,
        "train_seconds": None,
        "dev_uar": None,
        "calibration": None,
        "language_accuracy": None,
    }


def score_set(experiment: Experiment, split: str, bootstrap: Bootstrap) -> dict[str, Any]:
    """Score all models on a set of data; see the module's docstring for the result."""
    languages, models = languages_of(experiment, split), models_of(experiment, split)
    counts, result = read_counts(experiment, split)
    measured = {model: _row(counts[model], bootstrap) for model in models}
    baseline = measured[BASELINE] if BASELINE in experiment.systems else None
    level = bootstrap.level

    rows = {MAJORITY: _majority(counts[models[0]])}
    if experiment.teachers and split == "test":
        own = {experiment.own_language(teacher): teacher for teacher in experiment.teachers}
        composed = {at: counts[own[at]][at] for at in languages if at in own}
        row = _row(composed, bootstrap)
        rows[TEACHERS] = _describe("teachers", row, baseline, languages, level)
        together = read_taught(experiment)
        if together is not None:
            row = _row(together, bootstrap)
            entry = _describe("teachers", row, baseline, languages, level)
            rows[TOGETHER] = {**entry, "runs": None}  # all seeds speak at once
    for name in experiment.external if split == "test" else ():
        row = _row(read_external(experiment, name), bootstrap)
        entry = _describe("teacher", row, baseline, languages, level)
        rows[name] = {**entry, "runs": None}
    for model, row in measured.items():
        kind = "teacher" if model in experiment.teachers else "system"
        compared = None if model == BASELINE else baseline
        rows[model] = _describe(kind, row, compared, languages, level)
    pairs = {
        one: {
            other: _differences(measured[one], measured[other], level)
            for other in experiment.systems
            if other != one
        }
        for one in experiment.systems
    }
    return {**result, "rows": rows, "pairs": pairs}


def _differences(one: Row, other: Row, level: float) -> dict[str, Any]:
    """UAR of one system minus that of another, over the same resamples of speakers."""
    values = one.values["uar"] - other.values["uar"]
    draws = one.draws["uar"] - other.draws["uar"]
    languages = {at: _difference(values[i], draws[i], level) for i, at in enumerate(one.counts)}
    return {**_difference(values.mean(), draws.mean(axis=0), level), "languages": languages}


def _add_costs(experiment: Experiment, rows: dict[str, Any]) -> None:
    """Parameters and training time: means over folds and seeds."""
    for model in experiment.models:
        infos = [
            read_info(experiment, fold, seed, model)
            for fold in experiment.folds
            for seed in experiment.seeds
        ]
        for key, digits in (("num_params", 3), ("train_seconds", 3)):
            rows[model][key] = round(float(np.mean([info[key] for info in infos])), digits)
    if TEACHERS in rows:
        for key in ("num_params", "train_seconds"):
            total = sum(rows[teacher][key] for teacher in experiment.teachers)
            rows[TEACHERS][key] = round(total, 3)
            if TOGETHER in rows:
                soup = key == "num_params" and experiment.raw["teacher_ensemble"] == "soup"
                many = 1 if soup else len(experiment.seeds)
                rows[TOGETHER][key] = round(total * many, 3)


def _dev_uar(experiment: Experiment, system: str) -> float:
    """UAR on the development sets: mean over languages, folds and seeds."""
    languages, num_classes = experiment.languages, len(experiment.emotions)
    values = []
    for fold in experiment.folds:
        for seed in experiment.seeds:
            path = experiment.model_dir(fold, seed, system) / "dev.tsv"
            dev = read_predictions(path, experiment.emotions, languages)
            at = np.array([languages.index(language) for language in dev.languages])
            counts = count_confusions(dev.ref, dev.hyp, at, len(languages), num_classes)
            values.append(np.nanmean(METRICS["uar"](counts)))
    return round(float(np.mean(values)), 6)


def _language_accuracy(experiment: Experiment, system: str) -> float | None:
    """Accuracy of the language head on the development sets: mean over folds and seeds."""
    values = [
        read_info(experiment, fold, seed, system).get("language_accuracy")
        for fold in experiment.folds
        for seed in experiment.seeds
    ]
    return None if None in values else round(float(np.mean(values)), 6)


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _teacher_warnings(experiment: Experiment, rows: Mapping[str, Any]) -> list[str]:
    if BASELINE not in rows or TEACHERS not in rows:
        return []
    own = rows.get(TOGETHER, rows[TEACHERS])  # those that teach
    teachers = [(own, "", experiment.languages)]
    for name, language in experiment.external.items():
        spoken = experiment.languages if language == "all" else [language]
        teachers.append((rows[name], f" {name}", spoken))
    warnings = []
    for row, name, spoken in teachers:
        for language, difference in row["difference"]["languages"].items():
            if difference["value"] >= 0 or language not in spoken:
                continue
            teacher, baseline = (
                _percent(r["languages"][language]["uar"]["value"]) for r in (row, rows[BASELINE])
            )
            p = "" if difference["p"] is None else f", p = {difference['p']:.3f}"
            warnings.append(
                f"the teacher{name} of {language} is worse than {BASELINE} on its own language: "
                f"UAR {teacher} against {baseline}{p}; it can hardly help there"
            )
    return warnings


def _notes(experiment: Experiment, sets: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = [
        f"whether the teacher {name} has heard speakers of the test sets is not known here"
        for name in experiment.external
    ]
    if len(experiment.folds) < experiment.num_folds:
        notes.append(
            f"{len(experiment.folds)} of {experiment.num_folds} folds were run: "
            "only part of the data was tested"
        )
    for part in sets:
        for language, data in part["data"].items():
            if data["absent"]:
                notes.append(
                    f"{language}: no test utterance of {', '.join(data['absent'])}; "
                    "left out of the means of UAR and macro-F1"
                )
            if data["speakers"] == 1:
                notes.append(
                    f"{language}: one test speaker only, so no interval, and none for the mean"
                )
            elif data["speakers"] < FEW_SPEAKERS:
                notes.append(
                    f"{language}: {data['speakers']} test speakers only; "
                    "its intervals are rough and rather too narrow"
                )
    return notes


def score(
    experiment: Experiment,
    bootstrap: Bootstrap | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Everything that is reported about an experiment, as JSON-ready values.

    Args:
        experiment: From :func:`~espnet_mtkd.evaluate.experiment.read_experiment`.
        bootstrap: Resamples, seed and level of the intervals; default 2000, 0, 0.95.
        progress: Is told what is being done.

    Raises:
        UserError: If predictions, ``info.json`` or the audit are missing or malformed.
    """
    bootstrap = bootstrap or Bootstrap()
    audit_path = Path(experiment.folds_dir) / "audit.json"
    audit = read_json(audit_path, "make the folds and their audit with ./run.sh --stage 3")
    text_path = Path(experiment.folds_dir) / "audit.md"
    if not text_path.is_file():
        raise UserError(f"{text_path}: no such file; make it with ./run.sh --stage 3")
    progress(f"scoring {len(experiment.models)} models on the test sets")
    test = score_set(experiment, "test", bootstrap)
    _add_costs(experiment, test["rows"])
    for system in experiment.systems:
        test["rows"][system]["calibration"] = measure_calibration(experiment, system)
        test["rows"][system]["dev_uar"] = _dev_uar(experiment, system)
        test["rows"][system]["language_accuracy"] = _language_accuracy(experiment, system)
    heldout = None
    if experiment.heldout_languages:
        progress(f"scoring {len(experiment.models)} models on the held-out corpora")
        heldout = score_set(experiment, "heldout", bootstrap)
    left_out = None
    if experiment.left_out:
        progress(f"scoring {len(experiment.systems)} systems on languages that were left out")
        left_out = score_set(experiment, "left_out", bootstrap)
    rows = test["rows"]

    def uar_of(model: str) -> list[float]:
        return [rows[model]["languages"][at]["uar"]["value"] for at in experiment.languages]

    synthetic = None
    if experiment.synthetic:
        synthetic = (
            f"made from the synthetic corpus {experiment.name}: "
            "for trying and testing, not for claims"
        )
    teachers = [*experiment.teachers, *experiment.external]
    return {
        "format": FORMAT,
        "experiment": experiment.raw,
        "bootstrap": {
            "num_resamples": bootstrap.num_resamples,
            "seed": bootstrap.seed,
            "level": bootstrap.level,
        },
        "warnings": {
            "synthetic": synthetic,
            "teachers": _teacher_warnings(experiment, rows),
            "notes": _notes(experiment, [test, heldout] if heldout else [test]),
        },
        "teachers": {
            "names": teachers,
            "languages": experiment.languages,
            "uar": [uar_of(teacher) for teacher in teachers],
            BASELINE: uar_of(BASELINE) if BASELINE in rows else None,
        },
        "test": test,
        "heldout": heldout,
        "left_out": left_out,
        "audit": audit,
        "audit_text": text_path.read_text(encoding="utf-8"),
    }
