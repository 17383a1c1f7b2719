"""Pieces of an HTML page: its frame and style, tables, heat maps, figures, simple Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

# What the plots and everything below are coloured with.
LIGHT = """\
  --page: #ffffff; --ink: #1b1f24; --quiet: #5a626d; --faint: #c9ced6; --panel: #f4f6f8;
  --soft: #b4bac3; --plain: #7fa8d1; --accent: #e39a3b; --heat: 8 64 129; --hot: #ffffff;
  --alarm: #8f2d00; --alarm-page: #fff1e0; --link: #0b5fa5;
  --series0: #0072b2; --series1: #d55e00; --series2: #009e73; --series3: #c0609a;
  --series4: #a87900; --series5: #3da3dd; --series6: #7a4fc4; --series7: #6b727c;"""
DARK = """\
  --page: #14171c; --ink: #e6e9ee; --quiet: #a3abb8; --faint: #434a56; --panel: #1d2129;
  --soft: #5d6674; --plain: #3d73a8; --accent: #bd6f12; --heat: 40 110 190; --hot: #ffffff;
  --alarm: #ffc48a; --alarm-page: #38250f; --link: #7cbcf2;
  --series0: #4da6e0; --series1: #ff8a3c; --series2: #2fc79a; --series3: #e39bc4;
  --series4: #e0bd45; --series5: #97d5f7; --series6: #b394f0; --series7: #a8adb5;"""
COLOURS = f"""
:root {{ color-scheme: light dark;
{LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{
{DARK} }} }}
"""
RULES = """\
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.2rem 1rem 3rem; background: var(--page);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans",
  "Liberation Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .5rem; padding-top: .9rem;
  border-top: 1px solid var(--faint); }
h3 { font-size: 1.02rem; margin: 1.4rem 0 .4rem; }
h4, h5, h6 { font-size: .95rem; margin: 1rem 0 .3rem; }
p { margin: .5rem 0; max-width: 46rem; }
nav { font-size: .9rem; } nav a { display: inline-block; margin-right: 1rem; padding: .15rem 0; }
a { color: var(--link); }
.quiet, figcaption { color: var(--quiet); font-size: .88rem; }
.alarm { background: var(--alarm-page); color: var(--alarm); border-left: 4px solid currentColor;
  padding: .6rem .8rem; margin: .8rem 0; max-width: 46rem; }
.loud { font-weight: 650; font-size: 1.05rem; max-width: none; }
.verdict { font-size: 1.08rem; max-width: none; }
.scroll { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: 0 0 .3rem; }
th, td { padding: .3rem .55rem; text-align: right; white-space: nowrap; }
th { font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; }
table.data thead th { border-bottom: 1px solid var(--ink); }
table.data tbody tr + tr > * { border-top: 1px solid var(--faint); }
table.data tbody th { font-weight: 500; position: sticky; left: 0; background: var(--page); }
table.data tr.focus th, table.data tr.focus td { font-weight: 650; }
td small { color: var(--quiet); font-weight: 400; font-size: .82em; margin-left: .25em; }
table.heat { width: 100%; max-width: 24rem; table-layout: fixed; font-size: .82rem; }
table.heat th, table.heat td { padding: .4rem .25rem; text-align: center; overflow: hidden;
  text-overflow: ellipsis; }
table.heat thead th { font-size: .7rem; font-weight: 500; padding: .3rem .05rem; }
table.heat th:first-child { width: 26%; }
table.heat tbody th { text-align: right; font-weight: 500; }
table.heat td { background: rgb(var(--heat) / var(--v)); border: 2px solid var(--page); }
table.heat td.hot { color: var(--hot); }
.grid + .grid { margin-top: 1.2rem; }
.grid { display: grid; gap: 1rem 1.6rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 20.5rem), 1fr)); }
figure { margin: 0; min-width: 0; } figure svg { width: 100%; max-width: 26rem; height: auto; }
figure svg text { font-family: inherit !important; }
figure h3, figure h4 { margin: .3rem 0 .2rem; font-size: .95rem; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; padding: 0; margin: .4rem 0 .8rem;
  list-style: none; font-size: .88rem; }
.legend svg { vertical-align: middle; margin-right: .4rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; font-size: .92rem;
  margin: .6rem 0; } dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
pre { background: var(--panel); padding: .7rem .8rem; white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: .85rem; }
details { margin: .5rem 0; } summary { cursor: pointer; padding: .3rem 0; }
.card { background: var(--panel); padding: .5rem .8rem; min-width: 0; overflow-wrap: anywhere; }
.card h4 { margin: 0; } .card dl { grid-template-columns: max-content 1fr; margin: .2rem 0; }
.card audio { width: 100%; height: 2.2rem; }
@media (max-width: 32rem) { main > dl, header > dl { grid-template-columns: 1fr; }
  main > dl > dd, header > dl > dd { margin-bottom: .3rem; } }
"""
STYLE = COLOURS + RULES


def escape(text: object) -> str:
    """Text made safe for HTML."""
    return html.escape(str(text))


def document(title: str, body: Iterable[str]) -> str:
    """A whole page that needs nothing but itself."""
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            "</head>",
            "<body>",
            *body,
            "</body>",
            "</html>",
            "",
        ]
    )


def definition_list(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and values."""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)
    return f"<dl>{rows}</dl>"


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "", focus: str = ""
) -> str:
    """A table that scrolls sideways where it must.

    Args:
        header: Texts of the columns.
        rows: Cells as texts; an interval in brackets is shown smaller.
        caption: What the table shows.
        focus: First cell of the row to stress.
    """
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in header)
    body = []
    for first, *cells in rows:
        mark = ' class="focus"' if first == focus else ""
        texts = (re.sub(r" (\[.*\])$", r"<small>\1</small>", escape(cell)) for cell in cells)
        data = "".join(f"<td>{text}</td>" for text in texts)
        body.append(f'<tr{mark}><th scope="row">{escape(first)}</th>{data}</tr>')
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll" tabindex="0"><table class="data">{title}'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def heat_map(
    caption: str,
    corner: str,
    columns: Sequence[str],
    rows: Sequence[tuple[str, Sequence[float | None], Sequence[str]]],
) -> str:
    """A table whose cells are coloured by value.

    Args:
        caption: What it shows.
        corner: What rows and columns are.
        columns: Names of the columns.
        rows: Name, values in 0..1 (None: no colour) and tool tips.
    """
    head = "".join(f'<th scope="col" title="{escape(c)}">{escape(c)}</th>' for c in columns)
    body = []
    for name, values, tips in rows:
        cells = []
        for value, tip in zip(values, tips, strict=True):
            hot = ' class="hot"' if value is not None and value > 0.66 else ""
            text = "–" if value is None else f"{100 * value:.0f}"
            cells.append(f'<td{hot} style="--v:{value or 0:.2f}" title="{escape(tip)}">{text}</td>')
        body.append(
            f'<tr><th scope="row" title="{escape(name)}">{escape(name)}</th>{"".join(cells)}</tr>'
        )
    return (
        f'<figure><table class="heat"><caption>{escape(caption)}</caption>'
        f'<thead><tr><th class="quiet">{escape(corner)}</th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></figure>"
    )


def grid(cells: Iterable[str]) -> str:
    """Figures side by side, as many as fit."""
    return f'<div class="grid">{"".join(cells)}</div>'


def figure(title: str, svg: str, level: int = 3, caption: str = "") -> str:
    """A plot below its title."""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure><h{level}>{escape(title)}</h{level}>{svg}{below}</figure>"


def card(title: str, body: str) -> str:
    """One of many small things, to stand in a grid."""
    return f'<article class="card"><h4>{escape(title)}</h4>{body}</article>'


def details(summary: str, body: str) -> str:
    """What is shown only when asked for."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def code(text: str) -> str:
    """Commands as they are typed."""
    return f"<pre><code>{escape(text)}</code></pre>"


def legend(entries: Iterable[tuple[str, str, str]]) -> str:
    """Lines and what they mean: label, CSS colour, dash pattern of SVG."""
    items = (
        '<li><svg width="26" height="8" aria-hidden="true"><line x1="0" y1="4" x2="26" y2="4" '
        f'stroke="{colour}" stroke-width="3" stroke-dasharray="{dash}"/></svg>{escape(label)}</li>'
        for label, colour, dash in entries
    )
    return f'<ul class="legend">{"".join(items)}</ul>'


def _inline(text: str) -> str:
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _markdown_table(lines: Sequence[str]) -> str:
    head, *body = [_cells(line) for line in lines if not re.fullmatch(r"[|:\-\s]+", line)]
    rows = ["".join(f"<td>{_inline(cell)}</td>" for cell in cells) for cells in body]
    header = "".join(f'<th scope="col">{_inline(cell)}</th>' for cell in head)
    return (
        f'<div class="scroll" tabindex="0"><table class="data"><thead><tr>{header}</tr></thead>'
        f"<tbody>{''.join(f'<tr>{row}</tr>' for row in rows)}</tbody></table></div>"
    )


def from_markdown(text: str, demote: int = 2) -> str:
    """HTML of the little Markdown that our own stages write.

    Headings (made smaller by ``demote`` levels), tables, lists with ``-``, paragraphs, code and
    bold text; everything else is shown as it stands.
    """
    blocks = []
    lines = text.splitlines()
    kinds = {"#": "heading", "|": "table", "-": "list"}
    start = 0
    while start < len(lines):
        if not lines[start].strip():
            start += 1
            continue
        kind = kinds.get(lines[start].lstrip()[0], "text")
        end = start + 1
        while (
            kind != "heading"
            and end < len(lines)
            and lines[end].strip()
            and kinds.get(lines[end].lstrip()[0], "text") == kind
        ):
            end += 1
        block, start = [line.strip() for line in lines[start:end]], end
        if kind == "heading":
            level = min(6, len(block[0]) - len(block[0].lstrip("#")) + demote)
            blocks.append(f"<h{level}>{_inline(block[0].lstrip('# '))}</h{level}>")
        elif kind == "table":
            blocks.append(_markdown_table(block))
        elif kind == "list":
            items = "".join(f"<li>{_inline(line.lstrip('- '))}</li>" for line in block)
            blocks.append(f"<ul>{items}</ul>")
        else:
            blocks.append(f"<p>{_inline(' '.join(block))}</p>")
    return "\n".join(blocks)
