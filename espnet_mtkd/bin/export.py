"""Export a trained model to ONNX, for machines without torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_mtkd.errors import UserError, cli
from espnet_mtkd.use.archive import open_model


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", required=True, help="Archive of stage 12, folder of a training, or user/name"
    )
    parser.add_argument(
        "--output", help="File to write (.onnx); default: beside the archive, with its name"
    )
    parser.add_argument(
        "--int8", action="store_true", help="Quantise: smaller and faster, not quite the same"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the model and say how exact it is."""
    args = get_parser().parse_args(argv)
    suffix = ".int8.onnx" if args.int8 else ".onnx"
    path = Path(args.model)
    if args.output is None and not path.is_file():
        raise UserError(f"--output: say where to, as {path.name}{suffix}")
    output = Path(args.output or path.with_name(path.stem + suffix))
    if output.suffix != ".onnx":
        raise UserError(f"--output {output}: must end in .onnx")
    with open_model(args.model) as files:
        from espnet_mtkd.use.export import export

        difference = export(files, output, args.int8)
    size = output.stat().st_size / 1e6
    print(f"wrote {output} ({size:.1f} MB); logits differ from torch's by {difference:.1e} at most")


if __name__ == "__main__":
    cli(main)
