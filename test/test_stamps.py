"""Experiments are small graphs of jobs here, whose scripts write what they are told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from espnet_mtkd import stamps
from espnet_mtkd.bin.verify import main
from espnet_mtkd.errors import UserError
from espnet_mtkd.jobs import Job, run_jobs
from espnet_mtkd.stamps import Stamp, altered, costs, digest, verify

SCRIPT = """
import sys
from pathlib import Path
for path in sys.argv[1:]:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(f"content of {Path(path).name}")
"""


class Experiment:
    """A corpus, a model made from it with predictions inside, results with a second file."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.exp = folder, folder / "exp"
        self.script, self.source = folder / "write.py", folder / "source"
        self.script.write_text(SCRIPT)
        self.source.write_text("speech")

    def jobs(self) -> list[Job]:
        def job(output: Path, *files: str, **more) -> Job:
            argv = (str(self.script), *(str(output / f) if f else str(output) for f in files))
            return Job(output=output, stage=1, argv=argv, code=(self.script,), **more)

        data = job(self.folder / "data" / "toy", "wav.scp", "audio/a.wav", inputs=(self.source,))
        model = job(
            self.exp / "fold_1" / "m",
            "1epoch.pth",
            "config.yaml",
            needs=(data,),
            packages=("numpy",),
        )
        said = job(model.output / "test.tsv", "", needs=(model,))
        also = self.exp / "results.json"
        results = job(self.exp / "RESULTS.md", "", str(also), needs=(said,), also=(also,))
        return [data, model, said, results]


@pytest.fixture
def made(tmp_path) -> Experiment:
    experiment = Experiment(tmp_path)
    run_jobs(experiment.jobs(), nj=1)
    return experiment


def test_what_was_made_is_as_it_was(made, capsys):
    assert verify(made.exp) == (7, [])
    main(["--expdir", str(made.exp)])
    assert capsys.readouterr().out == f"{made.exp}: 7 files are as they were made\n"


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("data/toy/audio/a.wav", "x", "altered"),
        ("data/toy/wav.scp", None, "missing"),
        ("data/toy/utt2spk", "x", "not there when {data} was made"),
        ("exp/fold_1/m/1epoch.pth", "x", "altered"),
        ("exp/fold_1/m/test.tsv", "x", "altered"),
        ("exp/RESULTS.md", None, "missing"),
        ("exp/results.json", "x", "altered"),
        ("source", "y", "altered since {data} was made from it"),
        ("source", None, "missing, {data} was made from it"),
    ],
)
def test_what_was_altered_is_named(made, file, change, message):
    path = made.folder / file
    path.unlink() if change is None else path.write_text(change)
    where = f"{path}: {message.format(data=made.folder / 'data' / 'toy')}"
    assert verify(made.exp)[1] == [where]


def test_the_files_of_one_stage_are_compared_alone(made):
    wav_scp = made.folder / "data" / "toy" / "wav.scp"
    results = made.exp / "RESULTS.md"
    (made.folder / "source").write_text("y")  # what they were made from is not asked
    assert altered(results, stage=1) == []
    wav_scp.write_text("x")
    assert altered(results, stage=1) == [f"{wav_scp}: altered"]
    assert altered(results, stage=2) == []
    assert altered(made.exp / "nothing", stage=1) == []


def test_a_file_that_goes_while_its_folder_is_hashed(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("a")
    monkeypatch.setattr(Path, "rglob", lambda folder, pattern: [folder / "a", folder / "gone"])
    monkeypatch.setattr(Path, "is_file", lambda path: path != tmp_path)
    with pytest.raises(UserError, match=f"^{tmp_path}/gone: has gone while {tmp_path} was"):
        digest(tmp_path)


def test_altered_code_is_named_for_all_that_it_made(made):
    made.script.write_text(SCRIPT + "\n")
    assert len(verify(made.exp)[1]) == 4
    assert all(line.startswith(f"{made.script}: altered since") for line in verify(made.exp)[1])


def test_another_version_of_a_package(made, monkeypatch):
    version = stamps.importlib.metadata.version("numpy")
    monkeypatch.setattr(stamps.importlib.metadata, "version", lambda package: "0.0")
    model = made.exp / "fold_1" / "m"
    assert verify(made.exp)[1] == [f"{model}: made with numpy {version}; 0.0 is installed"]


def test_data_made_anew_after_the_results(made):
    made.source.write_text("other speech")
    run_jobs(made.jobs()[:1], nj=1)
    data, model = made.folder / "data" / "toy", made.exp / "fold_1" / "m"
    assert verify(made.exp)[1] == [f"{data}: made anew since {model} was made from it"]


def test_arks_of_a_common_store_count(tmp_path):
    ark = tmp_path / "store" / "a.ark"
    ark.parent.mkdir()
    ark.write_text("numbers")
    output = tmp_path / "exp" / "feats"
    script = tmp_path / "index.py"
    script.write_text(
        "import os, sys; os.makedirs(sys.argv[1])\n"
        f"open(sys.argv[1] + '/feats.scp', 'w').write('u {ark}:5\\n')"
    )
    run_jobs([Job(output=output, stage=4, argv=(str(script), str(output)))], nj=1)
    assert verify(tmp_path / "exp") == (2, [])
    ark.write_text("other numbers")
    assert verify(tmp_path / "exp")[1] == [f"{ark}: altered"]


@pytest.mark.parametrize("damage", ["gone", "not json", "started"])
def test_a_damaged_stamp_is_no_finished_job(made, damage):
    stamp = made.jobs()[0].stamp
    state = stamp.read()
    if damage == "gone":
        stamp.path.unlink()
    elif damage == "not json":
        stamp.path.write_text("{")
    else:
        stamp.write({**state, "state": "started"})
    assert not made.jobs()[0].is_done()
    assert f"{stamp.output}: not finished, or its stamp" in " ".join(verify(made.exp)[1])


def test_an_altered_listing_hides_nothing(made):
    listing = made.jobs()[0].stamp.listing
    made.folder.joinpath("data/toy/wav.scp").write_text("x")
    folder = made.folder / "data"
    done = subprocess.run(
        ["sha256sum", "toy/wav.scp", "toy/audio/a.wav"], cwd=folder, capture_output=True, check=True
    )
    listing.write_bytes(done.stdout)
    assert verify(made.exp)[1] == [f"{listing}: missing or altered"]


def test_coreutils_can_check_a_listing(made):
    folder = made.folder / "data"
    command = ["sha256sum", "-c", "--quiet", ".stamps/toy.sha256"]
    assert subprocess.run(command, cwd=folder, check=False).returncode == 0


def test_the_command_line_fails_and_names_the_file(made, capsys):
    (made.exp / "results.json").write_text("better")
    with pytest.raises(UserError, match="1 differences from what was made"):
        main(["--expdir", str(made.exp)])
    assert capsys.readouterr().out == f"{made.exp}/results.json: altered\n"


def test_no_experiment(tmp_path):
    with pytest.raises(UserError, match="no finished experiment"):
        verify(tmp_path)


def test_a_stamp_says_what_the_output_was_made_from(made):
    data, model, *_ = made.jobs()
    state = Stamp(model.output).read()
    assert state["command"] == list(model.argv)
    assert state["needs"] == {str(data.output): data.key}
    assert set(state["packages"]) == {"numpy"}
    assert json.loads(model.stamp.path.read_text())["state"] == "done"
    assert sys.executable not in json.dumps(state["inputs"])


def test_costs_by_stage(made):
    found = costs(made.exp / "RESULTS.md")
    assert list(found) == [1]
    assert found[1]["jobs"] == 4
    seconds = [job.stamp.read()["seconds"] for job in made.jobs()]
    assert found[1]["seconds"] == pytest.approx(sum(seconds), abs=1e-3)
    assert 0 < found[1]["cpu_seconds"]
    assert found[1]["peak_memory"] > 5e6  # a Python needs more than 5 MB


def test_results_can_say_what_they_were_made_with(made):
    *_, said, results = made.jobs()
    script = made.folder / "score.py"
    script.write_text(
        "import json, sys\nfrom pathlib import Path\nfrom espnet_mtkd.stamps import costs\n"
        "Path(sys.argv[1]).write_text(json.dumps(costs(Path(sys.argv[1]))))\n"
    )
    again = Job(results.output, 9, (str(script), str(results.output)), needs=(said,))
    run_jobs([again], nj=1)
    found = json.loads(results.output.read_text())
    assert found == {"1": costs(said.output)[1]} and found["1"]["jobs"] == 3
