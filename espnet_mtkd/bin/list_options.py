"""Write docs/config.md, every option of the recipe and every key of a training's YAML.

The page is made from ``run.sh``, from the parsers of the tasks and from the docstrings of the
classes that the keys build.
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import yaml
from espnet2.train.class_choices import ClassChoices

from espnet_mtkd.data.files import write_text
from espnet_mtkd.distill.features import FeatureLoss
from espnet_mtkd.distill.loss import MultiTeacherLoss
from espnet_mtkd.errors import UserError, cli
from espnet_mtkd.models.adapters import add_lora
from espnet_mtkd.models.mtkd_model import ESPnetMTKDModel
from espnet_mtkd.systems import ROOT, System
from espnet_mtkd.tasks.mtkd import MTKDTask

HEAD = """\
# Every option

Made by `python -m espnet_mtkd.bin.list_options`; do not edit.

An experiment is described in three places: options of `./run.sh`, a YAML file per training in
`conf/`, and a YAML file per system in `conf/systems/`. What a system's file says counts more than
the training's, and its `*_conf` adds to the training's.
"""
SYSTEMS = """\
## Systems

`conf/systems/NAME.yaml` is chosen by `--systems NAME`. Beside the keys of a training it has:
"""
ESPNET = """\
## Keys of ESPnet that the recipe sets

Every option of ESPnet's `AbsTask` may stand in a training's YAML;
`python -m espnet_mtkd.bin.mtkd_train --help` lists them. These are the ones that files in `conf/`
set.
"""


def cell(text: object) -> str:
    """Text that may stand in a table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def table(rows: Iterable[tuple[str, object, str]]) -> str:
    """Rows of name, default and meaning."""
    lines = ["| key | default | |", "| --- | --- | --- |"]
    lines += [f"| `{name}` | {default} | {cell(text)} |" for name, default, text in rows]
    return "\n".join(lines) + "\n"


def plain(docstring: str) -> str:
    """Markdown of what a docstring writes for Sphinx."""
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", docstring)
    return re.sub(r"``(.+?)``", r"`\1`", text)


def described(maker: Callable, section: str = "Args") -> dict[str, str]:
    """What a section of the docstring of a class or function says of each name."""
    found: dict[str, str] = {}
    names: list[str] = []
    _, _, block = (inspect.getdoc(maker) or "").partition(f"{section}:\n")
    for line in block.splitlines():
        if line and not line.startswith(" "):
            break  # the next section
        entry = re.match(r"    (\**\w+(?:, \w+)*): (.*)", line)
        if entry:
            names = entry[1].split(", ")
            found |= dict.fromkeys(names, entry[2])
        else:
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return {name: plain(text) for name, text in found.items()}


def first_sentence(text: str) -> str:
    """What a help text starts with."""
    return re.split(r"(?<=[.!?])\s", " ".join(text.split()), maxsplit=1)[0]


def conf_rows(maker: Callable, without: Sequence[str] = ()) -> list[tuple[str, str, str]]:
    """The keys of a ``*_conf`` that become arguments of ``maker``.

    Args:
        maker: a class or function with a docstring.
        without: arguments that no configuration gives.

    Raises:
        UserError: the docstring does not say what an argument is.
    """
    said: dict[str, str] = {}
    for base in reversed(inspect.getmro(maker) if inspect.isclass(maker) else [maker]):
        said |= described(base)
    rows = []
    for name, parameter in inspect.signature(maker).parameters.items():
        if name in without or parameter.kind is parameter.VAR_KEYWORD:
            continue
        if name not in said:
            raise UserError(f"{maker.__name__}: its docstring does not say what {name} is")
        required = parameter.default is parameter.empty
        rows.append((name, "must be given" if required else f"`{parameter.default}`", said[name]))
    return rows


def class_section(choices: ClassChoices) -> list[str]:
    """One family of classes: what may be chosen, and the keys of each."""
    # What the task passes by itself.
    given = {
        "model": ("emotions", "languages", "frontend", "pooling", "normalize", "layer_weighting")
        + ("head",),
        "head": ("input_size", "num_classes"),
        "normalize": ("shape",),
        "weighting": ("teachers", "languages"),
    }
    lines = [f"### `{choices.name}` and `{choices.name}_conf`", ""]
    for name, cls in choices.classes.items():
        default = " (default)" if name == choices.default else ""
        first = plain(inspect.getdoc(cls) or "").split("\n\n")[0]
        lines += [f"**`{choices.name}: {name}`**{default}. {' '.join(first.split())}", ""]
        rows = conf_rows(cls, given.get(choices.name, ()))
        if rows:
            lines += [table(rows)]
    if choices.name == "frontend":
        lines += [
            "`lora_conf` in it, for `mode: lora`:",
            "",
            table(conf_rows(add_lora, ["upstream"])),
        ]
    return lines


def recipe_rows(script: str) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """The options of ``run.sh`` in their groups, from the lines that define them."""
    groups: list[tuple[str, list[tuple[str, str, str]]]] = []
    for line in script.partition("\nstages() {")[0].splitlines():
        if re.fullmatch(r"# (General|Data|Models)", line):
            groups.append((line[2:], []))
        option = re.fullmatch(r"([a-z_]+)=(\"[^\"]*\"|\S*)\s+# (.*)", line)
        if option and groups:
            value = option[2].strip('"')
            groups[-1][1].append((f"--{option[1]}", f"`{value}`" if value else "", option[3]))
    return groups


def page(root: Path) -> str:
    """The page, in Markdown."""
    parser = MTKDTask.get_parser()
    actions = {action.dest: action for action in parser._actions}
    families = {choices.name: choices for choices in MTKDTask.class_choices_list}
    lines = [HEAD, "## Options of `./run.sh`", ""]
    for title, rows in recipe_rows((root / "run.sh").read_text(encoding="utf-8")):
        lines += [f"### {title}", "", table(rows)]
    said = described(System, "Attributes")
    keys = (("teachers", "must be given"), ("teaching", "`cached`"), ("hints", "`false`"))
    lines += [SYSTEMS, table((key, default, said[key]) for key, default in keys)]
    lines += ["## A training: the task's own keys", ""]
    own = [
        action
        for group in parser._action_groups
        if group.title in ("Task related", "Distillation")
        for action in group._group_actions
        if action.dest.removesuffix("_conf") not in families and action.dest != "distill_conf"
    ]
    lines.append(table((a.dest, f"`{a.default}`", a.help or "") for a in own))
    for choices in families.values():
        lines += class_section(choices)
    lines += ["### `distill_conf`", "", plain(inspect.getdoc(MultiTeacherLoss).split("\n\n")[0])]
    lines += ["", table(distillation_rows()), ESPNET]
    used = set()
    for path in sorted(root.glob("conf/*.yaml")):
        used |= set(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    known = {action.dest for action in own} | {f"{f}{s}" for f in families for s in ("", "_conf")}
    names = sorted(used - known - {"distill_conf"})
    rows = []
    for name in names:
        help_text, choices = actions[name].help or "", actions[name].choices
        # A help text that starts with a choice goes on for a page.
        listed = f"one of {', '.join(f'`{choice}`' for choice in choices or ())}"
        text = listed if help_text.strip().startswith('"') else first_sentence(help_text)
        rows.append((name, f"`{actions[name].default}`", text))
    lines.append(table(rows))
    return "\n".join(lines).rstrip() + "\n"


def distillation_rows() -> list[tuple[str, str, str]]:
    """The keys of ``distill_conf``: those of the student, of the loss, of the loss of features."""
    # What the task builds and passes by itself.
    made = ("teachers", "weighting", "distill_loss", "live_teachers", "feature_loss")
    rows = conf_rows(ESPnetMTKDModel, made)
    kind = inspect.signature(FeatureLoss).parameters["kind"].default
    rows.append(("feature_loss", f"`{kind}`", described(FeatureLoss)["kind"]))
    return [*rows, *conf_rows(MultiTeacherLoss)]


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/config.md", help="page to write")
    parser.add_argument("--check", action="store_true", help="only say whether it is up to date")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page, or check it."""
    args = get_parser().parse_args(argv)
    text = page(ROOT)
    if not args.check:
        write_text(args.out, text)
    elif not args.out.is_file() or args.out.read_text(encoding="utf-8") != text:
        raise UserError(f"{args.out}: stale; run python -m espnet_mtkd.bin.list_options")


if __name__ == "__main__":
    cli(main)
