"""Every document that is refused, and the one line that says why."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario, load

OBJECTIVE = {"kind": "classification", "target": "label"}


def document(**changes: Any) -> dict[str, Any]:
    """A small valid document (a -> b), with some keys changed."""
    return {
        "scenario": "small",
        "env": {"id": "antiphon/Digits-v0"},
        "agents": {"a": {"observes": ["image"]}, "b": {"objective": OBJECTIVE}},
        "channels": [{"from": "a", "to": "b"}],
        **changes,
    }


def agents(**changes: dict[str, Any]) -> dict[str, Any]:
    """A document whose agents have other or further keys."""
    plain = document()["agents"]
    return document(
        agents={name: {**plain.get(name, {}), **changes.get(name, {})} for name in {**plain, **changes}}
    )


def channels(*specs: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A document with these channels; a and b are the ends where none are given."""
    return document(channels=[{"from": "a", "to": "b", **spec} for spec in specs], **more)


def refused(data: Any) -> str:
    with pytest.raises(ScenarioError) as caught:
        Scenario.model_validate(data)
    line = str(caught.value)
    assert "\n" not in line
    return line


def network(inputs: int, outputs: int) -> None:
    """Stands for a factory."""


REFUSED: list[tuple[dict[str, Any], str]] = [
    # unknown keys and names
    (document(agent={}), "agent: unknown key 'agent'; did you mean 'agents'?"),
    (document(sceanrio="x"), "sceanrio: unknown key 'sceanrio'; did you mean 'scenario'?"),
    (
        agents(a={"network": {"hiden": [1]}}),
        "agents.a.network.hiden: unknown key 'hiden'; did you mean 'hidden'?",
    ),
    (channels({"fro": "a"}), "channels[0].fro: unknown key 'fro'; did you mean 'from'?"),
    (
        channels({"noise": 0.1}),
        (
            "channels[0].noise: unknown key 'noise'; known: carries, coupling, feedback, from, gradient, input, key, link, "
            "norm, port, read, size, …"
        ),
    ),
    (channels({"to": "B"}), "channels[0].to: no agent 'B'; known: a, b"),
    (channels({}, {"from": "aa", "key": 1}), "channels[1].from: no agent 'aa'; did you mean 'a'?"),
    (document(readout="bb"), "readout: no agent 'bb'; did you mean 'b'?"),
    (document(readout="a"), "readout: agent 'a' has no objective to be read; give it one"),
    (document(readout=[]), "readout: is an empty list; leave it out, or name an agent"),
    (document(readout=["b", "b"]), "readout: names 'b' twice"),
    (
        agents(b={"align": "b->a"}),
        "agents.b.align: no channel 'b->a' leads to this agent; known: a->b",
    ),
    (agents(a={"align": True}), "agents.a.align: no channel leads to this agent; leave it out"),
    (agents(a={"align": 3}), "agents.a.align: must be true or a channel such as 'a->b', not 3"),
    (agents(a={"weights": "runs/x"}), "agents.a.weights: must be RUN:agent, not 'runs/x'"),
    (agents(a={"weights": ":a"}), "agents.a.weights: must be RUN:agent, not ':a'"),
    # kinds
    (
        agents(a={"network": "torch.nn:Linear"}),
        "agents.a.network.kind: unknown kind 'torch.nn:Linear'; known: conv, gru, leaky, lstm, mlp, rnn",
    ),
    (
        channels({"coupling": "decupled"}),
        "channels[0].coupling: unknown coupling 'decupled'; did you mean 'decoupled'?",
    ),
    (
        channels({"gradient": "liner"}),
        "channels[0].gradient.kind: unknown kind 'liner'; did you mean 'linear'?",
    ),
    (agents(a={"network": 3}), "agents.a.network: must be a mapping of keys, not 3"),
    (agents(b={"objective": {"kind": "classification"}}), "agents.b.objective.target: is missing"),
    (
        agents(b={"objective": {"kind": "clasification", "target": "label"}}),
        "agents.b.objective.kind: unknown kind 'clasification'; did you mean 'classification'?",
    ),
    # names
    (
        document(scenario="my scenario"),
        "scenario: 'my scenario' is not a name; use letters, digits, '_' and '-'",
    ),
    (
        document(agents={"a__b": {"observes": ["image"], "objective": OBJECTIVE}}, channels=[]),
        "agents.a__b: 'a__b' is not a name; a double underscore is kept for tags",
    ),
    (document(agents={1: {}}), "agents.1: a name is a word, not 1; put it in quotes"),
    (channels({"to": 1}), "channels[0].to: a name is a word, not 1; put it in quotes"),
    (channels({"key": "a b"}), "channels[0].key: 'a b' is not a name; use letters, digits, '_' and '-'"),
    (channels({"key": -1}), "channels[0].key: must be at least 0, not -1"),
    (channels({"port": ""}), "channels[0].port: '' is not a name; use letters, digits, '_' and '-'"),
    (agents(a={"p_update": 0}), "agents.a.p_update: must be greater than 0, not 0.0"),
    (agents(a={"p_update": 1.1}), "agents.a.p_update: must be at most 1, not 1.1"),
    (document(training={"bound": 0}), "training.bound: must be greater than 0, not 0.0"),
    (
        document(training={"on_divergence": "ignore"}),
        "training.on_divergence: unknown on_divergence 'ignore'; known: quarantine, stop",
    ),
    (document(telemetry={"value": {"every": 0}}), "telemetry.value.every: must be at least 1, not 0"),
    # lists
    (
        agents(a={"observes": "image"}),
        "agents.a.observes: must be a list, not the word 'image'; write [image]",
    ),
    (agents(a={"observes": ["image", "image"]}), "agents.a.observes: names 'image' twice"),
    (agents(a={"observes": [""]}), "agents.a.observes[0]: must name a signal, not ''"),
    (
        agents(a={"network": {"hidden": 5}}),
        "agents.a.network.hidden: must be a list, not 5; write [5]",
    ),
    (agents(a={"network": {"hidden": [5, 0]}}), "agents.a.network.hidden[1]: must be at least 1, not 0"),
    (document(channels={"a": "b"}), "channels: must be a list, not {a: …}"),
    (document(agents=["a"]), "agents: must be a mapping of keys, not ['a']"),
    (document(agents={}, channels=[]), "agents: there is none; name at least one agent"),
    # numbers
    (document(training={"steps": 0}), "training.steps: must be at least 1, not 0"),
    (document(training={"steps": 10**30}), "training.steps: is too large: a number of 100 bits"),
    (document(training={"optimiser": {"lr": 0}}), "training.optimiser.lr: must be greater than 0, not 0.0"),
    (
        document(training={"optimiser": {"lr": float("inf")}}),
        "training.optimiser.lr: must be a finite number, not inf",
    ),
    (
        document(training={"optimiser": {"lr": "1e-3"}}),
        "training.optimiser.lr: must be a number, not the word '1e-3'",
    ),
    (channels({"size": "big"}), "channels[0].size: must be a whole number, not the word 'big'"),
    (channels({"size": 0}), "channels[0].size: must be at least 1, not 0"),
    (
        channels({"size": [1, 2]}),
        "channels[0].size: must be a whole number or [channels, height, width], not [1, 2]",
    ),
    (channels({"link": {"delay": -1}}), "channels[0].link.delay: must be at least 0, not -1"),
    (channels({"link": {"drop": 1.5}}), "channels[0].link.drop: must be at most 1, not 1.5"),
    (
        agents(a={"clock": {"unroll": "epsiode"}}),
        "agents.a.clock.unroll: must be a whole number of ticks or 'episode', not 'epsiode'",
    ),
    (agents(a={"clock": {"unroll": 0}}), "agents.a.clock.unroll: must be at least 1, not 0"),
    (
        agents(a={"clock": {"period": 4, "phase": 4}}),
        "agents.a.clock.phase: must be from -4 to 3 for period 4, not 4",
    ),
    (
        agents(a={"clock": {"period": 4, "phase": -5}}),
        "agents.a.clock.phase: must be from -4 to 3 for period 4, not -5",
    ),
    # schedules, gradients, networks
    (
        document(training={"optimiser": {"schedule": {"kind": "steps"}}}),
        "training.optimiser.schedule.at: a schedule of steps needs the fractions at which it steps",
    ),
    (
        document(training={"optimiser": {"schedule": {"kind": "steps", "at": [0.6, 0.4]}}}),
        "training.optimiser.schedule.at: must rise between 0 and 1, not [0.6, 0.4]",
    ),
    (
        channels({"gradient": {"kind": "mlp", "hidden": []}}),
        "channels[0].gradient.hidden: an mlp gradient has one or two hidden layers; or use kind linear",
    ),
    (
        channels({"gradient": {"kind": "mlp", "hidden": [1, 2, 3]}}),
        "channels[0].gradient.hidden: must be a list of at most 2, not [1, 2, 3]",
    ),
    (
        agents(a={"network": {"kind": "conv", "hidden": []}}),
        "agents.a.network.hidden: a conv network needs at least one layer of filters",
    ),
    (
        agents(a={"network": {"kind": "conv", "hidden": [8, 8], "pool": ["max"]}}),
        "agents.a.network.pool: has 1 entries for 2 hidden layers; give one for each",
    ),
    # the whole
    (
        agents(b={"objective": None}),
        "agents: none has an objective, so nothing would be learned; give one to an agent",
    ),
    (agents(c={}), "agents.c: observes nothing and no channel leads to it; give it one or the other"),
    (
        channels({"key": 1}, {}, {"key": 1}),
        "channels[2]: a->b:1 is already declared as channels[0]; give one of them another key",
    ),
    (channels({"port": "out"}), "channels[0].size: port 'out' needs a size"),
    (
        agents(a={"network": network}),
        "channels[0].size: agent 'a' has a network of its own; give a size",
    ),
    (
        agents(a={"network": {"hidden": []}}),
        "channels[0].size: agent 'a' has no hidden layer that could be carried; give a size",
    ),
    (
        channels({"port": "out", "size": 4}, {"key": 1, "port": "out", "size": 5}),
        "channels[1].size: 5 differs from channels[0].size, 4, on the same port 'out'; make them equal",
    ),
    (
        channels({"port": "out", "size": 4}, {"key": 1, "port": "out", "size": 4, "norm": "none"}),
        "channels[1].norm: 'none' differs from channels[0].norm, null, on the same port 'out'; make them equal",
    ),
    (
        document(
            agents={"a": {"observes": ["image"]}, "b": {"objective": OBJECTIVE, "fan_in": "sum"}},
            channels=[{"from": "a", "to": "b", "size": 4}, {"from": "a", "to": "b", "key": 1, "size": 5}],
        ),
        "agents.b.fan_in: sum needs messages of one size, but a->b has 4 and a->b:1 5",
    ),
    (
        agents(a={"share": "g"}, b={"share": "g", "network": {"hidden": [3]}}),
        "agents.b.network: differs from agent 'a', with which it shares parameters (share: g); make them equal",
    ),
    (
        agents(a={"share": "g"}, b={"share": "g", "p_update": 0.5}),
        "agents.b.p_update: differs from agent 'a', with which it shares parameters (share: g); make them equal",
    ),
    (
        agents(a={"share": "g"}, b={"share": "g", "clock": {"period": 2}}),
        "agents.b.clock: differs from agent 'a', with which it shares parameters (share: g); make them equal",
    ),
    (
        channels({}, {"from": "b", "to": "a"}),
        "channels: zero-delay cycle a -> b -> a; give one of these a link delay of 1 or more",
    ),
    (
        channels({}, {"from": "b", "to": "b"}),
        "channels: zero-delay cycle b -> b; give one of these a link delay of 1 or more",
    ),
    (
        {
            **agents(a={"clock": {"unroll": "episode"}}),
            "channels": [{"from": "a", "to": "b", "coupling": "locked"}],
        },
        "agents.b.clock.unroll: must be episode, as 'a' of the same locked group has it, not 1",
    ),
    (
        channels({"gradient": {"discount": 1.5}}, {"from": "b", "to": "a", "link": {"delay": 1}}),
        "channels[0].gradient.discount: must be at most 1 on a cycle, not 1.5",
    ),
]


@pytest.mark.parametrize(("data", "line"), REFUSED, ids=[line[:50] for _, line in REFUSED])
def test_refused(data: dict[str, Any], line: str) -> None:
    assert refused(data) == line


def test_a_window_that_is_too_long_is_refused_with_its_length() -> None:
    template = load("char-lm")
    assert template.resolve(values={"T": 1024}).agents["reader"].clock.unroll == 1024
    with pytest.raises(ScenarioError) as caught:
        template.resolve(values={"T": 1025})
    assert (
        "agents.reader.clock.unroll: a window of 1025 ticks is more than training.window_limit 1024; use"
        in str(caught.value)
    )
