import dataclasses

import numpy as np
import pytest

from espnet_mtkd.errors import UserError
from espnet_mtkd.evaluate import learning, maps
from espnet_mtkd.evaluate.embeddings import (
    Embeddings,
    project,
    read_embeddings,
    same_as_neighbour,
)


def _two_groups(num=40, layers=1):
    """Utterances whose vectors say the emotion, not the language; four speakers."""
    rng = np.random.default_rng(3)
    emotion = np.arange(num) % 2
    vectors = rng.normal(size=(num, 6)) * 0.1
    vectors[:, 0] += np.where(emotion == 1, 3.0, -3.0)
    return Embeddings(
        utt_id=np.array([f"u{i:03d}" for i in range(num)]),
        spk_id=np.array([f"s{i // 2 % 4}" for i in range(num)]),
        lang=np.array(["en", "fi"])[np.arange(num) // 2 % 2],
        ref=np.array(["anger", "sadness"])[emotion],
        embedding=vectors.astype(np.float32),
        layers=np.arange(layers),
        layer_weights=np.full(layers, 1 / layers, dtype=np.float32),
    )


def test_what_was_written_is_read(tmp_path):
    written = _two_groups(layers=3)
    written.write(tmp_path / "deep" / "test.npz")
    found = read_embeddings(tmp_path / "deep" / "test.npz")
    for field in dataclasses.fields(Embeddings):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(written, field.name))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["test.npz"]


def test_wrong_files_are_named(tmp_path):
    path = tmp_path / "test.npz"
    remedy = "make it again with python -m espnet_mtkd.bin.embed"
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match=f"test.npz: no file of embeddings .*{remedy}"):
        read_embeddings(path)
    np.savez(path, utt_id=np.array(["a"]))
    with pytest.raises(UserError, match="test.npz: no file of embeddings"):
        read_embeddings(path)
    np.savez(path, utt_id=np.array([{}], dtype=object))  # would need pickle, which may run code
    with pytest.raises(UserError, match="test.npz: no file of embeddings"):
        read_embeddings(path)
    short = dataclasses.replace(_two_groups(), ref=np.array(["anger"]))
    short.write(path)
    with pytest.raises(UserError, match="different lengths"):
        read_embeddings(path)


def test_neighbours_by_hand():
    vectors = np.array([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0], [0.1, 3.0]])
    speakers = np.array(["a", "b", "a", "b"])
    assert same_as_neighbour(vectors, np.array([0, 0, 1, 1]), speakers) == 1.0
    assert same_as_neighbour(vectors, np.array([0, 1, 1, 0]), speakers) == 0.0
    # A neighbour of the same speaker does not count.
    speakers = np.array(["a", "a", "b", "b"])
    assert same_as_neighbour(vectors, np.array([0, 0, 1, 1]), speakers) == 0.0
    assert same_as_neighbour(vectors, np.array([0, 0, 1, 1]), np.array(["a"] * 4)) is None


def test_neighbours_of_many_equal_a_slow_computation():
    rng = np.random.default_rng(0)
    vectors, labels = rng.normal(size=(1100, 4)), rng.integers(3, size=1100)
    speakers = rng.integers(7, size=1100)
    hits = 0
    for i, vector in enumerate(vectors):
        others = np.flatnonzero(speakers != speakers[i])
        near = vectors[others] @ vector / np.linalg.norm(vectors[others], axis=1)
        hits += labels[others[near.argmax()]] == labels[i]
    assert same_as_neighbour(vectors, labels, speakers) == hits / 1100


@pytest.mark.parametrize("num", [1, 2, 4, 5, 40])
def test_any_number_of_vectors_has_a_map(num):
    vectors = _two_groups(40).embedding[:num]
    points = project(vectors)
    assert points.shape == (num, 2) and np.isfinite(points).all()
    np.testing.assert_array_equal(points, project(vectors))


def test_groups_lie_apart_on_the_map():
    found = _two_groups()
    points = project(found.embedding)
    centres = [points[found.ref == e].mean(0) for e in ("anger", "sadness")]
    spread = max(points[found.ref == e].std(0).max() for e in ("anger", "sadness"))
    assert np.linalg.norm(centres[0] - centres[1]) > 2 * spread


def test_section_draws_two_maps_of_a_model(monkeypatch):
    html = "".join(maps.section({"mtkd": _two_groups()}))
    assert html.count("<figure>") == 2
    assert "nearest neighbour of the same emotion: 100 % (by chance 50 %)" in html
    assert "Map of 40 utterances" in html
    monkeypatch.setattr(maps, "MAX_POINTS", 10)
    html = "".join(maps.section({"mtkd": _two_groups()}))
    assert "Map of 10 utterances" in html
    assert "same emotion: 100 %" in html  # of all
    assert "No vectors were stored" in "".join(maps.section({}))


def test_layer_weights_are_drawn_where_there_are_layers():
    assert learning.layer_weights({"mtkd": _two_groups(layers=1)}) == []
    found = dataclasses.replace(_two_groups(layers=3), layer_weights=np.array([0.2, 0.3, 0.5]))
    html = "".join(learning.layer_weights({"mtkd": found, "ft": _two_groups(layers=1)}))
    assert "mtkd: most on layer 2" in html
    assert "ft" not in html
