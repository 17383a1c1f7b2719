from __future__ import annotations

import math
import random

import pytest

from espnet_mtkd.data.confound import confounds


def test_what_determines_the_emotion_is_found(make_data):
    data = make_data({"a": {"joy": 30}, "b": {"anger": 30}})
    for utt, emotion in data.utt2emotion.items():
        data.utt2rate[utt] = "8000" if emotion == "joy" else "44100"
        data.utt2dur[utt] = f"{2 + (emotion == 'joy') + random.Random(utt).random():.4f}"
    found = confounds(data)
    for name in ("speaker", "recording rate"):
        assert found[name] == {"values": 2, "nmi": 1.0, "ami": 1.0, "suspicious": True}
    # Ten equal parts of duration, five for each emotion: I = ln 2 and H = ln 10.
    assert found["duration"]["values"] == 10
    assert found["duration"]["nmi"] == pytest.approx(2 * math.log(2) / math.log(20), abs=1e-4)
    assert found["duration"]["suspicious"]


def test_what_is_balanced_is_not(make_data):
    labels = {"joy": 20, "anger": 20, "calm": 20}
    data = make_data({f"{n}": labels for n in range(5)})
    for number, utt in enumerate(data.utterances):
        data.utt2dur[utt] = f"{1 + number % 20 / 10:.4f}"  # every emotion has every duration once
    found = confounds(data)
    assert [found[name]["values"] for name in found] == [5, 1, 10]
    assert all(entry["nmi"] == 0 and not entry["suspicious"] for entry in found.values())


def test_chance_is_taken_off(make_data):
    # 60 speakers with two utterances each, emotions at random: much nmi, no ami.
    rng = random.Random(0)
    data = make_data({f"{n:02d}": {"x": 2} for n in range(60)})
    data.utt2emotion = {utt: rng.choice(("joy", "anger")) for utt in data.utterances}
    speaker = confounds(data)["speaker"]
    assert speaker["nmi"] > 0.1
    assert abs(speaker["ami"]) < 0.1
    assert not speaker["suspicious"]


def test_one_emotion_or_one_value_says_nothing(make_data):
    found = confounds(make_data({"a": {"joy": 3}, "b": {"joy": 3}}))
    assert {entry["nmi"] for entry in found.values()} == {0.0}
