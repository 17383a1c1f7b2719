import csv

import numpy as np
import pytest
from scipy.special import softmax

from espnet_mtkd.errors import UserError
from espnet_mtkd.evaluate.experiment import read_experiment
from espnet_mtkd.evaluate.pooled import read_pooled


def _rows(expdir, seed, model):
    rows = {}
    for path in sorted(expdir.glob(f"fold_*/seed_{seed}/{model}/test.tsv")):
        with open(path, newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                rows[row["utt_id"]] = (row, path.parts[-4].removeprefix("fold_"))
    return rows


def test_holds_every_utterance_of_every_fold_and_seed_once(make_exp):
    expdir = make_exp()
    experiment = read_experiment(expdir)
    pooled = read_pooled(experiment, "mtkd")
    rows = [_rows(expdir, seed, "mtkd") for seed in (0, 1)]
    assert pooled.utt_ids.tolist() == sorted(rows[0])
    for i, utt in enumerate(pooled.utt_ids):
        row, fold = rows[0][utt]
        assert (pooled.languages[i], pooled.folds[i]) == (row["lang"], fold)
        assert experiment.emotions[pooled.ref[i]] == row["ref"]
        for seed in (0, 1):
            logits = [float(rows[seed][utt][0][f"logit_{e}"]) for e in experiment.emotions]
            p = softmax(logits)
            np.testing.assert_allclose(np.exp(pooled.log_probabilities[seed, i]), p, rtol=1e-6)
            assert pooled.of_reference()[seed, i] == pytest.approx(p[pooled.ref[i]])
            assert pooled.hyp[seed, i] == int(np.argmax(logits))


def test_the_order_of_lines_does_not_matter(make_exp):
    expdir = make_exp()
    experiment = read_experiment(expdir)
    before = read_pooled(experiment, "ft")
    path = expdir / "fold_2" / "seed_1" / "ft" / "test.tsv"
    head, *lines = path.read_text().splitlines()
    path.write_text("\n".join([head, *reversed(lines)]) + "\n")
    after = read_pooled(experiment, "ft")
    np.testing.assert_array_equal(before.log_probabilities, after.log_probabilities)


def test_seeds_must_be_tested_on_the_same_utterances(make_exp):
    expdir = make_exp()
    path = expdir / "fold_2" / "seed_1" / "ft" / "test.tsv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(UserError, match="lacks utterance"):
        read_pooled(read_experiment(expdir), "ft")


def test_calibrated_logits_are_divided_by_the_temperature_of_their_own_dev_set(make_exp):
    expdir = make_exp()
    for path in expdir.glob("fold_*/seed_*/ft/*.tsv"):  # far too sure in the first fold
        if "fold_1" in str(path):
            head, *lines = path.read_text().splitlines()
            rows = [line.split("\t") for line in lines]
            lines = ["\t".join([*r[:5], *(str(30 * float(x)) for x in r[5:])]) for r in rows]
            path.write_text("\n".join([head, *lines]) + "\n")
    experiment = read_experiment(expdir)
    raw, scaled = (read_pooled(experiment, "ft", calibrated=c) for c in (False, True))
    np.testing.assert_array_equal(raw.hyp, scaled.hyp)
    first = raw.folds == "1"
    best = [np.exp(p.log_probabilities.max(-1)) for p in (raw, scaled)]
    right = (raw.hyp == raw.ref).mean()
    assert best[0][:, first].mean() > 0.95 > right
    assert abs(best[1][:, first].mean() - right) < 0.2
    # Differences of logits shrink by one factor per fold and seed.
    for fold in ("1", "2"):
        own = raw.folds == fold
        for seed in (0, 1):
            a, b = (p.log_probabilities[seed, own] for p in (raw, scaled))
            ratio = (a[:, 0] - a[:, 1]) / (b[:, 0] - b[:, 1])
            np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)
