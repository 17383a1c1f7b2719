"""ESPnet task: train a student with several teachers, cached or live."""

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
from espnet_mtkd.models.ser_model import ESPnetSERModel
from espnet_mtkd.tasks.inference import load_model
from espnet_mtkd.tasks.ser import SERTask, construct

weighting_choices = ClassChoices(
    "weighting", WEIGHTINGS, type_check=AbsWeighting, default="language"
)


class MTKDTask(SERTask):
    """The classifier of :class:`SERTask`, and the multi-teacher loss on top.

    Cached teachers bring one more data name: ``teacher_logits``, for every utterance of the
    training set a matrix (K, C) in a Kaldi ark, in the order of ``--teachers``. Live teachers are
    named with their folders in ``--teachers``.
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
            help="File with a teacher a line: its name, its language ('all' for every language) "
            "and, if it is to run live, its folder",
        )
        group.add_argument(
            "--distill_conf",
            action=NestedDictAction,
            default=dict(),
            help="kd_lambda, lambda_schedule, temperature, standardize, reduction",
        )

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Logits of cached teachers; on the development set its loss then has their part too."""
        return ("teacher_logits",)

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> ESPnetMTKDModel:
        """Build the student."""
        classifier = cls.classifier(args)
        if not isinstance(args.teachers, list):
            args.teachers = [list(teacher) for teacher in read_teachers(args.teachers)]
        folders = [teacher[2] for teacher in args.teachers if len(teacher) == 3]
        data = [item[1] for item in args.train_data_path_and_name_and_type]
        if bool(folders) == ("teacher_logits" in data):
            raise UserError(
                "--teachers: teachers need either a folder each (live) or teacher_logits in "
                "--train_data_path_and_name_and_type (cached), not both"
            )
        for teacher, language, *_ in args.teachers:
            if language not in (*args.languages, "all"):
                raise UserError(
                    f"--teachers: teacher {teacher} is of language {language!r}, which is not one "
                    f"of {', '.join(args.languages)} or all"
                )
        weighting = construct(
            "weighting_conf",
            weighting_choices.get_class(args.weighting),
            [(name, language) for name, language, *_ in args.teachers],
            args.languages,
            **args.weighting_conf,
        )
        conf = dict(args.distill_conf)
        return ESPnetMTKDModel(
            teachers=[name for name, *_ in args.teachers],
            weighting=weighting,
            **{key: conf.pop(key) for key in ("kd_lambda", "lambda_schedule") if key in conf},
            distill_loss=construct("distill_conf", MultiTeacherLoss, **conf),
            live_teachers=[load_teacher(folder, args.emotions) for folder in folders],
            **classifier,
        )


def load_teacher(folder: str, emotions: list[str]) -> ESPnetSERModel:
    """Load a live teacher, which must know the emotions of the student in the same order."""
    teacher, _ = load_model(folder)
    if teacher.emotions != emotions:
        raise UserError(
            f"teacher {folder} knows {teacher.emotions}, the student {emotions}; both need "
            "the same emotions in the same order"
        )
    return teacher


def read_teachers(path: str | None) -> list[tuple[str, ...]]:
    """Read a file with a teacher a line: name, language and, for live teachers, folder."""
    if path is None or not Path(path).is_file():
        raise UserError(f"--teachers {path}: must be a file with a name and a language a line")
    teachers = [
        tuple(line.split(None, 2)) for line in Path(path).read_text(encoding="utf-8").splitlines()
    ]
    for number, teacher in enumerate(teachers, 1):
        if len(teacher) != len(teachers[0]) or len(teacher) < 2:
            raise UserError(
                f"{path}:{number}: must hold a teacher's name, its language and, for all teachers "
                "or for none, its folder"
            )
    if not teachers or len({name for name, *_ in teachers}) < len(teachers):
        raise UserError(f"{path}: must hold at least one teacher, and none twice")
    return teachers
