"""Stages 1 to 4 of the plan: corpora, audio, folds, features."""

from __future__ import annotations

import argparse
import hashlib
import shlex
from functools import cached_property
from pathlib import Path

from espnet_mtkd.data.folds import num_folds
from espnet_mtkd.data.protocol import FoldOptions
from espnet_mtkd.errors import UserError
from espnet_mtkd.jobs import PACKAGE, Job
from espnet_mtkd.systems import ROOT, System, find_file

SYNTHETIC = ("mini_ser",)
# What of the package decides the output of a stage.
CODE = {
    "data": (PACKAGE / "data", PACKAGE / "errors.py"),
    "features": (
        PACKAGE / "models",
        PACKAGE / "tasks" / "extraction.py",
        PACKAGE / "data" / "ark.py",
    ),
    "training": (PACKAGE / "models", PACKAGE / "tasks", PACKAGE / "distill"),
    "evaluation": (PACKAGE / "evaluate",),
}
PACKAGES = ("espnet", "espnet-s3prl", "torch")
MODES = ("frozen", "finetune", "lora")  # of an upstream


class DataPlan:
    """The jobs that make the data of an experiment.

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
        for name in ("corpora", "heldout", "systems", "seeds", "folds"):
            values = getattr(options, name).split()
            none = not values and name != "heldout"
            if none or len(set(values)) < len(values):
                raise UserError(f"--{name} '{' '.join(values)}': name at least one, and none twice")
        if not all(seed.isdecimal() for seed in options.seeds.split()):
            raise UserError(f"--seeds '{options.seeds}': must be whole numbers, e.g. '0 1 2'")
        self.seeds = [int(seed) for seed in options.seeds.split()]
        if options.upstream_mode not in MODES:
            modes = ", ".join(MODES)
            raise UserError(f"--upstream_mode {options.upstream_mode}: must be one of {modes}")
        count = FoldOptions(
            options.num_folds,
            options.fold_seed,
            Path(options.emobox_root) if options.emobox_root else None,
        )
        # How many there are is the protocol's to say; --num_folds is for `si`.
        self.num_folds = num_folds(options.protocol, self.corpora, count)
        every_fold = [str(k) for k in range(1, self.num_folds + 1)]
        self.folds = every_fold if options.folds == "all" else options.folds.split()
        self.frozen = options.upstream_mode == "frozen"
        for fold in set(self.folds) - set(every_fold):
            raise UserError(f"--folds {fold}: there are folds 1 to {self.num_folds}")
        for name in ("keep_together", "teacher_ensemble"):
            if getattr(options, name) not in ("true", "false"):
                raise UserError(f"--{name} {getattr(options, name)}: must be true or false")
        if not 0 < options.labelled_share <= 1:
            raise UserError(
                f"--labelled_share {options.labelled_share}: must be above 0, at most 1"
            )
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
            jobs[corpus] = self._job(
                "format_audio", output, 2, argv, (data,), "data", free=free, cmd=self.o.train_cmd
            )
        return jobs

    @cached_property
    def split(self) -> Job:
        """Stage 3: folds and their audit."""
        o = self.o
        tag = "_".join([*self.corpora, Path(o.labels).stem, f"{o.protocol}{self.num_folds}"])
        if self.heldout:
            tag += "_without_" + "_".join(self.heldout)
        labels = find_file(o.labels if "/" in o.labels else f"conf/labels/{o.labels}.yaml")
        jobs = self.audio
        argv = ["--in", *(str(jobs[c].output) for c in (*self.corpora, *self.heldout))]
        argv += ["--labels", str(labels), "--protocol", o.protocol]
        argv += ["--num_folds", str(o.num_folds), "--seed", str(o.fold_seed)]
        if self.heldout:
            argv += ["--heldout", *self.heldout]
        if o.keep_together == "true":
            argv.append("--keep_together")
        inputs = [labels]
        if o.protocol == "emobox":
            argv += ["--emobox_root", o.emobox_root]
            inputs.append(Path(o.emobox_root))
        output = self.dumpdir / "folds" / tag
        argv += ["--out", str(output)]
        needs = tuple(jobs.values())
        return self._job("make_folds", output, 3, argv, needs, "data", inputs=tuple(inputs))

    @cached_property
    def sets(self) -> Job:
        """The folds to train on: those of stage 3, or the same with most labels hidden."""
        o = self.o
        if o.labelled_share == 1:
            return self.split
        output = self.split.output.with_name(f"{self.split.output.name}_{o.labelled_share:g}")
        argv = ["--folds_dir", str(self.split.output), "--share", str(o.labelled_share)]
        argv += ["--seed", str(o.fold_seed), "--output_dir", str(output)]
        return self._job("hide_labels", output, 3, argv, (self.split,), "data")

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
            # Corpora are done side by side; more cores than corpora share the work of each.
            free = ("--nj", str(max(1, o.nj // len(self.audio))))
            jobs.append(
                self._job(
                    "extract_features",
                    output,
                    4,
                    argv,
                    (audio,),
                    "features",
                    inputs=inputs,
                    free=free,
                )
            )
        output = self.dumpdir / "feats" / tag / self.sets.output.name
        argv = ["--feats_dir", *(str(job.output) for job in jobs)]
        argv += ["--folds_dir", str(self.sets.output), "--output_dir", str(output)]
        merge = self._job("merge_features", output, 4, argv, (*jobs, self.sets), "features")
        return [*jobs, merge]

    @cached_property
    def languages(self) -> list[str]:
        """Languages of the training corpora, from stage 3."""
        path = self.sets.output / "languages"
        if not path.is_file():
            raise UserError(f"{path}: no such file; run with --stage 3 first")
        return path.read_text(encoding="utf-8").split()

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
