"""Metrics of what happens at some steps only: each log entry has the newest since the entry before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import antiphon
from antiphon import Scenario, Simulation
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


def test_the_graph_keeps_a_metric_while_newer_entries_have_others_of_its_channel() -> None:
    """The sender's windows end every 16 steps, the receiver learns every 2, and an entry is written every 5."""
    scenario = scene(clock(unroll=16), clock(period=2), 5)
    with antiphon.Simulation(scenario) as simulation:
        metrics = []
        for _ in range(30):
            simulation.run(1, progress=False)
            metrics.append({key for *_, edge in simulation.graph.edges(data=True) for key in edge})
    assert [step for step, keys in enumerate(metrics, 1) if "injection_norm" in keys] == list(range(16, 31))


@pytest.mark.long
def test_a_resumed_run_logs_what_was_taken_before(tmp_path: Path) -> None:
    """The checkpoint lies between the newest update and the entry."""
    eye, mind, channel = SCENES["windows and a delay"]
    scenario = scene(eye, mind, 8, **channel)
    tables = []
    for name in ("whole", "resumed"):
        with antiphon.Simulation(scenario, logdir=tmp_path / name, checkpoint_every=15) as simulation:
            if name == "whole":
                simulation.run(24, progress=False)
            else:
                for _ in range(15):
                    simulation.step()
                simulation.save(tmp_path / "saved")
        if name == "resumed":
            with antiphon.Simulation.resume(tmp_path / name) as simulation:
                simulation.run(progress=False)
        lines = (tmp_path / name / "metrics.csv").read_text().splitlines()
        tables.append([line for line in lines if line.split(",")[1] != "run"])
    assert tables[0] == tables[1]


def test_members_of_a_population_log_what_they_log_alone() -> None:
    eye, mind, channel = SCENES["slow both"]
    scenario = scene(eye, mind, 8, **channel)
    population = antiphon.Population([scenario] * 2, [0, 1], dtype=torch.float64)
    histories = [one.history for one in population.simulations]
    population.run(24)
    alone = antiphon.Simulation(scenario, seed=1, dtype=torch.float64)
    kept = alone.history
    alone.run(24, progress=False)
    found = [{tuple(row[:4]): row[4] for row in one} for one in (histories[1], kept)]
    assert found[0].keys() == found[1].keys()
    assert found[0] == pytest.approx(found[1], rel=1e-9, nan_ok=True)


def test_the_metrics_of_the_latest_windows_are_by_agent() -> None:
    player = {"observes": ["observation"], "acts": True, "objective": "a2c", "clock": {"unroll": 4}}
    scenario = Scenario(
        scenario="pole", env="antiphon/CartPole-v0", agents={"hand": player}, training={"batch": 4}
    )
    with Simulation(scenario) as simulation:
        simulation.run(3, progress=False)
        assert simulation.learned.metrics() == {}
        simulation.run(1, progress=False)
        metrics = simulation.learned.metrics()
    assert metrics.keys() == {"hand"}
    assert {"policy_loss", "entropy", "value_loss"} <= metrics["hand"].keys()
    assert all(isinstance(value, float) for value in metrics["hand"].values())
