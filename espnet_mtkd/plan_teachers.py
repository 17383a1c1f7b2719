"""Stages 5 and 6 of the plan: teachers and what they say."""

from __future__ import annotations

import argparse
import functools
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from espnet_mtkd.distill import MEMBER
from espnet_mtkd.errors import UserError
from espnet_mtkd.jobs import Job
from espnet_mtkd.plan_sets import Run
from espnet_mtkd.plan_training import TrainingPlan, starting_from
from espnet_mtkd.systems import System


@dataclass(frozen=True)
class Teacher:
    """A trained model that teaches: its name in the logits, its language or ``all``, its job."""

    name: str
    language: str
    job: Job


class TeacherPlan(TrainingPlan):
    """The jobs that students learn from."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self.external = self._read_external()
        # Each is needed by many, and needs others in turn.
        self.foundations = functools.cache(self.foundations)
        self.logits = functools.cache(self.logits)

    @cached_property
    def multilingual(self) -> str:
        """Name of the multilingual teacher: ``ft``, unless students are of another kind."""
        return "teacher_all" if self.o.student_mode else "ft"

    def foundations(self, run: Run) -> dict[str, Job]:
        """Return what students of a run stand on: its teachers by name."""
        o = self.o
        specialists = o.teacher_init == "multilingual"
        ft = System.read("ft")
        if ft.teachers != "none":
            raise UserError(
                f"conf/systems/ft.yaml: teachers {ft.teachers}: must be none; others start from ft"
            )
        jobs: dict[str, Job] = {}
        if specialists or any(system.teachers == "ft" for system in self.systems):
            student = ft if self.multilingual == "ft" else None
            jobs[self.multilingual] = self._train(run, self.multilingual, 5, system=student)
        extras = ()
        if specialists:
            first = replace(run, seed=self.seeds[0])
            # What is to be averaged must have started from the same model.
            start = first if o.teacher_ensemble == "soup" else run
            known = jobs if start == run else self.foundations(start)
            extras = (starting_from(known[self.multilingual]),)
        for language in self.languages:
            name = f"teacher_{language}"
            if run.without == language:
                continue
            if run.without and not specialists:  # it never heard the other language anyway
                jobs[name] = self.foundations(replace(run, tree=self.sets, place=""))[name]
            else:
                jobs[name] = self._train(run, name, 5, language=language, extras=extras)
        return jobs

    def teachers(self, run: Run, kind: str) -> list[Teacher]:
        """Return the teachers of a kind, ``monolingual`` or ``ft``, for the students of a run.

        With ``--teacher_ensemble true`` the teachers of all seeds teach together; with ``soup``
        the specialists of all seeds are averaged to one.
        """
        how = self.o.teacher_ensemble if len(self.seeds) > 1 else "false"
        names = {f"teacher_{k}": k for k in self.languages if k != run.without}
        if kind == "ft":
            names = {self.multilingual: "all"}
        elif how == "soup":
            return [Teacher(name, k, self._soup(run, name)) for name, k in names.items()]
        seeds = self.seeds if how == "true" else [run.seed]
        return [
            Teacher(
                f"{name}.{seed}" if how == "true" else name,
                language,
                self.foundations(replace(run, seed=seed))[name],
            )
            for seed in seeds
            for name, language in names.items()
        ]

    def _read_external(self) -> list[tuple[str, str, str]]:
        """Return the teachers from elsewhere: name, language and archive or folder."""
        teachers = []
        for text in self.o.external_teachers.split():
            name, language, path = (*text.split(",", 2), "", "")[:3]
            if not path:
                raise UserError(f"--external_teachers {text}: must be NAME,LANGUAGE,PATH")
            if MEMBER.search(name):
                raise UserError(
                    f"--external_teachers {text}: the name must not end in a dot and a number, "
                    "as those of an ensemble do"
                )
            taken = {t[0] for t in teachers} | {system.name for system in self.systems}
            if name in taken or name.startswith("teacher_") or "/" in name:
                raise UserError(
                    f"--external_teachers {text}: the name must be one that no other teacher and "
                    "no system has, must not start with teacher_, and have no slash"
                )
            if not Path(path).exists():
                raise UserError(f"--external_teachers {text}: {path}: no such archive or folder")
            if language == "all" and self.o.leave_one_language_out == "true":
                raise UserError(
                    f"--external_teachers {text}: a teacher of all languages with "
                    "--leave_one_language_out: it has heard the language that is left out"
                )
            teachers.append((name, language, str(Path(path).absolute())))
        if teachers and all(system.teachers != "monolingual" for system in self.systems):
            raise UserError(
                f"--external_teachers: none of --systems {self.o.systems} learns from them, as "
                "mtkd does"
            )
        return teachers

    def _external(self, run: Run, kind: str) -> list[tuple[str, str, str]]:
        """Return those for the students of a run: none of a language that it is without."""
        mine = self.external if kind == "monolingual" else []
        return [teacher for teacher in mine if teacher[1] != run.without]

    def _soup(self, run: Run, name: str) -> Job:
        """Return the average of a teacher's seeds (Wortsman et al. 2022, arXiv 2203.05482)."""
        jobs = tuple(self.foundations(replace(run, seed=seed))[name] for seed in self.seeds)
        output = self.expdir / f"fold_{run.fold}" / "soup" / run.place / name
        argv = ["--model", *(str(job.output) for job in jobs), "--output_dir", str(output)]
        return self._job("average_models", output, 5, argv, jobs, "training")

    def logits(self, run: Run, kind: str) -> Job:
        """Stage 6: what the teachers of a kind say of the training and development sets.

        With ``--crossfit`` copies of the teachers speak of the speakers that they did not hear.
        """
        output = self._folder(run) / f"logits_{kind}"
        teachers = self.teachers(run, kind)
        external = self._external(run, kind)
        argv = ["--emotions", str(run.tree.output / "emotions")]
        # Teachers from the whole run do not bring the sets of a run without some of it along.
        needs = [run.tree] if run.place else []
        if run.place and self.o.upstream_mode == "frozen":
            needs.append(self.index(run.tree))
        for teacher in teachers:
            argv += ["--teacher", f"{teacher.name},{teacher.language},{teacher.job.output}"]
            needs.append(teacher.job)
        for data_set in (self._train_set(run, taught=True), run.sets / "dev"):
            argv += ["--keys", str(data_set / "utt2emotion")]
            argv += ["--speech", ",".join(self._speech(run, data_set))]
            if external:
                argv += ["--wav", str(data_set / "wav.scp")]
        argv += ["--dev_set", str(run.sets / "dev")]
        inputs = []
        for teacher in external:
            argv += ["--external", ",".join(teacher)]
            inputs.append(Path(teacher[2]))
        for number, tree in enumerate(self.parts, 1):
            part = replace(run, tree=tree, place=f"part_{number}")
            left_out = part.sets / "left_out"
            speech = self._speech(run, left_out)
            for copy in self.teachers(part, kind):
                fields = (copy.name, copy.job.output, left_out / "utt2emotion", *speech)
                argv += ["--copy", ",".join(map(str, fields))]
                needs.append(copy.job)
        if any(s.features for s in self.systems if s.teachers == kind):
            argv += ["--embeddings", "true"]
        return self._sharded(
            "teacher_logits",
            "--output_dir",
            output,
            6,
            argv,
            tuple(needs),
            "training",
            inputs=tuple(inputs),
            cmd=self.o.decode_cmd,
        )
