"""The report: one HTML file made of ``results.json``, histories, predictions and embeddings."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from espnet_mtkd.evaluate import hardest, learning, maps, page, plots, reliability
from espnet_mtkd.evaluate.embeddings import Embeddings, read_embeddings
from espnet_mtkd.evaluate.experiment import Experiment
from espnet_mtkd.evaluate.markdown import (
    definitions,
    environment,
    estimate,
    label,
    main_cells,
    percent,
    probability,
    summary,
)
from espnet_mtkd.evaluate.pooled import Pooled, read_pooled
from espnet_mtkd.evaluate.results import BASELINE, MAJORITY

FOCUS = "mtkd"


def focus_system(experiment: Experiment) -> str:
    """The system the report looks at closely: ``mtkd``, else the last one, else none."""
    if FOCUS in experiment.systems:
        return FOCUS
    return experiment.systems[-1] if experiment.systems else ""


def looked_at(experiment: Experiment) -> list[str]:
    """The systems whose answers are shown in detail: the one in focus, and ``ft`` beside it."""
    names = dict.fromkeys((focus_system(experiment), BASELINE))
    return [name for name in names if name in experiment.systems]


@dataclass(frozen=True)
class Material:
    """What the page is made of beside ``results.json``.

    Attributes:
        histories: of every model, one per fold and seed.
        pooled: test predictions of every system.
        calibrated: those of the system in focus after temperature scaling; None without one.
        embeddings: of the systems that are looked at, in the first fold and seed, where stored.
    """

    histories: learning.Histories
    pooled: dict[str, Pooled]
    calibrated: Pooled | None
    embeddings: dict[str, Embeddings]


def read_material(experiment: Experiment) -> Material:
    """Read it from the folders of the models.

    Raises:
        UserError: a file of an earlier stage is missing or malformed.
    """
    folds, seeds = experiment.folds, experiment.seeds
    stored = {
        name: experiment.model_dir(folds[0], seeds[0], name) / "test.npz"
        for name in looked_at(experiment)
    }
    focus = focus_system(experiment)
    return Material(
        histories=learning.read_histories(experiment),
        pooled={name: read_pooled(experiment, name) for name in experiment.systems},
        calibrated=read_pooled(experiment, focus, calibrated=True) if focus else None,
        embeddings={name: read_embeddings(p) for name, p in stored.items() if p.is_file()},
    )


def _verdict(results: Mapping[str, Any], focus: str) -> list[str]:
    """What the whole experiment says about the system in focus, in a sentence."""
    row = results["test"]["rows"].get(focus)
    if row is None or not row["difference"] or row["difference"]["macro"] is None:
        return []
    difference = row["difference"]["macro"]
    text = f"{focus}: mean UAR {estimate(row['macro']['uar'])} %"
    text += f", {estimate(difference, sign=True)} points against {BASELINE}"
    if difference["p"] is not None:
        p = probability(difference["p"])
        text += f" (p {p})" if p.startswith("<") else f" (p = {p})"
    if difference["low"] is not None:
        sure = difference["low"] > 0 or difference["high"] < 0
        word = "better" if difference["value"] > 0 else "worse"
        text += f": {word if sure else 'no difference is shown'}"
    return [f'<p class="verdict">{page.escape(text)}.</p>']


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


def _commands(experiment: Experiment) -> list[str]:
    """The command of the experiment, and those that it ran for the first fold and seed."""
    folder = experiment.model_dir(experiment.folds[0], experiment.seeds[0], "log")
    lines = []
    for model in experiment.models:
        log = folder / f"{model}.log"
        if log.is_file():  # experiments of other machines come without logs
            with open(log, encoding="utf-8") as file:
                words = shlex.split(file.readline().removeprefix("# "))
            lines.append(shlex.join(["python", *words[1:]]))
    body = ["<h3>Command</h3>", page.code(experiment.command)]
    if lines:
        body.append(
            page.details("Trainings of the first fold and seed", page.code("\n\n".join(lines)))
        )
    return body


def render(
    results: Mapping[str, Any], experiment: Experiment, material: Material, embed_audio: int = 0
) -> str:
    """The whole page.

    Args:
        results: Content of ``results.json``.
        experiment: The experiment in it.
        material: From :func:`read_material`.
        embed_audio: For so many of the hardest utterances of each language the recording becomes
            part of the page; default 0.

    Raises:
        UserError: A recording cannot be read.
    """
    test, heldout, warnings = results["test"], results["heldout"], results["warnings"]
    focus, names = focus_system(experiment), looked_at(experiment)
    body = [f"<header><h1>Results: {page.escape(experiment.name)}</h1>"]
    if warnings["synthetic"]:
        text = warnings["synthetic"]
        body.append(f'<p class="alarm loud">{page.escape(text[0].upper() + text[1:])}.</p>')
    body += [*_verdict(results, focus), page.definition_list(summary(results)), "</header>", ""]

    content = [
        '<h2 id="results">Results</h2>',
        page.table(*main_cells(test), focus=focus),
        *(f'<p class="quiet">Note: {page.escape(note)}.</p>' for note in warnings["notes"]),
        page.details("What these numbers are", f"<p>{page.escape(definitions(results))}</p>"),
        '<h2 id="uar">UAR with intervals</h2>',
        *_bars(test, focus, "bars"),
    ]
    if names:
        content += [
            '<h2 id="confusions">Confusion matrices</h2>',
            '<p class="quiet">Percent of each true emotion (row) that was taken for the emotion of '
            "the column; seeds pooled.</p>",
            *_confusions(test, experiment.emotions, names),
            *reliability.section(
                {
                    focus: material.pooled[focus],
                    f"{focus}, calibrated": material.calibrated,
                    **{name: material.pooled[name] for name in names[1:]},
                }
            ),
        ]
    content += _teachers(results)
    if heldout:
        content += [
            '<h2 id="heldout">Held-out corpora</h2>',
            "<p>Corpora that no model was trained on, by language.</p>",
            page.table(*main_cells(heldout), focus=focus),
            *_bars(heldout, focus, "heldout"),
            *_confusions(heldout, experiment.emotions, names),
        ]
    if results["left_out"]:
        content += [
            '<h2 id="left_out">Leave one language out</h2>',
            "<p>Every language is tested by systems that were trained without it, on the same test "
            "sets.</p>",
            page.table(*main_cells(results["left_out"]), focus=focus),
        ]
    content += learning.teacher_weights(experiment, material.histories)
    if names:
        content += maps.section(material.embeddings)
        content += learning.layer_weights(material.embeddings)
    content += learning.curves(experiment, material.histories)
    if names:
        content += hardest.section(experiment, material.pooled, focus, embed_audio)
    content += [
        '<h2 id="audit">Split audit</h2>',
        page.from_markdown(results["audit_text"]),
        '<h2 id="environment">Environment</h2>',
        page.definition_list(environment(results["experiment"])[:-1]),
        *_commands(experiment),
    ]
    return page.document(
        f"Results: {experiment.name}",
        [*body, "<main>", _navigation(content), *content, "</main>"],
    )


def _navigation(content: Sequence[str]) -> str:
    """Links to the sections that are there."""
    links = []
    for piece in content:
        if piece.startswith('<h2 id="'):
            anchor, title = piece.removeprefix('<h2 id="').removesuffix("</h2>").split('">')
            links.append(f'<a href="#{anchor}">{title}</a>')
    return f'<nav aria-label="Sections">{"".join(links)}</nav>'
