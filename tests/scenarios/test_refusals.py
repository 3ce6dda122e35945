"""Every document that is refused, and the one line that says why."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario, load
from tests.scenarios.made import OBJECTIVE, agents, changed, channels, document, network, refused

CHANGED: list[tuple[str, Any, str]] = [
    # unknown keys and names
    ("agent", {}, ": unknown key 'agent'; did you mean 'agents'?"),
    ("agents.a.network.hiden", [1], ": unknown key 'hiden'; did you mean 'hidden'?"),
    ("channels[0].noise", 0.1, ": unknown key 'noise'; known: carries, coupling, feedback, from, gradient,"),
    ("channels[0].to", "B", ": no agent 'B'; known: a, b"),
    ("readout", "bb", ": no agent 'bb'; did you mean 'b'?"),
    ("readout", "a", ": agent 'a' has no objective to be read; give it one"),
    ("readout", ["b", "b"], ": names 'b' twice"),
    ("agents.b.align", "b->a", ": no channel 'b->a' leads to this agent; known: a->b"),
    ("agents.a.align", True, ": no channel leads to this agent; leave it out"),
    # kinds
    ("agents.a.network", "torch.nn:Linear", ".kind: unknown kind 'torch.nn:Linear'; known: conv, gru,"),
    ("channels[0].coupling", "decupled", ": unknown coupling 'decupled'; did you mean 'decoupled'?"),
    ("channels[0].gradient", "liner", ".kind: unknown kind 'liner'; did you mean 'linear'?"),
    ("agents.b.objective", {"kind": "classification"}, ".target: is missing"),
    # names
    ("scenario", "my scenario", ": 'my scenario' is not a name; use letters, digits, '_' and '-'"),
    ("agents", {1: {}}, ".1: a name is a word, not 1; put it in quotes"),
    ("channels[0].to", 1, ": a name is a word, not 1; put it in quotes"),
    ("channels[0].key", "a b", ": 'a b' is not a name; use letters, digits, '_' and '-'"),
    ("agents.a.p_update", 0, ": must be greater than 0, not 0.0"),
    ("training.bound", 0, ": must be greater than 0, not 0.0"),
    # lists
    ("agents.a.observes", "image", ": must be a list, not the word 'image'; write [image]"),
    ("agents.a.observes", ["image", "image"], ": names 'image' twice"),
    ("agents.a.observes", [""], "[0]: must name a signal, not ''"),
    ("agents.a.network.hidden", [5, 0], "[1]: must be at least 1, not 0"),
    ("channels", {"a": "b"}, ": must be a list, not {a: …}"),
    # numbers
    ("training.steps", 0, ": must be at least 1, not 0"),
    ("training.steps", 10**30, ": is too large: a number of 100 bits"),
    ("training.optimiser.lr", float("inf"), ": must be a finite number, not inf"),
    ("training.optimiser.lr", "1e-3", ": must be a number, not the word '1e-3'"),
    ("channels[0].size", "big", ": must be a whole number, not the word 'big'"),
    ("channels[0].size", [1, 2, 3, 4, 5], ": must be a whole number, or up to four of them, such as"),
    ("agents.a.clock.unroll", "epsiode", ": must be a whole number of ticks or 'episode', not 'epsiode'"),
    ("agents.a.clock", {"period": 4, "phase": 4}, ".phase: must be from -4 to 3 for period 4, not 4"),
    # schedules, gradients, networks
    (
        "training.optimiser.schedule",
        {"kind": "steps", "at": [0.6, 0.4]},
        ".at: must rise between 0 and 1, not [0.6, 0.4]",
    ),
    ("channels[0].gradient", {"kind": "mlp", "hidden": []}, ".hidden: an mlp gradient has one or two"),
    ("agents.a.network", {"kind": "conv", "hidden": []}, ".hidden: a conv network needs at least one layer"),
    (
        "agents.a.network",
        {"kind": "conv", "hidden": [8, 8], "pool": ["max"]},
        ".pool: has 1 entries for 2 hidden layers; give one for each",
    ),
    # environments
    ("env", {"id": "x", "f": network}, ".f: must be plain data (numbers, words, lists), not a Python"),
    ("env", {"id": "x", "f": [float("nan")]}, ".f[0]: must be a number, not nan"),
    ("env", {"id": "x", "f": "$data"}, ".f: '$' begins a template's parameter, which '$data' is not"),
    ("env", {"id": "x", "f": {1: 2}}, ".f: 1 is not a key; keys are words"),
    ("env", {}, ".id: is missing; give id, gymnasium or pettingzoo"),
    ("env", {"id": "x", "pettingzoo": "y"}, ".pettingzoo: the environment has the name id already"),
    ("env", "antiphon/Digits-v0", ": must be a mapping of keys, not the word 'antiphon/Digits-v0'"),
    # the whole
    ("agents.a.clock.period", True, ": must be a whole number, not true"),
    ("agents.a.clock.period", 2.0, ": must be a whole number, not 2.0"),
    ("agents.a.learn", "no", ": must be true or false, not the word 'no'"),
    ("agents.c", {}, ": observes nothing and no channel leads to it; give it one or the other"),
]
"""A place, a value for it, and how the line goes on after the place."""

REFUSED: list[tuple[dict[str, Any], str]] = [
    (channels({}, {"from": "aa", "key": 1}), "channels[1].from: no agent 'aa'; did you mean 'a'?"),
    # names
    (
        document(agents={"a__b": {"observes": ["image"], "objective": OBJECTIVE}}, channels=[]),
        "agents.a__b: 'a__b' is not a name; a double underscore is kept for tags",
    ),
    # lists
    (document(agents={}, channels=[]), "agents: there is none; name at least one agent"),
    # schedules, gradients, networks
    (
        document(training={"optimiser": {"schedule": {"kind": "steps"}}}),
        "training.optimiser.schedule.at: a schedule of steps needs the fractions at which it steps",
    ),
    # the whole
    (agents(b={"objective": None}), "agents: none has an objective, so nothing would be learned; give one"),
    (channels({"key": 1}, {}, {"key": 1}), "channels[2]: a->b:1 is already declared as channels[0]; give"),
    (channels({"port": "out"}), "channels[0].size: port 'out' needs a size"),
    (agents(a={"network": network}), "channels[0].size: agent 'a' has a network of its own; give a size"),
    (agents(a={"network": {"hidden": []}}), "channels[0].size: agent 'a' has no hidden layer that could be"),
    (
        channels({"port": "out", "size": 4}, {"key": 1, "port": "out", "size": 5}),
        "channels[1].size: 5 differs from channels[0].size, 4, on the same port 'out'; make them equal",
    ),
    (
        channels({"port": "out", "size": 4}, {"key": 1, "port": "out", "size": 4, "norm": "none"}),
        "channels[1].norm: 'none' differs from channels[0].norm, null, on the same port 'out'; make them",
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
        "agents.b.network: differs from agent 'a', with which it shares parameters (share: g); make them",
    ),
    (agents(a={"share": "g"}, b={"share": "g", "p_update": 0.5}), "agents.b.p_update: differs from agent"),
    (
        agents(a={"share": "g"}, b={"share": "g", "clock": {"period": 2}}),
        "agents.b.clock: differs from agent 'a', with which it shares parameters (share: g); make them equal",
    ),
    (channels({}, {"from": "b", "to": "a"}), "channels: zero-delay cycle a -> b -> a; give one of these a"),
    (channels({}, {"from": "b", "to": "b"}), "channels: zero-delay cycle b -> b; give one of these a link"),
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


@pytest.mark.parametrize(("place", "value", "line"), CHANGED)
def test_a_value_that_is_refused(place: str, value: Any, line: str) -> None:
    assert refused(changed(document(), place, value)).startswith(place + line)


@pytest.mark.parametrize(("data", "line"), REFUSED, ids=[line[:50] for _, line in REFUSED])
def test_refused(data: dict[str, Any], line: str) -> None:
    assert refused(data).startswith(line)


def test_another_length_of_training_is_checked_too() -> None:
    scenario = Scenario.model_validate(document(training={"batch": 8}))
    assert (scenario.with_training(steps=50).training.steps, scenario.training.batch) == (50, 8)
    with pytest.raises(ScenarioError, match=r"^training\.steps: must be at least 1, not 0$"):
        scenario.with_training(steps=0)


def test_a_locked_group_of_large_coprime_periods_is_refused() -> None:
    clocks = {name: {"clock": {"period": period}} for name, period in (("a", 997), ("b", 991))}
    Scenario.model_validate(agents(**clocks))
    line = refused({**agents(**clocks), "channels": [{"from": "a", "to": "b", "coupling": "locked"}]})
    assert line.startswith("agents: the locked group a, b would learn every 988027 steps, more than")


def test_a_window_that_is_too_long_is_refused_with_its_length() -> None:
    template = load("char-lm")
    assert template.resolve(values={"T": 1024}).agents["reader"].clock.unroll == 1024
    with pytest.raises(ScenarioError) as caught:
        template.resolve(values={"T": 1025})
    assert (
        "agents.reader.clock.unroll: a window of 1025 ticks is more than training.window_limit 1024; use"
        in str(caught.value)
    )
