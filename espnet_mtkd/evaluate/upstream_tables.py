"""The benchmark of upstreams as Markdown, CSV and a page, from the results of `upstreams`."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from espnet_mtkd.evaluate.markdown import (
    ENVIRONMENT,
    NONE,
    estimate,
    markdown_table,
    millions,
    percent,
)
from espnet_mtkd.evaluate.page import definition_list, document, escape, figure, grid, table
from espnet_mtkd.evaluate.plots import ACCENT, PLAIN, bars


def name_of(row: Mapping[str, Any]) -> str:
    """What a row is called."""
    return row["label"] if row["layer"] is None else f"{row['label']}[{row['layer']}]"


def _megabytes(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value / 1e6:.0f}" if value >= 1e8 else f"{value / 1e6:.3g}"


def main_cells(results: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table: UAR and interval per corpus and overall, and mean rank."""
    header = ["upstream", *results["data"], "mean UAR", "mean rank"]
    ranks = results["comparison"]["ranks"]
    rows = []
    for row in results["rows"]:
        cells = [estimate(cell["uar"]) for cell in row["corpora"].values()]
        rank = f"{ranks[name_of(row)]:.2f}"
        rows.append([name_of(row), *cells, estimate(row["overall"]), rank])
    return header, rows


def cost_cells(results: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of costs, one row an upstream."""
    header = ["upstream", "mode", "pooling", "layers", "params (M)", "CPU s per s of audio"]
    header += ["peak memory (MB)", "checkpoint (MB)", "features (MB)"]
    rows = {}
    for row in results["rows"]:
        speed = row.get("seconds_per_second")
        rows[row["label"]] = [
            row["label"],
            row["mode"],
            row["pooling"],
            str(row["num_layers"] or NONE),
            millions(row["num_params"]),
            NONE if speed is None else f"{speed:.3g}",
            *(_megabytes(row.get(k)) for k in ("peak_memory", "checkpoint_bytes", "feature_bytes")),
        ]
    return header, list(rows.values())


def weight_rows(results: Mapping[str, Any]) -> list[tuple[str, list[float]]]:
    """Learned weights of the layers, mean over folds and seeds, by upstream and corpus."""
    return [
        (f"{row['label']}, {corpus}", cell["layer_weights"])
        for row in results["rows"]
        for corpus, cell in row["corpora"].items()
        if cell["layer_weights"]
    ]


def verdict(results: Mapping[str, Any]) -> str:
    """What the ranks allow to be said."""
    comparison, sets = results["comparison"], len(results["data"])
    if comparison["critical_difference"] is None:
        return "Ranks are compared with three upstreams or more on two corpora or more."
    p = comparison["friedman_p"]
    text = (
        f"Friedman test over {sets} corpora: p = {NONE if p is None else f'{p:.3g}'}. Mean ranks "
        f"differ significantly (Nemenyi, alpha = {comparison['alpha']:g}) from a difference of "
        f"{comparison['critical_difference']:.2f} on."
    )
    groups = "; ".join(", ".join(group) for group in comparison["groups"])
    return text + (f" Not told apart: {groups}." if groups else " All are told apart.")


def definitions(results: Mapping[str, Any]) -> str:
    """What the numbers are."""
    bootstrap, benchmark = results["bootstrap"], results["benchmark"]
    probe = ", ".join(f"{k} {v}" for k, v in benchmark["probe"].items()) or "defaults"
    return (
        "UAR in %, the mean of the classes' recalls, over the pooled test sets of all folds, mean "
        f"over seeds {', '.join(map(str, benchmark['seeds']))}; models see one corpus only. "
        f"Brackets hold {100 * bootstrap['level']:g} % intervals of a bootstrap over speakers "
        f"({bootstrap['num_resamples']} resamples). Mean UAR gives every corpus the same weight. "
        f"Labels: {benchmark['labels']}; protocol: {benchmark['protocol']}; "
        f"layers: {benchmark['layers']}; probe of frozen upstreams: {probe}. CPU seconds are those "
        "of extraction, of one thread, reading the audio included; peak memory is that of the "
        "largest process, Python and torch included."
    )


def corpora_lines(results: Mapping[str, Any]) -> list[str]:
    """What the corpora are."""
    return [
        f"{name}: {data['utterances']} utterances of {data['speakers']} speakers, "
        f"{len(data['emotions'])} emotions ({', '.join(data['emotions'])}), {data['folds']} folds"
        + ("" if data["speaker_independent"] else ", speakers shared by training and test")
        + f"; chance {percent(data['chance'])}"
        for name, data in results["data"].items()
    ]


def to_markdown(results: Mapping[str, Any]) -> str:
    """The tables as Markdown."""
    lines = ["# Upstreams", ""]
    if results["benchmark"]["synthetic"]:
        lines += ["> **Synthetic speech: for trying out, not for conclusions.**", ""]
    lines += [*markdown_table(*main_cells(results)), verdict(results), "", definitions(results), ""]
    lines += [f"- {line}" for line in corpora_lines(results)]
    lines += ["", "## Costs", "", *markdown_table(*cost_cells(results))]
    weights = weight_rows(results)
    if weights:
        longest = max(len(values) for _, values in weights)
        lines += ["## Learned weights of the layers", "", "In %, mean over folds and seeds.", ""]
        lines += markdown_table(
            ["upstream, corpus", *map(str, range(longest))],
            [
                [name, *(f"{100 * v:.0f}" for v in values), *[""] * (longest - len(values))]
                for name, values in weights
            ],
        )
    lines += ["## Environment", ""]
    lines += [f"- {ENVIRONMENT.get(k, k)}: `{v}`" for k, v in results["environment"].items()]
    lines += [f"- command: `{results['command']}`"]
    return "\n".join(lines) + "\n"


def to_csv(results: Mapping[str, Any]) -> str:
    """One line for each upstream (or layer) and corpus, and one for the mean over corpora."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    costs = ("num_params", "seconds_per_second", "peak_memory", "checkpoint_bytes", "feature_bytes")
    writer.writerow(
        ["upstream", "layer", "mode", "pooling", "corpus", "uar", "uar_low", "uar_high", "war"]
        + ["uar_folds", "war_folds", "train_seconds", "mean_rank", *costs]
    )

    def text(value: Any) -> Any:
        return "" if value is None else value

    for row in results["rows"]:
        start = [row["label"], text(row["layer"]), row["mode"], row["pooling"]]
        end = [results["comparison"]["ranks"][name_of(row)], *(text(row.get(k)) for k in costs)]
        for corpus, cell in {**row["corpora"], "mean": {"uar": row["overall"]}}.items():
            values = [text(cell["uar"][k]) for k in ("value", "low", "high")]
            more = ("war", "uar_folds", "war_folds", "train_seconds")
            writer.writerow([*start, corpus, *values, *(text(cell.get(k)) for k in more), *end])
    return out.getvalue()


def weight_map(rows: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Heat map of the weights of layers; the largest weight of a row has the full colour."""
    longest = max(len(values) for _, values in rows)
    head = "".join(f'<th scope="col">{layer}</th>' for layer in range(longest))
    body = []
    for name, values in rows:
        cells = []
        for layer, value in enumerate(values):
            shade = value / max(values)
            hot = ' class="hot"' if shade > 0.66 else ""
            tip = escape(f"{name}, layer {layer}: {100 * value:.1f} %")
            cells.append(
                f'<td{hot} style="--v:{shade**2:.2f}" title="{tip}">{100 * value:.0f}</td>'
            )
        body.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>')
    return (
        '<div class="scroll" tabindex="0"><table class="heat" style="max-width:none;width:auto;'
        'table-layout:auto"><thead><tr><th class="quiet">upstream, corpus \\ layer</th>'
        f"{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _interval(cell: Mapping[str, Any]) -> tuple[float, float] | None:
    return None if cell["low"] is None else (cell["low"], cell["high"])


def to_html(results: Mapping[str, Any]) -> str:
    """The tables as a page that needs nothing but itself."""
    body = ["<h1>Upstreams compared on emotion</h1>"]
    if results["benchmark"]["synthetic"]:
        body.append(
            '<p class="alarm loud">Synthetic speech: for trying out, not for conclusions.</p>'
        )
    best = min(results["comparison"]["ranks"].items(), key=lambda item: item[1])[0]
    body += [table(*main_cells(results), focus=best), f"<p>{escape(verdict(results))}</p>"]
    cells = []
    for number, (corpus, data) in enumerate(results["data"].items()):
        rows = [
            (
                name_of(row),
                row["corpora"][corpus]["uar"]["value"],
                _interval(row["corpora"][corpus]["uar"]),
                ACCENT if name_of(row) == best else PLAIN,
            )
            for row in results["rows"]
        ]
        svg = bars(f"uar{number}", f"UAR of all upstreams on {corpus}", rows, data["chance"])
        cells.append(figure(corpus, svg))
    body += [grid(cells), "<h2>Costs</h2>", table(*cost_cells(results))]
    weights = weight_rows(results)
    if weights:
        body += ["<h2>Learned weights of the layers</h2>"]
        body += ['<p class="quiet">In %, mean over folds and seeds.</p>', weight_map(weights)]
    body += ["<h2>What the numbers are</h2>", f"<p>{escape(definitions(results))}</p>", "<ul>"]
    body += [f"<li>{escape(line)}</li>" for line in corpora_lines(results)]
    pairs = [(ENVIRONMENT.get(k, k), str(v)) for k, v in results["environment"].items()]
    body += ["</ul>", "<h2>Environment</h2>"]
    body.append(definition_list([*pairs, ("command", results["command"])]))
    return document("Upstreams compared on emotion", body)
