"""Audio of a corpus to one form: mono, one sampling rate, 16 bit, checked.

A file that has this form already is used where it lies. Memory is bounded by one utterance per
process: length is judged by the header before anything is decoded.

Resampling is that of the SoX resampler (``soxr``, quality HQ). The pass band is flat within 0.05 dB
up to 0.92 of the lower of both Nyquist frequencies (7.4 kHz for 16 kHz); the stop band begins at
that Nyquist frequency and is 120 dB down, below the noise of 16 bit.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import batched
from pathlib import Path

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from espnet_mtkd.data.datadir import DataDir
from espnet_mtkd.data.files import atomic_path, write_text
from espnet_mtkd.data.fingerprint import fingerprint
from espnet_mtkd.data.processes import spawn_pool
from espnet_mtkd.data.shards import Shard, check_whole, read_output
from espnet_mtkd.data.wavheader import LOWEST_RATE, SAMPLE_RATE, file_defect
from espnet_mtkd.errors import UserError

OF_SHARD = "audio.jsonl"  # what became of the utterances of a shard
_BATCH = 512  # utterances in flight at most
_RARE = 0.05  # part of a corpus whose rate is suspicious when all the others have another one


@dataclass(frozen=True)
class Form:
    """What the audio must become and may be.

    Attributes:
        fs: Sampling rate, Hz.
        min_wav_duration: Shortest utterance that is taken, seconds.
        max_wav_duration: Longest utterance that is taken, seconds.
    """

    fs: int = SAMPLE_RATE
    min_wav_duration: float = 0.1
    max_wav_duration: float = 30.0


@dataclass(frozen=True)
class Audio:
    """What became of one utterance.

    Attributes:
        utt_id: The utterance.
        path: Where its audio lies now: the source, or the file that was written.
        rate: Of the source, Hz.
        num_samples: At ``Form.fs``.
        audio_hash: SHA-256 of the samples as little-endian 16-bit integers.
        fingerprint: See :mod:`espnet_mtkd.data.fingerprint`.
        reject: Why it cannot be used; None when it can. The fields above are then empty.
        warning: What is odd about it although it is used; None when nothing is.
    """

    utt_id: str
    path: str
    rate: int = 0
    num_samples: int = 0
    audio_hash: str = ""
    fingerprint: str = ""
    reject: str | None = None
    warning: str | None = None


class _RejectError(Exception):
    """The file cannot be used, for the reason in the message."""


def format_utterance(utt_id: str, source: str, folder: Path, form: Form) -> Audio:
    """Check one file and bring it into form.

    Args:
        utt_id: The utterance.
        source: A file that libsndfile reads (WAV, FLAC, OGG, MP3, ...), any rate and channels.
        folder: Where ``<utt_id>.flac`` is written when the source is not in form.
        form: The form.

    Returns:
        The outcome; a file that cannot be used gives ``reject``, not an exception.
    """
    target = folder / f"{utt_id}.flac"
    if os.path.realpath(source) == os.path.realpath(target):
        raise UserError(f"{source}: {utt_id} would be written over its source; change --out")
    try:
        samples, rate, ready = _read(source, form)
    except _RejectError as reason:
        return Audio(utt_id, source, reject=str(reason))
    pcm = to_pcm(resample(samples, rate, form.fs))
    if not (pcm != pcm[0]).any():
        return Audio(utt_id, source, reject=f"silent: all samples are {pcm[0]}")
    if not ready:
        with atomic_path(target, sync=False) as temporary:
            soundfile.write(temporary, pcm, form.fs, format="FLAC", subtype="PCM_16")
    return Audio(
        utt_id,
        path=source if ready else str(target),
        rate=rate,
        num_samples=len(pcm),
        audio_hash=hashlib.sha256(pcm.tobytes()).hexdigest(),
        fingerprint=fingerprint(pcm, form.fs),
        warning="clipped" if _is_clipped(samples) else None,
    )


def resample(samples: np.ndarray, rate: int, fs: int) -> np.ndarray:
    """Samples (T,) float32 at ``rate`` Hz to (T * fs / rate,) at ``fs`` Hz."""
    return samples if rate == fs else soxr.resample(samples, rate, fs, quality="HQ")


def to_pcm(samples: np.ndarray) -> np.ndarray:
    """Samples (T,) with full scale 1 to little-endian 16-bit integers; louder ones are clipped."""
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype("<i2")


def format_corpus(
    data: DataDir,
    out: Path,
    form: Form | None = None,
    nj: int = 1,
    max_rejects: int = 0,
    shards: Sequence[Path] = (),
) -> list[Audio]:
    """Bring the audio of a data directory into form and write the data directory of the result.

    Writes ``out/audio/*.flac``, ``out/rejects.tsv`` (what is left out, and what is kept although it
    is odd) and, when not too many are left out, the data directory with what was measured,
    ``wav.scp`` last. The result does not depend on ``nj``.

    Args:
        data: The corpus.
        out: Where the result goes.
        form: Default: 16 kHz, 0.1 to 30 s.
        nj: Processes.
        max_rejects: How many utterances may be left out.
        shards: Folders of :func:`format_shard` that hold the work, all of it.

    Returns:
        The outcome of every utterance, sorted by utterance.

    Raises:
        UserError: More rejects than ``max_rejects``, or nothing is left.
    """
    form = form or Form()
    # Until the end there must be nothing that looks finished.
    (out / "wav.scp").unlink(missing_ok=True)
    if shards:
        results = _read_shards(shards, data.utterances, out / "audio")
    else:
        results = _format(data, data.utterances, out, form, nj)
    results = _suspect_rates(results)
    rejects = [audio for audio in results if audio.reject]
    _write_rejects(out / "rejects.tsv", results)
    if len(rejects) > max_rejects or len(rejects) == len(results):
        raise UserError(
            f"{_printable(rejects[0].path)}: {rejects[0].reject} ({rejects[0].utt_id}); "
            f"{len(rejects)} of {len(results)} utterances cannot be used, all in "
            f"{out / 'rejects.tsv'}; mend or remove them, or allow them with --max_rejects (now "
            f"{max_rejects})"
        )
    kept = [audio for audio in results if not audio.reject]
    formed = data.subset(audio.utt_id for audio in kept)
    formed.wav_scp = {audio.utt_id: audio.path for audio in kept}
    formed.utt2dur = {audio.utt_id: f"{audio.num_samples / form.fs:.4f}" for audio in kept}
    formed.utt2num_samples = {audio.utt_id: str(audio.num_samples) for audio in kept}
    formed.utt2rate = {audio.utt_id: str(audio.rate) for audio in kept}
    formed.utt2source = {audio.utt_id: _printable(data.wav_scp[audio.utt_id]) for audio in kept}
    formed.utt2audio_hash = {audio.utt_id: audio.audio_hash for audio in kept}
    formed.utt2fingerprint = {audio.utt_id: audio.fingerprint for audio in kept}
    os.sync()  # once for all files, before wav.scp says that they are there
    formed.write(out)
    return results


def format_shard(data: DataDir, out: Path, form: Form, nj: int, shard: Shard) -> list[Audio]:
    """Bring the audio of a part of a data directory into form, and write what became of it."""
    results = _format(data, shard.of(data.utterances), out, form, nj)
    os.sync()
    write_text(out / OF_SHARD, "".join(json.dumps(asdict(audio)) + "\n" for audio in results))
    return results


def _format(
    data: DataDir, utterances: Sequence[str], out: Path, form: Form, nj: int
) -> list[Audio]:
    jobs = [(utt, data.wav_scp[utt]) for utt in utterances]
    return list(_progress(_run(jobs, out / "audio", form, nj), len(jobs), out.name))


def _read_shards(shards: Sequence[Path], utterances: Sequence[str], audio: Path) -> list[Audio]:
    """Return what became of all utterances; what was written gets a second name in ``audio``."""
    found = []
    audio.mkdir(parents=True, exist_ok=True)
    for folder in shards:
        for line in read_output(folder / OF_SHARD).splitlines():
            one = Audio(**json.loads(line))
            written = Path(one.path)
            if written.parent == folder / "audio":
                with atomic_path(audio / written.name, sync=False) as temporary:
                    os.link(written, temporary)
                one = replace(one, path=str(audio / written.name))
            found.append(one)
    check_whole([audio.utt_id for audio in found], utterances, shards)
    order = {utt: at for at, utt in enumerate(utterances)}
    return sorted(found, key=lambda audio: order[audio.utt_id])


def _suspect_rates(results: list[Audio]) -> list[Audio]:
    """Warn of sampling rates that few have, in a corpus where nearly all have one other."""
    rates = Counter(audio.rate for audio in results if not audio.reject)
    if not rates:
        return results
    usual, count = rates.most_common(1)[0]
    if count == rates.total() or count < (1 - _RARE) * rates.total():
        return results
    odd = f"Hz, where {count} of {rates.total()} files have {usual} Hz: mislabelled?"
    return [
        audio
        if audio.reject or audio.rate == usual
        else replace(audio, warning=", ".join(filter(None, (audio.warning, f"{audio.rate} {odd}"))))
        for audio in results
    ]


def _write_rejects(path: Path, results: list[Audio]) -> None:
    with (
        atomic_path(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as f,
    ):
        writer = csv.writer(f, delimiter="\t", lineterminator="\n")
        writer.writerow(("utt_id", "path", "verdict", "reason"))
        for audio in results:
            if audio.reject or audio.warning:
                verdict = "left out" if audio.reject else "kept"
                reason = audio.reject or audio.warning
                writer.writerow((audio.utt_id, _printable(audio.path), verdict, reason))


def _printable(path: str) -> str:
    """A path on one line, whatever bytes are in it."""
    path = path.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in path)


def _read(source: str, form: Form) -> tuple[np.ndarray, int, bool]:
    """Decode a file to mono: samples (T,) float32, rate, and whether it is in form as it is."""
    defect = file_defect(source)
    if defect:
        raise _RejectError(defect)
    try:
        with soundfile.SoundFile(os.fsencode(source)) as f:
            rate, claimed = f.samplerate, f.frames
            if rate < LOWEST_RATE:
                raise _RejectError(f"mislabelled: the header says {rate} Hz")
            _check_duration(claimed / rate, form)
            samples = f.read(dtype="float32", always_2d=True)
            # What every reader of ESPnet takes and where nothing would be lost or gained.
            ready = f.format in ("WAV", "WAVEX", "FLAC") and f.subtype == "PCM_16"
            ready = ready and f.channels == 1 and rate == form.fs
    except soundfile.LibsndfileError as error:
        raise _RejectError(f"unreadable: {error.error_string.strip()}") from None
    if len(samples) < claimed:
        raise _RejectError(f"truncated: breaks off after {len(samples)} of {claimed} samples")
    mono = sum(samples.T) / samples.shape[1]  # several times as fast as mean(axis=1)
    if not np.isfinite(mono.sum(dtype=np.float64)):
        raise _RejectError("NaN or infinite samples")
    # wav.scp has one path a line, and a pipe in it would be a command.
    plain = _printable(source) == source == source.strip() and "|" not in source
    return mono, rate, ready and plain


def _check_duration(seconds: float, form: Form) -> None:
    if seconds == 0:
        raise _RejectError("no samples")
    shortest, longest = form.min_wav_duration, form.max_wav_duration
    if seconds < shortest:
        raise _RejectError(f"too short: {seconds:.3f} s, --min_wav_duration {shortest}")
    if seconds > longest:
        raise _RejectError(f"too long: {seconds:.3f} s, --max_wav_duration {longest}")


def _is_clipped(samples: np.ndarray) -> bool:
    full = np.abs(samples) >= 32767 / 32768
    return bool((full[:-2] & full[1:-1] & full[2:]).any())


def _run(jobs: list[tuple[str, str]], folder: Path, form: Form, nj: int) -> Iterator[Audio]:
    if nj == 1 or len(jobs) < 2:
        yield from (format_utterance(utt, source, folder, form) for utt, source in jobs)
        return
    with spawn_pool(min(nj, len(jobs))) as pool:
        try:
            for batch in batched(jobs, _BATCH):
                utts, sources = zip(*batch, strict=True)
                work = partial(format_utterance, folder=folder, form=form)
                yield from pool.map(work, utts, sources, chunksize=8)
        except BrokenProcessPool:
            raise UserError("a worker process was killed (out of memory?); lower --nj") from None


def _progress(results: Iterable[Audio], total: int, name: str) -> Iterator[Audio]:
    """Pass results on; a bar on a terminal, a line per thousand in a log."""
    bar = tqdm(results, total=total, desc=name, unit="utt", disable=not sys.stderr.isatty())
    for done, audio in enumerate(bar, start=1):
        if bar.disable and done % 1000 == 0:
            print(f"{name}: {done} of {total} utterances", file=sys.stderr, flush=True)
        yield audio
