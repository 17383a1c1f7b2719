"""The utterances that models get wrong most, for the report; with audio on request."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile

from espnet_mtkd.data.datadir import read_map
from espnet_mtkd.errors import UserError
from espnet_mtkd.evaluate import page
from espnet_mtkd.evaluate.experiment import Experiment
from espnet_mtkd.evaluate.pooled import Pooled

SHOWN = 5  # of each language


def hardest(models: Mapping[str, Pooled], number: int) -> list[int]:
    """Indices of the ``number`` hardest utterances of each language, the hardest first.

    The hardest has the lowest probability of its label, the mean over models and seeds.

    Args:
        models: Predictions of the same utterances in the same order.
        number: Of each language.
    """
    pooled = next(iter(models.values()))
    mean = np.mean([model.of_reference().mean(0) for model in models.values()], axis=0)
    order = np.lexsort((pooled.utt_ids, mean))
    chosen = []
    for language in dict.fromkeys(pooled.languages.tolist()):
        chosen += [int(i) for i in order if pooled.languages[i] == language][:number]
    return chosen


def _player(path: Path) -> str:
    """The recording itself, inside the page."""
    try:
        samples, rate = soundfile.read(path, dtype="int16")
    except (OSError, soundfile.SoundFileError) as error:
        raise UserError(f"--embed_audio: {path}: {error}") from None
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="FLAC")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<audio controls preload="none" src="data:audio/flac;base64,{data}"></audio>'


def section(
    experiment: Experiment, models: Mapping[str, Pooled], focus: str, embed_audio: int = 0
) -> list[str]:
    """A table of the hardest utterances of each language.

    Args:
        experiment: Says where the recordings are.
        models: Predictions of all systems by name, in the same order of utterances.
        focus: The system whose answers are shown.
        embed_audio: For so many utterances of each language the recording becomes part of the
            page; default 0.

    Raises:
        UserError: A recording cannot be read.
    """
    pooled = models[focus]
    folds = {
        fold: read_map(Path(experiment.folds_dir) / f"fold_{fold}" / "test" / "wav.scp")
        for fold in (sorted(set(pooled.folds.tolist())) if embed_audio else [])
    }
    rights = np.mean([(m.hyp == m.ref).mean(0) for m in models.values()], axis=0)
    means = np.mean([model.of_reference().mean(0) for model in models.values()], axis=0)
    cards = {language: [] for language in dict.fromkeys(pooled.languages.tolist())}
    for i in hardest(models, max(SHOWN, embed_audio)):
        utt = str(pooled.utt_ids[i])
        probabilities = np.exp(pooled.log_probabilities[:, i]).mean(0)
        answer = int(probabilities.argmax())
        facts = [
            ("label", f"{experiment.emotions[pooled.ref[i]]}, p = {100 * means[i]:.1f} %"),
            (focus, f"{experiment.emotions[answer]}, p = {100 * probabilities[answer]:.1f} %"),
            ("right", f"{100 * rights[i]:.0f} % of the models"),
        ]
        own = cards[str(pooled.languages[i])]
        wanted = len(own) < embed_audio
        player = _player(Path(folds[str(pooled.folds[i])][utt])) if wanted else ""
        own.append(page.card(utt, page.definition_list(facts) + player))
    note = (
        "The recordings are part of this page: mind the licences of their corpora before you pass "
        "it on."
        if embed_audio
        else "<code>python -m espnet_mtkd.bin.report --embed_audio 5</code> puts their recordings "
        "into the page. They are left out by default, as many licences forbid to pass them on."
    )
    body = [
        '<h2 id="hardest">Hardest utterances</h2>',
        '<p class="quiet">Of each language those with the lowest probability of their label, the '
        f"mean over seeds and systems ({page.escape(', '.join(models))}). What all get wrong may "
        f"be labelled wrong. {note}</p>",
    ]
    for language, own in cards.items():
        body += [f"<h3>{page.escape(language)}</h3>", page.grid(own)]
    return body
