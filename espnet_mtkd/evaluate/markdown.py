"""``RESULTS.md``: the results as an ESPnet recipe shows them, from ``results.json``'s content."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from espnet_mtkd.evaluate.results import BASELINE, MAJORITY, TEACHERS, TOGETHER

LABELS = {
    MAJORITY: "majority class",
    TEACHERS: "teachers, each on its language",
    TOGETHER: "the same, all seeds together",
}
ENVIRONMENT = {
    "date": "date",
    "python": "python version",
    "espnet": "espnet version",
    "torch": "pytorch version",
    "s3prl": "s3prl version",
    "git": "git hash",
    "hardware": "hardware",
}
METRIC_NAMES = {"uar": "UAR", "war": "WAR", "f1": "macro-F1"}
NONE = "–"
DEFAULT = "mtkd"  # the system of the recipe that is compared with every other


def label(name: str) -> str:
    """What a row is called."""
    return LABELS.get(name, name)


def percent(value: float | None, sign: bool = False) -> str:
    """A share as a percentage with one decimal; a dash for None."""
    if value is None:
        return NONE
    return f"{100 * value:+.1f}" if sign else f"{100 * value:.1f}"


def estimate(cell: Mapping[str, Any] | None, sign: bool = False) -> str:
    """A value with its interval, ``71.2 [65.0, 77.9]``; without brackets if there is none."""
    if cell is None:
        return NONE
    if cell["low"] is None:
        return percent(cell["value"], sign)
    low, high = percent(cell["low"], sign), percent(cell["high"], sign)
    return f"{percent(cell['value'], sign)} [{low}, {high}]"


def probability(p: float | None) -> str:
    """A p-value with three decimals."""
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def seconds(value: float | None) -> str:
    """A training time in seconds."""
    if value is None:
        return NONE
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def millions(value: float | None) -> str:
    """A number of parameters in millions, three significant digits."""
    return NONE if value is None else f"{value / 1e6:.3g}"


def environment(experiment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of everything known about where and how the experiment was run."""
    known = experiment["environment"]
    names = [key for key in ENVIRONMENT if key in known]
    names += [key for key in known if key not in ENVIRONMENT]
    pairs = [(ENVIRONMENT.get(key, key), str(known[key])) for key in names]
    return [*pairs, ("command", experiment["command"])]


def summary(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of what the experiment is about."""
    experiment = results["experiment"]
    corpora = [
        f"{name} ({corpus['language']})" if "language" in corpus else name
        for name, corpus in experiment["corpora"].items()
    ]
    folds = f"{len(experiment['folds'])} of {experiment['num_folds']}"
    pairs = [
        ("corpora", ", ".join(corpora)),
        ("languages", ", ".join(experiment["languages"])),
        ("languages of held-out corpora", ", ".join(experiment["heldout_languages"]) or "none"),
        ("emotions", f"{', '.join(experiment['emotions'])} (label set {experiment['label_set']})"),
        ("protocol", experiment["protocol"]),
        ("folds", f"{folds} ({', '.join(map(str, experiment['folds']))})"),
        ("seeds", ", ".join(map(str, experiment["seeds"]))),
        ("upstream", f"{experiment['upstream']}, {experiment['upstream_mode']}"),
    ]
    tested = [
        f"{language}: {data['utterances']} utterances of {data['speakers']} speakers"
        for language, data in results["test"]["data"].items()
    ]
    return [*pairs, ("tested", "; ".join(tested))]


def main_rows(part: Mapping[str, Any]) -> dict[str, Any]:
    """The rows of the main table: all but the single teachers, as those have a matrix."""
    return {name: row for name, row in part["rows"].items() if row["kind"] != "teacher"}


def definitions(results: Mapping[str, Any]) -> str:
    """One paragraph that says what the numbers of the tables are."""
    bootstrap = results["bootstrap"]
    return (
        "All metrics are percentages. UAR is the mean of the classes' recalls, WAR is accuracy, "
        "macro-F1 the mean of the classes' F1. The test sets of all folds are pooled per language, "
        "metrics are averaged over seeds, and the mean over languages gives every language the "
        f"same weight. Brackets hold {100 * bootstrap['level']:g} % percentile intervals of a "
        f"bootstrap over speakers ({bootstrap['num_resamples']} resamples within each language, "
        f"seed {bootstrap['seed']}, all seeds of a system with the same speakers). Differences to "
        f"{BASELINE} are paired: both systems with the same resamples, p two-sided and not "
        "corrected for the number of comparisons. Training time is the mean per fold and seed, "
        "without that of the teachers a system learns from; the row of the teachers is all of "
        "them together. With `--teacher_ensemble` the teachers of all seeds teach together; their "
        "row is of the mean of their probabilities, or of their soup."
    )


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table as lines of Markdown, numbers to the right, and an empty line."""
    align = ["---", *["---:"] * (len(header) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (header, align, *rows)] + [""]


def _details(title: str, body: Sequence[str]) -> list[str]:
    # A blank line after the summary makes Markdown be read inside the HTML element.
    return ["<details>", f"<summary>{title}</summary>", "", *body, "", "</details>", ""]


def main_cells(part: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The main table of a set: header and rows of texts."""
    languages = list(part["data"])
    compared = any(row["difference"] for row in part["rows"].values())
    costs = any(row["num_params"] for row in part["rows"].values())
    header = ["system", *(f"UAR {at}" for at in languages), "mean UAR", "mean WAR", "mean F1"]
    header += [f"UAR − {BASELINE}", "p"] if compared else []
    header += ["params (M)", "training (s)"] if costs else []
    lines = []
    for name, row in main_rows(part).items():
        macro = row["macro"] or dict.fromkeys(METRIC_NAMES)
        cells = [label(name)]
        for language in languages:
            own = row["languages"].get(language)
            cells.append(percent(own["uar"]["value"]) if own else NONE)
        cells.append(estimate(macro["uar"]))
        cells += [percent(macro[m]["value"]) if macro[m] else NONE for m in ("war", "f1")]
        if compared:
            difference = row["difference"]["macro"] if row["difference"] else None
            cells.append(estimate(difference, sign=True))
            cells.append(probability(difference["p"]) if difference else NONE)
        if costs:
            cells += [millions(row["num_params"]), seconds(row["train_seconds"])]
        lines.append(cells)
    return header, lines


def main_table(part: Mapping[str, Any]) -> list[str]:
    """The main table of a set, as lines of Markdown."""
    return markdown_table(*main_cells(part))


def _languages(part: Mapping[str, Any]) -> list[str]:
    lines = []
    for language, data in part["data"].items():
        lines += [
            f"### {language}",
            "",
            f"{data['utterances']} utterances of {data['speakers']} speakers: "
            + ", ".join(f"{count} {emotion}" for emotion, count in data["classes"].items())
            + ".",
            "",
        ]
        rows = []
        for name, row in main_rows(part).items():
            cells = row["languages"].get(language)
            if cells is None:
                continue
            difference = row["difference"] and row["difference"]["languages"][language]
            rows.append(
                [
                    label(name),
                    *(estimate(cells[metric]) for metric in METRIC_NAMES),
                    estimate(difference, sign=True),
                    probability(difference["p"]) if difference else NONE,
                ]
            )
        lines += markdown_table(["system", *METRIC_NAMES.values(), f"UAR − {BASELINE}", "p"], rows)
    return lines


def _seeds(part: Mapping[str, Any]) -> list[str]:
    if len(part["runs"]) == 1:
        return []
    rows = []
    for name, row in main_rows(part).items():
        if row["runs"] is not None:
            rows.append([label(name), *(percent(value) for value in row["runs"])])
    return ["## Mean UAR per seed", "", *markdown_table(["system", *part["runs"]], rows)]


def _pairs(part: Mapping[str, Any]) -> list[str]:
    others = part["pairs"].get(DEFAULT, {})
    if len(others) < 2:
        return []
    rows = []
    for name, difference in others.items():
        rows.append([label(name), estimate(difference, sign=True), probability(difference["p"])])
        for own in difference["languages"].values():
            rows[-1].append(f"{percent(own['value'], sign=True)} ({probability(own['p'])})")
    header = ["system", f"{DEFAULT} − system, mean UAR", "p", *(f"{at} (p)" for at in part["data"])]
    return [f"## {DEFAULT} against every other system", "", *markdown_table(header, rows)]


def _language_heads(part: Mapping[str, Any]) -> list[str]:
    rows = [
        [label(name), percent(row["language_accuracy"])]
        for name, row in part["rows"].items()
        if row["language_accuracy"] is not None
    ]
    if not rows:
        return []
    return [
        "## Language heads",
        "",
        "How often a student with a language head hears which language is spoken, on the "
        "development sets, at the chosen epoch.",
        "",
        *markdown_table(["system", "accuracy"], rows),
    ]


def _calibration(part: Mapping[str, Any]) -> list[str]:
    rows = []
    for name, row in part["rows"].items():
        if found := row["calibration"]:
            errors = (percent(found[key]) for key in ("ece_raw", "ece"))
            rows.append([label(name), f"{found['temperature']:.2f}", *errors])
    if not rows:
        return []
    return [
        "## Calibration",
        "",
        "Expected calibration error in % on the pooled test sets: the mean distance between how "
        "sure a model is of its answer and how often it is right (15 bins; Guo et al. 2017). "
        "Temperatures are fitted on the development set of each fold and seed, and divide the "
        "logits.",
        "",
        *markdown_table(["system", "temperature", "ECE as trained", "ECE with temperature"], rows),
    ]


def _teachers(results: Mapping[str, Any]) -> list[str]:
    teachers = results["teachers"]
    if not teachers["names"]:
        return []
    rows = [
        [name, *(percent(value) for value in values)]
        for name, values in zip(teachers["names"], teachers["uar"], strict=True)
    ]
    if teachers[BASELINE]:
        rows.append([BASELINE, *(percent(value) for value in teachers[BASELINE])])
    lines = ["## Every teacher on every language", "", "UAR on the test set of each language.", ""]
    lines += markdown_table(["model", *teachers["languages"]], rows)
    return lines + [
        line for text in results["warnings"]["teachers"] for line in (f"**Warning:** {text}.", "")
    ]


def _confusions(part: Mapping[str, Any], emotions: Sequence[str]) -> list[str]:
    lines = []
    for name, row in part["rows"].items():
        if row["kind"] != "system":
            continue
        body = []
        for language, matrix in row["confusion"].items():
            rows = []
            for emotion, counts in zip(emotions, matrix, strict=True):
                total = sum(counts)
                cells = [f"{n} ({100 * n / total:.0f} %)" if total else f"{n}" for n in counts]
                rows.append([emotion, *cells])
            body += [
                f"**{language}**",
                "",
                *markdown_table(["reference \\ hypothesis", *emotions], rows),
            ]
        lines += _details(f"{name}: {', '.join(row['confusion'])}", body[:-1])
    return lines


def _demote(text: str, levels: int) -> str:
    """Make the headings of a Markdown text smaller, so that it fits below ours."""
    return re.sub(r"^(#+)(?= )", lambda match: match[0] + "#" * levels, text.strip(), flags=re.M)


def render(results: Mapping[str, Any]) -> str:
    """The text of ``RESULTS.md`` for the content of ``results.json``."""
    experiment, test, heldout = results["experiment"], results["test"], results["heldout"]
    warnings = results["warnings"]
    lines = [f"# Results: {experiment['name']}", ""]
    if warnings["synthetic"]:
        text = warnings["synthetic"]
        lines += [f"> **{text[0].upper()}{text[1:]}.**", ""]
    lines += ["## Environments", ""]
    lines += [f"- {name}: `{value}`" for name, value in environment(experiment)]
    lines += ["", "## Experiment", ""]
    lines += [f"- {name}: {value}" for name, value in summary(results)]
    lines += ["", "## Systems", "", *main_table(test), definitions(results), ""]
    lines += [f"- Note: {note}." for note in warnings["notes"]]
    lines += [""] if warnings["notes"] else []
    lines += ["## Per language", "", *_languages(test)]
    lines += [
        *_pairs(test),
        *_seeds(test),
        *_language_heads(test),
        *_calibration(test),
        *_teachers(results),
    ]
    if heldout:
        lines += [
            "## Held-out corpora",
            "",
            "Corpora that no model was trained on, by language. The models of all folds and seeds "
            "are tested on all of the data and their metrics averaged.",
            "",
            *main_table(heldout),
            *_languages(heldout),
        ]
    if results["left_out"]:
        lines += [
            "## Leave one language out",
            "",
            "Every language is tested by systems that were trained without it, on the same test "
            "sets.",
            "",
            *main_table(results["left_out"]),
        ]
    lines += ["## Confusion matrices", "", "Counts are summed over seeds.", ""]
    lines += _confusions(test, experiment["emotions"])
    if heldout:
        lines += ["### Held-out corpora", "", "Counts are summed over folds and seeds.", ""]
        lines += _confusions(heldout, experiment["emotions"])
    lines += ["## Split audit", ""]
    lines += _details("What the folds share and do not share", [_demote(results["audit_text"], 2)])
    return "\n".join(lines).rstrip() + "\n"
