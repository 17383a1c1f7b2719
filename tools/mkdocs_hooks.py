"""What mkdocs.yml needs as code: equations as MathML, the table of corpora, links, roles."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent


def equation(source: str, *_: Any, **__: Any) -> str:
    """HTML of a block ```math: browsers show MathML by themselves, without a script."""
    return f'<div class="equation">{convert(source, display="block")}</div>'


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Make blocks ```math known."""
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {})
    fences["custom_fences"] = [{"name": "math", "class": "math", "format": equation}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the table of corpora, whose links to scripts lead nowhere on the site."""
    text = (ROOT / "local" / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"\[(\w+)\]\(\w+\.py\)", r"`\1`", text)
    files.append(File.generated(config, "corpora.md", content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Of links to files of the project that are no pages, leave the path."""
    return re.sub(r"\[([^\]]+)\]\(\.\./([^)]+)\)", r"\1 (`\2`)", markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Leave of a role such as :class:`~package.Name` the name."""
    return re.sub(r":\w+:<code>~?(?:[\w.]+\.)?(\w+)</code>", r"<code>\1</code>", html)
