from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_mtkd.bin.format_audio import main
from espnet_mtkd.data.corpus import Utterance, prepare
from espnet_mtkd.data.datadir import DataDir
from espnet_mtkd.errors import UserError


@pytest.fixture
def data(tmp_path) -> Path:
    """Four utterances: two in form, two to be converted, one of them clipped."""
    utterances = []
    for number, rate in enumerate((16000, 44100, 8000, 16000)):
        path = tmp_path / "src" / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        samples = np.sin(2 * np.pi * (200 + 100 * number) * np.arange(rate // 2) / rate)
        soundfile.write(path, samples * (1.5 if number == 1 else 0.5), rate)
        utterances.append(Utterance(f"toy_a_{number}", "toy_a", path, "joy", "en", "f", "Hi"))
    prepare("toy", utterances, tmp_path / "data")
    return tmp_path / "data"


def test_command_line(tmp_path, data, capsys):
    main(["--in", str(data), "--out", str(tmp_path / "raw"), "--nj", "1"])
    out = capsys.readouterr().out
    assert "4 utterances, 0.00 h" in out
    assert "(2 converted, 2 in place, 0 rejected)" in out
    assert "warning: 1 utterances are odd, see " in out
    assert "toy_a_1: clipped" in out
    assert len(DataDir.load(tmp_path / "raw")) == 4


def test_max_rejects(tmp_path, data):
    (tmp_path / "src" / "3.wav").write_text("no audio")
    argv = ["--in", str(data), "--out", str(tmp_path / "raw")]
    with pytest.raises(UserError, match=r"3\.wav: unreadable.*1 of 4 .*--max_rejects \(now 0\)"):
        main(argv)
    main([*argv, "--max_rejects", "1"])
    assert DataDir.load(tmp_path / "raw").utterances == ["toy_a_0", "toy_a_1", "toy_a_2"]
    rows = (tmp_path / "raw" / "rejects.tsv").read_text().splitlines()
    assert [row.split("\t")[2] for row in rows] == ["verdict", "kept", "left out"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fs", "0"], "--fs 0: must be more than 0"),
        (["--nj", "-1"], "--nj -1: must be more than 0"),
        (["--max_rejects", "-1"], "--max_rejects -1: must be 0 or more"),
        (["--min_wav_duration", "9", "--max_wav_duration", "8"], "9.0 is more than"),
    ],
)
def test_wrong_options(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        main(["--in", str(tmp_path), "--out", str(tmp_path / "x"), *options])


def test_in_and_out_must_differ(data):
    with pytest.raises(UserError, match="--out .*: must not be the same as --in"):
        main(["--in", str(data), "--out", str(data)])


def test_a_mistake_is_one_line_and_status_1(tmp_path):
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-m", "espnet_mtkd.bin.format_audio", "--in", "none", "--out", "x"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: none: not a data directory")
    assert len(result.stderr.splitlines()) == 1
