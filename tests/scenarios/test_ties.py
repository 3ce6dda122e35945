"""Tied parameters in a document: what is refused, and the one line that says why."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.scenarios import Scenario
from antiphon.scenarios.ties import tied_agents
from tests.scenarios.made import agents, refused

TIE = ["a.0.weight", "b.0.weight"]
MAKE = ", and 'b.0.weight' is tied to 'a.0.weight'; make them equal"


def tied(*groups: list[str], **changes: dict[str, Any]) -> dict[str, Any]:
    """A small document with ties, and other keys of its agents."""
    return agents(**changes) | {"tied": list(groups)}


def locked_to_a_policy(document: dict[str, Any]) -> dict[str, Any]:
    """A document in which agent `a` learns as one with an actor `m`."""
    motor = {"acts": True, "objective": {"kind": "ppo"}}
    locked = {"from": "a", "to": "m", "size": 2, "coupling": "locked"}
    return document | {
        "agents": {**document["agents"], "m": motor},
        "channels": [*document["channels"], locked],
    }


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (tied(["a.0.weight"]), "tied[0]: names 1 parameters; name at least two, or leave it out"),
        (tied(["a", "b.0.weight"]), "tied[0][0]: must be AGENT.PARAMETER such as 'part0.module.weight',"),
        (tied(["a.0.bias", "b.0.bias", "a.0.bias"]), "tied[0][2]: names 'a.0.bias' twice"),
        (tied(TIE, ["a.0.bias", "b.0.weight"]), "tied[1][1]: names 'b.0.weight' in tied[0] too; make them"),
        (
            tied(TIE, b={"optimiser": {"lr": 0.5}}),
            f"agents.b.optimiser: differs from that of agent 'a'{MAKE}",
        ),
        (tied(TIE, a={"share": "g"}), "agents.a.share: 'a.0.weight' is tied to 'b.0.weight', but all"),
        (tied(TIE) | {"training": {"optimiser": {"clip": 1.0}}}, "agents.a.optimiser: 'a.0.weight' is tied"),
        (
            tied(TIE, a={"acts": True, "objective": {"kind": "ppo"}, "clock": {"unroll": 4}}),
            ("agents.a.objective.epochs: 'a.0.weight' is tied to 'b.0.weight', and passes of ppo after the"),
        ),
        (locked_to_a_policy(tied(TIE)), "agents.m.objective.epochs: 'a.0.weight' is tied to 'b.0.weight',"),
        (tied(TIE, a={"clock": {"unroll": 2}}), "agents.b.clock: agent 'b' learns every 1 steps from step"),
        (
            tied(TIE) | {"channels": [{"from": "a", "to": "b", "coupling": "delayed"}]},
            ("agents.a: waits for delayed gradients, and 'a.0.weight' is tied to parameters of agents with"),
        ),
    ],
)
def test_a_tie_that_would_not_hold_is_refused(given: dict[str, Any], line: str) -> None:
    assert refused(given).startswith(line)


@pytest.mark.parametrize(
    "changes",
    [
        {"a": {"optimiser": {"lr": 0.5}}, "b": {"optimiser": {"lr": 0.5}}},
        {"a": {"clock": {"unroll": 2}}, "b": {"clock": {"period": 2, "phase": 1}}},
        {"a": {"clock": {"unroll": "episode"}}, "b": {"clock": {"unroll": "episode"}}},
    ],
)
def test_equal_settings_and_windows_are_accepted_and_written(changes: dict[str, Any]) -> None:
    scenario = Scenario.model_validate(tied(TIE, ["a.0.bias", "b.0.bias"], **changes))
    assert Scenario.from_yaml(scenario.to_yaml()) == scenario
    assert Scenario.from_graph(scenario.to_graph()) == scenario


def test_agents_are_tied_through_others() -> None:
    ties = [["c.x", "a.x"], ["b.y", "c.y"], ["d.x", "e.x"]]
    found = {name: set(its) for name, its in tied_agents(ties).items()}
    assert found == {name: set("abc" if name in "abc" else "de") for name in "abcde"}
