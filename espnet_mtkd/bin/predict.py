"""Recognise the emotion of recordings.

INPUT is an audio file of any format, rate and length, a folder, a pattern in quotes ('rec/*.wav'),
a Kaldi wav.scp, or - for standard input with one path on each line. A recording that cannot be used
is reported, on standard error and in the output, and the others go on; the exit status is 1 only
where none could be used.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

from tqdm import tqdm

from espnet_mtkd.data.files import atomic_path
from espnet_mtkd.errors import UserError, cli
from espnet_mtkd.recognizer import BACKENDS, EmotionRecognizer
from espnet_mtkd.use.output import FORMATS, Writer
from espnet_mtkd.use.recordings import find_recordings


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="What to recognise")
    parser.add_argument(
        "--model",
        required=True,
        help="Archive of stage 12, folder of a training, .onnx file, or user/name on the hub",
    )
    parser.add_argument(
        "--output-format",
        "--output_format",
        choices=FORMATS,
        default="jsonl",
        help="jsonl (all there is), csv, or kaldi (id and emotion); default: jsonl",
    )
    parser.add_argument("--output", default="-", help="File to write; default: -, standard output")
    parser.add_argument("--batch_size", type=int, default=8, help="Windows at a time; default: 8")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    parser.add_argument("--backend", choices=BACKENDS, help="Default: by the kind of --model")
    parser.add_argument(
        "--window",
        type=float,
        help="Longer recordings are heard in windows of so many seconds; default: 10",
    )
    parser.add_argument(
        "--hop", type=float, help="From window to window, seconds; default: half a window"
    )
    return parser


@contextlib.contextmanager
def open_output(path: str) -> Iterator[TextIO]:
    """Open standard output, or a file that appears when all is written."""
    if path == "-":
        yield sys.stdout
        return
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        yield file


def main(argv: Sequence[str] | None = None) -> None:
    """Write a record for each recording."""
    args = get_parser().parse_args(argv)
    recordings = find_recordings(args.inputs)
    if args.output_format == "kaldi":
        for recording in recordings:
            if recording.name.split() != [recording.name]:
                raise UserError(
                    f"--output-format kaldi: an id cannot hold blanks: {recording.name!r}; give a "
                    "wav.scp with ids of your own"
                )
    recognizer = EmotionRecognizer.from_pretrained(
        args.model, args.device, args.backend, args.window, args.hop
    )
    if recognizer.temperature is None:
        print(f"note: {args.model} was never calibrated; its confidence is raw", file=sys.stderr)
    errors: list[UserError] = []
    with open_output(args.output) as file:
        writer = Writer(file, args.output_format, recognizer.emotions, recognizer.languages)
        outcomes = recognizer.predict((r.path for r in recordings), args.batch_size)
        bar = tqdm(outcomes, total=len(recordings), unit="file", disable=None)
        for recording, outcome in zip(recordings, bar, strict=True):
            writer.write(recording, outcome)
            if isinstance(outcome, UserError):
                errors.append(outcome)
                if len(recordings) > 1:
                    tqdm.write(f"warning: {outcome}", file=sys.stderr)
    if len(errors) == len(recordings):
        what = f"none of {len(errors)} recordings could be used; the first: "
        raise UserError(f"{what if len(errors) > 1 else ''}{errors[0]}")
    if errors:
        print(
            f"warning: {len(errors)} of {len(recordings)} recordings could not be used",
            file=sys.stderr,
        )


if __name__ == "__main__":
    cli(main)
