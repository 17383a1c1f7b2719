from __future__ import annotations

import json

import pytest

from espnet_mtkd.bin import check_options
from espnet_mtkd.errors import UserError

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


def test_an_upstream_and_gpus(tmp_path):
    output = ["--output", str(tmp_path / "options")]
    with pytest.raises(UserError, match="--upstream fbnk: S3PRL has no such upstream"):
        check_options.main(["--upstream", "fbnk", *output])
    with pytest.raises(UserError, match="--ngpu 99: torch finds . GPUs on this machine"):
        check_options.main(["--upstream", "fbank", "--ngpu", "99", *output])
