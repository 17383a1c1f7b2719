"""Small plots as inline SVG, drawn by matplotlib and coloured by the page that shows them.

Every colour is replaced by a CSS variable, so that one picture serves a light and a dark page, and
text stays text, in the font of the page. A plot is small enough for a telephone; larger ones are
made by putting several side by side.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from espnet_mtkd.evaluate import page

# Colours of this module are names: the page says what they are. Matplotlib needs valid ones, hence
# these, which no plot would choose by itself.
_VARIABLES = {
    "#010101": "--ink",
    "#020202": "--faint",
    "#030303": "--soft",
    "#040404": "--plain",
    "#050505": "--accent",
}
INK, FAINT, SOFT, PLAIN, ACCENT = _VARIABLES
SERIES = tuple(f"#0600{i:02x}" for i in range(8))
_VARIABLES |= {colour: f"--series{i}" for i, colour in enumerate(SERIES)}
DASHES = ("-", "--", ":", "-.")
_SVG_DASHES = {"-": "", "--": "7 4", ":": "2 3", "-.": "7 3 2 3"}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "*")

WIDTH = 3.6  # inches: 346 pixels at the 96 dpi of a page
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "espnet_mtkd",
    "font.family": "sans-serif",
    # Measured with a font that is wide, shown with one that is not: nothing is cut off.
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def series_style(index: int) -> tuple[str, str]:
    """Colour and dash pattern of the ``index``-th line.

    Dashes differ too, so that no colour is needed to tell lines apart, and a line below another
    shows through.
    """
    return SERIES[index % len(SERIES)], DASHES[index % len(DASHES)]


def legend(names: Sequence[str]) -> str:
    """Legend of the lines that :func:`series_style` gives to ``names``."""
    styles = [series_style(index) for index in range(len(names))]
    return page.legend(
        (name, f"var({_VARIABLES[colour]})", _SVG_DASHES[dash])
        for name, (colour, dash) in zip(names, styles, strict=True)
    )


def _to_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an ``<svg>`` element with ids that start with ``name``."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    # Several pictures share a page, and ids must be unique on it.
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    title = html.escape(description, quote=True)
    return svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1).strip()


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def bars(
    name: str,
    description: str,
    rows: Sequence[tuple[str, float, tuple[float, float] | None, str]],
    chance: float,
) -> str:
    """Horizontal bars of UAR with intervals; the first row on top.

    Args:
        name: Unique on the page.
        description: For readers that cannot see it.
        rows: Label, value in 0..1, interval, and colour (``SOFT``, ``PLAIN`` or ``ACCENT``).
        chance: Where the dotted line of guessing stands, in 0..1.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(0.62 + 0.27 * len(rows))
        for place, (_, value, interval, colour) in enumerate(rows):
            axes.barh(place, 100 * value, height=0.66, color=colour)
            end = 100 * value
            if interval is not None:
                low, high = (100 * bound for bound in interval)
                axes.plot([low, high], [place, place], color=INK, linewidth=1.3)
                end = max(end, high)
            axes.text(end + 1.5, place, f"{100 * value:.1f}", va="center", fontsize=8)
        axes.axvline(100 * chance, color=INK, linewidth=0.9, linestyle=":")
        axes.set_yticks(range(len(rows)), [label for label, *_ in rows])
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(0, 118)  # Room for the number beside a full bar.
        axes.set_xticks(range(0, 101, 25))
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(axis="x")
        axes.set_xlabel("UAR (%)")
        axes.spines["left"].set_visible(False)
        return _to_svg(figure, name, description)


def lines(
    name: str,
    description: str,
    series: Mapping[str, tuple[Sequence[int], Sequence[float]]],
    ylabel: str,
    limits: tuple[float, float] | None = None,
    xlabel: str = "epoch",
) -> str:
    """Lines over epochs, one per entry of ``series``, in the order of :func:`series_style`.

    Args:
        name: Unique on the page.
        description: For readers that cannot see it.
        series: Label -> epochs and values; an empty one keeps its colour unused.
        ylabel: What the values are.
        limits: Of the y axis; default: what the values need.
        xlabel: What the lines run over; default: epochs.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(2.15)
        for index, (epochs, values) in enumerate(series.values()):
            colour, dash = series_style(index)
            marker = "o" if len(epochs) == 1 else None
            axes.plot(epochs, values, color=colour, linestyle=dash, linewidth=1.8, marker=marker)
        if limits is not None:
            axes.set_ylim(*limits)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.grid(axis="y")
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        return _to_svg(figure, name, description)


def reliability(
    name: str,
    description: str,
    series: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[int]]],
) -> str:
    """Accuracy against confidence, a dot per bin, the larger the more utterances are in it.

    Args:
        name: Unique on the page.
        description: For readers that cannot see it.
        series: Label -> mean confidence, accuracy (both in 0..1) and size of every bin.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(3.0)
        largest = max((size for *_, sizes in series.values() for size in sizes), default=1)
        axes.plot([0, 100], [0, 100], color=INK, linewidth=0.9, linestyle=":")
        for index, (confidences, accuracies, sizes) in enumerate(series.values()):
            colour, dash = series_style(index)
            xs, ys = [100 * x for x in confidences], [100 * y for y in accuracies]
            axes.plot(xs, ys, color=colour, linestyle=dash, linewidth=1.1, alpha=0.6)
            areas = [8 + 60 * size / largest for size in sizes]
            axes.scatter(xs, ys, s=areas, color=colour, marker=MARKERS[index], alpha=0.75)
        axes.set_xlim(0, 102)
        axes.set_ylim(-2, 102)
        axes.set_aspect("equal")
        axes.grid(True)
        axes.set_xlabel("confidence (%)")
        axes.set_ylabel("accuracy (%)")
        return _to_svg(figure, name, description)


def scatter(
    name: str,
    description: str,
    points: Sequence[tuple[float, float]],
    groups: Sequence[int],
    labels: Sequence[str],
) -> str:
    """Points on a plane without axes, coloured by group, with a legend below.

    Args:
        name: Unique on the page.
        description: For readers that cannot see it.
        points: Their places (N, 2).
        groups: Index into ``labels`` for every point (N,).
        labels: Names of the groups.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(3.5)
        for index, label in enumerate(labels):
            chosen = [p for p, group in zip(points, groups, strict=True) if group == index]
            axes.plot(
                [x for x, _ in chosen],
                [y for _, y in chosen],
                linestyle="",
                # Nine markers and eight colours: no two groups look the same.
                marker=MARKERS[index % len(MARKERS)],
                markersize=4,
                color=SERIES[index % len(SERIES)],
                markeredgewidth=0,
                alpha=0.75,
                label=label,
            )
        axes.set_axis_off()
        figure.legend(
            loc="outside lower center",
            ncols=min(4, len(labels)),
            frameon=False,
            columnspacing=1.0,
            handletextpad=0.1,
        )
        return _to_svg(figure, name, description)
