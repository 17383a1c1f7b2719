"""A page in the browser to try a model on: bars, a timeline, and teachers beside the student.

Gradio serves it (the extra ``demo``), to this machine only, and it loads nothing from elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_mtkd.errors import UserError
from espnet_mtkd.evaluate import page, plots
from espnet_mtkd.recognizer import EmotionRecognizer, Prediction

if TYPE_CHECKING:
    import gradio

Models = Mapping[str, EmotionRecognizer | Callable[[str], Prediction]]
# Gradio marks a dark page with a class.
CSS = (
    f":root {{ {page.LIGHT} }}\n.dark {{ {page.DARK} }}"
    + """
#result .answer { font-size: 1.35rem; margin: .2rem 0; }
#result .note { color: var(--quiet); font-size: .88rem; margin: .2rem 0; }
#result .scroll { overflow-x: auto; }
#result table { width: 100%; margin: .6rem 0; border: none; border-collapse: separate;
  border-spacing: .4rem .3rem; table-layout: fixed; min-width: calc(6.5rem + 4.5rem * var(--n)); }
#result :is(th, td) { border: none; padding: .25rem .5rem; border-radius: .25rem;
  color: var(--ink); }
#result th { font-weight: 500; text-align: left; overflow-wrap: anywhere; white-space: normal; }
#result thead th { font-size: .88rem; vertical-align: bottom; }
#result thead td { width: 6.5rem; }
#result tbody td { font-variant-numeric: tabular-nums; background: var(--panel); }
#result td.bar { background: linear-gradient(to right,
  var(--plain) calc(var(--p) * 100%), var(--panel) 0); }
#result td.student { background: linear-gradient(to right,
  var(--accent) calc(var(--p) * 100%), var(--panel) 0); }
#result .timeline > svg { width: 100%; max-width: 36rem; height: auto; }
#result .legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; padding: 0;
  list-style: none; font-size: .88rem; }
#result .legend li { display: flex; align-items: center; gap: .4rem; margin: 0; }
"""
)
LIMITS = (
    "Emotions that actors play are not what people feel. Do not use this to judge anyone. "
    "Recordings stay on this machine."
)


def load_models(student: str, teachers: Sequence[str], device: str = "cpu") -> Models:
    """Load a student and its teachers, by the last parts of their paths.

    Raises:
        UserError: a model cannot be loaded, or two have the same name.
    """
    models: dict[str, EmotionRecognizer] = {}
    for path in (student, *teachers):
        name = Path(path).name.removesuffix(".zip").removesuffix(".onnx")
        if name in models:
            raise UserError(f"--teachers {path}: there are two models with the name {name}")
        models[name] = EmotionRecognizer.from_pretrained(path, device=device)
    return models


def _bar(probability: float | None, student: bool) -> str:
    if probability is None:
        return "<td>unknown to it</td>"
    mark = "bar student" if student else "bar"
    return f'<td class="{mark}" style="--p:{probability:.4f}">{100 * probability:.0f} %</td>'


def opinions(predictions: Mapping[str, Prediction]) -> str:
    """Bars of every model, the student first, as HTML.

    Args:
        predictions: By the name of the model; label sets may differ.
    """
    emotions = dict.fromkeys(e for p in predictions.values() for e in p.probabilities)
    names = list(predictions)
    head = "".join(f'<th scope="col">{page.escape(name)}</th>' for name in names)
    rows = []
    for emotion in emotions:
        bars = "".join(
            _bar(predictions[name].probabilities.get(emotion), student=name == names[0])
            for name in names
        )
        rows.append(f'<tr><th scope="row">{page.escape(emotion)}</th>{bars}</tr>')
    return (
        f'<div class="scroll" tabindex="0"><table style="--n:{len(names)}">'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def answer(prediction: Prediction, calibrated: bool) -> str:
    """What the student says, in a sentence, as HTML."""
    said = f"{page.escape(prediction.emotion)}, {100 * prediction.confidence:.0f} %"
    notes = [f"{prediction.end - prediction.start:.1f} s of speech"]
    if prediction.languages:
        language = max(prediction.languages, key=prediction.languages.__getitem__)
        notes.append(f"language: {language} ({100 * prediction.languages[language]:.0f} %)")
    if not calibrated:
        notes.append("the model was not calibrated: it may be more or less sure than it is right")
    text = page.escape("; ".join(notes))
    return f'<p class="answer"><strong>{said}</strong></p><p class="note">{text}</p>'


def timeline(prediction: Prediction) -> str:
    """Probabilities over time, as HTML; empty for a recording of one window."""
    segments = prediction.timeline
    if len(segments) < 2:
        return ""
    middles = [(segment.start + segment.end) / 2 for segment in segments]
    series = {
        emotion: (middles, [segment.probabilities[emotion] for segment in segments])
        for emotion in prediction.probabilities
    }
    told = ", ".join(f"{segment.start:.0f} s {segment.emotion}" for segment in segments)
    svg = plots.lines(
        "timeline", f"Emotions over time: {told}", series, "probability", (0, 1.02), "seconds"
    )
    return (
        f'<div class="timeline"><h3>Over time</h3>{plots.legend(list(series))}{svg}'
        f'<p class="note">{len(segments)} overlapping windows</p></div>'
    )


def respond(models: Models, path: str | None) -> str:
    """The answer to a recording, as HTML; a mistake of the user's is one, too."""
    if path is None:
        return '<p class="note">Record something, upload a file, or click an example.</p>'
    try:
        predictions = {name: model(path) for name, model in models.items()}
    except UserError as error:
        # Gradio's name of the upload says nothing.
        text = str(error).replace(path, Path(path).name)
        return f'<p class="answer" role="alert">{page.escape(text)}</p>'
    student = next(iter(models))
    calibrated = getattr(models[student], "temperature", None) is not None
    return "".join(
        [
            answer(predictions[student], calibrated),
            opinions(predictions),
            timeline(predictions[student]),
        ]
    )


def build(models: Models, examples: Sequence[str] = ()) -> gradio.Blocks:
    """Build the page.

    Args:
        models: The student, then its teachers, by name.
        examples: Audio files to click on.

    Raises:
        UserError: Gradio is missing, or an example.
    """
    for example in examples:
        if not Path(example).is_file():
            raise UserError(f"--examples {example}: no such file")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # it would tell its makers of every start
    try:
        import gradio
    except ImportError as error:
        raise UserError(
            f"the page needs gradio ({error}): pip install 'espnet-mtkd[demo]'"
        ) from None
    with gradio.Blocks(title="Speech emotion recognition", analytics_enabled=False) as blocks:
        gradio.Markdown(f"## Speech emotion recognition with `{next(iter(models))}`")
        audio = gradio.Audio(
            sources=["upload", "microphone"],
            type="filepath",
            label="Speech",
            editable=False,
            buttons=["download"],  # none that shares it
        )
        html = gradio.HTML(respond(models, None), elem_id="result")
        audio.change(lambda path: respond(models, path), audio, html, show_progress="full")
        if examples:
            gradio.Examples([[str(path)] for path in examples], audio, label="Examples")
        gradio.Markdown(LIMITS)
    return blocks


def launch(blocks: gradio.Blocks, port: int, block: bool = True) -> str:
    """Serve the page on this machine's own address, until interrupted.

    Args:
        blocks: From :func:`build`.
        port: To listen at; 0: any that is free.
        block: Whether to stay; default True.

    Returns:
        The address.

    Raises:
        UserError: The port is taken.
    """
    import gradio

    fonts = ("system-ui", "sans-serif")  # the default theme's come from the network
    try:
        _, address, _ = blocks.launch(
            server_name="127.0.0.1",
            server_port=port or None,
            share=False,
            prevent_thread_lock=not block,
            quiet=True,
            ssr_mode=False,
            footer_links=[],
            css=CSS,
            theme=gradio.themes.Default(font=fonts, font_mono=("monospace",)),
        )
    except OSError as error:
        raise UserError(f"--port {port}: {error}") from None
    return address
