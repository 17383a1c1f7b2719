"""Results of the benchmark of upstreams, from predictions to one plain dictionary.

::

    benchmark (what was asked for), bootstrap, environment, command,
    data: corpus -> {utterances, speakers, emotions, chance, majority_war},
    rows: [{label, layer, num_params, ..., overall, corpora: corpus -> {uar, war, uar_folds, ...}}],
    comparison (of evaluate.ranks)

An estimate is {value, low, high} in 0..1. ``uar`` pools the test sets of the folds, ``uar_folds``
is the mean of the folds' own, as EmoBox counts; ``overall`` is the unweighted mean over corpora.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from espnet_mtkd.data.datadir import read_map
from espnet_mtkd.errors import UserError
from espnet_mtkd.evaluate.experiment import read_json
from espnet_mtkd.evaluate.intervals import (
    estimate,
    observed,
    plain,
    resampled,
    speaker_weights,
)
from espnet_mtkd.evaluate.metrics import count_confusions, uar, war
from espnet_mtkd.evaluate.predictions import Predictions, check_same_utterances, read_predictions
from espnet_mtkd.evaluate.ranks import compare

AGAIN = "run the benchmark again"


def _words(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split()


class Corpus:
    """The references of a corpus: emotions, languages, speakers.

    Args:
        name: of the corpus.
        folds_dir: of stage 3.
    """

    def __init__(self, name: str, folds_dir: Path) -> None:
        self.name = name
        self.emotions = _words(folds_dir / "emotions")
        self.languages = _words(folds_dir / "languages")
        self.first: dict[str, Predictions] = {}
        self.speakers: list[str] = []

    def read(self, runs: Mapping[tuple[str, int], Path]) -> dict[tuple[str, int], Predictions]:
        """Read the predictions of one upstream by fold and seed; all test the same utterances."""
        read = {
            run: read_predictions(path / "test.tsv", self.emotions, self.languages)
            for run, path in runs.items()
        }
        for (fold, _), part in read.items():
            check_same_utterances(self.first.setdefault(fold, part), part)
        self.speakers = sorted({s for part in self.first.values() for s in part.speakers})
        return read

    def counts(self, parts: Mapping[tuple[str, int], Predictions]) -> np.ndarray:
        """Confusion matrices (Folds, Seeds, Speakers, C, C)."""
        folds = sorted({fold for fold, _ in parts}, key=int)
        seeds = sorted({seed for _, seed in parts})
        num = len(self.emotions)
        counts = np.zeros((len(folds), len(seeds), len(self.speakers), num, num), dtype=np.int64)
        index = {speaker: i for i, speaker in enumerate(self.speakers)}
        for (fold, seed), part in parts.items():
            group = np.array([index[speaker] for speaker in part.speakers])
            counts[folds.index(fold), seeds.index(seed)] = count_confusions(
                part.ref, part.hyp, group, len(self.speakers), num
            )
        return counts


def _layer_folders(runs: list[list[Any]], each: bool) -> list[str]:
    if not each:
        return [""]
    folders = sorted(
        (p.name for p in Path(runs[0][2]).glob("layer_*")), key=lambda n: int(n.split("_")[1])
    )
    if not folders:
        raise UserError(f"{runs[0][2]}: no predictions of single layers; run the benchmark again")
    return folders


def _costs(upstream: Mapping[str, Any]) -> dict[str, Any]:
    """What an upstream costs: sums over the corpora, the largest memory."""
    folders = [cell["features"] for cell in upstream["corpora"].values()]
    if None in folders:
        runs = [run for cell in upstream["corpora"].values() for run in cell["runs"]]
        infos = [read_json(Path(path) / "info.json", AGAIN) for _, _, path in runs]
        return {"num_params": infos[0]["num_params"], "num_layers": None}
    info = read_json(Path(folders[0]) / "info.json", AGAIN)["frontend_conf"]
    costs = [read_json(Path(folder) / "costs.json", AGAIN) for folder in folders]
    return {
        "num_params": info["num_params"],
        "num_layers": info["num_layers"],
        "seconds_per_second": sum(c["cpu_seconds"] for c in costs)
        / sum(c["audio_seconds"] for c in costs),
        "peak_memory": max(c["peak_memory"] for c in costs),
        "checkpoint_bytes": costs[0]["checkpoint_bytes"],
        "feature_bytes": sum(c["feature_bytes"] for c in costs),
    }


def score_upstreams(
    benchmark: Mapping[str, Any], num_resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> dict[str, Any]:
    """Score all predictions of a benchmark.

    Args:
        benchmark: of :meth:`espnet_mtkd.benchmark.Benchmark.description`.
        num_resamples, seed, level: of the bootstrap over speakers.

    Raises:
        UserError: files are missing, or upstreams were tested on different utterances.
    """
    corpora = {
        name: Corpus(name, Path(facts["folds_dir"])) for name, facts in benchmark["corpora"].items()
    }
    rows = []
    for upstream in benchmark["upstreams"]:
        facts = {key: upstream[key] for key in ("label", "name", "path", "pooling", "mode")}
        facts |= _costs(upstream)
        cells = upstream["corpora"]
        each = benchmark["layers"] == "each"
        for folder in _layer_folders(next(iter(cells.values()))["runs"], each):
            row: dict[str, Any] = {**facts, "layer": int(folder.split("_")[1]) if each else None}
            row["corpora"], draws = {}, []
            for name, corpus in corpora.items():
                runs = {
                    (fold, run_seed): Path(path) / folder
                    for fold, run_seed, path in cells[name]["runs"]
                }
                cell, drawn = _cell(corpus, runs, num_resamples, seed, level)
                row["corpora"][name] = cell
                draws.append(drawn)
            values = [cell["uar"]["value"] for cell in row["corpora"].values()]
            row["overall"] = estimate(float(np.mean(values)), np.mean(draws, axis=0), level)
            rows.append(row)
    names = [row["label"] + ("" if row["layer"] is None else f"[{row['layer']}]") for row in rows]
    scores = np.array([[r["corpora"][c]["uar"]["value"] for r in rows] for c in corpora])
    return {
        "benchmark": {k: v for k, v in benchmark.items() if k not in ("upstreams", "corpora")},
        "bootstrap": {"num_resamples": num_resamples, "seed": seed, "level": level},
        "data": {
            name: _data(corpus, Path(benchmark["corpora"][name]["folds_dir"]))
            for name, corpus in corpora.items()
        },
        "rows": rows,
        "comparison": compare(names, scores),
    }


def _cell(
    corpus: Corpus,
    runs: Mapping[tuple[str, int], Path],
    num_resamples: int,
    seed: int,
    level: float,
) -> tuple[dict[str, Any], np.ndarray]:
    """Score one upstream on one corpus; also return the UAR of every resample (B,)."""
    counts = corpus.counts(corpus.read(runs))
    by_seed = counts.sum(axis=0)
    weights = speaker_weights(by_seed.shape[1], num_resamples, seed, corpus.name)
    drawn = uar(resampled(by_seed, weights)).mean(axis=1)
    if by_seed.shape[1] < 2:  # one speaker cannot be resampled
        drawn = np.full_like(drawn, np.nan)
    infos = [read_json(path / "info.json", AGAIN) for path in runs.values()]
    weighted = [info["layer_weights"] for info in infos if len(info.get("layer_weights", [])) > 1]
    return {
        "uar": estimate(observed(by_seed, uar), drawn, level),
        "war": plain(observed(by_seed, war)),
        "uar_folds": plain(float(uar(counts.sum(axis=2)).mean())),
        "war_folds": plain(float(war(counts.sum(axis=2)).mean())),
        "uar_seeds": [plain(v) for v in uar(by_seed.sum(axis=1))],
        "layer_weights": np.mean(weighted, axis=0).round(6).tolist() if weighted else None,
        "train_seconds": round(float(np.mean([info["train_seconds"] for info in infos])), 3),
    }, drawn


def _data(corpus: Corpus, folds_dir: Path) -> dict[str, Any]:
    ref = np.concatenate([part.ref for part in corpus.first.values()])
    support = np.bincount(ref, minlength=len(corpus.emotions))
    shared = [
        bool(
            set(read_map(fold / "train" / "utt2spk").values())
            & set(read_map(fold / "test" / "utt2spk").values())
        )
        for fold in sorted(folds_dir.glob("fold_*"))
    ]
    return {
        "utterances": len(ref),
        "speakers": len(corpus.speakers),
        "emotions": corpus.emotions,
        "folds": len(corpus.first),
        "chance": 1 / int((support > 0).sum()),
        "majority_war": plain(support.max() / support.sum()),
        "speaker_independent": not any(shared),
    }
