"""Digits counted at several timescales: what is counted when, and who may know it."""

from typing import Any

import pytest
import torch

from antiphon import envs
from antiphon.envs.images import picture_table

NAME = "antiphon/CountDigits-v0"


def make(batch: int = 3, **options: Any) -> envs.TorchVectorEnv:
    return envs.make({"id": NAME, **options}, batch=batch)


def digits_shown(obs: dict[str, torch.Tensor], data: str = "digits") -> list[int]:
    """The labels of the pictures shown, found by comparing pixels with the whole table."""
    table = picture_table(data, torch.device("cpu"))
    pixels = table.columns["image"].float() / table.divisors["image"]
    rows = [int((pixels == image.flatten()).all(1).nonzero()[0]) for image in obs["image"]]
    return [int(table.columns["label"][row]) for row in rows]


@pytest.mark.cases(1)
@pytest.mark.parametrize(("levels", "window"), [(2, 4), (4, 2), (3, 3)])
def test_counts_are_those_of_the_digits_shown(levels: int, window: int) -> None:
    env = make(5, levels=levels, window=window)
    wanted = {
        "odd": lambda digit: digit % 2,
        "threes": lambda digit: digit == 3,
        "sevens": lambda digit: digit == 7,
        "fives": lambda digit: digit == 5,
    }
    names = list(wanted)[:levels]
    assert [name for name in env.signals if name in wanted] == names
    obs, info = env.reset(seed=4)
    history: list[list[int]] = []
    for step in range(2 * window**levels + 3):
        history.append(digits_shown(obs))
        for level, name in enumerate(names, 1):
            begin = step - step % window**level
            counts = [sum(wanted[name](row[lane]) for row in history[begin:]) for lane in range(5)]
            assert info[f"{name}_so_far"].tolist() == counts
        shown = info
        obs, _, terminated, truncated, info = env.step(None)
        assert not bool((terminated | truncated).any())
        for level, name in enumerate(names, 1):
            closes = (step + 1) % window**level == 0
            assert info[f"_{name}"].tolist() == [closes] * 5
            assert info[name].tolist() == (shown[f"{name}_so_far"].tolist() if closes else [0] * 5)
        if levels > 1:
            assert torch.equal(info["count_so_far"], info["threes_so_far"])


def test_descriptions() -> None:
    description = envs.describe({"id": NAME, "levels": 3, "window": 3})
    assert description.endless
    assert not description.is_stream
    assert description.observations == ("image",)
    signals = description.signals
    assert [signals[name].classes for name in ("odd", "threes", "sevens")] == [4, 10, 28]
    assert [signals[name].known for name in ("sevens", "sevens_so_far")] == ["after_step", "tick"]
    assert "count_so_far" not in envs.describe({"id": NAME, "levels": 1}).signals
    assert make(levels=3, window=3).evaluation_steps == 32 * 27
