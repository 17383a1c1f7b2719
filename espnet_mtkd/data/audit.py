"""The audit of folds: what is where, what was left out, what is shared, what is out of balance."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations, product
from typing import Any

from espnet_mtkd.data.datadir import DataDir
from espnet_mtkd.data.folds import SIDES, Folds, identical_audio, shared_speakers


def audit(folds: Folds) -> dict[str, Any]:
    """Describe folds with JSON types only.

    Returns:
        ``corpora`` (by name), ``folds`` (a list: the sides, ``shared_speakers``,
        ``identical_audio``), ``heldout``, ``identical_audio`` (in one side, any speaker) and
        ``unbalanced`` (by language and emotion), beside the options of the split.
    """
    emotions = folds.labels.emotions
    held, held_side = set(), None
    if folds.heldout:
        held = set(folds.heldout.corpora)
        held_side = _side(folds.heldout, emotions, folds.heldout.languages)
    corpora = {}
    for name, data in folds.corpora.items():
        left_out = dict(sorted(folds.dropped[name].items()))
        corpora[name] = {
            "languages": data.languages,
            "heldout": name in held,
            "utterances": len(data),
            "used": len(data) - sum(left_out.values()),
            "hours": round(data.hours, 4),
            "speakers": len(data.speakers),
            "left_out": left_out,
        }
    described = []
    for fold in folds.folds:
        pairs = list(combinations(fold, 2))
        described.append(
            {side: _side(data, emotions, folds.languages) for side, data in fold.items()}
            | {
                "shared_speakers": {
                    f"{a} {b}": shared_speakers(fold[a], fold[b]) for a, b in pairs
                },
                "identical_audio": {
                    f"{a} {b}": identical_audio(fold[a], fold[b]) for a, b in pairs
                },
            }
        )
    return {
        "protocol": folds.protocol,
        "num_folds": len(folds.folds),
        "seed": folds.options.seed,
        "label_set": folds.labels.name,
        "emotions": list(emotions),
        "languages": folds.languages,
        "corpora": corpora,
        "folds": described,
        "heldout": held_side,
        "identical_audio": _twins(folds),
        "unbalanced": _unbalanced(described, folds),
    }


def to_markdown(report: dict[str, Any]) -> str:
    """The audit as a page for people."""
    emotions = report["emotions"]
    lines = [
        "# Audit of the folds",
        "",
        f"Protocol `{report['protocol']}`, {report['num_folds']} folds, seed {report['seed']}, "
        f"label set `{report['label_set']}` ({', '.join(emotions)}).",
        "",
        "## Corpora",
        "",
        "| corpus | languages | role | utterances | used | hours | speakers | left out |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, corpus in report["corpora"].items():
        left_out = ", ".join(f"{label} {n}" for label, n in corpus["left_out"].items()) or "-"
        lines.append(
            f"| {name} | {' '.join(corpus['languages'])} "
            f"| {'held out' if corpus['heldout'] else 'folds'} | {corpus['utterances']} "
            f"| {corpus['used']} | {corpus['hours']:.2f} | {corpus['speakers']} | {left_out} |"
        )
    lines += [
        "",
        "## Sides",
        "",
        f"Utterances of {' / '.join(emotions)} by language.",
        "",
        "| fold | side | utterances | hours | speakers | " + " | ".join(report["languages"]) + " |",
        "| ---: | --- | ---: | ---: | ---: |" + " --- |" * len(report["languages"]),
    ]
    for number, fold in enumerate(report["folds"], start=1):
        for side in SIDES:
            lines.append(f"| {number} | {side} | {_row(fold[side], report['languages'], emotions)}")
    held = report["heldout"]
    if held:
        languages = list(held["emotions"])
        lines += ["", "Held out:", ""]
        lines += [f"- {lang}: {_counts(held, lang, emotions)}" for lang in languages]
    lines += ["", "## Leaks", ""]
    leaks = []
    for number, fold in enumerate(report["folds"], start=1):
        for what, pairs in (
            ("shared speakers", fold["shared_speakers"]),
            ("identical audio", fold["identical_audio"]),
        ):
            for sides, found in pairs.items():
                if found:
                    example = found[0] if isinstance(found[0], str) else " = ".join(found[0])
                    leaks.append(
                        f"- fold {number}, {sides.replace(' ', ' and ')}: {len(found)} {what}, "
                        f"the first is {example}"
                    )
    lines += leaks or ["None: no two sides of a fold share an utterance, a speaker or audio."]
    if report["identical_audio"]:
        lines += ["", "Identical audio under two names, on one side unless listed above:", ""]
        lines += [f"- {left} = {right}" for left, right in report["identical_audio"]]
    lines += ["", "## Out of balance", ""]
    for entry in report["unbalanced"]:
        what = f"- {entry['language']} {entry['emotion']}: {entry['utterances']} utterances"
        if not entry["utterances"]:
            lines.append(what)
            continue
        counts = ", ".join(f"{c['count']} in fold {c['fold']} {c['side']}" for c in entry["counts"])
        lines.append(
            f"{what} of {entry['speakers']} speakers, {entry['share']:.1f} for each fold's dev and "
            f"test; there are {counts}"
        )
    if not report["unbalanced"]:
        lines.append("Nothing: every side has every class, dev and test at least half their share.")
    return "\n".join(lines) + "\n"


def _side(data: DataDir, emotions: tuple[str, ...], languages: list[str]) -> dict[str, Any]:
    counts = Counter((data.utt2lang[utt], data.utt2emotion[utt]) for utt in data.wav_scp)
    return {
        "utterances": len(data),
        "hours": round(data.hours, 4),
        "speakers": data.speakers,
        "emotions": {
            lang: {emotion: counts[lang, emotion] for emotion in emotions} for lang in languages
        },
    }


def _twins(folds: Folds) -> list[tuple[str, str]]:
    """Pairs of utterances with equal audio anywhere in the experiment, each once."""
    pairs = set()
    parts = [*folds.folds[0].values(), *([folds.heldout] if folds.heldout else [])]
    for index, left in enumerate(parts):
        for right in parts[index:]:
            pairs |= {tuple(sorted(pair)) for pair in identical_audio(left, right)}
    return sorted(pairs)


def _unbalanced(described: list[dict[str, Any]], folds: Folds) -> list[dict[str, Any]]:
    """Classes that a side lacks, or of which dev or test has less than half of its share."""
    utterances: Counter[tuple[str, str]] = Counter()
    speakers: dict[tuple[str, str], set[str]] = defaultdict(set)
    for data in folds.folds[0].values():
        for utt in data.wav_scp:
            cell = data.utt2lang[utt], data.utt2emotion[utt]
            utterances[cell] += 1
            speakers[cell].add(data.utt2spk[utt])
    found = []
    for cell in product(folds.languages, folds.labels.emotions):
        lang, emotion = cell
        share = utterances[cell] / len(described)
        counts = [
            {"fold": number, "side": side, "count": fold[side]["emotions"][lang][emotion]}
            for number, fold in enumerate(described, start=1)
            for side in SIDES
        ]
        least = {"train": 1, "dev": share / 2, "test": share / 2}
        counts = [entry for entry in counts if entry["count"] < least[entry["side"]]]
        if counts or not share:
            found.append(
                {
                    "language": lang,
                    "emotion": emotion,
                    "utterances": utterances[cell],
                    "speakers": len(speakers[cell]),
                    "share": share,
                    "counts": counts,
                }
            )
    return found


def _row(side: dict[str, Any], languages: list[str], emotions: list[str]) -> str:
    counts = " | ".join(_counts(side, lang, emotions) for lang in languages)
    return f"{side['utterances']} | {side['hours']:.2f} | {len(side['speakers'])} | {counts} |"


def _counts(side: dict[str, Any], lang: str, emotions: list[str]) -> str:
    return " / ".join(str(side["emotions"][lang][emotion]) for emotion in emotions)
