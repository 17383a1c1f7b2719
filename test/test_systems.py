from __future__ import annotations

from pathlib import Path

import pytest

from espnet_mtkd.errors import UserError
from espnet_mtkd.systems import ROOT, System, find_file, read_yaml

SHIPPED = sorted(path.stem for path in (ROOT / "conf" / "systems").glob("*.yaml"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str, text: str) -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_the_systems_of_the_design_are_there():
    assert {"ft", "kd", "mtkd_uniform", "mtkd_cosine_batch", "mtkd"} <= set(SHIPPED)
    assert {"mtkd_lid", "mtkd_similarity", "paper_exact"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_system_is_complete(name):
    from espnet_mtkd.distill.features import FeatureLoss
    from espnet_mtkd.distill.gate import Gate
    from espnet_mtkd.distill.loss import MultiTeacherLoss
    from espnet_mtkd.distill.weighting import WEIGHTINGS
    from espnet_mtkd.models.mtkd_model import SCHEDULES

    system = System.read(name)
    options = dict(system.options)
    assert system.name == name
    model_conf = dict(options.pop("model_conf", {}))
    if system.teachers == "none" or system.teaching == "live":
        assert 0 <= model_conf.pop("mixup", 0) <= 1  # cached logits are of unmixed utterances
    assert (model_conf.pop("hint_lambda", 0) > 0) == system.frames
    if system.teachers == "none":
        assert model_conf == options == {}
        return
    weighting, weighting_conf = options.pop("weighting"), options.pop("weighting_conf", {})
    if weighting == "similarity":  # the plan knows where the file is
        weighting_conf["relevance"] = str(write("relevance", "a de 0.5\nb de 0.6\n"))
    if weighting == "learned":
        gate = Gate(["a", "b"], ["de"], [[0.0, 0.0]], [0.0, 0.0], 0.0, 0.0)
        weighting_conf["gate"] = str(write("gate", gate.to_json()))
    WEIGHTINGS[weighting]([("a", "de"), ("b", "all")], ["de"], **weighting_conf)
    conf = options.pop("distill_conf")
    assert 0 < conf.pop("kd_lambda") < 1
    assert conf.pop("lambda_schedule", "constant") in SCHEDULES
    if system.features:
        assert conf.pop("feature_lambda") > 0
        FeatureLoss(4, [4, 4], conf.pop("feature_loss"))
    MultiTeacherLoss(**conf)
    if weighting == "lid":
        assert model_conf.pop("lid_lambda") > 0
    assert model_conf == options == {}


def test_teachers_of_the_shipped_systems():
    kinds = {name: System.read(name).teachers for name in SHIPPED}
    assert kinds["ft"] == "none" and kinds["kd"] == "ft"
    assert {kinds[name] for name in kinds if name.startswith("mtkd")} == {"monolingual"}


def test_a_file_here_comes_first():
    assert find_file("conf/systems/kd.yaml") == ROOT / "conf" / "systems" / "kd.yaml"
    own = write("conf/systems/kd.yaml", "teachers: none\nmax_epoch: 3\n")
    assert find_file("conf/systems/kd.yaml") == own
    assert System.read("kd") == System("kd", "none", "cached", {"max_epoch": 3})


def test_a_system_of_ones_own():
    write("conf/systems/mine.yaml", "teachers: monolingual\nweighting: label\n")
    assert System.read("mine").options == {"weighting": "label"}


def test_an_unknown_system_names_the_known_ones():
    write("conf/systems/mine.yaml", "teachers: none\n")
    with pytest.raises(UserError, match="--systems mktd: must be some of ft, .*kd, .*mine, mtkd,"):
        System.read("mktd")


@pytest.mark.parametrize("text", ["teachers: both\n", "weighting: label\n"])
def test_a_system_with_no_known_teachers(text):
    write("conf/systems/odd.yaml", text)
    with pytest.raises(UserError, match="odd.yaml: teachers .*: must be none, monolingual or ft"):
        System.read("odd")


@pytest.mark.parametrize("text", ["alive", "[live]"])
def test_a_system_with_an_unknown_way_of_teaching(text):
    write("conf/systems/odd.yaml", f"teachers: ft\nteaching: {text}\n")
    with pytest.raises(UserError, match="odd.yaml: teaching .*: must be cached or live"):
        System.read("odd")


def test_hints():
    assert System.read("mtkd_hints").hints and not System.read("mtkd").hints
    write("conf/systems/odd.yaml", "teachers: none\nhints: 1\n")
    with pytest.raises(UserError, match="odd.yaml: hints 1: must be true or false"):
        System.read("odd")


def test_hints_beside_the_labels():
    assert System.read("mtkd_frames").frames and not System.read("mtkd_hints").frames
    write("conf/systems/odd.yaml", "teachers: none\nmodel_conf:\n  hint_lambda: 1.0\n")
    with pytest.raises(UserError, match="odd.yaml: hint_lambda needs hints: true"):
        System.read("odd")
    write("conf/systems/odd.yaml", "teachers: none\nhints: true\nmodel_conf:\n  hint_lambda: a\n")
    with pytest.raises(UserError, match="odd.yaml: hint_lambda 'a': must be a number"):
        System.read("odd")


def test_numbers_and_parts_of_a_system():
    write("conf/systems/odd.yaml", "teachers: ft\ndistill_conf:\n  feature_lambda: 1e-1\n")
    assert System.read("odd").features
    write("conf/systems/odd.yaml", "teachers: ft\ndistill_conf:\n  feature_lambda: some\n")
    with pytest.raises(UserError, match="odd.yaml: feature_lambda 'some': must be a number"):
        _ = System.read("odd").features
    write("conf/systems/odd.yaml", "teachers: ft\ndistill_conf:\n")
    with pytest.raises(UserError, match="odd.yaml: distill_conf: must hold 'option: value' lines"):
        System.read("odd")


def test_live_teaching_needs_teachers():
    write("conf/systems/odd.yaml", "teachers: none\nteaching: live\n")
    with pytest.raises(UserError, match="odd.yaml: teaching: live, but teachers: none"):
        System.read("odd")


def test_live_teaching():
    write("conf/systems/alive.yaml", "teachers: ft\nteaching: live\nweighting: uniform\n")
    assert System.read("alive") == System("alive", "ft", "live", {"weighting": "uniform"})


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [1", "x.yaml: not valid YAML: .*line 1"), ("- 1\n", "must hold"), ("", "must hold")],
)
def test_yaml_that_is_none(text, message):
    write("x.yaml", text)
    with pytest.raises(UserError, match=message):
        read_yaml("x.yaml")


def test_a_missing_file():
    with pytest.raises(UserError, match="conf/nothing.yaml: no such file here or in"):
        find_file("conf/nothing.yaml")
