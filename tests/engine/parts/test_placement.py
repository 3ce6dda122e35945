"""Placements: every cut that could change a bit is refused with one line, and the others are not."""

from __future__ import annotations

from collections.abc import Mapping
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
    returned_bytes,
    units_of,
)
from antiphon.envs import describe
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario
from tests.contracts.builders import LABEL, OWN, Document, Play, document, ring
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
APART: Mapping[str, int] = {"a": 0, "b": 1}
WHERE = "'a' is in part 0 and 'b' is in part 1"
REFUSED: dict[str, tuple[Document, str]] = {
    "locked": (
        pair({"coupling": "locked"}),
        (
            f"channels[a->b].coupling: locked: both ends learn as one, but {WHERE}; make it decoupled and give the channel "
            "`link: {delay: 1}`, or place both ends together"
        ),
    ),
    "no delay": (
        pair({"link": {"delay": 0}}),
        (
            f"channels[a->b].link.delay: 0: a message is read at the step at which it is sent, but {WHERE}; give the channel "
            "`link: {delay: 1}`, or place both ends together"
        ),
    ),
    "gradient back at once": (
        pair({"link": {"delay": 2, "back": 0}}),
        (
            f"channels[a->b].link.back: 0: a gradient is back at the step at which it is made, but {WHERE}; make it 1 or more, "
            "or place both ends together"
        ),
    ),
    "trace": (
        pair({"link": {"delay": 0}, "gradient": {"kind": "linear", "trace": 0.5}}),
        (
            f"channels[a->b].gradient.trace: it needs what the receiver returns at the same step, but {WHERE}; leave it out and "
            "give the channel `link: {delay: 1}`, or place both ends together"
        ),
    ),
    "propagate": (
        pair({"link": {"delay": 0}, "gradient": {"kind": "linear", "propagate": 0.5}}),
        (
            f"channels[a->b].gradient.propagate: it needs what the receiver returns at the same step, but {WHERE}; leave it out "
            "and give the channel `link: {delay: 1}`, or place both ends together"
        ),
    ),
    "the receiver's state": (
        pair({"gradient": {"kind": "linear", "context": ["to.state"]}}, b=CELL),
        (
            f"channels[a->b].gradient.context: 'to.state' is read from the receiver itself, but {WHERE}; leave it out, or place "
            "both ends together"
        ),
    ),
    "shared parameters": (
        document(
            {one: {**OWN, "objective": LABEL, "share": "g"} for one in "ab"},
            [{"from": a, "to": b, "size": 4, "port": "out", "link": {"delay": 1}} for a, b in ("ab", "ba")],
        ),
        f"agents.b.share: shared parameters learn as one, but {WHERE}; leave it out, or place both ends together",
    ),
    "tied parameters": (
        pair() | {"tied": [["a.0.bias", "b.0.bias"]]},
        f"tied[0]: tied parameters are one weight, but {WHERE}; leave it out, or place both ends together",
    ),
    "lens": (
        pair(
            {"gradient": {"kind": "lens", "head": nn.Linear(4, 3), "parameters": HEAD}},
            b={"network": {"hidden": []}, "observes": []},
        ),
        (
            f"channels[a->b].gradient.kind: a lens reads the parameters of another agent, but {WHERE}; use kind local, or place "
            "both ends together"
        ),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    doc, line = REFUSED[name]
    system, _ = made(doc)
    with pytest.raises(ScenarioError) as found:
        check_placement(system, APART)
    assert str(found.value) == line
    check_placement(system, {"a": 0, "b": 0})


WHOLE: dict[str, tuple[Document, str]] = {
    "quarantine": (
        pair(on_divergence="quarantine"),
        (
            "training.on_divergence: quarantine voids messages at the step of a divergence, which other parts do not know then; "
            "use stop, or run the scenario as one part"
        ),
    ),
    "bound": (
        pair(bound=2.0),
        (
            "training.bound: parts do not agree on a divergence at the step that it happens; leave it out, or run the scenario "
            "as one part"
        ),
    ),
    "sweep": (
        pair(sweep=True),
        "training.sweep: parts differentiate all windows of a step together; make it false, or run the scenario as one part",
    ),
    "actions": (
        pair(b={"acts": True, "objective": {"kind": "regression", "target": "goal"}}),
        (
            "agents.b.acts: what the environment shows depends on the action, and every part has an environment of its own; "
            "leave it out, or run the scenario as one part"
        ),
    ),
    "a world of Gymnasium": (
        document(
            {
                "a": {**OWN, "observes": ["observation"]},
                "b": {
                    **OWN,
                    "observes": ["observation"],
                    "objective": LABEL | {"kind": "regression", "target": "reward"},
                },
            },
            [{"from": "a", "to": "b", "size": 4, "link": {"delay": 1}}],
            {"gymnasium": "CartPole-v1"},
        ),
        (
            "env: 'CartPole-v1' is a world of gymnasium, which may hold more than its seed sets, and every part has one; run the "
            "scenario as one part"
        ),
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_scenarios_that_are_not_cut_anywhere(name: str) -> None:
    doc, line = WHOLE[name]
    system, scenario = made(doc)
    with pytest.raises(ScenarioError) as found:
        check_divisible(system, scenario)
    assert str(found.value) == line
    with pytest.raises(ScenarioError):
        partition(system, scenario, 2)
    assert partition(system, scenario, 1) == {"a": 0, "b": 0}


PLACEMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown agent": ({"a": 0, "c": 1}, "place: no agent 'c'; known: a, b"),
    "an agent too few": ({"a": 0}, "place: b in no part; place every agent"),
    "a gap": (
        {"a": 0, "b": 2},
        "place: no agent is in part 1, and one is in part 2; number the parts from 0 on",
    ),
    "a negative part": ({"a": 0, "b": -1}, "place.b: must be the number of a part, from 0, not -1"),
    "a word": ({"a": 0, "b": "x"}, "place.b: must be the number of a part, from 0, not 'x'"),
}


@pytest.mark.parametrize("name", PLACEMENTS)
def test_placements_that_are_none(name: str) -> None:
    placement, line = PLACEMENTS[name]
    with pytest.raises(ScenarioError) as found:
        check_placement(made(pair())[0], placement)
    assert str(found.value) == line


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


def test_more_parts_than_can_be_separated() -> None:
    system, scenario = made(ring(3))
    with pytest.raises(ScenarioError) as found:
        partition(system, scenario, 4)
    assert str(found.value) == "parts: 4; the number of agents is 3; use at most 3"
    system, scenario = made(pair({"coupling": "locked"}))
    with pytest.raises(ScenarioError) as found:
        partition(system, scenario, 2)
    assert str(found.value) == (
        "parts: 2; the agents cannot be separated into more than 1: 'a' and 'b' stay together (channels[a->b].coupling: "
        "locked: both ends learn as one); make it decoupled and give the channel `link: {delay: 1}`"
    )
    with pytest.raises(ScenarioError) as found:
        partition(system, scenario, 0)
    assert str(found.value) == "parts: must be at least 1, not 0"


@settings(max_examples=30)
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


@settings(max_examples=30)
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
