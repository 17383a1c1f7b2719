"""Stages 5 and 7 of the plan: students, and all the models of an experiment."""

from __future__ import annotations

import argparse
import functools
from functools import cached_property
from pathlib import Path

from espnet_mtkd.distill import MEASURED
from espnet_mtkd.errors import UserError
from espnet_mtkd.jobs import Job
from espnet_mtkd.plan_sets import Run
from espnet_mtkd.plan_teachers import TeacherPlan
from espnet_mtkd.plan_training import Extra, starting_from, write_if_new
from espnet_mtkd.systems import HINTS, System


class StudentPlan(TeacherPlan):
    """The jobs that train the students."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self.hints = functools.cache(self.hints)

    @cached_property
    def models(self) -> dict[Run, dict[str, Job]]:
        """Stages 5 and 7: for each run the teachers and the systems, by name."""
        return {
            run: {**self.foundations(run), **self._students(run)}
            for run in self.runs + self.left_out
        }

    def _students(self, run: Run) -> dict[str, Job]:
        return {
            system.name: self.foundations(run).get(system.name) or self._student(run, system)
            for system in self.systems
        }

    def trainings(self, stage: int) -> list[Job]:
        """Return the jobs of stage 5, 6 or 7: all that the models need, first what is needed."""
        found: dict[Path, Job] = {}

        def visit(job: Job) -> None:
            if job.output not in found and job.stage >= 5:
                for need in job.needs:
                    visit(need)
                found[job.output] = job

        for models in self.models.values():
            for job in models.values():
                visit(job)
        return [job for job in found.values() if job.stage == stage]

    def hints(self, run: Run) -> Job:
        """Stage 5: the encoder of the students of a run that learn from hints first."""
        extras = [self._frames(run)]
        return self._train(run, HINTS.name, 5, system=HINTS, module="hint_train", extras=extras)

    def _student(self, run: Run, system: System) -> Job:
        """Stage 7: a system."""
        extras, weighting = [], {}
        if system.hints:
            # What is learned beside the labels as well was learned first.
            parts = ("frontend", "hint_loss") if system.frames else ("frontend",)
            extras.append(starting_from(self.hints(run), *parts))
        if system.frames:
            extras.append(self._frames(run))
        if system.taught and system.teaching == "cached":
            extras.append(self._cached_teachers(run, system))
            config = self.config(self.o.student_config, system)
            measured = MEASURED.get(config.get("weighting"))
            if measured:
                cache = self.logits(run, system.teachers)
                weighting = {measured: str(cache.output / measured)}
        elif system.taught:
            extras.append(self._live_teachers(run, system))
        module = "mtkd_train" if system.taught else "ser_train"
        more = dict(module=module, weighting=weighting, extras=extras)
        return self._train(run, system.name, 7, system=system, **more)

    def _frames(self, run: Run) -> Extra:
        """Return the frames of the upstream, to learn from."""
        index = self.index(run.tree, hints=True)
        argv = ("--hints_info", str(index.output / "info.json"))
        return Extra(argv, (index,), data=(f"{index.output / 'feats.scp'},hint,kaldi_ark",))

    def _cached_teachers(self, run: Run, system: System) -> Extra:
        cache = self.logits(run, system.teachers)
        data = [f"{cache.output / 'logits.scp'},teacher_logits,kaldi_ark"]
        if system.features:
            data.append(f"{cache.output / 'embeddings.scp'},teacher_embeddings,kaldi_ark")
        return Extra(("--teachers", str(cache.output / "teachers")), (cache,), data=tuple(data))

    def _live_teachers(self, run: Run, system: System) -> Extra:
        if self.o.crossfit:
            raise UserError(
                f"--crossfit: system {system.name} has live teachers, who speak for themselves "
                "and not through copies; take teaching: cached, or another --expdir"
            )
        external = self._external(run, system.teachers)
        if external and self.mode(system) == "frozen":
            raise UserError(
                f"--external_teachers: system {system.name} has live teachers, which hear "
                "what the student hears: stored features, of which an external teacher "
                "can make nothing; take teaching: cached"
            )
        teachers = self.teachers(run, system.teachers)
        lines = [f"{t.name} {t.language} {t.job.output}\n" for t in teachers]
        lines += [" ".join(teacher) + "\n" for teacher in external]
        path = self._folder(run) / "conf" / f"{system.name}.teachers"
        write_if_new(path, "".join(lines))
        needs = tuple(teacher.job for teacher in teachers)
        inputs = (*(Path(teacher[2]) for teacher in external), path)
        return Extra(("--teachers", str(path)), needs, inputs)
