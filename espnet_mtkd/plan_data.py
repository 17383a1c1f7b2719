"""Stages 1 to 4 of the plan: corpora, audio, folds, features."""

from __future__ import annotations

import argparse
import hashlib
import shlex
from functools import cached_property
from pathlib import Path
from typing import Any

from espnet_mtkd.data.folds import num_folds
from espnet_mtkd.data.protocol import FoldOptions
from espnet_mtkd.errors import UserError
from espnet_mtkd.jobs import PACKAGE, Job
from espnet_mtkd.models import FRAMES
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
    "packing": (PACKAGE / "models", PACKAGE / "use", PACKAGE / "evaluate"),
}
PACKAGES = ("espnet", "espnet-s3prl", "torch")
MODES = ("frozen", "finetune", "lora")  # of an upstream; a student may have an encoder of its own


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
        self.unlabelled = options.unlabelled.split()
        self.systems = [System.read(name) for name in options.systems.split()]
        for name in ("corpora", "heldout", "unlabelled", "systems", "seeds", "folds"):
            values = getattr(options, name).split()
            none = not values and name not in ("heldout", "unlabelled")
            if none or len(set(values)) < len(values):
                raise UserError(f"--{name} '{' '.join(values)}': name at least one, and none twice")
        if not all(seed.isdecimal() for seed in options.seeds.split()):
            raise UserError(f"--seeds '{options.seeds}': must be whole numbers, e.g. '0 1 2'")
        self.seeds = [int(seed) for seed in options.seeds.split()]
        if options.upstream_mode not in MODES:
            modes = ", ".join(MODES)
            raise UserError(f"--upstream_mode {options.upstream_mode}: must be one of {modes}")
        if options.student_mode not in ("", "own", *MODES):
            modes = ", ".join(("own", *MODES))
            raise UserError(f"--student_mode {options.student_mode}: must be one of {modes}")
        count = FoldOptions(
            options.num_folds,
            options.fold_seed,
            Path(options.emobox_root) if options.emobox_root else None,
        )
        # How many there are is the protocol's to say; --num_folds is for `si`.
        self.num_folds = num_folds(options.protocol, self.corpora, count)
        if options.feats_bits not in (16, 32):
            raise UserError(f"--feats_bits {options.feats_bits}: must be 32 or 16")
        every_fold = [str(k) for k in range(1, self.num_folds + 1)]
        self.folds = every_fold if options.folds == "all" else options.folds.split()
        self.frozen = "frozen" in (options.upstream_mode, options.student_mode)
        for fold in set(self.folds) - set(every_fold):
            raise UserError(f"--folds {fold}: there are folds 1 to {self.num_folds}")
        if options.teacher_ensemble not in ("true", "false", "soup"):
            raise UserError(
                f"--teacher_ensemble {options.teacher_ensemble}: must be true, false or soup"
            )
        if options.teacher_ensemble == "soup" and options.teacher_init != "multilingual":
            raise UserError(
                "--teacher_ensemble soup needs --teacher_init multilingual: only models that "
                "started from the same one can be averaged"
            )
        if options.crossfit == 1 or options.crossfit < 0:
            raise UserError(f"--crossfit {options.crossfit}: must be 2 or more, or 0 for none")
        if options.crossfit and options.leave_one_language_out == "true":
            raise UserError(
                "--crossfit with --leave_one_language_out: make two experiments of it (--expdir)"
            )
        for name in ("keep_together", "leave_one_language_out"):
            if getattr(options, name) not in ("true", "false"):
                raise UserError(f"--{name} {getattr(options, name)}: must be true or false")
        if not 0 < options.labelled_share <= 1:
            raise UserError(
                f"--labelled_share {options.labelled_share}: must be above 0, at most 1"
            )
        for name in ("corpora", "unlabelled"):
            for corpus in set(self.heldout) & set(getattr(self, name)):
                raise UserError(
                    f"--{name} {corpus}: also among --heldout, and what is tested on is not heard"
                )
        for name, least in (("ngpu", 0), ("num_nodes", 1), ("shards", 1)):
            if getattr(options, name) < least:
                raise UserError(f"--{name} {getattr(options, name)}: must be {least} or more")
        labels = options.labels
        self.labels = find_file(labels if "/" in labels else f"conf/labels/{labels}.yaml")
        if options.views < 0:
            raise UserError(f"--views {options.views}: must be 0 or more")
        if options.upstream_path:
            self.upstream_path: str | None = str(Path(options.upstream_path).absolute())
        else:
            self.upstream_path = None

    # ---- stages 1 to 4: data -------------------------------------------------------------------

    @cached_property
    def data(self) -> dict[str, Job]:
        """Stage 1: a data directory for each corpus."""
        corpora = (*self.corpora, *self.heldout, *self.unlabelled)
        return {corpus: self._corpus(corpus) for corpus in corpora}

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
            argv = ["--in", str(data.output)]
            for name in ("fs", "min_wav_duration", "max_wav_duration", "max_rejects"):
                argv += [f"--{name}", str(getattr(self.o, name))]
            free = ("--nj", str(self.o.nj))
            jobs[corpus] = self._sharded(
                "format_audio", "--out", output, 2, argv, (data,), "data", free=free
            )
        return jobs

    @cached_property
    def views(self) -> dict[str, Job]:
        """Stage 2: views of what is trained on, with ``--views``."""
        jobs = {}
        for corpus in (*self.corpora, *self.unlabelled) if self.o.views else ():
            output = self.dumpdir / f"views{self.o.views}" / corpus
            argv = ["--in", str(self.audio[corpus].output), "--out", str(output)]
            argv += ["--views", str(self.o.views)]
            free = ("--nj", str(self.o.nj))
            needs = (self.audio[corpus],)
            jobs[corpus] = self._job(
                "make_views", output, 2, argv, needs, "data", free=free, cmd=self.o.train_cmd
            )
        return jobs

    @cached_property
    def split(self) -> Job:
        """Stage 3: folds and their audit."""
        o = self.o
        tag = "_".join([*self.corpora, Path(o.labels).stem, f"{o.protocol}{self.num_folds}"])
        if self.heldout:
            tag += "_without_" + "_".join(self.heldout)
        jobs = self.audio
        argv = ["--in", *(str(jobs[c].output) for c in (*self.corpora, *self.heldout))]
        argv += ["--labels", str(self.labels), "--protocol", o.protocol]
        argv += ["--num_folds", str(o.num_folds), "--seed", str(o.fold_seed)]
        if self.heldout:
            argv += ["--heldout", *self.heldout]
        if o.keep_together == "true":
            argv.append("--keep_together")
        inputs = [self.labels]
        if o.protocol == "emobox":
            argv += ["--emobox_root", o.emobox_root]
            inputs.append(Path(o.emobox_root))
        output = self.dumpdir / "folds" / tag
        argv += ["--out", str(output)]
        needs = tuple(jobs[c] for c in (*self.corpora, *self.heldout))
        return self._job("make_folds", output, 3, argv, needs, "data", inputs=tuple(inputs))

    @cached_property
    def stores(self) -> list[Job]:
        """Stage 4: the pooled layers of a frozen upstream for each corpus."""
        return self._extractions(self.o.pooling) if self.frozen else []

    @cached_property
    def hint_stores(self) -> list[Job]:
        """Stage 4: the frames of its last layer, for students that learn from hints."""
        hints = any(system.hints for system in self.systems)
        return self._extractions(FRAMES) if hints else []

    def _extractions(self, pooling: str) -> list[Job]:
        o, jobs = self.o, []
        tag = o.upstream
        inputs: tuple[Path, ...] = ()
        if self.upstream_path is not None:
            # The name of the folder is for people; its hash tells two of the same name apart.
            sha = hashlib.sha256(self.upstream_path.encode()).hexdigest()[:6]
            tag = f"{o.upstream}_{Path(self.upstream_path).stem}_{sha}"
            inputs = (Path(self.upstream_path),)
        tag += f"_{pooling}" + ("_16bit" if o.feats_bits == 16 else "")
        sources = [*self.audio.items()]
        sources += [(f"{corpus}_views{o.views}", job) for corpus, job in self.views.items()]
        for corpus, audio in sources:
            output = self.dumpdir / "feats" / tag / corpus
            argv = ["--data_dir", str(audio.output)]
            argv += ["--upstream", o.upstream, "--pooling", pooling]
            argv += ["--bits", str(o.feats_bits)]
            if self.upstream_path is not None:
                argv += ["--upstream_path", self.upstream_path]
            # Corpora are done side by side; more cores than corpora share the work of each.
            free = ("--nj", str(max(1, o.nj // len(sources))))
            jobs.append(
                self._sharded(
                    "extract_features",
                    "--output_dir",
                    output,
                    4,
                    [*argv, "--store_dir", str(output.parent / ".store")],
                    (audio,),
                    "features",
                    inputs=inputs,
                    free=free,
                )
            )
        return jobs

    def _sharded(
        self,
        module: str,
        option: str,
        output: Path,
        stage: int,
        argv: list[str],
        needs: tuple[Job, ...],
        code: str,
        cmd: str | None = None,
        **more: Any,
    ) -> Job:
        """Return a job; with ``--shards N`` one that puts together what N others have done.

        Args:
            option: that names the output.
            cmd: back-end of a cluster; None (default): that of ``train_cmd``.
            module, output, stage, argv, needs, code, more: see :meth:`_job`.
        """
        count, free = self.o.shards, more.pop("free", ())
        more["cmd"] = self.o.train_cmd if cmd is None else cmd
        shards = []
        for k in range(1, count + 1) if count > 1 else ():
            part = output.parent / "shards" / f"{output.stem}_{k}of{count}{output.suffix}"
            own = [*argv, option, str(part), "--shard", f"{k}/{count}"]
            alone = ("--nj", "1") if free else ()
            shards.append(self._job(module, part, stage, own, needs, code, free=alone, **more))
        # Features are in one store, where whoever asks for all of them finds them.
        if shards and module != "extract_features":
            free = (*free, "--shards", *(str(job.output) for job in shards))
        more.update(free=free, shards=tuple(shards))
        return self._job(module, output, stage, [*argv, option, str(output)], needs, code, **more)

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
        launch: tuple[str, ...] = (),
        also: tuple[Path, ...] = (),
        shards: tuple[Job, ...] = (),
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
            launch=launch,
            also=also,
            shards=shards,
        )
