"""Average the parameters of models that started from the same one: a soup (stage 5).

Wortsman et al. 2022, https://arxiv.org/abs/2203.05482. The average costs at prediction what one of
the models costs. Models that started from different random numbers have nothing to average.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from espnet2.torch_utils.safe_torch_load import safe_torch_load

from espnet_mtkd.data.files import atomic_path, write_text
from espnet_mtkd.errors import UserError, cli
from espnet_mtkd.tasks.inference import load_model
from espnet_mtkd.tasks.ser import SERTask
from espnet_mtkd.use.archive import PARAMETERS_OF_TRAINING


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", required=True, nargs="+", help="Folders of trainings, at least two"
    )
    parser.add_argument(
        "--output_dir",
        required=True,
        help=f"Gets config.yaml and {PARAMETERS_OF_TRAINING}, as a training has",
    )
    return parser


def check_configs(configs: dict[str, dict[str, Any]]) -> None:
    """Check that models, by folder, are of one kind and started from the same one.

    Raises:
        UserError: they are not.
    """
    (first, config), *others = configs.items()
    if not config.get("init_param"):
        raise UserError(
            f"--model {first}: was trained from nothing; only models that started from the same "
            "one (--init_param) can be averaged"
        )
    for folder, other in others:
        for key in sorted(SERTask.model_options() | {"init_param"}):
            if config.get(key) != other.get(key):
                raise UserError(
                    f"--model {folder}: {key} is {other.get(key)}, but {config.get(key)} in "
                    f"{first}; only models that differ in nothing but their training can be "
                    "averaged"
                )


def average(states: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the mean of parameters; what is no floating-point number is that of the first."""
    return {
        key: torch.stack([state[key] for state in states]).mean(0)
        if value.is_floating_point()
        else value
        for key, value in states[0].items()
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Write the average."""
    args = get_parser().parse_args(argv)
    if len(args.model) < 2:
        raise UserError(f"--model {args.model[0]}: an average needs at least two models")
    configs = {}
    for folder in args.model:
        load_model(folder)  # whose parameters do not fit their config must not be averaged
        text = (Path(folder) / "config.yaml").read_text(encoding="utf-8")
        configs[folder] = yaml.safe_load(text)
    check_configs(configs)
    states = [
        safe_torch_load(Path(f) / PARAMETERS_OF_TRAINING, map_location="cpu") for f in args.model
    ]
    output = Path(args.output_dir)
    text = yaml.safe_dump(configs[args.model[0]], sort_keys=False)
    write_text(output / "config.yaml", text)
    with atomic_path(output / PARAMETERS_OF_TRAINING) as temporary, open(temporary, "wb") as file:
        torch.save(average(states), file)


if __name__ == "__main__":
    cli(main)
