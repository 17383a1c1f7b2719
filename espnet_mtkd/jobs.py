"""Run a graph of jobs: each once, again when what it depends on changed, several side by side.

A job makes one output, a folder or a file. Its key is a hash of its command line, its input files,
the code that makes it and the keys of the jobs that it needs. The key is stored beside the output
when the job has ended well (``.stamps/NAME.json``); a job whose stored key is the same is done.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import io
import json
import multiprocessing
import multiprocessing.connection
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from espnet_mtkd.data.files import write_text
from espnet_mtkd.errors import UserError

PACKAGE = Path(__file__).parent
LARGE = 1 << 20  # bytes from which on a file is known by size and time instead of its content


@dataclass(frozen=True)
class Job:
    """One step of the recipe.

    Attributes:
        output: the folder or file that it makes; names the job.
        stage: the stage of ``run.sh`` that it belongs to.
        argv: ``-m MODULE ...`` of the project, or a script and its arguments.
        needs: the jobs whose outputs it reads.
        inputs: files and folders from outside the graph that it reads.
        code: files and folders of source that decide what it makes.
        packages: installed packages whose version decides what it makes.
        free_args: more arguments, such as the number of processes, that change no result.
        resumes: it can go on from an unfinished output of the same key (training).
        cmd: command of a cluster's back-end in front of it (``slurm.pl``); empty: here.
    """

    output: Path
    stage: int
    argv: tuple[str, ...]
    needs: tuple[Job, ...] = ()
    inputs: tuple[Path, ...] = ()
    code: tuple[Path, ...] = ()
    packages: tuple[str, ...] = ()
    free_args: tuple[str, ...] = ()
    resumes: bool = False
    cmd: str = ""

    @cached_property
    def key(self) -> str:
        """Hash of all that decides the output."""
        parts = [
            self.argv,
            [digest(path) for path in (*self.inputs, *self.code)],
            [importlib.metadata.version(package) for package in self.packages],
            [job.key for job in self.needs],
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def stamp(self) -> Path:
        """Where the key of the finished (or, with ``started``, the begun) job is kept."""
        return self.output.parent / ".stamps" / f"{self.output.name}.json"

    @property
    def log(self) -> Path:
        """What the job prints."""
        return self.output.parent / "log" / f"{self.output.name}.log"

    @property
    def cluster_log(self) -> Path:
        """What it prints when a back-end (``cmd``) runs it."""
        return self.log.with_suffix(".job.log")

    def state(self) -> dict[str, str]:
        """Return the stored ``key`` and ``state`` (``started`` or ``done``)."""
        if not self.stamp.is_file():
            return {}
        return json.loads(self.stamp.read_text(encoding="utf-8"))

    def is_done(self) -> bool:
        """Whether the output is there and was made from what is there now."""
        return self.state() == {"key": self.key, "state": "done"} and self.output.exists()

    def mark(self, state: str) -> None:
        """Store the key."""
        write_text(self.stamp, json.dumps({"key": self.key, "state": state}))

    def prepare(self) -> None:
        """Clear what an earlier job left, unless this one can go on from it."""
        unfinished = self.state() == {"key": self.key, "state": "started"}
        if not (self.resumes and unfinished):
            # First the stamp: a kill in the middle must not leave it beside half of the output.
            self.stamp.unlink(missing_ok=True)
            if self.output.is_dir():
                shutil.rmtree(self.output)
            else:
                self.output.unlink(missing_ok=True)
        self.mark("started")
        self.output.parent.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)


def digest(path: Path) -> str:
    """Hash of a file's content or of a folder's listing with sizes and times.

    Code folders are hashed by content, so that a fresh clone is not taken for a change. Files of
    1 MiB and more (audio, checkpoints) count by size and time of change.
    """
    sha = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    if not files:
        raise UserError(f"{path}: no such file or folder, or an empty one")
    by_content = path.is_file() or PACKAGE in (path, *path.parents)
    for file in files:
        if file.suffix == ".pyc":
            continue
        sha.update(os.fsencode(file.relative_to(path)))
        status = file.stat()
        if by_content and status.st_size < LARGE:
            sha.update(file.read_bytes())
        else:
            sha.update(f"{status.st_size} {status.st_mtime_ns}".encode())
    return sha.hexdigest()


def run_jobs(jobs: Sequence[Job], nj: int) -> int:
    """Run the jobs that are not done, at most ``nj`` at a time, and return how many that were.

    Raises:
        UserError: a job failed, or needs one that is neither done nor among ``jobs``.
    """
    if nj < 1:
        raise UserError(f"--nj {nj}: must be at least 1")
    pending = [job for job in jobs if not job.is_done()]
    stages = {job.output: job.stage for job in pending}
    for job in pending:
        for need in job.needs:
            if need.output not in stages and not need.is_done():
                raise UserError(
                    f"stage {job.stage} needs {need.output}, which is missing or out of date: "
                    f"run with --stage {need.stage}"
                )
    local = [job for job in pending if not job.cmd]
    _preload(local)
    total, running, done = len(pending), {}, 0
    tqdm.monitor_interval = 0  # no thread of its own: a fork could inherit a lock that it holds
    progress = tqdm(total=total, unit="job", disable=None if total else True)
    try:
        while pending or running:
            waiting = {job.output for job in (*pending, *(job for job, _ in running.values()))}
            for job in [j for j in pending if not any(n.output in waiting for n in j.needs)]:
                if len(running) == nj:
                    break
                job.prepare()
                process = _start(job)
                running[process.sentinel] = (job, (process, time.monotonic()))
                pending.remove(job)
            for sentinel in multiprocessing.connection.wait(running):
                job, (process, start) = running.pop(sentinel)
                process.join()
                if process.exitcode != 0:
                    raise UserError(_complaint(job))
                if not job.output.exists():
                    raise UserError(f"{job.output} was not made; see {job.log}")
                job.mark("done")
                done += 1
                progress.update()
                seconds = time.monotonic() - start
                tqdm.write(f"  [{done}/{total}] {job.output} ({seconds:.1f} s)", file=sys.stdout)
                sys.stdout.flush()
    finally:
        progress.close()
        for _, (process, _) in running.values():
            process.terminate()
            process.join()
    return total


def _preload(jobs: Iterable[Job]) -> None:
    """Import once what the jobs import, so that a forked job starts in milliseconds.

    ESPnet tells at its import which optional package it does without; that line is left out.
    """
    with contextlib.redirect_stderr(io.StringIO()) as said:
        for module in sorted({job.argv[1] for job in jobs if job.argv[0] == "-m"}):
            importlib.import_module(module)
    for line in said.getvalue().splitlines():
        if not line.startswith("Failed to import Flash Attention"):
            print(line, file=sys.stderr)


def _start(job: Job) -> multiprocessing.Process:
    # Forked, not spawned: torch, ESPnet and S3PRL take seconds to import.
    process = multiprocessing.get_context("fork").Process(target=_run, args=(job,), daemon=False)
    sys.stdout.flush()
    process.start()
    return process


def _run(job: Job) -> None:
    """Run a job in a process of its own, with its output in its log."""
    arguments = [*job.argv, *job.free_args]
    # For this process and for what it starts; line by line, so that a log can be followed.
    sys.stdout = sys.stderr = open(job.log, "w", encoding="utf-8", buffering=1)
    print(f"# {shlex.join([sys.executable, *arguments])}")
    os.dup2(sys.stdout.fileno(), 1)
    os.dup2(sys.stdout.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if job.cmd:
        _run_command([*shlex.split(job.cmd), str(job.cluster_log), sys.executable, *arguments])
    if arguments[0] != "-m":
        _run_command([sys.executable, *arguments])
    status = 0
    try:
        sys.argv = list(arguments[1:])
        importlib.import_module(arguments[1]).main(arguments[2:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 1
    except SystemExit as error:  # argparse
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # a forked child must not run what its parent registered for its own exit


def _run_command(command: list[str]) -> NoReturn:
    """Run a command, end it when this process is told to end, and exit as it does."""
    process = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    os._exit(1 if process.wait() else 0)


def _complaint(job: Job) -> str:
    # On a cluster the job's own words are in the log that the back-end wrote.
    log = job.cluster_log if job.cmd and job.cluster_log.is_file() else job.log
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in reversed(lines):
        _, found, message = line.partition("error: ")
        if found:
            return f"{message} [{job.output}, log: {log}]"
    last = next((line for line in reversed(lines) if line.strip()), "no output")
    return f"{job.output} failed: {last} (log: {log})"
