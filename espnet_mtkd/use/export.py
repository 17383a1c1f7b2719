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
from espnet_mtkd.use.exportable import exportable
from espnet_mtkd.use.onnx_backend import METADATA, OnnxBackend
from espnet_mtkd.use.torch_backend import no_pickle

OPSET = 18
TOLERANCE = 1e-4  # of logits


def export(files: ModelFiles, output: Path, int8: bool = False) -> float:
    """Write a model as ONNX and check what was written.

    Args:
        files: of the model.
        output: ``.onnx`` file.
        int8: store the learned weights of matrix products in 8 bits and compute in them (dynamic
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
            _quantize(plain, {name for name, _ in network.named_buffers()})
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


def _export(network: torch.nn.Module, names: list[str], path: Path) -> None:
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


def _quantize(path: Path, fixed: set[str]) -> None:
    """Quantise the products of a model but for those with ``fixed`` weights.

    These are filter banks, and the powers that they weigh lie too far apart for 8 bits.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    nodes = onnx.load(path, load_external_data=False).graph.node
    logging.getLogger().setLevel(logging.ERROR)
    quantize_dynamic(
        path,
        path,
        op_types_to_quantize=["MatMul", "Gemm"],
        nodes_to_exclude=[node.name for node in nodes if fixed.intersection(node.input)],
        weight_type=QuantType.QInt8,
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
