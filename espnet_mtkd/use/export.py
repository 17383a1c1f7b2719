"""Models as ONNX: waveforms of equal length to logits, batch and time of any size, also in int8."""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch

from espnet_mtkd.data.files import atomic_path
from espnet_mtkd.data.wavheader import SAMPLE_RATE
from espnet_mtkd.errors import UserError
from espnet_mtkd.use.archive import FORMAT, ModelFiles
from espnet_mtkd.use.features import STRIDE, repeat_last
from espnet_mtkd.use.network import Network
from espnet_mtkd.use.onnx_backend import METADATA, OnnxBackend
from espnet_mtkd.use.torch_backend import TrainedModel, load_network, no_pickle

OPSET = 18
# Transformers' models that take waveforms and whose every operation can be exported.
HUGGING_FACE = ("hf_wav2vec2_custom", "hf_hubert_custom", "hf_wavlm_custom")
TOLERANCE = 1e-4  # of logits


class HuggingFaceFeatures(torch.nn.Module):
    """The hidden states of a transformers model as S3PRL gives them, for recordings of one length.

    Args:
        model: the transformers model.
        normalize: give every recording mean 0 and variance 1.
    """

    def __init__(self, model: torch.nn.Module, normalize: bool) -> None:
        super().__init__()
        self.model = model
        self.normalize = normalize

    def forward(self, speech: torch.Tensor) -> list[torch.Tensor]:
        """Return all hidden states (Batch, Frames, D) of (Batch, Samples) at 16 kHz."""
        if self.normalize:
            centred = speech - speech.mean(1, keepdim=True)
            speech = centred / (centred.square().mean(1, keepdim=True) + 1e-7).sqrt()
        states = self.model(speech, output_hidden_states=True).hidden_states
        frames = (speech.shape[1] + STRIDE - 1) // STRIDE
        return [repeat_last(layer, frames) for layer in states]


def exportable(files: ModelFiles) -> Network:
    """Return the network of a model in a form that can be exported.

    Raises:
        UserError: its upstream has none.
    """
    network = load_network(files)
    if isinstance(network, Network):
        return network
    if files.upstream not in HUGGING_FACE:
        what = f"upstream {files.upstream}" if files.upstream else "an encoder of its own"
        raise UserError(
            f"{files.name}: {what} cannot be exported; upstreams that can are fbank, "
            f"fbank_no_cmvn, hf_whisper_custom, {', '.join(HUGGING_FACE)}"
        )
    return from_trained(network)


def from_trained(trained: TrainedModel) -> Network:
    """Build the network around the transformers model inside a trained model."""
    from espnet_mtkd.models.adapters import hugging_face_model

    model = trained.model
    upstream = model.frontend._module()
    inner = upstream.upstream
    extractor = getattr(inner, "extracter", None)
    normalize = inner.do_normalize if extractor is None else extractor.do_normalize
    network = Network(
        HuggingFaceFeatures(hugging_face_model(upstream, "export"), normalize),
        "stats" if type(model.pooling).__name__ == "StatsPooling" else "mean",
        model.normalize,
        model.layer_weighting,
        model.head,
        model.language_head,
        model.max_samples,
    )
    return network.eval()


def export(files: ModelFiles, output: Path, int8: bool = False) -> float:
    """Write a model as ONNX and check what was written.

    Args:
        files: of the model.
        output: ``.onnx`` file.
        int8: store the weights of matrix products in 8 bits and compute in them (dynamic
            quantisation): a smaller and faster model whose logits are not the same.

    Returns:
        The largest difference of a logit to the trained model's, on noise of several lengths.

    Raises:
        UserError: the model cannot be exported, a package is missing, or, without ``int8``, the
            exported model's logits differ by 1e-4 or more.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401 - the check needs it
        import onnxscript  # noqa: F401 - torch's exporter does
    except ImportError as error:
        raise UserError(f"export needs {error.name}: pip install 'espnet-mtkd[onnx]'") from None
    with no_pickle():
        network = exportable(files)
    names = ["logits"] if network.language_head is None else ["logits", "language_logits"]
    with atomic_path(output) as written, tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "model.onnx"
        _export(network, names, plain)
        if int8:
            _quantize(plain)
        model = onnx.load(plain)
        facts = {
            "format": FORMAT,
            "emotions": files.config["emotions"],
            "languages": files.config["languages"] if len(names) > 1 else None,
            "temperature": files.temperature,
            "max_seconds": network.max_seconds,
            "sampling_rate": SAMPLE_RATE,
            "int8": int8,
        }
        onnx.helper.set_model_props(model, {METADATA: json.dumps(facts)})
        onnx.save(model, written)
        difference = compare(network, OnnxBackend(written))
    if not int8 and not difference < TOLERANCE:
        output.unlink()
        raise UserError(f"{output}: logits differ from the trained model's by {difference:.1e}")
    return difference


def _export(network: Network, names: list[str], path: Path) -> None:
    batch, samples = torch.export.Dim("batch", min=1), torch.export.Dim("samples", min=1600)
    # The exporter talks of every step and of what others have deprecated.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (0.1 * torch.randn(2, 24001),),
            path,
            input_names=["speech"],
            output_names=names,
            dynamic_shapes={"speech": {0: batch, 1: samples}},
            opset_version=OPSET,
            external_data=False,
            dynamo=True,
            verbose=False,
        )


def _quantize(path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)
    quantize_dynamic(
        path, path, op_types_to_quantize=["MatMul", "Gemm"], weight_type=QuantType.QInt8
    )


def compare(network: torch.nn.Module, backend: OnnxBackend) -> float:
    """Return the largest difference of a logit on noise of several batches and lengths."""
    rng = np.random.default_rng(0)
    worst = 0.0
    for batch, samples in ((1, 1600), (3, 16000), (2, 33333)):
        speech = rng.normal(0, 0.1, (batch, samples)).astype(np.float32)
        with torch.inference_mode():
            expected = network(torch.from_numpy(speech))
        found = [logits for logits in backend(speech) if logits is not None]
        for a, b in zip(expected, found, strict=True):
            worst = max(worst, float(np.abs(a.numpy() - b).max()))
    return worst
