"""Models on the Hugging Face hub: the files of an unpacked archive, as ESPnet keeps its own.

``HF_ENDPOINT`` names another hub, ``HF_TOKEN`` or ``hf auth login`` says who you are.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from espnet_mtkd.errors import UserError
from espnet_mtkd.use.archive import read_packed, unpack


def download(name: str) -> Path:
    """Return the folder of a model on the hub; what is not there yet is downloaded, and said so.

    Args:
        name: ``user/name``.

    Raises:
        UserError: no such model, or the hub cannot be reached.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HFValidationError, HTTPError

    offline = constants.is_offline_mode()
    where = "what was downloaded before" if offline else constants.ENDPOINT
    print(f"{name}: no such path here; looking for it in {where}", file=sys.stderr)
    try:
        return Path(snapshot_download(name))
    except (HTTPError, HFValidationError, OSError) as error:
        raise UserError(
            f"{name}: no such archive or folder here, and not found in {where}: {_first(error)}"
        ) from None


def upload(archive: str | Path, name: str, private: bool = False) -> str:
    """Put the content of an archive on the hub and return its address.

    Args:
        archive: of stage 12.
        name: ``user/name``; the repository is made if it is not there.
        private: make it one that only its owner sees.

    Raises:
        UserError: no archive of this project, no right to write there, or the hub is out of reach.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HFValidationError, HTTPError

    if not Path(archive).is_file():
        raise UserError(f"{archive}: no such archive; stage 12 or mtkd pack makes it")
    with tempfile.TemporaryDirectory(prefix="espnet_mtkd_") as folder:
        unpack(Path(archive), Path(folder))
        read_packed(Path(folder), str(archive))
        try:
            api = HfApi()
            address = str(api.create_repo(name, private=private, exist_ok=True))
            api.upload_folder(
                repo_id=name, folder_path=folder, commit_message=f"Upload {Path(archive).name}"
            )
        except (HTTPError, HFValidationError, OSError) as error:
            raise UserError(
                f"{name}: not uploaded to {constants.ENDPOINT}: {_first(error)} "
                "(HF_TOKEN or hf auth login says who you are)"
            ) from None
    return address


def _first(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
