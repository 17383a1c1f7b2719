"""ESPnet task: train a student with the cached logits of several teachers."""

from __future__ import annotations

import argparse
from pathlib import Path

from espnet2.train.class_choices import ClassChoices
from espnet2.utils.nested_dict_action import NestedDictAction
from espnet2.utils.types import str_or_none

from espnet_mtkd.distill.loss import MultiTeacherLoss
from espnet_mtkd.distill.weighting import WEIGHTINGS, AbsWeighting
from espnet_mtkd.errors import UserError
from espnet_mtkd.models.mtkd_model import ESPnetMTKDModel
from espnet_mtkd.tasks.ser import SERTask

weighting_choices = ClassChoices(
    "weighting", WEIGHTINGS, type_check=AbsWeighting, default="language"
)


class MTKDTask(SERTask):
    """The classifier of :class:`SERTask`, and the multi-teacher loss on top.

    One more data name: ``teacher_logits``, for every utterance of the training set a matrix
    (K, C) in a Kaldi ark, in the order of ``--teachers``.
    """

    class_choices_list = [*SERTask.class_choices_list, weighting_choices]

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the options of teachers and loss."""
        super().add_task_arguments(parser)
        group = parser.add_argument_group("Distillation")
        parser.get_default("required").append("teachers")
        group.add_argument(
            "--teachers",
            type=str_or_none,
            help="File with a teacher a line: its name and its language ('all' for every language)",
        )
        group.add_argument(
            "--distill_conf",
            action=NestedDictAction,
            default=dict(),
            help="kd_lambda, temperature, standardize, reduction",
        )

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Training needs the teachers' logits."""
        names = super().required_data_names(train, inference)
        return (*names, "teacher_logits") if train and not inference else names

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """With teachers' logits on the development set its loss has the teachers' part too."""
        return () if train else ("teacher_logits",)

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> ESPnetMTKDModel:
        """Build the student."""
        classifier = cls.classifier(args)
        if not isinstance(args.teachers, list):
            args.teachers = [list(pair) for pair in read_teachers(args.teachers)]
        index = {language: i for i, language in enumerate(args.languages)}
        index["all"] = -1
        for teacher, language in args.teachers:
            if language not in index:
                raise UserError(
                    f"--teachers: teacher {teacher} is of language {language!r}, which is not one "
                    f"of {', '.join(args.languages)} or all"
                )
        weighting = weighting_choices.get_class(args.weighting)(
            [index[language] for _, language in args.teachers], **args.weighting_conf
        )
        conf = dict(args.distill_conf)
        return ESPnetMTKDModel(
            teachers=[name for name, _ in args.teachers],
            weighting=weighting,
            **({"kd_lambda": conf.pop("kd_lambda")} if "kd_lambda" in conf else {}),
            distill_loss=MultiTeacherLoss(**conf),
            **classifier,
            **args.model_conf,
        )


def read_teachers(path: str | None) -> list[tuple[str, str]]:
    """Read the file beside a cache of teachers' logits: a name and a language on each line."""
    if path is None or not Path(path).is_file():
        raise UserError(
            f"--teachers {path}: must be a file with a teacher's name and language a line"
        )
    pairs = [tuple(line.split()) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    for number, pair in enumerate(pairs, 1):
        if len(pair) != 2:
            raise UserError(f"{path}:{number}: must hold a teacher's name and its language")
    if not pairs or len({name for name, _ in pairs}) < len(pairs):
        raise UserError(f"{path}: must hold at least one teacher, and none twice")
    return pairs
