"""What the scripts in ``local/`` share: from a publisher's folders to a data directory.

A script has a docstring (source, licence, citation, layout, traps) and a generator
``utterances(root)``; everything else is here. ``local/TEMPLATE.py`` shows how. A script may have
options of its own, which its generator takes as keyword arguments, and files to download.
"""

from __future__ import annotations

import argparse
import inspect
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_mtkd.data.datadir import DataDir, check_ids, fits_line, write_map
from espnet_mtkd.data.download import Zenodo, fetch, unpack
from espnet_mtkd.errors import UserError, cli

AUDIO_SUFFIXES = (".aif", ".aiff", ".flac", ".mp3", ".ogg", ".wav")


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
        agreement: Share of the annotators who chose the label, 0 to 1, or None for unknown; it goes
            to the file ``utt2agreement``.
    """

    utt_id: str
    speaker: str
    wav: Path
    emotion: str
    language: str
    gender: str | None = None
    text: str | None = None
    agreement: float | None = None


def find_audio(root: Path, pattern: str) -> Iterator[Path]:
    """Audio files (:data:`AUDIO_SUFFIXES`, in either case) that match a glob pattern, sorted.

    Hidden files and folders are left out, and ``__MACOSX``: macOS leaves ``._name.wav`` files,
    which hold no audio, in archives.

    Args:
        root: The corpus.
        pattern: Folders and file below it, without the suffix: ``Actor_*/*``; ``**/*`` for any
            depth.
    """
    yield from sorted(
        (
            path
            for path in root.glob(pattern)
            if path.suffix.lower() in AUDIO_SUFFIXES
            and not any(
                part.startswith(".") or part == "__MACOSX" for part in path.relative_to(root).parts
            )
        ),
        key=lambda path: path.as_posix(),
    )


def match_name(path: Path, pattern: str, form: str) -> re.Match[str]:
    """The parts of a file's name.

    Args:
        path: The file.
        pattern: A regular expression for the whole name without its suffix.
        form: How a name of the corpus looks, for the message: ``EmoDB, SSTTTEv (03a01Fa)``.

    Raises:
        UserError: The name does not fit. Never skip what you do not know: it may be a label.
    """
    match = re.fullmatch(pattern, path.stem)
    if not match:
        raise UserError(f"{path}: not a name of {form}: move it elsewhere")
    return match


def prepare(name: str, utterances: Iterable[Utterance], out: Path) -> DataDir:
    """Check the utterances of a corpus and write its data directory.

    A path that is not UTF-8, or has a line break or a pipe in it, is reached through ``out/links``.

    Args:
        name: The corpus, as in ``conf/labels/*.yaml``.
        utterances: In any order.
        out: The data directory to write.

    Returns:
        What was written.

    Raises:
        UserError: An id is illegal or comes twice, a file is missing, or there is no utterance.
    """
    data, agreement, links = DataDir(), {}, out / "links"
    shutil.rmtree(links, ignore_errors=True)  # of an earlier run
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
        # A link that leads nowhere, or in a circle, is for stage 2 to list among its rejects.
        if not utt.wav.is_file() and not utt.wav.is_symlink():
            raise UserError(f"{utt.wav}: no such file, for utterance {utt.utt_id!r}")
        if utt.gender and data.spk2gender.setdefault(utt.speaker, utt.gender) != utt.gender:
            raise UserError(f"{utt.wav}: speaker {utt.speaker!r} is m and f")
        data.wav_scp[utt.utt_id] = _path_or_link(utt, links)
        data.utt2spk[utt.utt_id] = utt.speaker
        data.utt2lang[utt.utt_id] = utt.language
        data.utt2emotion[utt.utt_id] = utt.emotion
        data.utt2corpus[utt.utt_id] = name
        if utt.text:
            data.text[utt.utt_id] = utt.text
        if utt.agreement is not None:
            agreement[utt.utt_id] = f"{utt.agreement:.2f}"
    if not data:
        raise UserError(f"{name}: no utterance found")
    data.write(out)
    (out / "utt2agreement").unlink(missing_ok=True)
    if agreement:
        write_map(out / "utt2agreement", agreement)
    return data


def _path_or_link(utt: Utterance, links: Path) -> str:
    """The path of the audio, or of a link to it where a line of wav.scp cannot hold the path."""
    if fits_line(str(utt.wav)) and "|" not in str(utt.wav):
        return str(utt.wav)
    links.mkdir(parents=True, exist_ok=True)
    link = links / (utt.utt_id + utt.wav.suffix.strip())
    link.symlink_to(utt.wav.absolute())
    return str(link)


def main(
    doc: str | None,
    utterances: Callable[..., Iterator[Utterance]],
    add_options: Callable[[argparse.ArgumentParser], None] | None = None,
    download: Sequence[Zenodo] = (),
    argv: Sequence[str] | None = None,
) -> None:
    """Run the command line of a corpus script, which is named after its corpus.

    All scripts of an experiment get the same options. ``--<corpus>.<option>=<value>`` is for one of
    them; the others pass over it.

    Args:
        doc: The script's docstring; its line ``Layout: ...`` is shown when the root does not fit.
        utterances: The script's generator: ``utterances(root)``, and the values of its options as
            keyword arguments.
        add_options: Adds the script's own options to the parser.
        download: Zip files that ``--download`` fetches into the root.
        argv: Command line; default ``sys.argv[1:]``.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    cli(lambda: _run(doc or "", utterances, add_options, download, arguments))


def _run(
    doc: str,
    utterances: Callable[..., Iterator[Utterance]],
    add_options: Callable[[argparse.ArgumentParser], None] | None,
    download: Sequence[Zenodo],
    argv: list[str],
) -> None:
    script = Path(inspect.getfile(utterances))
    name = script.stem
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--root", required=True, help=f"folder of the corpus ({name.upper()} in db.sh)"
    )
    parser.add_argument("--out", required=True, type=Path, help="data directory to write")
    if download:
        files = ", ".join(f"{file.name} of zenodo.org/records/{file.record}" for file in download)
        parser.add_argument(
            "--download",
            action="store_true",
            help=f"if the root holds no utterance, download and unpack {files} into it",
        )
    shared = {"root", "out", "download"}
    if add_options:
        add_options(parser)
    args = parser.parse_args(_own_options(argv, script))
    options = {key: value for key, value in vars(args).items() if key not in shared}
    layout = re.search(r"^Layout: (.+)$", doc, flags=re.MULTILINE)
    hint = f"set --root ({name.upper()} in db.sh) to the folder that holds " + (
        layout[1] if layout else "the corpus"
    )
    root = Path(args.root)
    # Path("") would be the current folder: an empty db.sh variable must not mean that.
    if not args.root.strip():
        raise UserError(f"{name}: no folder given; {hint}")
    if getattr(args, "download", False):
        _download(name, root, download, lambda: any(True for _ in utterances(root, **options)))
    if not root.is_dir():
        raise UserError(f"{name}: no folder {args.root}; {hint}")
    found = list(utterances(root, **options))
    if not found:
        raise UserError(f"{name}: no utterance found in {args.root}; {hint}")
    data = prepare(name, found, args.out)
    print(f"{name}: {len(data)} utterances, {len(data.speakers)} speakers -> {args.out}")


def _own_options(argv: list[str], script: Path) -> list[str]:
    """Options for this script: those for others dropped, ``--<this>.option`` without its prefix."""
    own = []
    for argument in argv:
        match = re.match(r"--(\w+)\.(\w+)(=|$)", argument)
        if not match:
            own.append(argument)
        elif match[1] == script.stem:
            own.append("--" + argument[match.start(2) :])
        elif not script.with_name(f"{match[1]}.py").is_file():
            raise UserError(f"{argument}: no corpus {match[1]}: there is no local/{match[1]}.py")
    return own


def _download(
    name: str, root: Path, download: Sequence[Zenodo], is_there: Callable[[], bool]
) -> None:
    archives = [root / file.name for file in download]
    # An archive that is still there was not unpacked to its end.
    if root.is_dir() and not any(path.exists() for path in archives) and is_there():
        print(f"{name}: {root} holds the corpus; nothing is downloaded")
        return
    for file in download:
        unpack(fetch(file.locate(), root), root)
