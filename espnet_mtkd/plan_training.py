"""Stages 5 to 8 of the plan: teachers, their logits, students, predictions."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from espnet_mtkd.data.files import write_text
from espnet_mtkd.errors import UserError
from espnet_mtkd.jobs import Job
from espnet_mtkd.plan_data import DataPlan
from espnet_mtkd.systems import System, find_file, read_yaml

# Training of a teacher that starts from ft, when ft is trained with the second.
SPECIALIST, FROM_SCRATCH = "conf/train_specialist.yaml", "conf/train_frozen.yaml"


@dataclass(frozen=True)
class Teacher:
    """A trained model that teaches: its name in the logits, its language or ``all``, its job."""

    name: str
    language: str
    job: Job


@dataclass(frozen=True)
class Run:
    """A fold and a seed.

    Attributes:
        folder: of the run's models.
        sets: folder of the fold's data directories.
    """

    fold: str
    seed: int
    folder: Path
    sets: Path


class TrainingPlan(DataPlan):
    """The jobs that train and run the models of an experiment."""

    @cached_property
    def runs(self) -> list[Run]:
        """All folds with all seeds."""
        return [
            Run(
                fold=fold,
                seed=seed,
                folder=self.expdir / f"fold_{fold}" / f"seed_{seed}",
                sets=self.sets.output / f"fold_{fold}",
            )
            for fold in self.folds
            for seed in self.seeds
        ]

    @cached_property
    def foundations(self) -> dict[Run, dict[str, Job]]:
        """What students stand on: the teachers and, where something needs it, ``ft``."""
        o = self.o
        if o.teacher_init not in ("scratch", "multilingual"):
            raise UserError(f"--teacher_init {o.teacher_init}: must be scratch or multilingual")
        multilingual = o.teacher_init == "multilingual"
        if multilingual and not o.teacher_config and o.student_config != FROM_SCRATCH:
            raise UserError(
                f"--teacher_init multilingual with --student_config {o.student_config} needs "
                "--teacher_config: the same head and pooling, smaller steps, as "
                f"{SPECIALIST} for {FROM_SCRATCH}"
            )
        teaches = multilingual or any(system.teachers == "ft" for system in self.systems)
        wanted = any(system.name == "ft" for system in self.systems)
        ft = System.read("ft")
        if ft.teachers != "none":
            raise UserError(
                f"conf/systems/ft.yaml: teachers {ft.teachers}: must be none; others start from ft"
            )
        foundations: dict[Run, dict[str, Job]] = {}
        for run in self.runs:
            jobs: dict[str, Job] = {}
            if teaches or wanted:
                # As a teacher, or as what teachers start from, it is due before the students.
                jobs["ft"] = self._train(run, "ft", 5 if teaches else 7, system=ft)
            for language in self.languages:
                init = jobs["ft"] if multilingual else None
                jobs[f"teacher_{language}"] = self._train(
                    run, f"teacher_{language}", 5, language=language, init=init
                )
            foundations[run] = jobs
        return foundations

    def teachers(self, run: Run, kind: str) -> list[Teacher]:
        """Return the teachers of a kind, ``monolingual`` or ``ft``, for the students of a run.

        With ``--teacher_ensemble`` the teachers of all seeds teach together.
        """
        ensemble = self.o.teacher_ensemble == "true" and len(self.seeds) > 1
        runs = [r for r in self.runs if r.fold == run.fold] if ensemble else [run]
        languages = {"ft": "all"} if kind == "ft" else {f"teacher_{k}": k for k in self.languages}
        return [
            Teacher(f"{name}.{r.seed}" if ensemble else name, language, self.foundations[r][name])
            for r in runs
            for name, language in languages.items()
        ]

    @cached_property
    def logits(self) -> dict[tuple[Run, str], Job]:
        """Stage 6: what the teachers of a kind say of the training and development sets."""
        kinds = {
            s.teachers for s in self.systems if s.teachers != "none" and s.teaching == "cached"
        }
        jobs = {}
        for run in self.runs:
            for kind in sorted(kinds):
                teachers = self.teachers(run, kind)
                output = run.folder / f"logits_{kind}"
                argv = ["--output_dir", str(output)]
                for teacher in teachers:
                    parts = (teacher.name, teacher.language, str(teacher.job.output))
                    argv += ["--teacher", ",".join(parts)]
                for data_set in (self._train_set(run, taught=True), run.sets / "dev"):
                    argv += ["--keys", str(data_set / "utt2emotion")]
                    argv += ["--speech", ",".join(self._speech(data_set))]
                argv += ["--dev_set", str(run.sets / "dev")]
                needs = tuple(teacher.job for teacher in teachers)
                jobs[run, kind] = self._job(
                    "teacher_logits", output, 6, argv, needs, "training", cmd=self.o.decode_cmd
                )
        return jobs

    @cached_property
    def models(self) -> dict[Run, dict[str, Job]]:
        """Stages 5 and 7: for each run the teachers and the systems, by name."""
        return {
            run: {
                **jobs,
                **{
                    system.name: self._train(run, system.name, 7, system=system)
                    for system in self.systems
                    if system.name != "ft"
                },
            }
            for run, jobs in self.foundations.items()
        }

    def _train_set(self, run: Run, taught: bool, language: str | None = None) -> Path:
        """Return the training set; where labels are hidden, only teachers make use of the rest."""
        if taught and self.o.labelled_share < 1:
            return run.sets / "train_all"
        return run.sets / (f"train_{language}" if language else "train")

    def _speech(self, data_set: Path) -> tuple[str, str]:
        """Return path and ESPnet type of the models' input."""
        if self.frozen:
            return str(self.features[-1].output / "feats.scp"), "kaldi_ark"
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
        """Return the training of a teacher (``language``) or of a system."""
        o = self.o
        taught = system is not None and system.teachers != "none"
        train = self._train_set(run, taught, language)
        dev = run.sets / (f"dev_{language}" if language else "dev")
        config_file = o.student_config
        if language:
            config_file = o.teacher_config or (SPECIALIST if init else o.student_config)
        config = _merged(read_yaml(find_file(config_file)), system.options if system else {})
        cache = (
            self.logits[run, system.teachers] if taught and system.teaching == "cached" else None
        )
        if config.get("weighting") == "similarity" and cache is not None:
            relevance = {"relevance": str(cache.output / "relevance")}
            config["weighting_conf"] = {**relevance, **config.get("weighting_conf", {})}
        config_path = run.folder / "conf" / f"{name}.yaml"
        _write_if_new(config_path, yaml.safe_dump(config, sort_keys=True))
        argv = ["--config", str(config_path), "--output_dir", str(run.folder / name)]
        argv += ["--seed", str(run.seed), "--ngpu", str(o.ngpu), "--resume", "true"]
        for names in ("emotions", "languages"):
            argv += [f"--{names}", str(self.sets.output / names)]
        needs = [self.sets]
        inputs = [config_path]
        data_names = []
        if init is not None:
            needs.append(init)
            argv += ["--init_param", str(init.output / "valid.uar.best.pth")]
        if cache is not None:
            needs.append(cache)
            data_names.append((str(cache.output / "logits.scp"), "teacher_logits", "kaldi_ark"))
            argv += ["--teachers", str(cache.output / "teachers")]
        elif taught:
            teachers = self.teachers(run, system.teachers)
            needs += [teacher.job for teacher in teachers]
            path = run.folder / "conf" / f"{name}.teachers"
            lines = [f"{t.name} {t.language} {t.job.output}\n" for t in teachers]
            _write_if_new(path, "".join(lines))
            inputs.append(path)
            argv += ["--teachers", str(path)]
        for side, data_set in (("train", train), ("valid", dev)):
            # The first file names the utterances: it is the fold's, the features are everyone's.
            data = [(str(data_set / "utt2emotion"), "emotion", "text")]
            data.append((str(data_set / "utt2lang"), "language", "text"))
            path_of_speech, kind = self._speech(data_set)
            data.append((path_of_speech, "speech", kind))
            for item in (*data, *data_names):
                argv += [f"--{side}_data_path_and_name_and_type", ",".join(item)]
            shape = "utt2emotion" if self.frozen else "utt2num_samples"
            argv += [f"--{side}_shape_file", str(data_set / shape)]
        if self.frozen:
            merged = self.features[-1]
            needs.append(merged)
            argv += ["--feats_info", str(merged.output / "info.json")]
            if config.get("normalize"):
                stats = merged.output / f"fold_{run.fold}" / f"{train.name}.npz"
                argv += ["--normalize_conf", f"stats_file={stats}"]
        else:
            argv += self._frontend()
        argv += shlex.split(o.teacher_args if language else o.student_args)
        return self._job(
            "mtkd_train" if taught else "ser_train",
            run.folder / name,
            stage,
            argv,
            tuple(needs),
            "training",
            inputs=tuple(inputs),
            resumes=True,
            cmd=o.cuda_cmd if o.ngpu > 0 else o.train_cmd,
        )

    def _frontend(self) -> list[str]:
        """Return the options of an upstream that is trained with the model."""
        o = self.o
        argv = ["--frontend_conf", f"upstream={o.upstream}"]
        argv += ["--frontend_conf", f"mode={o.upstream_mode}", "--pooling", o.pooling]
        if self.upstream_path is not None:
            argv += ["--frontend_conf", f"path_or_url={self.upstream_path}"]
        return argv

    @cached_property
    def predictions(self) -> list[Job]:
        """Stage 8: the logits of every model for dev, test and held-out utterances."""
        jobs = []
        for run, models in self.models.items():
            sets = {side: run.sets / side for side in ("dev", "test")}
            if self.heldout:
                sets["heldout"] = self.sets.output / "heldout"
            for model in models.values():
                for name, data_set in sets.items():
                    output = model.output / f"{name}.tsv"
                    argv = ["--model_dir", str(model.output), "--data_dir", str(data_set)]
                    argv += ["--speech", ",".join(self._speech(data_set)), "--output", str(output)]
                    job = self._job(
                        "ser_inference",
                        output,
                        8,
                        argv,
                        (model,),
                        "training",
                        cmd=self.o.decode_cmd,
                    )
                    jobs.append(job)
        return jobs


def _write_if_new(path: Path, text: str) -> None:
    """Write a config; the time of an unchanged one stays."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def _merged(config: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return a training's config with the options of a system.

    A system's ``x_conf`` adds to that of the config, unless the system chooses another ``x``.
    """
    merged = {**config, **options}
    for key, value in options.items():
        same_class = key.removesuffix("_conf") not in options
        if key.endswith("_conf") and same_class and isinstance(config.get(key), dict):
            merged[key] = {**config[key], **value}
    return merged
