"""What the scripts in ``local/`` share: from a publisher's folders to a data directory.

A script has a docstring (source, licence, citation, layout, traps) and a generator
``utterances(root)``; everything else is here. ``local/TEMPLATE.py`` shows how.
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_mtkd.data.datadir import DataDir, check_ids
from espnet_mtkd.errors import UserError, cli

AUDIO_SUFFIXES = (".flac", ".wav")


@dataclass(frozen=True)
class Utterance:
    """One recording of a corpus.

    Attributes:
        utt_id: Unique; starts with the speaker's id: ``emodb_03_03a01Fa``.
        speaker: Starts with the corpus: ``emodb_03``. Pad numbers, so that ids sort like speakers.
        wav: The audio file.
        emotion: The publisher's label, one word; ``conf/labels/*.yaml`` maps it.
        language: ISO 639-1: ``de``.
        gender: ``m``, ``f`` or None for unknown.
        text: Transcript, or None for unknown.
    """

    utt_id: str
    speaker: str
    wav: Path
    emotion: str
    language: str
    gender: str | None = None
    text: str | None = None


def find_audio(root: Path, pattern: str) -> Iterator[Path]:
    """Audio files (.wav and .flac, in either case) that match a glob pattern, sorted.

    Hidden files are left out: macOS leaves ``._name.wav`` files, which hold no audio, in archives.

    Args:
        root: The corpus.
        pattern: Folders and file below it, without the suffix: ``Actor_*/*``.
    """
    yield from sorted(
        (
            path
            for path in root.glob(pattern)
            if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".")
        ),
        key=lambda path: path.as_posix(),
    )


def prepare(name: str, utterances: Iterable[Utterance], out: Path) -> DataDir:
    """Check the utterances of a corpus and write its data directory.

    Args:
        name: The corpus, as in ``conf/labels/*.yaml``.
        utterances: In any order.
        out: The data directory to write.

    Returns:
        What was written.

    Raises:
        UserError: An id is illegal or comes twice, a file is missing, or there is no utterance.
    """
    data = DataDir()
    for utt in utterances:
        check_ids(utt.wav, utt.utt_id, utt.speaker)
        if not utt.speaker.startswith((f"{name}_", f"{name}-")):
            raise UserError(
                f"{utt.wav}: speaker id {utt.speaker!r} does not start with the corpus, '{name}_'"
            )
        if utt.utt_id in data.wav_scp:
            raise UserError(
                f"duplicate utterance id {utt.utt_id!r}: "
                f"{data.wav_scp[utt.utt_id]} and {utt.wav}; keep one"
            )
        if not utt.wav.is_file():
            raise UserError(f"{utt.wav}: no such file, for utterance {utt.utt_id!r}")
        if utt.gender and data.spk2gender.setdefault(utt.speaker, utt.gender) != utt.gender:
            raise UserError(f"{utt.wav}: speaker {utt.speaker!r} is m and f")
        data.wav_scp[utt.utt_id] = str(utt.wav)
        data.utt2spk[utt.utt_id] = utt.speaker
        data.utt2lang[utt.utt_id] = utt.language
        data.utt2emotion[utt.utt_id] = utt.emotion
        data.utt2corpus[utt.utt_id] = name
        if utt.text:
            data.text[utt.utt_id] = utt.text
    if not data:
        raise UserError(f"{name}: no utterance found")
    data.write(out)
    return data


def main(
    doc: str | None,
    utterances: Callable[[Path], Iterator[Utterance]],
    argv: Sequence[str] | None = None,
) -> None:
    """Run the command line of a corpus script, which is named after its corpus.

    Args:
        doc: The script's docstring; its line ``Layout: ...`` is shown when the root does not fit.
        utterances: The script's generator.
        argv: Command line; default ``sys.argv[1:]``.
    """
    cli(lambda: _run(doc or "", utterances, argv))


def _run(
    doc: str, utterances: Callable[[Path], Iterator[Utterance]], argv: Sequence[str] | None
) -> None:
    name = Path(inspect.getfile(utterances)).stem
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--root", required=True, help=f"folder of the corpus ({name.upper()} in db.sh)"
    )
    parser.add_argument("--out", required=True, type=Path, help="data directory to write")
    args = parser.parse_args(argv)
    layout = re.search(r"^Layout: (.+)$", doc, flags=re.MULTILINE)
    hint = f"set --root ({name.upper()} in db.sh) to the folder that holds " + (
        layout[1] if layout else "the corpus"
    )
    root = Path(args.root)
    # Path("") would be the current folder: an empty db.sh variable must not mean that.
    if not args.root.strip():
        raise UserError(f"{name}: no folder given; {hint}")
    if not root.is_dir():
        raise UserError(f"{name}: no folder {args.root}; {hint}")
    found = list(utterances(root))
    if not found:
        raise UserError(f"{name}: no utterance found in {args.root}; {hint}")
    data = prepare(name, found, args.out)
    print(f"{name}: {len(data)} utterances, {len(data.speakers)} speakers -> {args.out}")
