from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl is Linux's")
def test_a_child_dies_with_its_parent():
    # The grandchild holds the pipe: that the pipe ends shows that it is dead as well.
    code = """
import os, signal
from espnet_mtkd.data.processes import die_with_parent
ready, tell = os.pipe()
if os.fork() == 0:
    die_with_parent()
    os.write(tell, b"x")
    signal.pause()
os.read(ready, 1)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == -9


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl is Linux's")
def test_a_child_whose_parent_is_dead_already_ends_at_once():
    code = (
        "import os, signal\nfrom espnet_mtkd.data.processes import die_with_parent\n"
        "die_with_parent(os.getppid()); die_with_parent(); print('alive', flush=True)\n"
        "die_with_parent(os.getpid()); print('still')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "alive\n")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl is Linux's")
def test_workers_of_a_pool_die_with_their_parent(tmp_path):
    # The workers hold the pipe of standard output: that it ends shows that they are dead.
    script = tmp_path / "pool.py"
    script.write_text(
        "import os, signal\nfrom espnet_mtkd.data.processes import spawn_pool\n"
        "if __name__ == '__main__':\n"
        "    pool = spawn_pool(2)\n"
        "    print(sum(pool.map(abs, [-1, -2])), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (-9, "3\n")
