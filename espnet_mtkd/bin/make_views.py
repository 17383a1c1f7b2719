"""Write views of a corpus: other speeds, noise, rooms (stage 2)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import soundfile

from espnet_mtkd.data.audio import Form, format_corpus, to_pcm
from espnet_mtkd.data.datadir import DataDir
from espnet_mtkd.data.files import atomic_path
from espnet_mtkd.data.processes import spawn_pool
from espnet_mtkd.data.views import VIEW_MARK, make_view
from espnet_mtkd.errors import UserError, cli


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in", dest="source", type=Path, required=True, help="after format_audio")
    parser.add_argument("--out", type=Path, required=True, help="data directory to write")
    parser.add_argument("--views", type=int, required=True, help="views of every utterance")
    parser.add_argument("--nj", type=int, default=1, help="processes")
    return parser


def write_view(source: str, view: str, target: Path) -> None:
    """Write one view of a recording as FLAC."""
    samples, fs = soundfile.read(source, dtype="float32")
    with atomic_path(target, sync=False) as temporary:
        pcm = to_pcm(make_view(samples, fs, view))
        soundfile.write(temporary, pcm, fs, format="FLAC", subtype="PCM_16")


def main(argv: Sequence[str] | None = None) -> None:
    """Write the data directory."""
    args = get_parser().parse_args(argv)
    if args.views < 1:
        raise UserError(f"--views {args.views}: must be 1 or more")
    data = DataDir.load(args.source)
    if not data.utt2num_samples:
        raise UserError(
            f"{args.source}: no utt2num_samples; run espnet_mtkd.bin.format_audio first"
        )
    of = {f"{u}{VIEW_MARK}{n}": u for u in data.utterances for n in range(1, args.views + 1)}
    folder = args.out / "views"
    views = DataDir(wav_scp={view: str(folder / f"{view}.flac") for view in of})
    for name in ("utt2spk", "utt2lang", "utt2emotion", "utt2corpus"):
        records = getattr(data, name)
        setattr(views, name, {view: records[utt] for view, utt in of.items()})
    views.spk2gender = data.spk2gender
    with spawn_pool(args.nj) as pool:
        sources = [data.wav_scp[utt] for utt in of.values()]
        targets = [Path(path) for path in views.wav_scp.values()]
        for _ in pool.map(write_view, sources, of, targets, chunksize=16):
            pass
    # Measured as every corpus is; the files have their form already and stay where they are.
    longest = max(float(seconds) for seconds in data.utt2dur.values())
    fs = int(soundfile.info(sources[0]).samplerate)
    format_corpus(views, args.out, Form(fs, 1 / fs, 2 * longest), args.nj)
    print(f"{args.out.name}: {len(of)} views of {len(data)} utterances")


if __name__ == "__main__":
    cli(main)
