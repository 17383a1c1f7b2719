"""Write local/README.md, the table of the corpora, from the docstrings of the scripts in local/.

A docstring has these lines (local/TEMPLATE.py)::

    Language:  de                                         (ISO 639-1, more with spaces)
    Numbers:   535 utterances, 10 speakers, 0.41 hours    (or the word unknown for a number)
    Labels:    Wut Langeweile ...                         (the publisher's)
    Protocols: si, emobox
    Source, Licence, Citation
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_mtkd.data.files import write_text
from espnet_mtkd.data.labels import LabelSet
from espnet_mtkd.errors import UserError, cli

ROOT = Path(__file__).parents[2]
PROTOCOLS = ("si", "official", "emobox")
NUMBERS = r"(\d+|unknown) utterances, (\d+|unknown) speakers, ([\d.]+|unknown) hours"

HEAD = """\
# Corpora

Made by `python -m espnet_mtkd.bin.list_corpora` from the first lines of the scripts; do not edit.

Each script turns a publisher's folder into a data directory. On top of it stand source, licence,
citation, the layout it expects and the traps of the corpus. `db.sh` says where the folders lie.
Numbers are the publisher's or those of EmoBox. For licences the publisher's page counts.

| corpus | language | utterances | speakers | hours | classes | of `four` | licence | protocols |
| --- | --- | ---: | ---: | ---: | ---: | --- | --- | --- |
"""
TAIL = """
`of four`: how many of anger, happiness, neutral and sadness the corpus has. Protocols: `si`
speaker-independent folds, `official` the folds of the corpus or the paper, `emobox` EmoBox's.

`mini_ser` (en, fi, fr) is made on the spot by eSpeak NG: for trying the recipe, never for claims.

Some scripts have options of their own (`python local/iemocap.py --help`). `run.sh` passes them on:
`--local_data_opts "--iemocap.excited=keep --cafe.intensity=strong"`. Where `--help` shows
`--download`, the publisher's server gives the corpus without registration: `--cafe.download`
fetches it into its empty folder, goes on after a cut and verifies the publisher's checksum.

To add a corpus, copy `TEMPLATE.py`.
"""


@dataclass(frozen=True)
class Entry:
    """What the docstring of a script says of its corpus.

    Attributes:
        name: The script's name without ``.py``.
        title: The corpus's own name.
        languages: ISO 639-1.
        utterances: A number, or ``unknown``; so are ``speakers`` and ``hours``.
        labels: The publisher's.
        licence: In one line.
        protocols: Out of :data:`PROTOCOLS`.
    """

    name: str
    title: str
    languages: tuple[str, ...]
    utterances: str
    speakers: str
    hours: str
    labels: tuple[str, ...]
    licence: str
    protocols: tuple[str, ...]


def read_entry(script: Path) -> Entry:
    """Parse the docstring of a corpus script.

    Raises:
        UserError: A line is missing or not of its form.
    """
    doc = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    fields = {}
    for name in ("Language", "Numbers", "Labels", "Protocols", "Source", "Licence", "Citation"):
        # A field goes on in indented lines.
        match = re.search(rf"^{name}:[ ]+(.+(?:\n[ ]{{11}}.+)*)", doc, flags=re.MULTILINE)
        if not match:
            raise UserError(f"{script}: the docstring has no line '{name}: ...'")
        fields[name] = " ".join(match[1].split())
    numbers = re.fullmatch(NUMBERS, fields["Numbers"])
    if not numbers:
        raise UserError(
            f"{script}: Numbers: expected '535 utterances, 10 speakers, 0.41 hours', "
            f"found {fields['Numbers']!r}"
        )
    protocols = tuple(fields["Protocols"].split(", "))
    for protocol in protocols:
        if protocol not in PROTOCOLS:
            raise UserError(
                f"{script}: Protocols: unknown {protocol!r}; known: {', '.join(PROTOCOLS)}"
            )
    return Entry(
        name=script.stem,
        title=re.split("[:,]", doc, maxsplit=1)[0],
        languages=tuple(fields["Language"].split()),
        utterances=numbers[1],
        speakers=numbers[2],
        hours=numbers[3],
        labels=tuple(fields["Labels"].split()),
        licence=fields["Licence"],
        protocols=protocols,
    )


def read_entries(folder: Path) -> list[Entry]:
    """All corpora with a script in a folder, sorted by name; TEMPLATE and mini_ser are none."""
    scripts = sorted(folder.glob("*.py"))
    return [
        read_entry(script)
        for script in scripts
        if script.stem != "TEMPLATE" and not script.stem.startswith("mini_ser")
    ]


def page(entries: Sequence[Entry], four: LabelSet) -> str:
    """The page, in Markdown.

    Args:
        entries: The corpora.
        four: The label set ``four``.
    """
    rows = []
    for entry in entries:
        if entry.name in four.refused:
            covered = "refused"
        else:
            found = {four.map(entry.name, label) for label in entry.labels}
            missing = [emotion for emotion in four.emotions if emotion not in found]
            covered = f"{len(four.emotions) - len(missing)}"
            covered += f" (no {', '.join(missing)})" if missing else ""
        cells = (
            f"[{entry.name}]({entry.name}.py), {entry.title}",
            " ".join(entry.languages),
            entry.utterances,
            entry.speakers,
            entry.hours,
            str(len(entry.labels)),
            covered,
            entry.licence,
            " ".join(entry.protocols),
        )
        rows.append("| " + " | ".join(cells) + " |\n")
    return HEAD + "".join(rows) + TAIL


def get_parser() -> argparse.ArgumentParser:
    """The command line's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--local", type=Path, default=ROOT / "local", help="folder of the scripts")
    parser.add_argument(
        "--labels", type=Path, default=ROOT / "conf/labels/four.yaml", help="label set"
    )
    parser.add_argument("--out", type=Path, help="page to write (default: README.md beside them)")
    parser.add_argument("--check", action="store_true", help="only say whether it is up to date")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page, or check it."""
    args = get_parser().parse_args(argv)
    out = args.out or args.local / "README.md"
    text = page(read_entries(args.local), LabelSet.load(args.labels))
    if not args.check:
        write_text(out, text)
    elif not out.is_file() or out.read_text(encoding="utf-8") != text:
        raise UserError(f"{out}: stale; run python -m espnet_mtkd.bin.list_corpora")


if __name__ == "__main__":
    cli(main)
