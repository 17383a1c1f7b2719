"""Jobs are tiny scripts here, which note every run of theirs in a file."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from espnet_mtkd import jobs, stamps
from espnet_mtkd.errors import UserError
from espnet_mtkd.jobs import Job, run_jobs
from espnet_mtkd.stamps import verify

SCRIPT = """
import sys
from pathlib import Path
output, runs, *words = sys.argv[1:]
with open(runs, "a") as f:
    f.write(Path(output).name + "\\n")
Path(output).parent.mkdir(parents=True, exist_ok=True)
Path(output).write_text(" ".join(words))
"""


class Bench:
    """Makes jobs in a folder and knows how often each ran."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs_file = folder / "runs"
        self.script = self.write("script.py", SCRIPT)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def job(self, name: str, *words: str, script: Path | None = None, **options) -> Job:
        output = self.folder / "out" / name
        argv = (str(script or self.script), str(output), str(self.runs_file), *words)
        return Job(output=output, argv=argv, **{"stage": 1, **options})

    def runs(self) -> list[str]:
        return self.runs_file.read_text().split() if self.runs_file.exists() else []


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path)


# ---- once, and again when something changed --------------------------------------------------


def test_a_job_runs_once(bench, capsys):
    assert run_jobs([bench.job("a", "x")], nj=1) == 1
    assert run_jobs([bench.job("a", "x")], nj=1) == 0
    assert bench.runs() == ["a"]
    assert bench.job("a").output.read_text() == "x"
    assert "[1/1]" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["argv", "input", "code", "need", "package", "output"])
def test_a_job_runs_again_when_what_it_depends_on_changed(bench, change, monkeypatch):
    source, code = bench.write("input", "1"), bench.write("code.py", "1")

    def graph(word: str = "x", need: str = "n") -> list[Job]:
        first = bench.job("first", need)
        options = dict(inputs=(source,), code=(code,), needs=(first,), packages=("numpy",))
        return [first, bench.job("a", word, **options)]

    assert run_jobs(graph(), nj=1) == 2
    assert run_jobs(graph(), nj=1) == 0
    again, rerun = graph(), 1
    if change == "argv":
        again = graph(word="y")
    elif change == "need":
        again, rerun = graph(need="m"), 2
    elif change == "input":
        source.write_text("2")
    elif change == "code":
        code.write_text("2")
    elif change == "package":
        monkeypatch.setattr(jobs.importlib.metadata, "version", lambda package: "0.0")
    else:
        again[1].output.unlink()
    assert run_jobs(again, nj=1) == rerun
    assert bench.runs().count("a") == 2
    assert run_jobs(again, nj=1) == 0


def graph_on(bench, source: Path, *words: str) -> list[Job]:
    """A corpus that is copied, what is made of it, and of that."""
    data = bench.job("data", "x", inputs=(source,))
    model = bench.job("model", *words, needs=(data,), stage=2)
    return [data, model, bench.job("scores", "z", needs=(model,), stage=3)]


def test_what_came_out_the_same_changes_nothing_further_on(bench, tmp_path, capsys):
    source = bench.write("input", "1")
    run_jobs(graph_on(bench, source, "y"), nj=1)
    bench.write("input", "2")  # of which the job makes the same as before
    capsys.readouterr()
    data, model, scores = graph_on(bench, source, "y")
    assert run_jobs([data], nj=1) == 1
    assert run_jobs([model], nj=1) == 0 and run_jobs([scores], nj=1) == 0
    assert bench.runs() == ["data", "model", "scores", "data"]
    assert capsys.readouterr().out.count("  1 kept: what they were made from was made anew") == 2
    assert verify(tmp_path / "out") == (3, [])
    assert run_jobs(graph_on(bench, source, "y"), nj=1) == 0


@pytest.mark.parametrize("change", ["output", "argv", "altered"])
def test_what_did_not_come_out_the_same_is_made_again(bench, change):
    source = bench.write("input", "1")
    run_jobs(graph_on(bench, source, "y"), nj=1)
    bench.write("input", "2")
    data, model, scores = graph_on(bench, source, *("w" if change == "argv" else "y"))
    if change == "output":
        bench.write(
            "script.py", SCRIPT.replace("join(words)", "join(words) + Path(runs).read_text()")
        )
    if change == "altered":  # it is not known any more what the model was made from
        stamp = model.stamp.read()
        model.stamp.write({**stamp, "read": {}})
    again = ["data", "model", "scores"][
        : 2 if change == "altered" else 3
    ]  # scores of an equal model
    assert run_jobs([data, model, scores], nj=1) == len(again)
    assert bench.runs() == ["data", "model", "scores", *again]


def test_free_arguments_change_nothing(bench):
    run_jobs([bench.job("a", free_args=("one",))], nj=1)
    assert bench.job("a").output.read_text() == "one"
    assert run_jobs([bench.job("a", free_args=("two",), cmd="slurm.pl")], nj=1) == 0


def test_a_touched_small_file_is_no_change_but_a_touched_folder_is(bench, tmp_path):
    small, folder = bench.write("small", "1"), tmp_path / "audio"
    folder.mkdir()
    (folder / "a.wav").write_text("1")
    before = stamps.digest(small), stamps.digest(folder)
    os.utime(small, ns=(1, 1))
    os.utime(folder / "a.wav", ns=(1, 1))
    assert stamps.digest(small) == before[0]
    assert stamps.digest(folder) != before[1]


def test_code_folders_count_by_content(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(stamps, "PACKAGE", tmp_path / "package")
    folder = tmp_path / "package" / "data"
    folder.mkdir(parents=True)
    (folder / "a.py").write_text("1")
    before = stamps.digest(folder)
    os.utime(folder / "a.py", ns=(1, 1))
    (folder / "a.pyc").write_text("compiled")
    assert stamps.digest(folder) == before
    (folder / "a.py").write_text("2")
    assert stamps.digest(folder) != before


@pytest.mark.parametrize("what", ["nothing", "empty"])
def test_input_that_is_not_there(bench, tmp_path, what):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=f"{what}: no such file or folder, or an empty one"):
        run_jobs([bench.job("a", inputs=(tmp_path / what,))], nj=1)


# ---- failure ---------------------------------------------------------------------------------

FAILING = SCRIPT + "print('working'); sys.exit('error: utterance 7: no such file')"


def test_a_failed_job_names_its_error_and_its_log(bench):
    job = bench.job("a", script=bench.write("fail.py", FAILING))
    with pytest.raises(UserError) as error:
        run_jobs([job], nj=1)
    assert str(error.value) == (
        f"utterance 7: no such file [{job.output}, log: {bench.folder}/out/log/a.log]"
    )
    assert not job.is_done()
    assert job.log.read_text().splitlines()[0].startswith(f"# {sys.executable}")
    assert "working" in job.log.read_text()


def test_a_crash_shows_its_last_line(bench):
    script = bench.write("crash.py", SCRIPT + "raise KeyError('left')")
    with pytest.raises(UserError, match=r"out/a failed: KeyError: 'left' \(log: "):
        run_jobs([bench.job("a", script=script)], nj=1)


def test_a_job_that_makes_nothing(bench):
    job = bench.job("a", script=bench.write("idle.py", ""))
    with pytest.raises(UserError, match="out/a was not made; see .*a.log"):
        run_jobs([job], nj=1)
    assert not job.is_done()


def test_what_a_failed_job_left_is_cleared(bench):
    script = bench.write("fail.py", "import sys, os; os.makedirs(sys.argv[1] + '/x'); sys.exit(1)")
    job = bench.job("a", script=script)
    for _ in range(2):  # makedirs would fail where the folder still is
        with pytest.raises(UserError, match="no output|failed"):
            run_jobs([bench.job("a", script=script)], nj=1)
        assert (job.output / "x").is_dir()
        assert job.state() == "started"
    assert run_jobs([bench.job("a")], nj=1) == 1
    assert job.output.is_file()


def test_a_killed_job_is_not_done(bench):
    text = SCRIPT + "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    job = bench.job("a", script=bench.write("killed.py", text))
    with pytest.raises(UserError, match=r"out/a: its process was killed \(out of memory"):
        run_jobs([job], nj=1)
    assert job.output.exists() and not job.is_done()


def test_a_kill_while_clearing_leaves_nothing_that_looks_done(bench, monkeypatch):
    job = bench.job("a", "x")
    run_jobs([job], nj=1)

    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "unlink", _only_stamps(Path.unlink, interrupted))
    with pytest.raises(KeyboardInterrupt):
        run_jobs([bench.job("a", "y")], nj=1)
    assert job.output.exists() and not bench.job("a", "x").is_done()


def _only_stamps(unlink, otherwise):
    def chosen(path: Path, missing_ok: bool = False) -> None:
        return (unlink if path.parent.name == ".stamps" else otherwise)(path, missing_ok)

    return chosen


def test_the_others_are_ended_when_one_fails(bench):
    # The second would wait for ever; what it started must end with it.
    waiting = """
import os, signal, sys
open(sys.argv[1] + ".pid", "w").write(str(os.getpid()))
os.rename(sys.argv[1] + ".pid", sys.argv[1])
signal.pause()
"""
    failing = """
import os, sys
while not os.path.exists(sys.argv[3]):
    pass
sys.exit("error: enough")
"""
    waiter = bench.job("waiter", script=bench.write("wait.py", waiting))
    failer = bench.job("failer", str(waiter.output), script=bench.write("fail.py", failing))
    with pytest.raises(UserError, match="enough"):
        run_jobs([waiter, failer], nj=2)
    with pytest.raises(ProcessLookupError):
        os.kill(int(waiter.output.read_text()), signal.SIG_DFL)
    assert not waiter.is_done() and not failer.is_done()


# ---- resuming --------------------------------------------------------------------------------

GROWING = """
import os, sys
os.makedirs(sys.argv[1], exist_ok=True)
epochs = len(os.listdir(sys.argv[1]))
open(f"{sys.argv[1]}/{epochs + 1}epoch.pth", "w").close()
sys.exit(epochs < 1)
"""


@pytest.mark.parametrize(("resumes", "left"), [(True, 2), (False, 1)])
def test_a_training_goes_on_from_where_it_was(bench, resumes, left):
    script = bench.write("train.py", GROWING)
    for _ in range(2):
        job = bench.job("a", script=script, resumes=resumes)
        try:
            run_jobs([job], nj=1)
        except UserError:
            pass
    assert len(list(job.output.iterdir())) == left
    assert job.is_done() is resumes


def test_a_training_goes_on_when_its_data_came_out_the_same(bench):
    script, source = bench.write("train.py", GROWING), bench.write("input", "1")

    def graph() -> list[Job]:
        data = bench.job("data", inputs=(source,))
        return [data, bench.job("a", script=script, resumes=True, needs=(data,))]

    with pytest.raises(UserError):
        run_jobs(graph(), nj=1)
    bench.write("input", "2")
    assert run_jobs(graph(), nj=1) == 2
    names = {path.name for path in graph()[1].output.iterdir()}
    assert names == {"1epoch.pth", "2epoch.pth"}


def test_a_training_with_other_options_starts_afresh(bench):
    script = bench.write("train.py", GROWING)
    for word in ("lr 1", "lr 2"):
        job = bench.job("a", word, script=script, resumes=True)
        with pytest.raises(UserError):
            run_jobs([job], nj=1)
    assert [p.name for p in job.output.iterdir()] == ["1epoch.pth"]


# ---- graphs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("nj", [1, 2, 5])
def test_order_follows_the_needs(bench, nj):
    a = bench.job("a")
    b, c = bench.job("b", needs=(a,)), bench.job("c", needs=(a,))
    d = bench.job("d", needs=(b, c))
    assert run_jobs([d, c, b, a], nj=nj) == 4
    runs = bench.runs()
    assert sorted(runs) == ["a", "b", "c", "d"]
    assert runs[0] == "a" and runs[-1] == "d"


def test_jobs_run_side_by_side_but_not_more_than_allowed(bench):
    # Each waits until it has seen as many as may run, so one by one they would never end.
    meeting = """
import os, sys
here = os.path.dirname(sys.argv[1])
open(sys.argv[1] + ".here", "w").close()
while sum(name.endswith(".here") for name in os.listdir(here)) < 2:
    pass
open(sys.argv[1], "w").close()
"""
    script = bench.write("meet.py", meeting)
    assert run_jobs([bench.job(name, script=script) for name in "ab"], nj=2) == 2


def test_a_missing_need_names_the_stage_to_run(bench):
    need = bench.job("need", stage=3)
    with pytest.raises(UserError) as error:
        run_jobs([bench.job("a", stage=5, needs=(need,))], nj=1)
    assert str(error.value) == (
        f"stage 5 needs {need.output}, which is missing or out of date: run with --stage 3"
    )
    assert bench.runs() == []
    run_jobs([need], nj=1)
    assert run_jobs([bench.job("a", stage=5, needs=(need,))], nj=1) == 1


def test_a_stale_need_is_as_good_as_missing(bench):
    need = bench.job("need", "x")
    run_jobs([need, bench.job("a", needs=(need,))], nj=1)
    changed = dataclasses.replace(need, argv=(*need.argv, "y"))
    with pytest.raises(UserError, match="missing or out of date"):
        run_jobs([bench.job("a", needs=(changed,))], nj=1)


@pytest.mark.parametrize("nj", [0, -1])
def test_at_least_one_job_at_a_time(bench, nj):
    with pytest.raises(UserError, match=f"--nj {nj}: must be at least 1"):
        run_jobs([bench.job("a")], nj=nj)


# ---- modules and back-ends -------------------------------------------------------------------


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module of the given name that a job may run."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, text: str) -> tuple[str, str]:
        (tmp_path / f"{name}.py").write_text(text)
        return ("-m", name)

    yield write
    for name in [n for n in sys.modules if n.startswith("job_module_")]:
        del sys.modules[name]


def test_a_module_runs_with_its_arguments(bench, module):
    text = (
        "import sys\nfrom pathlib import Path\n"
        "def main(argv):\n"
        "    print('hello'); Path(argv[0]).write_text(' '.join([*argv[1:], *sys.argv[1:]]))\n"
    )
    output = bench.folder / "out" / "a"
    argv = (*module("job_module_good", text), str(output), "x")
    job = Job(output, 1, argv, free_args=("--free",))
    assert run_jobs([job], nj=1) == 1
    assert output.read_text() == f"x --free {output} x --free"
    assert job.log.read_text().splitlines()[1:] == ["hello"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise UserError('no such corpus')", r"^no such corpus \[.*/a, log: .*a.log\]$"),
        ("raise ValueError('odd')", r"/a failed: ValueError: odd \(log"),
        ("argparse.ArgumentParser().parse_args(argv)", "unrecognized arguments: --bad"),
        ("raise SystemExit(3)", "/a failed"),
    ],
)
def test_a_module_that_fails(bench, module, text, message):
    head = "import argparse\nfrom espnet_mtkd.errors import UserError\ndef main(argv):\n    "
    job = Job(bench.folder / "out" / "a", 1, (*module("job_module_bad", head + text), "--bad"))
    with pytest.raises(UserError, match=message):
        run_jobs([job], nj=1)
    assert not job.is_done()


def test_a_back_end_gets_the_log_and_the_command(bench):
    back_end = bench.write("run.pl", '#!/bin/sh\nlog=$1; shift; "$@" >$log 2>&1\n')
    back_end.chmod(0o755)
    job = bench.job("a.tsv", "x", cmd=str(back_end))
    assert run_jobs([job], nj=1) == 1
    assert job.output.read_text() == "x"
    assert job.cluster_log.name == "a.tsv.job.log" and job.cluster_log.is_file()
    broken = bench.job("b.tsv", script=bench.write("fail.py", FAILING), cmd=str(back_end))
    with pytest.raises(UserError, match=r"^utterance 7: no such file .*b.tsv.job.log"):
        run_jobs([broken], nj=1)


def test_importing_jobs_does_not_load_torch():
    code = "import sys, espnet_mtkd.jobs, espnet_mtkd.plan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
