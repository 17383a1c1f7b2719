"""Run a graph of jobs: each once, again when what it depends on changed, several side by side.

A job makes one output, a folder or a file. Its key is a hash of its command line, its input files,
the code that makes it and the keys of the jobs that it needs. The key is stored beside the output
when the job has ended well (:mod:`espnet_mtkd.stamps`); a job whose stored key is the same is done.
So is one whose needs were made anew and came out the same, as when a corpus was only copied ("early
cutoff", Mokhov et al. 2018, Build Systems a la Carte, https://doi.org/10.1145/3236774).
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
import multiprocessing.sharedctypes
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import IO, Any, NamedTuple

from tqdm import tqdm

from espnet_mtkd.data.files import lock, refused_by_system, sweep
from espnet_mtkd.data.processes import die_with_parent
from espnet_mtkd.errors import UserError
from espnet_mtkd.stamps import PACKAGE as PACKAGE
from espnet_mtkd.stamps import Stamp, digest


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
        launch: command behind the back-end's that starts it on several machines (``srun``).
        also: what it makes beside ``output``, which alone names it.
        shards: jobs that have done its work in parts, where it only puts them together; into how
            many does not decide what it makes.
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
    launch: tuple[str, ...] = ()
    also: tuple[Path, ...] = ()
    shards: tuple[Job, ...] = ()

    @cached_property
    def facts(self) -> dict[str, Any]:
        """All that decides the output."""
        return {
            "command": list(self.argv),  # as it is read back from a stamp
            "inputs": {str(path): digest(path) for path in self.inputs},
            "code": {str(path): digest(path) for path in self.code},
            "packages": {name: importlib.metadata.version(name) for name in self.packages},
            "needs": {str(job.output): job.key for job in self.needs},
        }

    @cached_property
    def key(self) -> str:
        """Hash of all that decides the output; where files lie does not."""
        facts = [v if k == "command" else list(v.values()) for k, v in self.facts.items()]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    @cached_property
    def read(self) -> dict[str, str]:
        """Hashes of what the needed jobs have made; to be asked for when they have ended."""
        return {str(job.output): job.stamp.read().get("outputs", "") for job in self.needs}

    @property
    def stamp(self) -> Stamp:
        """Where the key of the finished (or, with ``started``, the begun) job is kept."""
        return Stamp(self.output)

    @property
    def log(self) -> Path:
        """What the job prints."""
        return self.output.parent / "log" / f"{self.output.name}.log"

    @property
    def cluster_log(self) -> Path:
        """What it prints when a back-end (``cmd``) runs it."""
        return self.log.with_suffix(".job.log")

    def state(self) -> str:
        """Return ``started`` or ``done`` if that is stored with this key; else nothing."""
        stored = self.stamp.read()
        return stored.get("state", "") if stored.get("key") == self.key else ""

    def made_all(self) -> bool:
        """Whether all that it makes is there."""
        return all(path.exists() for path in (self.output, *self.also))

    def is_done(self) -> bool:
        """Whether the output is there and was made from what is there now."""
        return self.state() == "done" and self.made_all()

    def adopt(self) -> bool:
        """Keep what was made, or begun, of the same content; return whether the job is done then.

        Nothing but the keys of the needed jobs may differ, whose outputs have to be what they were.
        """
        stored = self.stamp.read()
        same = all(stored.get(k) == v for k, v in self.facts.items() if k != "needs")
        if same and stored.get("read") == self.read and all(self.read.values()):
            self.stamp.write({**stored, "needs": self.facts["needs"], "key": self.key})
        return self.is_done()

    def prepare(self) -> None:
        """Clear what an earlier job left, unless this one can go on from it."""
        sweep(self.output.parent)
        sweep(self.stamp.path.parent)
        if self.resumes and self.state() == "started":
            sweep(self.output)
        else:
            # First the stamp: a kill in the middle must not leave it beside half of the output.
            self.stamp.path.unlink(missing_ok=True)
            for path in (self.output, *self.also):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        self.stamp.write({"state": "started", **self._made_from()})
        self.output.parent.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)

    def finish(self, **costs: float) -> None:
        """Store what was made, from what, and what it took."""
        outputs = self.stamp.list_files((self.output, *self.also))
        self.stamp.write({"state": "done", **self._made_from(), "outputs": outputs, **costs})

    def _made_from(self) -> dict[str, Any]:
        return {"key": self.key, "stage": self.stage, **self.facts, "read": self.read}


class _Running(NamedTuple):
    job: Job
    process: multiprocessing.Process
    used: Any  # two shared numbers: seconds of CPU time, bytes of the largest process
    held: IO[str]
    start: float


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
        for need in (*job.needs, *job.shards):
            if need.output not in stages and not need.is_done():
                raise UserError(
                    f"stage {job.stage} needs {need.output}, which is missing or out of date: "
                    f"run with --stage {need.stage}"
                )
    total, running, done, kept = len(pending), {}, 0, 0
    tqdm.monitor_interval = 0  # no thread of its own: a fork could inherit a lock that it holds
    progress = tqdm(total=total, unit="job", disable=None if total else True)
    try:
        while pending or running:
            waiting = {job.output for job in (*pending, *(r.job for r in running.values()))}
            ready = [
                job
                for job in pending
                if not any(before.output in waiting for before in (*job.needs, *job.shards))
            ]
            for job in ready:
                if len(running) == nj:
                    break
                # Where two experiments share data, only one may make them; it dies with its holder.
                held = lock(job.stamp.lock, f"{job.output}: another run is making it")
                pending.remove(job)
                if job.adopt():
                    held.close()
                    total, kept = total - 1, kept + 1
                    progress.total = total
                    continue
                _preload(job)
                job.prepare()
                process, used = _start(job)
                running[process.sentinel] = _Running(job, process, used, held, time.monotonic())
            for sentinel in multiprocessing.connection.wait(running) if running else ():
                job, process, used, held, start = running.pop(sentinel)
                process.join()
                if process.exitcode != 0:
                    raise UserError(_complaint(job, process.exitcode))
                if not job.made_all():
                    raise UserError(f"{job.output} was not made; see {job.log}")
                seconds = time.monotonic() - start
                cpu, peak = used
                costs = {"seconds": round(seconds, 3), "cpu_seconds": round(cpu, 3)}
                job.finish(**costs, peak_memory=int(peak))
                held.close()
                done += 1
                progress.update()
                tqdm.write(f"  [{done}/{total}] {job.output} ({seconds:.1f} s)", file=sys.stdout)
                sys.stdout.flush()
    finally:
        progress.close()
        for other in running.values():
            other.process.terminate()
            other.process.join()
    if kept:
        print(f"  {kept} kept: what they were made from was made anew and came out the same")
    return total


def _preload(job: Job) -> None:
    """Import once what jobs import, so that a forked job starts in milliseconds.

    ESPnet tells at its import which optional package it does without; that line is left out.
    """
    if job.cmd or job.argv[0] != "-m":
        return
    with contextlib.redirect_stderr(io.StringIO()) as said:
        importlib.import_module(job.argv[1])
    for line in said.getvalue().splitlines():
        if not line.startswith("Failed to import Flash Attention"):
            print(line, file=sys.stderr)


def _start(job: Job) -> tuple[multiprocessing.Process, Any]:
    # Forked, not spawned: torch, ESPnet and S3PRL take seconds to import.
    fork = multiprocessing.get_context("fork")
    used = multiprocessing.sharedctypes.RawArray("d", 2)
    process = fork.Process(target=_run, args=(job, os.getpid(), used), daemon=False)
    sys.stdout.flush()
    process.start()
    return process, used


def _run(job: Job, parent: int, used: Any) -> None:
    """Run a job in a process of its own, with its output in its log."""
    die_with_parent(parent)
    os.register_at_fork(after_in_child=die_with_parent)
    arguments = [*job.argv, *job.free_args]
    # For this process and for what it starts; line by line, so that a log can be followed.
    sys.stdout = sys.stderr = open(job.log, "w", encoding="utf-8", buffering=1)
    print(f"# {shlex.join([sys.executable, *arguments])}")
    os.dup2(sys.stdout.fileno(), 1)
    os.dup2(sys.stdout.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    status = 0
    try:
        if job.cmd:
            front = [*shlex.split(job.cmd), str(job.cluster_log), *job.launch]
            status = _run_command([*front, sys.executable, *arguments])
        elif arguments[0] != "-m":
            status = _run_command([sys.executable, *arguments])
        else:
            sys.argv = list(arguments[1:])
            importlib.import_module(arguments[1]).main(arguments[2:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 1
    except SystemExit as error:  # argparse
        status = error.code if isinstance(error.code, int) else 1
    except BaseException as error:
        traceback.print_exc()
        if isinstance(error, MemoryError):
            print("error: out of memory", file=sys.stderr)
        if isinstance(error, OSError) and (refusal := refused_by_system(error)):
            print(f"error: {refusal}", file=sys.stderr)
        status = 1
    usage = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    used[0] = sum(u.ru_utime + u.ru_stime for u in usage)
    used[1] = 1024 * max(u.ru_maxrss for u in usage)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # a forked child must not run what its parent registered for its own exit


def _run_command(command: list[str]) -> int:
    """Run a command, end it when this process is told to end, and return 1 if it failed."""
    process = subprocess.Popen(command, preexec_fn=partial(die_with_parent, os.getpid()))
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    status = process.wait()
    if status == -signal.SIGKILL:
        os.kill(os.getpid(), signal.SIGKILL)
    return 1 if status else 0


def _complaint(job: Job, exitcode: int) -> str:
    if exitcode == -signal.SIGKILL:
        return f"{job.output}: its process was killed (out of memory?); see {job.log}"
    if shutil.disk_usage(job.log.parent).free < 1 << 16:  # too little even for a traceback
        return f"{job.output}: No space left on device (log: {job.log})"
    # On a cluster the job's own words are in the log that the back-end wrote.
    log = job.cluster_log if job.cmd and job.cluster_log.is_file() else job.log
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in reversed(lines):
        _, found, message = line.partition("error: ")
        if found:
            return f"{message} [{job.output}, log: {log}]"
    last = next((line for line in reversed(lines) if line.strip()), "no output")
    return f"{job.output} failed: {last} (log: {log})"
