"""Stage 2: the audio of a data directory to mono FLAC at one rate, with checks."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_mtkd.data.audio import Form, format_corpus, format_shard
from espnet_mtkd.data.datadir import DataDir
from espnet_mtkd.data.shards import add_shard_options
from espnet_mtkd.data.wavheader import SAMPLE_RATE
from espnet_mtkd.errors import UserError, cli


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--in", dest="source", type=Path, required=True, help="data directory")
    parser.add_argument("--out", type=Path, required=True, help="data directory to write")
    parser.add_argument("--fs", type=int, default=SAMPLE_RATE, help="sampling rate, Hz")
    parser.add_argument("--nj", type=int, default=1, help="processes")
    parser.add_argument("--min_wav_duration", type=float, default=0.1, help="seconds")
    parser.add_argument("--max_wav_duration", type=float, default=30.0, help="seconds")
    parser.add_argument(
        "--max_rejects", type=int, default=0, help="how many unusable utterances may be left out"
    )
    add_shard_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = get_parser().parse_args(argv)
    for option in ("fs", "nj", "max_wav_duration"):
        if not getattr(args, option) > 0:
            raise UserError(f"--{option} {getattr(args, option)}: must be more than 0")
    for option in ("max_rejects", "min_wav_duration"):
        if not getattr(args, option) >= 0:
            raise UserError(f"--{option} {getattr(args, option)}: must be 0 or more")
    if args.min_wav_duration > args.max_wav_duration:
        raise UserError(
            f"--min_wav_duration {args.min_wav_duration} is more than "
            f"--max_wav_duration {args.max_wav_duration}"
        )
    if args.source.resolve() == args.out.resolve():
        raise UserError(f"--out {args.out}: must not be the same as --in")
    form = Form(args.fs, args.min_wav_duration, args.max_wav_duration)
    data = DataDir.load(args.source)
    if args.shard:
        done = len(format_shard(data, args.out, form, args.nj, args.shard))
        print(f"{args.out.name}: {done} of {len(data)} utterances")
        return
    results = format_corpus(data, args.out, form, args.nj, args.max_rejects, args.shards)
    kept = [audio for audio in results if not audio.reject]
    written = sum(Path(audio.path).parent == args.out / "audio" for audio in kept)
    hours = sum(audio.num_samples for audio in kept) / args.fs / 3600
    print(
        f"{args.out.name}: {len(kept)} utterances, {hours:.2f} h -> {args.out} ({written} "
        f"converted, {len(kept) - written} in place, {len(results) - len(kept)} rejected)"
    )
    odd = [audio for audio in kept if audio.warning]
    if odd:
        print(
            f"warning: {len(odd)} utterances are odd, see {args.out / 'rejects.tsv'}; the first is "
            f"{odd[0].utt_id}: {odd[0].warning}"
        )


if __name__ == "__main__":
    cli(main)
