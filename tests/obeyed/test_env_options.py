"""Every option of every environment of the library shows in what it declares or in its steps, or is refused in one line."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from antiphon import envs
from antiphon.base.errors import AntiphonError
from tests.kit.tiers import sampled

pytestmark = pytest.mark.long
STEPS = 20
_IMAGES = {
    "hold": [2],
    "episode": ["example"],
    "sampling": ["with_replacement"],
    "data": ["shapes"],
    "patches": [4],
    "patch_size": [2],
}
_LIMITED = {"limit": [9]}
OTHERS: dict[str, dict[str, list[Any]]] = {
    "Digits": _IMAGES,
    "Hyperplane": {"labels": ["noisy"], "size": [5], "points": [7], "seed": [1]},
    "CountDigits": {"data": ["shapes"], "levels": [3], "window": [2]},
    "Copy": {"bits": [4], "max_length": [6], "length": [5], "threshold": [0.0], "repeats": [3]},
    "CharText": {"text": ["nowhere.txt"]},
    "TextWindows": {"text": ["nowhere.txt"], "length": [7]},
    "CartPole": _LIMITED,
    "SpeakerListener": {**_LIMITED, "message": ["channel"], "noise": [4]},
    "KeyDoor": {**_LIMITED, "size": [9]},
    "CaptureFlag": {**_LIMITED, "size": [8]},
    "Referential": {
        "data": ["shapes"],
        "candidates": [4],
        "distractors": [2],
        "concept": [True],
    },
}
"""By environment and option, other values."""
GIVEN = {
    "Hyperplane": {"labels": "random"},
}
"""What an environment is given in any case: data that the library holds, and labels of which `points` says how many there are."""
UNSEEN = {"CaptureFlag": {"league"}}
"""What shows in a population alone, whose members meet: tests/envs/worlds/test_arena.py."""


def shown(name: str, **options: Any) -> str:
    """All that environments declare, and what they return in some steps of actions at random."""
    env = envs.make({"id": f"antiphon/{name}-v0", **GIVEN.get(name, {}), **options}, batch=3)
    found: list[Any] = [env.description, env.single_action_space, env.reset(seed=1)]
    return repr(found + [env.step(None) for _ in range(STEPS)])


@cache
def as_given(name: str) -> str:
    """What environments show whose options have their defaults."""
    return shown(name)


def test_all_options_are_tried() -> None:
    names = {id.removeprefix("antiphon/").removesuffix("-v0") for id in envs.ids() if id[:9] == "antiphon/"}
    assert names == OTHERS.keys()
    for name, others in OTHERS.items():
        options = envs.options_of(f"antiphon/{name}-v0").model_fields.keys()
        assert options - UNSEEN.get(name, set()) == others.keys(), name


@pytest.mark.parametrize(
    ("name", "option", "value"),
    sampled(
        (
            (name, option, value)
            for name, own in OTHERS.items()
            for option, values in own.items()
            for value in values
        ),
        3,
        "nightly",
    ),
)
def test_another_value_shows_or_is_refused(name: str, option: str, value: Any) -> None:
    refused, other = "", ""
    try:
        other = shown(name, **{option: value})
    except AntiphonError as error:
        refused = str(error)
    assert "\n" not in refused
    assert option in refused if refused else other != as_given(name), f"{option}: {value!r} is ignored"
