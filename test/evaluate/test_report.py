"""What the page says of an experiment as a whole; its sections have tests of their own."""

import json
import shutil

import pytest

from espnet_mtkd.bin import report, score


def _report(expdir, change=lambda results: None):
    score.main(["--expdir", str(expdir), "--num_resamples", "100"])
    path = expdir / "results.json"
    results = json.loads(path.read_text())
    change(results)
    path.write_text(json.dumps(results))
    report.main(["--expdir", str(expdir)])
    return (expdir / "report.html").read_text()


@pytest.mark.parametrize(
    ("low", "high", "p", "expected"),
    [
        (0.01, 0.05, 0.004, "+3.0 [+1.0, +5.0] points against ft (p = 0.004): better."),
        (-0.01, 0.05, 0.2, "+3.0 [-1.0, +5.0] points against ft (p = 0.200): no difference is"),
        (-0.05, -0.01, 0.0, "-3.0 [-5.0, -1.0] points against ft (p &lt; 0.001): worse."),
        (None, None, None, "+3.0 points against ft."),
    ],
)
def test_the_first_sentence_says_what_came_out(make_exp, low, high, p, expected):
    value = -0.03 if low is not None and low < -0.02 else 0.03

    def change(results):
        macro = {"value": value, "low": low, "high": high, "p": p}
        results["test"]["rows"]["mtkd"]["difference"]["macro"] = macro

    assert expected in _report(make_exp(seeds=(0,)), change)


def test_languages_that_were_left_out_have_a_section(make_exp):
    def change(results):
        results["left_out"] = results["test"]

    html = _report(make_exp(seeds=(0,)), change)
    assert '<h2 id="left_out">Leave one language out</h2>' in html
    assert '<a href="#left_out">' in html
    assert "left_out" not in _report(make_exp(seeds=(0,)))


def test_commands_of_the_first_trainings_are_shown_without_the_machine(make_exp):
    expdir = make_exp(seeds=(0,), systems=("ft",), teachers=False)
    log = expdir / "fold_1" / "seed_0" / "log"
    log.mkdir()
    command = "-m espnet_mtkd.bin.ser_train --config 'a b/ft.yaml'"
    (log / "ft.log").write_text(f"# /home/me/.venv/bin/python {command}\nsomething\n")
    html = _report(expdir)
    assert "python -m espnet_mtkd.bin.ser_train --config &#x27;a b/ft.yaml&#x27;" in html
    assert "/home/me" not in html and "something" not in html


@pytest.mark.parametrize("width", [390, 1200])
def test_fits_a_telephone_and_needs_no_network(make_exp, width):
    api = pytest.importorskip("playwright.sync_api", reason="this test needs playwright")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("this test needs a Chromium: apt-get install chromium")
    expdir = make_exp(heldout=("de",), seeds=(0,))
    _report(expdir)
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 844})
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((expdir / "report.html").resolve().as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == width
        # Text that a plot cuts off, or that runs out of its cell.
        outside = page.evaluate(
            """() => [...document.querySelectorAll("figure svg text")].filter(text => {
                const svg = text.closest("svg").getBoundingClientRect()
                const own = text.getBoundingClientRect()
                return own.left < svg.left - 1 || own.right > svg.right + 1
            }).map(text => text.textContent)"""
        )
        browser.close()
    assert outside == []
    assert said == [] and len(asked) == 1
