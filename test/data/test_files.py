from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from espnet_mtkd.data.files import atomic_path, lock, refused_by_system, sweep, write_text
from espnet_mtkd.errors import UserError


def test_content_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "x.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.suffix == ".txt"
    assert path.read_text() == "half"


def test_a_failure_keeps_the_old_content(tmp_path):
    path = tmp_path / "x"
    write_text(path, "old")
    with pytest.raises(ValueError, match="no"), atomic_path(path) as temporary:
        temporary.write_text("new")
        raise ValueError("no")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def test_text_is_utf8_with_unix_lines(tmp_path):
    write_text(tmp_path / "x", "ä\nb\n")
    assert (tmp_path / "x").read_bytes() == b"\xc3\xa4\nb\n"


def test_a_sweep_removes_what_dead_processes_left_and_nothing_else(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with atomic_path(tmp_path / "feats.ark") as own:
        own.write_text("x")
        machine = own.name.removeprefix(".feats.").removesuffix(f"-{os.getpid()}.ark")
        left = [f".feats.{machine}-{dead.pid}.ark", f".RESULTS.{machine}-{dead.pid}"]
        # A process of another machine may live.
        kept = [own, tmp_path / f".feats.other-{dead.pid}.ark", tmp_path / ".hidden"]
        kept += [tmp_path / "feats.1.ark", tmp_path / f".store.{machine}-{dead.pid}.d"]
        for path in (*map(tmp_path.joinpath, left), *kept[1:4]):
            path.write_text("x")
        kept[4].mkdir()
        sweep(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_what_a_killed_process_leaves_is_swept(tmp_path):
    code = (
        "import os, signal, sys; from espnet_mtkd.data.files import atomic_path\n"
        "with atomic_path(sys.argv[1]) as half:\n"
        "    half.write_text('x'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.ark")], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    sweep(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_lock_is_refused_while_held_and_free_when_its_holder_is_dead(tmp_path):
    code = (
        "import signal, sys; from espnet_mtkd.data.files import lock\n"
        "held = lock(sys.argv[1], 'no'); print('held', flush=True); signal.pause()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="^at work$"):
            lock(tmp_path / "lock", "at work")
        holder.kill()
    lock(tmp_path / "lock", "at work").close()


@pytest.mark.parametrize(
    ("number", "told"), [(errno.ENOSPC, True), (errno.EROFS, True), (errno.ENOENT, False)]
)
def test_what_the_system_refuses_is_told_in_a_line(number, told):
    refusal = refused_by_system(OSError(number, os.strerror(number), "exp/x"))
    assert str(refusal) == f"exp/x: {os.strerror(number)}" if told else refusal is None
