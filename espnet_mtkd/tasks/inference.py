"""Run trained classifiers over data directories, in batches, with no gradient."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import torch
import yaml
from espnet2.torch_utils.device_funcs import to_device
from espnet2.torch_utils.safe_torch_load import safe_torch_load
from tqdm import tqdm

from espnet_mtkd.data.ark import check_index
from espnet_mtkd.data.datadir import read_map, write_map
from espnet_mtkd.distill import without_training
from espnet_mtkd.errors import UserError
from espnet_mtkd.models.ser_model import ESPnetSERModel
from espnet_mtkd.tasks.ser import SERTask, pooling_choices
from espnet_mtkd.use.archive import PARAMETERS_OF_TRAINING, read_packed, unpack


def get_parser(description: str | None, output: str) -> argparse.ArgumentParser:
    """Return the parser of a command that runs a model over a data directory.

    Args:
        description: of the command.
        output: what it writes.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model_dir", required=True, help="Folder of a training (exp/.../ft)")
    parser.add_argument("--data_dir", required=True, help="Data directory with the references")
    parser.add_argument(
        "--speech",
        required=True,
        help="PATH,TYPE of the input: wav.scp,sound or feats.scp,kaldi_ark",
    )
    parser.add_argument("--output", required=True, help=output)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--num_workers", type=int, default=0)
    return parser


def load_model(
    config: str | Path, model_file: str | Path | None = None, device: str = "cpu"
) -> tuple[ESPnetSERModel, argparse.Namespace]:
    """Load a trained teacher or student as a plain classifier in evaluation mode.

    Args:
        config: ``config.yaml`` of the training, or its folder.
        model_file: default ``model.pth`` beside the config.
        device: as torch writes it.

    Raises:
        UserError: a file is missing, or config and parameters do not fit each other.
    """
    config = Path(config)
    config = config / "config.yaml" if config.is_dir() else config
    model_file = config.parent / PARAMETERS_OF_TRAINING if model_file is None else Path(model_file)
    for path in (config, model_file):
        if not path.is_file():
            raise UserError(f"{path}: no such file; has this model been trained (stages 5 and 7)?")
    args = argparse.Namespace(**yaml.safe_load(config.read_text(encoding="utf-8")))
    upstream = args.frontend_conf.get("path_or_url")
    if upstream is not None and (config.parent / upstream).exists():  # a packed model's own
        args.frontend_conf["path_or_url"] = str(config.parent / upstream)
    args.hints_info = None  # as are teachers: of the training alone
    model = SERTask.build_model(args)
    state = safe_torch_load(model_file, map_location="cpu")
    try:
        # What a student learned about its teachers is of no use without them.
        model.load_state_dict(without_training(state))
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise UserError(f"{model_file} does not fit {config}: {first}") from None
    return model.to(device).eval(), args


def load_archive(path: str | Path) -> tuple[ESPnetSERModel, argparse.Namespace]:
    """Load the model of an archive of stage 12; as :func:`load_model`."""
    folder = tempfile.TemporaryDirectory(prefix="espnet_mtkd_")
    unpack(Path(path), Path(folder.name))
    files = read_packed(Path(folder.name), str(path))
    model, args = load_model(files.config_file, files.parameters)
    model.folder = folder  # a frozen upstream is read from it at the first recording
    return model, args


def load_teacher(path: str | Path) -> tuple[ESPnetSERModel, argparse.Namespace]:
    """Load a teacher: an archive (.zip), parameters beside their config (.pth), or a folder."""
    path = Path(path)
    if path.suffix == ".zip":
        return load_archive(path)
    if path.suffix == ".pth":
        return load_model(path.parent, path)
    return load_model(path)


def check_features(model: ESPnetSERModel, index: str | Path, name: str | Path) -> None:
    """Check that stored features are those of the upstream that a model was trained on.

    Args:
        model: a trained model.
        index: ``feats.scp``; ``info.json`` beside it tells what the features are.
        name: of the model, for the error.

    Raises:
        UserError: they are not, or the model needs waveforms.
    """
    info = Path(index).parent / "info.json"
    if not info.is_file():
        return
    stored = json.loads(info.read_text(encoding="utf-8"))
    frontend = stored["frontend_conf"]
    found = (frontend["upstream"], stored["pooling"], frontend["num_layers"])
    found = (*found, frontend["hidden_size"], frontend["num_params"])
    own = model.frontend
    pooling = next(k for k, c in pooling_choices.classes.items() if type(model.pooling) is c)
    wanted = (getattr(own, "name", None), pooling, own.num_layers, own.output_size())
    hashes = {frontend.get("checkpoint"), getattr(own, "checkpoint", None)} - {None}
    if own.mode != "frozen" or (*wanted, own.num_params()) != found or len(hashes) > 1:
        raise UserError(
            f"{name}: this model does not hear the stored features {index}; let it read waveforms "
            "(--external in stage 6), or teach live a student that reads waveforms"
        )


def logits_of(
    model: ESPnetSERModel,
    args: argparse.Namespace,
    speech: tuple[str, str],
    key_file: str | Path,
    batch_size: int = 16,
    num_workers: int = 0,
    only: Collection[str] | None = None,
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield utterance ids and logits (C,); see :func:`outputs_of`."""
    options = (batch_size, num_workers, only)
    for key, logits, _ in outputs_of(model, args, speech, key_file, *options):
        yield key, logits


@torch.no_grad()
def outputs_of(
    model: ESPnetSERModel,
    args: argparse.Namespace,
    speech: tuple[str, str],
    key_file: str | Path,
    batch_size: int = 16,
    num_workers: int = 0,
    only: Collection[str] | None = None,
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield utterance ids, logits (C,) and what the head sees (P,), in the order of ``key_file``.

    Args:
        model, args: of :func:`load_model`.
        speech: path and ESPnet data type: (wav.scp, sound) or (feats.scp, kaldi_ark).
        key_file: its first column names the utterances.
        batch_size: utterances at a time.
        num_workers: processes that read.
        only: utterances; others of ``key_file`` are left out. None (default): none is.

    Raises:
        UserError: an utterance of ``key_file`` has no speech, an entry of the speech is a command,
            or the features are another upstream's.
    """
    if speech[1] == "kaldi_ark":
        check_features(model, speech[0], "--speech")
    known = check_index(speech[0])  # ESPnet's readers run an entry with a pipe
    keys = read_map(key_file)
    missing = [key for key in keys if key not in known]
    if missing:
        raise UserError(f"{speech[0]}: no utterance {missing[0]}, which {key_file} names")
    folder = tempfile.TemporaryDirectory(prefix="espnet_mtkd_")  # lives as long as the iterator
    if only is not None:
        keys = {key: value for key, value in keys.items() if key in only}
        if not keys:
            return
        key_file = Path(folder.name) / "keys"
        write_map(key_file, keys)
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
        embeddings = model.embed(batch["speech"], batch["speech_lengths"])
        logits = model.head(embeddings)
        yield from zip(keys, logits.cpu().numpy(), embeddings.cpu().numpy(), strict=True)
