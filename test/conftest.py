"""Fixtures that several folders share: tiny random checkpoints, and no way to a model hub."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Hugging Face folders of tiny random models, by kind."""
    import torch
    import transformers as hf

    root = tmp_path_factory.mktemp("checkpoints")
    wave: dict[str, Any] = dict(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        conv_dim=[8] * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )
    group = dict(wave, layerdrop=0.5, mask_time_prob=0.5)
    layer = dict(
        wave, feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True, layerdrop=0.5
    )
    sound: dict[str, Any] = dict(
        d_model=16,
        encoder_layers=2,
        encoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=24,
        num_mel_bins=20,
        max_source_positions=150,
        vocab_size=50,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=3,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    torch.manual_seed(7)
    whisper = hf.WhisperModel(hf.WhisperConfig(**sound))
    models = {
        "wav2vec2_group": hf.Wav2Vec2Model(hf.Wav2Vec2Config(**group)),
        "wav2vec2_layer": hf.Wav2Vec2Model(hf.Wav2Vec2Config(**layer)),
        "hubert": hf.HubertModel(hf.HubertConfig(**group)),
        "wavlm": hf.WavLMModel(hf.WavLMConfig(**group)),
        "whisper": whisper,
        "whisper_encoder": whisper.encoder,
    }
    folders = {}
    for name, model in models.items():
        folders[name] = root / name
        model.save_pretrained(folders[name])
        if name.startswith("whisper"):
            # 150 positions are 3 s of speech.
            extractor = hf.WhisperFeatureExtractor(feature_size=20, chunk_length=3)
        else:
            extractor = hf.Wav2Vec2FeatureExtractor(do_normalize="layer" in name)
        extractor.save_pretrained(folders[name])
    return folders


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail at the first attempt to reach another machine."""
    import socket

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"a test wants to reach the network: {args[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
