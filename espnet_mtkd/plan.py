"""What the recipe makes, and what needs what: options in, a graph of jobs out.

The order of the stages in ``run.sh`` follows from this graph, not the other way round: the
multilingual baseline ``ft``, for example, is a system of its own, the teacher of ``kd``, what
specialists start from, or all of it.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from espnet_mtkd.errors import UserError
from espnet_mtkd.jobs import Job, run_jobs
from espnet_mtkd.plan_data import SYNTHETIC
from espnet_mtkd.plan_sets import Run
from espnet_mtkd.plan_students import StudentPlan

# Options that tell experiments of a study apart.
FACTS = ("teacher_init", "teacher_ensemble", "crossfit", "labelled_share", "unlabelled", "views")
FACTS += ("student_mode", "student_config", "student_args", "teacher_config", "teacher_args")
FACTS += ("upstream_path", "external_teachers")


class Plan(StudentPlan):
    """All jobs of an experiment: the data's, the models', and here what people see.

    Args:
        options: of ``run.sh``, see :mod:`espnet_mtkd.bin.run_stage`.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        packed = options.pack_system
        known = [system.name for system in self.systems]
        if packed and packed not in known and not packed.startswith(("ft", "teacher_")):
            raise UserError(f"--pack_system {packed}: must be one of {', '.join(known)}")

    @property
    def default(self) -> str:
        """The system that is packed and looked at: ``mtkd``, or else the last one."""
        names = [system.name for system in self.systems]
        return "mtkd" if "mtkd" in names else names[-1]

    def experiment(self) -> dict[str, Any]:
        """Return what the evaluation has to know of the experiment."""
        split = self.sets.output
        heldout_languages: set[str] = set()
        if self.heldout:
            lines = (split / "heldout" / "utt2lang").read_text(encoding="utf-8").splitlines()
            heldout_languages = {line.split()[1] for line in lines}
        used = [system.name for system in self.systems]
        extra = [name for name in self.foundations(self.runs[0]) if name == self.multilingual]
        return {
            "name": "_".join(self.corpora),
            "corpora": {c: {"heldout": c in self.heldout} for c in self.data},
            "synthetic": any(corpus in SYNTHETIC for corpus in self.data),
            "languages": self.languages,
            "heldout_languages": sorted(heldout_languages),
            "emotions": (split / "emotions").read_text(encoding="utf-8").split(),
            "label_set": Path(self.o.labels).stem,
            "protocol": self.o.protocol,
            "num_folds": self.num_folds,
            "folds": [int(fold) for fold in self.folds],
            "fold_seed": self.o.fold_seed,
            "seeds": self.seeds,
            "teachers": [f"teacher_{language}" for language in self.languages],
            "systems": [*(name for name in extra if name not in used), *used],
            "upstream": self.o.upstream,
            "upstream_mode": self.o.upstream_mode,
            "pooling": self.o.pooling,
            "left_out": [*self.without],
            **{name: getattr(self.o, name) for name in FACTS},
            "folds_dir": str(split),
        }

    @cached_property
    def check(self) -> Job:
        """Stage 1: what the trainings will be told, looked at before hours go into the data."""
        o, trainings = self.o, []
        for system in self.systems:
            trainings.append((o.student_config, system, "student_args"))
        for config_file in dict.fromkeys((self.teacher_base, self.language_config)):
            trainings.append((config_file, None, "teacher_args"))
        argv = ["--upstream", o.upstream]
        if self.upstream_path is not None:
            argv += ["--upstream_path", self.upstream_path]
        for config_file, system, option in trainings:
            training = {
                "config_file": config_file,
                "system": system and system.name,
                "taught": system is not None and system.taught,
                "config": self.config(config_file, system),
                "option": option,
                "args": shlex.split(getattr(o, option)),
            }
            argv += ["--training", json.dumps(training)]
        if not o.cuda_cmd:
            argv += ["--ngpu", str(o.ngpu)]
        output = self.expdir / "options"
        return self._job(
            "check_options", output, 1, [*argv, "--output", str(output)], (), "training"
        )

    @cached_property
    def predictions(self) -> list[Job]:
        """Stage 8: the logits of every model for dev, test and held-out utterances."""
        jobs, students = [], {system.name: system for system in self.systems}
        for run, models in self.models.items():
            sides = {side: run.sets / side for side in ("dev", "test")}
            if self.heldout:
                sides["heldout"] = self.sets.output / "heldout"
            if run.without:
                # Of the language that the run was without; teachers are in their own run.
                sides = {"test": self.sets.output / f"fold_{run.fold}" / f"test_{run.without}"}
                own = {f"teacher_{language}" for language in self.languages}
                models = {name: job for name, job in models.items() if name not in own}
            for name, model in models.items():
                mode = self.mode(students.get(name))
                for side, data_set in sides.items():
                    jobs.append(self._predict(run, model, side, data_set, mode))
        soups = self.o.teacher_ensemble == "soup" and len(self.seeds) > 1
        for run in (run for run in self.runs if run.seed == self.seeds[0]):
            for teacher in self.teachers(run, "monolingual") if soups else ():
                test = run.sets / "test"
                jobs.append(self._predict(run, teacher.job, "test", test, self.o.upstream_mode))
            jobs += [self._predict_external(run, name, path) for name, _, path in self.external]
        return jobs

    def _predict_external(self, run: Run, name: str, path: str) -> Job:
        """Return what a teacher from elsewhere says of the test set of a fold."""
        output = self.expdir / f"fold_{run.fold}" / "external" / name / "test.tsv"
        test, model = run.sets / "test", Path(path)
        argv = ["--emotions", str(run.tree.output / "emotions")]
        speech = (str(test / "wav.scp"), "sound")
        return self._inference(output, model, test, speech, run.tree, argv, inputs=(model,))

    def _predict(self, run: Run, model: Job, side: str, data_set: Path, mode: str) -> Job:
        output, speech = model.output / f"{side}.tsv", self._speech(run, data_set, mode)
        return self._inference(output, model.output, data_set, speech, model)

    def _inference(
        self,
        output: Path,
        model: Path,
        data_set: Path,
        speech: tuple[str, str],
        need: Job,
        more: Sequence[str] = (),
        inputs: tuple[Path, ...] = (),
    ) -> Job:
        argv = ["--model_dir", str(model), "--data_dir", str(data_set)]
        argv += ["--speech", ",".join(speech), *more]
        return self._sharded(
            "ser_inference",
            "--output",
            output,
            8,
            argv,
            (need,),
            "training",
            inputs=inputs,
            cmd=self.o.decode_cmd,
        )

    @cached_property
    def embeddings(self) -> list[Job]:
        """Stage 8: for the report, what the first run's ft and default hear in its test set."""
        run = self.runs[0]
        jobs = []
        for name in sorted({"ft", self.default} & {system.name for system in self.systems}):
            model, test = self.models[run][name], run.sets / "test"
            speech = self._speech(run, test, self.o.student_mode)
            argv = ["--model_dir", str(model.output), "--data_dir", str(test)]
            output = model.output / "test.npz"
            argv += ["--speech", ",".join(speech), "--output", str(output)]
            jobs.append(
                self._job("embed", output, 8, argv, (model,), "training", cmd=self.o.decode_cmd)
            )
        return jobs

    @cached_property
    def scores(self) -> Job:
        """Stage 9: ``RESULTS.md``, ``results.json`` and ``experiment.json``."""
        output = self.expdir / "RESULTS.md"
        facts = json.dumps(self.experiment(), sort_keys=True)
        argv = ["--expdir", str(self.expdir), "--experiment", facts]
        return self._job(
            "score",
            output,
            9,
            argv,
            tuple(self.predictions),
            "evaluation",
            free=("--command", self.o.command),
            also=(self.expdir / "results.json", self.expdir / "experiment.json"),
        )

    @cached_property
    def report(self) -> Job:
        """Stage 10: ``report.html``."""
        output = self.expdir / "report.html"
        argv = ["--expdir", str(self.expdir)]
        needs = (self.scores, *self.embeddings)
        return self._job("report", output, 10, argv, needs, "evaluation")

    @cached_property
    def package(self) -> Job:
        """Stage 12: one student as an archive."""
        models = self.models[self.runs[0]]
        name = self.o.pack_system or self.default
        if name not in models:
            raise UserError(f"--pack_system {name}: must be one of {', '.join(models)}")
        output = self.expdir / "packed" / f"{name}.zip"
        argv = ["--model_dir", str(models[name].output), "--expdir", str(self.expdir)]
        argv += ["--output", str(output)]
        return self._job("pack", output, 12, argv, (models[name], self.scores), "packing")

    def _folds(self) -> list[Job]:
        made = [self.split] if self.sets is self.split else [self.split, self.sets]
        made += self.parts
        if self.o.leave_one_language_out == "true":
            run_jobs(made, self.o.nj)  # they say which languages there are
            made += self.without.values()
        return made

    def stage(self, number: int) -> list[Job]:
        """Return the jobs of a stage."""
        makers = {
            1: lambda: [self.check, *self.data.values()],
            2: lambda: [*self.audio.values(), *self.views.values()],
            3: self._folds,
            4: lambda: self.features,
            **{n: lambda n=n: self.trainings(n) for n in (5, 6, 7)},
            8: lambda: [*self.predictions, *self.embeddings],
            9: lambda: [self.scores],
            10: lambda: [self.report],
            12: lambda: [self.package],
        }
        if number not in makers:
            raise UserError(f"stage {number}: there are stages 1 to 10 and 12")
        jobs: dict[Path, Job] = {}
        for job in makers[number]():
            shards = () if not job.shards or job.is_done() else job.shards
            jobs.update((each.output, each) for each in (*shards, job))
        return list(jobs.values())
