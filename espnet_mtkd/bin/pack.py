"""Pack a trained model in the format of ESPnet's model zoo (stage 12).

The archive holds all that the model needs, the upstream's files included, a model card, and no path
of the machine that made it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from espnet2.main_funcs.pack_funcs import pack
from safetensors.torch import save_file

from espnet_mtkd.bin.list_corpora import ROOT, read_entry
from espnet_mtkd.data.files import atomic_path
from espnet_mtkd.distill import without_training
from espnet_mtkd.errors import UserError, cli
from espnet_mtkd.tasks.ser import SERTask
from espnet_mtkd.use.archive import (
    CONFIG,
    FORMAT,
    PARAMETERS,
    WITHOUT_FILES,
    ModelFiles,
    open_model,
    read_folder,
)
from espnet_mtkd.use.card import model_card
from espnet_mtkd.use.features import load_whisper
from espnet_mtkd.use.torch_backend import check_network, trained_model

# Of an upstream's folder: code and the weights of other frameworks are left behind.
IGNORED = ("*.py", "*.h5", "*.msgpack", "*.onnx", ".*", "__pycache__")
WEIGHTS = ("*.safetensors", "*.bin", "*.index.json")  # of which a slice has its own


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model_dir", required=True, help="Folder of a training (exp/.../mtkd)")
    parser.add_argument("--expdir", required=True, help="Experiment, for the results of the card")
    parser.add_argument("--output", required=True, help="Archive to write (.zip)")
    return parser


def portable_config(files: ModelFiles, folder: Path, last: int | None) -> dict[str, Any]:
    """Return the config of the archive; an upstream's files are copied into ``folder``.

    Args:
        last: of :func:`unused_above`.
    """
    keys = SERTask.model_options() | {"feats_info", "version"}
    config = {key: value for key, value in files.config.items() if key in keys}
    config["mtkd_format"] = FORMAT
    config["temperature"] = files.temperature
    frontend = config["frontend_conf"]
    upstream = frontend.get("path_or_url")
    if upstream is None:
        if files.upstream not in (None, *WITHOUT_FILES):
            raise UserError(
                f"{files.name}: upstream {files.upstream} was loaded from the internet, so "
                "there are no files to pack; train with --upstream_path"
            )
        return config
    source = Path(upstream)
    if not source.exists():
        raise UserError(f"{upstream}: no such upstream; {files.name} was trained with it")
    name = Path("upstream") / (source.name if source.is_file() else "")
    kept = frontend.get("keep_layers") if frontend.get("mode") == "finetune" else last
    if kept is not None and (source / "model.safetensors").is_file():
        write_slice(source, folder / name, kept)
    elif source.is_file():
        (folder / "upstream").mkdir()
        shutil.copy(source, folder / name)
    else:
        shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns(*IGNORED))
    # Relative: to the folder of the config, wherever that will be.
    config["frontend_conf"] = {**frontend, "path_or_url": str(name)}
    return config


def unused_above(files: ModelFiles) -> int | None:
    """Return the last layer of a frozen Whisper that a model uses; None if it uses the last."""
    conf = files.config["frontend_conf"]
    if files.upstream != "hf_whisper_custom" or conf.get("mode", "frozen") != "frozen":
        return None
    if None in (files.config.get("layers"), conf.get("num_layers")) or "keep_layers" in conf:
        return None
    if not (Path(conf["path_or_url"]) / "model.safetensors").is_file():
        return None  # another form of parameters: all of it is packed
    last = max(used_layers(files.config))
    return last if last < conf["num_layers"] - 1 else None


def used_layers(config: dict[str, Any]) -> list[int]:
    """Return the layers that a model uses, counted from 0."""
    layers, count = config["layers"], config["frontend_conf"]["num_layers"]
    return [layer % count for layer in ([layers] if isinstance(layers, int) else layers)]


def write_slice(source: Path, folder: Path, keep_layers: int) -> None:
    """Write the first layers of a Whisper encoder as a Hugging Face folder of its own."""
    encoder = load_whisper(source, {}, keep_layers, raw=True)
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(*IGNORED, *WEIGHTS))
    # Loading it as a whole encoder asks for a last normalisation, which then is not used.
    size = encoder.conv2.out_channels
    norm = {"layer_norm.weight": torch.ones(size), "layer_norm.bias": torch.zeros(size)}
    state = {key: value.contiguous() for key, value in encoder.state_dict().items()}
    save_file({**state, **norm}, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config.update(encoder_layers=keep_layers, architectures=["WhisperEncoder"])
    (folder / "config.json").write_text(json.dumps(config, indent=1), "utf-8")


def cut(config: dict[str, Any], state: dict[str, torch.Tensor], keep_layers: int) -> None:
    """Fit config and parameters of a model to an upstream that ends at a layer."""
    config["layers"] = used_layers(config)
    conf = config["frontend_conf"]
    # The number of parameters is that of what is loaded.
    for fact in ("num_layers", "hidden_size", "num_params", "layer_params"):
        conf.pop(fact, None)
    conf.update(keep_layers=keep_layers, raw=True)
    for name in ("normalize.mean", "normalize.deviation"):
        if name in state:
            state[name] = state[name][: keep_layers + 1].clone()


def languages_and_licence(corpus: str) -> tuple[str, str]:
    """Return what the script of a corpus says of it."""
    if corpus == "mini_ser":
        return "en fi fr", "synthetic, made on the spot by eSpeak NG"
    for folder in (Path("local"), ROOT / "local"):
        script = folder / f"{corpus}.py"
        if script.is_file():
            entry = read_entry(script)
            return " ".join(entry.languages), entry.licence
    raise UserError(f"corpus {corpus}: no local/{corpus}.py, which says its licence")


def main(argv: Sequence[str] | None = None) -> None:
    """Write the archive."""
    args = get_parser().parse_args(argv)
    model_dir, expdir = Path(args.model_dir), Path(args.expdir)
    files = read_folder(model_dir)
    trained = trained_model(files)  # what cannot be loaded must not be packed
    if files.temperature is None:
        raise UserError(f"{model_dir}/dev.tsv: no such file; calibration needs it (stage 8)")
    try:
        results = json.loads((expdir / "results.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{expdir}/results.json: no such file; stage 9 makes it") from None
    with (
        tempfile.TemporaryDirectory() as name,
        atomic_path(Path(args.output).absolute()) as archive,
    ):
        folder = Path(name)
        last = unused_above(files)
        config = portable_config(files, folder, last)
        state = torch.load(files.parameters, map_location="cpu", weights_only=True)
        state = without_training(state)
        if last is not None:
            cut(config, state, last)
        torch.save(state, folder / "model.pth")
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")
        run = ", ".join(model_dir.absolute().parts[-3:-1]).replace("_", " ")
        corpora = {c: languages_and_licence(c) for c in results["experiment"]["corpora"]}
        card = model_card(model_dir.name, config, results, run, corpora)
        (folder / "README.md").write_text(card, "utf-8")
        members = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
        # ESPnet names members relative to the current folder, and tells of each.
        with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
            pack(
                files={PARAMETERS: "model.pth"},
                yaml_files={CONFIG: "config.yaml"},
                option=[m for m in members if str(m) not in ("config.yaml", "model.pth")],
                outpath=archive,
            )
        with open_model(archive) as packed:
            check_network(replace(packed, name=args.output), trained)
    print(f"wrote {args.output}")


if __name__ == "__main__":
    cli(main)
