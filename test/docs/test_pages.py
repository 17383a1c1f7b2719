"""The documentation is true: its blocks run, its pages are up to date, the site is whole."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

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


def follow(page: Path, folder: Path) -> None:
    """Run a page in a clone."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "MTKD_PYTHON": sys.executable, "HF_HUB_OFFLINE": "1"}
    for name in ("KALDI_ROOT", "ESPNET_ROOT", "PYTHONPATH", "MAIN_ROOT"):
        env.pop(name, None)
    done = subprocess.run(
        ["bash", "-c", script(page)],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=1800,  # a block that waits for someone
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


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


WITH_PLACEHOLDERS = ("use.md",)  # speech.wav, user/name; the commands have tests of their own
RUN = [
    page.name
    for page in sorted(DOCS.glob("*.md"))
    if "@@" in script(page) and page.name not in WITH_PLACEHOLDERS
]


def test_the_tutorial(tmp_path):
    pytest.importorskip("espeakng_loader", reason="the embedded corpus needs the extra 'mini'")
    folder = clone(tmp_path / "clone")
    follow(DOCS / "tutorial.md", folder)
    text = (folder / "exp" / "report_to_listen.html").read_text(encoding="utf-8")
    assert text.count("<audio") == 6  # two of each of three languages
    assert "| mtkd |" in (folder / "exp" / "RESULTS.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in RUN if name != "tutorial.md"])
def test_blocks_of_a_page(name, tmp_path):
    follow(DOCS / name, clone(tmp_path / "clone"))


def test_pages_with_commands_are_among_those_that_are_run():
    assert {"tutorial.md", "corpus.md", "weighting.md", "upstream.md", "method.md"} <= set(RUN)
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
    assert pages["method"].count("<math ") == 3
    assert "MultiTeacherLoss" in pages["api"] and ":class:" not in pages["api"]
    assert ">emodb<" in pages["corpora"]
