"""tools/install.sh, with Pythons that only pretend: no network, nothing is installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = "awk bash cat cksum dirname find flock grep ls mkdir mv rm sleep tail tee".split()

# Acts as the base interpreter and, copied by `-m venv`, as the one of the environment. It writes
# down every call of pip; a fake whose file says `version=3.11` answers probes as 3.11 would.
FAKE_PYTHON = """#!{bash}
version={version} ensurepip={ensurepip} name={name}
case "$*" in
    *version_info*) case $version in 3.12 | 3.13) exit 0 ;; *) exit 1 ;; esac ;;
    *_base_executable*) [ $ensurepip = yes ] || exit 1; echo "{path}" ;;
    *sys.version*) echo "$version" ;;
    "-m venv "*) echo "venv by $name" >>"$CALLS"; mkdir -p "$3/bin"; cat "$0" >"$3/bin/python"
        {chmod} +x "$3/bin/python"; echo >"$3/pyvenv.cfg" ;;
    "-m pip --version") ;;
    "-m pip install "*) echo "pip install ${{!#}} in $PWD" >>"$CALLS"; echo "a word of pip"
        [ -z "$PIP_SLEEPS" ] || sleep "$PIP_SLEEPS"; exit "${{PIP_STATUS:-0}}" ;;
    *check_environment.py*) echo "check by $name" >>"$CALLS"; exit "${{CHECK_STATUS:-0}}" ;;
    *) echo "unexpected: $*" >&2; exit 9 ;;
esac
"""


class Sandbox:
    """A copy of the installer in a folder with a space, and a PATH that holds only fakes."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "my project"
        (self.root / "tools").mkdir(parents=True)
        for name in ("setup.py", "tools/install.sh", "tools/constraints.txt"):
            shutil.copy2(ROOT / name, self.root / name)
        self.bin = tmp_path / "bin"
        self.bin.mkdir()
        for tool in TOOLS:
            if found := shutil.which(tool):
                (self.bin / tool).symlink_to(found)
        self.venv = self.root / ".venv"
        self.calls_file = tmp_path / "calls"
        self.env = {
            "PATH": str(self.bin),
            "HOME": str(tmp_path / "home"),
            "CALLS": str(self.calls_file),
            "PIP_SLEEPS": "",
        }

    def add_python(self, name: str, version: str, ensurepip: str = "yes") -> Path:
        path = Path(name) if os.path.isabs(name) else self.bin / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fields = {"bash": shutil.which("bash"), "chmod": shutil.which("chmod"), "path": path}
        text = FAKE_PYTHON.format(version=version, ensurepip=ensurepip, name=path.name, **fields)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def command(self, *args: str) -> list[str]:
        return [str(self.root / "tools/install.sh"), *args]

    def run(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [shutil.which("bash"), *self.command(*args)],
            env=self.env | env,
            capture_output=True,
            text=True,
        )

    @property
    def calls(self) -> list[str]:
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


def installed_by(
    name: str, sandbox: Sandbox, extras: str = "[mini,lora,onnx,demo,test,dev]"
) -> list[str]:
    """The calls of a whole installation by the base interpreter ``name``."""
    return [f"venv by {name}", f"pip install .{extras} in {sandbox.root}", f"check by {name}"]


def test_installs_once(sandbox):
    sandbox.add_python("python3.12", "3.12")
    first = sandbox.run()
    assert first.returncode == 0, first.stderr
    assert sandbox.calls == installed_by("python3.12", sandbox)
    assert "a word of pip" not in first.stdout
    assert "a word of pip" in (sandbox.venv / "install.log").read_text()
    second = sandbox.run()
    assert (second.returncode, second.stdout) == (0, "install: .venv is up to date\n")
    assert sandbox.calls == installed_by("python3.12", sandbox)


@pytest.mark.parametrize(
    ("present", "chosen"),
    [
        ({"python3.12": "3.12", "python3.13": "3.13", "python3": "3.12"}, "python3.12"),
        ({"python3.13": "3.13", "python3": "3.12"}, "python3.13"),
        ({"python3": "3.11", "python": "3.13"}, "python"),
        ({"python3.12": "refuses", "python3": "3.12"}, "python3"),  # as pyenv's shims do
    ],
)
def test_takes_the_first_that_runs_and_fits(sandbox, present, chosen):
    for name, version in present.items():
        sandbox.add_python(name, version)
    assert sandbox.run().returncode == 0
    assert sandbox.calls == installed_by(chosen, sandbox)


def test_variable_python_comes_first(sandbox, tmp_path):
    sandbox.add_python("python3.12", "3.12")
    own = sandbox.add_python(str(tmp_path / "own place" / "py"), "3.13")
    assert sandbox.run(PYTHON=str(own)).returncode == 0
    assert sandbox.calls == installed_by("py", sandbox)


@pytest.mark.parametrize("variable", ["HOME", "PYENV_ROOT"])
def test_looks_into_the_versions_of_pyenv(sandbox, tmp_path, variable):
    sandbox.add_python("python3.12", "refuses")
    pyenv = tmp_path / "home/.pyenv" if variable == "HOME" else tmp_path / "elsewhere"
    sandbox.add_python(str(pyenv / "versions/3.11.7/bin/python"), "3.11")
    chosen = sandbox.add_python(str(pyenv / "versions/3.12.1/bin/python"), "3.12")
    env = {} if variable == "HOME" else {"PYENV_ROOT": str(pyenv)}
    result = sandbox.run(**env)
    assert result.returncode == 0
    assert str(chosen) in result.stdout


def test_python_without_ensurepip_is_passed_over(sandbox):
    sandbox.add_python("python3.12", "3.12", ensurepip="no")  # Debian without python3-venv
    sandbox.add_python("python3.13", "3.13")
    assert sandbox.run().returncode == 0
    assert sandbox.calls == installed_by("python3.13", sandbox)


def test_uv_is_the_last_resort(sandbox):
    sandbox.add_python("python3.12", "3.12", ensurepip="no")
    uv = sandbox.bin / "uv"
    # `uv venv ... DIR`, played by the interpreter that lacks ensurepip
    uv.write_text(
        f'#!{shutil.which("bash")}\necho "uv $*" >>"$CALLS"; python3.12 -m venv "${{!#}}"\n'
    )
    uv.chmod(0o755)
    assert sandbox.run().returncode == 0
    assert sandbox.calls[0].startswith("uv venv ") and "--python 3.12" in sandbox.calls[0]
    assert sandbox.calls[1:] == installed_by("python3.12", sandbox)


def test_no_suitable_python(sandbox):
    sandbox.add_python("python3", "3.11")
    result = sandbox.run()
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: no Python 3.12 or 3.13")
    assert "is not one" in sandbox.run(PYTHON="python3").stderr
    assert "PYTHON=/path/to/python3.12" in result.stderr
    assert not sandbox.venv.exists()


def test_changed_requirements_are_installed(sandbox):
    sandbox.add_python("python3.12", "3.12")
    sandbox.run()
    with open(sandbox.root / "tools/constraints.txt", "a") as constraints:
        constraints.write("numpy==2.0.0\n")
    sandbox.run()
    venv, *rest = installed_by("python3.12", sandbox)
    assert sandbox.calls == [venv, *rest, *rest]  # the environment is kept


def test_extras(sandbox):
    sandbox.add_python("python3.12", "3.12")
    sandbox.run("--extras", "mini")
    assert sandbox.calls == installed_by("python3.12", sandbox, "[mini]")
    sandbox.run("--extras", "")
    assert sandbox.calls[3:] == installed_by("python3.12", sandbox, "")[1:]


def test_killed_installation_is_made_anew(sandbox):
    sandbox.add_python("python3.12", "3.12")
    sandbox.run()
    (sandbox.venv / ".installing").touch()  # what a kill leaves behind
    (sandbox.venv / "half").touch()
    result = sandbox.run()
    assert result.returncode == 0 and "anew" in result.stdout
    assert sandbox.calls == 2 * installed_by("python3.12", sandbox)
    assert not (sandbox.venv / "half").exists()
    assert not (sandbox.venv / ".installing").exists()


def test_broken_environment_is_made_anew(sandbox):
    sandbox.add_python("python3.12", "3.12")
    sandbox.run()
    (sandbox.venv / "bin/python").unlink()  # as when the system's Python was removed
    assert sandbox.run().returncode == 0
    assert sandbox.calls == 2 * installed_by("python3.12", sandbox)


def test_moved_project_is_installed_again(sandbox):
    sandbox.add_python("python3.12", "3.12")
    sandbox.run()
    sandbox.root = sandbox.root.rename(sandbox.root.with_name("elsewhere"))
    sandbox.run()
    assert sandbox.calls[3] == f"pip install .[mini,lora,onnx,demo,test,dev] in {sandbox.root}"


def test_link_to_another_disk_stays_a_link(sandbox, tmp_path):
    sandbox.add_python("python3.12", "3.12")
    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / ".installing").touch()
    sandbox.venv.symlink_to(disk)
    assert sandbox.run().returncode == 0
    assert sandbox.venv.is_symlink() and (disk / "pyvenv.cfg").exists()


def test_foreign_folder_is_left_alone(sandbox):
    sandbox.add_python("python3.12", "3.12")
    sandbox.venv.mkdir()
    (sandbox.venv / "thesis.tex").touch()
    result = sandbox.run()
    assert result.returncode == 1 and "move it away" in result.stderr
    assert (sandbox.venv / "thesis.tex").exists()


@pytest.mark.parametrize("status", ["PIP_STATUS", "CHECK_STATUS"])
def test_failure_shows_the_log_and_is_not_taken_for_done(sandbox, status):
    sandbox.add_python("python3.12", "3.12")
    result = sandbox.run(**{status: "1"})
    assert result.returncode == 1
    assert result.stderr.startswith("error: ") and "a word of pip" in result.stderr
    failed = len(sandbox.calls)
    assert sandbox.run().returncode == 0
    assert sandbox.calls[failed:] == installed_by("python3.12", sandbox)


@pytest.mark.skipif(not shutil.which("flock"), reason="flock is not installed")
def test_two_at_once(sandbox):
    sandbox.add_python("python3.12", "3.12")
    command = [shutil.which("bash"), *sandbox.command()]
    env = sandbox.env | {"PIP_SLEEPS": "0.5"}
    both = [subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert sandbox.calls == installed_by("python3.12", sandbox)


@pytest.mark.parametrize("way", ["option", "variable"])
def test_existing_environment_is_only_checked(sandbox, tmp_path, way):
    own = sandbox.add_python(str(tmp_path / "their env/bin/python"), "3.12")
    if way == "option":
        result = sandbox.run("--python", str(own))
    else:
        result = sandbox.run(MTKD_PYTHON=str(own))
    assert result.returncode == 0
    assert sandbox.calls == ["check by python"]
    assert not sandbox.venv.exists()


def test_unfit_existing_environment(sandbox, tmp_path):
    own = sandbox.add_python(str(tmp_path / "env/bin/python"), "3.12")
    assert sandbox.run("--python", str(own), CHECK_STATUS="1").returncode == 1
    old = sandbox.add_python(str(tmp_path / "old/bin/python"), "3.11")
    result = sandbox.run("--python", str(old))
    assert result.returncode == 1
    assert result.stderr.endswith(f"{old} is not Python 3.12 or 3.13\n")
    result = sandbox.run(MTKD_PYTHON="/no/such/python")
    assert result.returncode == 1
    assert result.stderr.endswith("there is no '/no/such/python'\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--exrtas", "mini"], "unknown option '--exrtas'"),
        (["--python"], "--python needs a value"),
        (["--extras", "mini,nonsense"], "unknown extra 'nonsense'"),
    ],
)
def test_wrong_options(sandbox, args, message):
    sandbox.add_python("python3.12", "3.12")
    result = sandbox.run(*args)
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {message}")
    assert len(result.stderr.splitlines()) == 1
    assert sandbox.calls == []


def test_help(sandbox):
    result = sandbox.run("--help")
    assert result.returncode == 0
    for option in ("--python", "--extras", "MTKD_PYTHON"):
        assert option in result.stdout


# ---- tools/check_environment.py


@pytest.fixture(scope="module")
def checker():
    path = ROOT / "tools/check_environment.py"
    spec = importlib.util.spec_from_file_location("check_environment", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_requirements_are_read_from_setup_py(checker):
    required, extras = checker.read_requirements(ROOT / "setup.py")
    names = [checker.split_requirement(item)[0] for item in required]
    assert {"espnet", "espnet-s3prl", "torch", "omniio"} <= set(names)
    assert {"mini", "kaldiio", "test", "dev"} <= set(extras)
    for item in [*required, *sum(extras.values(), [])]:  # the one form that the check understands
        name, least = checker.split_requirement(item)
        assert least and item.startswith(f"{name}>=")


@pytest.mark.parametrize(
    ("version", "expected"),
    [("202611", (202611,)), ("2.14.1+cpu", (2, 14, 1)), ("2026.5.14", (2026, 5, 14)), ("3rc1", ())],
)
def test_version_numbers(checker, version, expected):
    assert checker.numbers(version) == expected


def test_unmet_requirements(checker, monkeypatch):
    installed = {"present": "2.10.0", "old": "1.9"}

    def version(name):
        if name not in installed:
            raise checker.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(checker.metadata, "version", version)
    wanted = ["present>=2.9", "old>=2", "absent>=1"]
    assert checker.unmet(wanted) == ["old>=2", "absent>=1"]
    monkeypatch.setattr(sys, "executable", "/my env/bin/python")
    assert checker.pip_command(["old>=2"]) == "'/my env/bin/python' -m pip install 'old>=2'"


def test_lacking_environment_is_told_what_to_do(checker, monkeypatch, capsys):
    monkeypatch.setattr(checker, "unmet", lambda items: items[:1])
    monkeypatch.setattr(sys, "argv", ["check_environment.py", "--extras", "mini"])
    assert checker.main() == 1
    error = capsys.readouterr().err
    assert "lacks espnet>=" in error and "-m pip install 'espnet>=" in error


def test_lacking_extra_is_a_note(checker, monkeypatch, tmp_path, capsys):
    stamp = tmp_path / "stamp"
    monkeypatch.setattr(checker, "unmet", lambda items: [i for i in items if "espeakng" in i])
    monkeypatch.setattr(checker.metadata, "version", lambda name: "1")
    monkeypatch.setattr(checker, "IMPORTS", ("json",))
    argv = ["check_environment.py", "--extras", "mini", "--stamp", str(stamp)]
    monkeypatch.setattr(sys, "argv", argv)
    assert checker.main() == 0
    assert "note: " in capsys.readouterr().out
    # with the stamp in place nothing is imported again
    monkeypatch.setattr(checker, "IMPORTS", ("no_such_module",))
    assert checker.main() == 0
    stamp.unlink()
    assert checker.main() == 1
    assert "no_such_module does not import: ModuleNotFoundError" in capsys.readouterr().err
    assert not stamp.exists()


# ---- path.sh, cmd.sh, db.sh


def source(script: str, *, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a bash script with `set -eu`, with no variable but PATH, HOME and ``env``."""
    base = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    return subprocess.run(
        ["bash", "-euc", script], cwd=cwd, env=base | env, capture_output=True, text=True
    )


@pytest.mark.parametrize("place", [".", "egs2"])
def test_path_sh_from_anywhere(place, tmp_path):
    cwd = ROOT / place
    script = f'. "{os.path.relpath(ROOT, cwd)}/path.sh"; . "$MAIN_ROOT/path.sh"; {ECHO}'
    # MAIN_ROOT may be ESPnet's, from its own path.sh
    result = source(script, cwd=cwd, MTKD_PYTHON=sys.executable, MAIN_ROOT=str(tmp_path))
    assert result.returncode == 0, result.stderr
    main_root, python, pythonpath, threads, locale = result.stdout.splitlines()
    assert (main_root, pythonpath, threads) == (str(ROOT), str(ROOT), "1")
    assert (
        Path(python).samefile(sys.executable) and Path(python).parent == Path(sys.executable).parent
    )
    assert locale in ("C", "C.UTF-8")


ECHO = (
    'printf "%s\\n" "$MAIN_ROOT" "$(command -v python)" "$PYTHONPATH" "$OMP_NUM_THREADS" "$LC_ALL"'
)


def test_path_sh_without_environment(tmp_path):
    (tmp_path / "espnet_mtkd").mkdir()
    (tmp_path / "espnet_mtkd/__init__.py").touch()
    shutil.copy(ROOT / "path.sh", tmp_path)
    result = source(". ./path.sh", cwd=tmp_path)
    assert result.returncode == 1
    assert "run tools/install.sh first" in result.stderr
    result = source(". ./path.sh", cwd=tmp_path, MTKD_PYTHON="/no/such/python")
    assert result.returncode == 1 and "MTKD_PYTHON=/no/such/python does not run" in result.stderr


def test_kaldi_scripts_come_from_a_checkout(tmp_path):
    utils = tmp_path / "egs/wsj/s5/utils"
    utils.mkdir(parents=True)
    (utils / "slurm.pl").touch()
    (utils / "slurm.pl").chmod(0o755)
    script = ". ./path.sh; . ./cmd.sh; echo $train_cmd $cuda_cmd $decode_cmd; command -v slurm.pl"
    env = {"MTKD_PYTHON": sys.executable, "cmd_backend": "slurm"}
    result = source(script, cwd=ROOT, KALDI_ROOT=str(tmp_path), **env)
    assert result.stdout.splitlines() == ["slurm.pl slurm.pl slurm.pl", str(utils / "slurm.pl")]


def test_cmd_sh(tmp_path):
    result = source('. ./cmd.sh; echo "<$train_cmd$cuda_cmd$decode_cmd>"', cwd=ROOT)
    assert (result.returncode, result.stdout) == (0, "<>\n")
    result = source(
        ". ./cmd.sh", cwd=ROOT, cmd_backend="sge", PATH=str(tmp_path) + ":/bin:/usr/bin"
    )
    assert result.returncode == 1 and "needs queue.pl" in result.stderr
    result = source(". ./cmd.sh", cwd=ROOT, cmd_backend="cloud")
    assert result.returncode == 1 and "cmd_backend=cloud: use local" in result.stderr


def test_db_sh_yields_to_the_environment():
    result = source('. ./db.sh; echo "$EMODB|$EMOVO|$RAVDESS|$URDU"', cwd=ROOT, EMOVO="/a b")
    assert result.stdout == "|/a b||\n"
