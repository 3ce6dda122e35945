"""All environments of the library keep the contract, and its check finds what it promises to find."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode

from antiphon import envs
from antiphon.envs.images import Digits

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
    ("RepeatCopy", {"max_length": 2}),
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
    envs.check_vector_env(lambda: envs.make(spec, batch=3), steps=25)
    envs.check_vector_env(lambda: envs.make(spec, batch=2, dtype=torch.float64), steps=8)
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


# --- the check itself ----------------------------------------------------------------------------------------


class Broken(Digits):
    """A stream with one fault, named by `fault`."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        super().__init__(3, Digits.Options(hold=2, episode="example"))
        if fault == "mode":
            self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        seed = {"deaf": 1, "forgetful": None}.get(self.fault, seed)
        return super().reset(seed=seed, options=options)

    def step(self, actions: Any = None) -> Any:
        obs, reward, terminated, truncated, info = super().step(actions)
        match self.fault:
            case "leak":
                obs["label"] = info.pop("label")
            case "shape":
                obs["image"] = obs["image"][:, 0]
            case "range":
                obs["image"] = obs["image"] + 1
            case "type":
                obs["image"] = obs["image"].double()
            case "reward":
                reward = reward[:, None]
            case "flag":
                truncated = truncated.float()
            case "final":
                info.pop("final_obs", None)
            case "label":
                info.pop("label")
            case "mask":
                info["_label"] = info["label"].int()
        return obs, reward, terminated, truncated, info

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return {**state, "example": 0} if self.fault == "state" else state

    def batches(self, split: str, size: int) -> Iterator[dict[str, torch.Tensor]]:
        yield from super().batches(split, size)
        if self.fault == "batches":
            yield from super().batches(split, size)


FAULTS = {
    "mode": "AutoresetMode.SAME_STEP",
    "leak": "obs has",
    "shape": "'image' is torch.float32 (3, 8, 8)",
    "range": "'image' leaves its range",
    "type": "'image' is torch.float64",
    "reward": "reward is torch.float32 (3, 1)",
    "flag": "truncated is torch.float32",
    "final": "without final_obs",
    "mask": "the mask '_label' is torch.int32 (3,)",
    "label": "info lacks the training-only signal 'label'",
    "deaf": "another seed gives the same steps",
    "forgetful": "the same seed gives different steps",
    "state": "load_state_dict gives different steps",
    "batches": "have 2586 examples, not 1293",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found(fault: str) -> None:
    with pytest.raises(AssertionError) as caught:
        envs.check_vector_env(lambda: Broken(fault))
    assert FAULTS[fault] in str(caught.value)


def test_the_sound_one_passes() -> None:
    envs.check_vector_env(lambda: Broken("none"))
