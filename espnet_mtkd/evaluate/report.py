"""The report: one HTML file made of ``results.json`` and the histories of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from espnet_mtkd.evaluate import page, plots
from espnet_mtkd.evaluate.experiment import Experiment, read_history
from espnet_mtkd.evaluate.histories import Curve, History, mean_curve, weight_teachers
from espnet_mtkd.evaluate.markdown import (
    definitions,
    environment,
    estimate,
    label,
    main_cells,
    percent,
    summary,
)
from espnet_mtkd.evaluate.results import BASELINE, MAJORITY

FOCUS = "mtkd"
SVG_DASHES = {"-": "", "--": "7 4", ":": "2 3", "-.": "7 3 2 3"}
Histories = dict[str, list[History]]


def read_histories(experiment: Experiment) -> Histories:
    """Histories of every model, one per fold and seed."""
    return {
        model: [
            read_history(experiment, fold, seed, model)
            for fold in experiment.folds
            for seed in experiment.seeds
        ]
        for model in experiment.models
    }


def focus_system(experiment: Experiment) -> str:
    """The system the report looks at closely: ``mtkd``, else the last one, else none."""
    if FOCUS in experiment.systems:
        return FOCUS
    return experiment.systems[-1] if experiment.systems else ""


def _bar_colour(row: Mapping[str, Any], name: str, focus: str) -> str:
    if name == focus:
        return plots.ACCENT
    return plots.PLAIN if row["kind"] == "system" else plots.SOFT


def _bar_panel(
    part: Mapping[str, Any], language: str | None, names: Sequence[str], focus: str, key: str
) -> str:
    """Bars of UAR on one language, or of the mean over languages for None."""

    def cell(name: str) -> Mapping[str, Any] | None:
        row = part["rows"][name]
        of = row["macro"] if language is None else row["languages"].get(language)
        return of and of["uar"]

    rows, texts = [], []
    for name in names:
        uar = cell(name)
        if uar is None:
            continue
        interval = None if uar["low"] is None else (uar["low"], uar["high"])
        colour = _bar_colour(part["rows"][name], name, focus)
        rows.append((label(name), uar["value"], interval, colour))
        texts.append(f"{label(name)} {estimate(uar)}")
    chance = cell(MAJORITY)
    title = "Mean over languages" if language is None else language
    description = f"UAR in percent, {title}: {'; '.join(texts)}"
    svg = plots.bars(f"{key}-{language or 'mean'}", description, rows, chance["value"])
    return page.figure(title, svg)


def _bars(part: Mapping[str, Any], focus: str, key: str) -> list[str]:
    """Bars of the mean and of every language, best mean on top, in the same order."""
    names = [name for name, row in part["rows"].items() if row["kind"] in ("teachers", "system")]
    names.sort(key=lambda name: -_mean_uar(part["rows"][name]))
    shown = [*part["data"]] if len(part["data"]) == 1 else [None, *part["data"]]
    panels = [_bar_panel(part, at, names, focus, key) for at in shown]
    caption = (
        "Best mean on top, the same order everywhere. Lines: interval of the bootstrap over "
        "speakers. Dotted: always the most frequent class."
    )
    return [page.grid(panels), f'<p class="quiet">{caption}</p>']


def _mean_uar(row: Mapping[str, Any]) -> float:
    # The teachers' row has no mean if a language has no teacher: then it comes last.
    return row["macro"]["uar"]["value"] if row["macro"] else -1.0


def _confusions(
    part: Mapping[str, Any], emotions: Sequence[str], names: Sequence[str]
) -> list[str]:
    body = []
    for name in names:
        maps = []
        for language, matrix in part["rows"][name]["confusion"].items():
            rows = []
            for emotion, counts in zip(emotions, matrix, strict=True):
                total = sum(counts)
                shares = [n / total if total else None for n in counts]
                tips = [
                    f"{emotion} taken for {other}: {n} of {total}"
                    for other, n in zip(emotions, counts, strict=True)
                ]
                rows.append((emotion, shares, tips))
            maps.append(page.heat_map(f"{name}, {language}", "true ↓", emotions, rows))
        body.append(page.grid(maps))
    return body


def _teachers(results: Mapping[str, Any]) -> list[str]:
    teachers = results["teachers"]
    names, values = list(teachers["names"]), list(teachers["uar"])
    if not names:
        return []
    if teachers[BASELINE]:
        names.append(BASELINE)
        values.append(teachers[BASELINE])
    rows = [
        (
            name,
            row,
            [
                f"{name} on {at}: UAR {percent(v)} %"
                for at, v in zip(teachers["languages"], row, strict=True)
            ],
        )
        for name, row in zip(names, values, strict=True)
    ]
    caption = "UAR (%) of models (rows) on languages (columns)"
    return [
        '<h2 id="teachers">Every teacher on every language</h2>',
        page.grid([page.heat_map(caption, "model", teachers["languages"], rows)]),
        *(
            f'<p class="alarm">Warning: {page.escape(text)}.</p>'
            for text in results["warnings"]["teachers"]
        ),
    ]


def _legend(names: Sequence[str]) -> str:
    return page.legend(
        (name, plots.css_colour(i), SVG_DASHES[plots.series_style(i)[1]])
        for i, name in enumerate(names)
    )


def _ends(curves: Mapping[str, Curve]) -> str:
    """The last value of every curve, for those who cannot see it."""
    return "; ".join(f"{name} {values[-1]:.3f}" for name, (_, values) in curves.items() if values)


def _weights(experiment: Experiment, histories: Histories) -> list[str]:
    body: list[str] = []
    for system in experiment.systems:
        runs = histories[system]
        by_language = {at: weight_teachers(runs, at) for at in experiment.languages}
        teachers = sorted({name for names in by_language.values() for name in names})
        if len(teachers) < 2:  # A single teacher always has all the weight.
            continue
        panels = []
        for language in experiment.languages:
            curves = {
                teacher: mean_curve(runs, "train", f"weight_{language}_{teacher}")
                for teacher in teachers
            }
            svg = plots.lines(
                f"weight-{system}-{language}",
                f"Weight of each teacher for {language} by epoch, {system}; "
                f"at the end: {_ends(curves)}",
                curves,
                "mean weight",
                limits=(0.0, 1.02),
            )
            panels.append(page.figure(f"utterances of {language}", svg, level=4))
        body += [f"<h3>{page.escape(system)}</h3>", _legend(teachers), page.grid(panels)]
    if not body:
        return []
    return [
        '<h2 id="weights">Teacher weights over training</h2>',
        '<p class="quiet">Mean weight of each teacher for the training utterances of a language, '
        "averaged over folds and seeds; an epoch is shown if at least half of the runs reached it."
        "</p>",
        *body,
    ]


def _curves(experiment: Experiment, histories: Histories) -> list[str]:
    body: list[str] = []
    for title, models in (("systems", experiment.systems), ("teachers", experiment.teachers)):
        if not models:
            continue
        panels = []
        for phase, value, ylabel in (
            ("valid", "uar", "dev UAR"),
            ("train", "loss", "training loss"),
            ("valid", "loss", "dev loss"),
        ):
            curves = {model: mean_curve(histories[model], phase, value) for model in models}
            svg = plots.lines(
                f"curve-{title}-{phase}-{value}",
                f"{ylabel} by epoch, {title}; at the end: {_ends(curves)}",
                curves,
                ylabel,
            )
            panels.append(page.figure(ylabel, svg, level=4))
        body += [f"<h3>{title.capitalize()}</h3>", _legend(models), page.grid(panels)]
    return [
        '<h2 id="training">Training</h2>',
        '<p class="quiet">Averaged over folds and seeds. Losses of systems with and without '
        "teachers are different sums and not to be compared; a teacher's dev set is its own "
        "language.</p>",
        *body,
    ]


def render(results: Mapping[str, Any], experiment: Experiment, histories: Histories) -> str:
    """The whole page.

    Args:
        results: Content of ``results.json``.
        experiment: The experiment in it.
        histories: From :func:`read_histories`.
    """
    test, heldout, warnings = results["test"], results["heldout"], results["warnings"]
    focus = focus_system(experiment)
    looked_at = list(
        dict.fromkeys(name for name in (focus, BASELINE) if name in experiment.systems)
    )
    body = [f"<header><h1>Results: {page.escape(experiment.name)}</h1>"]
    if warnings["synthetic"]:
        text = warnings["synthetic"]
        body.append(f'<p class="alarm loud">{page.escape(text[0].upper() + text[1:])}.</p>')
    body += [page.definition_list(summary(results)), "</header>", "", "<main>"]

    content = [
        '<h2 id="results">Results</h2>',
        page.table(*main_cells(test), focus=focus),
        *(f'<p class="quiet">Note: {page.escape(note)}.</p>' for note in warnings["notes"]),
        f'<p class="quiet">{page.escape(definitions(results))}</p>',
        '<h2 id="uar">UAR with intervals</h2>',
        *_bars(test, focus, "bars"),
    ]
    if looked_at:
        content += [
            '<h2 id="confusions">Confusion matrices</h2>',
            '<p class="quiet">Percent of each true emotion (row) that was taken for the emotion of '
            "the column; seeds pooled.</p>",
            *_confusions(test, experiment.emotions, looked_at),
        ]
    content += _teachers(results)
    if heldout:
        content += [
            '<h2 id="heldout">Held-out languages</h2>',
            "<p>Languages that no model was trained on.</p>",
            page.table(*main_cells(heldout), focus=focus),
            *_bars(heldout, focus, "heldout"),
        ]
        if looked_at:
            content += _confusions(heldout, experiment.emotions, looked_at)
    content += _weights(experiment, histories)
    content += _curves(experiment, histories)
    content += [
        '<h2 id="audit">Split audit</h2>',
        page.from_markdown(results["audit_text"]),
        '<h2 id="environment">Environment</h2>',
        page.definition_list(environment(results["experiment"])[:-1]),
        "<h3>Command</h3>",
        f"<pre><code>{page.escape(experiment.command)}</code></pre>",
    ]
    return page.document(
        f"Results: {experiment.name}", [*body, _navigation(content), *content, "</main>"]
    )


def _navigation(content: Sequence[str]) -> str:
    """Links to the sections that are there."""
    links = []
    for piece in content:
        if piece.startswith('<h2 id="'):
            anchor, title = piece.removeprefix('<h2 id="').removesuffix("</h2>").split('">')
            links.append(f'<a href="#{anchor}">{title}</a>')
    return f'<nav aria-label="Sections">{"".join(links)}</nav>'
