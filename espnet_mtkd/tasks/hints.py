"""ESPnet task: teach an encoder on filter banks what a frozen upstream hears, see hint_model."""

from __future__ import annotations

import argparse

from espnet_mtkd.models.hint_model import ESPnetHintModel
from espnet_mtkd.tasks.ser import SERTask


class HintTask(SERTask):
    """The first stage of a student with ``hints: true``; its encoder is what is kept.

    Data names: ``speech``, and ``hint``, the frames (Frames, H) of the upstream's last layer. The
    config is that of the student; what it says of pooling, head and the choice of an epoch is not
    used: it is the last one.
    """

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Hints are not an option here."""
        super().add_task_arguments(parser)
        parser.get_default("required").append("hints_info")

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
    def build_model(cls, args: argparse.Namespace) -> ESPnetHintModel:
        """Build encoder and projector."""
        frontend = cls.build_frontend(args)
        loss = cls.hint_loss(args, frontend)
        return ESPnetHintModel(frontend, loss, args.model_conf.get("max_duration"))
