"""Writing files so that a reader sees either the old content or the whole new one."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from espnet_mtkd.errors import UserError

# Of machines that share a folder, each knows its own processes only.
_HOST = re.sub(r"\W", "-", socket.gethostname())
_TEMPORARY = re.compile(rf"\..*\.{_HOST}-(\d+)(\.\w+)?")  # as atomic_path names them


@contextmanager
def atomic_path(path: str | Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success sync it and rename it to ``path``.

    If the block raises, the temporary file is removed and ``path`` is left as it was.
    The parent folder is made if it is missing. Who writes thousands of files passes
    ``sync=False`` and calls ``os.sync()`` once before writing what says that they are there.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: writers such as soundfile and numpy choose the format by it.
    temporary = path.with_name(f".{path.stem}.{_HOST}-{os.getpid()}{path.suffix}")
    try:
        yield temporary
        if sync:
            with open(temporary, "rb") as f:
                os.fsync(f.fileno())
        os.replace(temporary, path)
        if sync:  # the new name as well, before a later file may say that it is there
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path``, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def sweep(folder: str | Path) -> None:
    """Remove from a folder the temporary files of this machine's processes that were killed."""
    for path in Path(folder).glob(".*"):
        match = _TEMPORARY.fullmatch(path.name)
        if match and not path.is_dir() and not _is_alive(int(match[1])):
            path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # signal 0 only asks
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's; a number that is no process
        return True
    return True


def lock(path: str | Path, refusal: str) -> IO[str]:
    """Lock a file until it is closed, in this process and in those that it forks.

    The system gives the lock back when the last of them is dead, however it died.

    Raises:
        UserError: with ``refusal``, when another process holds it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "w", encoding="utf-8")
    try:
        lock_open(file.fileno(), refusal)
    except UserError:
        file.close()
        raise
    return file


def lock_open(fd: int, refusal: str) -> None:
    """Lock an open file for all who have it open by this descriptor or a copy of it.

    Raises:
        UserError: with ``refusal``, when it is locked by another.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(refusal) from None


def refused_by_system(error: OSError) -> UserError | None:
    """Return what to tell the user where the system, not the program, is at fault; else None."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG):
        where = f"{error.filename}: " if error.filename else ""
        return UserError(f"{where}{error.strerror}")
    return None
