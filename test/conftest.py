"""Fixtures that several folders share: tiny random checkpoints, and no way to a model hub."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
# Jobs are forked, and a child cannot use threads that torch has started in this process: it waits.
os.environ.setdefault("OMP_NUM_THREADS", "1")


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
    bert = dict(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        feature_projection_input_dim=40,
        conv_depthwise_kernel_size=5,
        left_max_position_embeddings=6,
        right_max_position_embeddings=3,
        layerdrop=0.5,
        apply_spec_augment=True,
        mask_time_prob=0.5,
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
        "wavlm_layer": hf.WavLMModel(hf.WavLMConfig(**layer)),
        "wav2vec2_bert": hf.Wav2Vec2BertModel(hf.Wav2Vec2BertConfig(**bert)),
        "whisper": whisper,
        "whisper_encoder": whisper.encoder,
    }
    folders = {}
    for model in models.values():
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:  # a fresh bias is zero and would hide mistakes
                    parameter.add_(0.1 * torch.randn_like(parameter))
    for name, model in models.items():
        folders[name] = root / name
        model.save_pretrained(folders[name])
        if name.startswith("whisper"):
            # 150 positions are 3 s of speech.
            extractor = hf.WhisperFeatureExtractor(feature_size=20, chunk_length=3)
        elif name == "wav2vec2_bert":
            extractor = hf.SeamlessM4TFeatureExtractor(feature_size=20, num_mel_bins=20, stride=2)
        else:
            extractor = hf.Wav2Vec2FeatureExtractor(do_normalize="layer" in name)
        extractor.save_pretrained(folders[name])
    return folders


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail at the first attempt to reach another machine."""
    import socket

    connect = socket.socket.connect

    def connect_here(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX:  # as multiprocessing uses
            refuse(address)
        connect(self, address)

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"a test wants to reach the network: {args}")

    monkeypatch.setattr(socket.socket, "connect", connect_here)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


class ToyExperiment:
    """Stored features of a made-up experiment: two languages, three emotions, two teachers.

    ``train`` and ``dev`` are data directories; ``feats.scp``, ``info.json``, ``stats.npz``,
    ``logits.scp``, ``teachers``, ``emotions`` and ``languages`` are what the stages write.
    """

    emotions = ("anger", "neutral", "sadness")
    languages = ("en", "fi")
    shape = (2, 5)

    def __init__(self, folder: Path) -> None:
        import json

        import numpy as np

        from espnet_mtkd.data.ark import write_ark
        from espnet_mtkd.data.datadir import write_map

        self.folder = folder
        rng = np.random.default_rng(11)
        centres = rng.normal(size=(2, 3, *self.shape))
        self.feats: dict[str, Any] = {}
        self.records: dict[str, dict[str, tuple[str, str]]] = {"train": {}, "dev": {}}
        for number in range(60):
            side = "dev" if number % 3 == 0 else "train"
            language, emotion = rng.integers(2), rng.integers(3)
            utt = f"toy_{side}_{number:02d}"
            features = centres[language, emotion] + rng.normal(size=self.shape)
            self.feats[utt] = features.astype(np.float32)
            self.records[side][utt] = (self.emotions[emotion], self.languages[language])
        for side, records in self.records.items():
            path = folder / side
            write_map(path / "utt2emotion", {utt: r[0] for utt, r in records.items()})
            write_map(path / "utt2lang", {utt: r[1] for utt, r in records.items()})
            write_map(path / "utt2spk", {utt: f"toy_{side}" for utt in records})
            write_map(path / "utt2corpus", dict.fromkeys(records, "toy"))
        write_ark(folder / "feats.scp", sorted(self.feats.items()))
        self.logits = {u: rng.normal(size=(2, 3)).astype(np.float32) for u in sorted(self.feats)}
        write_ark(folder / "logits.scp", self.logits.items())
        flat = np.stack([self.feats[utt].ravel() for utt in self.records["train"]]).astype(float)
        np.savez(
            folder / "stats.npz", count=len(flat), sum=flat.sum(0), sum_square=(flat**2).sum(0)
        )
        facts = dict(num_layers=2, hidden_size=5, num_params=1000)
        frontend = dict(
            upstream="hf_hubert_custom", path_or_url=str(folder / "gone"), mode="frozen", **facts
        )
        info = {"pooling": "mean", "frontend_conf": frontend}
        (folder / "info.json").write_text(json.dumps(info))
        (folder / "emotions").write_text("\n".join(self.emotions) + "\n")
        (folder / "languages").write_text("\n".join(self.languages) + "\n")
        (folder / "teachers").write_text("teacher_en en\nteacher_fi fi\n")

    def argv(self, output: Path, *more: str, student: bool = False) -> list[str]:
        """Command line of a training, as the plan writes it."""
        from espnet_mtkd.systems import ROOT

        argv = ["--config", str(ROOT / "conf" / "train_frozen.yaml"), "--output_dir", str(output)]
        argv += ["--seed", "0", "--ngpu", "0", "--resume", "true", "--max_epoch", "3"]
        for option in ("emotions", "languages", "feats_info"):
            name = "info.json" if option == "feats_info" else option
            argv += [f"--{option}", str(self.folder / name)]
        argv += ["--normalize_conf", f"stats_file={self.folder / 'stats.npz'}"]
        for side, name in (("train", "train"), ("valid", "dev")):
            data = [f"{self.folder}/{name}/utt2emotion,emotion,text"]
            data += [f"{self.folder}/{name}/utt2lang,language,text"]
            data += [f"{self.folder}/feats.scp,speech,kaldi_ark"]
            if student:
                data += [f"{self.folder}/logits.scp,teacher_logits,kaldi_ark"]
            for item in data:
                argv += [f"--{side}_data_path_and_name_and_type", item]
            argv += [f"--{side}_shape_file", f"{self.folder}/{name}/utt2emotion"]
        if student:
            argv += ["--teachers", str(self.folder / "teachers")]
        return [*argv, *more]


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> ToyExperiment:
    """An experiment's stored features, which tests only read."""
    return ToyExperiment(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def own_toy(tmp_path: Path) -> ToyExperiment:
    """The same for a test that changes it."""
    return ToyExperiment(tmp_path / "toy")


WHISPER = dict(upstream="hf_whisper_custom", path="whisper")


class TrainedModels:
    """Folders of trainings with random parameters, as stages 5 to 9 leave them behind."""

    emotions = ["anger", "neutral", "sadness"]
    languages = ["en", "fi"]

    def __init__(self, root: Path, checkpoints: dict[str, Path]) -> None:
        self.root = root
        self.kinds = {
            "fbank": dict(upstream="fbank"),
            "fbank_no_cmvn": dict(upstream="fbank_no_cmvn"),
            "mfcc": dict(upstream="mfcc"),
            "conv": dict(frontend="conv", channels=[8, 8], kernels=[3, 3], strides=[2, 1]),
            "conformer": dict(
                frontend="conformer",
                channels=[8, 8],
                kernels=[3, 3],
                strides=[2, 2],
                conformer_conf=dict(num_blocks=2, linear_units=16, attention_heads=2),
            ),
            "whisper": dict(upstream="hf_whisper_custom", path="whisper"),
            # Students of stored features of the whole upstream that use its first layers only.
            "whisper_stem": dict(WHISPER, num_layers=3, layers=[0]),
            "whisper_lower": dict(WHISPER, num_layers=3, layers=[-2, 0]),
            "whisper_slice": dict(upstream="hf_whisper_custom", path="whisper", keep_layers=1),
            "whisper_slice_tuned": dict(
                upstream="hf_whisper_custom", path="whisper", keep_layers=1, mode="finetune"
            ),
            "whisper_cut": dict(
                upstream="hf_whisper_custom",
                path="whisper",
                mode="finetune",
                keep_layers=0,
                keep_channels=[5, 7],
            ),
            "whisper_lora": dict(upstream="hf_whisper_custom", path="whisper", mode="lora"),
            "whisper_tuned": dict(upstream="hf_whisper_custom", path="whisper", mode="finetune"),
            "wav2vec2": dict(upstream="hf_wav2vec2_custom", path="wav2vec2_layer", mode="finetune"),
            "hubert": dict(upstream="hf_hubert_custom", path="hubert"),
            "hubert_lora": dict(upstream="hf_hubert_custom", path="hubert", mode="lora"),
            "wavlm": dict(upstream="hf_wavlm_custom", path="wavlm"),
            "wav2vec2_bert": dict(upstream="hf_wav2vec2_bert_custom", path="wav2vec2_bert"),
        }
        self.checkpoints = checkpoints

    def __call__(self, kind: str, pooling: str = "mean", name: str | None = None, **model: Any):
        """Return the folder of a training; ``model``: its model_conf."""
        import argparse
        import json

        import numpy as np
        import torch
        import yaml

        from espnet_mtkd.tasks.ser import SERTask

        made = name or f"{kind}_{pooling}" + "".join(f"_{k}{v}" for k, v in model.items())
        folder = self.root / made / "exp" / "fold_1" / "seed_0" / "ft"
        if folder.exists():
            return folder
        folder.mkdir(parents=True)
        torch.manual_seed(11)
        conf = dict(self.kinds[kind])
        path, frontend = conf.pop("path", None), conf.pop("frontend", "s3prl")
        layers = conf.pop("layers", None)
        if path is not None:
            conf["path_or_url"] = str(self.checkpoints[path])
        config = dict(
            emotions=self.emotions,
            languages=self.languages,
            output_dir=str(folder),
            layers=layers,
            feats_info=None,
            frontend=frontend,
            frontend_conf=conf,
            pooling=pooling,
            pooling_conf={},
            normalize="global_mvn",
            normalize_conf={},
            head="mlp",
            head_conf=dict(hidden_size=8),
            model="ser",
            model_conf=model,
            version="202611",
        )
        built = SERTask.build_model(argparse.Namespace(**config))
        with torch.no_grad():
            built.normalize.mean.normal_()
            built.normalize.deviation.uniform_(1, 3)
            for parameter in built.parameters():  # a fresh bias is zero and would hide mistakes
                parameter.add_(0.05 * torch.randn_like(parameter))
        torch.save(built.state_dict(), folder / "model.pth")
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        rng = np.random.default_rng(5)
        head = "utt_id spk_id lang corpus ref logit_anger logit_neutral logit_sadness"
        lines = ["\t".join(head.split())]
        for i in range(40):
            ref, logits = i % 3, rng.normal(size=3)
            logits[ref] += 1
            numbers = "\t".join(f"{x:.6f}" for x in logits)
            lines.append(f"u{i:02d}\ts\ten\ttoy\t{self.emotions[ref]}\t{numbers}")
        (folder / "dev.tsv").write_text("\n".join(lines) + "\n")
        value = {"value": 0.6123, "low": 0.5, "high": 0.7}
        row = dict(
            kind="system",
            languages={"en": {"uar": value}},
            macro={"uar": value, "war": value, "f1": value},
            difference=None,
            num_params=1000,
            train_seconds=3.0,
            calibration=dict(temperature=1.5, ece_raw=0.123, ece=0.045),
        )
        experiment = dict(
            languages=self.languages,
            emotions=self.emotions,
            corpora={"emodb": {"heldout": False}, "cafe": {"heldout": True}},
            synthetic=False,
            label_set="four",
            protocol="si",
            folds=[1],
            num_folds=5,
            seeds=[0],
            upstream=conf.get("upstream", frontend),
            upstream_mode=conf.get("mode", "frozen"),
        )
        results = dict(experiment=experiment, test=dict(data={"en": {}}, rows={"ft": row}))
        (folder.parents[2] / "results.json").write_text(json.dumps(results))
        return folder

    def packed(
        self, kind: str, pooling: str = "mean", name: str | None = None, **model: Any
    ) -> Path:
        """Return the archive of a model."""
        from espnet_mtkd.bin import pack

        folder = self(kind, pooling, name, **model)
        archive = folder.parents[2] / "packed" / "ft.zip"
        if not archive.exists():
            expdir = str(folder.parents[2])
            pack.main(["--model_dir", str(folder), "--expdir", expdir, "--output", str(archive)])
        return archive


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, checkpoints) -> TrainedModels:
    """Trained models, which tests only read."""
    return TrainedModels(tmp_path_factory.mktemp("trained"), checkpoints)


@pytest.fixture
def recordings(tmp_path: Path) -> dict[str, Path]:
    """Recordings of noise by length, rate, channels and format."""
    import numpy as np
    import soundfile

    rng, files = np.random.default_rng(0), {}
    for name, seconds, rate, channels in (
        ("a.wav", 1.0, 16000, 1),
        ("b.flac", 0.4, 44100, 2),
        ("c.ogg", 1.3, 16000, 1),
        ("d.wav", 1.0, 8000, 1),
        ("e.wav", 4.5, 16000, 1),
        ("f.wav", 1.0, 16000, 1),
    ):
        loudness = np.linspace(0.02, 0.3, int(seconds * rate))[:, None]
        samples = loudness * rng.normal(size=(len(loudness), channels)).clip(-3, 3)
        files[name] = tmp_path / "recordings" / name
        files[name].parent.mkdir(exist_ok=True)
        soundfile.write(files[name], samples, rate)
    return files
