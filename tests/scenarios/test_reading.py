"""What a slower receiver makes of several messages, the way back, ages, and who acts."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.scenarios import Scenario, warnings
from tests.scenarios.made import OBJECTIVE, built, refused


def pair(channel: dict[str, Any], **agents: dict[str, Any]) -> dict[str, Any]:
    """A document a -> b, b at a quarter of the rate."""
    plain: dict[str, Any] = {
        "a": {"observes": ["image"]},
        "b": {"clock": {"period": 4, "phase": -1}, "objective": OBJECTIVE},
    }
    return built(plain, agents, [{"from": "a", "to": "b", **channel}])


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        pair({"read": "mean", "coupling": "unlocked", "input": "linear"}),
        (
            "channels[0].read: mean needs messages, and an unlocked channel gives none to its receiver; make it"
        ),
    ),
    (pair({"read": "mean", "link": {"drop": 0.2}}), "channels[0].read: mean needs every message, but the"),
    (pair({"read": "concat", "input": "linear"}), "channels[0].read: concat needs no synthetic input,"),
    (pair({"read": "mean"}, b={"align": True}), "channels[0].read: mean reads several messages, and 'b' is"),
    (pair({"read": "concat", "size": 3}, b={"fan_in": "sum"}), "channels[0].read: concat lays messages"),
    (pair({"read": "concat"}, a={"clock": {"period": 3}}), "channels[0].read: concat needs as many"),
    (pair({}, a={"observes": ["image", "age"]}), "agents.a.observes: 'age' is how old the messages are"),
    (pair({"link": {"back": -1}}), "channels[0].link.back: must be at least 0, not -1"),
    (
        pair({"link": {"back": 2}, "gradient": {"trace": 0.5}}, b={"clock": {}}),
        ("channels[0].gradient.trace: needs what the receiver returns at the same step, but the link's way"),
    ),
    (pair({}, a={"acts": True}), "agents.a.acts: the action is the output that an objective reads, and it"),
    (
        pair({}, a={"acts": True, "objective": OBJECTIVE}, b={"acts": True}),
        ("agents.b.acts: 'a' acts already, and the environment takes the actions of one; leave it out, or"),
    ),
]


@pytest.mark.parametrize(("data", "line"), REFUSED, ids=[line[:60] for _, line in REFUSED])
def test_refused(data: dict[str, Any], line: str) -> None:
    assert refused(data).startswith(line)


@pytest.mark.parametrize(
    "data",
    [
        *(
            pair({"read": read, "coupling": coupling})
            for read in ("mean", "concat")
            for coupling in ("locked", "delayed", "detached", "decoupled")
        ),
        pair({"read": "mean"}, a={"clock": {"period": 3}}),
        pair({"read": "mean", "size": 3}, b={"fan_in": "sum"}),
        pair({"read": "concat"}, a={"clock": {"period": 2, "phase": -1}}),
        pair({"read": "mean", "input": "none", "link": {"delay": 3, "back": 0, "noise": 0.1, "bits": 3}}),
        pair({}, b={"observes": ["age"], "acts": True, "objective": {"kind": "coding", "target": "label"}}),
    ],
)
def test_accepted_without_a_word(data: dict[str, Any]) -> None:
    scenario = Scenario.model_validate(data)
    assert Scenario.from_yaml(scenario.to_yaml()) == scenario
    assert Scenario.from_graph(scenario.to_graph()) == scenario
    assert [line for line in warnings(scenario) if "reached by no" not in line] == []


@pytest.mark.parametrize("read", ["mean", "concat"])
def test_a_fast_reader_reads_the_last(read: str) -> None:
    scenario = Scenario.model_validate(pair({"read": read}, a={"clock": {"period": 4}}))
    assert warnings(scenario) == [
        f"channel a->b: read {read} is read last: its receiver ticks no more slowly than its sender"
    ]
