"""A full disk, a read-only folder, no memory, two runs at once: a clear error, and nothing lost.

The file systems are mounted in a namespace of the test's own (``unshare``).
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from espnet_mtkd.data.files import lock
from espnet_mtkd.errors import UserError
from espnet_mtkd.jobs import Job, run_jobs

NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


@pytest.fixture(scope="module")
def namespace() -> list[str]:
    """Return what to put in front of a command, so that it may mount."""
    command = [*NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no unshare on this machine")
    if done.returncode != 0:
        pytest.skip("this user may not mount in a namespace")
    return NAMESPACE


TRAIN_ON_A_SMALL_DISK = """
import json, shutil, subprocess, sys
from pathlib import Path
from espnet_mtkd.errors import UserError
from espnet_mtkd.jobs import Job, run_jobs

output, argv, kilobytes = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]
disk = output.parent
mount = ["mount", "-t", "tmpfs", "-o"]
subprocess.run([*mount, f"size={kilobytes}k", "none", disk], check=True)
job = Job(output, 7, ("-m", "espnet_mtkd.bin.ser_train", *argv), resumes=True)
try:
    run_jobs([job], nj=1)
except (UserError, OSError) as error:
    print("REFUSED", error)
subprocess.run([*mount, "remount,size=50m", "none", disk], check=True)
run_jobs([Job(output, 7, ("-m", "espnet_mtkd.bin.ser_train", *argv), resumes=True)], nj=1)
shutil.copytree(output, sys.argv[4], symlinks=True)
"""


def test_a_training_on_a_full_disk_goes_on_when_there_is_room(toy, namespace, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    argv = toy.argv(disk / "model")
    whole = toy.argv(tmp_path / "whole")
    run_jobs([Job(tmp_path / "whole", 7, ("-m", "espnet_mtkd.bin.ser_train", *whole))], nj=1)
    for kilobytes in (4, 60):
        saved = tmp_path / f"saved_{kilobytes}"
        code = ["-c", TRAIN_ON_A_SMALL_DISK, disk / "model", json.dumps(argv), str(kilobytes)]
        command = [*namespace, sys.executable, *code, saved]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "No space left on device" in done.stdout.split("REFUSED")[1].splitlines()[0]
        known = tmp_path / "whole" / "3epoch.pth"
        assert (saved / "3epoch.pth").read_bytes() == known.read_bytes()
        assert not [path for path in saved.rglob(".*.pth")]


READ_ONLY = """
mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && cd "$1" || exit 99
exec "$2" -m espnet_mtkd.bin.run_stage 1 --expdir "$3" --datadir "$4"
"""


@pytest.mark.parametrize(("exp", "data"), [("exp", "data"), ("../exp", "data")])
def test_a_read_only_folder_is_named_in_one_line(namespace, tmp_path, exp, data):
    folder = tmp_path / "project"
    folder.mkdir()
    command = [*namespace, "bash", "-c", READ_ONLY, "-", folder, sys.executable, exp, data]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    refused = exp if exp == "exp" else "data"
    assert done.stderr.splitlines()[-1].startswith(f"error: {refused}")
    assert done.stderr.rstrip().endswith("Read-only file system")


def test_out_of_memory_is_said_and_the_job_runs_again(tmp_path, monkeypatch):
    module = "def main(argv):\n    x = bytearray(1 << 30)\n    open(argv[0], 'w').close()\n"
    (tmp_path / "job_module_hungry.py").write_text(module)
    monkeypatch.syspath_prepend(str(tmp_path))
    output = tmp_path / "out" / "a"
    job = Job(output, 1, ("-m", "job_module_hungry", str(output)))
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (size + (300 << 20), before[1]))
        with pytest.raises(UserError, match=r"^out of memory \[.*out/a, log: "):
            run_jobs([job], nj=1)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        sys.modules.pop("job_module_hungry", None)
    assert not output.exists()
    assert run_jobs([job], nj=1) == 1


def test_two_experiments_never_make_the_same_data_at_once(tmp_path):
    script = tmp_path / "make.py"
    script.write_text("import sys; open(sys.argv[1], 'w').close()")
    job = Job(tmp_path / "dump" / "a", 2, (str(script), str(tmp_path / "dump" / "a")))
    with lock(job.stamp.lock, "free"):
        with pytest.raises(UserError, match=f"^{job.output}: another run is making it$"):
            run_jobs([job], nj=1)
    assert run_jobs([job], nj=1) == 1
