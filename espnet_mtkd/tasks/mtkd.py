"""ESPnet task: train a student with several teachers, cached or live."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from espnet2.train.class_choices import ClassChoices
from espnet2.utils.nested_dict_action import NestedDictAction
from espnet2.utils.types import str_or_none

from espnet_mtkd.data.ark import read_ark
from espnet_mtkd.data.datadir import read_map
from espnet_mtkd.distill import MEASURED
from espnet_mtkd.distill.features import FeatureLoss, check_kind
from espnet_mtkd.distill.loss import MultiTeacherLoss
from espnet_mtkd.distill.opinions import align
from espnet_mtkd.distill.weighting import WEIGHTINGS, AbsWeighting
from espnet_mtkd.errors import UserError
from espnet_mtkd.models.mtkd_model import ESPnetMTKDModel
from espnet_mtkd.models.ser_model import ESPnetSERModel
from espnet_mtkd.tasks.inference import check_features, load_teacher
from espnet_mtkd.tasks.ser import SERTask, check_names, construct
from espnet_mtkd.yaml_numbers import check_number

# Options of distill_conf that are not the loss's.
OF_STUDENT = ("kd_lambda", "lambda_schedule", "feature_lambda")
OF_FEATURES = "feature_loss"

weighting_choices = ClassChoices(
    "weighting", WEIGHTINGS, type_check=AbsWeighting, default="language"
)


class MTKDTask(SERTask):
    """The classifier of :class:`SERTask`, and the multi-teacher loss on top.

    Cached teachers bring one more data name: ``teacher_logits``, for every utterance of the
    training set a matrix (K, C) in a Kaldi ark, in the order of ``--teachers``; to learn their
    features a second one: ``teacher_embeddings``, matrices (K, P). Live teachers are named with
    their folders or archives in ``--teachers``.
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
            "and, if it is to run live, its folder, archive (.zip) or parameters (.pth)",
        )
        group.add_argument(
            "--distill_conf",
            action=NestedDictAction,
            default=dict(),
            help="kd_lambda, lambda_schedule, temperature, standardize, reduction, feature_lambda, "
            "feature_loss",
        )

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Of cached teachers; with them, the loss of the development set has their part too."""
        own = super().optional_data_names(train, inference)
        return (*own, "teacher_logits", "teacher_embeddings")

    @classmethod
    def hears_waveforms(cls, args: argparse.Namespace) -> bool:
        """Live teachers hear them too."""
        return super().hears_waveforms(args) or len(args.teachers[0]) == 3

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> ESPnetMTKDModel:
        """Build the student."""
        classifier = cls.classifier(args)
        if not isinstance(args.teachers, list):
            args.teachers = [list(teacher) for teacher in read_teachers(args.teachers)]
        folders = [teacher[2] for teacher in args.teachers if len(teacher) == 3]
        data = {name: path for path, name, _ in args.train_data_path_and_name_and_type}
        if bool(folders) == ("teacher_logits" in data):
            raise UserError(
                "--teachers: teachers need either a folder each (live) or teacher_logits in "
                "--train_data_path_and_name_and_type (cached), not both"
            )
        for weighting, measured in MEASURED.items():
            if args.weighting == weighting and measured not in args.weighting_conf:
                raise UserError(
                    f"weighting {weighting} needs weighting_conf: {measured}, a file that stage 6 "
                    "writes with the teachers' logits; live teachers have no such stage"
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
        own = {key: conf.pop(key) for key in OF_STUDENT if key in conf}
        kind = check_kind(conf.pop(OF_FEATURES, "cosine"))
        live = [cls.live_teacher(args, classifier, folder) for folder in folders]
        if check_number("distill_conf: feature_lambda", own.get("feature_lambda", 0)) > 0:
            if live:
                sizes = [teacher.embedding_size for teacher in live]
            else:
                sizes = [cached_size(data.get("teacher_embeddings"))] * len(args.teachers)
            size = classifier["pooling"].output_size(classifier["frontend"].output_size())
            own["feature_loss"] = FeatureLoss(size, sizes, kind)
        return ESPnetMTKDModel(
            teachers=[name for name, *_ in args.teachers],
            weighting=weighting,
            **own,
            distill_loss=construct("distill_conf", MultiTeacherLoss, **conf),
            live_teachers=live,
            **classifier,
        )

    @classmethod
    def check_conf(cls, args: argparse.Namespace) -> None:
        """Check those of the distillation as well."""
        super().check_conf(args)
        others = (*OF_STUDENT, OF_FEATURES)
        conf = {key: value for key, value in args.distill_conf.items() if key not in others}
        check_names("distill_conf", MultiTeacherLoss, conf)

    @staticmethod
    def live_teacher(
        args: argparse.Namespace, classifier: dict[str, Any], path: str
    ) -> ESPnetSERModel:
        """Load a live teacher, which must be able to hear what the student hears."""
        with torch.random.fork_rng(devices=[]):  # a student is the same, live or cached
            teacher, _ = load_teacher(path)
        align(torch.zeros(len(teacher.emotions)), teacher.emotions, args.emotions, path)
        for data_path, name, kind in args.train_data_path_and_name_and_type:
            if name == "speech" and kind == "kaldi_ark":
                check_features(teacher, data_path, path)
        return teacher


def cached_size(scp: str | None) -> int:
    """Return the size of the vectors that teachers' embeddings are stored with."""
    if scp is None or not Path(scp).is_file():
        raise UserError(
            "distill_conf: feature_lambda needs teacher_embeddings in "
            "--train_data_path_and_name_and_type; stage 6 writes them with --embeddings true"
        )
    first = next(iter(read_map(scp)))
    return read_ark(scp, [first])[first].shape[1]


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
