"""Final observations of Gymnasium's vector environments that reset in the same step: every form is read, none is guessed."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers.vector import RecordEpisodeStatistics

import antiphon
from antiphon import envs
from antiphon.errors import RunError

PLACE = spaces.Box(-99, 99, (1,), np.float32)
SPACES = {"box": PLACE, "dict": spaces.Dict({"place": PLACE}), "tuple": spaces.Tuple((PLACE,))}


class Rows(VectorEnv[Any, Any, Any]):
    """Row i counts to i + 2 and is truncated; `form`: in which its final observations come."""

    def __init__(self, form: str, space: str = "box") -> None:
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.num_envs, self.form, self.space = 3, form, space
        self.single_observation_space, self.single_action_space = SPACES[space], spaces.Discrete(2)
        self.observation_space = batch_space(self.single_observation_space, 3)
        self.action_space = batch_space(self.single_action_space, 3)

    def _shown(self, at: Any) -> Any:
        return {"box": at, "dict": {"place": at}, "tuple": (at,)}[self.space]

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.at = np.zeros((3, 1), np.float32)
        return self._shown(self.at.copy()), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self.at += 1
        last, ended = self.at.copy(), self.at[:, 0] >= np.arange(3) + 2
        self.at[ended] = 0
        rows = [self._shown(row) if end else None for row, end in zip(last, ended, strict=True)]
        each = np.full(3, None)
        for n, row in enumerate(rows):
            each[n] = row
        forms: dict[str, dict[str, Any]] = {
            "rows": {"final_obs": each, "_final_obs": ended},
            "list": {"final_obs": rows, "_final_obs": ended},
            "batch": {"final_obs": self._shown(last), "_final_obs": ended},
            "unmasked": {"final_obs": each},
            "none": {},
            "mask alone": {"_final_obs": ended},
            "hole": {"final_obs": np.full(3, None), "_final_obs": ended},
            "other mask": {"final_obs": each, "_final_obs": np.zeros(3, bool)},
        }
        info: Any = forms.get(self.form, [{}] * 3) if ended.any() else {}
        return self._shown(self.at.copy()), last[:, 0], np.zeros(3, bool), ended, info


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("form", ["rows", "list", "batch", "unmasked"])
def test_every_form_of_final_observations(form: str, space: str) -> None:
    env = envs.make(Rows(form, space), batch=3)
    env.reset(seed=0)
    seen = [env.step(np.zeros(3, np.int64))[4] for _ in range(3)]
    assert "final_obs" not in seen[0]
    for info, rows, last in (
        (seen[1], [True, False, False], [2.0, 2.0, 2.0]),
        (seen[2], [False, True, False], [1.0, 3.0, 3.0]),
    ):
        (value,) = info["final_obs"].values()
        assert info["_final_obs"].tolist() == rows
        assert value.flatten().tolist() == last
        assert value.dtype == torch.float32


@pytest.mark.parametrize("form", ["none", "mask alone", "hole", "other mask"])
def test_an_episode_without_a_final_observation_is_named_in_one_line(form: str) -> None:
    env = envs.make(Rows(form), batch=3)
    env.reset(seed=0)
    env.step(np.zeros(3, np.int64))
    line = r"^env: 'Rows' resets an ended episode in the same step, and info has no final_obs of it; return final_obs .*NEXT_STEP\)$"
    with pytest.raises(RunError, match=line):
        env.step(np.zeros(3, np.int64))


def test_infos_in_a_list_are_refused_where_final_observations_are_read_from_them() -> None:
    env = envs.make(Rows("listed"), batch=3)
    env.reset(seed=0)
    env.step(np.zeros(3, np.int64))
    with pytest.raises(RunError, match=r"^env: 'Rows' returns a list as info, .*; leave out DictInfoToList$"):
        env.step(np.zeros(3, np.int64))


class Informing(gymnasium.Env[Any, Any]):
    """Counts to 2 and is truncated; types, shapes and keys of its info change, and it has a key of vector environments."""

    observation_space, action_space = PLACE, spaces.Discrete(2)
    kinds: ClassVar[list[Any]] = [1, "a", None, {"a": 1}, np.zeros(2), np.zeros(3)]

    def __init__(self) -> None:
        self.calls = 0

    def _info(self) -> dict[str, Any]:
        self.calls += 1
        return {"kind": self.kinds[self.calls % len(self.kinds)], "final_obs": -self.at}

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.at = np.zeros(1, np.float32)
        return self.at, self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.at = self.at + 1
        return self.at, 0.0, False, bool(self.at >= 2), self._info()


def test_what_an_environment_puts_into_info_changes_nothing() -> None:
    antiphon.environment("tests/Informing-v0")(Informing)
    env = envs.make({"id": "tests/Informing-v0"}, batch=2)
    env.reset(seed=0)
    for step in range(12):
        info = env.step(np.zeros(2, np.int64))[4]
        assert ("final_obs" in info) == (step % 2 == 1)
        if "final_obs" in info:
            assert info["final_obs"]["observation"].tolist() == [[2.0], [2.0]]


class Written(gymnasium.Env[Any, Any]):
    """Counts to 2 and is truncated, in one array; `constant`: it shows zeros."""

    observation_space, action_space = SPACES["dict"], spaces.Discrete(2)

    def __init__(self, *, constant: bool = False) -> None:
        self.shown, self.constant = {"place": np.zeros(1, np.float32)}, constant

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.steps, self.shown["place"][:] = 0, 0
        return self.shown, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        self.shown["place"][:] = 0 if self.constant else self.steps
        return self.shown, 0.0, False, self.steps == 2, {}


class WrittenRows(Rows):
    """Rows that show one array, whose last values are in it too."""

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        super().step(actions)
        ended = self.at[:, 0] == 0
        return self.at, np.zeros(3), np.zeros(3, bool), ended, {"final_obs": self.at, "_final_obs": ended}

    def reset(self, **how: Any) -> tuple[Any, dict[str, Any]]:
        super().reset(**how)
        return self.at, {}


def test_a_last_observation_that_the_reset_has_overwritten_is_refused() -> None:
    in_rows, constant = (
        SyncVectorEnv([partial(Written, constant=same)] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
        for same in (False, True)
    )
    for vector, name in (
        (in_rows, "place"),
        (RecordEpisodeStatistics(in_rows), "place"),
        (WrittenRows(""), "observation"),
    ):
        env = envs.make(vector, batch=vector.num_envs)
        env.reset(seed=0)
        env.step(None)
        line = f"^env: the reset of '.*' overwrites '{name}' of the step before, which final_obs has; return a copy from step"
        with pytest.raises(RunError, match=line):
            env.step(None)
    env = envs.make(constant, batch=2)
    env.reset(seed=0)
    env.step(None)
    assert "final_obs" in env.step(None)[4]
