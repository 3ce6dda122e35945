"""Objectives: losses and scores per sample, and which targets fit them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from antiphon.agents import OBJECTIVES


def test_classification() -> None:
    objective = OBJECTIVES["classification"]()
    output, target = torch.eye(4)[[0, 1, 2, 2]] * 5, torch.tensor([0, 1, 2, 3])
    torch.testing.assert_close(
        objective.loss(output, target), F.cross_entropy(output, target, reduction="none")
    )
    assert objective.score(output, target).tolist() == [1, 1, 1, 0]
    assert objective.score(output.double(), target).dtype == torch.float64
    assert objective.metric == "accuracy"


def test_regression() -> None:
    objective = OBJECTIVES["regression"]()
    output, target = torch.randn(5, 6), torch.randn(5, 2, 3)
    expected = (output - target.flatten(1)).square().mean(1)
    torch.testing.assert_close(objective.loss(output, target), expected)
    torch.testing.assert_close(objective.score(output, target), expected)
    assert objective.metric == "error"


@pytest.mark.parametrize(
    ("kind", "shape", "classes", "size"),
    [
        ("classification", (), 10, 10),
        ("classification", (), None, None),
        ("classification", (3,), 10, None),
        ("regression", (), None, 1),
        ("regression", (2, 3), None, 6),
        ("regression", (), 10, None),
    ],
)
def test_which_targets_fit(kind: str, shape: tuple[int, ...], classes: int | None, size: int | None) -> None:
    assert OBJECTIVES[kind].size(shape, classes) == size
