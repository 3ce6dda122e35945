"""Texts: what is read, what comes next, and one pass over a split."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gymnasium.error import ResetNeeded

from antiphon import envs
from antiphon.envs import text as texts
from antiphon.errors import DataError, ScenarioError

CHARACTERS, WINDOWS = "antiphon/CharText-v0", "antiphon/TextWindows-v0"
ALPHABET = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that texts are read from, with one of 180 known characters, and ten for each other split, a few of them unknown."""
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "letters.txt").write_text((ALPHABET * 7)[:180] + "abcdeABCDE" + "fghij?????")
    monkeypatch.setenv("ANTIPHON_DATA", str(tmp_path))
    return tmp_path / "text"


@pytest.fixture
def counting(tmp_path: Path) -> str:
    """A text of 200 different characters: the class of a training character is its place."""
    path = tmp_path / "counting.txt"
    path.write_text("".join(chr(256 + k) for k in (*range(180), *range(20))), "utf-8")
    return str(path)


def test_the_embedded_text() -> None:
    text = texts.load(texts.EMBEDDED)
    train, validation = (len(text.splits[name]) for name in ("train", "validation"))
    length = sum(map(len, text.splits.values()))
    assert 60_000 < length < 100_000
    assert "".join(text.vocabulary[code] for code in text.splits["train"][:20]) == "CHAPTER 1. Loomings."
    assert (train, train + validation) == (length * 90 // 100, length * 95 // 100)
    assert texts.load(texts.EMBEDDED) is text


def test_a_text_written_out_and_read_again_when_it_changes(shelf: Path) -> None:
    (shelf / "abc.txt").write_text("cabé" * 9 + "aé" + "zb", encoding="utf-8")
    text = texts.load("abc")
    assert text.vocabulary == "abcé"
    assert text.splits["train"].tolist() == [2, 0, 1, 3] * 9
    assert text.splits["validation"].tolist() == [0, 3]
    assert text.splits["test"].tolist() == [4, 1]  # z is unknown
    assert texts.load(str(shelf / "abc.txt")) is text
    (shelf / "abc.txt").write_text("abc" * 30)
    assert texts.load("abc").vocabulary == "abc"


def read(env: envs.TorchVectorEnv, steps: int) -> tuple[list[list[int]], list[list[int]]]:
    """Classes of the characters shown from seed 0 on, and of those that were to come next, by step and lane."""
    obs, info = env.reset(seed=0)
    shown, following = [obs["char"].argmax(1).tolist()], [info["next"].tolist()]
    for _ in range(steps - 1):
        obs, *_, info = env.step(None)
        shown.append(obs["char"].argmax(1).tolist())
        following.append(info["next"].tolist())
    return shown, following


def test_two_lanes_read_their_stretches_of_a_split(shelf: Path) -> None:
    env = envs.make({"id": CHARACTERS, "text": "letters", "split": "validation"}, batch=2)
    a, unknown = 0, 26
    shown, following = read(env, 6)
    first, second = zip(*shown, strict=True)
    assert first == (a, 1, 2, 3, 4, unknown)  # "abcde", then on into the next stretch
    assert second == (unknown,) * 5 + (a,)  # "ABCDE", then round to the beginning
    assert [row[0] for row in following[:5]] == [1, 2, 3, 4, unknown]
    assert [row[1] for row in following[3:]] == [unknown, a, 1]
    assert env.evaluation_steps == 4
    line = "the validation split of 'letters' has 10 characters, but 6 environments need 12; lower training"
    with pytest.raises(ScenarioError, match=line):
        envs.make({"id": CHARACTERS, "text": "letters", "split": "validation"}, batch=6)
    with pytest.raises(ResetNeeded):
        envs.make({"id": CHARACTERS}, batch=2).step(None)


@pytest.mark.parametrize("lanes", [1, 4, 7])
def test_one_pass_asks_for_every_character_of_every_stretch_but_its_first(lanes: int, counting: str) -> None:
    env = envs.make({"id": CHARACTERS, "text": counting}, batch=lanes)
    stretch = 180 // lanes
    assert env.evaluation_steps == stretch - 1
    shown, following = read(env, stretch - 1)
    assert following[:-1] == shown[1:]
    asked = [code for row in following for code in row]
    assert len(set(asked)) == len(asked) == lanes * (stretch - 1)
    assert not set(asked) & set(shown[0])


def test_a_seed_draws_where_training_begins_and_nothing_else(shelf: Path) -> None:
    def first(seed: int, split: str = "train") -> torch.Tensor:
        env = envs.make({"id": CHARACTERS, "text": "letters", "split": split}, batch=1)
        return env.reset(seed=seed)[0]["char"]

    assert len({int(first(seed).argmax()) for seed in range(20)}) > 8
    assert torch.equal(first(0, "test"), first(1, "test"))


def test_every_token_of_a_window_is_followed_by_the_next_one(counting: str) -> None:
    env = envs.make({"id": WINDOWS, "text": counting, "length": 7}, batch=200)
    begins = set()
    obs, info = env.reset(seed=0)
    for _ in range(20):
        tokens = obs["tokens"]
        assert torch.equal(tokens, tokens[:, :1] + torch.arange(7))
        assert torch.equal(info["following"], tokens + 1)
        begins |= set(tokens[:, 0].tolist())
        obs, *_, info = env.step(None)
    assert begins == set(range(180 - 7))  # anywhere, with all that follows in the split


@pytest.mark.parametrize(("length", "windows"), [(3, 3), (4, 2), (9, 1), (1, 9)])
def test_windows_of_a_split_ask_for_each_character_once(counting: str, length: int, windows: int) -> None:
    env = envs.make({"id": WINDOWS, "text": counting, "length": length}, batch=3)
    assert env.description.example_counts == {"train": 180 - length, "validation": windows, "test": windows}
    for split, first in (("validation", 0), ("test", 10)):
        shown = [batch["following"] for batch in env.batches(split, 2)]
        assert torch.cat(shown).flatten().tolist() == [first + 1 + k for k in range(windows * length)]
    with pytest.raises(DataError, match=r"env.length: 10, but the validation split of .* has 10"):
        envs.describe({"id": WINDOWS, "text": counting, "length": 10})
