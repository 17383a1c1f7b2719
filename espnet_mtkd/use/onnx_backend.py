"""Exported models, run by onnxruntime; torch is not needed and not imported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from espnet_mtkd.errors import UserError
from espnet_mtkd.use.archive import check_format

METADATA = "espnet_mtkd"  # key of the metadata of a model, which is JSON


class OnnxBackend:
    """A model that ``mtkd export`` wrote.

    Args:
        path: the ``.onnx`` file.

    Raises:
        UserError: no such file, no model of this project, one of a newer version, or onnxruntime
            is missing.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            import onnxruntime
            from onnxruntime.capi import onnxruntime_pybind11_state as errors
        except ImportError as error:
            raise UserError(
                f"the onnx backend needs onnxruntime ({error}): pip install 'espnet-mtkd[onnx]'"
            ) from None
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file; mtkd export makes it")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except (errors.Fail, errors.InvalidProtobuf, errors.InvalidGraph, errors.NoSuchFile):
            raise UserError(f"{path}: no ONNX model, or a broken one") from None
        stored = self.session.get_modelmeta().custom_metadata_map.get(METADATA)
        if stored is None:
            raise UserError(f"{path}: not exported by mtkd export: no emotions are named in it")
        facts = json.loads(stored)
        check_format(facts["format"], path)
        self.emotions: list[str] = facts["emotions"]
        self.languages: list[str] | None = facts["languages"]
        self.temperature: float | None = facts["temperature"]
        self.max_seconds: float | None = facts["max_seconds"]

    def __call__(self, speech: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the logits (Batch, C) and those of the languages (Batch, L), or None.

        Args:
            speech: (Batch, Samples) float32 at 16 kHz.
        """
        logits, *language = self.session.run(None, {"speech": speech})
        return logits, language[0] if language else None
