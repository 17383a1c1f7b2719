"""How models were trained, for the report: teachers over epochs, curves, layer weights."""

from __future__ import annotations

from collections.abc import Mapping

from espnet_mtkd.evaluate import page, plots
from espnet_mtkd.evaluate.embeddings import Embeddings
from espnet_mtkd.evaluate.experiment import Experiment, read_history
from espnet_mtkd.evaluate.histories import Curve, History, mean_curve, weight_teachers

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


def _ends(curves: Mapping[str, Curve]) -> str:
    """The last value of every curve, for those who cannot see it."""
    return "; ".join(f"{name} {values[-1]:.3f}" for name, (_, values) in curves.items() if values)


def teacher_weights(experiment: Experiment, histories: Histories) -> list[str]:
    """Weight of every teacher for every language by epoch; nothing where there is one teacher."""
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
                limits=(-0.02, 1.02),
            )
            panels.append(page.figure(f"utterances of {language}", svg, level=4))
        body += [f"<h3>{page.escape(system)}</h3>", plots.legend(teachers), page.grid(panels)]
    if not body:
        return []
    return [
        '<h2 id="weights">Teacher weights over training</h2>',
        '<p class="quiet">Mean weight of each teacher for the training utterances of a language, '
        "averaged over folds and seeds; an epoch is shown if at least half of the runs reached it."
        "</p>",
        *body,
    ]


def curves(experiment: Experiment, histories: Histories) -> list[str]:
    """UAR and losses of systems and of teachers by epoch."""
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
            series = {model: mean_curve(histories[model], phase, value) for model in models}
            svg = plots.lines(
                f"curve-{title}-{phase}-{value}",
                f"{ylabel} by epoch, {title}; at the end: {_ends(series)}",
                series,
                ylabel,
            )
            panels.append(page.figure(ylabel, svg, level=4))
        body += [f"<h3>{title.capitalize()}</h3>", plots.legend(models), page.grid(panels)]
    return [
        '<h2 id="training">Training</h2>',
        '<p class="quiet">Averaged over folds and seeds. Losses of systems with and without '
        "teachers are different sums and not to be compared; a teacher's dev set is its own "
        "language.</p>",
        *body,
    ]


def layer_weights(models: Mapping[str, Embeddings]) -> list[str]:
    """How much each layer of the upstream counts; nothing where a single layer is in use.

    Args:
        models: What :mod:`espnet_mtkd.bin.embed` wrote, by the name of the model.
    """
    series = {
        name: (found.layers.tolist(), found.layer_weights.tolist())
        for name, found in models.items()
        if len(found.layers) > 1
    }
    if not series:
        return []
    told = "; ".join(
        f"{name}: most on layer {layers[values.index(max(values))]}"
        for name, (layers, values) in series.items()
    )
    highest = max(max(values) for _, values in series.values())
    svg = plots.lines(
        "layer-weights",
        f"Weight of each layer of the upstream; {told}",
        series,
        "weight",
        limits=(0.0, 1.1 * highest),
        xlabel="layer",
    )
    return [
        '<h2 id="layers">Layer weights</h2>',
        '<p class="quiet">How much of each layer of the upstream goes into the model, as learned '
        "in the first fold and seed. Layer 0 is the input of the first block.</p>",
        plots.legend(list(series)),
        page.grid([page.figure("Weights, which sum to one", svg)]),
    ]
