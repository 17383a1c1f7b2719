"""Options in, jobs out; nothing is run."""

from __future__ import annotations

import itertools
import json
from argparse import Namespace
from pathlib import Path

import pytest
import yaml

from espnet_mtkd.bin.run_stage import OPTIONS, get_parser
from espnet_mtkd.data.files import write_text
from espnet_mtkd.errors import UserError
from espnet_mtkd.plan import Plan
from espnet_mtkd.systems import ROOT, read_yaml
from espnet_mtkd.tasks.mtkd import read_teachers

ALL_SYSTEMS = "ft kd mtkd_uniform mtkd_cosine_batch mtkd"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def make_options(**options) -> Namespace:
    few = {"num_folds": 3, "folds": "1 2"}
    return Namespace(**{**OPTIONS, "corpus_root": [], **few, **options})


def make_plan(languages: str = "en fi fr", **options) -> Plan:
    """A plan whose stage 3 is done."""
    plan = Plan(make_options(**options))
    if languages:
        folder = plan.sets.output
        (folder / "heldout").mkdir(parents=True, exist_ok=True)
        (folder / "languages").write_text("\n".join(languages.split()) + "\n")
        (folder / "emotions").write_text("anger\nneutral\n")
        (folder / "heldout" / "utt2lang").write_text("u1 sv\nu2 en\n")
    return plan


def names(jobs) -> list[str]:
    return [job.output.name for job in jobs]


def value(job, option: str) -> str:
    return job.argv[job.argv.index(option) + 1]


def by_name(plan: Plan, fold: str = "1", seed: int = 0):
    return next(jobs for run, jobs in plan.models.items() if (run.fold, run.seed) == (fold, seed))


# ---- which jobs a stage has ------------------------------------------------------------------


def test_the_default_experiment():
    plan = make_plan()
    assert names(plan.stage(1)) == ["options", "mini_ser"]
    assert names(plan.stage(2)) == ["mini_ser"]
    assert names(plan.stage(3)) == ["mini_ser_four_si3"]
    assert names(plan.stage(4)) == ["mini_ser", "mini_ser_four_si3"]
    # Three teachers, and ft, which teaches kd; two folds.
    teachers = ["ft", "teacher_en", "teacher_fi", "teacher_fr"]
    assert names(plan.stage(5)) == 2 * teachers
    assert sorted(names(plan.stage(6))) == 2 * ["logits_ft"] + 2 * ["logits_monolingual"]
    students = ["kd", "mtkd_uniform", "mtkd_cosine_batch", "mtkd"]
    assert names(plan.stage(7)) == 2 * students
    # Every model for both sets; what ft and mtkd hear in the first fold is for the report.
    assert names(plan.stage(8)) == ["dev.tsv", "test.tsv"] * 16 + ["test.npz"] * 2
    assert names(plan.stage(9)) == ["RESULTS.md"]
    assert names(plan.stage(10)) == ["report.html"]
    assert names(plan.stage(12)) == ["mtkd.zip"]


@pytest.mark.parametrize("number", range(1, 11))
def test_every_job_knows_its_stage_and_needs_only_earlier_ones(number):
    jobs = make_plan().stage(number)
    assert jobs and all(job.stage == number for job in jobs)
    for job in jobs:
        for need in job.needs:
            assert need.stage < number or (need.stage == number == 4)
    outputs = [job.output for job in jobs]
    assert len(set(outputs)) == len(outputs)
    for job in jobs:
        get_key = job.key  # every input and code file is there
        assert len(get_key) == 64


def test_folds_and_seeds():
    plan = make_plan(folds="2", seeds="0 7", systems="ft")
    assert {(run.fold, run.seed) for run in plan.models} == {("2", 0), ("2", 7)}
    job = by_name(plan, "2", 7)["ft"]
    assert job.output == Path("exp/fold_2/seed_7/ft")
    assert value(job, "--seed") == "7"
    assert any("/fold_2/train/utt2emotion,emotion,text" in word for word in job.argv)


def test_ft_alone_is_a_student():
    plan = make_plan(systems="ft", folds="1")
    assert names(plan.stage(7)) == ["ft"] and plan.stage(6) == []
    assert "ft" not in names(plan.stage(5))


def test_kd_alone_brings_ft_along():
    plan = make_plan(systems="kd", folds="1")
    assert "ft" in names(plan.stage(5)) and names(plan.stage(7)) == ["kd"]
    assert names(plan.stage(6)) == ["logits_ft"]
    assert plan.experiment()["systems"] == ["ft", "kd"]


def test_mtkd_alone_needs_no_ft():
    plan = make_plan(systems="mtkd", folds="1")
    assert "ft" not in by_name(plan)
    assert names(plan.stage(6)) == ["logits_monolingual"]


# ---- what needs what -------------------------------------------------------------------------


def test_needs_of_the_students():
    plan = make_plan(systems=ALL_SYSTEMS)
    models = by_name(plan)
    folds, feats = plan.split, plan.features[-1]
    assert models["ft"].needs == (folds, feats)
    kd_logits = plan.logits(plan.runs[0], "ft")
    assert models["kd"].needs == (folds, kd_logits, feats)
    assert kd_logits.needs == (models["ft"],)
    mono = plan.logits(plan.runs[0], "monolingual")
    assert mono.needs == tuple(models[f"teacher_{lang}"] for lang in ("en", "fi", "fr"))
    for name in ("mtkd", "mtkd_uniform", "mtkd_cosine_batch"):
        assert models[name].needs == (folds, mono, feats)
        assert value(models[name], "--teachers") == str(mono.output / "teachers")
        assert models[name].argv[1] == "espnet_mtkd.bin.mtkd_train"
    assert models["ft"].argv[1] == models["teacher_fi"].argv[1] == "espnet_mtkd.bin.ser_train"


def test_needs_of_data_scores_and_package():
    plan = make_plan(folds="1")
    assert plan.audio["mini_ser"].needs == (plan.data["mini_ser"],)
    assert plan.split.needs == tuple(plan.audio.values())
    assert plan.features[-1].needs == (plan.features[0], plan.split)
    assert plan.features[0].needs == (plan.audio["mini_ser"],)
    assert plan.scores.needs == tuple(plan.predictions)
    assert plan.report.needs == (plan.scores, *plan.embeddings)
    assert plan.package.needs == (by_name(plan)["mtkd"], plan.scores)
    for job in plan.predictions:
        assert job.needs == (by_name(plan)[job.output.parent.name],)


def test_a_teacher_sees_its_language_and_a_student_all():
    models = by_name(make_plan())
    teacher = " ".join(models["teacher_fi"].argv)
    assert "fold_1/train_fi/utt2emotion" in teacher and "fold_1/dev_fi/utt2emotion" in teacher
    assert "fold_1/train_fi.npz" in teacher and "/train/" not in teacher
    student = " ".join(models["mtkd"].argv)
    assert "fold_1/train/utt2emotion" in student and "fold_1/dev/utt2emotion" in student
    assert "fold_1/train.npz" in student and "train_fi" not in student
    assert not any("test" in word for job in models.values() for word in job.argv)


def test_logits_name_every_teacher_with_its_language():
    plan = make_plan()
    argv = plan.logits(plan.runs[0], "monolingual").argv
    teachers = [argv[i + 1] for i, word in enumerate(argv) if word == "--teacher"]
    assert teachers == [
        f"teacher_{lang},{lang},exp/fold_1/seed_0/teacher_{lang}" for lang in ("en", "fi", "fr")
    ]
    assert value(plan.logits(plan.runs[0], "ft"), "--teacher") == "ft,all,exp/fold_1/seed_0/ft"


def test_trainings_resume():
    jobs = by_name(make_plan()).values()
    assert all(job.resumes and value(job, "--resume") == "true" for job in jobs)


# ---- teachers: what they start from, ensembles, live -----------------------------------------


def test_specialists_start_from_the_multilingual_model(tmp_path):
    plan = make_plan(systems="mtkd", folds="1", teacher_init="multilingual")
    models = by_name(plan)
    assert names(plan.stage(5)) == ["ft", "teacher_en", "teacher_fi", "teacher_fr"]
    for language in ("en", "fi", "fr"):
        job = models[f"teacher_{language}"]
        assert models["ft"] in job.needs
        assert value(job, "--init_param") == "exp/fold_1/seed_0/ft/model.pth"
        assert f"fold_1/train_{language}/utt2emotion" in " ".join(job.argv)
        config = yaml.safe_load(Path(value(job, "--config")).read_text())
        assert config == read_yaml(ROOT / "conf" / "train_specialist.yaml")
    for name in ("ft", "mtkd"):
        assert "--init_param" not in models[name].argv
        config = yaml.safe_load(Path(value(models[name], "--config")).read_text())
        assert config.items() >= read_yaml(ROOT / "conf" / "train_frozen.yaml").items()
    assert plan.experiment()["systems"] == ["ft", "mtkd"]


def test_specialists_of_every_seed_start_from_their_own():
    plan = make_plan(systems="mtkd", folds="1", seeds="3 5", teacher_init="multilingual")
    for seed in (3, 5):
        job = by_name(plan, "1", seed)["teacher_fi"]
        assert value(job, "--init_param") == f"exp/fold_1/seed_{seed}/ft/model.pth"


def test_teachers_have_a_config_of_their_own(tmp_path):
    (tmp_path / "own.yaml").write_text("max_epoch: 7\n")
    for init in ("scratch", "multilingual"):
        models = by_name(make_plan(teacher_init=init, teacher_config="own.yaml"))
        config = Path(value(models["teacher_fi"], "--config")).read_text()
        assert yaml.safe_load(config) == {"max_epoch": 7}
        assert "optim" in yaml.safe_load(Path(value(models["ft"], "--config")).read_text())


def teachers_of(job) -> list[list[str]]:
    return [job.argv[i + 1].split(",") for i, word in enumerate(job.argv) if word == "--teacher"]


def test_the_teachers_of_all_seeds_teach_together():
    options = dict(systems="ft kd mtkd", seeds="0 4", teacher_ensemble="true")
    plan = make_plan("de en", **options)
    for run in plan.runs:
        seeds = {s: by_name(plan, run.fold, s) for s in (0, 4)}
        mono, ft = plan.logits(run, "monolingual"), plan.logits(run, "ft")
        assert teachers_of(mono) == [
            [f"teacher_{k}.{s}", k, f"exp/fold_{run.fold}/seed_{s}/teacher_{k}"]
            for s in (0, 4)
            for k in ("de", "en")
        ]
        expected = [seeds[s][f"teacher_{k}"] for s in (0, 4) for k in ("de", "en")]
        assert mono.needs == tuple(expected)
        assert teachers_of(ft) == [
            [f"ft.{s}", "all", f"exp/fold_{run.fold}/seed_{s}/ft"] for s in (0, 4)
        ]
        assert ft.needs == (seeds[0]["ft"], seeds[4]["ft"])
        assert mono in plan.models[run]["mtkd"].needs and ft in plan.models[run]["kd"].needs


@pytest.mark.parametrize("options", [{"seeds": "4"}, {"seeds": "0 4", "teacher_ensemble": "false"}])
def test_teachers_of_one_seed_keep_their_names(options):
    plan = make_plan("de en", **{"teacher_ensemble": "true", **options})
    names_of = [t[0] for t in teachers_of(plan.logits(plan.runs[0], "monolingual"))]
    assert names_of == ["teacher_de", "teacher_en"]


def test_function_matching_as_shipped():
    plan = make_plan("de en", systems="ft ft_mixup kd_live mtkd_live", folds="1")
    models = by_name(plan)
    assert plan.stage(6) == []
    assert names(plan.stage(7)) == ["ft_mixup", "kd_live", "mtkd_live"]
    assert models["ft_mixup"].argv[1] == "espnet_mtkd.bin.ser_train"
    assert models["ft"] in models["kd_live"].needs
    assert {models["teacher_de"], models["teacher_en"]} <= set(models["mtkd_live"].needs)
    shares = {
        yaml.safe_load(Path(value(models[name], "--config")).read_text())["model_conf"]["mixup"]
        for name in ("ft_mixup", "kd_live", "mtkd_live")
    }
    assert len(shares) == 1  # so that they differ in nothing but their teachers


def own_system(name: str, text: str) -> None:
    path = Path("conf/systems") / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_live_teachers_need_no_logits():
    own_system("alive", "teachers: monolingual\nteaching: live\nweighting: label\n")
    plan = make_plan("de en", systems="alive", folds="1")
    assert plan.stage(6) == [] and names(plan.stage(7)) == ["alive"]
    models = by_name(plan)
    job = models["alive"]
    teachers = models["teacher_de"], models["teacher_en"]
    assert job.needs == (plan.split, *teachers, plan.features[-1])
    assert job.argv[1] == "espnet_mtkd.bin.mtkd_train"
    assert not any("teacher_logits" in word or "logits" in word for word in job.argv)
    path = Path(value(job, "--teachers"))
    assert path.name == "alive.teachers" and path in job.inputs
    assert read_teachers(str(path)) == [
        (f"teacher_{k}", k, f"exp/fold_1/seed_0/teacher_{k}") for k in ("de", "en")
    ]
    config = yaml.safe_load(Path(value(job, "--config")).read_text())
    assert config["weighting"] == "label" and not {"teachers", "teaching"} & config.keys()


def test_live_beside_cached_and_an_ensemble_of_live_teachers():
    own_system("alive", "teachers: ft\nteaching: live\nweighting: uniform\n")
    plan = make_plan("de en", systems="alive mtkd", seeds="0 1", teacher_ensemble="true", folds="1")
    assert names(plan.stage(6)) == 2 * ["logits_monolingual"]
    job = by_name(plan, "1", 1)["alive"]
    assert read_teachers(value(job, "--teachers")) == [
        (f"ft.{s}", "all", f"exp/fold_1/seed_{s}/ft") for s in (0, 1)
    ]
    assert {by_name(plan, "1", s)["ft"] for s in (0, 1)} <= set(job.needs)


def test_a_change_of_a_teacher_redoes_its_live_student():
    own_system("alive", "teachers: monolingual\nteaching: live\nweighting: label\n")
    before, after = (
        by_name(make_plan("de en", systems="alive", teacher_args=args))["alive"].key
        for args in ("", "--max_epoch 3")
    )
    assert before != after


def test_similarity_reads_what_stage_6_measures():
    plan = make_plan(systems="mtkd_similarity mtkd", folds="1")
    logits = plan.logits(plan.runs[0], "monolingual")
    assert value(logits, "--dev_set") == str(plan.runs[0].sets / "dev")
    keys = [logits.argv[i + 1] for i, word in enumerate(logits.argv) if word == "--keys"]
    assert keys == [str(plan.runs[0].sets / side / "utt2emotion") for side in ("train", "dev")]
    config = yaml.safe_load(Path(value(by_name(plan)["mtkd_similarity"], "--config")).read_text())
    assert config["weighting_conf"] == {
        "tau": 0.1,
        "relevance": "exp/fold_1/seed_0/logits_monolingual/relevance",
    }
    other = yaml.safe_load(Path(value(by_name(plan)["mtkd"], "--config")).read_text())
    assert "weighting_conf" not in other


def test_a_relevance_of_ones_own_stays():
    conf = "weighting_conf: {relevance: typology}\n"
    own_system("mine", f"teachers: monolingual\nweighting: similarity\n{conf}")
    job = by_name(make_plan(systems="mine"))["mine"]
    config = yaml.safe_load(Path(value(job, "--config")).read_text())
    assert config["weighting_conf"] == {"relevance": "typology"}


# ---- few labels ------------------------------------------------------------------------------


def test_all_labels_need_no_copy_of_the_folds():
    plan = make_plan()
    assert plan.sets is plan.split and names(plan.stage(3)) == ["mini_ser_four_si3"]


def test_hidden_labels():
    plan = make_plan("de en", systems="ft kd mtkd", folds="1", labelled_share=0.25, fold_seed=3)
    split, hidden = plan.stage(3)
    assert (split, hidden) == (plan.split, plan.sets) and hidden.needs == (split,)
    assert hidden.argv[1] == "espnet_mtkd.bin.training_sets"
    assert hidden.output == split.output.with_name("mini_ser_four_si3_0.25")
    assert value(hidden, "--folds_dir") == str(split.output)
    assert value(hidden, "--output_dir") == str(hidden.output)
    assert (value(hidden, "--share"), value(hidden, "--seed")) == ("0.25", "3")
    models, fold = by_name(plan), hidden.output / "fold_1"
    train_sets = {"ft": "train", "teacher_de": "train_de", "teacher_en": "train_en"}
    for name, job in models.items():
        train = train_sets.get(name, "train_all")  # students hear the unlabelled speech as well
        dev = train.replace("train", "dev") if name in train_sets else "dev"
        data = [w.split(",")[0] for i, w in enumerate(job.argv) if job.argv[i - 1].endswith("type")]
        expected = {str(fold / s / f) for s in (train, dev) for f in ("utt2emotion", "utt2lang")}
        assert {path for path in data if path.startswith(str(fold))} == expected
        assert value(job, "--train_shape_file") == str(fold / train / "utt2emotion")
        assert f"stats_file={plan.features[-1].output}/fold_1/{train}.npz" in job.argv
        assert hidden in job.needs and split not in job.needs
    for kind in ("ft", "monolingual"):
        argv = plan.logits(plan.runs[0], kind).argv
        keys = [argv[i + 1] for i, word in enumerate(argv) if word == "--keys"]
        assert keys == [str(fold / name / "utt2emotion") for name in ("train_all", "dev")]
    assert all(str(hidden.output) in " ".join(job.argv) for job in plan.predictions)
    assert plan.features[-1].needs[-1] == hidden
    assert value(plan.features[-1], "--folds_dir") == str(hidden.output)
    assert plan.experiment()["folds_dir"] == str(hidden.output)


def test_two_shares_have_two_places():
    outputs = {make_plan(labelled_share=share).sets.output for share in (0.1, 0.25, 0.5, 1.0)}
    assert len(outputs) == 4


# ---- how options act -------------------------------------------------------------------------


def test_an_option_redoes_what_depends_on_it_and_nothing_else():
    def keys(**options):
        plan = make_plan(folds="1", **options)
        return {str(job.output): job.key for n in range(1, 11) for job in plan.stage(n)}

    before = keys()
    assert keys() == before
    assert keys(nj=7, command="./run.sh again") == before
    after = keys(student_args="--max_epoch 3")
    changed = {name for name in before if after[name] != before[name]}
    exp = "exp/fold_1/seed_0/"
    assert not any(name.startswith(("data/", "dump/", exp + "teacher_")) for name in changed)
    assert {exp + "ft", exp + "kd", exp + "logits_ft", exp + "mtkd"} <= changed
    assert exp + "logits_monolingual" not in changed
    assert "exp/RESULTS.md" in changed
    after = keys(teacher_args="--max_epoch 3")
    changed = {name for name in before if after[name] != before[name]}
    assert exp + "mtkd" in changed and exp + "logits_monolingual" in changed
    assert exp + "ft" not in changed and exp + "kd" not in changed


def test_a_system_file_of_ones_own_changes_only_that_system(tmp_path):
    before = {name: job.key for name, job in by_name(make_plan()).items()}
    (tmp_path / "conf" / "systems").mkdir(parents=True)
    (tmp_path / "conf/systems/mtkd.yaml").write_text("teachers: monolingual\nweighting: uniform\n")
    after = {name: job.key for name, job in by_name(make_plan()).items()}
    assert {name for name in before if after[name] != before[name]} == {"mtkd"}


def test_fine_tuning_reads_waveforms():
    plan = make_plan(upstream_mode="finetune", upstream="fbank")
    assert plan.stage(4) == []
    argv = by_name(plan)["mtkd"].argv
    assert "--feats_info" not in argv and "--normalize_conf" not in argv
    words = " ".join(argv)
    assert "fold_1/train/wav.scp,speech,sound" in words and "fold_1/dev/utt2num_samples" in words
    assert "upstream=fbank" in argv and "mode=finetune" in argv
    assert plan.predictions[0].argv[-3] == "dump/folds/mini_ser_four_si3/fold_1/dev/wav.scp,sound"


def test_shards_are_jobs_of_their_own():
    plan = make_plan(shards=2, systems="ft mtkd", train_cmd="run.sh", decode_cmd="decode.sh")
    parts = ["mini_ser_1of2", "mini_ser_2of2"]
    assert names(plan.stage(2)) == [*parts, "mini_ser"]
    assert names(plan.stage(4)) == [*parts, "mini_ser", "mini_ser_four_si3"]
    logits = ["logits_monolingual_1of2", "logits_monolingual_2of2", "logits_monolingual"]
    assert names(plan.stage(6)) == 2 * logits
    sides = [f"{side}{part}.tsv" for side in ("dev", "test") for part in ("_1of2", "_2of2", "")]
    assert names(plan.stage(8)) == [*(5 * 2 * sides), "test.npz", "test.npz"]
    for number, cmd in ((2, "run.sh"), (6, "decode.sh")):
        first, second, whole = plan.stage(number)[:3]
        assert whole.shards == (first, second)
        assert whole.key == make_plan(systems="ft mtkd").stage(number)[0].key  # of whatever number
        assert first.cmd == whole.cmd == cmd
        assert value(first, "--shard") == "1/2" and "--shard" not in whole.argv
        assert whole.free_args[-3:] == ("--shards", str(first.output), str(second.output))
    assert "--shards" not in plan.stage(4)[2].free_args  # it finds all in the store


def test_features_of_16_bits_have_a_store_of_their_own():
    full, half = (make_plan(feats_bits=bits).stores[0] for bits in (32, 16))
    assert (value(full, "--bits"), value(half, "--bits")) == ("32", "16")
    assert half.output.parent.name == full.output.parent.name + "_16bit"


def test_two_checkpoints_of_one_name_have_two_stores(tmp_path):
    for parent in ("a", "b"):
        (tmp_path / parent / "model").mkdir(parents=True)
        (tmp_path / parent / "model" / "config.json").write_text("{}")
    stores = {
        make_plan(upstream="hf_hubert_custom", upstream_path=f"{parent}/model").features[0].output
        for parent in ("a", "b")
    }
    assert len(stores) == 2
    assert all("hf_hubert_custom_model_" in str(store) for store in stores)


def test_back_ends():
    options = dict(train_cmd="run.pl", cuda_cmd="slurm.pl --mem 4G", decode_cmd="run.pl -x")
    plan = make_plan(**options)
    assert by_name(plan)["ft"].cmd == "run.pl" and plan.predictions[0].cmd == "run.pl -x"
    training = by_name(make_plan(ngpu=1, **options))["ft"]
    assert training.cmd == "slurm.pl --mem 4G --gpu 1"
    assert "--multiprocessing_distributed" not in training.argv
    assert by_name(make_plan(ngpu=1))["ft"].cmd == plan.split.cmd == ""
    assert {job.cmd for job in plan.stores} == {"run.pl"}


def test_several_gpus_are_espnets_own_processes():
    training = by_name(make_plan(ngpu=4))["mtkd"]
    assert value(training, "--ngpu") == "4"
    assert value(training, "--multiprocessing_distributed") == "true"
    assert not training.free_args


@pytest.mark.parametrize(
    ("script", "launch"), [("slurm.pl", ("srun", "--export=ALL")), ("tools/srun.sh", ())]
)
def test_several_machines_are_slurms(tmp_path, script, launch):
    def make(**options):
        plan = make_plan(num_nodes=3, cuda_cmd=script, train_cmd=script, **options)
        return by_name(plan)["mtkd"]

    training = make(ngpu=2)
    assert training.cmd == f"{script} --gpu 2 --num_nodes 3"
    assert training.launch == launch
    assert value(training, "--dist_launcher") == "slurm"
    assert "--dist_backend" not in training.argv
    option, place = training.free_args
    assert option == "--dist_init_method"
    folder = training.output.parent.absolute()
    assert place.startswith(f"file://{folder}/log/mtkd.meeting_")
    # No two starts meet in one file, and both are the same training.
    assert make(ngpu=2).free_args != training.free_args
    assert make(ngpu=2).key == training.key
    training = make()
    assert training.cmd == f"{script} --num_nodes 3"
    assert value(training, "--dist_backend") == "gloo"


def test_verification_covers_all_results():
    plan = make_plan(expdir="other")
    assert [str(path) for path in plan.scores.also] == [
        "other/results.json",
        "other/experiment.json",
    ]


def test_held_out_corpora(tmp_path):
    (tmp_path / "EmoDB").mkdir()
    (tmp_path / "EmoDB" / "file").write_text("x")
    plan = make_plan(heldout="emodb", corpus_root=[f"EMODB={tmp_path}/EmoDB"], folds="1")
    assert names(plan.stage(1)) == ["options", "mini_ser", "emodb"]
    assert plan.split.output.name == "mini_ser_four_si3_without_emodb"
    assert value(plan.split, "--heldout") == "emodb"
    assert names(plan.stage(4))[:2] == ["mini_ser", "emodb"]
    assert {"dev.tsv", "test.tsv", "heldout.tsv"} == set(names(plan.predictions))
    experiment = plan.experiment()
    assert experiment["corpora"] == {"mini_ser": {"heldout": False}, "emodb": {"heldout": True}}
    # English is trained on, too, from another corpus.
    assert experiment["heldout_languages"] == ["en", "sv"]
    assert experiment["synthetic"] is True
    assert (experiment["seeds"], experiment["fold_seed"]) == ([0], 0)


def test_a_real_corpus_reads_its_folder(tmp_path):
    (tmp_path / "EmoDB").mkdir()
    plan = make_plan(corpora="emodb", corpus_root=["EMOVO=/x", "EMODB=EmoDB"])
    job = plan.data["emodb"]
    assert value(job, "--root") == str(tmp_path / "EmoDB")
    assert Path(tmp_path / "EmoDB") in job.inputs
    assert plan.experiment()["synthetic"] is False


def test_package():
    assert make_plan(systems="ft kd").package.output.name == "kd.zip"
    assert make_plan(pack_system="teacher_fi").package.output.name == "teacher_fi.zip"
    with pytest.raises(UserError, match="--pack_system teacher_x: must be one of ft, teacher_en"):
        _ = make_plan(pack_system="teacher_x").package
    with pytest.raises(UserError, match="--pack_system mtkd_x: must be one of ft, kd"):
        make_plan(languages="", pack_system="mtkd_x")  # before there are data


def test_options_of_trainings_are_checked_before_there_are_data():
    plan = make_plan(languages="", teacher_init="multilingual", student_args="--max_epoch 2")
    job = plan.stage(1)[0]
    assert job.output.name == "options" and not job.needs
    trainings = [json.loads(a) for flag, a in itertools.pairwise(job.argv) if flag == "--training"]
    assert [(t["system"], t["taught"], t["config_file"], t["args"]) for t in trainings] == [
        ("ft", False, "conf/train_frozen.yaml", ["--max_epoch", "2"]),
        *(
            (name, True, "conf/train_frozen.yaml", ["--max_epoch", "2"])
            for name in ("kd", "mtkd_uniform", "mtkd_cosine_batch", "mtkd")
        ),
        (None, False, "conf/train_frozen.yaml", []),
        (None, False, "conf/train_specialist.yaml", []),
    ]
    assert trainings[2]["config"]["weighting"] == "uniform"
    assert "--ngpu" in job.argv
    assert "--ngpu" not in make_plan(cuda_cmd="slurm.pl").check.argv  # its GPUs are elsewhere


# ---- mistakes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"systems": "ft mkd"}, "--systems mkd: must be some of ft, .*kd, "),
        ({"corpora": "mini_sr"}, "corpus mini_sr: no local/mini_sr.py; there are .*mini_ser"),
        ({"heldout": "berlin"}, "corpus berlin: no local/berlin.py"),
        ({"folds": "4"}, "--folds 4: there are folds 1 to 3"),
        ({"folds": "0"}, "--folds 0: there are folds 1 to 3"),
        ({"num_folds": 2}, "--num_folds 2: protocol si needs 3 or more"),
        ({"folds": "1 1"}, "--folds '1 1': name at least one, and none twice"),
        ({"folds": ""}, "--folds '': name at least one"),
        ({"corpora": "mini_ser mini_ser"}, "--corpora 'mini_ser mini_ser': .* none twice"),
        ({"corpora": ""}, "--corpora '': name at least one"),
        ({"heldout": "emodb emodb"}, "--heldout 'emodb emodb': .* none twice"),
        ({"systems": "ft ft"}, "--systems 'ft ft': .* none twice"),
        ({"systems": ""}, "--systems '': name at least one"),
        ({"seeds": "0 0"}, "--seeds '0 0': .* none twice"),
        ({"seeds": "0 x"}, "--seeds '0 x': must be whole numbers"),
        ({"heldout": "mini_ser"}, "--corpora mini_ser: also among --heldout"),
        ({"corpora": "emodb"}, "corpus emodb: EMODB='' is no folder; set EMODB in db.sh"),
        (
            {"corpora": "emodb", "corpus_root": ["EMODB=/nowhere"]},
            "corpus emodb: EMODB='/nowhere' is no folder",
        ),
        ({"num_nodes": 2}, "--num_nodes 2 needs Slurm: cmd_backend=slurm"),
        ({"num_nodes": 0}, "--num_nodes 0: must be 1 or more"),
        ({"shards": 0}, "--shards 0: must be 1 or more"),
        ({"ngpu": -1}, "--ngpu -1: must be 0 or more"),
        ({"teacher_init": "ft"}, "--teacher_init ft: must be scratch or multilingual"),
        ({"teacher_ensemble": "yes"}, "--teacher_ensemble yes: must be true, false or soup"),
        ({"teacher_config": "conf/x.yaml"}, "conf/x.yaml: no such file"),
        ({"labelled_share": 0.0}, "--labelled_share 0.0: must be above 0, at most 1"),
        ({"labelled_share": 1.5}, "--labelled_share 1.5: must be above 0, at most 1"),
        ({"feats_bits": 8}, "--feats_bits 8: must be 32 or 16"),
        ({"upstream_mode": "forzen"}, "--upstream_mode forzen: must be one of frozen, fine"),
        ({"labels": "five"}, "conf/labels/five.yaml: no such file"),
        ({"student_config": "conf/x.yaml"}, "conf/x.yaml: no such file"),
        ({"upstream_path": "/nowhere"}, "/nowhere: no such file or folder"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(UserError, match=message):
        plan = make_plan(**options)
        for number in range(1, 10):
            _ = [job.key for job in plan.stage(number)]


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_models_need_the_folds(share):
    with pytest.raises(UserError, match="languages: no such file; run with --stage 3 first"):
        make_plan(languages="", labelled_share=share).stage(5)


def test_ft_has_no_teachers():
    own_system("ft", "teachers: monolingual\nweighting: uniform\n")
    with pytest.raises(UserError, match="ft.yaml: teachers monolingual: must be none; others"):
        make_plan(systems="ft").stage(7)


def test_a_system_of_unknown_teaching():
    own_system("odd", "teachers: ft\nteaching: alive\n")
    with pytest.raises(UserError, match="odd.yaml: teaching 'alive': must be cached or live"):
        make_plan(systems="odd")


@pytest.mark.parametrize("number", [0, 11, 13, 99])
def test_a_stage_that_is_not_there(number):
    with pytest.raises(UserError, match=f"stage {number}: there are stages 1 to 10 and 12"):
        make_plan().stage(number)


def test_the_command_line_has_every_option():
    args = get_parser().parse_args(["3", "--corpora", "a b", "--nj", "4"])
    assert (args.stage, args.corpora, args.nj, args.corpus_root) == (3, "a b", 4, [])
    assert OPTIONS.keys() <= vars(args).keys()


def test_specialists_of_another_student_need_a_config_of_their_own():
    write_text("conf/mine.yaml", "head: linear\n")
    with pytest.raises(UserError, match="--student_config conf/mine.yaml needs --teacher_config"):
        make_plan(teacher_init="multilingual", student_config="conf/mine.yaml").stage(5)


def test_a_system_adds_to_the_conf_of_the_training():
    write_text(
        "conf/mine.yaml", "head: mlp\nhead_conf: {hidden_size: 7}\nmodel_conf: {mixup: 0.1}\n"
    )
    write_text("conf/systems/a.yaml", "teachers: none\nmodel_conf: {lid_lambda: 0.2}\n")
    write_text("conf/systems/b.yaml", "teachers: none\nhead: linear\nhead_conf: {dropout: 0.3}\n")
    jobs = by_name(make_plan(systems="a b", student_config="conf/mine.yaml"))
    a, b = (yaml.safe_load(Path(value(jobs[name], "--config")).read_text()) for name in "ab")
    assert a["model_conf"] == {"mixup": 0.1, "lid_lambda": 0.2}
    assert b["head_conf"] == {"dropout": 0.3}  # not those of another head


# ---- cross-fitting, soup, left-out languages, views, students of another kind ------------------


def copies_of(job) -> list[list[str]]:
    return [job.argv[i + 1].split(",") for i, word in enumerate(job.argv) if word == "--copy"]


def test_cross_fitted_teachers_speak_of_speakers_they_have_not_heard():
    options = dict(systems="kd mtkd", folds="2", teacher_init="multilingual", crossfit=2)
    plan = make_plan("de en", **options)
    parts = plan.stage(3)[1:]
    assert [value(job, "--part") for job in parts] == ["1/2", "2/2"]
    run = plan.runs[0]
    mono = plan.logits(run, "monolingual")
    copies = copies_of(mono)
    assert [(name, folder) for name, folder, *_ in copies] == [
        (f"teacher_{k}", f"exp/fold_2/seed_0/part_{n}/teacher_{k}")
        for n in (1, 2)
        for k in ("de", "en")
    ]
    for _, folder, keys, speech, kind in copies:
        part = parts[int(folder.split("part_")[1][0]) - 1]
        assert keys == f"{part.output}/fold_2/left_out/utt2emotion"
        assert (speech, kind) == (f"{plan.index(plan.sets).output}/feats.scp", "kaldi_ark")
    trained = {str(job.output): job for job in plan.stage(5)}
    # A specialist's copy starts from a multilingual model that has not heard the speakers either.
    for number, part in enumerate(parts, 1):
        folder = f"exp/fold_2/seed_0/part_{number}"
        for language in ("de", "en"):
            copy = trained[f"{folder}/teacher_{language}"]
            assert value(copy, "--init_param") == f"{folder}/ft/model.pth"
            assert str(part.output) in " ".join(copy.argv) and part in copy.needs
        assert f"{folder}/ft" in trained
    assert len(trained) == 3 * 3
    assert {name for name, *_ in copies_of(plan.logits(run, "ft"))} == {"ft"}
    assert not any("part_" in str(job.output) for job in plan.stage(7) + plan.stage(8))


def test_soup_is_the_average_of_specialists_of_one_start():
    options = dict(folds="1", seeds="3 5", teacher_init="multilingual", teacher_ensemble="soup")
    plan = make_plan("de en", systems="ft kd mtkd", **options)
    trained = {str(job.output): job for job in plan.stage(5)}
    for seed in (3, 5):
        start = value(trained[f"exp/fold_1/seed_{seed}/teacher_de"], "--init_param")
        assert start == "exp/fold_1/seed_3/ft/model.pth"
    soup = trained["exp/fold_1/soup/teacher_de"]
    assert soup.argv[1] == "espnet_mtkd.bin.average_models"
    assert {str(job.output) for job in soup.needs} == {
        f"exp/fold_1/seed_{seed}/teacher_de" for seed in (3, 5)
    }
    for run in plan.runs:
        teachers = teachers_of(plan.logits(run, "monolingual"))
        assert [t[2] for t in teachers] == [f"exp/fold_1/soup/teacher_{k}" for k in ("de", "en")]
        ft = teachers_of(plan.logits(run, "ft"))
        assert [t[2] for t in ft] == [f"exp/fold_1/seed_{run.seed}/ft"]
    tested = [str(job.output) for job in plan.predictions if "soup" in str(job.output)]
    assert tested == [f"exp/fold_1/soup/teacher_{k}/test.tsv" for k in ("de", "en")]


def test_every_language_is_left_out_once_and_teachers_that_never_heard_it_stay():
    plan = make_plan("de en it", systems="ft mtkd", folds="1", leave_one_language_out="true")
    assert list(plan.without) == ["de", "en", "it"]
    for run in plan.left_out:
        models = plan.models[run]
        others = [k for k in ("de", "en", "it") if k != run.without]
        teachers = teachers_of(plan.logits(run, "monolingual"))
        assert [t[2] for t in teachers] == [f"exp/fold_1/seed_0/teacher_{k}" for k in others]
        for name in ("ft", "mtkd"):
            assert str(models[name].output) == f"exp/fold_1/seed_0/without_{run.without}/{name}"
            words = " ".join(models[name].argv)
            assert str(plan.without[run.without].output) in words
    assert not any("without" in str(job.output) for job in plan.stage(5))
    tested = [job for job in plan.stage(8) if "without" in str(job.output)]
    assert len(tested) == 6
    for job in tested:
        language = str(job.output).split("without_")[1][:2]
        assert value(job, "--data_dir") == str(plan.sets.output / f"fold_1/test_{language}")
    assert plan.experiment()["left_out"] == ["de", "en", "it"]


def test_specialists_are_trained_anew_without_the_language():
    options = dict(systems="mtkd", folds="1", teacher_init="multilingual")
    plan = make_plan("de en", leave_one_language_out="true", **options)
    trained = {str(job.output) for job in plan.stage(5)}
    assert {"exp/fold_1/seed_0/without_de/ft", "exp/fold_1/seed_0/without_de/teacher_en"} <= trained
    assert "exp/fold_1/seed_0/without_de/teacher_de" not in trained


def test_views_are_made_once_and_join_the_training_sets():
    plan = make_plan(views=2)
    made = plan.stage(2)[-1]
    assert made.argv[1] == "espnet_mtkd.bin.make_views" and value(made, "--views") == "2"
    assert plan.sets.output.name == "mini_ser_four_si3_views2"
    assert value(plan.sets, "--views") == str(made.output) and made in plan.sets.needs
    stores = [job for job in plan.stage(4) if job.argv[1].endswith("extract_features")]
    assert [value(job, "--data_dir") for job in stores] == [
        str(plan.audio["mini_ser"].output),
        str(made.output),
    ]
    assert str(plan.sets.output) in value(by_name(plan)["ft"], "--train_shape_file")


def test_unlabelled_corpora_teach_students_only(tmp_path):
    (tmp_path / "corpus").mkdir()
    roots = [f"EMODB={tmp_path / 'corpus'}"]
    plan = make_plan("en fi", unlabelled="emodb", corpus_root=roots, systems="ft mtkd", folds="1")
    assert "emodb" not in " ".join(plan.split.argv)
    assert value(plan.sets, "--unlabelled") == str(plan.audio["emodb"].output)
    models = by_name(plan)
    words = {name: " ".join(job.argv) for name, job in models.items()}
    assert "/train_all/" in words["mtkd"] and "languages_all" in words["mtkd"]
    assert "/train_all/" not in words["ft"] and "languages_all" not in words["ft"]


def test_students_with_an_encoder_of_their_own(tmp_path):
    (tmp_path / "small.yaml").write_text("frontend: conv\npooling: stats\n")
    options = dict(student_mode="own", student_config="small.yaml", systems="ft kd mtkd", folds="1")
    plan = make_plan("de en", **options)
    models = by_name(plan)
    # The multilingual teacher is a model of the teachers' kind, ft one of the students'.
    assert names(plan.stage(5)) == ["teacher_all", "teacher_de", "teacher_en"]
    assert names(plan.stage(7)) == ["ft", "kd", "mtkd"]
    assert teachers_of(plan.logits(plan.runs[0], "ft"))[0][2] == "exp/fold_1/seed_0/teacher_all"
    for name in ("ft", "kd", "mtkd"):
        words = " ".join(models[name].argv)
        assert "wav.scp,speech,sound" in words and "feats_info" not in words
        assert "--pooling" not in words and "upstream" not in words
    assert "feats.scp,speech,kaldi_ark" in " ".join(models["teacher_de"].argv)
    speech = {job.output.parent.name: value(job, "--speech") for job in plan.predictions}
    assert speech["kd"].endswith(",sound") and speech["teacher_all"].endswith(",kaldi_ark")
    assert plan.experiment()["systems"] == ["teacher_all", "ft", "kd", "mtkd"]
    assert not plan.hint_stores


def test_students_that_learn_from_hints_share_their_first_stage(tmp_path):
    (tmp_path / "small.yaml").write_text("frontend: conv\npooling: stats\n")
    options = dict(student_mode="own", student_config="small.yaml", folds="1", labelled_share=0.5)
    plan = make_plan("de en", systems="ft ft_hints kd_hints mtkd_hints", **options)
    assert names(plan.stage(5)) == ["teacher_all", "teacher_de", "teacher_en", "hints"]
    hints = plan.hints(plan.runs[0])
    words = " ".join(hints.argv)
    assert "bin.hint_train" in words and "last_frames/" in value(hints, "--hints_info")
    assert "/train_all/" in words and "feats.scp,hint,kaldi_ark" in words  # no label is needed
    stored = [job for job in plan.stage(4) if "last_frames" in " ".join(job.argv)]
    assert {value(job, "--pooling") for job in stored if "--pooling" in job.argv} == {"last_frames"}
    models = by_name(plan)
    for name in ("ft_hints", "kd_hints", "mtkd_hints"):
        start = f"{hints.output}/model.pth:frontend:frontend"
        assert hints in models[name].needs and value(models[name], "--init_param") == start
    assert hints not in models["ft"].needs and "--init_param" not in models["ft"].argv
    assert "hints" not in models  # not a classifier: nothing to test
    assert hints not in plan.logits(plan.runs[0], "monolingual").needs


def test_students_that_go_on_with_hints(tmp_path):
    (tmp_path / "small.yaml").write_text("frontend: conv\npooling: stats\n")
    options = dict(student_mode="own", student_config="small.yaml", folds="1", labelled_share=0.5)
    plan = make_plan("de en", systems="ft ft_frames mtkd_hints mtkd_frames", **options)
    run, models = plan.runs[0], by_name(plan)
    hints, index = plan.hints(run), plan.index(run.tree, hints=True)
    for name in ("ft_frames", "mtkd_frames"):
        words = " ".join(models[name].argv)
        first = f"{hints.output}/model.pth"
        assert f"--init_param {first}:frontend:frontend {first}:hint_loss:hint_loss" in words
        assert f"{index.output}/feats.scp,hint,kaldi_ark" in words and "/train_all/" in words
        assert value(models[name], "--hints_info") == f"{index.output}/info.json"
        assert {hints, index} <= set(models[name].needs)
    for name in ("ft", "mtkd_hints"):
        assert "hint," not in " ".join(models[name].argv) and index not in models[name].needs
    assert "bin.ser_train" in " ".join(models["ft_frames"].argv)


def test_a_student_without_a_language_has_hints_without_it(tmp_path):
    (tmp_path / "small.yaml").write_text("frontend: conv\npooling: stats\n")
    options = dict(student_mode="own", student_config="small.yaml", folds="1")
    plan = make_plan("de en", systems="mtkd_hints", leave_one_language_out="true", **options)
    run = next(run for run in plan.left_out if run.without == "de")
    hints = plan.hints(run)
    assert "without_de" in str(hints.output) and "without_de" in value(hints, "--hints_info")
    assert hints in plan.models[run]["mtkd_hints"].needs
    assert plan.index(run.tree, hints=True) in plan.stage(4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"student_mode": "small"}, "--student_mode small: must be one of own, frozen"),
        ({"student_mode": "own"}, "conf/train_frozen.yaml: --student_mode own goes with an enc"),
        ({"systems": "mtkd_hints"}, "mtkd_hints.yaml: hints: true is for students with an enc"),
        ({"crossfit": 1}, "--crossfit 1: must be 2 or more"),
        ({"crossfit": 2, "leave_one_language_out": "true"}, "make two experiments"),
        ({"teacher_ensemble": "soup"}, "soup needs --teacher_init multilingual"),
        ({"views": -1}, "--views -1: must be 0 or more"),
        (
            {"corpora": "emodb", "heldout": "mini_ser", "unlabelled": "mini_ser"},
            "--unlabelled mini_ser: also among --heldout",
        ),
    ],
)
def test_more_mistakes(options, message):
    with pytest.raises(UserError, match=message):
        plan = make_plan(**options)
        for stage in (3, 5, 7):
            plan.stage(stage)


def test_teachers_from_elsewhere(tmp_path):
    for name in ("a.zip", "b.zip"):
        (tmp_path / name).write_bytes(b"zip")
    own_system("alive", "teachers: monolingual\nteaching: live\nweighting: label\n")
    external = "sv,sv,a.zip all,all,b.zip"
    plan = make_plan("de en", systems="kd mtkd", folds="1", external_teachers=external)
    logits = plan.logits(plan.runs[0], "monolingual")
    given = [logits.argv[i + 1] for i, word in enumerate(logits.argv) if word == "--external"]
    assert given == [f"sv,sv,{tmp_path}/a.zip", f"all,all,{tmp_path}/b.zip"]
    heard = [logits.argv[i + 1] for i, word in enumerate(logits.argv) if word == "--wav"]
    assert heard == [str(plan.runs[0].sets / side / "wav.scp") for side in ("train", "dev")]
    assert {tmp_path / "a.zip", tmp_path / "b.zip"} <= set(logits.inputs)
    assert "--external" not in plan.logits(plan.runs[0], "ft").argv
    tested = {job.output: job for job in plan.predictions if "external" in str(job.output)}
    outputs = [Path("exp/fold_1/external") / name / "test.tsv" for name in ("sv", "all")]
    assert list(tested) == outputs
    job = tested[outputs[0]]
    assert job.argv[job.argv.index("--speech") + 1] == f"{plan.runs[0].sets}/test/wav.scp,sound"
    assert tmp_path / "a.zip" in job.inputs
    live = make_plan("de en", systems="alive", external_teachers=external)
    with pytest.raises(UserError, match="system alive has live teachers"):
        live.stage(7)
    for wrong, message in (
        ("sv,sv", "must be NAME,LANG"),
        ("sv,sv,c.zip", "no such archive"),
        ("sv.2,sv,a.zip", "the name must not end in a dot and a number"),
        ("sv,sv,a.zip sv,de,b.zip", "b.zip: the name must be one that no other teacher"),
        ("teacher_de,de,a.zip", "must not start with teacher_"),
        ("mtkd,de,a.zip", "the name must be one that no other teacher and no system"),
        ("a/b,de,a.zip", "have no slash"),
    ):
        with pytest.raises(UserError, match=message):
            make_plan(external_teachers=wrong).stage(6)


def test_a_teacher_from_elsewhere_is_silent_where_its_language_is_left_out(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"zip")
    options = dict(systems="ft mtkd", folds="1", leave_one_language_out="true")
    plan = make_plan("de en", external_teachers="mine,en,a.zip", **options)
    given = {run.without: plan.logits(run, "monolingual").argv for run in plan.left_out}
    assert "--external" in given["de"] and "--external" not in given["en"]
    assert "--wav" in given["de"] and "--wav" not in given["en"]
    with pytest.raises(UserError, match="it has heard the language that is left out"):
        make_plan("de en", external_teachers="mine,all,a.zip", **options)


def test_what_would_be_given_in_vain(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"zip")
    with pytest.raises(UserError, match="--external_teachers: none of --systems ft kd learns"):
        make_plan("de en", external_teachers="mine,en,a.zip", systems="ft kd")
    own_system("alive", "teachers: monolingual\nteaching: live\nweighting: label\n")
    with pytest.raises(UserError, match="--crossfit: system alive has live teachers, who speak"):
        make_plan("de en", systems="alive", folds="1", crossfit=2).stage(7)


def test_unlabelled_corpora_do_not_change_the_folds(tmp_path):
    for name in ("emodb", "urdu"):
        (tmp_path / name).mkdir()
    roots = [f"EMODB={tmp_path}/emodb", f"URDU={tmp_path}/urdu"]
    with_it = make_plan(unlabelled="urdu", corpus_root=roots).split
    assert with_it.key == make_plan(corpus_root=roots).split.key


def test_a_soup_that_teaches_live_is_made_before_its_students():
    own_system("alive", "teachers: monolingual\nteaching: live\nweighting: language\n")
    options = dict(folds="1", seeds="0 1", teacher_init="multilingual", teacher_ensemble="soup")
    plan = make_plan("de en", systems="alive", **options)
    made = {job.output for stage in (5, 6) for job in plan.stage(stage)}
    assert Path("exp/fold_1/soup/teacher_de") in made
    for job in plan.stage(7):
        assert {need.output for need in job.needs if need.stage >= 5} <= made
