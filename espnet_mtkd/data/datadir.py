"""Kaldi-style data directories: read, write, check, cut and join.

A data directory holds one file per property, one ``key value`` record a line, sorted by code point
(``LC_ALL=C``). Utterance ids start with their speaker's id and sort like it, as Kaldi's tools want.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from espnet_mtkd.data.files import write_text
from espnet_mtkd.errors import UserError

LEGAL_ID = re.compile(r"[A-Za-z0-9_.-]+")

# Every utterance has a record in each of these ...
REQUIRED = ("wav_scp", "utt2spk", "utt2lang", "utt2emotion", "utt2corpus")
# ... and in each of these or in none of it: stage 2 measures them.
MEASURED = (
    "utt2dur",
    "utt2num_samples",
    "utt2rate",
    "utt2source",
    "utt2audio_hash",
    "utt2fingerprint",
)


def read_map(path: str | Path) -> dict[str, str]:
    """Read a ``key value`` file; the value is the rest of the line (it may hold spaces).

    Args:
        path: A UTF-8 text file with one record a line.

    Returns:
        The records in the order of the file.

    Raises:
        UserError: The file is missing or not UTF-8, a line has no value, or a key comes twice.
    """
    path = Path(path)
    records: dict[str, str] = {}
    number = 0
    try:
        with open(path, "rb") as lines:
            # Only \n ends a line: str.splitlines would also cut a transcript at U+2028.
            for number, raw in enumerate(lines, start=1):
                line = raw.removesuffix(b"\n").decode("utf-8")
                key, _, value = line.strip(" \t\r").replace("\t", " ", 1).partition(" ")
                if not key or not value.strip():
                    raise UserError(f"{path}:{number}: expected 'key value', found {line!r}")
                if key in records:
                    first = 1 + list(records).index(key)
                    raise UserError(
                        f"{path}:{number}: duplicate key {key!r}, first in line {first}"
                    )
                # One string in memory for all the maps that have this key.
                records[sys.intern(key)] = sys.intern(value.strip())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}:{number}: not UTF-8") from None
    return records


def fits_line(value: str) -> bool:
    """Whether a record can hold ``value``: not empty, one line, no blanks around it, and Unicode.

    A path whose bytes are not UTF-8 is a str as well, but none that can be written.
    """
    unicode = not any("\ud800" <= character <= "\udfff" for character in value)
    return bool(value) and value == value.strip() and not re.search("[\r\n]", value) and unicode


def write_map(path: str | Path, records: Mapping[str, str]) -> None:
    """Write records atomically as ``key value`` lines, sorted by key."""
    for key, value in records.items():
        if not fits_line(value):
            raise UserError(f"{path}: the value {value!r} of {key!r} does not fit on a line")
    write_text(path, "".join(f"{key} {records[key]}\n" for key in sorted(records)))


@dataclass
class DataDir:
    """The records of a data directory; every field is the file of the same name.

    All are keyed by utterance but ``spk2gender``. ``spk2gender`` and ``text`` may be partial;
    those of ``MEASURED`` are there after stage 2 (seconds, samples, the source's rate in Hz and its
    path, a hash of the samples, a fingerprint); the sides of folds lack path and fingerprint.
    ``spk2utt`` is derived from ``utt2spk``.
    """

    wav_scp: dict[str, str] = field(default_factory=dict)
    utt2spk: dict[str, str] = field(default_factory=dict)
    utt2lang: dict[str, str] = field(default_factory=dict)
    utt2emotion: dict[str, str] = field(default_factory=dict)
    utt2corpus: dict[str, str] = field(default_factory=dict)
    spk2gender: dict[str, str] = field(default_factory=dict)
    text: dict[str, str] = field(default_factory=dict)
    utt2dur: dict[str, str] = field(default_factory=dict)
    utt2num_samples: dict[str, str] = field(default_factory=dict)
    utt2rate: dict[str, str] = field(default_factory=dict)
    utt2source: dict[str, str] = field(default_factory=dict)
    utt2audio_hash: dict[str, str] = field(default_factory=dict)
    utt2fingerprint: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.wav_scp)

    @property
    def utterances(self) -> list[str]:
        """Utterance ids, sorted."""
        return sorted(self.wav_scp)

    @property
    def speakers(self) -> list[str]:
        """Speaker ids, sorted."""
        return sorted(set(self.utt2spk.values()))

    @property
    def languages(self) -> list[str]:
        """Languages, sorted."""
        return sorted(set(self.utt2lang.values()))

    @property
    def corpora(self) -> list[str]:
        """Corpora, sorted."""
        return sorted(set(self.utt2corpus.values()))

    @property
    def spk2utt(self) -> dict[str, list[str]]:
        """Sorted utterances by speaker, speakers sorted."""
        spk2utt: dict[str, list[str]] = {speaker: [] for speaker in self.speakers}
        for utt in sorted(self.utt2spk):
            spk2utt[self.utt2spk[utt]].append(utt)
        return spk2utt

    @property
    def hours(self) -> float:
        """Total duration; needs ``utt2dur``."""
        return sum(float(seconds) for seconds in self.utt2dur.values()) / 3600

    @classmethod
    def load(cls, folder: str | Path) -> DataDir:
        """Read and check a data directory.

        Raises:
            UserError: It is missing or unfinished, or a file in it is wrong.
        """
        folder = Path(folder)
        if not (folder / "wav.scp").is_file():
            raise UserError(f"{folder}: not a data directory, or an unfinished one: no wav.scp")
        data = cls()
        for name in _names():
            path = folder / _file(name)
            if name in REQUIRED or path.exists():
                records = read_map(path)
                if list(records) != sorted(records):
                    raise UserError(f"{path}: not sorted; sort it with LC_ALL=C")
                setattr(data, name, records)
        data.validate(folder)
        spk2utt = {speaker: " ".join(utts) for speaker, utts in data.spk2utt.items()}
        if read_map(folder / "spk2utt") != spk2utt:
            raise UserError(f"{folder / 'spk2utt'}: does not agree with utt2spk")
        return data

    def write(self, folder: str | Path) -> None:
        """Check, then write every file; ``wav.scp`` comes last, so without it nothing is done.

        Raises:
            UserError: The data is not valid.
        """
        folder = Path(folder)
        self.validate(folder)
        (folder / "wav.scp").unlink(missing_ok=True)
        write_map(folder / "spk2utt", {s: " ".join(u) for s, u in self.spk2utt.items()})
        for name in reversed(_names()):
            records, path = getattr(self, name), folder / _file(name)
            if records:
                write_map(path, records)
            else:
                path.unlink(missing_ok=True)  # left by an earlier run

    def subset(self, utterances: Iterable[str]) -> DataDir:
        """The part with these utterances.

        Raises:
            KeyError: An utterance is not here.
        """
        kept = set(utterances)
        missing = kept - self.wav_scp.keys()
        if missing:
            raise KeyError(f"not in the data directory: {min(missing)}")
        speakers = {self.utt2spk[utt] for utt in kept}
        return DataDir(
            **{
                name: {
                    key: value
                    for key, value in getattr(self, name).items()
                    if key in (speakers if name == "spk2gender" else kept)
                }
                for name in _names()
            }
        )

    def select(self, keep: Callable[[str], bool]) -> DataDir:
        """The part with the utterances for which ``keep(utt_id)`` is true."""
        return self.subset(utt for utt in self.wav_scp if keep(utt))

    def validate(self, folder: str | Path) -> None:
        """Check that the records are complete, consistent and legal.

        Args:
            folder: Where they lie or will lie, for the messages.

        Raises:
            UserError: With the file and the record that is wrong.
        """
        folder, utts, speakers = Path(folder), self.wav_scp.keys(), set(self.utt2spk.values())
        if not utts:
            raise UserError(f"{folder}: no utterance")
        for name in _names():
            path, records = folder / _file(name), getattr(self, name)
            known = speakers if name == "spk2gender" else utts
            for key in records:
                if key not in known:
                    raise UserError(f"{path}: {key!r} is not in {folder / 'wav.scp'}")
            if name in REQUIRED or (name in MEASURED and records):
                for key in utts:
                    if key not in records:
                        raise UserError(f"{path}: no record of {key!r}")
        for utt, spk in self.utt2spk.items():
            check_ids(folder / "utt2spk", utt, spk)
        for utt, path in self.wav_scp.items():
            if "|" in path or "\0" in path:
                what = "a pipe" if "|" in path else "a null character"
                raise UserError(f"{folder / 'wav.scp'}: {utt}: {what}; give the path of a file")
        for utt, lang in self.utt2lang.items():
            if not re.fullmatch("[a-z]{2}", lang):
                raise UserError(
                    f"{folder / 'utt2lang'}: {utt}: {lang!r} is not a code of ISO 639-1 like 'en'"
                )
        for name in ("utt2emotion", "utt2corpus"):
            for utt, value in getattr(self, name).items():
                if any(character.isspace() for character in value):
                    raise UserError(f"{folder / name}: {utt}: a space in {value!r}")
        for speaker, gender in self.spk2gender.items():
            if gender not in ("m", "f"):
                raise UserError(f"{folder / 'spk2gender'}: {speaker}: {gender!r} is not m or f")
        for name in ("utt2dur", "utt2num_samples", "utt2rate"):
            for utt, value in getattr(self, name).items():
                if not _positive(value):
                    raise UserError(f"{folder / name}: {utt}: {value!r} is not a positive number")
        order = sorted(utts)
        for left, right in zip(order, order[1:], strict=False):
            if self.utt2spk[left] > self.utt2spk[right]:
                raise UserError(
                    f"{folder / 'utt2spk'}: {left!r} sorts before {right!r} but its speaker after; "
                    "pad the numbers in speaker ids to the same width (spk_01, not spk_1)"
                )


def check_ids(where: str | Path, utt: str, speaker: str) -> None:
    """Raise UserError unless both ids are legal and the utterance's starts with the speaker's."""
    for kind, name in (("utterance", utt), ("speaker", speaker)):
        if not LEGAL_ID.fullmatch(name):
            raise UserError(f"{where}: {kind} id {name!r}: only A-Z a-z 0-9 _ . - are allowed")
    if not utt.startswith(speaker) or utt[len(speaker) : len(speaker) + 1] not in ("_", "-", "."):
        raise UserError(
            f"{where}: utterance id {utt!r} does not start with its speaker's, '{speaker}_'"
        )


def combine(parts: Mapping[str | Path, DataDir]) -> DataDir:
    """Join data directories that share no utterance.

    Args:
        parts: The loaded directories by where they lie, for the messages.

    Raises:
        UserError: Two have the same utterance, or only some have been through stage 2.
    """
    joined, source = DataDir(), {}
    for folder, part in parts.items():
        for utt in part.wav_scp:
            if utt in source:
                raise UserError(f"duplicate utterance id {utt!r} in {source[utt]} and {folder}")
            source[utt] = folder
        for speaker, gender in part.spk2gender.items():
            if joined.spk2gender.get(speaker, gender) != gender:
                raise UserError(f"{Path(folder) / 'spk2gender'}: {speaker}: elsewhere not {gender}")
        for name in _names():
            getattr(joined, name).update(getattr(part, name))
    for folder, part in parts.items():
        for name in MEASURED:
            if getattr(joined, name) and not getattr(part, name):
                raise UserError(f"{folder}: no {name}; run espnet_mtkd.bin.format_audio first")
    return joined


def _names() -> list[str]:
    return [entry.name for entry in fields(DataDir)]


def _file(name: str) -> str:
    return name.replace("_scp", ".scp")


def _positive(value: str) -> bool:
    try:
        return 0 < float(value) < float("inf")
    except ValueError:
        return False
