from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from espnet_mtkd import EmotionRecognizer
from espnet_mtkd.errors import UserError
from espnet_mtkd.use.archive import FORMAT, is_safe, open_model

pytestmark = pytest.mark.usefixtures("no_network")


def repack(archive: Path, target: Path, **changes: object) -> Path:
    """Copy an archive; ``changes``: new bytes of members, or None to leave one out."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            content = changes.pop(info.filename, old.read(info))
            if content is not None:
                new.writestr(info, content)
        for name, content in changes.items():
            new.writestr(name, content)
    return target


def changed_config(archive: Path, target: Path, **changes: object) -> Path:
    with zipfile.ZipFile(archive) as file:
        config = yaml.safe_load(file.read("config.yaml"))
    for key, value in changes.items():
        if key in ("upstream", "path_or_url"):
            config["frontend_conf"][key] = value
        elif value is None:
            del config[key]
        else:
            config[key] = value
    return repack(archive, target, **{"config.yaml": yaml.safe_dump(config).encode()})


def refuses(path: Path, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        EmotionRecognizer.from_pretrained(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "C:/x", "a\\x", "a/..", "..\\x"])
def test_names_that_leave_the_folder(trained, tmp_path, name):
    assert not is_safe(name)
    target = tmp_path / "in" / "evil.zip"
    target.parent.mkdir()
    repack(trained.packed("fbank"), target, **{name: b"owned"})
    refuses(target, f"{target}: unsafe member .*; nothing was unpacked")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["evil.zip", "in"]


def test_links_are_refused(trained, tmp_path):
    target = repack(trained.packed("fbank"), tmp_path / "evil.zip")
    with zipfile.ZipFile(target, "a") as file:
        info = zipfile.ZipInfo("upstream")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(info, "/etc")
    refuses(target, "unsafe member 'upstream'")


def test_what_would_fill_the_disk_is_refused(trained, tmp_path):
    target = tmp_path / "bomb.zip"
    repack(trained.packed("fbank"), target)
    with zipfile.ZipFile(target, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(200 * target.stat().st_size))
    refuses(target, r"bomb.zip: its \d+ bytes would unpack to \d+, .*; nothing was unpacked")


@pytest.mark.parametrize("name", ["/etc/hostname", "../../secret", "gone.pth"])
def test_meta_that_names_files_elsewhere(trained, tmp_path, name):
    meta = {"yaml_files": {"ser_train_config": "config.yaml"}, "files": {"ser_model_file": name}}
    target = tmp_path / "evil.zip"
    repack(trained.packed("fbank"), target, **{"meta.yaml": yaml.safe_dump(meta)})
    refuses(target, f"meta.yaml names {name}, which is not in the archive")


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("owned"),))


def test_a_pickle_is_not_run(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"x": Evil()}, tmp_path / "evil.pth")
    target = tmp_path / "evil.zip"
    content = (tmp_path / "evil.pth").read_bytes()
    repack(trained.packed("fbank"), target, **{"model.pth": content})
    refuses(target, "the parameters hold more than numbers")
    assert not (tmp_path / "owned").exists()


def test_a_pickle_of_the_upstream_is_not_run(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"x": Evil()}, tmp_path / "evil.bin")
    target = tmp_path / "evil.zip"
    content = (tmp_path / "evil.bin").read_bytes()
    members = {"upstream/model.safetensors": None, "upstream/pytorch_model.bin": content}
    repack(trained.packed("hubert"), target, **members)
    refuses(target, f"{target}: ")
    assert not (tmp_path / "owned").exists()


def test_yaml_that_would_make_objects(trained, tmp_path):
    target = tmp_path / "evil.zip"
    text = "!!python/object/apply:os.system ['touch owned']"
    repack(trained.packed("fbank"), target, **{"config.yaml": text})
    refuses(target, "config.yaml is no YAML file")
    repack(trained.packed("fbank"), target, **{"meta.yaml": text})
    refuses(target, "no meta.yaml that names")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mtkd_format": FORMAT + 1}, r"a newer espnet-mtkd \(format 2, this one reads 1\); upgra"),
        ({"mtkd_format": "x"}, "made by a newer espnet-mtkd"),
        ({"emotions": None}, "no label set: emotions in config.yaml is None"),
        ({"emotions": []}, r"no label set: emotions in config.yaml is \[\]"),
        ({"emotions": [1, 2]}, "no label set"),
        ({"frontend_conf": [1]}, "is not the config of a classifier"),
        ({"upstream": "hubert"}, "its upstream hubert is not in the archive"),
        ({"path_or_url": "/tmp"}, "its upstream /tmp is not in the archive"),
        ({"path_or_url": "../.."}, "its upstream ../.. is not in the archive"),
        ({"path_or_url": "https://x.org/y"}, "its upstream https://x.org/y is not in the archive"),
        ({"head_conf": {"hidden_size": 3}}, "size mismatch|do not fit|RuntimeError"),
        ({"head_conf": {"magic": 3}}, "unexpected keyword"),
        ({"emotions": ["a", "b"]}, "size mismatch|RuntimeError"),
        ({"head": None}, "KeyError: 'head'"),
        ({"model_conf": 7}, "AttributeError|TypeError"),
    ],
)
def test_configs_of_other_programs_and_versions(trained, tmp_path, changes, message):
    refuses(changed_config(trained.packed("fbank"), tmp_path / "x.zip", **changes), message)


@pytest.mark.parametrize("upstream", ["hubert_url", "hubert_base", "customized_upstream"])
def test_upstreams_that_would_fetch_something(trained, tmp_path, upstream):
    target = changed_config(trained.packed("whisper"), tmp_path / "x.zip", upstream=upstream)
    refuses(target, f"its upstream {upstream} does not read files of an archive")


def test_broken_archives(trained, tmp_path):
    path = tmp_path / "x.zip"
    path.write_bytes(b"PK not a zip")
    refuses(path, f"{path}: no archive of a model, or a broken one")
    content = bytearray(trained.packed("whisper").read_bytes())
    path.write_bytes(content[: len(content) // 2])
    refuses(path, f"{path}: no archive of a model, or a broken one")
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(255 - b for b in content[middle : middle + 40])
    path.write_bytes(content)
    refuses(path, f"{path}: ")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("other.txt", "")
    refuses(path, "no meta.yaml that names ser_train_config and ser_model_file")


@pytest.mark.parametrize("name", ["gone.zip", "gone/deep/mtkd", "./gone"])
def test_no_such_model(name):
    refuses(Path(name) if name != "./gone" else name, "no such archive or folder of a trained mod")


def test_a_folder_that_is_no_model(tmp_path):
    refuses(tmp_path, f"{tmp_path}/config.yaml: no such file; has this model been trained")


def test_an_archive_without_temperature_is_not_calibrated(trained, tmp_path):
    target = changed_config(trained.packed("fbank"), tmp_path / "x.zip", temperature=None)
    assert EmotionRecognizer.from_pretrained(target).temperature is None


def test_a_training_is_calibrated_by_its_dev_set(trained, tmp_path):
    folder = trained("fbank")
    packed = EmotionRecognizer.from_pretrained(trained.packed("fbank"))
    assert EmotionRecognizer.from_pretrained(folder).temperature == packed.temperature
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "dev.tsv").unlink()
    assert EmotionRecognizer.from_pretrained(other).temperature is None


def test_nothing_is_left_behind(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    recognizer = EmotionRecognizer.from_pretrained(trained.packed("hubert"))
    assert not list(tmp_path.iterdir())
    recognizer(np.linspace(-0.1, 0.1, 16000))
    with pytest.raises(UserError), open_model(trained.packed("hubert")):
        raise UserError("x")
    assert not list(tmp_path.iterdir())
