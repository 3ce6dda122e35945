"""Every document that is refused, and the one line that says why."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from antiphon.base.errors import ScenarioError
from antiphon.scenarios import Scenario
from antiphon.scenarios.checks import OF_AGENTS, OF_CHANNELS, OF_SEVERAL
from tests.scenarios.made import (
    OBJECTIVE,
    agents,
    built,
    changed,
    channels,
    document,
    network,
    recurrent,
    refused,
    state,
)

WORDS: dict[str, Any] = {"sample": {"kind": "gumbel", "vocabulary": 8, "size": 2}}
NO_STATE = "use kind rnn, leaky, gru or lstm, or another key"
CHANGED: list[tuple[str, Any, str]] = [
    # unknown keys and names
    ("agent", {}, ": unknown key 'agent'; did you mean 'agents'?"),
    ("agents.a.network.hiden", [1], ": unknown key 'hiden'; did you mean 'hidden'?"),
    ("channels[0].to", "B", ": no agent 'B'; known: a, b"),
    ("readout", "a", ": agent 'a' has no objective; give it one"),
    ("agents.b.align", "b->a", ": no channel 'b->a' leads to this agent; known: a->b"),
    (
        "env",
        "antiphon/Digit-v0",
        ".id: no environment 'antiphon/Digit-v0'; did you mean 'antiphon/Digits-v0'?",
    ),
    # kinds
    ("channels[0].coupling", "decupled", ".kind: unknown kind 'decupled'; did you mean 'decoupled'?"),
    ("channels[0].gradient", "liner", ".kind: unknown kind 'liner'; did you mean 'linear'?"),
    (
        "agents.b.objective",
        {"kind": "classification"},
        ".target: is missing; the objective classification needs it",
    ),
    # names
    ("scenario", "my scenario", ": 'my scenario' is not a name; use letters, digits, '_' and '-'"),
    ("channels[0].to", 1, ": a name is a word, not 1; put it in quotes"),
    ("agents.a.learn", 0, ": must be true, false or a probability above 0 and at most 1, not 0"),
    # lists
    ("channels", [{"from": "a"}], "[0].to: is missing"),
    ("agents.a.clock", 3, ": must be a mapping of keys, not 3"),
    ("agents.a.observes", "image", ": must be a list, not the word 'image'; write [image]"),
    ("agents.a.observes", ["image", "image"], ": names 'image' twice"),
    ("agents.a.network.hidden", [5, 0], "[1]: must be at least 1, not 0"),
    # numbers
    ("training.steps", 0, ": must be at least 1, not 0"),
    ("training.optimiser.lr", "1e-3", ": must be a number, not the word '1e-3'"),
    ("channels[0].size", "big", ": must be a whole number from 1, or up to four"),
    ("agents.a.clock", {"period": 4, "phase": 4}, ".phase: must be from -4 to 3 for period 4, not 4"),
    # schedules, networks, objectives
    (
        "training.optimiser.schedule",
        {"kind": "steps", "at": [0.6, 0.4]},
        ".at: must rise between 0 and 1, not [0.6, 0.4]",
    ),
    (
        "agents.a.network",
        {"kind": "conv", "hidden": [8, 8], "pool": ["max"]},
        ".pool: has 1 entries for 2 hidden layers; give one for each",
    ),
    ("agents.a.objective", [OBJECTIVE, {"kind": "ppo"}], "[1].kind: of several objectives none is a policy"),
    # environments
    ("env", {"id": "x", "f": network}, ".f: must be plain data (numbers, words, lists), not a Python"),
    ("env", {"id": "x", "f": "$data"}, ".f: '$data': '$' is reserved for template parameters"),
    ("env", {}, ".id: is missing"),
]
"""A place, a value for it, and how the line goes on after the place."""


def chain(*channels: dict[str, Any], **agents: dict[str, Any]) -> dict[str, Any]:
    """A document a -> b -> c, its channels a -> b and b -> c (or between the ends they give) with keys added."""
    plain: dict[str, Any] = {"a": {"observes": ["image"]}, "b": {}, "c": {"objective": OBJECTIVE}}
    ends = [{"from": "a", "to": "b"}, {"from": "b", "to": "c"}, *[{} for _ in channels[2:]]]
    return built(plain, agents, [{**e, **c} for e, c in zip(ends, (*channels, {}, {}), strict=False)])


def slow(channel: dict[str, Any], **agents: dict[str, Any]) -> dict[str, Any]:
    """A document a -> b, b at a quarter of the rate."""
    plain: dict[str, Any] = {
        "a": {"observes": ["image"]},
        "b": {"clock": {"period": 4, "phase": -1}, "objective": OBJECTIVE},
    }
    return built(plain, agents, [{"from": "a", "to": "b", **channel}])


def with_message(gradient: dict[str, Any], **agents: dict[str, Any]) -> dict[str, Any]:
    data = recurrent(**agents)
    data["channels"][0]["gradient"] = gradient
    return data


def alone(**network: Any) -> dict[str, Any]:
    """A document of an agent with a network."""
    return agents(a={"network": network})


TIE = ["a.0.weight", "b.0.weight"]


def tied(*groups: list[str], **changes: dict[str, Any]) -> dict[str, Any]:
    """A small document with ties, and other keys of its agents."""
    return agents(**changes) | {"share": list(groups)}


def locked_to_a_policy(document: dict[str, Any]) -> dict[str, Any]:
    """A document in which agent `a` learns as one with an actor `m`."""
    motor = {"acts": True, "objective": {"kind": "ppo"}}
    locked = {"from": "a", "to": "m", "size": 2, "coupling": "locked"}
    return document | {
        "agents": {**document["agents"], "m": motor},
        "channels": [*document["channels"], locked],
    }


REFUSED: list[tuple[dict[str, Any], str]] = [
    (channels({}, {"from": "aa", "key": 1}), "channels[1].from: no agent 'aa'; did you mean 'a'?"),
    # names
    (
        document(agents={"a__b": {"observes": ["image"], "objective": OBJECTIVE}}, channels=[]),
        "agents.a__b: 'a__b' is not a name; a double underscore is kept for tags",
    ),
    # schedules, gradients, networks
    (
        document(training={"optimiser": {"schedule": {"kind": "steps"}}}),
        "training.optimiser.schedule.at: is missing",
    ),
    # the whole
    (agents(b={"objective": None}), "agents: no agent has an objective, so nothing would be learned; add"),
    (channels({"key": 1}, {}, {"key": 1}), "channels[2]: a->b:1 is already declared as channels[0]; give"),
    (channels({"port": "out"}), "channels[0].size: port 'out' needs a size"),
    (agents(a={"network": network}), "channels[0].size: agent 'a' has a user-defined network; give a size"),
    (agents(a={"network": {"hidden": []}}), "channels[0].size: agent 'a' has no hidden layer to send; give"),
    (
        channels({"port": "out", "size": 4}, {"key": 1, "port": "out", "size": 5}),
        "channels[1].size: 5 differs from channels[0].size, 4, on the same port 'out'; make them equal",
    ),
    (
        channels({"port": "out", "size": 4}, {"key": 1, "port": "out", "size": 4, "norm": "none"}),
        "channels[1].norm: 'none' differs from channels[0].norm, null, on the same port 'out'; make them",
    ),
    (
        agents(a={"share": "g"}, b={"share": "g", "network": {"hidden": [3]}}),
        "agents.b.network: differs from agent 'a', with which it shares parameters (share: g); make them",
    ),
    (agents(a={"share": "g"}, b={"share": "g", "learn": 0.5}), "agents.b.learn: differs from agent"),
    (
        agents(a={"share": "b"}),
        "agents.a.share: 'b' is the name of an agent outside the group",
    ),
    (
        agents(a={"share": "g"}, b={"share": "g", "clock": {"period": 2}}),
        "agents.b.clock: differs from agent 'a', with which it shares parameters (share: g); make them equal",
    ),
    (
        channels({}, {"from": "b", "to": "a"}),
        "channels[0]: zero-delay cycle a -> b -> a; give one of these a",
    ),
    (
        channels({}, {"from": "b", "to": "b"}),
        "channels[1]: zero-delay cycle b -> b; give one of these a link",
    ),
    (
        channels({"gradient": {"discount": 1.5}}, {"from": "b", "to": "a", "link": {"delay": 1}}),
        "channels[0].gradient.discount: must be at most 1, not 1.5",
    ),
    # couplings
    (chain({"coupling": "locked", "link": {"drop": 0.5}}), "channels[0].link.drop: must be 0 on a locked"),
    (chain({}, {"coupling": "unlocked"}), "channels[1].input: must be given where the coupling is unlocked"),
    (
        chain({"gradient": {"kind": "local"}}),
        "channels[0].gradient.target: is missing",
    ),
    # contexts
    (chain({"input": {"context": ["image", "returned"]}}), "channels[0].input.context[1]: 'returned' is"),
    (chain({"gradient": {"context": ["held"]}}), "channels[0].gradient.context[0]: 'held' is for synthetic"),
    # synthetic inputs
    (
        chain({"input": {"kind": "mlp", "hidden": []}}),
        "channels[0].input.hidden: must be a list of at least 1",
    ),
    # several messages, the way back, ages, actors
    *(
        (slow({"read": "concat", **channel}, **ends), "channels[0].read: concat needs a channel that loses")
        for channel, ends in (
            ({"coupling": "unlocked", "input": "linear"}, {}),
            ({"link": {"drop": 0.2}}, {}),
            ({"input": "linear"}, {}),
            ({}, {"b": {"align": True}}),
            ({}, {"a": {"clock": {"period": 3}}}),
        )
    ),
    (
        slow({"link": {"delay": [0, -1]}}),
        "channels[0].link.delay: must be a whole number of steps from 0 to 1024, [there, back] or auto, not [0, -1]",
    ),
    (slow({}, a={"acts": True}), "agents.a.acts: the action is the output for one objective"),
    (
        slow({}, a={"acts": True, "objective": [OBJECTIVE, OBJECTIVE]}),
        "agents.a.acts: the action is the output for one objective",
    ),
    (
        slow({}, a={"acts": True, "objective": OBJECTIVE}, b={"acts": True}),
        (
            "agents.b.acts: 'a' already acts, and the environment takes the action of one agent; leave it out, or"
        ),
    ),
    # states
    # ends and agents
    (recurrent(state(to="b")), "channels[1].to: a state goes from an agent to itself, not from 'a' to 'b';"),
    (
        recurrent(state(), a={"network": "mlp"}),
        f"channels[1].key: agent 'a' has no state: its network is not recurrent, or has no state_size; {NO_STATE}",
    ),
    (recurrent(state(), state(coupling="detached")), "channels[2]: a->a:state is already declared as"),
    # what a state cannot have
    *(
        (recurrent(state(**{key: value})), f"channels[1].{key}: a state channel has no {key}; leave it out")
        for key, value in {
            "size": 3,
            "port": "p",
            "norm": "layer",
            "link": {"delay": 1},
            "input": "linear",
            "read": "concat",
            "horizon": 3,
        }.items()
    ),
    *(
        (
            recurrent(state(coupling=coupling)),
            (
                f"channels[1].coupling: a state channel cannot be {coupling}; "
                "use one of locked, detached, decoupled"
            ),
        )
        for coupling in ("delayed", "unlocked")
    ),
    # what only a state can have
    (with_message({"auxiliary": 2}), "channels[0].gradient.auxiliary: is for state channels only; leave it"),
    # contexts
    (
        with_message({"context": ["label", "from.state"]}, a={"network": "mlp"}),
        "channels[0].gradient.context[1]: 'from.state' is the state of",
    ),
    (
        recurrent(state(gradient={"context": ["from.state"]})),
        "channels[1].gradient.context[0]: 'from.state' is",
    ),
    # ties
    (
        recurrent(state(), a={"share": "g"}, b={"share": "g", "network": "lstm"}),
        ("agents.b: has another state channel than agent 'a', with which it shares parameters"),
    ),
    # symbols and samples
    *(
        (
            channels({**WORDS, "size": size}),
            "channels[0].size: symbols have vocabulary * size = 8 * 2 components, not",
        )
        for size in (12, [8, 2], 8)
    ),
    (
        channels({"sample": {"kind": "reinforce", "vocabulary": 4, "temperature": 0.5}}),
        "channels[0].sample.temperature: reinforce has no temperature; leave it out, or use argmax, gumbel",
    ),
    (
        channels({"sample": {"kind": "reinforce", "vocabulary": 4}, "coupling": "locked"}),
        ("channels[0].coupling: the sender's policy objective learns messages of kind reinforce,"),
    ),
    (
        channels({"size": 4, "sample": {"kind": "gaussian", "noise": 0.1}, "coupling": "decoupled"}),
        (
            "channels[0].coupling: the sender's policy objective learns messages of kind gaussian, and no gradient"
        ),
    ),
    # ties
    (tied(["a", "b.0.weight"]), "share[0][0]: must be AGENT.PARAMETER such as 'part0.module.weight',"),
    (tied(["a.0.bias", "b.0.bias", "a.0.bias"]), "share[0][2]: 'a.0.bias' is in two places"),
    *(
        (document, f"agents.{name}: has parameters tied to those of 'a': such agents need the same")
        for name, document in (
            ("b", tied(TIE, b={"optimiser": {"lr": 0.5}})),
            ("a", tied(TIE, a={"share": "g"})),
            ("a", tied(TIE) | {"training": {"optimiser": {"clip": 1.0}}}),
            ("a", tied(TIE, a={"acts": True, "objective": {"kind": "ppo"}, "clock": {"unroll": 4}})),
            ("a", locked_to_a_policy(tied(TIE))),
            ("b", tied(TIE, a={"clock": {"unroll": 2}})),
            ("a", tied(TIE) | {"channels": [{"from": "a", "to": "b", "coupling": "delayed"}]}),
        )
    ),
    # networks
    (alone(kind="lstm", size=0), "agents.a.network.size: must be at least 1, not 0"),
    (alone(kind="leaky", rate=0), "agents.a.network.rate: must be greater than 0, not 0"),
    (alone(kind="gru", cell_norm="group"), "agents.a.network.cell_norm: unknown cell_norm 'group'; known:"),
]

ACCEPTED = [
    chain({"coupling": "locked", "link": {"noise": 0.1, "bits": 4, "delay": 1}}),
    chain({"coupling": "detached", "gradient": "conv"}),
    chain({"gradient": "conv"}, {"gradient": "conv"}, a={"network": "conv"}, b={"network": "conv"}),
    chain(
        {"coupling": "delayed"},
        {"coupling": "locked"},
        {"from": "a", "to": "c", "coupling": "detached"},
    ),
    *(
        slow({"read": "concat", "coupling": coupling})
        for coupling in ("locked", "delayed", "detached", "decoupled")
    ),
    slow({"read": "concat"}, a={"clock": {"period": 2, "phase": -1}}),
    slow({"read": "concat", "input": "none", "link": {"delay": [3, 0], "noise": 0.1, "bits": 3}}),
    slow({}, b={"observes": ["age"], "acts": True, "objective": {"kind": "coding", "target": "label"}}),
    tied(TIE, ["a.0.bias", "b.0.bias"], a={"optimiser": {"lr": 0.5}}, b={"optimiser": {"lr": 0.5}}),
    tied(TIE, ["a.0.bias", "b.0.bias"], a={"clock": {"unroll": 2}}, b={"clock": {"period": 2, "phase": 1}}),
    tied(
        TIE, ["a.0.bias", "b.0.bias"], a={"clock": {"unroll": "episode"}}, b={"clock": {"unroll": "episode"}}
    ),
]


@pytest.mark.parametrize(("place", "value", "line"), CHANGED)
def test_a_value_that_is_refused(place: str, value: Any, line: str) -> None:
    assert refused(changed(document(), place, value)).startswith(place + line)


@pytest.mark.parametrize(("data", "line"), REFUSED, ids=[line[:50] for _, line in REFUSED])
def test_refused(data: dict[str, Any], line: str) -> None:
    assert refused(data).startswith(line)


@pytest.mark.parametrize("data", ACCEPTED)
def test_accepted(data: dict[str, Any]) -> None:
    scenario = Scenario.model_validate(data)
    assert Scenario.from_yaml(scenario.to_yaml()) == scenario
    assert Scenario.from_graph(scenario.to_graph()) == scenario


def test_every_check_names_a_rule_that_there_is() -> None:
    rules = (Path(__file__).parents[2] / "docs/semantics.md").read_text(encoding="utf-8")
    for check in (*OF_AGENTS, *OF_CHANNELS, *OF_SEVERAL):
        named = re.match(r"rule_([0-9]+[a-c]?)_", check.__name__)
        assert named is not None, check
        assert re.search(rf"^ *(- )?{named[1]}\. ", rules, re.MULTILINE), check


def test_another_length_of_training_is_checked_too() -> None:
    scenario = Scenario.model_validate(document(training={"batch": 8}))
    assert (scenario.with_training(steps=50).training.steps, scenario.training.batch) == (50, 8)
    with pytest.raises(ScenarioError, match=r"^training\.steps: must be at least 1, not 0$"):
        scenario.with_training(steps=0)
