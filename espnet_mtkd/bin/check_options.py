"""Look at options of later stages before the data is made, which may take hours (stage 1)."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from espnet_mtkd.data.files import write_text
from espnet_mtkd.errors import UserError, cli
from espnet_mtkd.models.upstream import check_upstream
from espnet_mtkd.tasks.mtkd import MTKDTask
from espnet_mtkd.tasks.ser import SERTask


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upstream", required=True, help="Name of S3PRL's")
    parser.add_argument("--upstream_path", help="Its checkpoint")
    parser.add_argument("--ngpu", type=int, default=0, help="GPUs that this machine must have")
    parser.add_argument(
        "--training",
        type=json.loads,
        action="append",
        default=[],
        help="A training, as JSON: config, args, and what to call them in a message; repeat",
    )
    parser.add_argument("--output", required=True, type=Path, help="A line for each that is right")
    return parser


def check_training(training: dict[str, Any]) -> str:
    """Let ESPnet's parser read the options of a training; return what they are, as a command.

    Raises:
        UserError: an option that there is not, or with a value that it cannot have.
    """
    task = MTKDTask if training["taught"] else SERTask
    name = training["config_file"]
    if training["system"]:
        name += f", conf/systems/{training['system']}.yaml"
    if training["args"]:
        name += f", --{training['option']} '{' '.join(training['args'])}'"

    def refuse(message: str) -> None:
        raise UserError(f"{name}: {message}")

    parser = task.get_parser()
    parser.error = refuse
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as config:
        yaml.safe_dump(training["config"], config)
        config.flush()
        args = parser.parse_args(["--config", config.name, *training["args"]])
    try:
        task.check_conf(args)
    except UserError as error:
        refuse(str(error))
    return name


def main(argv: Sequence[str] | None = None) -> None:
    """Check all of them."""
    args = get_parser().parse_args(argv)
    check_upstream(args.upstream, args.upstream_path)
    found = torch.cuda.device_count()
    if args.ngpu > found:
        raise UserError(f"--ngpu {args.ngpu}: torch finds {found} GPUs on this machine")
    names = [check_training(training) for training in args.training]
    upstream = f"{args.upstream} {args.upstream_path or ''}".strip()
    write_text(args.output, "".join(f"{name}\n" for name in (f"upstream {upstream}", *names)))


if __name__ == "__main__":
    cli(main)
