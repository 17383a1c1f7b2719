"""ESPnet's trainer with scores of whole epochs and checkpoints that survive a kill."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from espnet2.torch_utils.safe_torch_load import safe_torch_load
from espnet2.train.reporter import Reporter, SubReporter
from espnet2.train.trainer import Trainer, TrainerOptions
from torch.nn.parallel import DistributedDataParallel

from espnet_mtkd.data.files import atomic_path, write_text
from espnet_mtkd.errors import UserError
from espnet_mtkd.use.archive import PARAMETERS_OF_TRAINING

# What every model reports on the development set, so that an epoch may be selected by it.
CRITERIA = ("loss", "acc", "uar")


@contextmanager
def atomic_torch_save() -> Iterator[None]:
    """Make ``torch.save`` write aside and rename.

    ESPnet's trainer saves in place in the middle of a long method; a kill during the write would
    leave a checkpoint that cannot be resumed.
    """
    save = torch.save

    def atomic_save(obj: Any, path: str | Path, *args: Any, **kwargs: Any) -> None:
        # Through a file object: given a path, torch would write its temporary name into the file,
        # and two trainings with the same result would not have the same files.
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            save(obj, file, *args, **kwargs)

    torch.save = atomic_save
    try:
        yield
    finally:
        torch.save = save


class SERTrainer(Trainer):
    """Adds the model's ``end_epoch`` statistics, such as the UAR, to train and valid."""

    @classmethod
    def build_options(cls, args: argparse.Namespace) -> TrainerOptions:
        """Refuse a criterion that no model reports; ESPnet would ignore it."""
        criteria = [*args.best_model_criterion, args.early_stopping_criterion]
        for phase, key, mode, *_ in criteria:
            if phase not in ("train", "valid") or key not in CRITERIA or mode not in ("min", "max"):
                raise UserError(
                    f"best_model_criterion/early_stopping_criterion {phase},{key},{mode}: phases "
                    f"are train and valid, keys {', '.join(CRITERIA)}, modes min and max"
                )
        return super().build_options(args)

    @classmethod
    def run(cls, *, trainer_options: TrainerOptions, **kwargs: Any) -> None:
        """Train, then write ``model.pth``, ``history.json`` and ``info.json``.

        The model, which is tested, packed and started from, is the mean of the
        ``keep_nbest_models`` best epochs by the first ``best_model_criterion``, or the last epoch
        where that is empty. The history has every reported number by epoch and phase; the info has
        the numbers of parameters, the time and the best (or last) epoch.
        """
        model = kwargs["model"]
        # What a process has counted is its own until the epoch ends; DDP would replace it by what
        # the first process has counted, before every step.
        counts = [name for name, _ in model.named_buffers() if name not in model.state_dict()]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, counts)
        with atomic_torch_save():
            super().run(trainer_options=trainer_options, **kwargs)
        option = kwargs["distributed_option"]
        if option.distributed and option.dist_rank != 0:
            return
        output_dir = Path(trainer_options.output_dir)
        history = read_history(output_dir)
        write_text(output_dir / "history.json", json.dumps(history, indent=1))
        epoch = max(history, key=int)
        model_file = output_dir / f"{epoch}epoch.pth"
        for phase, key, mode in reversed(trainer_options.best_model_criterion):
            values = {number: phases[phase][key] for number, phases in history.items()}
            epoch = (min if mode == "min" else max)(values, key=values.__getitem__)
            # ESPnet links in the best epoch only, and a kill may have come just before.
            _link(output_dir / f"{phase}.{key}.best.pth", f"{epoch}epoch.pth")
            model_file = output_dir / f"{phase}.{key}.ave.pth"
        _link(output_dir / PARAMETERS_OF_TRAINING, model_file.resolve().name)
        info = {
            **model.count_params(),
            "train_seconds": sum(h[p]["time"] for h in history.values() for p in h),
            "best_epoch": int(epoch),
        }
        if "lid_acc" in history[epoch].get("valid", {}):  # of a language head
            info["language_accuracy"] = history[epoch]["valid"]["lid_acc"]
        write_text(output_dir / "info.json", json.dumps(info, indent=1))

    @staticmethod
    def resume(checkpoint: str | Path, model: torch.nn.Module, **kwargs: Any) -> None:
        """Resume; the epoch's own file is made again where a kill came between the two."""
        Trainer.resume(checkpoint=checkpoint, model=model, **kwargs)
        epoch_file = Path(checkpoint).parent / f"{kwargs['reporter'].get_epoch()}epoch.pth"
        if not epoch_file.exists():
            torch.save(model.state_dict(), epoch_file)

    @classmethod
    def train_one_epoch(
        cls, *, model: torch.nn.Module, reporter: SubReporter, **kwargs: Any
    ) -> bool:
        """Train one epoch and report its whole."""
        return cls._observe(super().train_one_epoch, model=model, reporter=reporter, **kwargs)

    @classmethod
    def validate_one_epoch(
        cls, *, model: torch.nn.Module, reporter: SubReporter, **kwargs: Any
    ) -> None:
        """Validate and report the UAR over the epoch, not the mean over its batches."""
        cls._observe(super().validate_one_epoch, model=model, reporter=reporter, **kwargs)

    @staticmethod
    def _observe(
        one_epoch: Any, model: torch.nn.Module, reporter: SubReporter, **kwargs: Any
    ) -> Any:
        inner = getattr(model, "module", model)  # inside DistributedDataParallel
        last = max(kwargs["options"].max_epoch - 1, 1)
        inner.begin_epoch(progress=min((reporter.get_epoch() - 1) / last, 1.0))
        result = one_epoch(model=model, reporter=reporter, **kwargs)
        reporter.register(inner.end_epoch())
        reporter.next()
        return result


def _link(link: Path, target: str) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def read_history(output_dir: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Return {epoch: {phase: {key: value}}} of a training from its checkpoint."""
    reporter = Reporter()
    checkpoint = safe_torch_load(output_dir / "checkpoint.pth", map_location="cpu")
    reporter.load_state_dict(checkpoint["reporter"])
    return {
        str(epoch): {
            phase: {
                key: value.total_seconds() if hasattr(value, "total_seconds") else float(value)
                for key, value in values.items()
            }
            for phase, values in phases.items()
        }
        for epoch, phases in reporter.stats.items()
    }
