from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import pytest

from espnet_mtkd import EmotionRecognizer
from espnet_mtkd.bin import predict
from espnet_mtkd.data.datadir import read_map
from espnet_mtkd.errors import UserError

pytestmark = pytest.mark.usefixtures("no_network")


@pytest.fixture
def model(trained) -> str:
    return str(trained.packed("fbank_no_cmvn", lid_lambda=0.1))


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_everything_as_json_lines(model, recordings, capsys):
    folder = recordings["a.wav"].parent
    predict.main([str(folder), "--model", model, "--window", "2", "--hop", "1"])
    found = lines(capsys.readouterr().out)
    assert [r["path"] for r in found] == sorted(map(str, recordings.values()))
    recognizer = EmotionRecognizer.from_pretrained(model, window=2.0, hop=1.0)
    for record in found:
        expected = recognizer(record["path"]).to_dict()
        assert list(record) == ["id", "path", *expected]
        for key in ("duration", "emotion"):
            assert record[key] == expected[key]
        for key in ("probabilities", "languages"):
            assert record[key] == pytest.approx(expected[key], abs=2e-6)
    timelines = {r["path"]: len(r.get("timeline", ())) for r in found}
    assert timelines[str(recordings["e.wav"])] == 4  # 4.5 s: at 0, 1, 2 and 2.5
    assert sum(timelines.values()) == 4


def test_csv(model, recordings, tmp_path):
    scp = tmp_path / "wav.scp"
    scp.write_text(f"u1 {recordings['a.wav']}\nu2 gone.wav\n")
    output = tmp_path / "sub" / "out.csv"
    argv = [str(scp), "--model", model, "--output", str(output), "--output-format", "csv"]
    predict.main(argv)
    rows = list(csv.DictReader(io.StringIO(output.read_text())))
    assert list(rows[0]) == [
        *("id", "path", "duration", "emotion", "confidence"),
        *("p_anger", "p_neutral", "p_sadness", "p_en", "p_fi", "error"),
    ]
    expected = EmotionRecognizer.from_pretrained(model)(recordings["a.wav"])
    assert float(rows[0]["p_sadness"]) == round(expected.probabilities["sadness"], 6)
    assert float(rows[0]["p_fi"]) == round(expected.languages["fi"], 6)
    assert rows[0]["emotion"] == expected.emotion and rows[0]["error"] == ""
    assert rows[1]["id"] == "u2" and rows[1]["error"] == "gone.wav: no such file"
    assert rows[1]["emotion"] == rows[1]["p_anger"] == ""


def test_kaldi_text(model, recordings, tmp_path):
    scp = tmp_path / "wav.scp"
    scp.write_text(f"u1 {recordings['a.wav']}\nu2 gone.wav\nu3 {recordings['d.wav']}\n")
    output = tmp_path / "utt2emotion"
    argv = [str(scp), "--model", model, "--output", str(output), "--output-format", "kaldi"]
    predict.main(argv)
    recognizer = EmotionRecognizer.from_pretrained(model)
    expected = {u: recognizer(recordings[f]).emotion for u, f in (("u1", "a.wav"), ("u3", "d.wav"))}
    assert read_map(output) == expected
    with pytest.raises(UserError, match="an id cannot hold blanks: 'a b.wav'; give a wav.scp"):
        predict.main(["a b.wav", *argv[1:]])


def test_broken_files_are_reported_and_the_rest_goes_on(model, recordings, tmp_path, capsys):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"not audio")
    inputs = [str(recordings["a.wav"]), str(broken), str(recordings["f.wav"])]
    predict.main([*inputs, "--model", model])
    text = capsys.readouterr()
    found = lines(text.out)
    assert [("error" in record) for record in found] == [False, True, False]
    assert found[1]["error"].startswith(f"{broken}: unreadable: ")
    assert f"warning: {broken}: unreadable" in text.err
    assert "warning: 1 of 3 recordings could not be used" in text.err


def test_status_where_nothing_could_be_done(model, tmp_path, capsys):
    command = [sys.executable, "-m", "espnet_mtkd.bin.predict", "-", "--model", model]
    done = subprocess.run(command, input="gone.wav\nlost.wav\n", capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "warning: gone.wav: no such file",
        "warning: lost.wav: no such file",
        "error: none of 2 recordings could be used; the first: gone.wav: no such file",
    ]
    assert [record["id"] for record in lines(done.stdout)] == ["gone.wav", "lost.wav"]
    with pytest.raises(UserError, match="^gone.wav: no such file$"):
        predict.main(["gone.wav", "--model", model])
    assert lines(capsys.readouterr().out)[0]["error"] == "gone.wav: no such file"
    with pytest.raises(UserError, match="no audio file in this folder"):
        predict.main([str(tmp_path), "--model", "not-loaded-before-the-inputs-are-known.zip"])


def test_standard_input(model, recordings, monkeypatch, capsys):
    text = f"{recordings['a.wav']}\n{recordings['b.flac']}\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    predict.main(["-", "--model", model])
    assert [record["duration"] for record in lines(capsys.readouterr().out)] == [1.0, 0.4]


def test_a_model_that_was_never_calibrated(trained, recordings, tmp_path, capsys):
    import shutil

    folder = shutil.copytree(trained("fbank"), tmp_path / "ft")
    (folder / "dev.tsv").unlink()
    predict.main([str(recordings["a.wav"]), "--model", str(folder)])
    assert "was never calibrated; its confidence is raw" in capsys.readouterr().err


def test_output_appears_whole_or_not_at_all(model, recordings, tmp_path, monkeypatch):
    output = tmp_path / "out.jsonl"
    output.write_text("before")

    def fail(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("espnet_mtkd.use.output.Writer._json", fail)
    with pytest.raises(KeyboardInterrupt):
        predict.main([str(recordings["a.wav"]), "--model", model, "--output", str(output)])
    assert output.read_text() == "before" and list(tmp_path.glob("*out*")) == [output]
