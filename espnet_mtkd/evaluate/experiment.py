"""What an experiment folder says about itself: experiment.json, info.json, history.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from espnet_mtkd.errors import UserError

TEACHER_PREFIX = "teacher_"


@dataclass(frozen=True)
class Experiment:
    """The content of ``experiment.json``; keys beside these are kept in ``raw``."""

    name: str
    corpora: dict[str, Any]
    synthetic: bool
    languages: list[str]
    heldout_languages: list[str]
    emotions: list[str]
    label_set: str
    protocol: str
    num_folds: int
    folds: list[Any]
    seeds: list[Any]
    teachers: list[str]
    systems: list[str]
    upstream: str
    upstream_mode: str
    command: str
    folds_dir: str
    environment: dict[str, Any]
    expdir: Path
    raw: dict[str, Any]

    @property
    def models(self) -> list[str]:
        """Every model that was trained: teachers, then systems."""
        return [*self.teachers, *self.systems]

    @property
    def left_out(self) -> list[str]:
        """Languages that students met only when tested, with ``--leave_one_language_out``."""
        return self.raw.get("left_out", [])

    @property
    def external(self) -> dict[str, str]:
        """Teachers from elsewhere and their languages, ``all`` for any."""
        given = self.raw.get("external_teachers", "").split()
        return dict(text.split(",", 2)[:2] for text in given)

    def own_language(self, teacher: str) -> str:
        """The language that ``teacher`` was trained on."""
        return teacher.removeprefix(TEACHER_PREFIX)

    def model_dir(self, fold: Any, seed: Any, model: str) -> Path:
        """Folder of one model of one fold and seed."""
        return self.expdir / f"fold_{fold}" / f"seed_{seed}" / model


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: If there is no such file (with ``remedy``) or it does not hold a JSON object.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {remedy}") from None
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not valid JSON ({error.msg}); {remedy}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: holds no JSON object; {remedy}")
    return value


def experiment_from(raw: Mapping[str, Any], expdir: str | Path, where: str) -> Experiment:
    """Check the content of an ``experiment.json`` and give it names.

    Args:
        raw: The JSON object.
        expdir: The folder that holds the models.
        where: The file, for messages.

    Raises:
        UserError: If a key is missing, has the wrong type, or the lists do not make sense.
    """
    kinds = {"str": str, "bool": bool, "int": int, "list": list, "dict": dict}
    values: dict[str, Any] = {}
    for field in fields(Experiment):
        if field.name in ("expdir", "raw"):
            continue
        if field.name not in raw:
            raise UserError(f"{where}: key `{field.name}` is missing; write it again with ./run.sh")
        kind = kinds[str(field.type).split("[")[0]]
        if not isinstance(raw[field.name], kind):
            raise UserError(
                f"{where}: key `{field.name}` is {raw[field.name]!r}, not a {kind.__name__}"
            )
        values[field.name] = raw[field.name]
    for key in ("languages", "emotions", "folds", "seeds"):
        if not values[key]:
            raise UserError(f"{where}: key `{key}` is empty; at least one is needed")
    if not values["teachers"] and not values["systems"]:
        raise UserError(f"{where}: neither teachers nor systems: nothing to score")
    lists = ("languages", "heldout_languages", "emotions", "folds", "seeds", "teachers", "systems")
    for key in lists:
        if len(set(values[key])) != len(values[key]):
            raise UserError(f"{where}: key `{key}` names something twice: {values[key]}")
    for teacher in values["teachers"]:
        language = teacher.removeprefix(TEACHER_PREFIX)
        if not teacher.startswith(TEACHER_PREFIX) or language not in values["languages"]:
            raise UserError(
                f"{where}: teacher `{teacher}` is not {TEACHER_PREFIX}<language> "
                f"of one of the languages {', '.join(values['languages'])}"
            )
    return Experiment(**values, expdir=Path(expdir), raw=dict(raw))


def read_experiment(expdir: str | Path) -> Experiment:
    """Read ``<expdir>/experiment.json``; see :func:`experiment_from` for errors."""
    path = Path(expdir) / "experiment.json"
    raw = read_json(path, "give the folder of a run with --expdir, or make one with ./run.sh")
    return experiment_from(raw, expdir, str(path))


def _training_stage(model: str) -> str:
    stage = 5 if model.startswith(TEACHER_PREFIX) else 7
    return f"train the model with ./run.sh --stage {stage}"


def read_info(experiment: Experiment, fold: Any, seed: Any, model: str) -> dict[str, float]:
    """Read the numbers of ``info.json``: parameters, seconds of training, accuracy of languages.

    Raises:
        UserError: If the file or a number is missing.
    """
    path = experiment.model_dir(fold, seed, model) / "info.json"
    info = read_json(path, _training_stage(model))
    numbers = {}
    for key in ("num_params", "num_trainable", "train_seconds"):
        value = info.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UserError(f"{path}: key `{key}` is {value!r}, not a number")
        numbers[key] = value
    if "language_accuracy" in info:  # of models with a language head
        numbers["language_accuracy"] = float(info["language_accuracy"])
    return numbers


def read_history(
    experiment: Experiment, fold: Any, seed: Any, model: str
) -> dict[int, dict[str, dict[str, float]]]:
    """Read ``history.json``: epoch -> {"train": {...}, "valid": {...}}, epochs in order.

    Raises:
        UserError: If the file is missing or a key is not the number of an epoch.
    """
    path = experiment.model_dir(fold, seed, model) / "history.json"
    raw = read_json(path, _training_stage(model))
    try:
        return {int(epoch): raw[epoch] for epoch in sorted(raw, key=int)}
    except ValueError:
        raise UserError(f"{path}: has a key that is not the number of an epoch") from None
