"""The predictions of a model: which of its outputs they are, each with its objective, and where the classes are."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import antiphon
from antiphon import ScenarioError, Simulation


class Layout(nn.Module):
    """Classes at every site, or floats, from a layer of [*sites, features]; its last call moves the axes as the user has them."""

    def __init__(self, shape: tuple[int, ...], order: tuple[int, ...]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 12), nn.Linear(12, math.prod(shape))
        self.shape, self.order = shape, order

    def forward(self, x: Tensor) -> Tensor:
        made = self.last(torch.tanh(self.first(x))).view(-1, *self.shape)
        return made.permute(0, *(axis + 1 for axis in self.order))


LAYOUTS: list[tuple[tuple[int, ...], int, tuple[int, ...], int | None]] = [
    ((6,), 5, (0, 1), None),
    ((6,), 5, (1, 0), None),
    ((5,), 5, (1, 0), 1),
    ((5,), 5, (0, 1), -1),
    ((2, 4), 5, (2, 0, 1), None),
    ((2, 4), 5, (0, 1, 2), None),
    ((2, 4), 4, (2, 0, 1), None),  # as many columns as classes
    ((4, 2), 4, (0, 1, 2), None),
    ((4, 4), 4, (2, 0, 1), 1),
    ((4, 4), 4, (0, 1, 2), 3),
    ((3, 4), 5, (0, 2, 1), None),  # between the sites
    ((8,), 8, (1, 0), 1),  # as many sites, classes and rows of the batch
    ((), 8, (0,), None),
    ((1,), 3, (1, 0), None),
]


@pytest.mark.cases(2)
@pytest.mark.parametrize(
    ("sites", "classes", "order", "axis"),
    LAYOUTS,
)
def test_the_first_loss_is_that_of_the_classes_axis(
    sites: tuple[int, ...], classes: int, order: tuple[int, ...], axis: int | None
) -> None:
    torch.manual_seed(0)
    model = Layout((*sites, classes), order).double()
    target = torch.randint(classes, (8, *sites))
    target.view(8, -1)[0, 0] = classes - 1
    x = torch.randn(8, 6)
    env = antiphon.envs.from_tensors(x=x, label=target, training_only=["label"], test=0, validation=0)
    scenario = antiphon.split(model, at=["last"], env=env, class_axis=axis, batch=8, coupling="locked")
    with Simulation(scenario, dtype=torch.float64) as run:
        loss = float(run.step()["losses"]["part1"])
    out = model(x.double()).permute(0, *(1 + order.index(i) for i in range(len(order))))
    want = F.cross_entropy(out.flatten(0, -2), target.flatten())
    assert loss == pytest.approx(float(want.data), abs=1e-12)


class TwoHeads(nn.Module):
    """Classes and floats on one trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 16)
        self.logits, self.angle = nn.Linear(16, 3), nn.Linear(16, 2)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        h = torch.tanh(self.second(torch.tanh(self.first(image))))
        return {"logits": self.logits(h), "angle": self.angle(h)}


def split_heads(**settings: Any) -> antiphon.Scenario:
    torch.manual_seed(0)
    signals = {"image": torch.randn(64, 8), "label": torch.randint(3, (64,)), "angle": torch.randn(64, 2)}
    env = antiphon.envs.from_tensors(**signals, training_only=["label", "angle"])
    return antiphon.split(TwoHeads(), at=["second"], env=env, batch=16, **settings)


@pytest.mark.parametrize(
    "settings", [{"output": "logits"}, {"output": 1, "objective": {"kind": "regression", "target": "angle"}}]
)
def test_one_of_several_outputs_is_trained(settings: dict[str, Any]) -> None:
    with Simulation(split_heads(**settings)) as run:
        run.run(2)
        joined = antiphon.join(run).state_dict()
    with Simulation(split_heads(**settings)) as untrained:
        before = antiphon.join(untrained).state_dict()
    moved = {key.partition(".")[0] for key, value in joined.items() if not torch.equal(value, before[key])}
    assert moved - {"first"} == {"second", "logits" if settings["output"] == "logits" else "angle"}


RETURNED = r"forward returns logits \[5, 3\], angle \[5, 2\]"


@pytest.mark.cases(2)
@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({}, f"{RETURNED}; give output='logits' or another"),
        ({"output": "logit"}, "output 'logit' is none of these; did you mean 'logits'"),
        ({"output": "angle"}, f"{RETURNED}, and the objective needs 3 values per sample"),
        (
            {"objective": {"kind": "regression", "target": "angle"}, "class_axis": 1},
            "class_axis: 'angle' has no classes",
        ),
    ],
)
def test_one_output_is_the_prediction(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(ScenarioError, match=line):
        split_heads(**settings)
