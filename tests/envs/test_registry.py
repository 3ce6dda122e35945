"""From a declaration to an environment, and one clear line where there is no way."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from antiphon import envs
from antiphon.errors import ScenarioError

DIGITS = "antiphon/Digits-v0"
HYPERPLANE = "antiphon/Hyperplane-v0"
COUNT = "antiphon/CountDigits-v0"
COPY = "antiphon/Copy-v0"
REPEAT = "antiphon/RepeatCopy-v0"
TEXT = "antiphon/CharText-v0"
WINDOWS, GAME = "antiphon/TextWindows-v0", "antiphon/Referential-v0"
POLE, ROOM, TALK = "antiphon/CartPole-v0", "antiphon/KeyDoor-v0", "antiphon/SpeakerListener-v0"


def test_make_takes_a_mapping_or_an_object() -> None:
    by_mapping = envs.make({"id": DIGITS, "hold": 2}, batch=3, dtype=torch.float64, split="test")
    by_object = envs.make(SimpleNamespace(id=DIGITS, kwargs={"hold": 2, "split": "test"}), batch=3)
    for env in (by_mapping, by_object):
        assert (env.num_envs, env.hold, env.split) == (3, 2, "test")  # type: ignore[attr-defined]
    assert by_mapping.reset(seed=0)[0]["image"].dtype == torch.float64


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"id": "antiphon/Digit-v0"}, ".id: no environment 'antiphon/Digit-v0'; did you mean"),
        ({"id": "os:system"}, ".id: os defines no class 'system' with reset and step"),
        ({"hold": 2}, ".id: is missing"),
        ({"gymnasium": "CartPole-v1"}, ".id: is missing"),
        ({"id": "CartPole-v1"}, ".id: no environment 'CartPole-v1'; did you mean 'gymnasium/CartPole-v1'?"),
        ({"id": DIGITS, "holds": 2}, ".holds: unknown key 'holds'; did you mean 'hold'?"),
        ({"id": DIGITS, "hold": 0}, ".hold: must be at least 1, not 0"),
        ({"id": DIGITS, "data": "mnits"}, ".data: unknown data 'mnits'; did you mean 'mnist'?"),
        ({"id": HYPERPLANE, "labels": "noise"}, ".labels: unknown labels 'noise'; did you mean 'noisy'?"),
        ({"id": HYPERPLANE, "size": 0}, ".size: must be at least 1, not 0"),
        ({"id": HYPERPLANE, "split": "test"}, ".split: unknown split 'test'; known: train"),
        (
            {"id": DIGITS, "episode": "examples"},
            ".episode: unknown episode 'examples'; did you mean 'example'?",
        ),
        ({"id": DIGITS, "split": "tests"}, ".split: unknown split 'tests'; did you mean 'test'?"),
        ({"id": DIGITS, "patches": 0}, ".patches: must be at least 1, not 0"),
        ({"id": DIGITS, "patches": 4, "patch_size": 9}, ".patch_size: 9; must be a whole number from 1 to 8"),
        ({"id": DIGITS, "patch_size": 3}, ".patch_size: 3, but patches is not set; set patches"),
        ({"id": COUNT, "data": "cifar10"}, ".data: unknown data 'cifar10'; known: digits, mnist"),
        ({"id": COUNT, "window": 1}, ".window: must be at least 2, not 1"),
        ({"id": COUNT, "window": 65}, ".window: 65; 2 levels would count over 4225 digits, at most 4096"),
        ({"id": COPY, "length": 25}, ".length: 25; must be a whole number from 1 to 24"),
        ({"id": COPY, "threshold": -0.1}, ".threshold: must be at least 0, not -0.1"),
        ({"id": COPY, "threshold": float("nan")}, ".threshold: must be a finite number, not nan"),
        (
            {"id": COPY, "repeats": 2},
            ".repeats: unknown key 'repeats'; known: bits, length, max_length, threshold",
        ),
        ({"id": REPEAT, "length": 5, "repeats": 5}, ".repeats: 5 times length 5 exceeds max_length 24; "),
        ({"id": TEXT, "text": 3}, ".text: must be text, not 3"),
        ({"id": WINDOWS, "length": 0}, ".length: must be at least 1, not 0"),
        ({"id": POLE, "limit": 0}, ".limit: must be at least 1, not 0"),
        ({"id": ROOM, "size": 4}, ".size: must be at least 5, not 4"),
        ({"id": "antiphon/CaptureFlag-v0", "size": 6}, ".size: must be at least 7, not 6"),
        ({"id": TALK, "message": "chanel"}, ".message: unknown message 'chanel'; did you mean 'channel'?"),
        ({"id": GAME, "candidates": 1}, ".candidates: must be at least 2, not 1"),
        (
            {"id": GAME, "candidates": 11, "concept": True},
            ".candidates: 11; must be a whole number from 2 to",
        ),
        ({"id": GAME, "concept": "yes"}, ".concept: must be true or false, not the word 'yes'"),
        ({"id": GAME, "data": "cifar10"}, ".data: unknown data 'cifar10'; known: digits, mnist"),
        (42, ": int makes no environments; pass an id"),
    ],
)
def test_what_cannot_be_made_says_why(spec: Any, expected: str) -> None:
    for call in (lambda: envs.make(spec, batch=2), lambda: envs.describe(spec)):
        with pytest.raises(ScenarioError) as caught:
            call()
        assert str(caught.value).startswith(f"env{expected}")
        assert "\n" not in str(caught.value)
