from __future__ import annotations

import shutil
import zipfile

import pytest
import torch
import yaml
from espnet2.main_funcs.pack_funcs import unpack

from espnet_mtkd import EmotionRecognizer
from espnet_mtkd.bin import pack
from espnet_mtkd.errors import UserError
from espnet_mtkd.evaluate.calibration import fit_temperature
from espnet_mtkd.evaluate.predictions import read_predictions
from espnet_mtkd.use.archive import open_model
from espnet_mtkd.use.torch_backend import check_network, trained_model

pytestmark = pytest.mark.usefixtures("no_network")


def test_members_and_config(trained):
    folder, archive = trained("whisper"), trained.packed("whisper")
    with zipfile.ZipFile(archive) as file:
        names = sorted(file.namelist())
        config = yaml.safe_load(file.read("config.yaml"))
        text = b"".join(file.read(n) for n in names if not n.endswith((".pth", ".safetensors")))
    upstream = ("config.json", "model.safetensors", "preprocessor_config.json")
    expected = ["README.md", "config.yaml", "meta.yaml", "model.pth"]
    expected += [f"upstream/{name}" for name in upstream]
    assert [n for n in names if n != "upstream/generation_config.json"] == expected
    dev = read_predictions(folder / "dev.tsv", trained.emotions, trained.languages)
    assert config["temperature"] == fit_temperature(dev.logits, dev.ref)
    assert config["mtkd_format"] == 1 and config["frontend_conf"]["path_or_url"] == "upstream"
    # Nothing of the machine that made it.
    for word in (trained.root, *trained.checkpoints.values(), shutil.os.getcwd()):
        assert str(word).encode() not in text


@pytest.mark.parametrize("kind, keep", [("whisper_stem", 0), ("whisper_lower", 1)])
def test_layers_that_a_student_does_not_use_stay_at_home(trained, kind, keep, tmp_path):
    whole, cut = trained.packed("whisper"), trained.packed(kind)
    sizes, states = [], []
    for archive in (whole, cut):
        unpack(archive, tmp_path / archive.stem)
        with zipfile.ZipFile(archive) as file:
            sizes.append(file.getinfo("upstream/model.safetensors").file_size)
            config = yaml.safe_load(file.read("config.yaml"))
            file.extract("model.pth", tmp_path)
        states.append(torch.load(tmp_path / "model.pth"))
    assert sizes[1] < sizes[0] and config["frontend_conf"]["keep_layers"] == keep
    assert config["layers"] == ([0] if keep == 0 else [1, 0])
    assert [len(state["normalize.mean"]) for state in states] == [3, keep + 1]
    tone = torch.sin(torch.arange(20000) / 20).numpy()
    for model in (EmotionRecognizer.from_pretrained(p) for p in (trained(kind), cut)):
        states.append([model(tone).probabilities[e] for e in trained.emotions])
    assert states[-1] == pytest.approx(states[-2], abs=1e-5)


@pytest.mark.parametrize("kind", ["whisper_slice_tuned", "whisper_cut"])
def test_a_trained_slice_takes_its_layers_along_only(trained, kind):
    with zipfile.ZipFile(trained.packed("whisper_tuned")) as file:
        whole = file.getinfo("upstream/model.safetensors").file_size
    with zipfile.ZipFile(trained.packed(kind)) as file:
        assert file.getinfo("upstream/model.safetensors").file_size < whole
    folder = trained(kind)
    with open_model(trained.packed(kind)) as packed, open_model(folder) as files:
        assert check_network(packed, trained_model(files)) < 1e-5
        assert check_network(files, trained_model(packed)) < 1e-5  # by ESPnet and S3PRL


def test_parameters_of_another_form_are_packed_whole(trained, checkpoints, tmp_path):
    upstream = shutil.copytree(checkpoints["whisper"], tmp_path / "whisper")
    (upstream / "model.safetensors").rename(upstream / "model-00001-of-00001.safetensors")
    folder = shutil.copytree(trained("whisper_stem"), tmp_path / "stem")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["frontend_conf"]["path_or_url"] = str(upstream)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    files = pack.read_folder(folder)
    assert pack.unused_above(files) is None
    (upstream / "model-00001-of-00001.safetensors").rename(upstream / "model.safetensors")
    assert pack.unused_above(files) == 0


def test_espnet_reads_the_format(trained, tmp_path):
    files = unpack(trained.packed("whisper"), tmp_path)
    assert set(files) == {"ser_train_config", "ser_model_file"}
    state = torch.load(files["ser_model_file"], weights_only=True)
    assert "head.1.weight" in state and not any(key.startswith("frontend") for key in state)


def test_model_card(trained):
    with zipfile.ZipFile(trained.packed("fbank")) as file:
        text = file.read("README.md").decode()
    _, header, body = text.split("---\n", 2)
    header = yaml.safe_load(header)
    assert header["pipeline_tag"] == "audio-classification" and header["language"] == ["en", "fi"]
    for part in (
        "# ft: speech emotion recognition in en, fi",
        "This model: fold 1, seed 0, system `ft`; temperature ",
        "| emodb | de | free to use; cite the paper |",
        "| cafe (tested on, not trained on) | fr | CC BY-NC-SA 4.0 |",
        "Protocol si, 1 of 5 folds, seeds 0.",
        "| ft | 61.2 | 61.2 [50.0, 70.0] |",
        "12.3 % as trained, 4.5 % with the temperature",
        "## Intended use and its limits",
        "mtkd predict speech.wav --model ft.zip",
    ):
        assert part in body, part
    assert "synthetic" not in body


def argv_for(folder, output) -> list[str]:
    expdir = str(folder.parents[2])
    return ["--model_dir", str(folder), "--expdir", expdir, "--output", str(output)]


@pytest.fixture
def own(trained, tmp_path):
    """A training that a test may change."""
    root = trained("fbank").parents[3]
    return shutil.copytree(root, tmp_path / "own") / "exp" / "fold_1" / "seed_0" / "ft"


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("model.pth", "no such file; has this model been trained"),
        ("config.yaml", "no such file; has this model been trained"),
        ("dev.tsv", r"no such file; calibration needs it \(stage 8\)"),
        ("../../../results.json", "no such file; stage 9 makes it"),
    ],
)
def test_missing_files(own, tmp_path, file, message):
    (own / file).unlink()
    with pytest.raises(UserError, match=message):
        pack.main(argv_for(own, tmp_path / "x.zip"))
    assert not (tmp_path / "x.zip").exists()


def test_an_upstream_that_is_gone(trained, tmp_path):
    root = trained("whisper_tuned").parents[3]
    own = shutil.copytree(root, tmp_path / "own") / "exp" / "fold_1" / "seed_0" / "ft"
    config = yaml.safe_load((own / "config.yaml").read_text())
    config["frontend_conf"]["path_or_url"] = "/gone"
    (own / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match="/gone"):
        pack.main(argv_for(own, tmp_path / "x.zip"))


def test_what_only_the_training_had_stays_at_home(own, tmp_path):
    state = torch.load(own / "model.pth")
    extra = {f"{name}.weight": torch.zeros(3) for name in ("weighting", "hint_loss")}
    (own / "model.pth").unlink()
    torch.save({**state, **extra}, own / "model.pth")
    pack.main(argv_for(own, tmp_path / "x.zip"))
    packed = torch.load(unpack(tmp_path / "x.zip", tmp_path / "x")["ser_model_file"])
    assert packed.keys() == state.keys()


def test_code_beside_an_upstream_stays_at_home(trained, checkpoints, tmp_path):
    upstream = shutil.copytree(checkpoints["whisper"], tmp_path / "upstream")
    for name in ("modeling.py", "tf_model.h5", ".gitattributes"):
        (upstream / name).touch()
    root = trained("whisper").parents[3]
    own = shutil.copytree(root, tmp_path / "own") / "exp" / "fold_1" / "seed_0" / "ft"
    config = (own / "config.yaml").read_text()
    (own / "config.yaml").write_text(config.replace(str(checkpoints["whisper"]), str(upstream)))
    pack.main(argv_for(own, tmp_path / "x.zip"))
    with zipfile.ZipFile(tmp_path / "x.zip") as file:
        names = [n for n in file.namelist() if n.endswith((".py", ".h5", ".gitattributes"))]
    assert names == []
