"""Files from a publisher's server: told, resumed after a cut, verified, moved into place whole.

Nothing here runs unless the user asks for it (``--download`` of a corpus script).
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import sys
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from espnet_mtkd.errors import UserError

ZENODO = "https://zenodo.org/api/records"
TIMEOUT = 60  # seconds without a byte
BLOCK = 1 << 20


@dataclass(frozen=True)
class Remote:
    """A file on a server.

    Attributes:
        url: Its address.
        name: What it is called here.
        checksum: ``algorithm:hexadecimal`` as the publisher states it, for example ``md5:bc69...``.
    """

    url: str
    name: str
    checksum: str


@dataclass(frozen=True)
class Zenodo:
    """A file of a Zenodo record, whose checksum the record states.

    Attributes:
        record: The record's number: ``1188976``.
        name: The file's name in the record.
        checksum: The one to insist on, or None to take what the record states.
    """

    record: str
    name: str
    checksum: str | None = None

    def locate(self) -> Remote:
        """Ask the record for the file's address and checksum.

        Raises:
            UserError: The record cannot be read, lacks the file, or states another checksum.
        """
        url = f"{ZENODO}/{self.record}"
        with _open(url) as response:
            content = response.read()
        try:
            files = {entry["key"]: entry for entry in json.loads(content)["files"]}
            entry = files.get(self.name)
            found = entry and (entry["links"]["self"], entry["checksum"])
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"{url}: not a Zenodo record as it is known; download by hand"
            ) from None
        if not found:
            raise UserError(f"{url}: no file {self.name}; there are: {' '.join(sorted(files))}")
        if self.checksum and self.checksum != found[1]:
            raise UserError(
                f"{url}: {self.name} has the checksum {found[1]}, not {self.checksum}: "
                "the publisher changed it; check what changed, then download it by hand"
            )
        return Remote(found[0], self.name, found[1])


def fetch(remote: Remote, folder: Path) -> Path:
    """Download a file, or what is left of it, and verify it.

    Bytes go to ``.<name>.part``, which a later call continues; only a file with the right checksum
    gets its name.

    Args:
        remote: The file.
        folder: Where it goes; made if missing.

    Returns:
        ``folder / remote.name``.

    Raises:
        UserError: The server refuses, the connection is cut, or the checksum is wrong.
    """
    target, part = folder / remote.name, folder / f".{remote.name}.part"
    if target.exists():
        _verify(target, remote)
        return target
    folder.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.exists() else 0
    resumed = f", from byte {have} on" if have else ""
    print(f"downloading {remote.url} to {target}{resumed}", file=sys.stderr)
    try:
        _receive(remote.url, part, have)
    except _RangeRefused:
        # All bytes are there, or the file on the server is another one: the checksum tells.
        pass
    _verify(part, remote)
    os.replace(part, target)
    return target


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip file into a folder, then remove the archive.

    While the archive is there, unpacking is not finished. What macOS adds (``__MACOSX``) is left
    out.

    Raises:
        UserError: It is no zip file, or it wants to write elsewhere.
    """
    aside = folder / f".{archive.name}.unpacked"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as content:
            names = [n for n in content.namelist() if not n.startswith("__MACOSX/")]
            for name in names:
                path = PurePosixPath(name.replace("\\", "/"))
                if path.is_absolute() or ".." in path.parts:
                    raise UserError(f"{archive}: unsafe member {name!r}; nothing was unpacked")
            content.extractall(aside, names)
    except zipfile.BadZipFile as error:
        raise UserError(f"{archive}: not a zip file: {error}") from None
    for entry in sorted(aside.iterdir()):
        place = folder / entry.name
        if place.is_dir():
            shutil.rmtree(place)  # of an unpacking that was interrupted
        os.replace(entry, place)
    aside.rmdir()
    archive.unlink()


class _RangeRefused(Exception):
    """The server has nothing after the bytes that are here."""


def _open(url: str, start: int = 0) -> http.client.HTTPResponse:
    request = urllib.request.Request(url, headers={"User-Agent": "espnet-mtkd"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and start:
            raise _RangeRefused from None
        raise UserError(f"{url}: the server answers {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(f"{url}: cannot be reached: {reason}") from None


def _receive(url: str, part: Path, have: int) -> None:
    with _open(url, have) as response:
        if have and response.status != 206:
            have = 0  # the server starts over
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else None
        cut: object = None
        with (
            open(part, "ab" if have else "wb") as f,
            tqdm(
                None, part.name, total, initial=have, unit="B", unit_scale=True, disable=None
            ) as bar,
        ):
            try:
                while block := response.read(BLOCK):
                    f.write(block)
                    bar.update(len(block))
            except (OSError, http.client.HTTPException) as error:
                cut = error
            f.flush()
            os.fsync(f.fileno())
            size = f.tell()
    if cut or (total is not None and size < total):
        raise UserError(
            f"{url}: the connection was cut after {size} of {total or 'unknown'} bytes; "
            "run again to go on from there"
        )


def _verify(path: Path, remote: Remote) -> None:
    algorithm, _, expected = remote.checksum.partition(":")
    if algorithm not in hashlib.algorithms_available or not expected:
        raise UserError(f"{remote.url}: unknown kind of checksum {remote.checksum!r}")
    with open(path, "rb") as f:
        found = hashlib.file_digest(f, algorithm).hexdigest()
    if found != expected.lower():
        path.unlink()
        raise UserError(
            f"{remote.url}: wrong checksum {algorithm}:{found}, expected {remote.checksum}; "
            f"{path} was removed, run again to start over"
        )
