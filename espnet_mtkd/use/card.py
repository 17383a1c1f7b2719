"""The model card: what was trained on what, how well it does, and what it is not for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from espnet_mtkd.evaluate.markdown import main_table

LIMITS = """\
For research on how emotion sounds, and for trying it out on one's own recordings.

- The labels say what actors were asked to play or what listeners heard, not what a person felt.
- Do not use the model to judge people: not in hiring, school, medicine, law, or surveillance.
  The EU's AI Act (article 5) forbids it at work and in education, but for medicine and safety.
- Expect lower scores for other languages, ages, microphones and noise, and for spontaneous speech:
  the results below are for acted or read speech of the corpora named.
- `confidence` was calibrated on utterances like those of the corpora; elsewhere it is too high.
- The corpora's licences may forbid commercial use of what is trained on them.
"""


def model_card(
    name: str,
    config: Mapping[str, Any],
    results: Mapping[str, Any],
    run: str,
    corpora: Mapping[str, tuple[str, str]],
) -> str:
    """Return the README of an archive, with the header that the Hugging Face hub reads.

    Args:
        name: of the system.
        config: that the archive holds.
        results: content of ``results.json``.
        run: fold and seed.
        corpora: languages and licence of each corpus.
    """
    experiment = results["experiment"]
    header = {
        "library_name": "espnet",
        "pipeline_tag": "audio-classification",
        "license": "other",
        "license_name": "see-corpora",
        "language": experiment["languages"],
        "tags": ["espnet", "speech-emotion-recognition", "multilingual", "knowledge-distillation"],
    }
    upstream = "an encoder of its own, trained from nothing"
    if config.get("frontend", "s3prl") == "s3prl":
        upstream = config["frontend_conf"].get("upstream", "fbank_no_cmvn")
        upstream += f", {config['frontend_conf'].get('mode', 'frozen')}; its own licence applies"
    calibration = results["test"]["rows"][name].get("calibration")
    lines = ["---", yaml.safe_dump(header, sort_keys=False).strip(), "---", ""]
    lines += [f"# {name}: speech emotion recognition in {', '.join(experiment['languages'])}", ""]
    if experiment["synthetic"]:
        lines += ["**Made from a synthetic corpus: for trying and testing, not for claims.**", ""]
    lines += [
        f"- Emotions: {', '.join(config['emotions'])} (label set {experiment['label_set']})",
        f"- Upstream: {upstream}",
        f"- This model: {run}, system `{name}`; temperature {config['temperature']:.3f}, fitted on "
        "the development set",
        "",
        "## Use",
        "",
        "```bash",
        f"mtkd predict speech.wav --model {name}.zip",
        "```",
        "```python",
        "from espnet_mtkd import EmotionRecognizer",
        "",
        f'print(EmotionRecognizer.from_pretrained("{name}.zip")("speech.wav"))',
        "```",
        "",
        "## Intended use and its limits",
        "",
        LIMITS,
        "## Data",
        "",
        "| corpus | language | licence |",
        "| --- | --- | --- |",
    ]
    for corpus, facts in experiment["corpora"].items():
        heldout = " (tested on, not trained on)" if facts.get("heldout") else ""
        lines.append(f"| {corpus}{heldout} | {' | '.join(corpora[corpus])} |")
    lines += [
        "",
        "## Results",
        "",
        f"Protocol {experiment['protocol']}, {len(experiment['folds'])} of "
        f"{experiment['num_folds']} folds, seeds {', '.join(map(str, experiment['seeds']))}. "
        "UAR, WAR and F1 in %, of all folds' test sets; brackets hold 95 % intervals over "
        "speakers. The audit of the folds is part of the experiment's RESULTS.md.",
        "",
        *main_table(results["test"]),
    ]
    if calibration is not None:
        lines += [
            f"Expected calibration error of `{name}` on the test sets: "
            f"{100 * calibration['ece_raw']:.1f} % as trained, "
            f"{100 * calibration['ece']:.1f} % with the temperature.",
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"
