import json

import pytest

from espnet_mtkd.errors import UserError
from espnet_mtkd.evaluate.experiment import read_experiment, read_history, read_info


def _change(expdir, **values):
    path = expdir / "experiment.json"
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not ...}))


def test_reads_names_and_keeps_further_keys(make_exp):
    expdir = make_exp()
    _change(expdir, further=3)
    experiment = read_experiment(expdir)
    assert experiment.models == ["teacher_en", "teacher_fi", "teacher_fr", "ft", "kd", "mtkd"]
    assert experiment.own_language("teacher_fi") == "fi"
    assert experiment.model_dir(2, 0, "ft") == expdir / "fold_2" / "seed_0" / "ft"
    assert experiment.raw["further"] == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"systems": ...}, "key `systems` is missing"),
        ({"seeds": 0}, "key `seeds` is 0, not a list"),
        ({"emotions": []}, "key `emotions` is empty"),
        ({"systems": ["ft", "ft"]}, "key `systems` names something twice"),
        ({"systems": [], "teachers": []}, "nothing to score"),
        ({"teachers": ["teacher_sv"]}, "teacher `teacher_sv` is not teacher_<language>"),
    ],
)
def test_wrong_content_is_named(make_exp, values, message):
    expdir = make_exp()
    _change(expdir, **values)
    with pytest.raises(UserError, match=rf"experiment\.json: .*{message}"):
        read_experiment(expdir)


def test_no_experiment(tmp_path):
    with pytest.raises(UserError, match=r"experiment\.json: no such file; .*--expdir"):
        read_experiment(tmp_path)


def test_broken_json_is_named_with_its_line(make_exp):
    expdir = make_exp()
    (expdir / "experiment.json").write_text('{\n"name": \n}')
    with pytest.raises(UserError, match=r"experiment\.json:3: not valid JSON"):
        read_experiment(expdir)
    (expdir / "experiment.json").write_text("[]")
    with pytest.raises(UserError, match=r"experiment\.json: holds no JSON object"):
        read_experiment(expdir)


def test_info_must_hold_numbers(make_exp):
    expdir = make_exp()
    experiment = read_experiment(expdir)
    assert read_info(experiment, 1, 0, "ft")["num_params"] == 130_000
    path = expdir / "fold_1" / "seed_0" / "ft" / "info.json"
    path.write_text(json.dumps({"num_params": "many"}))
    with pytest.raises(UserError, match=r"info\.json: key `num_params` is 'many', not a number"):
        read_info(experiment, 1, 0, "ft")


def test_history_is_sorted_by_number_of_epoch(make_exp):
    expdir = make_exp(num_epochs=10)
    experiment = read_experiment(expdir)
    assert list(read_history(experiment, 1, 0, "ft")) == list(range(1, 12))
    path = expdir / "fold_1" / "seed_0" / "ft" / "history.json"
    path.write_text('{"last": {}}')
    with pytest.raises(UserError, match=r"history\.json: has a key that is not the number"):
        read_history(experiment, 1, 0, "ft")
