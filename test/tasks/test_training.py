"""Training through ESPnet's own entry point, on a few stored features."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from espnet_mtkd.data.datadir import read_map, write_map
from espnet_mtkd.data.labels import HIDDEN
from espnet_mtkd.errors import UserError
from espnet_mtkd.tasks.inference import load_model, logits_of
from espnet_mtkd.tasks.mtkd import MTKDTask, read_teachers
from espnet_mtkd.tasks.ser import LabelPreprocessor, SERTask, read_names
from espnet_mtkd.tasks.trainer import atomic_torch_save

pytestmark = pytest.mark.usefixtures("no_network")


def history_of(folder):
    return json.loads((folder / "history.json").read_text())


def config_with(toy, tmp_path, **changes) -> tuple[str, str]:
    """Write the toy's config with some values changed; return the option that takes it."""
    config = yaml.safe_load(Path(toy.argv(tmp_path)[1]).read_text())
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**config, **changes}))
    return "--config", str(tmp_path / "c.yaml")


# ---- what a training leaves --------------------------------------------------------------------


def test_history_and_info(teacher):
    history = history_of(teacher)
    assert list(history) == ["1", "2", "3"]
    for phases in history.values():
        for phase in ("train", "valid"):
            assert {"loss", "acc", "uar", "uar_en", "uar_fi", "time"} <= phases[phase].keys()
            mean = (phases[phase]["uar_en"] + phases[phase]["uar_fi"]) / 2
            assert phases[phase]["uar"] == pytest.approx(mean)
    info = json.loads((teacher / "info.json").read_text())
    scores = {int(epoch): phases["valid"]["uar"] for epoch, phases in history.items()}
    assert info["best_epoch"] == max(scores, key=scores.__getitem__)
    assert info["train_seconds"] > 0
    # Two layer weights, 5 -> 128 -> 3, and the upstream's 1000.
    trainable = 2 + 5 * 128 + 128 + 128 * 3 + 3
    assert (info["num_trainable"], info["num_params"]) == (trainable, trainable + 1000)


def test_best_link(teacher):
    best = json.loads((teacher / "info.json").read_text())["best_epoch"]
    assert os.readlink(teacher / "valid.uar.best.pth") == f"{best}epoch.pth"
    assert (teacher / "valid.uar.best.pth").is_file()


@pytest.mark.parametrize(
    ("criteria", "number"),
    [(["valid,uar,max"], 1), (["valid,uar,max", "valid,loss,min"], 3), (["train,loss,min"], 3)],
)
def test_the_model_is_the_mean_of_the_best_epochs_by_the_first_criterion(
    toy, train, tmp_path, criteria, number
):
    chosen_by = [criterion.split(",") for criterion in criteria]
    config = config_with(toy, tmp_path, best_model_criterion=chosen_by)
    folder = train(*config, "--max_epoch", "5", "--keep_nbest_models", str(number))
    phase, key, mode = criteria[0].split(",")
    scores = {epoch: phases[phase][key] for epoch, phases in history_of(folder).items()}
    best = sorted(scores, key=scores.__getitem__, reverse=mode == "max")[:number]
    assert str(json.loads((folder / "info.json").read_text())["best_epoch"]) == best[0]
    states = [torch.load(folder / f"{epoch}epoch.pth") for epoch in best]
    loaded = load_model(folder)[0].state_dict()
    assert loaded.keys() == states[0].keys()
    for name, values in loaded.items():
        mean = sum(state[name].double() for state in states) / number
        torch.testing.assert_close(values.double(), mean, rtol=1e-6, atol=1e-7)


def test_without_a_criterion_the_model_is_that_of_the_last_epoch(toy, train, tmp_path):
    folder = train(*config_with(toy, tmp_path, best_model_criterion=[]))
    assert os.readlink(folder / "model.pth") == "3epoch.pth"
    assert json.loads((folder / "info.json").read_text())["best_epoch"] == 3
    assert [path.name for path in folder.glob("*epoch.pth")] == ["3epoch.pth"]


def test_reported_uar_is_that_of_the_stored_model(toy, teacher):
    model, args = load_model(teacher, teacher / "valid.uar.best.pth")
    speech = (str(toy.folder / "feats.scp"), "kaldi_ark")
    hits: dict[tuple[str, str], list[bool]] = {}
    for utt, logits in logits_of(model, args, speech, toy.folder / "dev" / "utt2emotion", 7):
        emotion, language = toy.records["dev"][utt]
        hits.setdefault((language, emotion), []).append(toy.emotions[logits.argmax()] == emotion)
    recalls = {key: np.mean(values) for key, values in hits.items()}
    by_language = [np.mean([r for k, r in recalls.items() if k[0] == x]) for x in toy.languages]
    best = str(json.loads((teacher / "info.json").read_text())["best_epoch"])
    assert history_of(teacher)[best]["valid"]["uar"] == pytest.approx(np.mean(by_language))


def test_training_helps(train):
    history = history_of(train("--max_epoch", "12", "--optim_conf", "lr=0.01"))
    assert history["12"]["train"]["loss"] < 0.6 * history["1"]["train"]["loss"]


def test_student_reports_both_losses_and_the_weights(toy, student):
    for phases in history_of(student).values():
        for phase in ("train", "valid"):
            stats = phases[phase]
            mixed = 0.5 * stats["loss_ce"] + 0.5 * stats["loss_kd"]
            assert stats["loss"] == pytest.approx(mixed, rel=1e-4)
            for language in toy.languages:
                weights = [stats[f"weight_{language}_teacher_{x}"] for x in toy.languages]
                assert sum(weights) == pytest.approx(1)
                assert 0.2 < weights[0] < 0.8


def test_mean_weights_are_those_of_the_cache(toy, student):
    logits = {u: torch.from_numpy(m).log_softmax(-1).numpy() for u, m in toy.logits.items()}
    rows = []
    for utt, (emotion, language) in toy.records["train"].items():
        if language == "fi":
            gold = logits[utt][:, toy.emotions.index(emotion)] / 0.25
            rows.append(np.exp(gold) / np.exp(gold).sum())
    stats = history_of(student)["1"]["train"]
    assert stats["weight_fi_teacher_en"] == pytest.approx(np.mean(rows, 0)[0], rel=1e-4)


def test_same_seed_same_files(train):
    a, b = train(name="a"), train(name="b")
    assert (a / "3epoch.pth").read_bytes() == (b / "3epoch.pth").read_bytes()
    assert (a / "checkpoint.pth").stat().st_size > 0
    other = train("--seed", "1", name="c")
    assert (other / "3epoch.pth").read_bytes() != (a / "3epoch.pth").read_bytes()


def test_features_read_anew_in_every_epoch_change_nothing(train):
    kept, read = (
        train("--keep_in_memory", x, "--max_epoch", "2", student=True, name=x)
        for x in ("true", "false")
    )
    assert (kept / "2epoch.pth").read_bytes() == (read / "2epoch.pth").read_bytes()


def test_lambda_zero_trains_what_no_teacher_trains(train):
    plain = torch.load(train(name="ft") / "3epoch.pth")
    student = torch.load(train("--distill_conf", "kd_lambda=0", student=True) / "3epoch.pth")
    assert plain.keys() == student.keys()
    for key in plain:
        torch.testing.assert_close(student[key], plain[key])


def test_layers_from_command_line_and_file(toy, train, tmp_path):
    folder = train("--layers", "-1", "--max_epoch", "1")
    assert yaml.safe_load((folder / "config.yaml").read_text())["layers"] == [-1]
    assert load_model(folder)[0].layer_weighting.chosen == [1]
    config = tmp_path / "layers.yaml"
    for value, chosen in ((1, [1]), ([0, -1], [0, 1]), ("all", [0, 1])):
        standard = yaml.safe_load(open(toy.argv(tmp_path)[1]))
        config.write_text(yaml.safe_dump({**standard, "layers": value, "max_epoch": 1}))
        SERTask.main(cmd=toy.argv(tmp_path / "x", "--config", str(config), "--resume", "false"))
        assert load_model(tmp_path / "x")[0].layer_weighting.chosen == chosen


# ---- schedules, hidden labels, language head, specialists --------------------------------------


@pytest.mark.parametrize(("schedule", "shares"), [("linear", [1, 0.5, 0]), ("cosine", [1, 0.5, 0])])
def test_lambda_follows_its_schedule_over_the_epochs(train, schedule, shares):
    conf = ("--distill_conf", "kd_lambda=0.6", "--distill_conf", f"lambda_schedule={schedule}")
    history = history_of(train(*conf, student=True))
    for phases, share in zip(history.values(), shares, strict=True):
        for stats in (phases["train"], phases["valid"]):
            part = 0.6 * share
            mixed = (1 - part) * stats["loss_ce"] + part * stats["loss_kd"]
            assert stats["loss"] == pytest.approx(mixed, rel=1e-4)


def test_one_epoch_of_a_schedule(train):
    options = ("--distill_conf", "lambda_schedule=linear", "--max_epoch", "1")
    stats = history_of(train(*options, student=True))["1"]["train"]
    mixed = 0.5 * stats["loss_ce"] + 0.5 * stats["loss_kd"]
    assert stats["loss"] == pytest.approx(mixed, rel=1e-4)


def test_a_model_with_a_language_head(toy, train):
    options = ("--weighting", "lid", "--model_conf", "lid_lambda=0.1", "--optim_conf", "lr=0.05")
    folder = train(*options, "--max_epoch", "8", student=True)
    history = history_of(folder)
    for phases in history.values():
        for stats in (phases["train"], phases["valid"]):
            parts = 0.5 * stats["loss_ce"] + 0.5 * stats["loss_kd"] + 0.1 * stats["loss_lid"]
            assert stats["loss"] == pytest.approx(parts, rel=1e-4)
            assert 0 <= stats["lid_acc"] <= 1
    first, last = history["1"]["train"], history["8"]["train"]
    assert last["loss_lid"] < 0.9 * first["loss_lid"]
    assert last["weight_fi_teacher_fi"] + last["weight_fi_teacher_en"] == pytest.approx(1)
    model, args = load_model(folder)
    assert model.language_head.out_features == 2 and args.model_conf == {"lid_lambda": 0.1}
    state = torch.load(folder / "model.pth")
    assert torch.equal(model.language_head.weight, state["language_head.weight"])


@pytest.fixture
def hidden_toy(own_toy):
    """The toy with every label hidden but ten."""
    path = own_toy.folder / "train" / "utt2emotion"
    emotions = {utt: record[0] for utt, record in own_toy.records["train"].items()}
    kept = set(sorted(emotions)[::4])
    write_map(path, {utt: e if utt in kept else HIDDEN for utt, e in emotions.items()})
    own_toy.kept = kept
    return own_toy


def test_training_with_hidden_labels(hidden_toy, tmp_path):
    argv = hidden_toy.argv(tmp_path / "x", "--max_epoch", "2", "--batch_size", "4", student=True)
    MTKDTask.main(cmd=argv)
    history = history_of(tmp_path / "x")
    for phases in history.values():
        for key in ("loss", "loss_ce", "loss_kd", "acc", "uar"):
            assert np.isfinite(phases["train"][key]) and np.isfinite(phases["valid"][key])
    state = torch.load(tmp_path / "x" / "2epoch.pth")
    assert all(value.isfinite().all() for value in state.values())


def test_without_teachers_a_hidden_label_teaches_nothing(hidden_toy, tmp_path):
    # In one batch: the same as a training set of the labelled utterances.
    more = ("--batch_size", "100", "--max_epoch", "2", "--head_conf", "dropout=0.0")
    SERTask.main(cmd=hidden_toy.argv(tmp_path / "hidden", *more))
    for name in ("utt2emotion", "utt2lang"):
        path = hidden_toy.folder / "train" / name
        records = read_map(path)
        write_map(path, {utt: v for utt, v in records.items() if utt in hidden_toy.kept})
    SERTask.main(cmd=hidden_toy.argv(tmp_path / "few", *more))
    a, b = (torch.load(tmp_path / name / "2epoch.pth") for name in ("hidden", "few"))
    for key in a:
        torch.testing.assert_close(a[key], b[key], atol=1e-5, rtol=1e-4)
    train, few = (history_of(tmp_path / x)["1"]["train"] for x in ("hidden", "few"))
    assert train["uar"] == pytest.approx(few["uar"]) and train["acc"] == pytest.approx(few["acc"])


def test_a_specialist_starts_from_the_multilingual_model(toy, teacher, train):
    best = teacher / "model.pth"
    options = ("--init_param", str(best), "--max_epoch", "1", "--optim_conf", "lr=0.0")
    other = ("--normalize_conf", f"stats_file={toy.folder / 'own.npz'}")
    stats = dict(np.load(toy.folder / "stats.npz"))
    np.savez(toy.folder / "own.npz", **{**stats, "sum": stats["sum"] + 1})
    state = torch.load(train(*options, *other) / "1epoch.pth")
    # Its standardisation as well: the head has been trained on that.
    assert all(torch.equal(state[key], value) for key, value in torch.load(best).items())


# ---- interrupted and resumed -------------------------------------------------------------------


def same_model(a, b) -> bool:
    a, b = (torch.load(folder / "model.pth") for folder in (a, b))
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def without_times(history):
    return {
        e: {p: {k: v for k, v in s.items() if "time" not in k} for p, s in phases.items()}
        for e, phases in history.items()
    }


@pytest.mark.parametrize("kind", ["classifier", "cached", "live"])
def test_interrupted_and_resumed_is_the_same_to_the_bit(train, live, kind):
    more = ("--model_conf", "mixup=0.4") if kind == "live" else ()
    model = dict(student=kind == "cached", live=live if kind == "live" else None)
    whole = train("--max_epoch", "4", *more, name="whole", **model)
    train("--max_epoch", "2", *more, name="parts", **model)
    parts = train("--max_epoch", "4", *more, name="parts", **model)
    assert (whole / "4epoch.pth").read_bytes() == (parts / "4epoch.pth").read_bytes()
    assert same_model(whole, parts)
    keys = ("time", "_mem", "GB")  # what depends on the machine and the moment
    for a, b in zip(*(history_of(f).values() for f in (whole, parts)), strict=True):
        for phase in ("train", "valid"):
            assert a[phase].keys() == b[phase].keys()
            for key in a[phase]:
                if not any(part in key for part in keys):
                    assert a[phase][key] == b[phase][key], key


def kill_after_checkpoint(monkeypatch, train, epoch: int):
    """Train until the checkpoint of an epoch is written, and not a moment longer."""
    save = torch.save

    def saving(obj, file, *args, **kwargs):
        if str(getattr(file, "name", file)).find(f".{epoch}epoch") >= 0:
            raise KeyboardInterrupt
        save(obj, file, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", saving)
        with pytest.raises(KeyboardInterrupt):
            train("--max_epoch", "4", name="killed")


@pytest.mark.parametrize("epoch", [1, 2, 3, 4])
def test_a_kill_between_checkpoint_and_epoch_file_is_repaired(train, monkeypatch, epoch):
    whole = train("--max_epoch", "4", name="whole")
    kill_after_checkpoint(monkeypatch, train, epoch)
    killed = train("--max_epoch", "4", name="killed")
    assert without_times(history_of(whole)).keys() == history_of(killed).keys()
    assert os.readlink(whole / "valid.uar.best.pth") == os.readlink(killed / "valid.uar.best.pth")
    assert same_model(whole, killed)
    assert (whole / "4epoch.pth").read_bytes() == (killed / "4epoch.pth").read_bytes()
    assert not list(killed.glob(".*pth"))


def test_a_lost_epoch_file_is_made_again(train):
    folder = train()
    (folder / "3epoch.pth").unlink()
    train()
    assert torch.load(folder / "3epoch.pth").keys() == torch.load(folder / "latest.pth").keys()


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.pth"
    with atomic_torch_save():
        torch.save({"a": torch.ones(2)}, path)
    before = path.read_bytes()
    save = torch.save

    def half(obj, file, *args, **kwargs):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="disk full"), atomic_torch_save():
        torch.save({"a": torch.zeros(2)}, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.pth"]
    assert torch.save is half
    monkeypatch.undo()
    assert torch.save is save


# ---- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--best_model_criterion", ("valid", "uaar", "max")),
        ("--best_model_criterion", ("valid", "uar", "most")),
        ("--early_stopping_criterion", ("dev", "loss", "min")),
    ],
)
def test_a_criterion_that_nothing_reports(toy, tmp_path, option, words):
    value = [list(words)] if "best" in option else list(words)
    config = config_with(toy, tmp_path, **{option[2:]: value})
    with pytest.raises(UserError, match=f"{','.join(words)}: phases are train and valid, keys"):
        SERTask.main(cmd=toy.argv(tmp_path / "x", *config))


def test_without_a_criterion_it_is_the_uar():
    assert SERTask.get_parser().get_default("best_model_criterion") == [("valid", "uar", "max")]


def test_numbers_that_yaml_takes_for_texts(train):
    texts, numbers = (
        train("--optim_conf", rate, "--distill_conf", share, student=True, name=rate)
        for rate, share in (("lr=1e-2", "kd_lambda=3e-1"), ("lr=0.01", "kd_lambda=0.3"))
    )
    assert (texts / "3epoch.pth").read_bytes() == (numbers / "3epoch.pth").read_bytes()


def test_a_folder_may_be_called_like_a_number(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    SERTask.main(cmd=toy.argv("1e3", "--max_epoch", "1"))
    assert (tmp_path / "1e3" / "info.json").is_file()


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("utt2emotion", "utterance toy_train_01: emotion 'joy' is not one of anger, neutral, sad"),
        ("utt2lang", "utterance toy_train_01: language 'joy' is not one of en, fi"),
    ],
)
def test_unknown_label(own_toy, tmp_path, file, message):
    path = own_toy.folder / "train" / file
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0].split()[0] + " joy", *lines[1:]]) + "\n")
    with pytest.raises(UserError, match=message):
        SERTask.main(cmd=own_toy.argv(tmp_path / "x"))
    assert not (tmp_path / "x" / "info.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--emotions", "/nowhere"), "--emotions /nowhere: must be a file with one name"),
        (("--languages", "/nowhere"), "--languages /nowhere: must be a file with one name"),
        (("--feats_info", "/nowhere"), "--feats_info /nowhere: no such file"),
        (("--normalize_conf", "stats_file=/nowhere"), "stats_file /nowhere: no such file"),
        (("--layers", "2"), r"layers \[2\]: the upstream has layers 0 to 1"),
        (("--model_conf", "mixup=-1"), "model_conf: mixup -1: must not be below 0"),
    ],
)
def test_bad_options_of_a_classifier(toy, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        SERTask.main(cmd=toy.argv(tmp_path / "x", *options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--teachers", "/nowhere"), "--teachers /nowhere: must be a file"),
        (("--distill_conf", "temperature=0"), "temperature 0: must be above 0"),
        (("--distill_conf", "reduction=sum"), "reduction 'sum'"),
        (("--distill_conf", "lambda_schedule=step"), "lambda_schedule 'step': must be one of"),
        (("--distill_conf", "temperature=[1,2,3]"), "temperature: 3 values for 2 teachers"),
        (("--model_conf", "mixup=0.2"), "model_conf: mixup needs live teachers"),
        (("--weighting", "lid"), "lid needs a language head: set model_conf: lid_lambda"),
        (
            ("--weighting", "similarity"),
            "weighting similarity needs weighting_conf: relevance, a file that stage 6 writes",
        ),
        (("--weighting", "fixed"), "^weighting_conf: missing a required argument: 'matrix'"),
        (
            ("--weighting", "fixed", "--weighting_conf", "matrix={en: {teacher_x: 1}}"),
            "matrix: en: .*teacher_x.*: must give some of teacher_en, teacher_fi a weight",
        ),
        (("--distill_conf", "feature_lambda=-1"), "feature_lambda -1: must not be below 0"),
        (("--distill_conf", "feature_lambda=1"), "feature_lambda needs teacher_embeddings in"),
        (("--distill_conf", "kd_lambda=2"), "kd_lambda 2: must be between 0 and 1"),
        (
            ("--weighting", "cosine", "--weighting_conf", "tau=0"),
            "weighting_conf: tau 0: must be above 0",
        ),
    ],
)
def test_bad_options_of_a_student(toy, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        MTKDTask.main(cmd=toy.argv(tmp_path / "x", *options, student=True))


@pytest.mark.parametrize("student", [False, True])
@pytest.mark.parametrize(
    "option", ["frontend_conf", "pooling_conf", "normalize_conf", "head_conf", "model_conf"]
)
def test_an_option_that_a_part_does_not_have(toy, tmp_path, option, student):
    task = MTKDTask if student else SERTask
    argv = toy.argv(tmp_path / "x", f"--{option}", "warmth=3", student=student)
    with pytest.raises(UserError, match=f"^{option}: .*'warmth'") as error:
        task.main(cmd=argv)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("option", ["weighting_conf", "distill_conf"])
def test_an_option_that_distillation_does_not_have(toy, tmp_path, option):
    argv = toy.argv(tmp_path / "x", f"--{option}", "warmth=3", student=True)
    with pytest.raises(UserError, match=f"^{option}: .*'warmth'") as error:
        MTKDTask.main(cmd=argv)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("student", [False, True])
def test_a_part_is_no_option_of_the_model(toy, tmp_path, student):
    argv = toy.argv(tmp_path / "x", "--model_conf", "head=mlp", student=student)
    with pytest.raises(UserError, match="model_conf: head: has an option outside of model_conf"):
        (MTKDTask if student else SERTask).main(cmd=argv)


@pytest.mark.parametrize("weighting", ["languages", "cosine-batch"])
def test_unknown_weighting(toy, tmp_path, capsys, weighting):
    with pytest.raises(SystemExit):
        MTKDTask.main(cmd=toy.argv(tmp_path / "x", "--weighting", weighting, student=True))
    assert "--weighting" in capsys.readouterr().err


def test_teacher_of_a_language_that_is_not_there(own_toy, tmp_path):
    (own_toy.folder / "teachers").write_text("a en\nb fr\n")
    with pytest.raises(UserError, match="teacher b is of language 'fr', .* en, fi or all"):
        MTKDTask.main(cmd=own_toy.argv(tmp_path / "x", student=True))


def test_fewer_teachers_than_logits(own_toy, tmp_path):
    (own_toy.folder / "teachers").write_text("a en\n")
    with pytest.raises(UserError, match=r"teacher_logits are \(2, 3\) .* but 1 teachers"):
        MTKDTask.main(cmd=own_toy.argv(tmp_path / "x", student=True))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a en\nb\n", "teachers:2: must hold a teacher's name, its language"),
        ("a en x\nb fi\n", "teachers:2: must hold"),
        ("a en\nb fi x\n", "teachers:2: must hold .* for all teachers or for none, its folder"),
        ("a en\na fi\n", "at least one teacher, and none twice"),
        ("", "at least one teacher"),
    ],
)
def test_file_of_teachers(tmp_path, text, message):
    (tmp_path / "teachers").write_text(text)
    with pytest.raises(UserError, match=message):
        read_teachers(str(tmp_path / "teachers"))


@pytest.mark.parametrize("text", ["", "en\nen\n"])
def test_file_of_names(tmp_path, text):
    (tmp_path / "names").write_text(text)
    with pytest.raises(UserError, match="names: must hold at least one name, and none twice"):
        read_names(str(tmp_path / "names"), "languages")
    assert read_names(["a", "b"], "languages") == ["a", "b"]


def test_labels_become_indices():
    preprocess = LabelPreprocessor(True, {"emotion": ["x", "y"], "language": ["en"]})
    data = preprocess("u1", {"emotion": "y", "speech": np.zeros(3)})
    assert data["emotion"].tolist() == [1] and data["emotion"].dtype == np.int64
    assert data["speech"].shape == (3,)


def test_a_hidden_emotion_becomes_minus_one():
    preprocess = LabelPreprocessor(True, {"emotion": ["x", "y"], "language": ["en"]})
    data = preprocess("u1", {"emotion": HIDDEN, "language": "en"})
    assert data["emotion"].tolist() == [-1] and data["emotion"].dtype == np.int64
    with pytest.raises(UserError, match="utterance u1: language '<hidden>' is not one of en"):
        preprocess("u1", {"language": HIDDEN})
