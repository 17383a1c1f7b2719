"""Several experiments side by side: tables in Markdown and figures, from their ``results.json``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from espnet_mtkd.errors import UserError
from espnet_mtkd.evaluate.experiment import read_json
from espnet_mtkd.evaluate.markdown import (
    NONE,
    estimate,
    label,
    main_rows,
    markdown_table,
    percent,
    probability,
)
from espnet_mtkd.evaluate.results import BASELINE

Results = Mapping[str, Any]
# By name: where on the axis, and an estimate {value, low, high} in 0..1.
Points = dict[str, list[tuple[float, Mapping[str, float]]]]
# What may differ between the experiments of a figure, beside what it draws.
FREE = {"name", "seeds", "systems", "command", "environment", "folds_dir", "left_out"}
AGAINST = ("kd", "mtkd_uniform")  # beside the baseline: what a default has to beat


def read_results(expdir: Path) -> Results:
    """Read the ``results.json`` of an experiment."""
    results = read_json(expdir / "results.json", "make it with ./run.sh --stage 9")
    if "pairs" not in results.get("test", {}):
        raise UserError(f"{expdir}/results.json: of an older version; make it again with --stage 9")
    return results


def table(results: Results, part: str = "test") -> list[str]:
    """Return the lines of one experiment's table, the best on the development sets in bold."""
    scores = results[part]
    rows = main_rows(scores)
    others = [name for name in AGAINST if name in rows]
    languages = list(scores["data"])
    header = ["system", "dev", *languages, "mean UAR", f"− {BASELINE}", "p"]
    header += [text for name in others for text in (f"− {name}", "p")]
    measured = [row["dev_uar"] for name, row in rows.items() if row["dev_uar"] is not None]
    lines = []
    for name, row in rows.items():
        dev = percent(row["dev_uar"])
        best = row["dev_uar"] is not None and row["dev_uar"] == max(measured)
        cells = [label(name), f"**{dev}**" if best else dev]
        cells += [percent(row["languages"][at]["uar"]["value"]) for at in languages]
        cells.append(estimate(row["macro"] and row["macro"]["uar"]))
        to_baseline = row["difference"] and row["difference"]["macro"]
        pairs = scores["pairs"].get(name, {})
        for difference in (to_baseline, *(pairs.get(other) for other in others)):
            cells.append(estimate(difference, sign=True))
            cells.append(probability(difference["p"]) if difference else NONE)
        lines.append(cells)
    return markdown_table(header, lines)


def curve(experiments: Mapping[str, Results], path: Path) -> bool:
    """Draw mean UAR over the share of labels, with intervals; whether there is more than one share.

    Args:
        experiments: by name, which should differ in nothing else, see :func:`alike`.
        path: SVG or PNG to write.
    """
    points: Points = {}
    for results in experiments.values():
        share = results["experiment"].get("labelled_share", 1.0)
        for name, row in _systems(results).items():
            points.setdefault(name, []).append((100 * share, row["macro"]["uar"]))
    shares = sorted({share for found in points.values() for share, _ in found})
    if len(shares) < 2:
        return False
    several = {name: found for name, found in points.items() if len(found) > 1}
    axes = _draw(several, "labelled share of the training set (%)")
    axes.set_xticks(shares, [f"{share:g}" for share in shares])
    axes.minorticks_off()
    _save(axes, path)
    return True


def sizes(experiments: Mapping[str, Results], path: Path) -> bool:
    """Draw mean UAR over the number of parameters; whether there is more than one size.

    Args:
        experiments: by name, which should differ in the students only, see :func:`alike`.
        path: SVG or PNG to write.
    """
    points: Points = {}
    for results in experiments.values():
        for name, row in _systems(results).items():
            points.setdefault(name, []).append((row["num_params"] / 1e6, row["macro"]["uar"]))
    if len({round(size, 2) for found in points.values() for size, _ in found}) < 2:
        return False
    _save(_draw(points, "parameters (millions)"), path)
    return True


def alike(experiments: Mapping[str, Results], *varies: str) -> list[dict[str, Results]]:
    """Return groups of experiments, by name, that differ in ``varies`` and :data:`FREE` only."""
    groups: dict[str, dict[str, Results]] = {}
    for name, results in experiments.items():
        facts = results["experiment"].items()
        same = {key: str(v) for key, v in facts if v and key not in FREE.union(varies)}
        groups.setdefault(str(sorted(same.items())), {})[name] = results
    return list(groups.values())


def _systems(results: Results) -> dict[str, Any]:
    rows = results["test"]["rows"].items()
    return {name: row for name, row in rows if row["kind"] == "system"}


def _draw(points: Points, xlabel: str) -> Axes:
    """Draw mean UAR with intervals over a logarithmic axis, a line for each system."""
    axes = Figure(figsize=(6.4, 4.0), layout="constrained").add_subplot()
    axes.set(xscale="log", xlabel=xlabel, ylabel="mean UAR (%), 95 % interval over speakers")
    axes.grid(alpha=0.4)
    axes.spines[["top", "right"]].set_visible(False)
    for number, (name, found) in enumerate(sorted(points.items())):
        found = sorted(found, key=lambda point: point[0])
        x = [at * 1.03**number for at, _ in found]  # side by side, so that bars do not hide
        y, low, high = (
            [100 * (np.nan if e[key] is None else e[key]) for _, e in found]
            for key in ("value", "low", "high")
        )
        bars = np.abs(np.array([low, high]) - y)  # none where there is no interval
        axes.errorbar(x, y, bars, fmt="o-", capsize=3, markersize=5, label=label(name))
    return axes


def _save(axes: Axes, path: Path) -> None:
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "espnet_mtkd"}):
        metadata = {"Date": None} if path.suffix == ".svg" else None
        axes.figure.savefig(path, metadata=metadata, dpi=120)
