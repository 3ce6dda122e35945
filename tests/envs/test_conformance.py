"""All environments of the library keep the contract."""

from typing import Any

import pytest
import torch
from gymnasium.error import ResetNeeded

from antiphon import envs
from tests.envs.contract import check_vector_env

ENVIRONMENTS: list[tuple[str, dict[str, Any]]] = [
    ("Digits", {}),
    ("Digits", {"hold": 3}),
    ("Digits", {"hold": 3, "episode": "example"}),
    ("Digits", {"patches": 6, "patch_size": 2}),
    ("Digits", {"data": "shapes", "hold": 2, "patches": 5}),
    ("Hyperplane", {"labels": "noisy", "size": 100}),
    ("Hyperplane", {"labels": "random", "points": 7}),
    ("CountDigits", {}),
    ("CountDigits", {"levels": 4, "window": 2}),
    ("Copy", {}),
    ("Copy", {"threshold": 0, "length": 3}),
    ("Copy", {"max_length": 2, "repeats": 1}),
    ("CharText", {}),
    ("TextWindows", {}),
    ("Referential", {"concept": True, "distractors": 2}),
    ("Referential", {"candidates": 16}),
    ("CartPole", {"limit": 20}),
    ("SpeakerListener", {"limit": 9, "noise": 2}),
    ("KeyDoor", {"limit": 15, "size": 5}),
    ("CaptureFlag", {"limit": 11, "size": 8}),
]
every_environment = pytest.mark.parametrize(("name", "options"), ENVIRONMENTS)


@pytest.mark.cases(1)
@every_environment
def test_it_keeps_the_contract(name: str, options: dict[str, Any]) -> None:
    spec = {"id": f"antiphon/{name}-v0", **options}
    check_vector_env(lambda: envs.make(spec, batch=3), steps=25)
    check_vector_env(lambda: envs.make(spec, batch=2, dtype=torch.float64), steps=8)
    env = envs.make(spec, batch=2)
    assert envs.describe(spec) == env.description
    with pytest.raises(ResetNeeded):
        env.step(None)


@pytest.mark.cases(2)
@every_environment
def test_what_one_copy_shows_does_not_depend_on_their_number(name: str, options: dict[str, Any]) -> None:
    if name in ("Hyperplane", "CharText"):
        pytest.skip("its copies share out one pass over the data")
    if name == "CaptureFlag":
        pytest.skip("its rows play against each other")
    epochs = {"sampling": "with_replacement"} if name == "Digits" else {}
    spec = {"id": f"antiphon/{name}-v0", **options, **epochs}
    few, many = envs.make(spec, batch=2), envs.make(spec, batch=9)
    first, second = few.reset(seed=5)[0], many.reset(seed=5)[0]
    for _ in range(70):
        assert all(torch.equal(value, second[key][:2]) for key, value in first.items())
        first, second = few.step(None)[0], many.step(None)[0]


@pytest.mark.parametrize("name", ["Digits", "CountDigits", "Copy", "CartPole"])
def test_a_reset_without_a_seed_begins_another_episode(name: str) -> None:
    env = envs.make({"id": f"antiphon/{name}-v0"}, batch=16)
    first = env.reset(seed=0)[0]
    again = env.reset()[0]
    assert not all(torch.equal(value, again[key]) for key, value in first.items())
    fresh = [envs.make({"id": f"antiphon/{name}-v0"}, batch=16).reset()[0] for _ in range(2)]
    assert not all(torch.equal(value, fresh[1][key]) for key, value in fresh[0].items())
