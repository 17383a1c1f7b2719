"""The study of the real corpora: what it asks of the recipe, without running it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from espnet_mtkd.bin.run_stage import OPTIONS
from espnet_mtkd.systems import ROOT, System, find_file

FOLDER = ROOT / "egs2" / "ravdess_emodb_emovo_urdu" / "mtkd1"


@pytest.fixture
def study(tmp_path):
    """Run study.sh beside a run.sh that only writes down how it was called."""
    shutil.copy(FOLDER / "study.sh", tmp_path)
    recipe = "#!/usr/bin/env bash\n" + 'printf "%q " "$@" >> calls; echo >> calls\n'
    recipe += 'while [ "$1" != --expdir ]; do shift; done; mkdir -p "$2"; touch "$2/results.json"\n'
    (tmp_path / "run.sh").write_text(recipe)
    (tmp_path / "python").write_text('#!/usr/bin/env bash\nprintf "%q " "$@" > compared\n')
    for name in ("run.sh", "python"):
        (tmp_path / name).chmod(0o755)

    def run(*parts: str, **more: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "WHISPER": "/models/w", "MTKD_PYTHON": "./python", **more}
        command = ["bash", str(tmp_path / "study.sh"), *parts]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    return run


def calls(folder: Path) -> list[dict[str, str]]:
    lines = (folder / "calls").read_text().splitlines()
    words = [shlex.split(line) for line in lines]
    return [dict(zip(line[::2], line[1::2], strict=True)) for line in words]


def test_all_parts_ask_for_what_there_is(study, tmp_path, monkeypatch):
    done = study()
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(FOLDER)
    made = calls(tmp_path)
    for call in made:
        assert {name[2:] for name in call} <= {*OPTIONS, "stop_stage"}
        for name in call["--systems"].split():
            System.read(name)
        find_file(call.get("--student_config", "conf/train_frozen.yaml"))
    names = [call["--expdir"] for call in made]
    assert len(set(names)) == len(names) > 12
    compared = shlex.split((tmp_path / "compared").read_text())
    assert sorted(w for w in compared if "=" in w) == sorted(f"{n[10:]}={n}" for n in names)


def test_one_part_joins_what_was_run_before(study, tmp_path):
    study("languages", SEEDS="7")
    study("finetuned")
    *languages, finetuned = calls(tmp_path)
    for call in languages:
        assert (call["--seeds"], call["--leave_one_language_out"]) == ("7", "true")
    assert [call["--expdir"] for call in languages] == [
        "exp_study/languages",
        "exp_study/languages_scratch",
    ]
    assert finetuned["--upstream_mode"] == "finetune"
    assert "languages=exp_study/languages" in (tmp_path / "compared").read_text()


@pytest.mark.parametrize(
    ("parts", "more", "message"),
    [
        (["everything"], {}, "error: no part everything; there are weightings teachers"),
        ([], {"WHISPER": ""}, "set WHISPER to the folder of a Hugging Face Whisper base"),
    ],
)
def test_mistakes(study, tmp_path, parts, more, message):
    done = study(*parts, **more)
    assert done.returncode != 0 and message in done.stderr
    assert not (tmp_path / "calls").exists()
