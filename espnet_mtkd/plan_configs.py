"""Stages 5 and 7 of the plan: the config of each training."""

from __future__ import annotations

import argparse
from functools import cached_property
from typing import Any

from espnet_mtkd.errors import UserError
from espnet_mtkd.plan_sets import SetsPlan
from espnet_mtkd.systems import System, find_file, read_yaml

# Training of a teacher that starts from the multilingual one, when that is trained with the second.
SPECIALIST, FROM_SCRATCH = "conf/train_specialist.yaml", "conf/train_frozen.yaml"


class ConfigPlan(SetsPlan):
    """The configs of teachers and students: a file, and what a system adds to it."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        if options.teacher_init not in ("scratch", "multilingual"):
            raise UserError(
                f"--teacher_init {options.teacher_init}: must be scratch or multilingual"
            )
        for system in self.systems:
            if system.hints and options.student_mode != "own":
                raise UserError(
                    f"conf/systems/{system.name}.yaml: hints: true is for students with an encoder "
                    "of their own: --student_mode own --student_config conf/train_conv_300k.yaml"
                )

    @cached_property
    def teacher_base(self) -> str:
        """Config of a teacher that starts from nothing."""
        o = self.o
        if o.student_mode:
            return (o.teacher_init == "scratch" and o.teacher_config) or FROM_SCRATCH
        return o.student_config

    @cached_property
    def language_config(self) -> str:
        """Config of a teacher of one language."""
        o = self.o
        if o.teacher_config or o.teacher_init == "scratch":
            return o.teacher_config or self.teacher_base
        if self.teacher_base != FROM_SCRATCH:
            raise UserError(
                f"--teacher_init multilingual with --student_config {o.student_config} needs "
                "--teacher_config: the same head and pooling, smaller steps, as "
                f"{SPECIALIST} for {FROM_SCRATCH}"
            )
        return SPECIALIST

    def mode(self, system: System | None) -> str:
        """Return how a student, or else a teacher, uses the upstream."""
        return (system and self.o.student_mode) or self.o.upstream_mode

    def config(self, config_file: str, system: System | None) -> dict[str, Any]:
        """Return the config of a training, with the options of a system.

        A system's ``x_conf`` adds to that of the file, unless the system chooses another ``x``.
        """
        config = read_yaml(find_file(config_file))
        options = system.options if system else {}
        merged = {**config, **options}
        for key, value in options.items():
            same_class = key.removesuffix("_conf") not in options
            if key.endswith("_conf") and same_class and isinstance(config.get(key), dict):
                merged[key] = {**config[key], **value}
        if (self.mode(system) == "own") != ("frontend" in merged):
            raise UserError(
                f"{config_file}: --student_mode own goes with an encoder of the config's own, its "
                "option frontend (conf/train_conv_1m.yaml has one), other modes with none"
            )
        return merged
