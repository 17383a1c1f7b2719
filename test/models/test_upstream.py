from __future__ import annotations

import json
import shutil

import pytest
import torch

from espnet_mtkd.errors import UserError
from espnet_mtkd.models.upstream import Upstream, check_upstream, upstream_names

pytestmark = pytest.mark.usefixtures("no_network")

HUGGING_FACE = {
    "wav2vec2_group": "hf_wav2vec2_custom",
    "wav2vec2_layer": "hf_wav2vec2_custom",
    "hubert": "hf_hubert_custom",
    "whisper": "hf_whisper_custom",
    "wavlm": "hf_wavlm_custom",
    "wavlm_layer": "hf_wavlm_custom",
    "wav2vec2_bert": "hf_wav2vec2_bert_custom",
}


def speech(*seconds: float) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([int(16000 * s) for s in seconds])
    wavs = 0.1 * torch.randn(len(seconds), int(lengths.max()), generator=torch.manual_seed(0))
    wavs[torch.arange(wavs.shape[1]) >= lengths[:, None]] = 0.0
    return wavs, lengths


def make(checkpoints, kind: str, **options) -> Upstream:
    return Upstream(HUGGING_FACE[kind], str(checkpoints[kind]), **options)


# ---- frozen ----------------------------------------------------------------------------------


def test_frozen_upstream_is_no_part_of_the_model(checkpoints):
    frontend = make(checkpoints, "wav2vec2_group")
    assert list(frontend.parameters()) == [] and frontend.state_dict() == {}
    assert frontend.num_params() > 1000


@pytest.mark.parametrize("name", ["fbank_no_cmvn", "fbank", "mfcc"])
def test_filter_banks_have_no_parameters(name):
    frontend = Upstream(name)
    assert list(frontend.parameters()) == [] and frontend.state_dict() == {}
    assert (frontend.num_layers, frontend.num_params()) == (1, 0)


@pytest.mark.parametrize("kind", ["wav2vec2_group", "whisper"])
def test_frozen_upstream_stays_in_evaluation_mode(checkpoints, kind):
    frontend = make(checkpoints, kind).train()
    assert not any(m.training for m in frontend._module().modules())
    first, second = frontend(*speech(0.3))[0], frontend(*speech(0.3))[0]
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b) and not a.requires_grad


def test_known_facts_make_loading_lazy(checkpoints):
    facts = make(checkpoints, "hubert")._facts
    options = dict(zip(("num_layers", "hidden_size", "num_params"), facts, strict=True))
    frontend = Upstream("hf_hubert_custom", "/nowhere", **options)  # not loaded: no complaint
    assert (frontend.num_layers, frontend.output_size(), frontend.num_params()) == facts
    with pytest.raises(UserError, match="/nowhere"):
        frontend(*speech(0.3))
    frontend = make(checkpoints, "hubert", **options)
    assert len(frontend(*speech(0.3))[0]) == facts[0]


@pytest.mark.parametrize("wrong", ["num_layers", "hidden_size", "num_params"])
def test_another_checkpoint_than_the_one_trained_on(checkpoints, wrong):
    facts = make(checkpoints, "hubert")._facts
    options = dict(zip(("num_layers", "hidden_size", "num_params"), facts, strict=True))
    options[wrong] += 1
    frontend = make(checkpoints, "hubert", **options)
    with pytest.raises(UserError, match="the checkpoint is another one"):
        frontend(*speech(0.3))


def test_loading_leaves_the_random_numbers_alone(checkpoints):
    torch.manual_seed(1)
    make(checkpoints, "hubert")
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1))


# ---- shapes and padding ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", HUGGING_FACE)
@pytest.mark.parametrize("mode", ["frozen", "finetune"])
@torch.no_grad()
def test_padding_has_no_influence_in_evaluation(checkpoints, kind, mode):
    frontend = make(checkpoints, kind, mode=mode).eval()
    wavs, lengths = speech(0.9, 0.31, 0.1)
    states, frames = frontend(wavs, lengths)
    assert len(states) == frontend.num_layers == 3
    for row, n in enumerate(lengths):
        alone, own_frames = frontend(wavs[row : row + 1, :n], n[None])
        for layer in range(3):
            assert states[layer].shape[-1] == frontend.output_size() == 16
            assert frames[layer][row] == own_frames[layer][0]
            valid = states[layer][row, : frames[layer][row]]
            torch.testing.assert_close(valid, alone[layer][0], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_frozen_and_finetuned_see_the_same(checkpoints):
    wavs, lengths = speech(0.5, 0.3)
    a = make(checkpoints, "wav2vec2_layer").eval()(wavs, lengths)[0]
    b = make(checkpoints, "wav2vec2_layer", mode="finetune").eval()(wavs, lengths)[0]
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y)


@pytest.mark.parametrize("kind", ["wav2vec2_group", "wav2vec2_layer", "hubert", "wavlm_layer"])
@torch.no_grad()
def test_the_last_layer_is_the_models_output(checkpoints, kind):
    # transformers 5 leaves the final normalisation of layer-norm models out of the hidden states.
    frontend = make(checkpoints, kind)
    model = next(m for m in frontend._module().modules() if hasattr(m, "feature_projection"))
    wavs, lengths = speech(0.5)
    normal = (wavs - wavs.mean()) / (wavs.var(correction=0) + 1e-7).sqrt()
    output = model(normal if "layer" in kind else wavs).last_hidden_state
    last = frontend(wavs, lengths)[0][-1]
    torch.testing.assert_close(last[:, : output.shape[1]], output, atol=1e-4, rtol=1e-4)


# ---- fine-tuned ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", HUGGING_FACE)
@pytest.mark.parametrize("seconds", [(0.1,), (0.6, 0.4, 0.1)])
def test_training_survives_layer_drop_and_short_clips(checkpoints, kind, seconds):
    # Half of the layers would be dropped, and masks of 10 frames do not fit into 0.1 s.
    frontend = make(checkpoints, kind, mode="finetune").train()
    for _ in range(4):
        states, frames = frontend(*speech(*seconds))
        assert len(states) == 3
        assert all(n.min() >= 1 for n in frames)


@pytest.mark.parametrize("kind", ["wav2vec2_group", "wav2vec2_layer", "hubert", "wavlm"])
@pytest.mark.parametrize("freeze", [True, False])
def test_gradients_arrive_where_they_should(checkpoints, kind, freeze):
    frontend = make(checkpoints, kind, mode="finetune", freeze_feature_encoder=freeze).train()
    states, _ = frontend(*speech(0.4, 0.4))
    sum(h.pow(2).sum() for h in states).backward()
    encoder = mask = others = 0
    for name, parameter in frontend.named_parameters():
        has = parameter.grad is not None
        if "masked_spec_embed" in name:
            mask += 1
            assert not parameter.requires_grad and not has
        elif ".feature_extractor." in name:
            encoder += 1
            assert parameter.requires_grad is has is not freeze, name
        else:
            others += 1
            assert has and parameter.grad.isfinite().all(), name
    assert encoder and others and mask == 1


def test_whisper_can_be_fine_tuned(checkpoints):
    frontend = make(checkpoints, "whisper", mode="finetune").train()
    states, _ = frontend(*speech(0.4, 0.2))
    sum(h.pow(2).sum() for h in states).backward()
    without = [n for n, p in frontend.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_fine_tuned_upstream_is_a_part_of_the_model(checkpoints):
    frontend = make(checkpoints, "hubert", mode="finetune")
    assert sum(p.numel() for p in frontend.parameters()) == frontend.num_params()
    assert len(frontend.state_dict()) > 10
    assert any(m.training for m in frontend.train().modules() if m is not frontend)


# ---- errors ----------------------------------------------------------------------------------


def test_whisper_is_known_to_s3prl():
    assert {"hf_whisper_custom", "fbank_no_cmvn", "hf_hubert_custom"} <= set(upstream_names())


def test_what_is_right_is_accepted(checkpoints):
    for kind, name in HUGGING_FACE.items():
        check_upstream(name, str(checkpoints[kind]))
    check_upstream("fbank_no_cmvn", None)


@pytest.mark.parametrize(
    ("name", "path", "message"),
    [
        ("fbank_with_cmvn", None, "--upstream fbank_with_cmvn: .* did you mean .*fbank_no_cmvn"),
        ("nonsense", None, "--upstream nonsense: S3PRL has no such upstream"),
        ("fbank_no_cmvn", "/x", "--upstream_path /x: upstream fbank_no_cmvn has no checkpoint"),
        ("hf_hubert_custom", None, "needs --upstream_path, a Hugging Face model folder"),
        ("hf_hubert_custom", "/nowhere", "--upstream_path /nowhere: no folder with a config.json"),
        ("hf_whisper_custom", "openai/whisper-base", "no folder with a config.json"),
        ("wavlm_local", None, "--upstream wavlm_local needs --upstream_path, a checkpoint file"),
        ("wavlm_local", "/nowhere.pt", "--upstream_path /nowhere.pt: no such file"),
        ("hubert_custom", None, "--upstream hubert_custom needs --upstream_path"),
    ],
)
def test_wrong_name_or_path(name, path, message):
    with pytest.raises(UserError, match=message):
        Upstream(name, path)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("hf_wav2vec2_custom", "wavlm", "model_type is 'wavlm', but .* use --upstream hf_wavlm_"),
        ("hf_wavlm_custom", "wav2vec2_bert", "use --upstream hf_wav2vec2_bert_custom"),
        ("hf_wav2vec2_custom", "hubert", "use --upstream hf_hubert_custom"),
        ("hf_hubert_custom", "whisper", "use --upstream hf_whisper_custom"),
    ],
)
def test_folder_of_another_kind(checkpoints, name, kind, message):
    with pytest.raises(UserError, match=message):
        Upstream(name, str(checkpoints[kind]))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("model.safetensors", "no [*].safetensors or [*].bin weights"),
        ("preprocessor_config.json", "no preprocessor_config.json"),
        ("config.json", "no folder with a config.json"),
    ],
)
def test_incomplete_folder(checkpoints, tmp_path, file, message):
    folder = shutil.copytree(checkpoints["hubert"], tmp_path / "hubert")
    (folder / file).unlink()
    with pytest.raises(UserError, match=message):
        Upstream("hf_hubert_custom", str(folder))


def test_config_that_is_no_json(checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints["hubert"], tmp_path / "hubert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config)[:-20])
    with pytest.raises(UserError, match="config.json:1: not valid JSON"):
        Upstream("hf_hubert_custom", str(folder))


def test_unknown_mode():
    with pytest.raises(UserError, match="mode 'half': must be one of frozen, finetune, lora"):
        Upstream(mode="half")
