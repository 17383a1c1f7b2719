"""A made-up experiment folder: predictions, histories and audit as the stages before write them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EMOTIONS = ["anger", "happiness", "neutral", "sadness"]
SKILL = {"ft": 1.2, "kd": 1.3, "mtkd_uniform": 1.5, "mtkd": 2.0}


def _logits(rng: np.random.Generator, ref: int, skill: float, num_classes: int) -> np.ndarray:
    logits = rng.normal(size=num_classes)
    logits[ref] += skill
    return logits


def _write_tsv(path: Path, rows: Sequence[Sequence[object]], emotions: Sequence[str]) -> None:
    header = ["utt_id", "spk_id", "lang", "corpus", "ref", *(f"logit_{e}" for e in emotions)]
    lines = ["\t".join(header)]
    for *names, logits in rows:
        lines.append("\t".join([*map(str, names), *(f"{x:.6f}" for x in logits)]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def _history(
    rng: np.random.Generator, languages: Sequence[str], model: str, num_epochs: int
) -> dict[str, object]:
    history = {}
    for epoch in range(1, num_epochs + 1):
        train = {"loss": 0.4 + 1.2 * np.exp(-epoch / 4) + rng.normal(0, 0.02)}
        valid = {"loss": 0.6 + 0.9 * np.exp(-epoch / 4) + rng.normal(0, 0.03)}
        valid |= {
            f"uar_{at}": float(0.75 - 0.4 * np.exp(-epoch / 4) + rng.normal(0, 0.02))
            for at in languages
        }
        valid["uar"] = float(np.mean([valid[f"uar_{at}"] for at in languages]))
        if model.startswith("mtkd"):
            for at in languages:
                own = 0.0 if model == "mtkd_uniform" else 1 - np.exp(-epoch / 5)
                weights = np.array([1.5 * own * (at == of) for of in languages])
                weights = np.exp(weights) / np.exp(weights).sum()
                for of, weight in zip(languages, weights, strict=True):
                    train[f"weight_{at}_teacher_{of}"] = float(weight)
        history[str(epoch)] = {"train": train, "valid": valid}
    return history


def make_experiment(
    root: Path,
    languages: Sequence[str] = ("en", "fi", "fr"),
    heldout: Sequence[str] = (),
    folds: Sequence[int] = (1, 2),
    seeds: Sequence[int] = (0, 1),
    systems: Sequence[str] = ("ft", "kd", "mtkd"),
    teachers: bool = True,
    speakers_per_fold: int = 4,
    utterances_per_speaker: int = 8,
    num_epochs: int = 6,
    synthetic: bool = True,
) -> Path:
    """Write an experiment below ``root``; returns the folder for ``--expdir``."""
    expdir = root / "exp"
    folds_dir = root / "dump" / "folds" / "tag"
    teacher_names = [f"teacher_{at}" for at in languages] if teachers else []
    for seed in seeds:
        for fold in folds:
            for model in [*teacher_names, *systems]:
                folder = expdir / f"fold_{fold}" / f"seed_{seed}" / model
                key = [seed, fold, *model.encode()]
                rng = np.random.default_rng(key)
                for split, names in (("test", languages), ("dev", languages), ("heldout", heldout)):
                    rows = []
                    for at in names:
                        for s in range(speakers_per_fold):
                            # Speakers of the test sets belong to one fold only.
                            number = s if split == "heldout" else 100 * fold + s
                            speaker = f"toy_{at}_{split}{number}"
                            voice = np.random.default_rng([number, *at.encode()]).normal(0, 0.5)
                            for u in range(utterances_per_speaker):
                                ref = u % len(EMOTIONS)
                                skill = SKILL.get(model, 1.0) + voice
                                if model.startswith("teacher_") and not model.endswith(at):
                                    skill = 0.3
                                logits = _logits(rng, ref, skill, len(EMOTIONS))
                                rows.append(
                                    (f"{speaker}_{u}", speaker, at, f"toy_{at}", EMOTIONS[ref])
                                    + (logits,)
                                )
                    if rows:
                        _write_tsv(folder / f"{split}.tsv", rows, EMOTIONS)
                history = _history(rng, languages, model, num_epochs + fold)
                (folder / "history.json").write_text(json.dumps(history))
                info = {
                    "num_params": 130_000,
                    "num_trainable": 30_000,
                    "train_seconds": 10.0 + fold,
                    "best_epoch": num_epochs,
                }
                (folder / "info.json").write_text(json.dumps(info))
    experiment = {
        "name": "mini_ser" if synthetic else "toy",
        "corpora": {f"toy_{at}": {"language": at} for at in [*languages, *heldout]},
        "synthetic": synthetic,
        "languages": list(languages),
        "heldout_languages": list(heldout),
        "emotions": EMOTIONS,
        "label_set": "four",
        "protocol": "si",
        "num_folds": max(2, len(folds)),
        "folds": list(folds),
        "seeds": list(seeds),
        "teachers": teacher_names,
        "systems": list(systems),
        "upstream": "fbank_no_cmvn",
        "upstream_mode": "frozen",
        "command": "./run.sh --seeds '0 1' --systems \"ft kd mtkd\"",
        "folds_dir": str(folds_dir),
        "environment": {
            "date": "2026-11-22",
            "python": "3.12.3",
            "espnet": "202611",
            "torch": "2.14.0",
            "s3prl": "2026.5.14",
            "git": "0123abc-dirty",
            "hardware": "2 cores",
        },
    }
    (expdir / "experiment.json").write_text(json.dumps(experiment))
    folds_dir.mkdir(parents=True, exist_ok=True)
    (folds_dir / "audit.json").write_text(json.dumps({"folds": len(folds)}))
    (folds_dir / "audit.md").write_text(
        "# Audit\n\nNo shared <utterance>.\n\n| fold | test | speakers |\n"
        "| --- | ---: | ---: |\n| 1 | 96 | 12 |\n| 2 | 96 | 12 |\n\n- one\n- two\n"
    )
    return expdir


@pytest.fixture
def make_exp(tmp_path: Path) -> Callable[..., Path]:
    """Factory of experiment folders below ``tmp_path``; see :func:`make_experiment`."""

    def make(**options: object) -> Path:
        return make_experiment(tmp_path, **options)

    return make


# A benchmark of upstreams: the reference of each utterance by corpus, fold and speaker.
CLASSES = ["anger", "joy", "neutral"]
REFERENCES = {
    "toy": {"1": {"s1": [0, 1, 2], "s2": [0, 1, 1]}, "2": {"s3": [2, 2, 0], "s4": [1, 0, 2]}},
    "doll": {"1": {"t1": [0, 1], "t2": [1, 2]}, "2": {"t3": [2, 0]}},
}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _predictions(corpus: str, fold: str, wrong: int) -> str:
    """All right but the first ``wrong`` utterances, which are taken for the next class."""
    lines = ["\t".join(["utt_id", "spk_id", "lang", "corpus", "ref"])]
    lines[0] += "".join(f"\tlogit_{emotion}" for emotion in CLASSES)
    number = 0
    for speaker, references in REFERENCES[corpus][fold].items():
        for ref in references:
            hyp = (ref + 1) % 3 if number < wrong else ref
            logits = [str(2.0 * (c == hyp)) for c in range(3)]
            cells = [f"{speaker}_{number:02d}", speaker, "en", corpus, CLASSES[ref], *logits]
            lines.append("\t".join(cells))
            number += 1
    return "\n".join(lines) + "\n"


def _make_upstreams(
    root: Path, wrong: Mapping[str, Mapping[int, int]], layers: str = "all"
) -> dict[str, Any]:
    """Write all files of a benchmark of upstreams and return its description.

    Args:
        root: where.
        wrong: wrong utterances of each fold, by upstream and seed.
        layers: ``each`` for predictions of two single layers, the second one without mistakes.
    """
    corpora = {}
    for corpus, folds in REFERENCES.items():
        folder = root / "folds" / corpus
        _write(folder / "emotions", "\n".join(CLASSES) + "\n")
        _write(folder / "languages", "en\n")
        for fold, speakers in folds.items():
            others = {s for f, named in folds.items() if f != fold for s in named}
            if corpus == "doll":
                others = others | {*speakers}  # speakers on both sides
            for side, names in (("train", others), ("test", speakers)):
                text = "".join(f"{s}_x {s}\n" for s in sorted(names))
                _write(folder / f"fold_{fold}" / side / "utt2spk", text)
        corpora[corpus] = {"folds_dir": str(folder)}
    upstreams = []
    for label, by_seed in wrong.items():
        cells = {}
        for corpus, folds in REFERENCES.items():
            features = root / "feats" / label / corpus
            facts = {"num_layers": 3, "num_params": 1_500_000}
            _write(features / "info.json", json.dumps({"frontend_conf": facts}))
            costs = dict(cpu_seconds=1.0, audio_seconds=50.0, peak_memory=7e8)
            if corpus == "doll":
                costs = dict(cpu_seconds=3.0, audio_seconds=150.0, peak_memory=9e8)
            costs |= dict(feature_bytes=2e6, checkpoint_bytes=6_000_000)
            _write(features / "costs.json", json.dumps(costs))
            runs = []
            for fold in folds:
                for seed, mistakes in by_seed.items():
                    run = root / "exp" / label / corpus / fold / str(seed)
                    for layer, bad in {"layer_0": mistakes, "layer_1": 0, "": mistakes}.items():
                        if (layer != "") == (layers == "each"):
                            _write(run / layer / "test.tsv", _predictions(corpus, fold, bad))
                            info: dict[str, Any] = {"train_seconds": 0.5}
                            info["layer_weights"] = [1.0] if layer else [0.2, 0.3, 0.5]
                            _write(run / layer / "info.json", json.dumps(info))
                    runs.append([fold, seed, str(run)])
            cells[corpus] = {"features": str(features), "runs": runs}
        facts = {"label": label, "name": "mfcc", "path": "", "pooling": "mean", "mode": "frozen"}
        upstreams.append({**facts, "config": "", "corpora": cells})
    return {
        "corpora": corpora,
        "upstreams": upstreams,
        "synthetic": False,
        "probe": {"head": "mlp"},
        "layers": layers,
        "labels": "full",
        "protocol": "si",
        "seeds": [0, 1],
    }


@pytest.fixture(scope="session")
def make_upstreams() -> Callable[..., dict[str, Any]]:
    """Maker of a benchmark of upstreams as stage 11 leaves it."""
    return _make_upstreams
