"""The predictions of stage 8: one tab-separated file per model, fold, seed and set of data.

Header: ``utt_id spk_id lang corpus ref logit_<emotion> ...``, emotions in the order of the label
set. The hypothesis is the class with the largest logit, the first one of a tie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.special import log_softmax, logsumexp

from espnet_mtkd.errors import UserError

COLUMNS = ("utt_id", "spk_id", "lang", "corpus", "ref")


@dataclass(frozen=True)
class Predictions:
    """One file of predictions; utterance i stands on line i + 2.

    Attributes:
        path: The file.
        utt_ids, speakers, languages, corpora: One string per utterance (N).
        ref: Index of the reference class (N,).
        logits: Logits (N, C).
    """

    path: Path
    utt_ids: list[str]
    speakers: list[str]
    languages: list[str]
    corpora: list[str]
    ref: np.ndarray
    logits: np.ndarray

    @property
    def hyp(self) -> np.ndarray:
        """Index of the hypothesis (N,)."""
        return self.logits.argmax(axis=1)

    def at(self, index: int) -> str:
        """Where utterance ``index`` stands: ``file:line``."""
        return f"{self.path}:{index + 2}"

    def record(self, index: int) -> tuple[str, str, str, int]:
        """What must not differ between models: speaker, language, corpus, reference."""
        return (
            self.speakers[index],
            self.languages[index],
            self.corpora[index],
            int(self.ref[index]),
        )


def _floats(path: Path, rows: Sequence[Sequence[str]], emotions: Sequence[str]) -> np.ndarray:
    """Logits (N, C) of the rows; names the first cell that is not a finite number."""
    try:
        values = np.array([row[len(COLUMNS) :] for row in rows], dtype=np.float64)
        if np.isfinite(values).all():
            return values
    except ValueError:
        pass  # Found below, with its line.
    for number, row in enumerate(rows, start=2):
        for emotion, text in zip(emotions, row[len(COLUMNS) :], strict=True):
            try:
                finite = np.isfinite(float(text))
            except ValueError:
                finite = False
            if not finite:
                raise UserError(
                    f"{path}:{number}: logit_{emotion} of utterance {row[0]} is {text!r}, "
                    "not a finite number"
                )
    raise AssertionError("no cell is wrong, yet the table is")


def read_predictions(
    path: str | Path, emotions: Sequence[str], languages: Sequence[str]
) -> Predictions:
    """Read one file of predictions.

    Args:
        path: ``test.tsv``, ``dev.tsv`` or ``heldout.tsv``.
        emotions: The label set, in order.
        languages: The languages that may occur.

    Raises:
        UserError: With file and line, for a wrong header or number of columns, a duplicate
            utterance, an unknown emotion or language, or a logit that is not finite.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: no predictions; make them with ./run.sh --stage 8") from None
    header = [*COLUMNS, *(f"logit_{emotion}" for emotion in emotions)]
    if not lines or lines[0].split("\t") != header:
        found = lines[0].replace("\t", " ") if lines else "an empty file"
        raise UserError(f"{path}:1: the header must be {' '.join(header)!r}, found {found!r}")
    if len(lines) == 1:
        raise UserError(f"{path}: holds no utterance; make it again with ./run.sh --stage 8")
    rows = [line.split("\t") for line in lines[1:]]
    index_of = {emotion: index for index, emotion in enumerate(emotions)}
    first_line: dict[str, int] = {}
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise UserError(f"{path}:{number}: {len(row)} columns instead of {len(header)}")
        utt_id, _, language, _, ref = row[: len(COLUMNS)]
        if utt_id in first_line:
            raise UserError(
                f"{path}:{number}: duplicate utterance {utt_id}, first on line {first_line[utt_id]}"
            )
        first_line[utt_id] = number
        if ref not in index_of:
            raise UserError(
                f"{path}:{number}: unknown emotion {ref!r}; the label set is {', '.join(emotions)}"
            )
        if language not in languages:
            raise UserError(
                f"{path}:{number}: unknown language {language!r}; "
                f"the experiment has {', '.join(languages)}"
            )
    return Predictions(
        path=path,
        utt_ids=[row[0] for row in rows],
        speakers=[row[1] for row in rows],
        languages=[row[2] for row in rows],
        corpora=[row[3] for row in rows],
        ref=np.array([index_of[row[4]] for row in rows]),
        logits=_floats(path, rows, emotions),
    )


def check_same_utterances(first: Predictions, other: Predictions) -> None:
    """Check that two models were tested on the same utterances (in any order).

    Raises:
        UserError: With file and line of the first utterance that differs.
    """
    place = {utt_id: index for index, utt_id in enumerate(first.utt_ids)}
    for index, utt_id in enumerate(other.utt_ids):
        if utt_id not in place:
            raise UserError(
                f"{other.at(index)}: utterance {utt_id} is not in {first.path}; all models must be "
                "tested on the same utterances: make both again with ./run.sh --stage 8"
            )
        if first.record(place[utt_id]) != other.record(index):
            raise UserError(
                f"{other.at(index)}: speaker, language, corpus or reference of {utt_id} is not "
                f"that of {first.at(place[utt_id])}; make both again with ./run.sh --stage 8"
            )
    if len(other.utt_ids) < len(first.utt_ids):
        known = set(other.utt_ids)
        index, utt_id = next((i, u) for i, u in enumerate(first.utt_ids) if u not in known)
        raise UserError(
            f"{other.path}: lacks utterance {utt_id} of {first.at(index)}; all models must be "
            "tested on the same utterances: make both again with ./run.sh --stage 8"
        )


def mean_of(members: Sequence[Predictions]) -> Predictions:
    """Return the predictions of an ensemble: the mean of its members' probabilities.

    Its logits are the logarithms of that mean.

    Raises:
        UserError: the members were tested on different utterances.
    """
    first = members[0]
    logarithms = []
    for member in members:
        check_same_utterances(first, member)
        place = {utt_id: index for index, utt_id in enumerate(member.utt_ids)}
        logits = member.logits[[place[utt_id] for utt_id in first.utt_ids]]
        logarithms.append(log_softmax(logits, axis=1))
    return replace(first, logits=logsumexp(logarithms, axis=0) - np.log(len(members)))


def check_disjoint(parts: Sequence[Predictions]) -> None:
    """Check that no utterance is tested in two folds.

    Raises:
        UserError: With both places.
    """
    seen: dict[str, str] = {}
    for part in parts:
        for index, utt_id in enumerate(part.utt_ids):
            if utt_id in seen:
                raise UserError(
                    f"{part.at(index)}: utterance {utt_id} is also tested in {seen[utt_id]}; "
                    "folds must not share test utterances: make them again with ./run.sh --stage 3"
                )
            seen[utt_id] = part.at(index)
