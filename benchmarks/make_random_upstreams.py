"""Make small upstreams with random weights, to see what the architecture alone is worth.

    python benchmarks/make_random_upstreams.py models

writes Hugging Face folders models/wav2vec2, models/hubert and models/whisper, 4 layers of 128.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import transformers as hf

WAVE = dict(
    hidden_size=128,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=512,
    conv_dim=[128] * 7,
    num_conv_pos_embeddings=32,
    num_conv_pos_embedding_groups=4,
)
SOUND = dict(
    d_model=128,
    encoder_layers=4,
    encoder_attention_heads=4,
    encoder_ffn_dim=512,
    decoder_layers=1,
    decoder_attention_heads=4,
    decoder_ffn_dim=512,
)


def main(folder: Path) -> None:
    """Make and save the models; the same weights every time."""
    layer_norm = dict(feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True)
    torch.manual_seed(0)
    models = {
        "wav2vec2": hf.Wav2Vec2Model(hf.Wav2Vec2Config(**WAVE, **layer_norm)),
        "hubert": hf.HubertModel(hf.HubertConfig(**WAVE)),
        "whisper": hf.WhisperModel(hf.WhisperConfig(**SOUND)).encoder,
    }
    for name, model in models.items():
        model.save_pretrained(folder / name)
        if name == "whisper":
            extractor = hf.WhisperFeatureExtractor(feature_size=80)
        else:
            extractor = hf.Wav2Vec2FeatureExtractor(do_normalize=name == "wav2vec2")
        extractor.save_pretrained(folder / name)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
