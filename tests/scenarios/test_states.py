"""State channels: what they ask of their agent, what they cannot have, and what follows from them."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.scenarios import Scenario, warnings
from tests.scenarios.made import OBJECTIVE, built, refused


def pair(*channels: dict[str, Any], **agents: dict[str, Any]) -> dict[str, Any]:
    """A document of a -> b, both recurrent, with more channels: from a to itself unless they say otherwise."""
    plain: dict[str, Any] = {
        "a": {"observes": ["image"], "network": "lstm"},
        "b": {"network": "gru", "objective": OBJECTIVE},
    }
    own = ({"from": "a", "to": "a", **channel} for channel in channels)
    return built(plain, agents, [{"from": "a", "to": "b"}, *own])


def state(**keys: Any) -> dict[str, Any]:
    return {"carries": "state", **keys}


def with_message(gradient: dict[str, Any], **agents: dict[str, Any]) -> dict[str, Any]:
    data = pair(**agents)
    data["channels"][0]["gradient"] = gradient
    return data


NO_STATE = "use kind rnn, leaky, gru or lstm"
REFUSED: list[tuple[dict[str, Any], str]] = [
    # ends and agents
    (pair(state(to="b")), "channels[1].to: a state goes from an agent to itself, 'a', not to 'b'; make"),
    (pair(state(key=2)), "channels[1].key: the key of a state is state, not 2; leave it out"),
    (
        pair(state(), a={"network": "mlp"}),
        f"channels[1].carries: agent 'a' has no state, its network being of kind mlp; {NO_STATE}",
    ),
    (
        pair(state(), a={"network": lambda inputs, outputs: None}),
        f"channels[1].carries: agent 'a' has no state, its network being not built in, and without a state_size; {NO_STATE}",
    ),
    (pair(state(), state(coupling="detached")), "channels[2]: a->a:state is already declared as"),
    # what a state cannot have
    *(
        (pair(state(**{key: value})), f"channels[1].{key}: a state has no {key}; leave it out")
        for key, value in {
            "size": 3,
            "port": "p",
            "norm": "layer",
            "link": {"delay": 1},
            "input": "linear",
            "feedback": "fa",
            "read": "mean",
            "staleness": 3,
        }.items()
    ),
    *(
        (
            pair(state(coupling=coupling)),
            (
                f"channels[1].coupling: a state cannot be {coupling}, its reader being its sender; "
                "use one of locked, detached, decoupled"
            ),
        )
        for coupling in ("delayed", "unlocked")
    ),
    (pair(state(gradient={"propagate": 0.5})), "channels[1].gradient.propagate: is of message channels"),
    (
        pair(state(gradient={"kind": "local", "target": "label", "trace": 0.5})),
        ("channels[1].gradient.trace: needs what comes back, of which a local gradient takes nothing; use"),
    ),
    # what only a state can have
    (with_message({"span": 2}), "channels[0].gradient.span: is of state channels only; leave it out"),
    # contexts
    (
        with_message({"context": ["label", "from.state"]}, a={"network": "mlp"}),
        ("channels[0].gradient.context[1]: 'from.state': agent 'a' has no state; leave it out, or make its"),
    ),
    (pair(state(gradient={"context": ["from.state"]})), "channels[1].gradient.context[0]: 'from.state' is"),
    # windows and ties
    (
        {
            **pair(b={"clock": {"unroll": 3}}),
            "channels": [
                {"from": "a", "to": "b", "coupling": "locked"},
                {"from": "a", "to": "a", "carries": "state", "coupling": "locked"},
            ],
        },
        "agents.b.clock.unroll: must be episode, as 'a' of the same locked group needs it, its state being",
    ),
    (
        pair(state(), a={"share": "g"}, b={"share": "g", "network": "lstm"}),
        ("agents.b: its state channel differs from that of agent 'a', with which it shares parameters"),
    ),
]


@pytest.mark.parametrize(("data", "line"), REFUSED, ids=[line[:60] for _, line in REFUSED])
def test_refused(data: dict[str, Any], line: str) -> None:
    assert refused(data).startswith(line)


def test_a_state_is_no_message() -> None:
    data = pair(
        state(), state(**{"from": "b", "to": "b"}), {"link": {"delay": 1}}, {"key": 1, "link": {"delay": 2}}
    )
    scenario = Scenario.model_validate(data)
    names = [channel.name for channel in scenario.channels]
    assert names == ["a->a", "a->a:1", "a->a:state", "a->b", "b->b:state"]
    assert scenario.channels[2].slug == "a__to__a__state"
    assert [channel.name for channel in scenario.channels if channel.state] == ["a->a:state", "b->b:state"]
    assert [channel.name for channel in scenario.inputs_of("a")] == ["a->a", "a->a:1"]
    assert [channel.name for channel in scenario.outputs_of("b")] == []
    assert scenario.waves() == (("a",), ("b",))
    assert scenario.locked_groups() == (("a",), ("b",))
    assert scenario.memory_of("b") is scenario.channels[4]
    assert Scenario.model_validate(pair()).memory_of("a") is None


def test_a_locked_state_makes_the_window_the_episode() -> None:
    assert Scenario.model_validate(pair(state())).window(["a"]) == 1
    scenario = Scenario.model_validate(pair(state(coupling="locked")))
    assert [scenario.window(group) for group in scenario.locked_groups()] == ["episode", 1]
    joined = pair(
        *(state(coupling="locked", **{"from": name, "to": name}) for name in "ab"), b={"clock": {"period": 2}}
    )
    joined["channels"][0]["coupling"] = "locked"
    assert Scenario.model_validate(joined).window(["a", "b"]) == "episode"


@pytest.mark.parametrize(
    ("channel", "lines"),
    [
        (state(), []),
        (state(gradient={"span": 3}), ["gradient.span is not used where trace is 0"]),
    ],
)
def test_advice_on_states(channel: dict[str, Any], lines: list[str]) -> None:
    scenario = Scenario.model_validate(pair(channel))
    assert warnings(scenario) == [f"channel a->a:state: {line}" for line in lines]


def test_an_agent_that_only_its_own_state_teaches_is_not_reached() -> None:
    data = pair(state())
    data["channels"][0]["coupling"] = "detached"
    assert "agent a: reached by no learning signal" in warnings(Scenario.model_validate(data))
    data["channels"][1]["gradient"] = {"kind": "local", "target": "label"}
    assert "agent a: reached by no learning signal" not in warnings(Scenario.model_validate(data))
