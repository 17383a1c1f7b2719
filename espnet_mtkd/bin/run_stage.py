"""Run one stage of the recipe: make what is missing or out of date.

``run.sh`` calls it, and sees to it that one run at a time is at work in an experiment's folder.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from espnet_mtkd.data.files import refused_by_system
from espnet_mtkd.errors import UserError, cli
from espnet_mtkd.jobs import run_jobs
from espnet_mtkd.plan import Plan

OPTIONS = {
    # where
    "datadir": "data",
    "dumpdir": "dump",
    "expdir": "exp",
    # data
    "corpora": "mini_ser",
    "heldout": "",
    "leave_one_language_out": "false",
    "local_data_opts": "",
    "labels": "four",
    "fs": 16000,
    "min_wav_duration": 0.1,
    "max_wav_duration": 30.0,
    "max_rejects": 0,
    "protocol": "si",
    "num_folds": 4,
    "folds": "all",
    "fold_seed": 0,
    "keep_together": "false",
    "emobox_root": "",
    "labelled_share": 1.0,
    "unlabelled": "",
    "views": 0,
    # models
    "upstream": "fbank_no_cmvn",
    "upstream_path": "",
    "upstream_mode": "frozen",
    "pooling": "stats",
    "shards": 1,
    "feats_bits": 32,
    "systems": "ft kd mtkd_uniform mtkd_cosine_batch mtkd",
    "seeds": "0",
    "teacher_init": "scratch",
    "teacher_ensemble": "false",
    "crossfit": 0,
    "external_teachers": "",
    "teacher_config": "",
    "student_mode": "",
    "student_config": "conf/train_frozen.yaml",
    "teacher_args": "",
    "student_args": "",
    "pack_system": "",
    # jobs
    "ngpu": 0,
    "num_nodes": 1,
    "nj": 2,
    "train_cmd": "",
    "cuda_cmd": "",
    "decode_cmd": "",
    "command": "./run.sh",
}


def get_parser() -> argparse.ArgumentParser:
    """Return the parser; ``run.sh --help`` says what the options mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.error = _refuse  # its usage is not what the user has typed
    parser.add_argument("stage", type=int)
    for name, default in OPTIONS.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--corpus_root", action="append", default=[], help="NAME=FOLDER, repeat")
    return parser


def _refuse(message: str) -> None:
    raise UserError(message.removeprefix("argument "))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the stage."""
    args = get_parser().parse_args(argv)
    if args.pooling not in ("mean", "stats"):
        raise UserError(f"--pooling {args.pooling}: must be mean or stats")
    start = time.monotonic()
    try:
        jobs = Plan(args).stage(args.stage)
        made = run_jobs(jobs, args.nj)
    except OSError as error:  # no room, no permission: the program is not at fault
        refusal = refused_by_system(error)
        if refusal is None:
            raise
        raise refusal from error
    seconds = time.monotonic() - start
    what = f"{made} of {len(jobs)} jobs run" if made else "nothing to do: all is up to date"
    print(f"  {what} ({seconds:.1f} s)")


if __name__ == "__main__":
    cli(main)
