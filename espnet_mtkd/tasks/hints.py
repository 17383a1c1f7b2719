"""ESPnet task: teach an encoder on filter banks what a frozen upstream hears, see hint_model."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from espnet2.asr.frontend.abs_frontend import AbsFrontend
from espnet2.utils.types import str_or_none

from espnet_mtkd.errors import UserError
from espnet_mtkd.models.hint_model import ESPnetHintModel
from espnet_mtkd.tasks.ser import ON_FILTER_BANKS, SERTask, read_info


class MeanHints:
    """A preprocessor's last step: one hint for each of the encoder's frames.

    Args:
        preprocess: what comes before.
        frames: of the upstream that are averaged to one.
    """

    def __init__(self, preprocess: Callable, frames: int) -> None:
        self.preprocess = preprocess
        self.frames = frames

    def __call__(self, uid: str, data: dict[str, Any]) -> dict[str, np.ndarray]:
        """Preprocess an utterance; frames that do not fill a hint make a last one."""
        data = self.preprocess(uid, data)
        starts = np.arange(0, len(data["hint"]), self.frames)
        sums = np.add.reduceat(data["hint"], starts, axis=0)
        counts = np.minimum(self.frames, len(data["hint"]) - starts)
        return {**data, "hint": (sums / counts[:, None]).astype(np.float32)}


class HintTask(SERTask):
    """The first stage of a student with ``hints: true``; its encoder is what is kept.

    Data names: ``speech``, and ``hint``, the frames (Frames, H) of the upstream's last layer. The
    config is that of the student; what it says of pooling, head and the choice of an epoch is not
    used: it is the last one.
    """

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the option of the hints."""
        super().add_task_arguments(parser)
        parser.get_default("required").append("hints_info")
        group = parser.add_argument_group("Hints")
        group.add_argument(
            "--hints_info", type=str_or_none, help="info.json of the stored frames of an upstream"
        )

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """Train to the end: the student's criteria are of emotions."""
        args.best_model_criterion, args.patience = [], None
        super().main_worker(args)

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Speech and hints."""
        return ("speech", "hint")

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Labels, which are not used."""
        return ("emotion", "language")

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> MeanHints:
        """Bring the hints to the encoder's frames."""
        encoder, info = cls.build_frontend(args), read_info(args.hints_info, "hints_info")
        frames, rest = divmod(encoder.frame_shift, info["frame_shift"])
        if rest:
            raise UserError(
                f"--hints_info {args.hints_info}: the upstream's frames come every "
                f"{info['frame_shift']} samples, those of the encoder every {encoder.frame_shift}, "
                "which must be a multiple (frontend_conf: strides)"
            )
        return MeanHints(super().build_preprocess_fn(args, train), frames)

    @classmethod
    def build_frontend(cls, args: argparse.Namespace) -> AbsFrontend:
        """Build the student's encoder, no upstream."""
        if args.frontend not in ON_FILTER_BANKS:
            raise UserError(
                f"frontend {args.frontend}: hints are for an encoder of the student's own "
                f"({', '.join(ON_FILTER_BANKS)})"
            )
        return super().build_frontend(args)

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> ESPnetHintModel:
        """Build encoder and projector."""
        size = read_info(args.hints_info, "hints_info")["frontend_conf"]["hidden_size"]
        return ESPnetHintModel(cls.build_frontend(args), size, args.model_conf.get("max_duration"))
