"""Run trained classifiers over data directories, in batches, with no gradient."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import yaml
from espnet2.torch_utils.device_funcs import to_device
from espnet2.torch_utils.safe_torch_load import safe_torch_load
from tqdm import tqdm

from espnet_mtkd.data.datadir import read_map
from espnet_mtkd.errors import UserError
from espnet_mtkd.models.ser_model import ESPnetSERModel
from espnet_mtkd.tasks.ser import SERTask

MODEL_FILE = "valid.uar.best.pth"


def load_model(
    config: str | Path, model_file: str | Path | None = None, device: str = "cpu"
) -> tuple[ESPnetSERModel, argparse.Namespace]:
    """Load a trained teacher or student as a plain classifier in evaluation mode.

    Args:
        config: ``config.yaml`` of the training, or its folder.
        model_file: default ``valid.uar.best.pth`` beside the config.
        device: as torch writes it.

    Raises:
        UserError: a file is missing, or config and parameters do not fit each other.
    """
    config = Path(config)
    config = config / "config.yaml" if config.is_dir() else config
    model_file = config.parent / MODEL_FILE if model_file is None else Path(model_file)
    for path in (config, model_file):
        if not path.is_file():
            raise UserError(f"{path}: no such file; has this model been trained (stages 5 and 7)?")
    args = argparse.Namespace(**yaml.safe_load(config.read_text(encoding="utf-8")))
    upstream = args.frontend_conf.get("path_or_url")
    if upstream is not None and (config.parent / upstream).exists():  # a packed model's own
        args.frontend_conf["path_or_url"] = str(config.parent / upstream)
    model = SERTask.build_model(args)
    state = safe_torch_load(model_file, map_location="cpu")
    # What a student learned about its teachers is of no use without them.
    state = {key: value for key, value in state.items() if not key.startswith("weighting.")}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise UserError(f"{model_file} does not fit {config}: {first}") from None
    return model.to(device).eval(), args


@torch.no_grad()
def logits_of(
    model: ESPnetSERModel,
    args: argparse.Namespace,
    speech: tuple[str, str],
    key_file: str | Path,
    batch_size: int = 16,
    num_workers: int = 0,
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield utterance ids and logits (C,), in the order of ``key_file``.

    Args:
        model, args: of :func:`load_model`.
        speech: path and ESPnet data type: (wav.scp, sound) or (feats.scp, kaldi_ark).
        key_file: its first column names the utterances.
        batch_size: utterances at a time.
        num_workers: processes that read.

    Raises:
        UserError: an utterance of ``key_file`` has no speech.
    """
    known = read_map(speech[0])
    missing = [key for key in read_map(key_file) if key not in known]
    if missing:
        raise UserError(f"{speech[0]}: no utterance {missing[0]}, which {key_file} names")
    device = next(model.parameters()).device
    iterator = SERTask.build_streaming_iterator(
        [(speech[0], "speech", speech[1])],
        dtype="float32",
        batch_size=batch_size,
        key_file=str(key_file),
        num_workers=num_workers,
        preprocess_fn=SERTask.build_preprocess_fn(args, train=False),
        collate_fn=SERTask.build_collate_fn(args, train=False),
        inference=True,
    )
    for keys, batch in tqdm(iterator, desc="inference", disable=None, unit="batch"):
        batch = to_device(batch, device)
        logits = model.logits(batch["speech"], batch["speech_lengths"]).cpu().numpy()
        yield from zip(keys, logits, strict=True)
