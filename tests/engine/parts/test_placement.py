"""Placements: every cut that could change a bit is refused with one line, and the others are not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from antiphon.engine.build.builder import build
from antiphon.engine.core.system import System
from antiphon.engine.parts.placement import (
    MOST_LOOKAHEAD,
    agent_costs,
    bonds,
    check_divisible,
    check_placement,
    cut_channels,
    lookahead_of,
    message_bytes,
    partition,
    placement_for,
    returned_bytes,
    units_of,
)
from antiphon.envs import describe
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario
from tests.contracts.builders import LABEL, OWN, Document, Play, document
from tests.contracts.drawn_scenes import scenes

CPU = torch.device("cpu")
CELL: Document = {"network": {"kind": "gru", "size": 4}, "observes": ["x"]}


def made(doc: Document) -> tuple[System, Scenario]:
    scenario = Scenario.model_validate(doc)
    system = build(scenario, describe(scenario.env), seed=0, device=CPU, dtype=torch.float32)
    return system, scenario


def pair(
    channel: Document | None = None, *, a: Document | None = None, b: Document | None = None, **training: Any
) -> Document:
    """Return two agents and a channel of delay 1."""
    link = {"delay": 1} | (channel or {}).get("link", {})
    way = {"from": "a", "to": "b", "size": 4, **(channel or {}), "link": link}
    return document(
        {"a": {**OWN, **(a or {})}, "b": {**OWN, "objective": LABEL, **(b or {})}}, [way], **training
    )


BACK: list[Document] = [{"from": a, "to": b, "size": 4, "link": {"delay": 1}} for a, b in ("ab", "ba")]
HEAD = {"weight": "b.objective.weight", "bias": "b.objective.bias"}
LENS: Document = {"gradient": {"kind": "lens", "head": nn.Linear(4, 3), "parameters": HEAD}}
SHARED = document(
    {one: {**OWN, "objective": LABEL, "share": "g"} for one in "ab"},
    [way | {"port": "out"} for way in BACK],
)
APART: Mapping[str, int] = {"a": 0, "b": 1}
WHERE = "'a' is in part 0 and 'b' is in part 1"
ONCE = "give the channel `link: {delay: 1}`, or place both ends together"
REFUSED: list[tuple[Document, str]] = [
    (
        pair({"coupling": "locked"}),
        f"channels[a->b].coupling: locked: both ends learn as one, but {WHERE}; make it decoupled and {ONCE}",
    ),
    (
        pair({"link": {"delay": 0}}),
        f"channels[a->b].link.delay: 0: a message is read at the step at which it is sent, but {WHERE}; {ONCE}",
    ),
    (
        pair({"link": {"delay": 2, "back": 0}}),
        f"channels[a->b].link.back: 0: a gradient is back at the step at which it is made, but {WHERE}; make",
    ),
    (
        pair({"link": {"delay": 0}, "gradient": {"kind": "linear", "trace": 0.5}}),
        "channels[a->b].gradient.trace: it needs what the receiver returns at the same step, but",
    ),
    (
        pair({"link": {"delay": 0}, "gradient": {"kind": "linear", "propagate": 0.5}}),
        "channels[a->b].gradient.propagate: it needs what the receiver returns at the same step, but",
    ),
    (
        pair({"gradient": {"kind": "linear", "context": ["to.state"]}}, b=CELL),
        f"channels[a->b].gradient.context: 'to.state' is read from the receiver itself, but {WHERE}; leave it",
    ),
    (SHARED, f"agents.b.share: shared parameters learn as one, but {WHERE}; leave it out, or place both"),
    (
        pair() | {"tied": [["a.0.bias", "b.0.bias"]]},
        f"tied[0]: tied parameters are one weight, but {WHERE}; leave it out, or place both ends together",
    ),
    (
        pair(LENS, b={"network": {"hidden": []}, "observes": []}),
        f"channels[a->b].gradient.kind: a lens reads the parameters of another agent, but {WHERE}; use kind loc",
    ),
]


def assert_refused(line: str, check: Callable[..., object], *args: Any) -> None:
    with pytest.raises(ScenarioError) as found:
        check(*args)
    assert str(found.value).startswith(line)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(("doc", "line"), REFUSED, ids=[line.partition(":")[0] for _, line in REFUSED])
def test_cuts_that_could_change_a_bit_are_refused(doc: Document, line: str) -> None:
    system, _ = made(doc)
    assert_refused(line, check_placement, system, APART)
    check_placement(system, {"a": 0, "b": 0})


ACTS = {"acts": True, "objective": {"kind": "regression", "target": "goal"}}
SEES = {**OWN, "observes": ["observation"]}
POLE = document(
    {"a": SEES, "b": {**SEES, "objective": LABEL | {"kind": "regression", "target": "reward"}}},
    BACK[:1],
    {"gymnasium": "CartPole-v1"},
)


@pytest.mark.parametrize(
    ("doc", "line"),
    [
        (
            pair(on_divergence="quarantine"),
            "training.on_divergence: quarantine voids messages at the step of",
        ),
        (
            pair(bound=2.0),
            "training.bound: parts do not agree on a divergence at the step that it happens; lea",
        ),
        (
            pair(sweep=True),
            "training.sweep: parts differentiate all windows of a step together; make it false",
        ),
        (
            pair(b=ACTS),
            "agents.b.acts: what the environment shows depends on the action, and every part has an",
        ),
        (
            POLE,
            "env: 'CartPole-v1' is a world of gymnasium, which may hold more than its seed sets, and every",
        ),
    ],
)
def test_scenarios_that_are_not_cut_anywhere(doc: Document, line: str) -> None:
    system, scenario = made(doc)
    assert_refused(line, check_divisible, system, scenario)
    assert_refused(line, partition, system, scenario, 2)
    assert_refused(line, placement_for, system, scenario, None, APART)
    assert partition(system, scenario, 1) == {"a": 0, "b": 0}
    assert placement_for(system, scenario, None, {"a": 0, "b": 0}) == {"a": 0, "b": 0}


NUMBER = "must be the number of a part, from 0, not"


def test_placements_that_are_none() -> None:
    system, scenario = made(pair())
    for place, line in (
        ({"a": 0, "c": 1}, "place: no agent 'c'; known: a, b"),
        ({"a": 0}, "place: b in no part; place every agent"),
        ({"a": 0, "b": 2}, "place: no agent is in part 1, and one is in part 2; number the parts from 0 on"),
        ({"a": 0, "b": -1}, f"place.b: {NUMBER} -1"),
        ({"a": 0, "b": "x"}, f"place.b: {NUMBER} 'x'"),
    ):
        assert_refused(line, check_placement, system, place)
    line = "parts: 3, and the placement has 2; leave one of them out"
    assert_refused(line, placement_for, system, scenario, 3, APART)
    assert_refused("parts: 3; the number of agents is 2; use at most 2", partition, system, scenario, 3)
    assert_refused("parts: must be at least 1, not 0", partition, system, scenario, 0)
    line = (
        "parts: 2; the agents cannot be separated into more than 1: 'a' and 'b' stay together "
        "(channels[a->b].coupling: locked: both ends learn as one); make it decoupled and give the channel"
    )
    assert_refused(line, partition, *made(pair({"coupling": "locked"})), 2)


ALLOWED: dict[str, Document] = {
    "detached": pair({"coupling": "detached"}),
    "delayed": pair({"coupling": "delayed"}),
    "unlocked": pair({"coupling": "unlocked", "input": {"kind": "linear", "context": ["held", "age"]}}),
    "a gradient that is not back, where none is wanted": pair({"coupling": "detached", "link": {"back": 0}}),
    "a trace without effect": pair({"gradient": {"kind": "linear", "trace": 0.5, "apply": False}}),
    "the sender's state": pair({"gradient": {"kind": "linear", "context": ["from.state"]}}, a=CELL),
    "states of its own": pair(a=CELL, b=CELL),
    "aligned at the receiving end": pair(b={"align": True}),
    "aligned at the sending end": pair(a={"align": "b->a"}) | {"channels": BACK},
    "aligned at both ends": pair(a={"align": "b->a"}, b={"align": True}) | {"channels": BACK},
    "a synthetic input of an aligned sender's messages": pair(a={"align": "b->a"})
    | {"channels": [BACK[0] | {"input": {"context": ["x"]}}, BACK[1]]},
    "losses, noise, a rate": pair({"link": {"drop": 0.5, "noise": 0.1, "rate": 0.5}}),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_can_be_cut(name: str) -> None:
    system, scenario = made(ALLOWED[name])
    check_placement(system, APART)
    assert partition(system, scenario, 2) == APART
    assert lookahead_of(system, APART) == 1


@pytest.mark.parametrize(
    ("channel", "others", "steps"),
    [
        ({"link": {"delay": 4}}, {}, 4),
        ({"link": {"delay": 4, "back": 2}}, {}, 2),
        ({"link": {"delay": 4, "back": 9}}, {}, 4),
        ({"coupling": "detached", "link": {"delay": 4, "back": 0}}, {}, 1),
        ({"coupling": "delayed", "link": {"delay": 4}}, {}, 4),
        ({"coupling": "delayed", "link": {"delay": 4, "drop": 0.5}}, {}, 1),
        ({"coupling": "delayed", "link": {"delay": 4}}, {"b": {"p_update": 0.5}}, 1),
        ({"coupling": "delayed", "link": {"delay": 4}}, {"env": Play(share=0.1)}, 1),
    ],
)
def test_the_lookahead(channel: Document, others: Document, steps: int) -> None:
    assert lookahead_of(made(pair(channel, **others))[0], APART) == steps


def test_without_a_cut_parts_may_be_as_far_apart_as_links_are_long() -> None:
    assert lookahead_of(made(pair())[0], {"a": 0, "b": 0}) == MOST_LOOKAHEAD


def test_the_traffic_of_a_channel() -> None:
    """Batch 4, four components of four bytes, a message every step, and its gradient; a critic returns a loss too."""
    for channel, there, back in (
        ({"coupling": "detached"}, 64, 0),
        ({}, 64, 64),
        ({"gradient": {"kind": "critic"}}, 64, 80),
        ({"link": {"rate": 0.5}}, 32, 32),
    ):
        system, _ = made(pair(channel))
        assert message_bytes(system, system.channels["a->b"]) == there
        assert returned_bytes(system, system.channels["a->b"]) == back


def test_a_gradient_comes_back_for_what_is_read_only() -> None:
    system, _ = made(pair(b={"clock": {"period": 4}}))
    assert message_bytes(system, system.channels["a->b"]) == 64
    assert returned_bytes(system, system.channels["a->b"]) == 16


@settings(max_examples=6)
@given(scenes(), st.integers(2, 3))
def test_random_scenarios(doc: Document, parts: int) -> None:
    training = {key: value for key, value in doc["training"].items() if key not in ("on_divergence", "bound")}
    system, scenario = made(doc | {"training": training})
    units = units_of(system)
    assume(len(units) >= parts)
    placement = partition(system, scenario, parts)
    check_placement(system, placement)
    assert list(placement) == list(system.agents)
    assert set(placement.values()) == set(range(parts))
    assert placement == partition(system, scenario, parts)
    assert all(len({placement[name] for name in group.members}) == 1 for group in system.groups)
    assert all(channel.ledger.link.delay >= 1 for channel in cut_channels(system, placement))
    costs = agent_costs(system)
    loads = [sum(costs[name] for name in placement if placement[name] == part) for part in range(parts)]
    heaviest = max(sum(costs[name] for name in unit) for unit in units)
    assert max(loads) <= 1.05 * sum(loads) / parts + heaviest


@settings(max_examples=15)
@given(scenes(), st.data())
def test_every_placement_that_is_accepted_keeps_what_is_joined_together(
    doc: Document, data: st.DataObject
) -> None:
    system, _ = made(doc)
    placement = {name: data.draw(st.integers(0, 1)) for name in system.agents}
    assume(set(placement.values()) == {0, 1})
    wrong = [bond for bond in bonds(system) if len({placement[name] for name in bond.agents}) > 1]
    if not wrong:
        check_placement(system, placement)
        return
    with pytest.raises(ScenarioError) as found:
        check_placement(system, placement)
    assert str(found.value) == str(wrong[0].error(placement))
    assert "\n" not in str(found.value)
