from __future__ import annotations

import sys
import types

import pytest

from espnet_mtkd.bin import typology
from espnet_mtkd.distill.weighting import read_relevance
from espnet_mtkd.errors import UserError

VECTORS = {"deu": [1.0, 0.0, 1.0], "eng": [1.0, 1.0, 1.0], "urd": [0.0, 1.0, 0.0]}


@pytest.fixture
def stand_in(monkeypatch):
    """A module with the part of lang2vec's interface that is used."""
    inner = types.SimpleNamespace(
        FEATURE_SETS=["syntax_wals", "syntax_knn"],
        LETTER_CODES={"de": "deu", "en": "eng", "ur": "urd"},
        URIEL_LANGUAGES=set(VECTORS),
        get_features=lambda codes, name: {
            code: VECTORS[code] if name.endswith("knn") else ["--", 1.0, 0.0] for code in codes
        },
    )
    module = types.ModuleType("lang2vec")
    module.lang2vec = inner
    monkeypatch.setitem(sys.modules, "lang2vec", module)


def run(tmp_path, *more: str) -> dict[tuple[str, str], float]:
    (tmp_path / "teachers").write_text("a de\nb en\nc all\n")
    (tmp_path / "languages").write_text("de\nur\n")
    argv = [f"--{name}={tmp_path / name}" for name in ("teachers", "languages")]
    typology.main([*argv, "--output", str(tmp_path / "relevance"), *more])
    return read_relevance(tmp_path / "relevance")


def test_cosines(stand_in, tmp_path):
    values = run(tmp_path)
    assert values["a", "de"] == 1 and values["a", "ur"] == 0
    assert values["b", "de"] == pytest.approx(2 / 6**0.5, abs=1e-6)
    assert values["b", "ur"] == pytest.approx(1 / 3**0.5, abs=1e-6)
    assert values["c", "de"] == values["c", "ur"] == 1 and len(values) == 6


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("sintax", "--features sintax: must be one of syntax_wals syntax_knn"),
        ("syntax_wals", "--features syntax_wals: has gaps; take one that ends on _knn"),
    ],
)
def test_bad_features(stand_in, tmp_path, features, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path, "--features", features)


def test_unknown_language(stand_in):
    with pytest.raises(UserError, match="language xx: lang2vec does not know it"):
        typology.similarities(["de", "xx"], "syntax_knn")


def test_without_lang2vec(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "lang2vec", None)
    with pytest.raises(UserError, match='pip install lang2vec "setuptools<81"'):
        run(tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_the_values_of_the_real_one():
    pytest.importorskip("lang2vec", reason="lang2vec is not installed")
    values = typology.similarities(["de", "en", "it", "ur"], "syntax_knn")
    assert values["en", "de"] == pytest.approx(0.90, abs=0.005)
    assert values["en", "it"] == pytest.approx(0.86, abs=0.005)
    assert values["en", "ur"] == pytest.approx(0.62, abs=0.005)
