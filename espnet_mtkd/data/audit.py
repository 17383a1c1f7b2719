"""The audit of folds: what is where, what was left out, what is shared, what is out of balance."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations, product
from typing import Any

from espnet_mtkd.data.confound import SUSPICIOUS, confounds
from espnet_mtkd.data.datadir import DataDir
from espnet_mtkd.data.folds import SIDES, Folds, map_labels, shared_audio, shared_speakers


def audit(folds: Folds) -> dict[str, Any]:
    """Describe folds with JSON types only.

    Returns:
        ``corpora`` (by name, with ``notes`` of the protocol and ``confounds``), ``folds`` (a list:
        the sides, ``shared_speakers``, ``shared_audio``, and ``tested_speakers`` by corpus, how
        many there are and how many of them are trained on), ``heldout``, ``same_audio`` (pairs of
        utterances anywhere) and ``unbalanced`` (by language and emotion), beside the options.
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
            "rates": dict(sorted(Counter(map(int, data.utt2rate.values())).items())),
            "notes": folds.notes.get(name, []),
            "confounds": confounds(map_labels(data, folds.labels)[0]),
        }
    described = []
    for fold in folds.folds:
        pairs = list(combinations(fold, 2))
        sides = fold | ({"heldout": folds.heldout} if folds.heldout else {})
        described.append(
            {side: _side(data, emotions, folds.languages) for side, data in fold.items()}
            | {
                "shared_speakers": {
                    f"{a} {b}": shared_speakers(fold[a], fold[b]) for a, b in pairs
                },
                "shared_audio": {
                    f"{a} {b}": shared_audio(sides[a], sides[b], folds.twins)
                    for a, b in combinations(sides, 2)
                },
                "tested_speakers": _tested_speakers(fold),
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
        "same_audio": _twins(folds),
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
        "| corpus | languages | role | utterances | used | hours | speakers | recorded at, Hz "
        "| left out |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    for name, corpus in report["corpora"].items():
        rates = corpus["rates"]
        recorded = ", ".join(f"{r} ({n})" if len(rates) > 1 else str(r) for r, n in rates.items())
        left_out = ", ".join(f"{label} {n}" for label, n in corpus["left_out"].items()) or "-"
        lines.append(
            f"| {name} | {' '.join(corpus['languages'])} "
            f"| {'held out' if corpus['heldout'] else 'folds'} | {corpus['utterances']} "
            f"| {corpus['used']} | {corpus['hours']:.2f} | {corpus['speakers']} | {recorded} "
            f"| {left_out} |"
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
    lines += _notes(report) + _leaks(report) + _confounds(report)
    lines += ["", "## Out of balance", ""]
    for entry in report["unbalanced"]:
        what = f"- {entry['language']} {entry['emotion']}: {entry['utterances']} utterances"
        if not entry["utterances"]:
            lines.append(what)
            continue
        counts = ", ".join(f"{c['count']} in fold {c['fold']} {c['side']}" for c in entry["counts"])
        lines.append(
            f"{what} of {entry['speakers']} speakers, on average {entry['mean']['dev']:.1f} in dev "
            f"and {entry['mean']['test']:.1f} in test, but {counts}"
        )
    if not report["unbalanced"]:
        lines.append("Nothing: every side has every class, dev and test half their mean at least.")
    return "\n".join(lines) + "\n"


def _notes(report: dict[str, Any]) -> list[str]:
    notes = [
        f"- {name}: {note}"
        for name, corpus in report["corpora"].items()
        for note in corpus["notes"]
    ]
    return ["", "## What the protocol did", "", *notes] if notes else []


def _leaks(report: dict[str, Any]) -> list[str]:
    lines = ["", "## Leaks", ""]
    dependent: dict[str, list[str]] = defaultdict(list)
    for number, fold in enumerate(report["folds"], start=1):
        for name, count in fold["tested_speakers"].items():
            if count["in_train"]:
                dependent[name].append(f"{count['in_train']} of {count['test']} in fold {number}")
    for name, counts in dependent.items():
        lines.append(
            f"- **{name} is speaker-dependent under this protocol**: tested speakers that are also "
            f"trained on: {', '.join(counts)}. Its scores say little about new speakers."
        )
    for what, name in (("speakers", "speakers"), ("audio", "recordings")):
        for sides in report["folds"][0][f"shared_{what}"]:
            found = {
                number: fold[f"shared_{what}"][sides]
                for number, fold in enumerate(report["folds"], start=1)
                if fold[f"shared_{what}"][sides]
            }
            if found:
                first = next(iter(found.values()))[0]
                counts = ", ".join(f"{len(items)} in fold {k}" for k, items in found.items())
                lines.append(
                    f"- {sides.replace(' ', ' and ')} share {name}: {counts}; the first is "
                    f"{first if what == 'speakers' else ' = '.join(first)}"
                )
    if len(lines) == 3:
        lines.append("None: no two sides of a fold share an utterance, a speaker or a recording.")
    if report["same_audio"]:
        lines += [
            "",
            "The same recording twice (found by its samples, or by a fingerprint that outlasts "
            "re-encoding, level and cut silence); on one side unless listed above:",
            "",
        ]
        for pair in report["same_audio"]:
            left, right = pair["utterances"]
            remarks = [f"{pair['bit_error']:.1%} of the fingerprint differs"]
            if not pair["bit_error"]:
                remarks = ["equal samples or fingerprints"]
            remarks += ["**two speakers**"] * (not pair["same_speaker"])
            remarks += ["**two labels**"] * (not pair["same_label"])
            lines.append(f"- {left} = {right} ({', '.join(remarks)})")
    return lines


def _confounds(report: dict[str, Any]) -> list[str]:
    lines = [
        "",
        "## What else says the emotion",
        "",
        "Normalised mutual information of the emotion with speaker, recording rate and duration "
        "(0: says nothing, 1: says all); in brackets less what chance gives, in bold from "
        f"{SUSPICIOUS} on: then a model can be right without hearing the emotion.",
        "",
        "| corpus | speaker | recording rate | duration |",
        "| --- | --- | --- | --- |",
    ]
    for name, corpus in report["corpora"].items():
        row = []
        for found in corpus["confounds"].values():
            text = f"{found['nmi']:.2f} ({max(found['ami'], 0):.2f})"
            row.append(f"**{text}**" if found["suspicious"] else text)
        lines.append(f"| {name} | {' | '.join(row)} |")
    return lines


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


def _tested_speakers(fold: dict[str, DataDir]) -> dict[str, dict[str, int]]:
    """By corpus, how many speakers are tested and how many of them are also trained on."""
    speakers: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for side, data in fold.items():
        for utt, corpus in data.utt2corpus.items():
            speakers[corpus][side].add(data.utt2spk[utt])
    return {
        corpus: {"test": len(by["test"]), "in_train": len(by["test"] & by["train"])}
        for corpus, by in sorted(speakers.items())
    }


def _twins(folds: Folds) -> list[dict[str, Any]]:
    """Pairs of utterances with the same audio."""
    emotion: dict[str, str] = {}
    speaker: dict[str, str] = {}
    for data in folds.corpora.values():
        emotion |= data.utt2emotion
        speaker |= data.utt2spk
    return [
        {
            "utterances": [left, right],
            "bit_error": error,
            "same_speaker": speaker[left] == speaker[right],
            "same_label": emotion[left] == emotion[right],
        }
        for left, right, error in folds.twins
    ]


def _unbalanced(described: list[dict[str, Any]], folds: Folds) -> list[dict[str, Any]]:
    """Classes that a side lacks, or of which dev or test has less than half of its mean."""
    utterances: dict[tuple[str, str], set[str]] = defaultdict(set)
    speakers: dict[tuple[str, str], set[str]] = defaultdict(set)
    for fold in folds.folds:
        for data in fold.values():
            for utt in data.wav_scp:
                cell = data.utt2lang[utt], data.utt2emotion[utt]
                utterances[cell].add(utt)
                speakers[cell].add(data.utt2spk[utt])
    found = []
    for cell in product(folds.languages, folds.labels.emotions):
        lang, emotion = cell
        counts = [
            {"fold": number, "side": side, "count": fold[side]["emotions"][lang][emotion]}
            for number, fold in enumerate(described, start=1)
            for side in SIDES
        ]
        mean = {
            side: sum(c["count"] for c in counts if c["side"] == side) / len(described)
            for side in SIDES
        }
        # Under si every group is tested once, so the mean of test is what dev could have as well.
        most = max(mean["dev"], mean["test"])
        least = {"train": 1, "dev": most / 2, "test": mean["test"] / 2}
        counts = [c for c in counts if utterances[cell] and c["count"] < least[c["side"]]]
        if counts or not utterances[cell]:
            found.append(
                {
                    "language": lang,
                    "emotion": emotion,
                    "utterances": len(utterances[cell]),
                    "speakers": len(speakers[cell]),
                    "mean": {side: round(mean[side], 2) for side in ("dev", "test")},
                    "counts": counts,
                }
            )
    return found


def _row(side: dict[str, Any], languages: list[str], emotions: list[str]) -> str:
    counts = " | ".join(_counts(side, lang, emotions) for lang in languages)
    return f"{side['utterances']} | {side['hours']:.2f} | {len(side['speakers'])} | {counts} |"


def _counts(side: dict[str, Any], lang: str, emotions: list[str]) -> str:
    return " / ".join(str(side["emotions"][lang][emotion]) for emotion in emotions)
