"""What holds for every process that works for another one."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)


def die_with_parent(parent: int | None = None) -> None:
    """Let the system kill this process when its parent dies (Linux; elsewhere nothing happens).

    A parent that is killed cannot end its children itself; they would write on beside the run that
    starts afresh. Serves as the initializer of a pool, with ``initargs=(os.getpid(),)``.

    Args:
        parent: its process id, where it may have died before this is called; default: it lives.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent not in (None, os.getppid()):
        os._exit(1)
