"""Pack a trained model in the format of ESPnet's model zoo (stage 12).

The archive holds all that the model needs, the upstream's files included, and no path of the
machine that made it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from espnet2.main_funcs.pack_funcs import pack

from espnet_mtkd.data.files import atomic_path
from espnet_mtkd.errors import cli
from espnet_mtkd.evaluate.markdown import main_table
from espnet_mtkd.tasks.inference import MODEL_FILE, load_model
from espnet_mtkd.tasks.ser import SERTask

# What of a training's config makes the model; the rest is about the machine and the data.
KEYS = ("emotions", "languages", "layers", "feats_info", "version")


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model_dir", required=True, help="Folder of a training (exp/.../mtkd)")
    parser.add_argument("--expdir", required=True, help="Experiment, for the results of the card")
    parser.add_argument("--output", required=True, help="Archive to write (.zip)")
    return parser


def portable_config(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the config of the model; an upstream's files are copied into ``folder``."""
    keys = {*KEYS, *(f"{c.name}{s}" for c in SERTask.class_choices_list for s in ("", "_conf"))}
    config = {key: value for key, value in vars(args).items() if key in keys}
    upstream = config["frontend_conf"].get("path_or_url")
    if upstream is not None:
        source = Path(upstream)
        name = Path("upstream") / (source.name if source.is_file() else "")
        if source.is_file():
            (folder / "upstream").mkdir()
            shutil.copy(source, folder / name)
        else:
            shutil.copytree(source, folder / name)
        # Relative: to the folder of the config, wherever that will be.
        config["frontend_conf"] = {**config["frontend_conf"], "path_or_url": str(name)}
    return config


def model_card(model_dir: Path, results: dict[str, Any]) -> str:
    """Return the README of the archive."""
    experiment = results["experiment"]
    lines = [
        f"# {model_dir.name}: speech emotion recognition in {', '.join(experiment['languages'])}",
        "",
        f"Emotions: {', '.join(experiment['emotions'])}. Trained on "
        f"{', '.join(experiment['corpora'])}, upstream {experiment['upstream']} "
        f"({experiment['upstream_mode']}); this model is that of {model_dir.parts[-3]}, "
        f"{model_dir.parts[-2]}. Licences of the corpora: `local/README.md` of the project.",
        "",
        "Intended for research. Labels of acted speech are not what people feel; do not use the "
        "model to judge people, and expect lower scores on other recordings and languages.",
        "",
        "## Results",
        "",
        f"Protocol {experiment['protocol']}, {len(experiment['folds'])} folds.",
        "",
    ]
    if experiment["synthetic"]:
        lines += ["**Made from a synthetic corpus: for trying and testing, not for claims.**", ""]
    lines += [*main_table(results["test"]), ""]
    lines += ["## Use", "", "```python", "from espnet_mtkd import EmotionRecognizer", ""]
    lines += [f'EmotionRecognizer.from_pretrained("{model_dir.name}.zip")("speech.wav")', "```"]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    """Write the archive."""
    args = get_parser().parse_args(argv)
    model_dir = Path(args.model_dir)
    _, train_args = load_model(model_dir)  # what cannot be loaded must not be packed
    results = json.loads((Path(args.expdir) / "results.json").read_text(encoding="utf-8"))
    with (
        tempfile.TemporaryDirectory() as name,
        atomic_path(Path(args.output).absolute()) as archive,
    ):
        folder = Path(name)
        config = portable_config(train_args, folder)
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")
        shutil.copy(model_dir / MODEL_FILE, folder / "model.pth")
        (folder / "README.md").write_text(model_card(model_dir, results), "utf-8")
        # Members of the archive are named relative to the current folder.
        model_dir = model_dir.absolute()
        with contextlib.chdir(folder):
            files = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
            own = {Path("config.yaml"), Path("model.pth")}
            pack(
                files={"ser_model_file": "model.pth"},
                yaml_files={"ser_train_config": "config.yaml"},
                option=[path for path in files if path not in own],
                outpath=archive,
            )
    print(f"wrote {args.output}")


if __name__ == "__main__":
    cli(main)
