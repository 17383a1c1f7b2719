"""The benchmark of upstreams: which jobs there are, and what needs what (stage 11).

Every corpus is an experiment of its own: its emotions, its folds, models of its language only, as
in SUPERB and EmoBox. Upstreams that stay frozen are probed on stored features; those that are
trained go through the recipe's own training. A job is done once, so adding an upstream costs that
upstream and nothing else.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from espnet_mtkd.data.files import write_text
from espnet_mtkd.errors import UserError
from espnet_mtkd.jobs import PACKAGE, Job
from espnet_mtkd.plan import Plan
from espnet_mtkd.plan_data import MODES, SYNTHETIC
from espnet_mtkd.systems import find_file, read_yaml

TRAINED = {"finetune": "conf/train_finetune.yaml", "lora": "conf/train_lora.yaml"}
PROBE_CODE = tuple(
    PACKAGE / name
    for name in (
        "bin/probe_upstream.py",
        "tasks/probe.py",
        "models/head.py",
        "models/layers.py",
        "evaluate/metrics.py",
        "data/ark.py",
    )
)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """An upstream to compare.

    Attributes:
        label: its name in tables and folders.
        name: of the S3PRL upstream.
        path: its checkpoint; environment variables in it are replaced.
        pooling: ``mean``, ``stats``, or ``last_frames`` for a probe with the head ``frames``.
        mode: ``frozen``, ``finetune`` or ``lora``.
        config: training of an upstream that is not frozen, ESPnet's options in YAML.
    """

    label: str
    name: str
    path: str = ""
    pooling: str = "mean"
    mode: str = "frozen"
    config: str = ""

    @classmethod
    def parse(cls, entry: Any, where: str) -> Candidate:
        """Check an entry of the list of upstreams.

        Raises:
            UserError: it is not what it may be.
        """
        fields = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(entry, dict) or "name" not in entry:
            raise UserError(f"{where}: an upstream needs at least a name; it may have {fields}")
        for key, value in entry.items():
            if key not in fields or not isinstance(value, str):
                raise UserError(f"{where}: {key}: {value!r}: an upstream has texts for {fields}")
        candidate = cls(**{"label": entry["name"], **entry})
        if not re.fullmatch(r"[A-Za-z0-9_.+-]+", candidate.label):
            raise UserError(f"{where}: label {candidate.label!r}: use letters, digits and _ . + -")
        if candidate.mode not in MODES:
            raise UserError(f"{where}: mode {candidate.mode!r}: must be one of {', '.join(MODES)}")
        path = os.path.expandvars(candidate.path)
        unset = re.search(r"\$\{?(\w+)", path)
        if unset:
            raise UserError(f"{where}: path {path}: set the environment variable {unset[1]}")
        config = candidate.config or TRAINED.get(candidate.mode, "")
        return dataclasses.replace(candidate, path=path, config=config)


def read_config(path: str, added: Sequence[str] = ()) -> tuple[dict[str, Any], list[Candidate]]:
    """Read the options of the probe and the upstreams; ``added`` are more, as ``key=value,...``.

    Raises:
        UserError: with the place, for whatever is not understood.
    """
    content = read_yaml(path)
    for key in content:
        if key not in ("probe", "upstreams"):
            raise UserError(f"{path}: unknown option {key}; use probe and upstreams")
    entries = content.get("upstreams")
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: upstreams: must be a list of at least one upstream")
    candidates = [Candidate.parse(e, f"{path}: upstreams[{i}]") for i, e in enumerate(entries)]
    for text in added:
        pairs = [part.partition("=") for part in text.split(",")]
        if not all(equals for _, equals, _ in pairs):
            raise UserError(f"--add {text}: must look like name=hf_hubert_custom,path=/x,label=y")
        entry = {key: value for key, _, value in pairs}
        candidates.append(Candidate.parse(entry, f"--add {text}"))
    labels = [candidate.label for candidate in candidates]
    for label in labels:
        if labels.count(label) > 1:
            raise UserError(f"{path}: two upstreams are called {label}; give one another label")
    probe = content.get("probe") or {}
    if not isinstance(probe, Mapping):
        raise UserError(f"{path}: probe: must hold 'option: value' lines")
    return dict(probe), candidates


class Benchmark:
    """All jobs of a benchmark.

    Args:
        options: of :mod:`espnet_mtkd.bin.benchmark_upstreams`: the recipe's, and ``layers``.
        probe: options of the probe.
        candidates: the upstreams.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        probe: Mapping[str, Any],
        candidates: Sequence[Candidate],
    ) -> None:
        self.o = options
        self.probe = dict(probe)
        self.candidates = list(candidates)
        self.corpora = options.corpora.split()
        if not self.corpora:
            raise UserError("--corpora '': name at least one")
        if options.layers == "each" and any(c.mode != "frozen" for c in candidates):
            raise UserError("--layers each: single layers are those of frozen upstreams")
        self.folder = Path(options.expdir) / "benchmark"
        self.plans = {
            (candidate.label, corpus): self._plan(candidate, corpus)
            for candidate in self.candidates
            for corpus in self.corpora
        }

    def _plan(self, candidate: Candidate, corpus: str) -> Plan:
        """Return the recipe's plan for one upstream and one corpus."""
        options = argparse.Namespace(**vars(self.o))
        options.corpora, options.heldout, options.systems = corpus, "", "ft"
        options.upstream, options.upstream_path = candidate.name, candidate.path
        options.upstream_mode, options.pooling = candidate.mode, candidate.pooling
        options.student_config = candidate.config or options.student_config
        options.shards = 1
        # Corpora are extracted side by side; the processes are shared among them.
        options.nj = max(1, self.o.nj // len(self.corpora))
        plan = Plan(options)
        plan.expdir = self.folder / candidate.label / plan.split.output.name
        return plan

    @cached_property
    def data(self) -> list[Job]:
        """What comes before the probes: corpora, audio, folds, features of frozen upstreams."""
        jobs: dict[Path, Job] = {}
        for plan in self.plans.values():
            own = [*plan.data.values(), *plan.audio.values(), plan.split, *plan.features[:1]]
            jobs.update((job.output, job) for job in own)
        return list(jobs.values())

    def folds(self, plan: Plan) -> list[str]:
        """Return the folds to run, of those that stage 3 has made."""
        made = sorted(
            int(folder.name.removeprefix("fold_"))
            for folder in plan.split.output.glob("fold_*")
            if folder.is_dir()
        )
        if self.o.folds == "all":
            return [str(k) for k in made]
        for fold in self.o.folds.split():
            if not fold.isdecimal() or int(fold) not in made:
                raise UserError(f"--folds {fold}: {plan.split.output} has folds {made}")
        return self.o.folds.split()

    @cached_property
    def models(self) -> dict[tuple[str, str], list[tuple[str, int, list[Job]]]]:
        """Fold, seed and jobs for each upstream and corpus; the data must be there."""
        models: dict[tuple[str, str], list[tuple[str, int, list[Job]]]] = {}
        for (label, corpus), plan in self.plans.items():
            runs = []
            if plan.frozen:
                for fold in self.folds(plan):
                    runs += [(fold, seed, [self._probe(plan, fold, seed)]) for seed in plan.seeds]
            else:
                plan.folds = self.folds(plan)
                for run, jobs in plan.models.items():
                    tests = [job for job in plan.predictions if job.needs == (jobs["ft"],)]
                    runs.append((run.fold, run.seed, [jobs["ft"], *tests]))
            models[label, corpus] = runs
        return models

    @property
    def probe_name(self) -> str:
        """Folder of a probe: those of other layers lie beside it."""
        return "probe" if self.o.layers == "all" else f"probe_{self.o.layers.replace(',', '_')}"

    def _probe(self, plan: Plan, fold: str, seed: int) -> Job:
        sets = plan.split.output / f"fold_{fold}"
        output = plan.expdir / f"fold_{fold}" / f"seed_{seed}" / self.probe_name
        features = plan.features[0]
        argv = ["-m", "espnet_mtkd.bin.probe_upstream", "--feats_dir", str(features.output)]
        argv += ["--sets_dir", str(sets), "--seed", str(seed), "--layers", self.o.layers]
        argv += ["--probe", json.dumps(self.probe, sort_keys=True), "--output_dir", str(output)]
        return Job(
            output=output,
            stage=11,
            argv=tuple(argv),
            needs=(plan.split, features),
            code=PROBE_CODE,
            packages=("torch",),
        )

    def description(self) -> dict[str, Any]:
        """Return what the tables have to know."""
        corpora: dict[str, Any] = {}
        rows = []
        for candidate in self.candidates:
            cells = {}
            for corpus in self.corpora:
                plan = self.plans[candidate.label, corpus]
                corpora[corpus] = {"folds_dir": str(plan.split.output)}
                frozen = plan.frozen
                cells[corpus] = {
                    "features": str(plan.features[0].output) if frozen else None,
                    "runs": [
                        [fold, seed, str(jobs[0].output)]
                        for fold, seed, jobs in self.models[candidate.label, corpus]
                    ],
                }
            facts = dataclasses.asdict(candidate)
            facts["path"] = Path(candidate.path).name  # the folder is the user's own business
            rows.append({**facts, "corpora": cells})
        return {
            "corpora": corpora,
            "synthetic": any(corpus in SYNTHETIC for corpus in self.corpora),
            "upstreams": rows,
            "probe": self.probe,
            "layers": self.o.layers,
            "labels": Path(self.o.labels).stem,
            "protocol": self.o.protocol,
            "seeds": [int(seed) for seed in self.o.seeds.split()],
        }

    @cached_property
    def table(self) -> Job:
        """The tables, made of all predictions."""
        name = "upstreams" if self.o.layers == "all" else f"upstreams_{self.o.layers}"
        facts = self.folder / "conf" / f"{name}.json"
        text = json.dumps(self.description(), indent=1, sort_keys=True) + "\n"
        if not facts.is_file() or facts.read_text(encoding="utf-8") != text:
            write_text(facts, text)
        output = self.folder / f"{name}.md"
        needs = [job for runs in self.models.values() for *_, jobs in runs for job in jobs]
        return Job(
            output=output,
            stage=11,
            argv=("-m", "espnet_mtkd.bin.benchmark_table", "--benchmark", str(facts))
            + ("--output", str(output)),
            needs=tuple(needs),
            inputs=(facts,),
            code=(PACKAGE / "evaluate", PACKAGE / "bin" / "benchmark_table.py"),
            free_args=("--command", self.o.command),
        )

    @property
    def jobs(self) -> list[Job]:
        """All jobs once the data is there."""
        models = [job for runs in self.models.values() for *_, jobs in runs for job in jobs]
        return [*models, self.table]


def find_config(path: str) -> str:
    """Return a config of the current folder or of the project's own recipe."""
    return str(find_file(path if "/" in path else f"conf/benchmark/{path}.yaml"))
