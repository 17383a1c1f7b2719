"""Stages 3 and 4 of the plan: what is trained on, as a whole and without some of it."""

from __future__ import annotations

import argparse
import functools
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from espnet_mtkd.errors import UserError
from espnet_mtkd.jobs import Job
from espnet_mtkd.plan_data import DataPlan


@dataclass(frozen=True)
class Run:
    """A fold and a seed, with all that is trained on or without some of it.

    Attributes:
        place: folder of the run's models, below that of fold and seed; empty for the run itself,
            ``part_K`` for cross-fitting, ``without_LANGUAGE``.
        tree: the job that makes the training sets.
    """

    fold: str
    seed: int
    tree: Job = field(compare=False)
    place: str = ""

    @property
    def without(self) -> str:
        """The language that is left out, if one is."""
        return self.place.partition("without_")[2]

    @property
    def sets(self) -> Path:
        """Folder of the fold's data directories."""
        return self.tree.output / f"fold_{self.fold}"


class SetsPlan(DataPlan):
    """The jobs that make training sets of folds, and the indices of their features."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self.index = functools.cache(self.index)  # hundreds of jobs ask for each

    @cached_property
    def sets(self) -> Job:
        """The folds to train on: those of stage 3, or the same with other training sets."""
        o = self.o
        argv, tag, needs = [], "", [self.split]
        if o.labelled_share < 1:
            argv += ["--share", str(o.labelled_share), "--seed", str(o.fold_seed)]
            tag += f"_{o.labelled_share:g}"
        for option, jobs in (("unlabelled", self.audio), ("views", self.views)):
            corpora = self.unlabelled if option == "unlabelled" else jobs
            if corpora:
                argv += [f"--{option}", *(str(jobs[corpus].output) for corpus in corpora)]
                needs += [jobs[corpus] for corpus in corpora]
        if self.unlabelled:
            tag += "_with_" + "_".join(self.unlabelled)
        if self.views:
            tag += f"_views{o.views}"
        if not argv:
            return self.split
        output = self.split.output.with_name(self.split.output.name + tag)
        argv = ["--folds_dir", str(self.split.output), *argv, "--output_dir", str(output)]
        return self._job("training_sets", output, 3, argv, tuple(needs), "data")

    @cached_property
    def parts(self) -> list[Job]:
        """Stage 3: the folds without a part of the speakers each, for cross-fitted teachers."""
        if self.o.crossfit == 0:
            return []
        number = self.o.crossfit
        return [
            self._leave_out(f"part{k}of{number}", ["--part", f"{k}/{number}"])
            for k in range(1, number + 1)
        ]

    @cached_property
    def without(self) -> dict[str, Job]:
        """Stage 3: the folds without each language, for ``--leave_one_language_out``."""
        if self.o.leave_one_language_out == "false":
            return {}
        if len(self.languages) < 2:
            raise UserError("--leave_one_language_out: there is only one language")
        return {k: self._leave_out(f"without_{k}", ["--language", k]) for k in self.languages}

    def _leave_out(self, tag: str, options: list[str]) -> Job:
        output = self.sets.output.with_name(f"{self.sets.output.name}_{tag}")
        argv = ["--folds_dir", str(self.sets.output), *options]
        argv += ["--seed", str(self.o.fold_seed), "--output_dir", str(output)]
        return self._job("leave_out", output, 3, argv, (self.sets,), "data")

    def index(self, sets: Job, hints: bool = False) -> Job:
        """Return the job of stage 4 that makes one index of the stores, with statistics of sets."""
        stores = self.hint_stores if hints else self.stores
        output = stores[0].output.parent / sets.output.name
        argv = ["--feats_dir", *(str(job.output) for job in stores)]
        argv += ["--folds_dir", str(sets.output), "--output_dir", str(output)]
        return self._job("merge_features", output, 4, argv, (*stores, sets), "features")

    @cached_property
    def features(self) -> list[Job]:
        """Stage 4: the stores, and an index for each tree of folds; with hints, theirs too."""
        jobs = []
        trees = (self.sets, *self.parts, *self.without.values())
        if self.frozen:
            jobs += [*self.stores, *(self.index(sets) for sets in trees)]
        if self.hint_stores:
            heard = (self.sets, *self.without.values())  # parts are for teachers
            jobs += [*self.hint_stores, *(self.index(sets, hints=True) for sets in heard)]
        return jobs

    @cached_property
    def languages(self) -> list[str]:
        """Languages of the training corpora, from stage 3."""
        path = self.sets.output / "languages"
        if not path.is_file():
            raise UserError(f"{path}: no such file; run with --stage 3 first")
        return path.read_text(encoding="utf-8").split()

    @cached_property
    def runs(self) -> list[Run]:
        """All folds with all seeds."""
        return [Run(fold, seed, self.sets) for fold in self.folds for seed in self.seeds]

    @cached_property
    def left_out(self) -> list[Run]:
        """All folds with all seeds, without each language; with ``--leave_one_language_out``."""
        return [
            replace(run, tree=tree, place=f"without_{language}")
            for language, tree in self.without.items()
            for run in self.runs
        ]
