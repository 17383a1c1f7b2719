"""The graph of the benchmark, and the whole of it on a made-up corpus in EmoDB's layout."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from espnet_mtkd.benchmark import Benchmark, Candidate, read_config
from espnet_mtkd.bin import benchmark_upstreams
from espnet_mtkd.errors import UserError

QUICK = {"probe": {"max_epoch": 3}, "upstreams": [{"name": "mfcc"}, {"name": "fbank_no_cmvn"}]}


@pytest.fixture(scope="module")
def emodb(tmp_path_factory) -> Path:
    """Noise whose loudness is the emotion: 4 speakers, 4 emotions, 2 utterances of each."""
    folder = tmp_path_factory.mktemp("EmoDB")
    (folder / "wav").mkdir()
    rng = np.random.default_rng(0)
    for speaker in ("03", "08", "09", "10"):
        for level, letter in enumerate("WFNT"):
            for text in ("a01", "a02"):
                samples = 0.01 * 3**level * rng.normal(size=3200)
                soundfile.write(folder / "wav" / f"{speaker}{text}{letter}a.wav", samples, 16000)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """One folder for the runs, so that later ones find what earlier ones made."""
    folder = tmp_path_factory.mktemp("benchmark")
    (folder / "quick.yaml").write_text(yaml.safe_dump(QUICK))
    return folder


def run(*more: str, corpus: str = "emodb") -> None:
    argv = ["--benchmark_config", "./quick.yaml", "--corpora", corpus, "--num_folds", "3"]
    benchmark_upstreams.main([*argv, "--nj", "2", *more])


def table(name: str = "upstreams") -> list[dict[str, str]]:
    with open(f"exp/benchmark/{name}.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def there(home, emodb, monkeypatch) -> Path:
    monkeypatch.chdir(home)
    monkeypatch.setenv("EMODB", str(emodb))
    return home


def test_the_whole_benchmark(there, capsys):
    run("--seeds", "0 1")
    out = capsys.readouterr().out
    # Data, audio, folds; 2 features; 2 upstreams x 3 folds x 2 seeds; the table.
    assert "18 of 18 jobs run" in out
    rows = table()
    assert [(r["upstream"], r["corpus"]) for r in rows] == [
        ("mfcc", "emodb"),
        ("mfcc", "mean"),
        ("fbank_no_cmvn", "emodb"),
        ("fbank_no_cmvn", "mean"),
    ]
    for row in rows:
        assert 0 <= float(row["uar_low"]) <= float(row["uar"]) <= float(row["uar_high"]) <= 1
        assert float(row["seconds_per_second"]) > 0 and row["num_params"] == "0"
    assert float(rows[2]["uar"]) > 0.5  # loudness is easy to hear
    results = json.loads(Path("exp/benchmark/upstreams.json").read_text())
    assert results["data"]["emodb"]["utterances"] == 32
    assert results["data"]["emodb"]["speaker_independent"] is True
    cell = results["rows"][1]["corpora"]["emodb"]
    assert len(cell["uar_seeds"]) == 2
    assert cell["uar"]["value"] == pytest.approx(np.mean(cell["uar_seeds"]), abs=1e-6)
    markdown = Path("exp/benchmark/upstreams.md").read_text()
    page = Path("exp/benchmark/upstreams.html").read_text()
    for text in (markdown, page):
        assert "fbank_no_cmvn" in text and "32 utterances of 4 speakers" in text
        assert str(there) not in text.split("command")[0]
    # Again: nothing. Another upstream: that one, and the table.
    run("--seeds", "0 1")
    assert "nothing to do: all is up to date" in capsys.readouterr().out
    run("--seeds", "0 1", "--add", "name=mfcc,pooling=stats,label=more")
    assert "8 of 25 jobs run" in capsys.readouterr().out
    assert [r["upstream"] for r in table()[::2]] == ["mfcc", "fbank_no_cmvn", "more"]
    assert "Friedman" not in Path("exp/benchmark/upstreams.md").read_text()  # one corpus only


def test_single_layers(there, checkpoints, capsys):
    path = checkpoints["hubert"]
    (there / "hubert.yaml").write_text(
        yaml.safe_dump(
            {
                "probe": {"max_epoch": 2},
                "upstreams": [{"label": "h", "name": "hf_hubert_custom", "path": str(path)}],
            }
        )
    )
    run("--benchmark_config", "./hubert.yaml", "--layers", "each")
    rows = table("upstreams_each")
    assert [r["layer"] for r in rows[::2]] == ["0", "1", "2"]
    assert "h[2]" in Path("exp/benchmark/upstreams_each.md").read_text()
    run("--benchmark_config", "./hubert.yaml")
    text = Path("exp/benchmark/upstreams.md").read_text()
    assert "Learned weights of the layers" in text and "| h, emodb | 3" in text
    assert '<table class="heat"' in Path("exp/benchmark/upstreams.html").read_text()
    assert str(path) not in text


def test_a_corpus_that_is_not_there(there, monkeypatch):
    monkeypatch.delenv("EMODB")
    with pytest.raises(UserError, match="corpus emodb: EMODB='' is no folder"):
        run()


def test_an_upstream_that_is_not_there(there):
    with pytest.raises(UserError, match="upstream x: --upstream hf_hubert_custom needs"):
        run("--add", "name=hf_hubert_custom,label=x")


# ---- the list of upstreams -------------------------------------------------------------------


def test_environment_variables_in_paths(tmp_path, monkeypatch):
    config = tmp_path / "c.yaml"
    config.write_text("upstreams: [{name: hf_hubert_custom, path: $MODELS/h, label: h}]")
    monkeypatch.setenv("MODELS", "/m")
    probe, (candidate,) = read_config(str(config))
    assert probe == {} and candidate == Candidate("h", "hf_hubert_custom", "/m/h")
    monkeypatch.delenv("MODELS")
    with pytest.raises(UserError, match=r"upstreams\[0\]: path \$MODELS/h: set the .* MODELS"):
        read_config(str(config))


def test_added_upstreams(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("upstreams: [{name: mfcc}]")
    _, candidates = read_config(str(config), ["name=fbank,pooling=stats"])
    assert [c.label for c in candidates] == ["mfcc", "fbank"]
    assert candidates[1].pooling == "stats"


@pytest.mark.parametrize(
    ("text", "added", "message"),
    [
        ("upstream: [{name: mfcc}]", [], "unknown option upstream; use probe and upstreams"),
        ("upstreams: []", [], "upstreams: must be a list of at least one"),
        ("upstreams: [mfcc]", [], r"upstreams\[0\]: an upstream needs at least a name"),
        ("upstreams: [{name: mfcc, lr: '1'}]", [], r"upstreams\[0\]: lr: '1': an upstream has"),
        ("upstreams: [{name: mfcc, mode: half}]", [], "mode 'half': must be one of frozen, "),
        ("upstreams: [{name: mfcc, label: a/b}]", [], "label 'a/b': use letters"),
        ("upstreams: [{name: mfcc}, {name: mfcc}]", [], "two upstreams are called mfcc"),
        ("upstreams: [{name: mfcc}]", ["fbank"], "--add fbank: must look like name="),
        ("{upstreams: [{name: mfcc}], probe: [1]}", [], "probe: must hold 'option: value'"),
    ],
)
def test_mistakes_in_the_list(tmp_path, text, added, message):
    config = tmp_path / "c.yaml"
    config.write_text(text)
    with pytest.raises(UserError, match=message):
        read_config(str(config), added)


def test_the_lists_of_the_recipe(monkeypatch):
    monkeypatch.setenv("WHISPER", "/m/whisper")
    monkeypatch.setenv("RANDOM_MODELS", "/m/random")
    from espnet_mtkd.systems import ROOT

    for path in sorted((ROOT / "conf" / "benchmark").glob("*.yaml")):
        _, candidates = read_config(str(path))
        assert candidates


def test_single_layers_are_of_frozen_upstreams(tmp_path):
    options = benchmark_upstreams.get_parser().parse_args(["--layers", "each"])
    with pytest.raises(UserError, match="--layers each: single layers are those of frozen"):
        Benchmark(options, {}, [Candidate("a", "fbank", mode="finetune", config="x.yaml")])


# ---- upstreams that are trained --------------------------------------------------------------


@pytest.mark.parametrize("mode", ["finetune", "lora"])
def test_a_trained_upstream(there, checkpoints, mode, capsys):
    """Through the recipe's plan: ESPnet's training on waveforms, then inference."""
    if mode == "lora":
        pytest.importorskip("peft", reason="the extra 'lora' is not installed")
    from espnet_mtkd.systems import ROOT

    training = yaml.safe_load((ROOT / "conf" / f"train_{mode}.yaml").read_text())
    training |= {"max_epoch": 1, "num_workers": 0, "batch_bins": 40000}
    training["frontend_conf"]["gradient_checkpointing"] = True
    (there / f"{mode}.yaml").write_text(yaml.safe_dump(training))
    kind, name = "wav2vec2_layer", "hf_wav2vec2_custom"
    entry = {"label": mode, "name": name, "path": str(checkpoints[kind]), "mode": mode}
    entry["config"] = f"./{mode}.yaml"
    (there / "trained.yaml").write_text(yaml.safe_dump({"upstreams": [entry]}))
    run("--benchmark_config", "./trained.yaml", "--folds", "1")
    (row, _) = table()
    assert row["upstream"] == row["mode"] == mode
    folder = there / "exp" / "benchmark" / mode / "emodb_four_si3" / "fold_1" / "seed_0" / "ft"
    info = json.loads((folder / "info.json").read_text())
    state = torch.load(folder / "model.pth", weights_only=True)
    upstream = {key for key in state if key.startswith("frontend.")}
    optimizer = torch.load(folder / "checkpoint.pth", weights_only=True)["optimizers"][0]
    # Warm-up has not got far, but the ratio of the two rates is that of the config.
    rates = sorted({group["lr"] for group in optimizer["param_groups"]})
    wanted = sorted([training["module_lr"]["frontend"], training["optim_conf"]["lr"]])
    assert rates[1] / rates[0] == pytest.approx(wanted[1] / wanted[0])
    if mode == "lora":
        assert upstream and all("lora_" in key for key in upstream)
        assert info["num_trainable"] < 0.6 * info["num_params"]
    else:
        assert any("feature_extractor" in key for key in upstream)
        assert info["num_trainable"] < info["num_params"]
    run("--benchmark_config", "./trained.yaml", "--folds", "1")
    assert "nothing to do: all is up to date" in capsys.readouterr().out
