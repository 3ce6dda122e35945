"""Metrics of what happens at some steps only: each log entry has the newest since the entry before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import antiphon
from antiphon.scenarios.training import OF_AGENTS
from tests.reference.backend import reference

OF_POLICIES = ("policy_loss", "value_loss", "entropy", "explained_variance", "approx_kl", "clip_fraction")
MEANS = {*OF_AGENTS, *OF_POLICIES, "value_target"}
"""Over all steps since the previous entry."""


def scene(eye: dict[str, Any], mind: dict[str, Any], period: int, **channel: Any) -> antiphon.Scenario:
    """Two agents and a channel, whose metrics are logged every so many steps."""
    predicted = {} if channel.get("coupling") == "delayed" else {"gradient": {"context": ["label"]}}
    sends = {"from": "eye", "to": "mind", "size": 4, **predicted, **channel}
    network = {"kind": "mlp", "hidden": [4]}
    return antiphon.Scenario.model_validate(
        {
            "scenario": "beats",
            "env": {"id": "antiphon/Digits-v0", "hold": 4},
            "agents": {
                "eye": {"observes": ["image"], "network": network, **eye},
                "mind": {"objective": {"kind": "classification", "target": "label"}, **mind},
            },
            "channels": [sends],
            "training": {
                "steps": 24,
                "batch": 4,
                "optimiser": {"kind": "adam", "lr": 0.01, "schedule": "linear"},
            },
            "telemetry": {"period": period},
        }
    )


def clock(**keys: Any) -> dict[str, Any]:
    return {"clock": keys}


SCENES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "windows and a delay": (clock(unroll=4), clock(unroll=4), {"link": {"delay": 1}}),
    "a slow sender": (clock(period=3), {}, {}),
    "slow both": (clock(period=4, phase=1), clock(period=3, unroll=2), {"link": {"delay": 2}}),
    "nothing returns": (clock(unroll=7), {}, {"gradient": {"kind": "local", "target": "label"}}),
    "a synthetic input": (
        clock(period=3),
        clock(period=2),
        {"coupling": "unlocked", "input": {"kind": "mlp", "context": ["image"]}, "link": {"delay": 1}},
    ),
    "late credit": (
        clock(unroll=4),
        clock(period=4, unroll=2),
        {"coupling": "delayed", "link": {"delay": 2}},
    ),
    "late credit of rare messages": (
        clock(period=4, unroll=1),
        clock(period=2, unroll=3),
        {"coupling": "delayed", "link": {"delay": 1}, "horizon": 8},
    ),
    "late credit of a quick sender": ({}, clock(unroll=6), {"coupling": "delayed"}),
    "sampled windows": ({"learn": 0.3, **clock(unroll=3)}, {"learn": 0.5}, {}),
}


def logged(scenario: antiphon.Scenario, steps: int = 24, **settings: Any) -> dict[Any, dict[int, float]]:
    """Values by step, of each metric of an agent or channel."""
    with antiphon.Simulation(scenario, dtype=torch.float64, **settings) as simulation:
        found: dict[Any, dict[int, float]] = {}
        for step, kind, name, metric, value in simulation.run(steps, progress=False):
            if kind in ("agent", "channel") and metric not in MEANS:
                found.setdefault((kind, name, metric), {})[step] = value
        return found


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", SCENES)
def test_an_entry_has_the_newest_value_since_the_one_before(name: str) -> None:
    eye, mind, channel = SCENES[name]
    each = logged(scene(eye, mind, 1, **channel))
    rows = logged(scene(eye, mind, 8, **channel))
    assert rows.keys() == each.keys()
    assert ("agent", "eye", "learning_rate") in rows
    assert ("channel", "eye->mind", "injection_norm") in rows
    entries = (1, 8, 16, 24)
    for metric, values in each.items():
        for before, entry in zip((0, *entries), entries, strict=False):
            between = [step for step in values if before < step <= entry]
            assert (entry in rows[metric]) is bool(between), (metric, entry)
            if between and name != "sampled windows":
                assert rows[metric][entry] == values[between[-1]], (metric, entry)
            elif between:  # of chance: one of them
                assert rows[metric][entry] in [values[step] for step in between], (metric, entry)


@pytest.mark.parametrize("way", ["reference", "parts"])
@pytest.mark.parametrize("name", ["windows and a delay", "late credit"])
def test_every_way_of_running_logs_the_same(name: str, way: str, tmp_path: Path) -> None:
    eye, mind, channel = SCENES[name]
    scenario = scene(eye, mind, 8, **channel)
    parts = {"logdir": tmp_path / "it", "parts": {"placement": {"eye": 0, "mind": 1}}}
    settings: dict[str, Any] = {"backend": reference} if way == "reference" else parts
    one, other = logged(scenario), logged(scenario, **settings)
    assert one.keys() == other.keys()
    for metric, values in one.items():
        # a mean over messages is near zero where they cancel
        assert values == pytest.approx(other[metric], rel=1e-9, abs=1e-9), metric
