"""Warnings: what runs but is probably not meant."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.scenarios import Scenario, warnings

OBJECTIVE = {"kind": "classification", "target": "label"}


def advice(
    *channels: dict[str, Any], training: dict[str, Any] | None = None, **agents: dict[str, Any]
) -> list[str]:
    """The warnings of a chain a -> b (with an objective) whose parts are changed as given."""
    plain: dict[str, Any] = {
        "a": {"observes": ["image"]},
        "b": {"observes": ["image"], "objective": OBJECTIVE},
    }
    make = {
        name: {"observes": ["image"], **plain.get(name, {}), **agents.get(name, {})}
        for name in {**plain, **agents}
    }
    ends = [{"from": "a", "to": "b", **channel} for channel in channels]
    data = {"scenario": "x", "env": {"id": "x"}, "agents": make, "channels": ends, "training": training or {}}
    return warnings(Scenario.model_validate(data))


def test_nothing_to_say() -> None:
    assert advice({}) == []
    assert advice({"coupling": "locked"}) == []
    assert advice({"coupling": "delayed", "staleness": 4}) == []


@pytest.mark.parametrize(
    "channel",
    [
        {"coupling": "detached"},
        {"gradient": {"apply": False}},
        {"gradient": {"scale": 0}},
    ],
)
def test_agents_that_no_signal_reaches(channel: dict[str, Any]) -> None:
    assert advice(channel) == ["agent a: reached by no learning signal"]
    assert advice(channel, a={"learn": False}) == []


def test_signal_travels_over_several_channels() -> None:
    chain = [{}, {"from": "c", "to": "a"}]
    assert advice(*chain, c={}) == []
    chain[1]["coupling"] = "detached"
    assert advice(*chain, c={}) == ["agent c: reached by no learning signal"]
    chain = [{"coupling": "detached"}, {"from": "c", "to": "a"}]
    assert advice(*chain, c={}) == ["agents a, c: reached by no learning signal"]


def test_a_local_gradient_is_a_signal_of_its_own() -> None:
    away = {"to": "c", "gradient": {"kind": "local", "target": "label"}}
    assert advice(away, c={"learn": False}) == ["channel a->c: heard by no agent with an objective"]


def test_locked_channels_whose_credit_is_lost() -> None:
    lost = "channel a->b: no credit passes, the delay being a whole window; use unroll: episode"
    slow = {"coupling": "locked", "link": {"delay": 1}}
    assert advice(slow) == [lost, "agent a: reached by no learning signal"]
    unrolled = {"clock": {"unroll": 2}}
    assert advice(slow, a=unrolled, b=unrolled) == []
    whole = {"clock": {"unroll": "episode"}}
    assert advice(slow, a=whole, b=whole) == []


def test_channels_that_nobody_reads() -> None:
    late = "channel a->b: read by nobody before step 13, and training.steps is 13"
    link = {"link": {"delay": 10}}
    clocks = {"a": {"clock": {"period": 4, "phase": -2}}, "b": {"clock": {"period": 7, "phase": 6}}}
    assert advice(link, training={"steps": 13}, **clocks) == [late]
    assert advice(link, training={"steps": 14}, **clocks) == []


@pytest.mark.parametrize(
    ("channel", "lines"),
    [
        ({"coupling": "locked", "gradient": "mlp"}, ["gradient is not used by a locked channel"]),
        ({"gradient": {"target": "label"}}, ["gradient.target is not used by a gradient of kind linear"]),
        ({"gradient": {"hidden": [3]}}, ["gradient.hidden is not used by a gradient of kind linear"]),
        ({"gradient": {"norm": "layer"}}, ["gradient.norm is not used by a gradient without hidden layers"]),
        (
            {"gradient": {"optimiser": {"kind": "sgd", "betas": [0.5, 0.5]}}},
            ["gradient.optimiser.betas is not used by sgd"],
        ),
        ({"staleness": 3}, ["staleness is not used by a decoupled channel"]),
        ({"norm": "none"}, ["norm is not used by a channel without a size"]),
        ({"norm": "none", "size": 4}, []),
        ({"gradient": {"kind": "mlp", "norm": "layer"}}, []),
    ],
)
def test_keys_that_a_channel_does_not_use(channel: dict[str, Any], lines: list[str]) -> None:
    assert advice(channel) == [f"channel a->b: {line}" for line in lines]


@pytest.mark.parametrize(
    ("agent", "lines"),
    [
        ({"network": {"filter": 3}}, ["network.filter is not used by an mlp"]),
        ({"network": {"pool": ["max"]}}, ["network.pool is not used by an mlp"]),
        ({"network": {"kind": "conv", "hidden": [3], "filter": 3, "pool": ["max"]}}, []),
        ({"optimiser": {"momentum": 0.9}}, ["optimiser.momentum is not used by adam"]),
        ({"optimiser": {"kind": "sgd", "momentum": 0.9}}, []),
        ({"learn": False, "optimiser": {}}, ["optimiser is not used by an agent that does not learn"]),
    ],
)
def test_keys_that_an_agent_does_not_use(agent: dict[str, Any], lines: list[str]) -> None:
    assert advice({}, a=agent) == [f"agent a: {line}" for line in lines]


def test_keys_that_training_does_not_use() -> None:
    linear = {"schedule": {"kind": "linear", "at": [0.5]}}
    constant = {"schedule": {"factor": 0.5}}
    assert advice({}, training={"optimiser": linear, "predictor": constant}) == [
        "training.optimiser: schedule.at is not used by a linear schedule",
        "training.predictor: schedule.factor is not used by a constant schedule",
    ]


def test_many_are_counted() -> None:
    channels = [{"key": key, "staleness": 3} for key in range(6)]
    assert advice(*channels) == [
        "channels a->b, a->b:1, a->b:2, a->b:3, … (6 in all): staleness is not used by a decoupled channel"
    ]


def test_an_empty_network_does_not_use_its_norm() -> None:
    assert advice({"size": 2}, a={"network": {"hidden": [], "norm": "batch"}}) == [
        "agent a: network.norm is not used without hidden layers"
    ]
