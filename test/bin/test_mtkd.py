from __future__ import annotations

import subprocess
import sys

import pytest

from espnet_mtkd import __version__
from espnet_mtkd.bin import mtkd
from espnet_mtkd.errors import UserError


def test_help_names_the_commands(capsys):
    for argv in ([], ["--help"]):
        mtkd.main(argv)
        text = capsys.readouterr().out
        assert all(f"  {name}" in text for name in mtkd.COMMANDS)


def test_version(capsys):
    mtkd.main(["--version"])
    assert capsys.readouterr().out == f"espnet-mtkd {__version__}\n"


def test_unknown_command():
    with pytest.raises(UserError, match="mtkd fly: no such command; there are predict, pack, "):
        mtkd.main(["fly"])


@pytest.mark.parametrize("name", ["predict", "pack", "export", "upload"])
def test_commands_call_themselves_as_they_were_called(name, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["anything"])
    with pytest.raises(SystemExit) as end:
        mtkd.main([name, "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: mtkd {name} ")


def test_help_of_prediction_does_without_torch():
    code = (
        "import sys; from espnet_mtkd.bin import mtkd\n"
        "try: mtkd.main(['predict', '--help'])\n"
        "finally: print([m for m in ('torch', 'scipy') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
