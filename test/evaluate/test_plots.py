import re
from xml.etree import ElementTree

import pytest

from espnet_mtkd.evaluate import plots

ROWS = [("mtkd", 0.8, (0.7, 0.9), plots.ACCENT), ("ft", 0.7, None, plots.PLAIN)]


def _drawings():
    many = {f"teacher {i}": ([1, 2, 3], [0.1 * i, 0.2, 0.3]) for i in range(11)}
    return [
        plots.bars("first", "UAR of systems", ROWS, 0.25),
        plots.lines("second", "weights", many, "mean weight", limits=(0, 1)),
        plots.lines("third", "one epoch", {"a": ([1], [0.5]), "b": ([], [])}, "loss"),
        plots.reliability("fourth", "sure", {"a": ([0.5, 0.9], [0.4, 1.0], [3, 40])}),
        plots.scatter("fifth", "map", [(0, 1), (2, 3), (4, 5)], [0, 1, 0], ["x", "y"]),
    ]


@pytest.mark.parametrize("svg", _drawings())
def test_is_accessible_svg_in_the_colours_of_the_page(svg):
    root = ElementTree.fromstring(svg)
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"]
    # A colour that is not a variable would be lost on a dark page.
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) == set()
    assert "var(--ink)" in svg


def test_every_variable_is_defined_for_light_and_dark():
    from espnet_mtkd.evaluate.page import STYLE

    used = {name for svg in _drawings() for name in re.findall(r"var\((--\w+)\)", svg)}
    assert {"--accent", "--plain", "--faint", "--series0", "--series7"} <= used
    for name in used:
        assert STYLE.count(f"{name}: ") == 2, name


def test_ids_of_two_drawings_differ():
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in _drawings()]
    assert not ids[0] & ids[1]
    for svg, known in zip(_drawings(), ids, strict=True):
        used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
        assert used <= known


def test_the_same_values_draw_the_same_picture():
    assert _drawings() == _drawings()


def test_lines_are_told_apart_without_colour():
    dashes = [plots.series_style(i)[1] for i in range(4)]
    assert len(set(dashes)) == 4


def test_groups_of_a_map_are_told_apart_without_colour():
    names = [str(i) for i in range(12)]
    svg = plots.scatter("map", "", [(i, i) for i in range(12)], list(range(12)), names)
    looks = re.findall(r'<use xlink:href="#([^"]+)"[^>]*style="fill: ([^;"]+)', svg)
    assert len({(shape, colour) for shape, colour in looks}) == 12
    assert len({shape for shape, _ in looks}) > 8


def test_a_legend_shows_the_lines_as_they_are_drawn():
    html = plots.legend(["a", "b"])
    assert re.findall(r'stroke="var\((--series\d)\)"[^>]*stroke-dasharray="([^"]*)"', html) == [
        ("--series0", ""),
        ("--series1", "7 4"),
    ]
