"""The documentation is true: its blocks run, its pages are up to date, the site is whole."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_mtkd.systems import ROOT

DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = ("bash", "python", "console", "math", "yaml", "json", "text")  # the first two are run


def blocks(page: Path) -> list[tuple[int, str, str]]:
    """Line, language and text of every block of a page."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, m.start()) + 1, m[1], m[2]) for m in BLOCK.finditer(text)]


def script(page: Path) -> str:
    """What a reader types who follows a page from top to bottom."""
    parts = ["set -euo pipefail"]
    for line, language, text in blocks(page):
        if language in ("bash", "python"):
            parts.append(f"echo {shlex.quote(f'@@ {page.name}:{line}')}")
            parts.append(text if language == "bash" else f"python - <<'BLOCK'\n{text}BLOCK")
    return "\n".join(parts) + "\n"


def environment(root: Path) -> dict[str, str]:
    """What a reader's shell has after `. ./path.sh` in a clone."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(root)}
    for name in ("KALDI_ROOT", "ESPNET_ROOT", "MAIN_ROOT"):
        env.pop(name, None)
    return {**env, "MTKD_PYTHON": sys.executable, "HF_HUB_OFFLINE": "1"}


def run(text: str, folder: Path, root: Path = ROOT) -> str:
    """Run what a reader types; return what they see."""
    done = subprocess.run(
        ["bash", "-c", text],
        cwd=folder,
        env=environment(root),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=1800,  # a block that waits for someone
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def follow(page: Path, folder: Path) -> str:
    """Run a page in a clone."""
    return run(script(page), folder, folder if (folder / "espnet_mtkd").is_dir() else ROOT)


def clone(folder: Path) -> Path:
    """A copy of the project as a clone has it."""
    ignored = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info")
    made = {ROOT / name for name in ("data", "dump", "exp", "build", "downloads")}

    def ignore(parent: str, names: list[str]) -> set[str]:
        kept = ignored(parent, names)
        return kept | {name for name in names if Path(parent, name) in made}

    shutil.copytree(ROOT, folder, ignore=ignore)
    for name in ("data", "dump", "exp", "exp_whisper"):
        for path in folder.glob(f"egs2/*/*/{name}"):
            shutil.rmtree(path)
    return folder


RUN = [page.name for page in sorted(DOCS.glob("*.md")) if "@@" in script(page)]
PREPARED = ("tutorial.md", "use.md")  # run by tests of their own


def test_the_tutorial(tmp_path):
    pytest.importorskip("espeakng_loader", reason="the embedded corpus needs the extra 'mini'")
    folder = clone(tmp_path / "clone")
    follow(DOCS / "tutorial.md", folder)
    text = (folder / "exp" / "report_to_listen.html").read_text(encoding="utf-8")
    assert text.count("<audio") == 6  # two of each of three languages
    assert "| mtkd |" in (folder / "exp" / "RESULTS.md").read_text(encoding="utf-8")


# ---- use a student -----------------------------------------------------------------------------


@pytest.fixture
def packed(trained, tmp_path) -> Path:
    """A folder with what `./run.sh` leaves behind for one student, and recordings of a reader."""
    if not Path(sys.executable).with_name("mtkd").exists():
        pytest.skip("the command mtkd is not installed beside this Python")
    model = tmp_path / "exp" / "fold_1" / "seed_0" / "mtkd"
    shutil.copytree(trained("fbank_no_cmvn"), model)
    results = json.loads((trained("fbank_no_cmvn").parents[2] / "results.json").read_text())
    results["test"]["rows"] = {"mtkd": results["test"]["rows"]["ft"]}
    (tmp_path / "exp" / "results.json").write_text(json.dumps(results))
    archive = tmp_path / "exp" / "packed" / "mtkd.zip"
    archive.parent.mkdir()
    shutil.copy(trained.packed("fbank_no_cmvn"), archive)
    noise = 0.1 * np.random.default_rng(0).normal(size=16000)
    for name in (
        *("speech.wav", "a.wav", "b.mp3", "recordings/deep/x.ogg", "rec/1/y.flac"),
        "data/mini_ser/audio/mini_ser_en_v07_anger_001.wav",  # of the embedded corpus
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / name, noise, 16000)
    (tmp_path / "data" / "test").mkdir()
    (tmp_path / "data" / "test" / "wav.scp").write_text("utt1 speech.wav\n")
    return tmp_path


def of_readme() -> tuple[list[str], str]:
    """The three commands of the README's section, and its Python."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("## Use a student\n")[1].split("\n## ")[0]
    bash, python = (text for _, text in BLOCK.findall(section))
    commands = [line.split("#")[0].strip() for line in bash.splitlines()]
    assert [command.split()[:2] for command in commands] == [
        *(["mtkd", "predict"], ["mtkd", "export"], ["mtkd", "demo"])
    ]
    return commands, python


def test_readme_from_the_packed_student_to_predictions_and_onnx(packed):
    for module in ("onnxruntime", "onnxscript"):
        pytest.importorskip(module, reason="export needs the extra 'onnx'")
    (predict, export, _), python = of_readme()
    record = json.loads(run(predict, packed))
    assert record["id"] == "speech.wav" and record["emotion"] in record["probabilities"]
    run(export, packed)
    again = json.loads(run(predict.replace(".zip", ".onnx"), packed))
    assert again["probabilities"] == pytest.approx(record["probabilities"], abs=1e-4)
    said = run(f"python - <<'BLOCK'\n{python}BLOCK", packed)
    assert said.startswith(f"{record['emotion']} 0.")


def test_readme_from_the_packed_student_to_the_page(packed):
    pytest.importorskip("gradio", reason="the page needs the extra 'demo'")
    demo = of_readme()[0][2]
    # A port of its own: somebody may have a page open at the usual one.
    command = shlex.split(f"{demo} --port 0")
    page = subprocess.Popen(
        command, cwd=packed, env=environment(ROOT), stdout=subprocess.PIPE, text=True
    )
    try:
        line = page.stdout.readline()
        address = re.match(r"open (http://127\.0\.0\.1:\d+/?) in a browser", line)[1]
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert "Speech emotion recognition" in answer.read().decode()
    finally:
        page.terminate()  # not SIGINT, which a shell's background jobs ignore
        page.wait(timeout=60)
        page.stdout.close()


def test_the_page_on_using_a_model(packed):
    for module in ("onnxruntime", "onnxscript"):
        pytest.importorskip(module, reason="export needs the extra 'onnx'")
    said = follow(DOCS / "use.md", packed).splitlines()
    records = [json.loads(line) for line in said if line.startswith("{")]
    assert [record["id"] for record in records] == [
        *("speech.wav", "a.wav", "b.mp3", "recordings/deep/x.ogg"),
        *("rec/1/y.flac", "utt1", "rec/1/y.flac", "speech.wav"),
    ]
    assert {record["emotion"] for record in records} <= set(records[0]["probabilities"])
    assert (packed / "emotions.csv").read_text().count("\n") == 2
    assert (packed / "mtkd.zip").is_file()


@pytest.mark.parametrize("name", [name for name in RUN if name not in PREPARED])
def test_blocks_of_a_page(name, tmp_path):
    follow(DOCS / name, clone(tmp_path / "clone"))


def test_pages_with_commands_are_among_those_that_are_run():
    pages = ("tutorial", "use", "corpus", "weighting", "upstream", "method")
    assert {f"{name}.md" for name in pages} <= set(RUN)
    for page in DOCS.glob("*.md"):
        for line, language, text in blocks(page):
            assert language in LANGUAGES, f"{page.name}:{line}"
            if language == "console":
                assert text.startswith("$ "), f"{page.name}:{line}: what is run is a bash block"


def test_messages_that_are_explained_exist():
    sources = [*ROOT.glob("espnet_mtkd/**/*.py"), *ROOT.glob("*.sh"), *ROOT.glob("tools/*.sh")]
    # Messages are cut into literals of a line.
    code = " ".join(path.read_text(encoding="utf-8") for path in sources)
    code = re.sub(r'"\s*\\?\s*f?"', "", code)
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    assert len(messages) > 5
    for message in messages:
        assert message in code


class _Outside(HTMLParser):
    """Collects what a page would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        loads = [values.get("src"), values.get("href") if tag == "link" else None]
        self.found += [url for url in loads if url and re.match(r"(https?:)?//", url)]


def test_the_site_is_whole_and_loads_nothing_from_elsewhere(tmp_path):
    for module in ("mkdocs", "material", "mkdocstrings", "latex2mathml"):
        pytest.importorskip(module, reason="the documentation site needs the extra 'docs'")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path.stem: path.read_text(encoding="utf-8") for path in tmp_path.glob("site/*.html")}
    assert set(pages) >= {page.stem for page in DOCS.glob("*.md")} | {"corpora"}
    for name, html in pages.items():
        outside = _Outside()
        outside.feed(html)
        assert outside.found == [], name
    assert pages["method"].count("<math ") == 4
    assert "MultiTeacherLoss" in pages["api"] and ":class:" not in pages["api"]
    assert ">emodb<" in pages["corpora"]
