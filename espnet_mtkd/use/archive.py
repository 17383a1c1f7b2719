"""Packed models: one zip in the format of ESPnet's model zoo, or the same files in a folder.

``meta.yaml`` names the config and the parameters; an upstream's files lie in ``upstream/``. Nothing
in an archive is run: configs are read with ``safe_load``, parameters with ``weights_only``, and no
file outside of the archive is named or written.
"""

from __future__ import annotations

import re
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from espnet_mtkd.data.labels import NO_YAML
from espnet_mtkd.errors import UserError

FORMAT = 1  # of the archives that this version writes; key `mtkd_format` of the config
CONFIG, PARAMETERS = "ser_train_config", "ser_model_file"
PARAMETERS_OF_TRAINING = "model.pth"  # see espnet_mtkd.tasks.trainer
MOST_GROWTH = 100  # of an archive; parameters shrink by a tenth, zeros a thousandfold
# Upstreams without a checkpoint, as in espnet_mtkd.models.upstream (which needs torch).
WITHOUT_FILES = ("fbank", "fbank_no_cmvn", "linear", "mel", "mfcc", "spectrogram")
# S3PRL's names of upstreams that read a file or folder; the others fetch something.
READ_FILES = ("_local", "_custom")


@dataclass(frozen=True)
class ModelFiles:
    """A trained model on disk.

    Attributes:
        name: what the user called it, for messages.
        config_file: ``config.yaml``; the upstream's path is relative to its folder.
        parameters: the checkpoint.
        config: content of ``config_file``.
    """

    name: str
    config_file: Path
    parameters: Path
    config: dict[str, Any]

    @property
    def temperature(self) -> float | None:
        """That calibrates the model; None where nobody fitted one."""
        return self.config.get("temperature")

    @property
    def upstream(self) -> str | None:
        """Name of the S3PRL upstream; None for a student with an encoder of its own."""
        if self.config.get("frontend", "s3prl") != "s3prl":
            return None
        return self.config["frontend_conf"].get("upstream", "fbank_no_cmvn")


@contextmanager
def open_model(model: str | Path) -> Iterator[ModelFiles]:
    """Find the files of a model for as long as the block lasts.

    Args:
        model: an archive, the folder of a training or of an unpacked archive, or, where there is no
            such path, a name on the Hugging Face hub (``user/name``).

    Raises:
        UserError: no such model, or not one of this project.
    """
    path = Path(model)
    if path.is_dir():
        yield read_folder(path)
    elif path.is_file():
        with tempfile.TemporaryDirectory(prefix="espnet_mtkd_") as name:
            unpack(path, Path(name))
            yield read_packed(Path(name), str(model))
    elif re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", str(model)):
        from espnet_mtkd.use.hub import download

        yield read_packed(download(str(model)), str(model))
    else:
        raise UserError(f"{model}: no such archive or folder of a trained model")


def read_folder(folder: Path) -> ModelFiles:
    """Read the files of an unpacked archive, or of a training.

    A training is calibrated by its predictions for the development set (stage 8), where it has
    some; an archive was when it was packed.
    """
    if (folder / "meta.yaml").exists():
        return read_packed(folder, str(folder))
    files = read_files(folder / "config.yaml", folder / PARAMETERS_OF_TRAINING, str(folder))
    if (folder / "dev.tsv").is_file():
        from espnet_mtkd.evaluate.calibration import temperature_of  # scipy takes its time

        names = files.config["emotions"], files.config["languages"]
        files.config["temperature"] = temperature_of(folder / "dev.tsv", *names)
    return files


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip into an empty folder; a member that would leave it is refused before any is.

    Raises:
        UserError: no zip, a broken one, or an unsafe member.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            size = sum(info.file_size for info in file.infolist())
            if size > MOST_GROWTH * archive.stat().st_size:
                raise UserError(
                    f"{archive}: its {archive.stat().st_size} bytes would unpack to {size}, which "
                    "no model does; nothing was unpacked"
                )
            for info in file.infolist():
                if not is_safe(info.filename) or stat.S_ISLNK(info.external_attr >> 16):
                    raise UserError(
                        f"{archive}: unsafe member {info.filename!r}; nothing was unpacked"
                    )
            file.extractall(folder)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError) as error:
        raise UserError(f"{archive}: no archive of a model, or a broken one: {error}") from None
    except (OSError, RuntimeError, ValueError) as error:  # zlib, passwords, a full disk
        raise UserError(f"{archive}: cannot be unpacked: {error}") from None


def is_safe(name: str) -> bool:
    """Whether a member's name stays below the folder it is unpacked into, on any system."""
    return not (
        "\\" in name or ":" in name or name.startswith("/") or ".." in PurePosixPath(name).parts
    )


def read_packed(folder: Path, name: str) -> ModelFiles:
    """Read the files of an unpacked archive.

    Raises:
        UserError: it is none of this project's, of a newer version, or not whole.
    """
    try:
        meta = yaml.safe_load((folder / "meta.yaml").read_text(encoding="utf-8"))
        config, parameters = meta["yaml_files"][CONFIG], meta["files"][PARAMETERS]
    except (OSError, *NO_YAML, KeyError):
        raise UserError(
            f"{name}: no archive of a model, or a broken one: no meta.yaml that names {CONFIG} and "
            f"{PARAMETERS}"
        ) from None
    for member in (config, parameters):
        if not is_safe(str(member)) or not (folder / str(member)).is_file():
            raise UserError(f"{name}: meta.yaml names {member}, which is not in the archive")
    files = read_files(folder / config, folder / parameters, name)
    upstream, path = files.upstream, files.config["frontend_conf"].get("path_or_url")
    # A name or an address would be fetched from somewhere, an absolute path is another machine's.
    if path is None and upstream not in (None, *WITHOUT_FILES):
        raise UserError(f"{name}: its upstream {upstream} is not in the archive")
    if path is not None:
        path = str(path)
        if not is_safe(path) or not (files.config_file.parent / path).exists():
            raise UserError(f"{name}: its upstream {path} is not in the archive")
        if upstream is not None and not upstream.endswith(READ_FILES):
            raise UserError(f"{name}: its upstream {upstream} does not read files of an archive")
    return files


def check_format(version: Any, name: str | Path) -> None:
    """Refuse what a newer version has written."""
    if not isinstance(version, int) or version > FORMAT:
        raise UserError(
            f"{name}: made by a newer espnet-mtkd (format {version}, this one reads {FORMAT}); "
            "upgrade it: pip install -U espnet-mtkd"
        )


def read_files(config_file: Path, parameters: Path, name: str) -> ModelFiles:
    """Read the config of a trained model and check it.

    Raises:
        UserError: no config, of a newer version, or without a label set.
    """
    for path in (config_file, parameters):
        if not path.is_file():
            raise UserError(f"{path}: no such file; has this model been trained (stages 5 and 7)?")
    try:
        config = yaml.safe_load(config_file.read_text(encoding="utf-8"))
    except NO_YAML:
        raise UserError(f"{name}: {config_file.name} is no YAML file") from None
    if not isinstance(config, dict) or not isinstance(config.get("frontend_conf"), dict):
        raise UserError(f"{name}: {config_file.name} is not the config of a classifier")
    check_format(config.get("mtkd_format", FORMAT), name)
    for key in ("emotions", "languages"):
        names = config.get(key)
        if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
            raise UserError(f"{name}: no label set: {key} in {config_file.name} is {names!r}")
    return ModelFiles(name, config_file, parameters, config)
