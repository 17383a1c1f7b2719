"""Predictions as JSON Lines, CSV or Kaldi text."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from typing import TextIO

from espnet_mtkd.errors import UserError
from espnet_mtkd.recognizer import Prediction
from espnet_mtkd.use.recordings import Recording

FORMATS = ("jsonl", "csv", "kaldi")


class Writer:
    """Write one record for each recording.

    ``jsonl``: everything, an object a line, with the timeline of long recordings. ``csv``: a header
    and a row for each recording. ``kaldi``: id and emotion, as ``utt2emotion``; what failed is left
    out, as there is no place for it.

    Args:
        file: to write to.
        output_format: one of :data:`FORMATS`.
        emotions, languages: of the model.
    """

    def __init__(
        self,
        file: TextIO,
        output_format: str,
        emotions: Sequence[str],
        languages: Sequence[str] | None,
    ) -> None:
        self.file = file
        self.write = {"jsonl": self._json, "csv": self._csv, "kaldi": self._kaldi}[output_format]
        self.emotions, self.languages = emotions, languages or ()
        if output_format == "csv":
            self.rows = csv.writer(file, lineterminator="\n")
            probabilities = [f"p_{name}" for name in (*self.emotions, *self.languages)]
            head = ("id", "path", "duration", "emotion", "confidence", *probabilities, "error")
            self.rows.writerow(head)

    def _json(self, recording: Recording, outcome: Prediction | UserError) -> None:
        facts = {"id": recording.name, "path": recording.path}
        failed = isinstance(outcome, UserError)
        facts |= {"error": str(outcome)} if failed else outcome.to_dict()
        # A path may hold bytes that are no text; escaped they survive.
        self.file.write(json.dumps(facts) + "\n")

    def _csv(self, recording: Recording, outcome: Prediction | UserError) -> None:
        cells = [recording.name, recording.path]
        if isinstance(outcome, UserError):
            empty = [""] * (3 + len(self.emotions) + len(self.languages))
            self.rows.writerow([*cells, *empty, str(outcome)])
            return
        facts = outcome.to_dict()
        cells += [facts["duration"], facts["emotion"], facts["confidence"]]
        cells += [facts["probabilities"][name] for name in self.emotions]
        cells += [facts["languages"][name] for name in self.languages]
        self.rows.writerow([*cells, ""])

    def _kaldi(self, recording: Recording, outcome: Prediction | UserError) -> None:
        if isinstance(outcome, Prediction):
            self.file.write(f"{recording.name} {outcome.emotion}\n")
