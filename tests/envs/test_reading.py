"""Reading a text: who reads what, what comes next, and one pass over a split."""

from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium.error import ResetNeeded

from antiphon import envs
from antiphon.errors import DataError, ScenarioError

NAME = "antiphon/CharText-v0"
ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def make(batch: int = 3, **options: Any) -> envs.TorchVectorEnv:
    return envs.make({"id": NAME, **options}, batch=batch)


@pytest.fixture
def alphabets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A text of 180 known characters, and ten for each other split, of which a few are unknown."""
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "letters.txt").write_text((ALPHABET * 7)[:180] + "abcdeABCDE" + "fghij?????")
    monkeypatch.setenv("ANTIPHON_DATA", str(tmp_path))
    return "letters"


def read(env: envs.TorchVectorEnv, steps: int) -> tuple[list[list[int]], list[list[int]]]:
    """Classes of the characters shown from seed 0 on, and of those that were to come next, by step and lane."""
    obs, info = env.reset(seed=0)
    shown, following = [obs["char"].argmax(1).tolist()], [info["next"].tolist()]
    for _ in range(steps - 1):
        obs, _, terminated, truncated, info = env.step(None)
        assert not bool((terminated | truncated).any())
        shown.append(obs["char"].argmax(1).tolist())
        following.append(info["next"].tolist())
    return shown, following


def test_two_lanes_read_their_stretches_of_a_split(alphabets: str) -> None:
    env = make(2, text=alphabets, split="validation")
    a, unknown = 0, 26
    shown, following = read(env, 6)
    first, second = zip(*shown, strict=True)
    assert first == (a, 1, 2, 3, 4, unknown)  # "abcde", then on into the next stretch
    assert second == (unknown,) * 5 + (a,)  # "ABCDE", then round to the beginning
    assert [row[0] for row in following[:5]] == [1, 2, 3, 4, unknown]
    assert [row[1] for row in following[3:]] == [unknown, a, 1]
    assert env.evaluation_steps == 4
    assert env.signals["next"].classes == 27


@pytest.mark.parametrize("lanes", [1, 4, 7])
def test_one_pass_asks_for_every_character_of_every_stretch_but_its_first(
    lanes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "all_differ.txt").write_text("".join(chr(256 + k) for k in range(200)), "utf-8")
    monkeypatch.setenv("ANTIPHON_DATA", str(tmp_path))
    env = make(lanes, text="all_differ")
    stretch = 180 // lanes
    assert env.evaluation_steps == stretch - 1
    shown, following = read(env, stretch - 1)
    assert following[:-1] == shown[1:]
    asked = [code for row in following for code in row]
    assert len(set(asked)) == len(asked) == lanes * (stretch - 1)
    assert not set(asked) & set(shown[0])


def test_a_seed_draws_where_training_begins_and_nothing_else(alphabets: str) -> None:
    first = [int(make(1, text=alphabets).reset(seed=seed)[0]["char"].argmax()) for seed in range(20)]
    assert len(set(first)) > 8
    for split in ("validation", "test"):
        env = make(2, text=alphabets, split=split)
        assert torch.equal(env.reset(seed=0)[0]["char"], env.reset(seed=1)[0]["char"])


def test_misuse(alphabets: str) -> None:
    with pytest.raises(ResetNeeded):
        make().step(None)
    expected = "the validation split of 'letters' has 10 characters, but 6 environments need 12; lower training.batch"
    with pytest.raises(ScenarioError, match=expected):
        make(6, text=alphabets, split="validation")
    for call in (envs.describe, lambda spec: envs.make(spec, batch=1)):
        with pytest.raises(DataError, match=r"no text 'lettres'.*did you mean 'letters'"):
            call({"id": NAME, "text": "lettres"})
