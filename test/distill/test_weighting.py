"""Each weighting has a case computed by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from espnet_mtkd.distill.gate import Gate
from espnet_mtkd.distill.opinions import Opinions
from espnet_mtkd.distill.weighting import WEIGHTINGS, AbsWeighting, read_relevance
from espnet_mtkd.errors import UserError

NAMES = sorted(WEIGHTINGS)
TEMPERED = ["cosine", "cosine_batch", "label", "similarity"]
BY_LANGUAGE = ["language", "lid", "fixed", "similarity", "learned"]
LANGUAGES = ["de", "en", "it"]
TEACHERS = [("a", "de"), ("b", "en"), ("c", "it")]
# How much a language has of each teacher; every number occurs once.
SCORES = {
    "de": {"a": 0.8, "b": 0.5, "c": 0.3, "d": 0.45},
    "en": {"a": 0.4, "b": 0.7, "c": 0.6, "d": 0.35},
    "it": {"a": 0.2, "b": 0.1, "c": 0.9, "d": 0.55},
}


@pytest.fixture
def relevance(tmp_path) -> Path:
    """A file of ``similarity``."""
    lines = [f"{t} {lang} {v}\n" for lang, row in SCORES.items() for t, v in row.items()]
    (tmp_path / "relevance").write_text("".join(lines))
    return tmp_path / "relevance"


@pytest.fixture
def build(relevance, tmp_path):
    """Make a weighting; what it cannot do without gets a value."""

    def make(name: str, teachers=TEACHERS, languages=LANGUAGES, **options) -> AbsWeighting:
        if name == "similarity":
            options.setdefault("relevance", str(relevance))
        if name == "learned" and "gate" not in options:
            names = [teacher for teacher, _ in teachers]
            table = [[SCORES[k][t] for t in names] for k in SCORES]
            gate = Gate(names, list(SCORES), table, [2.0, 1.0], 0.0, 0.0)
            (tmp_path / "gate").write_text(gate.to_json())
            options["gate"] = str(tmp_path / "gate")
        if name == "fixed" and "matrix" not in options:
            known = [teacher for teacher, _ in teachers]
            options["matrix"] = {
                k: {t: SCORES[k][t] for t in SCORES[k] if t in known} for k in languages
            }
        return WEIGHTINGS[name](teachers, languages, **options)

    return make


def apply(weighting, student=None, teachers=None, emotion=None, language=None, posterior=None):
    """Weights of a batch; what is not given is random."""
    given = (student, teachers, emotion, language, posterior, [0] * 6)
    batch = next(len(x) for x in given if x is not None)
    generator = torch.Generator().manual_seed(1)
    student = torch.randn(batch, 4, generator=generator) if student is None else student
    if teachers is None:
        shape = (batch, len(weighting.teachers), len(student[0]))
        teachers = torch.randn(shape, generator=generator)
    if posterior is None:
        logits = torch.randn(batch, len(weighting.languages), generator=generator)
        posterior = logits.softmax(-1)
    zeros = torch.zeros(batch, dtype=torch.long)
    opinions = Opinions(
        torch.as_tensor(student),
        torch.as_tensor(teachers),
        zeros if emotion is None else torch.as_tensor(emotion),
        zeros if language is None else torch.as_tensor(language),
        torch.as_tensor(posterior),
    )
    return weighting(opinions)


def softmax(*values):
    total = sum(math.exp(value) for value in values)
    return [math.exp(value) / total for value in values]


# ---- what all have in common -------------------------------------------------------------------

# One teacher for each language, several for one, one of all languages, a language without any.
CASTS = [
    TEACHERS,
    [("a", "de"), ("b", "en"), ("c", "it"), ("d", "de")],
    [("a", "all"), ("b", "all")],
    [("a", "de"), ("b", "de"), ("c", "all")],
]


def test_the_registry_has_the_weightings_of_the_design():
    expected = {"uniform", "cosine_batch", "cosine", "language", "label"}
    assert expected | {"lid", "fixed", "similarity", "learned"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cast", CASTS)
def test_rows_sum_to_one_and_are_not_negative(build, name, cast):
    emotion, language = [0, 1, 2, 3, -1, 1], [0, 1, 2, 0, 1, 2]
    w = apply(build(name, cast), emotion=emotion, language=language)
    assert w.shape == (6, len(cast))
    torch.testing.assert_close(w.sum(-1), torch.ones(6))
    assert (w >= 0).all() and not w.requires_grad


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cast", [cast for cast in CASTS if len(cast) > 2])
def test_reordering_the_teachers_reorders_the_weights(build, name, cast):
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(6, len(cast), 4, generator=generator)
    rest = dict(emotion=[0, 1, 2, 3, 0, -1], language=[0, 1, 2, 0, 1, 2])
    rest["student"] = torch.randn(6, 4, generator=generator)
    rest["posterior"] = torch.rand(6, 3, generator=generator).softmax(-1)
    w = apply(build(name, cast), teachers=logits, **rest)
    order = [2, 0, 3, 1][-len(cast) :] if len(cast) == 4 else [2, 0, 1]
    moved = apply(build(name, [cast[i] for i in order]), teachers=logits[:, order], **rest)
    torch.testing.assert_close(moved, w[:, order])


@pytest.mark.parametrize("name", BY_LANGUAGE)
def test_languages_go_by_name_not_by_index(build, name):
    posterior = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    w = apply(build(name), language=[0, 2], posterior=posterior)
    moved = build(name, languages=["it", "de", "en"])
    other = apply(moved, language=[1, 0], posterior=posterior[:, [2, 0, 1]])
    torch.testing.assert_close(other, w)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("language", ["de", "it", "all"])
def test_a_single_teacher_has_all_the_weight(build, name, language):
    w = apply(build(name, [("a", language)]), language=[0, 1], emotion=[2, -1])
    torch.testing.assert_close(w, torch.ones(2, 1))


@pytest.mark.parametrize("name", TEMPERED)
@pytest.mark.parametrize("tau", [0, -0.1])
def test_tau_must_be_above_zero(build, name, tau):
    with pytest.raises(UserError, match=f"tau {tau}: must be above 0"):
        build(name, tau=tau)


@pytest.mark.parametrize("name", TEMPERED)
def test_small_tau_stays_finite(build, name):
    assert apply(build(name, tau=1e-4)).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_a_weighting_without_parameters_is_stored(build, name):
    assert build(name).state_dict() == {} and not list(build(name).parameters())


# ---- uniform, cosine ---------------------------------------------------------------------------


def test_uniform(build):
    w = apply(build("uniform", [("a", "de"), ("b", "en"), ("c", "it"), ("d", "it")]), language=[0])
    assert w.tolist() == [[0.25] * 4]


# The student is (1, 0); teachers along it, across it and against it have cosines 1, 0 and -1.
STUDENT = [[1.0, 0.0], [0.0, 2.0]]
ANSWERS = [[[3.0, 0.0], [0.0, 5.0], [-1.0, 0.0]], [[3.0, 0.0], [0.0, 5.0], [0.0, -1.0]]]


@pytest.mark.parametrize("tau", [0.25, 1.0])
def test_cosine(build, tau):
    w = apply(build("cosine", tau=tau), STUDENT, ANSWERS)
    expected = [softmax(1 / tau, 0, -1 / tau), softmax(0, 1 / tau, -1 / tau)]
    torch.testing.assert_close(w, torch.tensor(expected))


@pytest.mark.parametrize("tau", [0.25, 1.0])
def test_cosine_batch(build, tau):
    w = apply(build("cosine_batch", tau=tau), STUDENT, ANSWERS)
    row = softmax(0.5 / tau, 0.5 / tau, -1 / tau)
    torch.testing.assert_close(w, torch.tensor([row, row]))


def test_cosine_batch_is_one_vector_for_the_batch(build):
    w = apply(build("cosine_batch"))
    assert torch.equal(w, w[:1].expand(6, -1))
    assert not torch.equal(*apply(build("cosine"))[:2])


@pytest.mark.parametrize("name", ["cosine", "cosine_batch", "label"])
def test_default_temperature_is_the_papers(build, name):
    assert torch.equal(apply(build(name)), apply(build(name, tau=0.25)))


# ---- language, lid -----------------------------------------------------------------------------


def test_language_takes_the_teacher_of_the_language(build):
    w = apply(build("language", [("a", "en"), ("b", "de"), ("c", "it")]), language=[0, 1, 2])
    assert w.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_language_shares_among_several_teachers_of_a_language(build):
    cast = [("a", "de"), ("b", "en"), ("c", "en"), ("d", "all")]
    w = apply(build("language", cast), language=[0, 1])
    assert w.tolist() == [[1, 0, 0, 0], [0, 0.5, 0.5, 0]]


def test_language_without_a_teacher_takes_all(build):
    cast = [("a", "de"), ("b", "en"), ("c", "all"), ("d", "all")]
    w = apply(build("language", cast), language=[0, 2])
    assert w.tolist() == [[1, 0, 0, 0], [0.25, 0.25, 0.25, 0.25]]


def test_lid_shares_among_the_languages_that_the_student_hears(build):
    cast = [("a", "de"), ("b", "en"), ("c", "en"), ("d", "all")]
    posterior = [[0.5, 0.5, 0.0], [0.1, 0.2, 0.7]]
    w = apply(build("lid", cast), posterior=posterior, language=[2, 2])
    # Italian has no teacher of its own: its share goes to all four.
    expected = [[0.5, 0.25, 0.25, 0], [0.1 + 0.175, 0.1 + 0.175, 0.1 + 0.175, 0.175]]
    torch.testing.assert_close(w, torch.tensor(expected))


def test_lid_that_is_sure_is_language(build):
    language = [0, 1, 2, 1]
    sure = torch.eye(3)[language]
    w = apply(build("lid", CASTS[1]), posterior=sure, language=[0] * 4)
    torch.testing.assert_close(w, apply(build("language", CASTS[1]), language=language))


def test_lid_without_a_language_head(build):
    x = torch.zeros(2, 4), torch.zeros(2, 3, 4), torch.zeros(2).long(), torch.zeros(2).long()
    with pytest.raises(UserError, match="lid needs a language head: set model_conf: lid_lambda"):
        build("lid")(Opinions(*x))


# ---- label -------------------------------------------------------------------------------------


def test_label(build):
    # Probabilities of the right class: 0.8 and 0.2 for the first, 0.5 and 0.25 for the second.
    probabilities = torch.tensor([[[0.8, 0.2], [0.2, 0.8]], [[0.5, 0.5], [0.75, 0.25]]])
    weighting = build("label", TEACHERS[:2], tau=0.5)
    w = apply(weighting, teachers=probabilities.log() + 3, emotion=[0, 1], student=torch.ones(2, 2))
    # softmax of log p / tau is p^(1 / tau), normalised.
    expected = [[0.64 / 0.68, 0.04 / 0.68], [0.25 / 0.3125, 0.0625 / 0.3125]]
    torch.testing.assert_close(w, torch.tensor(expected))


def test_label_trusts_the_teacher_that_is_right(build):
    teachers = 5 * torch.eye(4)[None].expand(4, 4, 4)  # teacher k always says class k
    w = apply(build("label", CASTS[1]), teachers=teachers, emotion=[0, 1, 2, 3])
    assert w.argmax(-1).tolist() == [0, 1, 2, 3]
    assert w.max(-1).values.min() > 0.99


def test_a_hidden_label_makes_all_teachers_count_the_same(build):
    student, teachers = torch.randn(3, 4), 9 * torch.randn(3, 3, 4)
    some = apply(build("label"), student, teachers, emotion=[2, -1, 0])
    every = apply(build("label"), student, teachers, emotion=[2, 1, 0])
    torch.testing.assert_close(some[1], torch.full((3,), 1 / 3))
    torch.testing.assert_close(some[[0, 2]], every[[0, 2]])
    assert not torch.allclose(every[1], torch.full((3,), 1 / 3))


# ---- fixed -------------------------------------------------------------------------------------


def test_fixed_scales_the_rows_and_leaves_out_who_is_not_named(build):
    matrix = {"de": {"a": 3, "c": 1}, "en": {"b": 0.2}, "it": {"a": 1, "b": 1, "c": 0}}
    w = apply(build("fixed", matrix=matrix), language=[0, 1, 2, 0])
    expected = [[0.75, 0, 0.25], [0, 1, 0], [0.5, 0.5, 0], [0.75, 0, 0.25]]
    torch.testing.assert_close(w, torch.tensor(expected))


@pytest.mark.parametrize(
    "row",
    [
        pytest.param({"b": 1, "x": 1}, id="unknown teacher"),
        pytest.param({"b": 1, "c": -0.5}, id="negative"),
        pytest.param({"b": 0}, id="only zeros"),
        pytest.param({}, id="nothing"),
        pytest.param(None, id="missing language"),
    ],
)
def test_a_matrix_that_cannot_be_used(build, row):
    matrix = {"de": {"a": 1}, "en": row, "it": {"c": 1}}
    if row is None:
        del matrix["en"]
    with pytest.raises(UserError, match="matrix: en: .*: must give some of a, b, c a weight, none"):
        build("fixed", matrix=matrix)


def test_fixed_with_a_language_that_is_not_there(build):
    matrix = {**{k: {"a": 1.0} for k in LANGUAGES}, "ur": {"a": 1.0}}
    with pytest.raises(UserError, match="matrix: ur: must be one of de, en, it"):
        build("fixed", matrix=matrix)


# ---- similarity --------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_similarity(build, tau):
    w = apply(build("similarity", tau=tau), language=[1, 0, 2])
    rows = [softmax(*(SCORES[k][t] / tau for t in "abc")) for k in ("en", "de", "it")]
    torch.testing.assert_close(w, torch.tensor(rows))


def test_ten_points_make_a_factor_of_e(build):
    w = apply(build("similarity"), language=[1])[0]  # English: b 0.7, c 0.6
    assert (w[1] / w[2]).item() == pytest.approx(math.e, rel=1e-4)


def test_similarity_of_an_ensemble(build, tmp_path):
    cast = [("a.0", "de"), ("a.1", "de"), ("ft.0", "all")]
    uar = {"a.0": 0.5, "a.1": 0.7, "ft.0": 0.6}
    lines = [f"{t} {k} {v}\n" for k in LANGUAGES for t, v in uar.items()]
    (tmp_path / "own").write_text("".join(lines) + "another en 0.9\n")
    w = apply(build("similarity", cast, relevance=str(tmp_path / "own"), tau=1.0), language=[0])
    torch.testing.assert_close(w, torch.tensor([softmax(0.5, 0.7, 0.6)]))


def test_a_language_without_a_line_has_all_teachers_in_equal_parts(build, relevance):
    lines = relevance.read_text().splitlines(keepends=True)
    relevance.write_text("".join(line for line in lines if line.split()[1] != "it"))
    w = apply(build("similarity"), language=[0, 1, 2])
    language = build("similarity").languages.index("it")
    torch.testing.assert_close(w[language], torch.full_like(w[language], 1 / w.shape[1]))
    assert all(w[k].max() > w[k].min() for k in range(3) if k != language)


def test_a_teacher_without_a_line(build, relevance):
    relevance.write_text(relevance.read_text().replace("b it", "b fr"))
    with pytest.raises(UserError, match="relevance: no line for teacher b on it"):
        build("similarity")


@pytest.mark.parametrize("line", ["a de", "a de 0.5 x", "a de high", ""])
def test_a_broken_line(relevance, line):
    relevance.write_text(f"a de 0.5\n{line}\n")
    with pytest.raises(UserError, match="relevance:2: must hold 'teacher language value'"):
        read_relevance(relevance)


def test_a_missing_file_of_relevance(build):
    with pytest.raises(UserError, match="relevance /nowhere: no such file"):
        build("similarity", relevance="/nowhere")


# ---- with the model ----------------------------------------------------------------------------


def test_the_base_class_mixes_nothing():
    with pytest.raises(NotImplementedError):
        apply(AbsWeighting(TEACHERS, LANGUAGES))


# ---- learned -----------------------------------------------------------------------------------


def test_learned(build, tmp_path):
    gate = Gate(["a", "b"], ["en"], [[0.5, -0.5]], [2.0, 3.0], 0.0, 0.0)
    (tmp_path / "own").write_text(gate.to_json())
    cast = [("a", "de"), ("b", "en")]
    weighting = build("learned", cast, ["it", "en"], gate=str(tmp_path / "own"))
    # Probabilities .9 and .1 against .6 and .4: confidence .9 and .6, agreement 1 - .3 for both.
    logits = torch.log(torch.tensor([[[0.9, 0.1], [0.6, 0.4]]]))
    english = apply(weighting, teachers=logits, student=[[0.0, 0.0]], language=[1])
    expected = softmax(0.5 + 2 * 0.9 + 3 * 0.7, -0.5 + 2 * 0.6 + 3 * 0.7)
    torch.testing.assert_close(english, torch.tensor([expected]))
    # Of Italian the gate knows nothing: only what the teachers say counts.
    italian = apply(weighting, teachers=logits, student=[[0.0, 0.0]], language=[0])
    torch.testing.assert_close(italian, torch.tensor([softmax(2 * 0.9, 2 * 0.6)]))


def test_a_gate_of_other_teachers(build, tmp_path):
    gate = Gate(["a", "b"], ["en"], [[0.5, -0.5]], [2.0, 3.0], 0.0, 0.0)
    (tmp_path / "own").write_text(gate.to_json())
    with pytest.raises(UserError, match="own: a gate for a, b, but the teachers are a, b, c"):
        build("learned", gate=str(tmp_path / "own"))


@pytest.mark.parametrize("text", ["{", "[1]", '{"teachers": []}'])
def test_what_is_no_gate(build, tmp_path, text):
    (tmp_path / "own").write_text(text)
    with pytest.raises(UserError, match="weighting_conf: gate .*own: not a gate"):
        build("learned", gate=str(tmp_path / "own"))
    with pytest.raises(UserError, match="gate /nowhere: no such file; stage 6 writes it"):
        build("learned", gate="/nowhere")


# ---- teachers that do not know all classes -----------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_weights_where_classes_are_unknown(build, name):
    logits = torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(2))
    logits[:, 1, 2] = logits[:, 2, :2] = torch.nan
    rest = dict(emotion=[0, 1, 2, 3, -1, 1], language=[0, 1, 2, 0, 1, 2])
    w = apply(build(name), teachers=logits, **rest)
    torch.testing.assert_close(w.sum(-1), torch.ones(6))
    assert (w >= 0).all()


@pytest.mark.parametrize("batch", [False, True])
def test_cosine_is_over_the_known_classes(build, batch):
    student = [[1.0, 0.0, 7.0], [0.0, 1.0, 7.0]]
    nan = math.nan
    answers = [[[2.0, 0.0, nan], [0.0, 0.0, 3.0], [nan, 0.0, -2.0]]] * 2
    cosines = torch.tensor(
        [[1.0, 7 / math.sqrt(50), -1.0], [0.0, 7 / math.sqrt(50), -7 / math.sqrt(50)]]
    )
    w = apply(build("cosine_batch" if batch else "cosine", tau=1.0), student, answers)
    expected = cosines.mean(0).expand(2, -1) if batch else cosines
    torch.testing.assert_close(w, expected.softmax(-1))


def test_label_that_a_teacher_does_not_know(build):
    nan = math.nan
    answers = [[[0.0, nan], [0.0, 0.0], [math.log(3), 0.0]]] * 2
    w = apply(build("label", tau=1.0), [[0.0, 0.0]] * 2, answers, emotion=[1, 0])
    # Likelihoods of the gold label: 0, 1/2, 1/4; then 1, 1/2, 3/4.
    expected = [[0, 2 / 3, 1 / 3], [4 / 9, 2 / 9, 3 / 9]]
    torch.testing.assert_close(w, torch.tensor(expected))
