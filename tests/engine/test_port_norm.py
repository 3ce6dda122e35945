"""The normalisation of ports that is used where a channel names none, and what is refused (rule 26)."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon import Scenario
from tests.kit.examined import explained

ACTS = {"acts": True, "objective": "ppo", "clock": {"unroll": 4}}
DIGIT = {"objective": {"kind": "classification", "target": "label"}}


def pole(**channel: Any) -> Scenario:
    """A sensor that ticks more than once per example."""
    sensor = {"observes": ["observation"], "clock": {"unroll": 4}}
    return Scenario(
        scenario="pole",
        env="antiphon/CartPole-v0",
        agents={"sensor": sensor, "motor": ACTS},
        channels=[{"from": "sensor", "to": "motor", **channel}],
        training={"batch": 2, "steps": 400},
    )


def norm_of(scenario: Scenario) -> str | None:
    """The norm that `antiphon show` names."""
    (channel,) = explained(scenario)["channels"].values()
    norm: str | None = channel["norm"]
    return norm


@pytest.mark.parametrize(
    ("channel", "norm"),
    [
        ({"size": 1}, "none"),
        ({"size": 2}, "none"),
        ({"size": [1, 2]}, "none"),
        ({"size": 3}, "layer"),
        ({"size": 2, "norm": "layer"}, "layer"),
        ({"size": 1, "norm": "unit"}, "unit"),
        ({}, None),
    ],
)
def test_a_narrow_port_has_no_layer_norm_by_default(channel: dict[str, Any], norm: str | None) -> None:
    assert norm_of(pole(**channel)) == norm


def test_a_sender_that_ticks_once_per_example_keeps_batch_norm() -> None:
    agents = {"eye": {"observes": ["image"]}, "mind": DIGIT}
    channel = {"from": "eye", "to": "mind", "size": 1}
    scenario = Scenario(scenario="d", env="antiphon/Digits-v0", agents=agents, channels=[channel])
    assert norm_of(scenario) == "batch"
