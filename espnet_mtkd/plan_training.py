"""Stages 5 and 7 of the plan: what every training is told, a teacher's or a student's."""

from __future__ import annotations

import shlex
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from espnet_mtkd.data.files import write_text
from espnet_mtkd.errors import UserError
from espnet_mtkd.jobs import Job
from espnet_mtkd.plan_configs import ConfigPlan
from espnet_mtkd.plan_sets import Run
from espnet_mtkd.systems import System
from espnet_mtkd.use.archive import PARAMETERS_OF_TRAINING


@dataclass(frozen=True)
class Extra:
    """What a training is told beside the speech and its labels.

    Attributes:
        argv: options.
        needs: jobs that make what they name.
        inputs: files that they name.
        data: path, name and type of what is read with each utterance.
    """

    argv: tuple[str, ...]
    needs: tuple[Job, ...] = ()
    inputs: tuple[Path, ...] = ()
    data: tuple[str, ...] = ()


class TrainingPlan(ConfigPlan):
    """A job that trains a model."""

    def _folder(self, run: Run) -> Path:
        return self.expdir / f"fold_{run.fold}" / f"seed_{run.seed}" / run.place

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
        module: str = "ser_train",
        weighting: dict[str, str] | None = None,
        extras: Sequence[Extra] = (),
    ) -> Job:
        """Return the training of a system, or else of a teacher, of one ``language`` or of all.

        Args:
            run, name, stage: where it belongs.
            language: of a teacher; None (default): of all languages.
            system: of a student; None (default): a teacher.
            module: of ``espnet_mtkd.bin``.
            weighting: defaults of the config's ``weighting_conf``.
            extras: what it is told beside the speech and its labels.
        """
        o, folder, mode = self.o, self._folder(run), self.mode(system)
        taught = system is not None and (system.taught or system.frames)
        train = self._train_set(run, taught, language)
        dev = run.sets / (f"dev_{language}" if language else "dev")
        config_file = o.student_config if system else self.teacher_base
        config = self.config(self.language_config if language else config_file, system)
        if weighting:
            config["weighting_conf"] = {**weighting, **config.get("weighting_conf", {})}
        config_path = folder / "conf" / f"{name}.yaml"
        write_if_new(config_path, yaml.safe_dump(config, sort_keys=True))
        argv = ["--config", str(config_path), "--output_dir", str(folder / name)]
        argv += ["--seed", str(run.seed), "--ngpu", str(o.ngpu), "--resume", "true"]
        languages = "languages_all" if taught and self.unlabelled else "languages"
        argv += ["--emotions", str(run.tree.output / "emotions")]
        argv += ["--languages", str(run.tree.output / languages)]
        needs, inputs = [run.tree], [config_path]
        for extra in extras:
            argv += extra.argv
            needs += extra.needs
            inputs += extra.inputs
        for side, data_set in (("train", train), ("valid", dev)):
            # The first file names the utterances: it is the fold's, the features are everyone's.
            data = [f"{data_set / 'utt2emotion'},emotion,text"]
            data.append(f"{data_set / 'utt2lang'},language,text")
            path_of_speech, kind = self._speech(run, data_set, mode)
            data.append(f"{path_of_speech},speech,{kind}")
            for item in (*data, *(item for extra in extras for item in extra.data)):
                argv += [f"--{side}_data_path_and_name_and_type", item]
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
            module,
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


def starting_from(job: Job, *parts: str) -> Extra:
    """Start from the parameters of another training: all, or those of some parts."""
    path = str(job.output / PARAMETERS_OF_TRAINING)
    words = [f"{path}:{part}:{part}" for part in parts] or [path]
    return Extra(("--init_param", *words), (job,))


def write_if_new(path: Path, text: str) -> None:
    """Write a config; the time of an unchanged one stays."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
