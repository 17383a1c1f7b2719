"""The page to try a model on, in a real browser."""

from __future__ import annotations

import re
import shutil
import socket

import numpy as np
import pytest
import soundfile

from espnet_mtkd import demo
from espnet_mtkd.bin import demo as command
from espnet_mtkd.errors import UserError
from espnet_mtkd.recognizer import Prediction, Segment


def _prediction(rows, emotions=("anger", "neutral"), languages=None, seconds=2.0):
    """A window of ``seconds`` per row of probabilities, half overlapping."""
    tables = [dict(zip(emotions, row, strict=True)) for row in rows]
    parts = [Segment(i * seconds / 2, (i / 2 + 1) * seconds, t) for i, t in enumerate(tables)]
    mean = {e: float(np.mean([table[e] for table in tables])) for e in emotions}
    return Prediction(0.0, parts[-1].end, mean, languages, tuple(parts))


class Stub:
    """A recogniser that has made up its mind; long recordings have two windows."""

    temperature = 1.3

    def __init__(self, *row, emotions=("anger", "neutral")):
        self.row, self.emotions = row, emotions

    def __call__(self, path):
        try:
            duration = soundfile.info(path).duration
        except soundfile.LibsndfileError:
            raise UserError(f"{path}: unreadable: no sound") from None
        rows = [self.row] if duration < 3 else [self.row, self.row[::-1]]
        return _prediction(rows, self.emotions)


# ---- what the page says ------------------------------------------------------------------------


def test_bars_of_student_and_teachers():
    html = demo.opinions(
        {
            "mtkd": _prediction([(0.9, 0.1)]),
            "teacher_<x>": _prediction([(0.25, 0.75)], ("anger", "boredom")),
        }
    )
    assert re.findall(r'scope="col">([^<]+)<', html) == ["mtkd", "teacher_&lt;x&gt;"]
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', html)
    assert [emotion for emotion, _ in rows] == ["anger", "neutral", "boredom"]
    cells = {emotion: re.findall(r"<td[^>]*>([^<]+)</td>", row) for emotion, row in rows}
    assert cells["anger"] == ["90 %", "25 %"]
    assert cells["neutral"] == ["10 %", "unknown to it"]
    assert cells["boredom"] == ["unknown to it", "75 %"]
    assert html.count("bar student") == 2 and "--p:0.2500" in html


def test_the_answer_in_words():
    said = _prediction([(0.9, 0.1)], languages={"en": 0.2, "fi": 0.8})
    html = demo.answer(said, calibrated=True)
    assert "<strong>anger, 90 %</strong>" in html
    assert "2.0 s of speech; language: fi (80 %)" in html and "calibrated" not in html
    assert "not calibrated" in demo.answer(said, calibrated=False)


def test_only_long_recordings_have_a_timeline():
    assert demo.timeline(_prediction([(0.9, 0.1)])) == ""
    html = demo.timeline(_prediction([(0.9, 0.1), (0.2, 0.8), (0.4, 0.6)]))
    assert "Emotions over time: 0 s anger, 1 s neutral, 2 s neutral" in html
    assert "3 overlapping windows" in html


def test_a_file_that_cannot_be_read_is_said_by_its_name(tmp_path):
    path = tmp_path / "broken.wav"
    path.write_bytes(b"noise")
    html = demo.respond({"mtkd": Stub(0.9, 0.1)}, str(path))
    assert 'role="alert">broken.wav: unreadable: no sound<' in html
    assert "Record something" in demo.respond({"mtkd": Stub(0.9, 0.1)}, None)


def test_mistakes(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="--port 70000: must be between"):
        command.main(["--model", "x.zip", "--port", "70000"])
    with pytest.raises(UserError, match="--examples nothing.wav: no such file"):
        demo.build({"mtkd": Stub(0.9, 0.1)}, ["nothing.wav"])
    loaded = []
    monkeypatch.setattr(
        demo.EmotionRecognizer, "from_pretrained", lambda path, **_: loaded.append(path)
    )
    assert list(demo.load_models("a/mtkd.zip", ["b/teacher_en", "b/teacher_fi/"])) == [
        *("mtkd", "teacher_en", "teacher_fi")
    ]
    with pytest.raises(UserError, match="--teachers b/mtkd: there are two models with the name"):
        demo.load_models("a/mtkd.zip", ["b/mtkd"])
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    with pytest.raises(UserError, match=r"needs gradio .*pip install 'espnet-mtkd\[demo\]'"):
        demo.build({"mtkd": Stub(0.9, 0.1)})


# ---- in a browser ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("sounds")
    noise = 0.1 * np.random.default_rng(0).normal(size=5 * 8000)
    for name, seconds in (("short", 1), ("long", 5)):
        soundfile.write(folder / f"{name}.wav", noise[: seconds * 8000], 8000)
    (folder / "broken.wav").write_bytes(b"RIFF, or so it says")
    return {path.stem: str(path) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def address(sounds):
    pytest.importorskip("gradio", reason="the page needs the extra 'demo'")
    models = {"mtkd": Stub(0.8, 0.2), "teacher_en": Stub(0.3, 0.7)}
    blocks = demo.build(models, [sounds["short"], sounds["long"]])
    yield demo.launch(blocks, 0, block=False)
    blocks.close()


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="this test needs playwright")
    programs = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, programs)), None)
    if path is None:
        pytest.skip("this test needs a Chromium: apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[1200, 390], ids=["desktop", "phone"])
def shown(request, browser, address):
    """The page, and the addresses that it asked for."""
    page = browser.new_page(viewport={"width": request.param, "height": 844})
    asked = []
    page.on("request", lambda sent: asked.append(sent.url))
    page.goto(address)
    page.locator("#result").get_by_text("Record something").wait_for()
    yield page
    host = address.split("/")[2]
    foreign = [url for url in asked if url.split(":")[0] in ("http", "https", "ws", "wss")]
    assert [url for url in foreign if url.split("/")[2] != host] == []
    page.close()


def test_upload(shown, sounds):
    shown.set_input_files("input[type=file]", sounds["long"])
    shown.locator("#result .timeline > svg").wait_for()
    result = shown.locator("#result")
    bars = result.locator("td.bar")
    assert bars.all_inner_texts() == ["50 %", "50 %", "50 %", "50 %"]
    assert result.locator("thead th").all_inner_texts() == ["mtkd", "teacher_en"]
    assert "2 overlapping windows" in result.inner_text()
    assert shown.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_examples_and_another_file_after_them(shown, sounds):
    shown.get_by_role("button", name=re.compile("short.wav")).click()
    result = shown.locator("#result")
    result.get_by_text("anger, 80 %").wait_for()
    assert result.locator("td.bar").all_inner_texts() == ["80 %", "30 %", "20 %", "70 %"]
    assert result.locator(".timeline").count() == 0
    widths = [
        float(bar.evaluate("e => getComputedStyle(e).getPropertyValue('--p')"))
        for bar in result.locator("td.student").all()
    ]
    assert widths == [0.8, 0.2]
    shown.get_by_role("button", name=re.compile("long.wav")).click()
    result.get_by_text("2 overlapping windows").wait_for()


def test_a_broken_upload_is_said(shown, sounds):
    shown.set_input_files("input[type=file]", sounds["broken"])
    shown.get_by_role("alert").get_by_text("broken.wav: unreadable").wait_for()


def test_it_listens_at_one_address_only(address):
    port = int(address.rstrip("/").rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
    # Bound to all addresses it would answer here, too.
    with pytest.raises(OSError), socket.create_connection(("127.0.0.2", port), timeout=5):
        pass


def test_a_taken_port_is_said(address):
    port = int(address.rstrip("/").rpartition(":")[2])
    blocks = demo.build({"mtkd": Stub(0.8, 0.2)})
    with pytest.raises(UserError, match=f"--port {port}: "):
        demo.launch(blocks, port, block=False)


def test_help_names_the_options(capsys):
    with pytest.raises(SystemExit):
        command.main(["--help"])
    said = capsys.readouterr().out
    for option in ("--model", "--teachers", "--examples", "--port"):
        assert option in said
