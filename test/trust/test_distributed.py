"""ESPnet's distributed data parallel: two processes (gloo, CPU) learn what one learns."""

from __future__ import annotations

import json
import multiprocessing
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers

from espnet_mtkd.data.datadir import write_map
from espnet_mtkd.tasks.mtkd import MTKDTask
from espnet_mtkd.tasks.ser import SERTask

# Nothing random that depends on how a batch is cut: no dropout, no shuffling inside of a batch.
SAME = ["--head_conf", "dropout=0.0", "--shuffle_within_batch", "false", "--batch_size", "8"]
COMPARED = ("loss", "acc", "uar", "weight_", "grad_norm")


def run_two(task: type, argv: list[str], meeting: Path) -> None:
    """Train with two processes that meet in a file."""
    fork = multiprocessing.get_context("fork")
    complaints = fork.SimpleQueue()

    def work(rank: int) -> None:
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        try:
            place = ["--dist_world_size", "2", "--dist_rank", str(rank)]
            place += ["--dist_backend", "gloo", "--dist_init_method", f"file://{meeting}"]
            task.main(cmd=[*argv, *place])
        except BaseException:
            complaints.put(traceback.format_exc())
            raise

    torch.set_num_threads(1)
    processes = [fork.Process(target=work, args=(rank,), daemon=True) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
    failed = [process.exitcode for process in processes if process.exitcode != 0]
    for process in processes:
        process.kill()
    assert not failed, failed if complaints.empty() else complaints.get()


class Data:
    """Stored features and waveforms; sorted, every other utterance is English, then Finnish.

    ESPnet gives a process every other utterance of a batch: the first has no Finnish one at all.
    """

    def __init__(self, toy: Any, folder: Path) -> None:
        self.toy, self.folder = toy, folder
        rng = np.random.default_rng(3)
        waves = {}
        for side in ("train", "dev"):
            utts = sorted(toy.records[side])
            utts = utts[: len(utts) // 2 * 2]
            emotions = {utt: toy.records[side][utt][0] for utt in utts}
            languages = {utt: toy.languages[i % 2] for i, utt in enumerate(utts)}
            write_map(toy.folder / side / "utt2emotion", emotions)
            write_map(toy.folder / side / "utt2lang", languages)
            for utt in utts:
                path = folder / f"{utt}.wav"
                soundfile.write(path, 0.1 * rng.normal(size=3200).astype(np.float32), 16000)
                waves[utt] = str(path)
        write_map(folder / "wav.scp", waves)
        torch.manual_seed(5)
        config = transformers.HubertConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            conv_dim=[8] * 7,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=2,
            **dict.fromkeys(
                ("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout")
                + ("layerdrop", "mask_time_prob"),
                0.0,
            ),
        )
        transformers.HubertModel(config).save_pretrained(folder / "hubert")
        transformers.Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder / "hubert")

    def argv(self, output: Path, *more: str, student: bool, upstream: str) -> list[str]:
        """Return the command line of a training; ``upstream`` is stored, frozen or finetune."""
        argv = self.toy.argv(output, *SAME, *more, student=student)
        if upstream == "stored":
            return argv
        place = argv.index("--feats_info")
        del argv[place : place + 2]
        place = argv.index("--normalize_conf")
        argv[place : place + 2] = ["--normalize", "none"]
        feats = str(self.toy.folder / "feats.scp") + ",speech,kaldi_ark"
        argv = [a.replace(feats, f"{self.folder}/wav.scp,speech,sound") for a in argv]
        argv += ["--frontend_conf", "upstream=hf_hubert_custom"]
        argv += ["--frontend_conf", f"path_or_url={self.folder}/hubert"]
        return [*argv, "--frontend_conf", f"mode={upstream}", "--pooling", "mean"]


@pytest.fixture
def data(own_toy, tmp_path) -> Data:
    folder = tmp_path / "audio"
    folder.mkdir()
    return Data(own_toy, folder)


@pytest.fixture
def live(data, tmp_path) -> Callable[[str], list[str]]:
    """Return the option that names two live teachers, made on the spot."""

    def make(upstream: str) -> list[str]:
        lines = []
        for language in data.toy.languages:
            output = tmp_path / f"teacher_{language}"
            more = ("--max_epoch", "1", "--seed", str(len(lines)))
            SERTask.main(cmd=data.argv(output, *more, student=False, upstream=upstream))
            lines.append(f"teacher_{language} {language} {output}\n")
        path = tmp_path / "teachers"
        path.write_text("".join(lines))
        return ["--teachers", str(path)]

    return make


@pytest.mark.parametrize("upstream", ["stored", "finetune"])
@pytest.mark.parametrize("system", ["ft", "cached", "live"])
def test_two_processes_learn_what_one_learns(data, live, tmp_path, system, upstream):
    task = SERTask if system == "ft" else MTKDTask
    more = live(upstream) if system == "live" else []
    history = []
    for name in ("one", "two"):
        argv = data.argv(tmp_path / name, *more, student=system == "cached", upstream=upstream)
        if name == "one":
            task.main(cmd=argv)
        else:
            run_two(task, argv, tmp_path / "meeting")
        history.append(json.loads((tmp_path / name / "history.json").read_text()))
    one, two = history
    assert list(one) == list(two) == ["1", "2", "3"]
    for epoch, phases in one.items():
        for phase in ("train", "valid"):
            keys = [key for key in phases[phase] if key.startswith(COMPARED)]
            assert {"loss", "uar_en", "uar_fi"} <= set(keys)
            for key in keys:
                known = pytest.approx(phases[phase][key], abs=1e-4)
                assert two[epoch][phase][key] == known, (epoch, phase, key)
    trained = [torch.load(tmp_path / name / "3epoch.pth") for name in ("one", "two")]
    assert trained[0].keys() == trained[1].keys()
    for key, value in trained[0].items():
        torch.testing.assert_close(trained[1][key], value, atol=1e-4, rtol=1e-4)
