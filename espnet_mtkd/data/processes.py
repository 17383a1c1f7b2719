"""What holds for every process that works for another one."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor

_PR_SET_PDEATHSIG = 1  # prctl(2)


def die_with_parent(parent: int | None = None) -> None:
    """Let the system kill this process when its parent dies (Linux; elsewhere nothing happens).

    A parent that is killed cannot end its children itself; they would write on beside the run that
    starts afresh.

    Args:
        parent: its process id, where it may have died before this is called; default: it lives.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent not in (None, os.getppid()):
        os._exit(1)


def spawn_pool(nj: int) -> ProcessPoolExecutor:
    """Return a pool of ``nj`` processes that die with this one.

    They are spawned: a fork would copy whatever threads and locks this process has.
    """
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(
        nj, mp_context=spawn, initializer=die_with_parent, initargs=(os.getpid(),)
    )
