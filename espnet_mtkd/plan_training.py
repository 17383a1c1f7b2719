"""Stages 5 to 7 of the plan: teachers, their logits, students."""

from __future__ import annotations

import argparse
import functools
import shlex
import uuid
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from espnet_mtkd.data.files import write_text
from espnet_mtkd.distill import MEASURED, MEMBER
from espnet_mtkd.errors import UserError
from espnet_mtkd.jobs import Job
from espnet_mtkd.plan_configs import ConfigPlan
from espnet_mtkd.plan_sets import Run
from espnet_mtkd.systems import HINTS, System
from espnet_mtkd.use.archive import PARAMETERS_OF_TRAINING


@dataclass(frozen=True)
class Teacher:
    """A trained model that teaches: its name in the logits, its language or ``all``, its job."""

    name: str
    language: str
    job: Job


class TrainingPlan(ConfigPlan):
    """The jobs that train the models of an experiment."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self.external = self._read_external()
        # Each is needed by many, and needs others in turn.
        self.foundations = functools.cache(self.foundations)
        self.logits = functools.cache(self.logits)
        self.hints = functools.cache(self.hints)

    def _folder(self, run: Run) -> Path:
        return self.expdir / f"fold_{run.fold}" / f"seed_{run.seed}" / run.place

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
        init = None
        if specialists:
            first = replace(run, seed=self.seeds[0])
            # What is to be averaged must have started from the same model.
            start = first if o.teacher_ensemble == "soup" else run
            init = (jobs if start == run else self.foundations(start))[self.multilingual]
        for language in self.languages:
            name = f"teacher_{language}"
            if run.without == language:
                continue
            if run.without and not specialists:  # it never heard the other language anyway
                jobs[name] = self.foundations(replace(run, tree=self.sets, place=""))[name]
            else:
                jobs[name] = self._train(run, name, 5, language=language, init=init)
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

    def hints(self, run: Run) -> Job:
        """Stage 5: the encoder of the students of a run that learn from hints first."""
        return self._train(run, HINTS.name, 5, system=HINTS)

    @cached_property
    def models(self) -> dict[Run, dict[str, Job]]:
        """Stages 5 and 7: for each run the teachers and the systems, by name."""
        return {
            run: {**self.foundations(run), **self._students(run)}
            for run in self.runs + self.left_out
        }

    def _students(self, run: Run) -> dict[str, Job]:
        return {
            system.name: self.foundations(run).get(system.name)
            or self._train(run, system.name, 7, system=system)
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

    def _train_set(self, run: Run, taught: bool, language: str | None = None) -> Path:
        """Return the training set; of use without a label is only what teachers or frames teach."""
        if taught and (self.o.labelled_share < 1 or self.unlabelled):
            return run.sets / "train_all"
        return run.sets / (f"train_{language}" if language else "train")

    def _speech(self, run: Run, data_set: Path, mode: str | None = None) -> tuple[str, str]:
        """Return path and ESPnet type of the input of teachers, or of models of another mode."""
        if (mode or self.o.upstream_mode) == "frozen":
            return str(self.index(run.tree).output / "feats.scp"), "kaldi_ark"
        return str(data_set / "wav.scp"), "sound"

    def _train(
        self,
        run: Run,
        name: str,
        stage: int,
        *,
        language: str | None = None,
        system: System | None = None,
        init: Job | None = None,
    ) -> Job:
        """Return the training of a system, or else of a teacher, of one ``language`` or of all."""
        o, folder = self.o, self._folder(run)
        taught = system is not None and system.teachers != "none"
        frames = system is HINTS or (system is not None and system.frames)
        mode = self.mode(system)
        train = self._train_set(run, taught or frames, language)
        dev = run.sets / (f"dev_{language}" if language else "dev")
        config_file = o.student_config if system else self.teacher_base
        config = self.config(self.language_config if language else config_file, system)
        cached = taught and system.teaching == "cached"
        cache = self.logits(run, system.teachers) if cached else None
        if cache is not None:
            for option, measured in MEASURED.items():
                if config.get("weighting") == option:
                    given = {measured: str(cache.output / measured)}
                    config["weighting_conf"] = {**given, **config.get("weighting_conf", {})}
        config_path = folder / "conf" / f"{name}.yaml"
        _write_if_new(config_path, yaml.safe_dump(config, sort_keys=True))
        argv = ["--config", str(config_path), "--output_dir", str(folder / name)]
        argv += ["--seed", str(run.seed), "--ngpu", str(o.ngpu), "--resume", "true"]
        languages = "languages_all" if (taught or frames) and self.unlabelled else "languages"
        argv += ["--emotions", str(run.tree.output / "emotions")]
        argv += ["--languages", str(run.tree.output / languages)]
        needs = [run.tree]
        inputs = [config_path]
        data_names = []
        if init is not None:
            needs.append(init)
            argv += ["--init_param", str(init.output / PARAMETERS_OF_TRAINING)]
        if system is not None and system.hints:
            hints = self.hints(run)
            needs.append(hints)
            path = hints.output / PARAMETERS_OF_TRAINING
            argv += ["--init_param", f"{path}:frontend:frontend"]
            if system.frames:  # what was learned first goes on being learned
                argv += [f"{path}:hint_loss:hint_loss"]
        if frames:
            index = self.index(run.tree, hints=True)
            needs.append(index)
            argv += ["--hints_info", str(index.output / "info.json")]
            data_names.append((str(index.output / "feats.scp"), "hint", "kaldi_ark"))
        if cache is not None:
            needs.append(cache)
            data_names.append((str(cache.output / "logits.scp"), "teacher_logits", "kaldi_ark"))
            if system.features:
                scp = str(cache.output / "embeddings.scp")
                data_names.append((scp, "teacher_embeddings", "kaldi_ark"))
            argv += ["--teachers", str(cache.output / "teachers")]
        elif taught and system is not HINTS:
            if o.crossfit:
                raise UserError(
                    f"--crossfit: system {system.name} has live teachers, who speak for themselves "
                    "and not through copies; take teaching: cached, or another --expdir"
                )
            teachers = self.teachers(run, system.teachers)
            needs += [teacher.job for teacher in teachers]
            path = folder / "conf" / f"{name}.teachers"
            lines = [f"{t.name} {t.language} {t.job.output}\n" for t in teachers]
            external = self._external(run, system.teachers)
            if external:
                if mode == "frozen":
                    raise UserError(
                        f"--external_teachers: system {system.name} has live teachers, which hear "
                        "what the student hears: stored features, of which an external teacher "
                        "can make nothing; take teaching: cached"
                    )
                lines += [" ".join(teacher) + "\n" for teacher in external]
                inputs += [Path(teacher[2]) for teacher in external]
            _write_if_new(path, "".join(lines))
            inputs.append(path)
            argv += ["--teachers", str(path)]
        for side, data_set in (("train", train), ("valid", dev)):
            # The first file names the utterances: it is the fold's, the features are everyone's.
            data = [(str(data_set / "utt2emotion"), "emotion", "text")]
            data.append((str(data_set / "utt2lang"), "language", "text"))
            path_of_speech, kind = self._speech(run, data_set, mode)
            data.append((path_of_speech, "speech", kind))
            for item in (*data, *data_names):
                argv += [f"--{side}_data_path_and_name_and_type", ",".join(item)]
            shape = "utt2emotion" if mode == "frozen" else "utt2num_samples"
            argv += [f"--{side}_shape_file", str(data_set / shape)]
        if mode == "frozen":
            index = self.index(run.tree)
            needs.append(index)
            argv += ["--feats_info", str(index.output / "info.json")]
            if config.get("normalize"):
                stats = index.output / f"fold_{run.fold}" / f"{train.name}.npz"
                argv += ["--normalize_conf", f"stats_file={stats}"]
        elif mode != "own":
            argv += self._frontend(mode)
        argv += shlex.split(o.student_args if system else o.teacher_args)
        distributed, started = self._processes(folder / name)
        return self._job(
            "hint_train" if system is HINTS else "mtkd_train" if taught else "ser_train",
            folder / name,
            stage,
            [*argv, *distributed],
            tuple(needs),
            "training",
            inputs=tuple(inputs),
            resumes=True,
            **started,
        )

    def _processes(self, output: Path) -> tuple[list[str], dict[str, Any]]:
        """Return options of a training with several processes, and what its job is started by.

        As ``espnet2.bin.launch`` has it: ESPnet itself makes a process for each GPU of a machine;
        Slurm makes one for each of several machines, and they meet in a new file.
        """
        o = self.o
        cmd = o.cuda_cmd and f"{o.cuda_cmd} --gpu {o.ngpu}" if o.ngpu else o.train_cmd
        options = ["--multiprocessing_distributed", "true"] if max(o.ngpu, o.num_nodes) > 1 else []
        if o.num_nodes == 1:
            return options, {"cmd": cmd}
        script = Path((shlex.split(cmd) or [""])[0]).name
        if script not in ("slurm.pl", "srun.sh"):
            raise UserError(f"--num_nodes {o.num_nodes} needs Slurm: cmd_backend=slurm (cmd.sh)")
        options += ["--dist_launcher", "slurm", *(() if o.ngpu else ("--dist_backend", "gloo"))]
        # A file of an earlier start would not do.
        place = output.parent.absolute() / "log" / f"{output.name}.meeting_{uuid.uuid4().hex}"
        return options, {
            "cmd": f"{cmd} --num_nodes {o.num_nodes}",
            "launch": ("srun", "--export=ALL") if script == "slurm.pl" else (),
            "free": ("--dist_init_method", f"file://{place}"),
        }

    def _frontend(self, mode: str) -> list[str]:
        """Return the options of an upstream that is trained with the model."""
        o = self.o
        argv = ["--frontend_conf", f"upstream={o.upstream}"]
        argv += ["--frontend_conf", f"mode={mode}", "--pooling", o.pooling]
        if self.upstream_path is not None:
            argv += ["--frontend_conf", f"path_or_url={self.upstream_path}"]
        return argv


def _write_if_new(path: Path, text: str) -> None:
    """Write a config; the time of an unchanged one stays."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
