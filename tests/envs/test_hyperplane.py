"""Points and a hyperplane: the data sets of the theory paper, and epochs that miss and repeat no point."""

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon import envs

NAME = "antiphon/Hyperplane-v0"


def make(batch: int = 4, dtype: torch.dtype = torch.float64, **options: Any) -> envs.TorchVectorEnv:
    return envs.make({"id": NAME, **options}, batch=batch, dtype=dtype)


def data(**options: Any) -> dict[str, Tensor]:
    (batch,) = make(**options).batches("train", 10_000)
    return batch


def test_the_paper_s_numbers_of_points() -> None:
    assert envs.describe({"id": NAME}).example_counts == {"train": 100}
    assert envs.describe({"id": NAME, "size": 100}).example_counts == {"train": 1000}
    assert envs.describe({"id": NAME, "points": 30}).example_counts == {"train": 30}
    description = envs.describe({"id": NAME, "size": 5})
    assert description.observations == ("x",)
    assert description.training_only == ("label", "onehot")
    assert description.signals["x"].shape == (5,)


@pytest.mark.parametrize("size", [2, 100])
def test_linear_labels_are_the_side_of_a_plane_through_the_origin(size: int) -> None:
    found = data(size=size)
    wanted = found["label"] * 2.0 - 1
    weights = torch.zeros(size, dtype=torch.float64)
    for _ in range(10_000):  # the perceptron: it ends if and only if there is such a plane
        wrong = (found["x"] @ weights * wanted <= 0).nonzero()
        if not len(wrong):
            break
        row = wrong[0, 0]
        weights += wanted[row] * found["x"][row]
    else:
        pytest.fail("not separable")


def test_a_tenth_of_the_noisy_labels_are_swapped() -> None:
    for size, swapped in ((2, 10), (100, 100)):
        linear, noisy = data(size=size), data(size=size, labels="noisy")
        assert torch.equal(linear["x"], noisy["x"])
        assert int((linear["label"] != noisy["label"]).sum()) == swapped


def test_random_labels_have_nothing_to_do_with_the_points() -> None:
    linear, random = data(size=100), data(size=100, labels="random")
    assert torch.equal(linear["x"], random["x"])
    agreement = float((linear["label"] == random["label"]).double().mean())
    assert abs(agreement - 0.5) < 0.06
    assert abs(float(random["label"].double().mean()) - 0.5) < 0.06


@pytest.mark.parametrize("batch", [1, 5, 12, 30])
def test_epochs_miss_and_repeat_no_point(batch: int) -> None:
    env = make(batch, points=12)
    numbers = {float(x[0]): row for row, x in enumerate(data(points=12)["x"])}
    shown = [env.reset(seed=1)[0]["x"], *(env.step(None)[0]["x"] for _ in range(40))]
    rows = [numbers[float(x[0])] for x in torch.cat(shown)]
    epochs = [rows[start : start + 12] for start in range(0, len(rows) - 11, 12)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert epochs[0] != epochs[1]
