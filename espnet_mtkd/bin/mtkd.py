"""Use a trained model: mtkd COMMAND [options]; mtkd COMMAND --help tells more."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from espnet_mtkd import __version__
from espnet_mtkd.errors import UserError, cli

# Imported when called: prediction with the onnx backend must not wait for torch.
COMMANDS = {
    "predict": "recognise the emotion of recordings",
    "pack": "a trained model to one portable archive",
    "export": "an archive to ONNX, also in 8 bits",
    "upload": "an archive to the Hugging Face hub",
    "demo": "a page in the browser to try a model",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Hand over to a command."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(f"{__doc__}\n")
        for name, what in COMMANDS.items():
            print(f"  {name:10}{what}")
        return
    name, *rest = argv
    if name == "--version":
        print(f"espnet-mtkd {__version__}")
        return
    if name not in COMMANDS:
        raise UserError(f"mtkd {name}: no such command; there are {', '.join(COMMANDS)}")
    sys.argv[0] = f"mtkd {name}"  # what the command's --help calls itself
    importlib.import_module(f"espnet_mtkd.bin.{name}").main(rest)


def entry() -> None:
    """The console command ``mtkd``."""
    cli(main)


if __name__ == "__main__":
    entry()
