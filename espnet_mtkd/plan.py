"""What the recipe makes, and what needs what: options in, a graph of jobs out.

The order of the stages in ``run.sh`` follows from this graph, not the other way round: the
multilingual baseline ``ft``, for example, is a system of its own, the teacher of ``kd``, or both.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from espnet_mtkd.data.files import write_text
from espnet_mtkd.errors import UserError
from espnet_mtkd.jobs import PACKAGE, Job
from espnet_mtkd.systems import ROOT, System, find_file, read_yaml

SYNTHETIC = ("mini_ser",)
# What of the package decides the output of a stage.
CODE = {
    "data": (PACKAGE / "data", PACKAGE / "errors.py"),
    "features": (PACKAGE / "models", PACKAGE / "data" / "ark.py"),
    "training": (PACKAGE / "models", PACKAGE / "tasks", PACKAGE / "distill"),
    "evaluation": (PACKAGE / "evaluate",),
}
PACKAGES = ("espnet", "espnet-s3prl", "torch")


class Plan:
    """All jobs of an experiment.

    Args:
        options: of ``run.sh``, see :mod:`espnet_mtkd.bin.run_stage`.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.o = options
        self.datadir, self.dumpdir = Path(options.datadir), Path(options.dumpdir)
        self.expdir = Path(options.expdir)
        self.corpora = options.corpora.split()
        self.heldout = options.heldout.split()
        self.systems = [System.read(name) for name in options.systems.split()]
        if not all(seed.isdecimal() for seed in options.seeds.split()):
            raise UserError(f"--seeds '{options.seeds}': must be whole numbers, e.g. '0 1 2'")
        self.seeds = [int(seed) for seed in options.seeds.split()]
        if options.upstream_mode not in ("frozen", "finetune"):
            raise UserError(f"--upstream_mode {options.upstream_mode}: must be frozen or finetune")
        every_fold = [str(k) for k in range(1, options.num_folds + 1)]
        self.folds = every_fold if options.folds == "all" else options.folds.split()
        self.frozen = options.upstream_mode == "frozen"
        for fold in set(self.folds) - set(every_fold):
            raise UserError(f"--folds {fold}: there are folds 1 to {options.num_folds}")
        for name in ("corpora", "heldout", "systems", "seeds", "folds"):
            values = getattr(options, name).split()
            none = not values and name != "heldout"
            if none or len(set(values)) < len(values):
                raise UserError(f"--{name} '{' '.join(values)}': name at least one, and none twice")
        for corpus in set(self.corpora) & set(self.heldout):
            raise UserError(f"--heldout {corpus}: also among --corpora; it can only be one of them")
        if options.upstream_path:
            self.upstream_path: str | None = str(Path(options.upstream_path).absolute())
        else:
            self.upstream_path = None

    # ---- stages 1 to 4: data -------------------------------------------------------------------

    @cached_property
    def data(self) -> dict[str, Job]:
        """Stage 1: a data directory for each corpus."""
        return {corpus: self._corpus(corpus) for corpus in (*self.corpora, *self.heldout)}

    def _corpus(self, corpus: str) -> Job:
        script = ROOT / "local" / f"{corpus}.py"
        if not script.is_file():
            known = sorted(
                p.stem
                for p in (ROOT / "local").glob("*.py")
                if p.stem.islower() and not p.stem.startswith("mini_ser_")
            )
            raise UserError(
                f"corpus {corpus}: no {script.relative_to(ROOT)}; there are "
                f"{', '.join(known)}, and local/TEMPLATE.py shows how to add one"
            )
        argv = [str(script), "--out", str(self.datadir / corpus)]
        inputs = sorted(script.parent.glob(f"{corpus}*.py"))
        if corpus not in SYNTHETIC:
            variable = corpus.upper()
            root = dict(pair.split("=", 1) for pair in self.o.corpus_root).get(variable, "")
            if not root or not Path(root).is_dir():
                raise UserError(
                    f"corpus {corpus}: {variable}='{root}' is no folder; set {variable} in "
                    "db.sh or in the environment to the folder of the corpus"
                )
            root = str(Path(root).absolute())
            argv += ["--root", root]
            inputs.append(Path(root))
        return Job(
            output=self.datadir / corpus,
            stage=1,
            argv=(*argv, *shlex.split(self.o.local_data_opts)),
            inputs=tuple(inputs),
            code=CODE["data"],
        )

    @cached_property
    def audio(self) -> dict[str, Job]:
        """Stage 2: the same with 16 kHz mono audio that was checked."""
        jobs = {}
        for corpus, data in self.data.items():
            output = self.dumpdir / "raw" / corpus
            argv = ["--in", str(data.output), "--out", str(output)]
            for name in ("fs", "min_wav_duration", "max_wav_duration", "max_rejects"):
                argv += [f"--{name}", str(getattr(self.o, name))]
            free = ("--nj", str(self.o.nj))
            jobs[corpus] = self._job("format_audio", output, 2, argv, (data,), "data", free=free)
        return jobs

    @cached_property
    def split(self) -> Job:
        """Stage 3: folds and their audit."""
        o = self.o
        tag = "_".join([*self.corpora, Path(o.labels).stem, f"{o.protocol}{o.num_folds}"])
        if self.heldout:
            tag += "_without_" + "_".join(self.heldout)
        labels = find_file(o.labels if "/" in o.labels else f"conf/labels/{o.labels}.yaml")
        jobs = self.audio
        argv = ["--in", *(str(jobs[c].output) for c in (*self.corpora, *self.heldout))]
        argv += ["--labels", str(labels), "--protocol", o.protocol]
        argv += ["--num_folds", str(o.num_folds), "--seed", str(o.fold_seed)]
        if self.heldout:
            argv += ["--heldout", *self.heldout]
        output = self.dumpdir / "folds" / tag
        argv += ["--out", str(output)]
        needs = tuple(jobs.values())
        return self._job("make_folds", output, 3, argv, needs, "data", inputs=(labels,))

    @cached_property
    def features(self) -> list[Job]:
        """Stage 4: the pooled layers of a frozen upstream for each corpus, and one index to all."""
        if not self.frozen:
            return []
        o, jobs = self.o, []
        tag = f"{o.upstream}_{o.pooling}"
        inputs: tuple[Path, ...] = ()
        if self.upstream_path is not None:
            # The name of the folder is for people; its hash tells two of the same name apart.
            sha = hashlib.sha256(self.upstream_path.encode()).hexdigest()[:6]
            tag = f"{o.upstream}_{Path(self.upstream_path).stem}_{sha}_{o.pooling}"
            inputs = (Path(self.upstream_path),)
        for corpus, audio in self.audio.items():
            output = self.dumpdir / "feats" / tag / corpus
            argv = ["--data_dir", str(audio.output), "--output_dir", str(output)]
            argv += ["--upstream", o.upstream, "--pooling", o.pooling]
            if self.upstream_path is not None:
                argv += ["--upstream_path", self.upstream_path]
            jobs.append(
                self._job("extract_features", output, 4, argv, (audio,), "features", inputs=inputs)
            )
        output = self.dumpdir / "feats" / tag / self.split.output.name
        argv = ["--feats_dir", *(str(job.output) for job in jobs)]
        argv += ["--folds_dir", str(self.split.output), "--output_dir", str(output)]
        merge = self._job("merge_features", output, 4, argv, (*jobs, self.split), "features")
        return [*jobs, merge]

    @cached_property
    def languages(self) -> list[str]:
        """Languages of the training corpora, from stage 3."""
        path = self.split.output / "languages"
        if not path.is_file():
            raise UserError(f"{path}: no such file; run with --stage 3 first")
        return path.read_text(encoding="utf-8").split()

    # ---- stages 5 to 8: models -----------------------------------------------------------------

    def _speech(self, data_set: Path) -> tuple[str, str]:
        """Return path and ESPnet type of the models' input."""
        if self.frozen:
            return str(self.features[-1].output / "feats.scp"), "kaldi_ark"
        return str(data_set / "wav.scp"), "sound"

    def _train(
        self,
        folder: Path,
        name: str,
        stage: int,
        fold: str,
        seed: int,
        *,
        language: str | None = None,
        system: System | None = None,
        teachers: Job | None = None,
    ) -> Job:
        """Return the training of a teacher (``language``) or of a system."""
        o = self.o
        folds = self.split.output
        suffix = f"_{language}" if language else ""
        train, dev = (folds / f"fold_{fold}" / f"{side}{suffix}" for side in ("train", "dev"))
        config_file = find_file(o.teacher_config if language else o.student_config)
        config = {**read_yaml(config_file), **(system.options if system else {})}
        config_path = folder / "conf" / f"{name}.yaml"
        text = yaml.safe_dump(config, sort_keys=True)
        if not config_path.is_file() or config_path.read_text(encoding="utf-8") != text:
            write_text(config_path, text)
        module = "ser_train" if teachers is None else "mtkd_train"
        argv = ["--config", str(config_path), "--output_dir", str(folder / name)]
        argv += ["--seed", str(seed), "--ngpu", str(o.ngpu), "--resume", "true"]
        argv += ["--emotions", str(folds / "emotions"), "--languages", str(folds / "languages")]
        for side, folder_of_side in (("train", train), ("valid", dev)):
            # The first file names the utterances: it is the fold's, the features are everyone's.
            data = [(str(folder_of_side / "utt2emotion"), "emotion", "text")]
            data.append((str(folder_of_side / "utt2lang"), "language", "text"))
            path, kind = self._speech(folder_of_side)
            data.append((path, "speech", kind))
            if teachers is not None:
                data.append((str(teachers.output / "logits.scp"), "teacher_logits", "kaldi_ark"))
            for item in data:
                argv += [f"--{side}_data_path_and_name_and_type", ",".join(item)]
            shape = "utt2emotion" if self.frozen else "utt2num_samples"
            argv += [f"--{side}_shape_file", str(folder_of_side / shape)]
        needs = [self.split]
        if self.frozen:
            merged = self.features[-1]
            needs.append(merged)
            argv += ["--feats_info", str(merged.output / "info.json")]
            if config.get("normalize"):
                stats = merged.output / f"fold_{fold}" / f"train{suffix}.npz"
                argv += ["--normalize_conf", f"stats_file={stats}"]
        else:
            argv += ["--frontend_conf", f"upstream={o.upstream}"]
            argv += ["--frontend_conf", f"mode={o.upstream_mode}", "--pooling", o.pooling]
            if self.upstream_path is not None:
                argv += ["--frontend_conf", f"path_or_url={self.upstream_path}"]
        if teachers is not None:
            needs.append(teachers)
            argv += ["--teachers", str(teachers.output / "teachers")]
        argv += shlex.split(o.teacher_args if language else o.student_args)
        return self._job(
            module,
            folder / name,
            stage,
            argv,
            tuple(needs),
            "training",
            inputs=(config_path,),
            resumes=True,
            cmd=o.cuda_cmd if o.ngpu > 0 else o.train_cmd,
        )

    @property
    def models(self) -> dict[tuple[str, int], dict[str, Job]]:
        """Stages 5 and 7: for each fold and seed the teachers and the systems, by name."""
        return self._trainings[0]

    @property
    def logits(self) -> dict[tuple[str, int, str], Job]:
        """Stage 6: what the teachers say, by fold, seed and kind of teachers."""
        return self._trainings[1]

    @cached_property
    def _trainings(
        self,
    ) -> tuple[dict[tuple[str, int], dict[str, Job]], dict[tuple[str, int, str], Job]]:
        models, logits = {}, {}
        for fold in self.folds:
            for seed in self.seeds:
                models[fold, seed], caches = self._models(fold, seed)
                logits.update({(fold, seed, kind): job for kind, job in caches.items()})
        return models, logits

    def _models(self, fold: str, seed: int) -> tuple[dict[str, Job], dict[str, Job]]:
        """Return the models of a fold and seed, and the teachers' logits by kind of teachers."""
        folder = self.expdir / f"fold_{fold}" / f"seed_{seed}"
        caches: dict[str, Job] = {}
        jobs = {
            f"teacher_{language}": self._train(
                folder, f"teacher_{language}", 5, fold, seed, language=language
            )
            for language in self.languages
        }
        teacher_languages = dict(zip(jobs, self.languages, strict=True))
        kinds = {"monolingual": dict(jobs)}
        teaching = {system.teachers for system in self.systems}
        if "ft" in teaching or any(system.name == "ft" for system in self.systems):
            # As a teacher it is due before the students.
            stage = 5 if "ft" in teaching else 7
            ft = self._train(folder, "ft", stage, fold, seed, system=System.read("ft"))
            kinds["ft"] = {"ft": ft}
            jobs["ft"] = ft
        for kind in sorted(teaching - {"none"}):
            caches[kind] = self._teach(folder, fold, kind, kinds[kind], teacher_languages)
        for system in self.systems:
            if system.name != "ft":
                jobs[system.name] = self._train(
                    folder,
                    system.name,
                    7,
                    fold,
                    seed,
                    system=system,
                    teachers=caches.get(system.teachers),
                )
        return jobs, caches

    def _teach(
        self,
        folder: Path,
        fold: str,
        kind: str,
        teachers: dict[str, Job],
        languages: dict[str, str],
    ) -> Job:
        output = folder / f"logits_{kind}"
        argv = ["--output_dir", str(output)]
        for name, job in teachers.items():
            argv += ["--teacher", f"{name},{languages.get(name, 'all')},{job.output}"]
        for side in ("train", "dev"):
            data_set = self.split.output / f"fold_{fold}" / side
            argv += ["--keys", str(data_set / "utt2emotion")]
            argv += ["--speech", ",".join(self._speech(data_set))]
        return self._job(
            "teacher_logits",
            output,
            6,
            argv,
            tuple(teachers.values()),
            "training",
            cmd=self.o.decode_cmd,
        )

    @cached_property
    def predictions(self) -> list[Job]:
        """Stage 8: the logits of every model for dev, test and held-out utterances."""
        jobs = []
        for (fold, _), models in self.models.items():
            sets = {side: self.split.output / f"fold_{fold}" / side for side in ("dev", "test")}
            if self.heldout:
                sets["heldout"] = self.split.output / "heldout"
            for model in models.values():
                for name, data_set in sets.items():
                    output = model.output / f"{name}.tsv"
                    argv = ["--model_dir", str(model.output), "--data_dir", str(data_set)]
                    argv += ["--speech", ",".join(self._speech(data_set)), "--output", str(output)]
                    jobs.append(
                        self._job(
                            "ser_inference",
                            output,
                            8,
                            argv,
                            (model,),
                            "training",
                            cmd=self.o.decode_cmd,
                        )
                    )
        return jobs

    # ---- stages 9 to 12: what people see -------------------------------------------------------

    def experiment(self) -> dict[str, Any]:
        """Return what the evaluation has to know of the experiment."""
        split = self.split.output
        heldout_languages = set()
        if self.heldout:
            lines = (split / "heldout" / "utt2lang").read_text(encoding="utf-8").splitlines()
            heldout_languages = {line.split()[1] for line in lines}
        used = [system.name for system in self.systems]
        extra = [name for name in next(iter(self.models.values())) if name == "ft"]
        return {
            "name": "_".join(self.corpora),
            "corpora": {c: {"heldout": c in self.heldout} for c in self.data},
            "synthetic": any(corpus in SYNTHETIC for corpus in self.data),
            "languages": self.languages,
            "heldout_languages": sorted(heldout_languages - set(self.languages)),
            "emotions": (split / "emotions").read_text(encoding="utf-8").split(),
            "label_set": Path(self.o.labels).stem,
            "protocol": self.o.protocol,
            "num_folds": self.o.num_folds,
            "folds": [int(fold) for fold in self.folds],
            "seeds": self.seeds,
            "teachers": [f"teacher_{language}" for language in self.languages],
            "systems": [*(name for name in extra if name not in used), *used],
            "upstream": self.o.upstream,
            "upstream_mode": self.o.upstream_mode,
            "pooling": self.o.pooling,
            "folds_dir": str(split),
        }

    @cached_property
    def scores(self) -> Job:
        """Stage 9: ``RESULTS.md`` and ``results.json``."""
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
        )

    @cached_property
    def report(self) -> Job:
        """Stage 10: ``report.html``."""
        output = self.expdir / "report.html"
        argv = ["--expdir", str(self.expdir)]
        return self._job("report", output, 10, argv, (self.scores,), "evaluation")

    @cached_property
    def package(self) -> Job:
        """Stage 12: one student as an archive."""
        models = self.models[self.folds[0], self.seeds[0]]
        names = [system.name for system in self.systems]
        name = self.o.pack_system or ("mtkd" if "mtkd" in names else names[-1])
        if name not in models:
            raise UserError(f"--pack_system {name}: must be one of {', '.join(models)}")
        output = self.expdir / "packed" / f"{name}.zip"
        argv = ["--model_dir", str(models[name].output), "--expdir", str(self.expdir)]
        argv += ["--output", str(output)]
        return self._job("pack", output, 12, argv, (models[name], self.scores), "training")

    def stage(self, number: int) -> list[Job]:
        """Return the jobs of a stage."""
        makers = {
            1: lambda: list(self.data.values()),
            2: lambda: list(self.audio.values()),
            3: lambda: [self.split],
            4: lambda: self.features,
            6: lambda: list(self.logits.values()),
            8: lambda: self.predictions,
            9: lambda: [self.scores],
            10: lambda: [self.report],
            12: lambda: [self.package],
        }
        if number in (5, 7):
            jobs = (job for models in self.models.values() for job in models.values())
            return [job for job in jobs if job.stage == number]
        if number not in makers:
            raise UserError(f"stage {number}: there are stages 1 to 10 and 12")
        return makers[number]()

    def _job(
        self,
        module: str,
        output: Path,
        stage: int,
        argv: list[str],
        needs: tuple[Job, ...],
        code: str,
        *,
        inputs: tuple[Path, ...] = (),
        free: tuple[str, ...] = (),
        resumes: bool = False,
        cmd: str = "",
    ) -> Job:
        return Job(
            output=output,
            stage=stage,
            argv=("-m", f"espnet_mtkd.bin.{module}", *argv),
            needs=needs,
            inputs=inputs,
            code=(*CODE[code], PACKAGE / "bin" / f"{module}.py"),
            packages=PACKAGES if stage in (4, 5, 6, 7, 8) else (),
            free_args=free,
            resumes=resumes,
            cmd=cmd,
        )
