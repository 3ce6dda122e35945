"""Windows of a text: what they hold, where those of each split begin, and one pass over a split."""

from pathlib import Path
from typing import Any

import pytest
import torch

from antiphon import envs
from antiphon.errors import DataError, RunError

NAME = "antiphon/TextWindows-v0"


def make(batch: int = 3, **options: Any) -> envs.TorchVectorEnv:
    return envs.make({"id": NAME, **options}, batch=batch)


@pytest.fixture
def counting(tmp_path: Path) -> str:
    """A text of 200 different characters: the class of a training character is its place."""
    path = tmp_path / "counting.txt"
    path.write_text(
        "".join(chr(256 + k) for k in range(180)) + "".join(chr(256 + k) for k in range(20)), "utf-8"
    )
    return str(path)


def test_every_token_is_followed_by_the_next_one(counting: str) -> None:
    env = make(200, text=counting, length=7)
    assert env.signals["tokens"].classes == 181
    begins = set()
    obs, info = env.reset(seed=0)
    for _ in range(20):
        tokens, following = obs["tokens"], info["following"]
        assert tokens.dtype == following.dtype == torch.int64
        assert torch.equal(tokens, tokens[:, :1] + torch.arange(7))
        assert torch.equal(following, tokens + 1)
        begins |= set(tokens[:, 0].tolist())
        obs, _, terminated, truncated, info = env.step(None)
        assert not bool((terminated | truncated).any())
    assert begins == set(range(180 - 7))  # anywhere, with all that follows in the split


@pytest.mark.parametrize(("length", "windows"), [(3, 3), (4, 2), (9, 1), (1, 9)])
def test_a_pass_over_a_split_asks_for_each_character_once(counting: str, length: int, windows: int) -> None:
    env = make(text=counting, length=length)
    assert env.description.example_counts == {"train": 180 - length, "validation": windows, "test": windows}
    for split, first in (("validation", 0), ("test", 10)):
        assert env.example_count(split) == windows
        shown = [batch["following"] for batch in env.batches(split, 2)]
        assert torch.cat(shown).flatten().tolist() == [first + 1 + k for k in range(windows * length)]


def test_a_state_is_of_its_text(counting: str) -> None:
    env = make(text=counting, length=5)
    env.reset(seed=3)
    env.step(None)
    state, shown = env.state_dict(), env.step(None)[0]["tokens"]
    other = make(text=counting, length=5)
    other.load_state_dict(state)
    assert torch.equal(other.step(None)[0]["tokens"], shown)
    Path(counting).write_text("ab" * 200)
    changed = make(text=counting, length=5)
    with pytest.raises(RunError, match="restore the file"):
        changed.load_state_dict(state)


def test_a_split_that_is_shorter_than_a_window_is_refused(counting: str) -> None:
    for call in (envs.describe, lambda spec: envs.make(spec, batch=1)):
        with pytest.raises(DataError, match=r"env.length: 10, but the validation split of .* has 10"):
            call({"id": NAME, "text": counting, "length": 10})
