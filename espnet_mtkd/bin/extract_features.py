"""Store what a frozen upstream says of a corpus: every layer, pooled over time (stage 4)."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from espnet_mtkd.data.datadir import write_map
from espnet_mtkd.data.files import write_text
from espnet_mtkd.data.shards import add_shard_options
from espnet_mtkd.errors import UserError, cli
from espnet_mtkd.models import FRAMES
from espnet_mtkd.models.packing import limit_caches
from espnet_mtkd.models.upstream import Upstream, check_upstream
from espnet_mtkd.tasks.extraction import (
    FeatureStore,
    checkpoint_bytes,
    checkpoint_hash,
    entries_of,
    read_recordings,
    store_key,
)
from espnet_mtkd.tasks.ser import pooling_choices


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", required=True, help="Data directory with 16 kHz audio")
    parser.add_argument("--output_dir", required=True, help="Gets feats.scp, info.json, costs.json")
    parser.add_argument(
        "--store_dir", help="Where the arks are, for all corpora; default: .store beside the output"
    )
    parser.add_argument("--upstream", default="fbank_no_cmvn", help="Name of an S3PRL upstream")
    parser.add_argument("--upstream_path", help="Its checkpoint: a file, or a folder for hf_*")
    parser.add_argument(
        "--pooling",
        default="mean",
        choices=["mean", "stats", FRAMES],
        help=f"{FRAMES}: none; stores every frame of the last layer, for hints and for the head of "
        "EmoBox",
    )
    parser.add_argument(
        "--bits", type=int, default=32, choices=[16, 32], help="Bits of a stored number"
    )
    parser.add_argument("--nj", type=int, default=1, help="Processes")
    parser.add_argument(
        "--batch_seconds",
        type=float,
        default=10.0,
        help="Speech in a batch, as far as the upstream's result does not depend on the batch",
    )
    add_shard_options(parser, merge=False)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Compute what is not in the store, then write the corpus's index into it."""
    args = get_parser().parse_args(argv)
    if args.nj < 1:
        raise UserError(f"--nj {args.nj}: must be at least 1")
    limit_caches()
    check_upstream(args.upstream, args.upstream_path)
    output = Path(args.output_dir)
    torch.set_num_threads(1)  # processes use the cores better, and a forked one has no threads
    recordings = read_recordings(args.data_dir)
    if args.shard:  # the store is one; who asks for all of it later finds it there
        recordings = {utt_id: recordings[utt_id] for utt_id in args.shard.of(sorted(recordings))}
    checkpoint = checkpoint_hash(args.upstream_path)
    key = store_key(args.upstream, checkpoint, args.pooling, args.bits)
    store = FeatureStore(Path(args.store_dir or output.parent / ".store") / key, args.bits)
    upstream = Upstream(args.upstream, args.upstream_path)
    pooling = None if args.pooling == FRAMES else pooling_choices.get_class(args.pooling)()
    new = store.add(upstream, pooling, recordings.values(), args.nj, args.batch_seconds)
    print(
        f"{len(recordings)} utterances, {new} of them computed, the others were in {store.folder}"
    )
    frontend_conf = {
        "upstream": args.upstream,
        "path_or_url": args.upstream_path,
        "mode": "frozen",
        "num_layers": upstream.num_layers,
        "hidden_size": upstream.output_size(),
        "num_params": upstream.num_params(),
        "layer_params": upstream.layer_params(),
        "checkpoint": checkpoint,
    }
    costs = {
        **store.costs({recording.sha for recording in recordings.values()}),
        "checkpoint_bytes": checkpoint_bytes(args.upstream_path),
    }
    write_text(output / "costs.json", json.dumps(costs, indent=1) + "\n")
    info = {"pooling": args.pooling, "frontend_conf": frontend_conf}
    if args.pooling == FRAMES:
        info["frame_shift"] = upstream.frame_shift
    write_text(output / "info.json", json.dumps(info, indent=1) + "\n")
    write_map(output / "feats.scp", entries_of(store.index(), recordings))


if __name__ == "__main__":
    cli(main)
