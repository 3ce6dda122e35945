"""Similarity: which agents and channels are stacked, and why others are not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from antiphon.engine.build.stacking import (
    agent_kind,
    aligned_kind,
    channel_kind,
    place_of,
    reasons_alone,
    stacks_of,
)
from tests.contracts.builders import GOAL, LABEL, OWN, Document, Play, document, levels, ring
from tests.engine.scenes import LSTM, Sights, gradient, states
from tests.engine.stacks import channel_stacks, stacked_names, stacked_system, stacks, system_of

SOURCE: Document = {**OWN}
INPUT: Document = {"kind": "linear", "context": ["x"]}


def pairs_of(channels: list[Document], agents: list[Document], **training: Any) -> Document:
    """Senders a0, a1, … that each send to a receiver b0, b1, …, whose settings are given one by one."""
    count = max(len(channels), len(agents))
    names = range(count)
    cast = {f"a{i}": dict(SOURCE) for i in names}
    cast |= {f"b{i}": {**OWN, "objective": LABEL, **agents[i % len(agents)]} for i in names}
    found = [
        {"from": f"a{i}", "to": f"b{i}", "size": 4, **gradient(), **channels[i % len(channels)]}
        for i in names
    ]
    return document(cast, found, **training)


UNLIKE_AGENTS: dict[str, Document] = {
    "period": {"clock": {"period": 2}},
    "phase": {"clock": {"period": 1, "unroll": 2}},
    "width": {"network": {"kind": "mlp", "hidden": [5], "norm": "layer"}},
    "depth": {"network": {"kind": "mlp", "hidden": [4, 4], "norm": "layer"}},
    "norm": {"network": {"kind": "mlp", "hidden": [4], "norm": "none"}},
    "activation": {"network": {"kind": "mlp", "hidden": [4], "norm": "layer", "activation": "tanh"}},
    "network": {"network": {"kind": "gru", "size": 4}},
    "what it sees": {"observes": ["y"]},
    "how much it sees": {"observes": ["x", "y"]},
    "in which order": {"observes": ["y", "x"]},
    "fan-in": {"fan_in": "sum"},
    "objective": {"objective": {**LABEL, "kind": "coding"}},
    "target": {"objective": GOAL},
    "weight": {"objective": {**LABEL, "weight": 0.5}},
    "draws": {"p_update": 0.5},
    "frozen": {"learn": False},
    "optimiser": {"optimiser": {"kind": "sgd", "lr": 0.1}},
    "rate": {"optimiser": {"kind": "adam", "lr": 0.5}},
    "schedule": {"optimiser": {"kind": "adam", "lr": 1e-3, "schedule": {"kind": "cosine"}}},
    "betas": {"optimiser": {"kind": "adam", "lr": 1e-3, "betas": [0.5, 0.9]}},
    "decay": {"optimiser": {"kind": "adam", "lr": 1e-3, "weight_decay": 0.1}},
    "clip": {"optimiser": {"kind": "adam", "lr": 1e-3, "clip": 1.0}},
    "align": {"align": True},
    "ages": {"observes": ["age"], "network": {"kind": "mlp", "hidden": [4], "norm": "layer"}},
}
UNLIKE_CHANNELS: dict[str, Document] = {
    "coupling": {"coupling": "detached"},
    "delay": {"link": {"delay": 1}},
    "drop": {"link": {"drop": 0.1}},
    "noise": {"link": {"noise": 0.1}},
    "bits": {"link": {"bits": 3}},
    "rate": {"link": {"rate": 0.5}},
    "way back": {"link": {"back": 2}},
    "size": {"size": [2, 2, 1]},
    "read": {"read": "mean"},
    "input": {"input": INPUT},
    "unlocked": {"coupling": "unlocked", "input": INPUT},
    "kind of gradient": gradient(kind="mlp", hidden=[4], norm="layer"),
    "context": gradient(context=["goal"]),
    "contexts in another order": gradient(context=["goal", "label"]),
    "context of an end": gradient(context=["label", "returned"]),
    "own target": gradient(kind="local", target="label", context=[]),
    "scale": gradient(scale=0.5),
    "discount": gradient(discount=0.5),
    "gradient's clip": gradient(clip=0.5),
    "shadow": gradient(apply=False),
    "gradient's schedule": gradient(schedule={"kind": "cosine"}),
    "predictor's rate": gradient(optimiser={"kind": "adam", "lr": 0.5}),
    "trace": gradient(trace=0.5),
}


@pytest.mark.parametrize("name", UNLIKE_AGENTS)
def test_an_agent_that_differs_in_one_thing_is_not_stacked(name: str) -> None:
    found = stacked_names(pairs_of([{}], [{}, UNLIKE_AGENTS[name], {}]))
    assert ("b0", "b2") in found
    assert ("b0", "b1", "b2") in stacked_names(pairs_of([{}], [{}, {}, {}]))


@pytest.mark.parametrize("name", UNLIKE_CHANNELS)
def test_a_channel_that_differs_in_one_thing_is_in_no_stack_with_the_others(name: str) -> None:
    found = stacked_system(pairs_of([{}, UNLIKE_CHANNELS[name], {}], [{}]))
    kinds = [channel_kind(found.base, channel) for channel in found.base.channels.values()]
    assert kinds[0] == kinds[2] != kinds[1]
    names_of_stacks = [tuple(channel.name for channel in one.members) for one in channel_stacks(found)]
    assert not any("a1->b1" in names and len(names) > 1 for names in names_of_stacks)


@pytest.mark.parametrize("name", ["noise", "way back", "kind of gradient", "scale", "own target"])
def test_how_messages_come_about_does_not_separate_their_receivers(name: str) -> None:
    assert ("b0", "b1", "b2") in stacked_names(pairs_of([{}, UNLIKE_CHANNELS[name], {}], [{}]))


@pytest.mark.parametrize("name", ["size", "read"])
def test_how_messages_are_read_separates_their_receivers(name: str) -> None:
    clock: Document = {"clock": {"period": 2}}
    assert ("b0", "b2") in stacked_names(pairs_of([{}, UNLIKE_CHANNELS[name], {}], [clock]))


def test_what_makes_no_difference() -> None:
    """Names, seeds, initial parameters, which signals of one shape they observe, their receivers, ports and keys."""
    agents = {f"n{i}": {**OWN, "objective": LABEL, "observes": ["xz"[i % 2]]} for i in range(3)}
    link = {"size": 4, "link": {"delay": 1}, **gradient()}
    channels = [
        {"from": "n0", "to": "n1", **link},
        {"from": "n1", "to": "n2", "port": "p", **link},
        {"from": "n2", "to": "n0", "key": "k", **link},
    ]
    scene = document(agents, channels, Sights())
    assert stacked_names(scene) == [("n0", "n1", "n2")]
    system = system_of(scene)
    assert len({agent_kind(system, agent, 0) for agent in system.agents.values()}) == 1
    assert len({channel_kind(system, channel) for channel in system.channels.values()}) == 1


def test_an_agent_that_ticks_in_another_wave_is_not_stacked() -> None:
    """a1 reads a message of the same step, a2 one of the step before: alike but for the order of a step."""
    pairs = {("s", "a1"): 0, ("s", "a2"): 1, ("s", "a3"): 1, ("s", "a4"): 0}
    agents = {"s": dict(OWN), **{to: {**OWN, "objective": LABEL} for _, to in pairs}}
    channels = [
        {"from": s, "to": to, "size": 4, "port": "p", "link": {"delay": delay}}
        for (s, to), delay in pairs.items()
    ]
    assert stacked_names(document(agents, channels)) == [("a1", "a4"), ("a2", "a3")]

    # x and y differ in nothing but that x's sender reads a message of the same step, so that x is later.
    agents = {name: {**OWN, "objective": LABEL} for name in ("s", "t", "u", "x", "y")}
    found = stacked_system(document(agents, [{"from": a, "to": b, "size": 4} for a, b in ("st", "tx", "uy")]))
    assert len({agent_kind(found.base, found.base.agents[name], 0) for name in "xy"}) == 1
    assert found.place["x"][0] != found.place["y"][0]


# --- reasons ---------------------------------------------------------------------------------------------


def dropping(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.Dropout(0.5))


def plain(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 5), nn.Tanh(), nn.Linear(5, outputs))


class Inspection(nn.Module):
    """Looks at its numbers, which vmap refuses."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.map = nn.Linear(inputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.map(x)
        return y if float(y.sum().detach()) > 0 else -y


FEEDBACK: Document = {"coupling": "locked", "feedback": {"kind": "dfa", "of": "b0"}}
CRITIC = gradient(kind="critic", hidden=[4], norm="layer")
ALIGNED: Document = {"align": True, "observes": ["x"]}
TRACED = gradient(trace=0.5, span=2)


def judged_group() -> Document:
    """Receivers of critics that are locked to one more agent each."""
    scene = levels(channel=CRITIC)
    scene["agents"] |= {f"c{i}": {**OWN, "objective": LABEL} for i in range(3)}
    scene["channels"] += [{"from": f"b{i}", "to": f"c{i}", "coupling": "locked"} for i in range(3)]
    return scene


ALONE: dict[str, tuple[Document, str, str]] = {
    "tied": (ring(agent={"share": "g"}, channel={"port": "p"}), "n0", "tied"),
    "late": (ring(channel={"coupling": "delayed"}), "n0", "delayed gradients"),
    "acting": (ring(agent=[{"objective": GOAL, "acts": True}, *[{"objective": GOAL}] * 3]), "n0", "acts"),
    "aligned, lossy": (levels(high=ALIGNED, channel={"link": {"drop": 0.5}}), "b0", "whichever message"),
    "aligned, remembered": (
        levels(high=ALIGNED, channel={"input": {"kind": "linear", "context": ["held"]}}),
        "b0",
        "whichever message",
    ),
    "ages": (levels(high={"observes": ["age"], "fan_in": "sum"}), "b0", "ages"),
    "feedback alignment": (levels(channel={"coupling": "locked", "feedback": "fa"}), "a0", "fixed weights"),
    "direct feedback": (levels(channel=FEEDBACK, wide=True), "b0", "fixed weights"),
    "critics of groups": (judged_group(), "b0", "critics"),
    "traced and drawn": (
        ring(agent={**LSTM, "p_update": 0.5}, state=TRACED),
        "n0",
        "returns",
    ),
    "dropout": (ring(agent={"network": dropping}), "n0", "dropping"),
    "no vmap": (ring(agent={"network": Inspection}), "n0", ""),
}


@pytest.mark.parametrize("name", ALONE)
def test_why_an_agent_is_alone(name: str) -> None:
    scene, agent, why = ALONE[name]
    found = stacked_system(scene)
    assert found.place[agent] == (agent, 0)
    assert agent not in {member for cohort in stacks(found) for member in cohort.names}
    assert reasons_alone(found.base)[agent] == found.alone[agent]
    assert found.alone[agent]
    if name != "dropout":
        assert why in found.alone[agent]


@pytest.mark.parametrize(
    "name", ["acting", "aligned, lossy", "ages", "critics of groups", "traced and drawn"]
)
def test_the_reason_is_needed(name: str) -> None:
    """Without what is named, the same agents are a stack."""
    mended = {
        "acting": ring(agent={"objective": GOAL}),
        "aligned, lossy": levels(high=ALIGNED, channel={"link": {"delay": 1}}),
        "ages": levels(high={"observes": ["age"]}),
        "critics of groups": levels(channel=CRITIC),
        "traced and drawn": ring(agent={**LSTM, "p_update": 0.5}, state=gradient(span=1)),
    }
    agent = ALONE[name][1]
    assert any(agent in names for names in stacked_names(mended[name]))


def test_modules_that_vmap_takes_are_stacked() -> None:
    assert stacked_names(ring(agent={"network": plain})) == [("n0", "n1", "n2", "n3")]


def test_modules_made_otherwise_are_not_alike() -> None:
    def wide(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(inputs, 6), nn.Tanh(), nn.Linear(6, outputs))

    assert stacked_names(ring(agent=[{"network": plain}, {"network": wide}])) == [("n0", "n2"), ("n1", "n3")]


def test_an_agent_without_a_second_of_its_kind_is_alone() -> None:
    chain: dict[str, Any] = {"a": {"network": {"kind": "mlp", "hidden": [3]}}, "b": {"objective": LABEL}}
    scene = document({name: {**OWN, **own} for name, own in chain.items()}, [{"from": "a", "to": "b"}])
    found, alone = stacks_of(system_of(scene))
    assert [len(members) for members in found] == [1, 1]
    assert alone == {"a": "no other is like it", "b": "no other is like it"}


def test_one_that_reads_many_of_one_kind_is_a_stack_of_one() -> None:
    agents = {f"a{i}": dict(OWN) for i in range(3)} | {"b": {**OWN, "objective": LABEL, "observes": ["y"]}}
    told = [{"from": f"a{i}", "to": "b", "size": 4, **gradient()} for i in range(3)]
    assert stacked_names(document(agents, told)) == [("a0", "a1", "a2"), ("b",)]
    told[1] = {**told[1], "link": {"noise": 0.1}}
    told[2] = {**told[2], "link": {"bits": 3}}
    assert stacked_names(document(agents, told)) == [("a0", "a1", "a2")]


# --- aligned agents --------------------------------------------------------------------------------------


def chain(delays: tuple[tuple[int, ...], ...], **source: Any) -> Document:
    """Chains of aligned agents, each behind a source: their delays, from the source on."""
    agents: Document = {}
    channels = []
    for i, some in enumerate(delays):
        agents[f"s{i}"] = {**OWN, **source}
        before = f"s{i}"
        for k, delay in enumerate(some):
            name = f"{'abcd'[k]}{i}"
            agents[name] = {**OWN, **ALIGNED, "objective": LABEL}
            channels.append({"from": before, "to": name, "size": 4, "link": {"delay": delay}, **gradient()})
            before = name
    return document(agents, channels)


def test_aligned_agents_are_alike_where_they_are_as_far_behind() -> None:
    together = stacked_names(chain(((2, 1), (2, 1), (1, 1))))
    assert ("a0", "a1") in together
    assert ("b0", "b1") in together
    assert not any("b2" in names and "b0" in names for names in together)
    system = system_of(chain(((2, 1), (2, 1), (1, 1))))
    lags = [aligned_kind(system, system.agents[name]) for name in ("b0", "b1", "b2")]
    assert lags[0] == lags[1] != lags[2]


def test_aligned_behind_aligned_is_further_behind_than_aligned_to_a_source() -> None:
    system = system_of(chain(((2, 2), (2,))))
    assert aligned_kind(system, system.agents["b0"]) != aligned_kind(system, system.agents["a0"])
    assert aligned_kind(system, system.agents["a0"]) == aligned_kind(system, system.agents["a1"])


def test_in_a_circle_of_aligned_agents_the_lag_is_unknown() -> None:
    circle = ring(3, agent=ALIGNED)
    assert set(reasons_alone(system_of(circle))) == {"n0", "n1", "n2"}


def test_the_sender_s_clock_decides_how_far_behind() -> None:
    scene = chain(((2,), (2,)))
    scene["agents"]["s1"]["clock"] = {"period": 2}
    system = system_of(scene)
    lags = [aligned_kind(system, system.agents[name]) for name in ("a0", "a1")]
    assert lags[0] != lags[1]


# --- ports -----------------------------------------------------------------------------------------------


def test_ports_are_identified_by_their_place() -> None:
    channel = {"size": 4, "link": {"delay": 1}}
    scene = ring(2, channel=channel)
    scene["channels"] += [{"from": "n1", "to": "n1", "size": 3, **gradient(), "link": {"delay": 1}}]
    system = system_of(scene)
    network = system.agents["n1"].learner.network
    places = {name: place_of(name, network) for name in network.heads}
    assert sorted(str(place) for place in places.values()) == sorted(["objective", "1", "2"])
    assert place_of("hidden", network) == "hidden"
    with pytest.raises(ValueError, match="not in list"):
        place_of("to_nobody", network)


def test_states_are_alike_by_their_predictors() -> None:
    names = [f"n{i}" for i in range(4)]
    scene = ring(agent=LSTM)
    scene["channels"] += [
        *states(names[:2], **gradient()),
        *states(names[2:], **gradient(kind="mlp", hidden=[4], norm="layer")),
    ]
    assert stacked_names(scene) == [("n0", "n1"), ("n2", "n3")]


def test_an_agent_that_keeps_its_states_for_predictors_is_not_alike() -> None:
    scene = ring(2, agent=LSTM, env=Play())
    scene["channels"][0] |= gradient(context=["from.state"])
    found = stacked_system(scene)
    assert found.base.agents["n0"].trail is not None
    assert found.base.agents["n1"].trail is None
    assert found.place["n0"][0] != found.place["n1"][0]
