"""Options in, jobs out; nothing is run."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from espnet_mtkd.bin.run_stage import OPTIONS, get_parser
from espnet_mtkd.errors import UserError
from espnet_mtkd.plan import Plan

ALL_SYSTEMS = "ft kd mtkd_uniform mtkd_cosine_batch mtkd"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def make_options(**options) -> Namespace:
    return Namespace(**{**OPTIONS, "corpus_root": [], "num_folds": 2, **options})


def make_plan(languages: str = "en fi fr", **options) -> Plan:
    """A plan whose stage 3 is done."""
    plan = Plan(make_options(**options))
    if languages:
        folder = plan.split.output
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
    assert names(plan.stage(1)) == names(plan.stage(2)) == ["mini_ser"]
    assert names(plan.stage(3)) == ["mini_ser_four_si2"]
    assert names(plan.stage(4)) == ["mini_ser", "mini_ser_four_si2"]
    # Three teachers, and ft, which teaches kd; two folds.
    teachers = ["ft", "teacher_en", "teacher_fi", "teacher_fr"]
    assert names(plan.stage(5)) == 2 * teachers
    assert sorted(names(plan.stage(6))) == 2 * ["logits_ft"] + 2 * ["logits_monolingual"]
    students = ["kd", "mtkd_uniform", "mtkd_cosine_batch", "mtkd"]
    assert names(plan.stage(7)) == 2 * students
    assert names(plan.stage(8)) == ["dev.tsv", "test.tsv"] * 16
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
    kd_logits = plan.logits[plan.runs[0], "ft"]
    assert models["kd"].needs == (folds, kd_logits, feats)
    assert kd_logits.needs == (models["ft"],)
    mono = plan.logits[plan.runs[0], "monolingual"]
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
    assert plan.report.needs == (plan.scores,)
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
    argv = plan.logits[plan.runs[0], "monolingual"].argv
    teachers = [argv[i + 1] for i, word in enumerate(argv) if word == "--teacher"]
    assert teachers == [
        f"teacher_{lang},{lang},exp/fold_1/seed_0/teacher_{lang}" for lang in ("en", "fi", "fr")
    ]
    assert value(plan.logits[plan.runs[0], "ft"], "--teacher") == "ft,all,exp/fold_1/seed_0/ft"


def test_trainings_resume():
    jobs = by_name(make_plan()).values()
    assert all(job.resumes and value(job, "--resume") == "true" for job in jobs)


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
    assert plan.predictions[0].argv[-3] == "dump/folds/mini_ser_four_si2/fold_1/dev/wav.scp,sound"


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
    options = dict(train_cmd="run.pl", cuda_cmd="slurm.pl --gpu 1", decode_cmd="run.pl -x")
    plan = make_plan(**options)
    assert by_name(plan)["ft"].cmd == "run.pl" and plan.predictions[0].cmd == "run.pl -x"
    assert by_name(make_plan(ngpu=1, **options))["ft"].cmd == "slurm.pl --gpu 1"
    assert plan.split.cmd == ""


def test_held_out_corpora(tmp_path):
    (tmp_path / "EmoDB").mkdir()
    (tmp_path / "EmoDB" / "file").write_text("x")
    plan = make_plan(heldout="emodb", corpus_root=[f"EMODB={tmp_path}/EmoDB"], folds="1")
    assert names(plan.stage(1)) == ["mini_ser", "emodb"]
    assert plan.split.output.name == "mini_ser_four_si2_without_emodb"
    assert value(plan.split, "--heldout") == "emodb"
    assert names(plan.stage(4))[:2] == ["mini_ser", "emodb"]
    assert {"dev.tsv", "test.tsv", "heldout.tsv"} == set(names(plan.stage(8)))
    experiment = plan.experiment()
    assert experiment["corpora"] == {"mini_ser": {"heldout": False}, "emodb": {"heldout": True}}
    assert experiment["heldout_languages"] == ["sv"]  # English is trained on
    assert experiment["synthetic"] is True


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
    with pytest.raises(UserError, match="--pack_system mtkd_x: must be one of ft, teacher_en"):
        _ = make_plan(pack_system="mtkd_x").package


# ---- mistakes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"systems": "ft mkd"}, "--systems mkd: must be some of ft, kd"),
        ({"corpora": "mini_sr"}, "corpus mini_sr: no local/mini_sr.py; there are .*mini_ser"),
        ({"heldout": "berlin"}, "corpus berlin: no local/berlin.py"),
        ({"folds": "3"}, "--folds 3: there are folds 1 to 2"),
        ({"folds": "0"}, "--folds 0: there are folds 1 to 2"),
        ({"folds": "1 1"}, "--folds '1 1': name at least one, and none twice"),
        ({"folds": ""}, "--folds '': name at least one"),
        ({"corpora": "mini_ser mini_ser"}, "--corpora 'mini_ser mini_ser': .* none twice"),
        ({"corpora": ""}, "--corpora '': name at least one"),
        ({"heldout": "emodb emodb"}, "--heldout 'emodb emodb': .* none twice"),
        ({"systems": "ft ft"}, "--systems 'ft ft': .* none twice"),
        ({"systems": ""}, "--systems '': name at least one"),
        ({"seeds": "0 0"}, "--seeds '0 0': .* none twice"),
        ({"seeds": "0 x"}, "--seeds '0 x': must be whole numbers"),
        ({"heldout": "mini_ser"}, "--heldout mini_ser: also among --corpora"),
        ({"corpora": "emodb"}, "corpus emodb: EMODB='' is no folder; set EMODB in db.sh"),
        (
            {"corpora": "emodb", "corpus_root": ["EMODB=/nowhere"]},
            "corpus emodb: EMODB='/nowhere' is no folder",
        ),
        ({"upstream_mode": "forzen"}, "--upstream_mode forzen: must be frozen or finetune"),
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


def test_models_need_the_folds():
    with pytest.raises(UserError, match="languages: no such file; run with --stage 3 first"):
        make_plan(languages="").stage(5)


@pytest.mark.parametrize("number", [0, 11, 13, 99])
def test_a_stage_that_is_not_there(number):
    with pytest.raises(UserError, match=f"stage {number}: there are stages 1 to 10 and 12"):
        make_plan().stage(number)


def test_the_command_line_has_every_option():
    args = get_parser().parse_args(["3", "--corpora", "a b", "--nj", "4"])
    assert (args.stage, args.corpora, args.nj, args.corpus_root) == (3, "a b", 4, [])
    assert OPTIONS.keys() <= vars(args).keys()
