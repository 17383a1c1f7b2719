"""The reference of every option."""

import inspect
import re

import pytest
import yaml

from espnet_mtkd.bin import list_options, run_stage
from espnet_mtkd.distill.weighting import WEIGHTINGS
from espnet_mtkd.errors import UserError
from espnet_mtkd.systems import ROOT


def test_page_is_up_to_date():
    list_options.main(["--check"])


def test_stale(tmp_path):
    out = tmp_path / "config.md"
    with pytest.raises(
        UserError, match=r"config\.md: stale; run python -m espnet_mtkd\.bin\.list_o"
    ):
        list_options.main(["--check", "--out", str(out)])
    list_options.main(["--out", str(out)])
    list_options.main(["--check", "--out", str(out)])
    out.write_text(out.read_text().replace("`--num_folds`", "`--folds_num`"))
    with pytest.raises(UserError, match="stale"):
        list_options.main(["--check", "--out", str(out)])


@pytest.fixture(scope="module")
def page():
    return list_options.page(ROOT)


def test_every_key_that_a_file_in_conf_uses_is_there(page):
    listed = set(re.findall(r"^\| `(?:--)?(\w+)` \|", page, re.MULTILINE))
    listed |= set(re.findall(r"^### `(\w+)`", page, re.MULTILINE))
    listed |= set(re.findall(r"^### `\w+` and `(\w+)`", page, re.MULTILINE))
    for path in [*ROOT.glob("conf/*.yaml"), *ROOT.glob("conf/systems/*.yaml")]:
        config = yaml.safe_load(path.read_text())
        for key, value in config.items():
            assert key in listed, f"{path.name}: {key}"
            own = key.endswith("_conf") and key not in ("optim_conf", "scheduler_conf")
            for name in value if own and isinstance(value, dict) else ():
                assert name in listed, f"{path.name}: {key}: {name}"


def test_options_of_the_recipe_and_their_defaults(page):
    for name, default in run_stage.OPTIONS.items():
        if name in ("nj", "train_cmd", "cuda_cmd", "decode_cmd", "command"):
            continue
        value = f"`{default:g}`" if isinstance(default, float) else f"`{default}`"
        assert f"| `--{name}` | {value if default != '' else ''} |" in page


def test_every_weighting_with_its_options(page):
    for name, cls in WEIGHTINGS.items():
        assert f"**`weighting: {name}`**" in page
        for option in [*inspect.signature(cls).parameters][2:]:
            assert re.search(rf"weighting: {name}`.*?\| `{option}` \|", page, re.DOTALL)


class _Example:
    """First line.

    Args:
        one: said
            in two lines.
        two, three: ``b`` of :class:`~some.Thing`.
        **more: not listed.

    Raises:
        ValueError: never.
    """

    def __init__(self, one, two=2, three=None, **more):
        pass


def test_docstrings():
    assert list_options.conf_rows(_Example, ["one"]) == [
        ("two", "`2`", "`b` of `Thing`."),
        ("three", "`None`", "`b` of `Thing`."),
    ]
    assert list_options.described(_Example)["one"] == "said in two lines."

    def silent(four):
        """Nothing."""

    with pytest.raises(UserError, match="silent: its docstring does not say what four is"):
        list_options.conf_rows(silent)
