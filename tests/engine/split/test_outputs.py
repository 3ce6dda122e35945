"""The predictions of a model: which of its outputs they are, each with its objective, and where the classes are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import antiphon
from antiphon import ScenarioError, Simulation
from antiphon.engine.split.outputs import axes_for


@pytest.mark.parametrize(
    ("shape", "target", "classes", "order"),
    [
        ((6, 7), (6,), 7, None),
        ((7, 6), (6,), 7, (1, 0)),
        ((7, 7), (7,), 7, None),  # as many tokens as classes: tokens come first
        ((5, 2, 4), (2, 4), 5, (1, 2, 0)),
        ((2, 4, 5), (2, 4), 5, None),
        ((3, 3, 3), (3, 3), 3, (1, 2, 0)),  # as many rows as classes: maps have their classes first
        ((5, 2, 3, 4), (2, 3, 4), 5, (1, 2, 3, 0)),
        ((7,), (), 7, None),
        ((6, 7), (6, 7), None, None),
        ((6, 9), (6,), 7, None),
    ],
)
def test_classes_are_given_out_last(
    shape: tuple[int, ...], target: tuple[int, ...], classes: int | None, order: tuple[int, ...] | None
) -> None:
    assert axes_for(shape, target, classes) == order


class TwoHeads(nn.Module):
    """A classification and a regression on one trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 16)
        self.logits, self.angle = nn.Linear(16, 3), nn.Linear(16, 2)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        h = torch.tanh(self.second(torch.tanh(self.first(image))))
        return {"logits": self.logits(h), "angle": self.angle(h)}


ANGLE = {"kind": "regression", "target": "angle", "scale": 0.3}
BOTH = {"logits": "label", "angle": ANGLE}


def split_heads(at: tuple[str, ...] = ("second",), **settings: Any) -> tuple[TwoHeads, antiphon.Scenario]:
    torch.manual_seed(0)
    signals = {"image": torch.randn(64, 8), "label": torch.randint(3, (64,)), "angle": torch.randn(64, 2)}
    env = antiphon.envs.from_tensors(**signals, training_only=["label", "angle"])
    model = TwoHeads()
    return model, antiphon.split(model, at=list(at), env=env, batch=16, **settings)


@pytest.mark.parametrize("backend", ["cohort", "reference"])
@pytest.mark.parametrize("at", [("second",), ("second", "logits", "angle")])
def test_two_heads_train_as_in_a_plain_loop(at: tuple[str, ...], backend: str) -> None:
    """Also where each head is a part; the same operations in float64, in another order at most."""
    model, scenario = split_heads(
        at, objectives=BOTH, coupling="locked", optimiser={"kind": "adam", "lr": 0.01}
    )
    plain = TwoHeads()
    plain.load_state_dict(model.state_dict())
    plain.double()
    optimiser = torch.optim.Adam(plain.parameters(), lr=0.01)
    with Simulation(scenario, backend=backend, dtype=torch.float64) as run:
        for _ in range(20):
            signals = run.world.step_signals.signals
            out = plain(signals["image"])
            loss = F.cross_entropy(out["logits"], signals["label"])
            loss = loss + 0.3 * F.mse_loss(out["angle"], signals["angle"])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            run.step()
        joined = antiphon.join(run, into=TwoHeads().double())
    for key, value in joined.state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[key], rtol=0, atol=1e-10)


RETURNED = r"forward returns logits \[3, 3\], angle \[3, 2\]"


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {},
            f"{RETURNED}; give output='logits' to keep only that one, or objectives={{'logits': …, 'angle'",
        ),
        ({"objectives": {"logits": "label"}}, f"{RETURNED}, and 'angle' has no objective; write"),
        ({"objectives": {**BOTH, "logit": "label"}}, "'logit' is no tensor .*; did you mean 'logits'"),
        (
            {"objectives": {**BOTH, "angle": "label"}},
            r"'angle' is \[3, 2\], and its objective needs .* 3 values per sample",
        ),
        ({"objectives": ["label"]}, "give one for each output by its key or index, such as"),
        (
            {"objectives": BOTH, "objective": "label"},
            "replaces objective and output; leave these",
        ),
        (
            {"objectives": {**BOTH, "angle": {**ANGLE, "scale": -1}}},
            "scale: must be greater than 0, not -1.0",
        ),
        (
            {"objectives": BOTH, "gradient": "local"},
            "gradient: local needs one objective, and the model has several; use local",
        ),
    ],
)
def test_no_output_is_dropped_unsaid(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(ScenarioError, match=line):
        split_heads(**settings)


def test_outputs_that_are_named_are_dropped_and_the_default_gradient_is_of_all_objectives() -> None:
    for settings in ({"output": "logits"}, {"objectives": {"logits": "label", "angle": None}}):
        _, scenario = split_heads(**settings)
        assert [goal.target for goal in scenario.agents["part1"].goals.values()] == ["label"]
    _, scenario = split_heads(objectives=BOTH)
    assert scenario.channels[0].gradient.kind == "linear"
