from __future__ import annotations

import json

import pytest

from espnet_mtkd.bin import check_options
from espnet_mtkd.errors import UserError
from espnet_mtkd.systems import ROOT, read_yaml

CONFIG = {"head": "mlp", "head_conf": {"hidden_size": 8}, "max_epoch": 2}


def training(config: dict, args: tuple[str, ...] = (), taught: bool = False) -> list[str]:
    """Return the option of a training."""
    facts = {"config_file": "a.yaml", "system": "ft", "taught": taught, "config": config}
    return ["--training", json.dumps({**facts, "option": "student_args", "args": args})]


def test_what_is_right_is_listed(tmp_path):
    argv = [*training(CONFIG), *training({**CONFIG, "weighting": "cosine"}, (), taught=True)]
    argv += training(CONFIG, ("--max_epoch", "3"))
    check_options.main(["--upstream", "fbank", *argv, "--output", str(tmp_path / "options")])
    assert (tmp_path / "options").read_text() == (
        "upstream fbank\na.yaml, conf/systems/ft.yaml\na.yaml, conf/systems/ft.yaml\n"
        "a.yaml, conf/systems/ft.yaml, --student_args '--max_epoch 3'\n"
    )


@pytest.mark.parametrize(
    ("config", "args", "message"),
    [
        ({**CONFIG, "haed": "mlp"}, (), r"^a.yaml, conf/systems/ft.yaml: .*haed"),
        ({**CONFIG, "head": "mpl"}, (), "ft.yaml: head: mpl: must be one of linear, mlp"),
        ({**CONFIG, "weighting": "cosine"}, (), r"ft.yaml: .*weighting"),  # without teachers
        ({**CONFIG, "head_conf": {"hiden": 8}}, (), r"ft.yaml: head_conf: .*'hiden'; MLPHead\("),
        ({**CONFIG, "model_conf": {"mix": 1}}, (), r"ft.yaml: model_conf: .*'mix'"),
        (CONFIG, ("--max_epoh", "3"), r"--student_args '--max_epoh 3': .*--max_epoh"),
        (CONFIG, ("--max_epoch", "many"), r"--student_args '--max_epoch many': .*many"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, config, args, message):
    output = tmp_path / "options"
    with pytest.raises(UserError, match=message):
        check_options.main(
            ["--upstream", "fbank", *training(config, args), "--output", str(output)]
        )
    assert not output.exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"distill_conf": {"lamda": 1}}, r"ft.yaml: distill_conf: .*'lamda'; MultiTeacherLoss\("),
        (
            {"weighting": "cosine", "weighting_conf": {"t": 1}},
            r"ft.yaml: weighting_conf: .*'t'; Cosine",
        ),
    ],
)
def test_what_is_wrong_of_a_student_is_named(tmp_path, config, message):
    given = training({**CONFIG, **config}, (), taught=True)
    with pytest.raises(UserError, match=message):
        check_options.main(["--upstream", "fbank", *given, "--output", str(tmp_path / "options")])


def test_shipped_configs_are_right(tmp_path):
    own = {"kd_lambda": 0.5, "lambda_schedule": "linear", "feature_lambda": 1.0}
    loss = {"feature_loss": "mse", "temperature": 2.0, "standardize": True, "reduction": "mean"}
    argv = training({**CONFIG, "distill_conf": {**own, **loss}}, (), taught=True)
    for path in sorted(ROOT.glob("conf/train*.yaml")):
        argv += training(read_yaml(path))
    check_options.main(["--upstream", "fbank", *argv, "--output", str(tmp_path / "options")])


def test_an_upstream_and_gpus(tmp_path):
    output = ["--output", str(tmp_path / "options")]
    with pytest.raises(UserError, match="--upstream fbnk: S3PRL has no such upstream"):
        check_options.main(["--upstream", "fbnk", *output])
    with pytest.raises(UserError, match="--ngpu 99: torch finds . GPUs on this machine"):
        check_options.main(["--upstream", "fbank", "--ngpu", "99", *output])
