"""Pooled layers of a frozen upstream, computed once for each recording and kept in a store.

The store is a folder of shards, small arks with an index each. Its name says what computed them
(upstream, checkpoint, pooling, precision, code, versions) and an entry's name is the hash of the
samples, so a recording that is known is never computed again, in whatever corpus, under whatever
name. A shard is complete or it is not there: after a kill only unfinished shards are repeated.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import resource
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from tqdm import tqdm

from espnet_mtkd.data.ark import write_ark
from espnet_mtkd.data.datadir import read_map
from espnet_mtkd.data.files import sweep, write_text
from espnet_mtkd.data.wavheader import SAMPLE_RATE
from espnet_mtkd.errors import UserError
from espnet_mtkd.models.pooling import AbsPooling
from espnet_mtkd.models.upstream import Upstream

MODELS = Path(__file__).parents[1] / "models"
# What of the models decides a pooled layer; heads and losses do not.
CODE = ("upstream.py", "whisper.py", "hf_upstreams.py", "packing.py", "pooling.py")
PACKAGES = ("espnet-s3prl", "torch", "transformers")
SHARD_SECONDS = 60  # speech in a shard at most: what a kill may cost
SHARDS_EACH = 8  # of a process at least, so that all end at about the same time


@dataclass(frozen=True)
class Recording:
    """An utterance's audio: hash of its samples, file, number of samples at 16 kHz."""

    sha: str
    path: str
    samples: int


def checkpoint_hash(path: str | Path | None) -> str:
    """Hash of a checkpoint's content, a file or a folder; of nothing, where there is none."""
    sha = hashlib.sha256()
    if path is not None:
        path = Path(path)
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for file in files:
            sha.update(str(file.relative_to(path)).encode())
            with open(file, "rb") as content:
                sha.update(hashlib.file_digest(content, "sha256").digest())
    return sha.hexdigest()


def checkpoint_bytes(path: str | Path | None) -> int:
    """Size of a checkpoint on disk in bytes."""
    if path is None:
        return 0
    path = Path(path)
    files = [path] if path.is_file() else path.rglob("*")
    return sum(p.stat().st_size for p in files if p.is_file())


def store_key(upstream: str, checkpoint: str, pooling: str, bits: int) -> str:
    """Hash of all that decides a pooled layer but the audio."""
    parts = [upstream, checkpoint, pooling, bits]
    parts += [hashlib.sha256((MODELS / name).read_bytes()).hexdigest() for name in CODE]
    parts += [importlib.metadata.version(package) for package in PACKAGES]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def read_recordings(data_dir: str | Path) -> dict[str, Recording]:
    """Return the recordings of a data directory by utterance.

    Lengths and hashes are those of stage 2; without them, as in a directory of one's own, they are
    those of the files.
    """
    folder = Path(data_dir)
    wav_scp = read_map(folder / "wav.scp")
    maps = []
    for name in ("utt2audio_hash", "utt2num_samples"):
        maps.append(read_map(folder / name) if (folder / name).is_file() else {})
    hashes, samples = maps
    recordings = {}
    for utt_id, path in wav_scp.items():
        if utt_id not in hashes or utt_id not in samples:
            try:
                length = soundfile.info(path).frames
                sha = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            except (OSError, soundfile.SoundFileError) as error:
                raise UserError(f"{folder}/wav.scp: {utt_id}: {path}: {error}") from None
        else:
            sha, length = hashes[utt_id], int(samples[utt_id])
        recordings[utt_id] = Recording(sha, path, length)
    return recordings


def read_speech(path: str) -> torch.Tensor:
    """Read a waveform (Samples,)."""
    try:
        samples, rate = soundfile.read(path, dtype="float32")
    except (OSError, soundfile.SoundFileError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    if samples.ndim > 1 or rate != SAMPLE_RATE:
        raise UserError(f"{path}: must be mono at {SAMPLE_RATE} Hz; stage 2 makes it so")
    return torch.from_numpy(samples)


def batches(
    recordings: Sequence[Recording], batch_seconds: float, padding: bool
) -> Iterator[list[Recording]]:
    """Cut recordings into batches of at most ``batch_seconds``, at least one recording each.

    Args:
        padding: the upstream takes no notice of padding; else a batch has one length only.
    """
    batch: list[Recording] = []
    for item in recordings:
        longest = max([item.samples, *(r.samples for r in batch)])
        fits = (len(batch) + 1) * longest <= batch_seconds * SAMPLE_RATE
        alike = padding or not batch or item.samples == batch[0].samples
        if batch and not (fits and alike):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


@torch.inference_mode()
def pool_batch(
    upstream: Upstream, pooling: AbsPooling | None, wavs: list[torch.Tensor]
) -> Sequence[np.ndarray]:
    """Return the pooled layers (Layers, P) of each waveform (Samples,).

    Without a pooling: the frames of its last layer (Frames, D).
    """
    lengths = torch.tensor([len(wav) for wav in wavs])
    speech = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
    states, frames = upstream(speech, lengths)
    if pooling is None:
        return [h[:n].numpy() for h, n in zip(states[-1], frames[-1].tolist(), strict=True)]
    layers = [pooling(h, n) for h, n in zip(states, frames, strict=True)]
    return torch.stack(layers, dim=1).numpy()


class FeatureStore:
    """Pooled layers of recordings, by the hash of their samples.

    Args:
        folder: where the shards are; made when the first one is written.
        bits: 32, or 16: the upstream multiplies in bfloat16, and a number is kept in two bytes by
            Kaldi's compression (off by at most a matrix's range / 131070); half the space, and
            about half the time where the processor has bfloat16.
    """

    def __init__(self, folder: str | Path, bits: int = 32) -> None:
        if bits not in (16, 32):
            raise UserError(f"--bits {bits}: must be 32 or 16")
        self.folder = Path(folder).absolute()
        self.bits = bits

    def index(self) -> dict[str, str]:
        """Return where each entry is, as a Kaldi index has it."""
        entries: dict[str, str] = {}
        for scp in self._shards():
            entries.update(read_map(scp))
        return entries

    def _shards(self) -> list[Path]:
        # [!.]: not the unfinished ones of a process at work, or of one that was killed.
        return sorted(self.folder.glob("[!.]*.scp"))

    def write_shard(
        self,
        upstream: Upstream,
        pooling: AbsPooling | None,
        shard: Sequence[Recording],
        batch_seconds: float,
    ) -> None:
        """Compute a shard; the index comes last and makes it count."""
        name = hashlib.sha256(" ".join(r.sha for r in shard).encode()).hexdigest()[:16]
        start, parent = time.process_time(), os.getppid()

        def items() -> Iterator[tuple[str, np.ndarray]]:
            for batch in batches(shard, batch_seconds, upstream.padding_is_invisible):
                pooled = pool_batch(upstream, pooling, [read_speech(r.path) for r in batch])
                if os.getppid() != parent:
                    os._exit(1)  # whoever wanted it is gone
                for recording, matrix in zip(batch, pooled, strict=True):
                    yield recording.sha, matrix
            costs = {
                "cpu_seconds": time.process_time() - start,
                "audio_seconds": sum(r.samples for r in shard) / SAMPLE_RATE,
                "peak_memory": peak_memory(),
            }
            write_text(self.folder / f"{name}.json", json.dumps(costs))

        write_ark(self.folder / f"{name}.scp", items(), two_bytes=self.bits == 16)

    def add(
        self,
        upstream: Upstream,
        pooling: AbsPooling | None,
        recordings: Iterable[Recording],
        nj: int = 1,
        batch_seconds: float = 10.0,
    ) -> int:
        """Compute what is not there yet with ``nj`` processes; return how many recordings.

        Raises:
            UserError: a file cannot be read, or is not what stage 2 makes.
        """
        sweep(self.folder)
        known = self.index()
        missing = {r.sha: r for r in recordings if r.sha not in known}
        # Longest first: the processes end together, and memory is at its highest at once.
        order = sorted(missing.values(), key=lambda r: (-r.samples, r.sha))
        total = sum(r.samples for r in order) / SAMPLE_RATE
        seconds = min(SHARD_SECONDS, total / (SHARDS_EACH * nj))
        shards = list(batches(order, seconds, padding=True))
        if shards:
            upstream.pack(self.bits)
        bar = tqdm(total=len(shards), desc="features", disable=None, unit="shard")
        with bar:
            if nj == 1 or len(shards) < 2:
                for shard in shards:
                    self.write_shard(upstream, pooling, shard, batch_seconds)
                    bar.update()
            else:
                self._add_in_parallel(upstream, pooling, shards, nj, batch_seconds, bar)
        return len(order)

    def _add_in_parallel(
        self,
        upstream: Upstream,
        pooling: AbsPooling | None,
        shards: Sequence[Sequence[Recording]],
        nj: int,
        batch_seconds: float,
        bar: tqdm,
    ) -> None:
        # Forked: the upstream's parameters are in memory once.
        fork = multiprocessing.get_context("fork")
        turn, complaints = fork.Value("i", 0), fork.SimpleQueue()

        def work() -> None:
            torch.set_num_threads(1)
            try:
                while True:
                    with turn.get_lock():
                        mine, turn.value = turn.value, turn.value + 1
                    if mine >= len(shards):
                        return
                    self.write_shard(upstream, pooling, shards[mine], batch_seconds)
            except UserError as error:
                complaints.put(str(error))
                turn.value = len(shards)
            except BaseException:
                traceback.print_exc()
                turn.value = len(shards)
                raise

        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # a forked child cannot use its parent's threads
        processes = [fork.Process(target=work, daemon=True) for _ in range(min(nj, len(shards)))]
        try:
            for process in processes:
                process.start()
            for process in processes:
                while process.is_alive():
                    process.join(0.5)
                    bar.update(max(0, min(turn.value, len(shards)) - len(processes) - bar.n))
        finally:
            torch.set_num_threads(threads)
            for process in processes:
                process.kill()
        if not complaints.empty():
            raise UserError(complaints.get())
        if any(process.exitcode for process in processes):
            raise RuntimeError("a process that extracts features failed; its traceback is above")
        bar.update(len(shards) - bar.n)

    def costs(self, hashes: set[str]) -> dict[str, float]:
        """Return what computing these entries took, when that was done.

        Returns:
            ``cpu_seconds``, ``audio_seconds``, ``peak_memory`` (bytes of the process that needed
            most, Python and torch included) and ``feature_bytes`` on disk.
        """
        total = {"cpu_seconds": 0.0, "audio_seconds": 0.0, "peak_memory": 0.0, "feature_bytes": 0.0}
        for scp in self._shards():
            entries = read_map(scp)
            share = sum(sha in hashes for sha in entries) / len(entries)
            if share == 0:
                continue
            own = json.loads(scp.with_suffix(".json").read_text(encoding="utf-8"))
            total["cpu_seconds"] += share * own["cpu_seconds"]
            total["audio_seconds"] += share * own["audio_seconds"]
            total["peak_memory"] = max(total["peak_memory"], own["peak_memory"])
            total["feature_bytes"] += share * scp.with_suffix(".ark").stat().st_size
        return total


def peak_memory() -> int:
    """Largest resident size of this process so far in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def entries_of(index: Mapping[str, str], recordings: Mapping[str, Recording]) -> dict[str, str]:
    """Return the index of a store's entries by utterance."""
    return {utt_id: index[recording.sha] for utt_id, recording in recordings.items()}
