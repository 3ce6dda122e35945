"""The library's recurrent agents: every variant resolves, says what its name promises, and learns when it should."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.scenarios import ChannelSpec, EnvSpec, NetworkSpec, Scenario, load, warnings
from tests.some import some

ALONE = ("copy", "repeat-copy", "char-lm")
"""One agent, whose only channel carries its state."""
TOGETHER = ("two-timescales", "three-timescales", "clockwork")
NAMES = (*ALONE, *TOGETHER)
KINDS = ("linear", "mlp", "critic", "sobolev", "sobolev_label", "local")


def cases() -> list[tuple[str, str]]:
    return [(name, variant) for name in NAMES for variant in load(name).variants]


def messages(scenario: Scenario) -> list[ChannelSpec]:
    return [channel for channel in scenario.channels if not channel.state]


def states(scenario: Scenario) -> list[ChannelSpec]:
    return [channel for channel in scenario.channels if channel.state]


def taught(scenario: Scenario) -> list[ChannelSpec]:
    """The channels that the variants are about."""
    return messages(scenario) or states(scenario)


def windows(scenario: Scenario) -> list[int | str]:
    return [scenario.window(group) for group in scenario.locked_groups()]


def env(scenario: Scenario) -> dict[str, Any]:
    assert isinstance(scenario.env, EnvSpec)
    return {"id": scenario.env.id, **scenario.env.kwargs}


@pytest.mark.parametrize(("name", "variant"), cases())
def test_every_variant_resolves_and_round_trips(name: str, variant: str) -> None:
    scenario = load(name).resolve(variant)
    assert Scenario.from_yaml(scenario.to_yaml()) == scenario
    assert Scenario.from_graph(scenario.to_graph()) == scenario
    expected = {"locked": "locked", "detached": "detached", "long": "detached"}.get(variant, "decoupled")
    assert {channel.coupling for channel in taught(scenario)} == {expected}
    kinds = {channel.gradient.kind for channel in taught(scenario)}
    assert (kinds == {"local"}) == (variant == "local")
    for agent in scenario.agents.values():
        assert isinstance(agent.network, NetworkSpec)
        assert agent.network.recurrent
    assert {channel.sender for channel in states(scenario)} == set(scenario.agents)


@pytest.mark.parametrize(("name", "variant"), cases())
def test_no_variant_does_what_is_not_meant(name: str, variant: str) -> None:
    found = [line for line in warnings(load(name).resolve(variant)) if " is not used " not in line]
    if (name, variant) == ("clockwork", "detached"):
        assert found == ["agents every2, every4, every8: reached by no learning signal"]
    elif variant == "critic":
        assert [line.partition(": ")[2] for line in found] == [
            "a critic alone is a baseline that hardly teaches; use kind sobolev"
        ]
    else:
        assert found == []


@pytest.mark.parametrize("name", NAMES)
def test_defaults_and_kinds(name: str) -> None:
    template = load(name)
    assert template.resolve() == template.resolve("decoupled")
    assert template.parameters["gradient"].choices == KINDS
    for kind in KINDS:
        kinds = {name: kind for name in ("gradient", "upper") if name in template.parameters}
        scenario = template.resolve(values=kinds)
        assert {channel.gradient.kind for channel in taught(scenario)} == {kind}
    silent = {key for key, parameter in template.parameters.items() if not parameter.help}
    assert silent <= {"batch", "coupling", "data", "steps"}


@pytest.mark.parametrize("name", NAMES)
def test_cells_are_a_choice(name: str) -> None:
    for cell in ("rnn", "leaky", "gru", "lstm"):
        scenario = load(name).resolve(values={"cell": cell, "hidden": 9})
        networks = [agent.network for agent in scenario.agents.values()]
        assert {(n.kind, n.size) for n in networks if isinstance(n, NetworkSpec)} == {(cell, 9)}


@pytest.mark.parametrize("name", ALONE)
def test_every_lever_reaches_the_gradient_of_the_state(name: str) -> None:
    values = {
        "scale": 0.25,
        "discount": 0.75,
        "trace": 0.5,
        "span": 6,
        "auxiliary": 0.125,
        "units": 7,
        "sg_norm": "layer",
        "context": [],
        "gradient": "sobolev",
    }
    scenario = load(name).resolve(values={**values, "sg_lr": 0.005, "lr": 0.02, "clip": 3.0, "T": 4})
    (channel,) = scenario.channels
    found = channel.gradient
    assert (found.scale, found.discount, found.trace, found.span, found.auxiliary) == (
        0.25,
        0.75,
        0.5,
        6,
        0.125,
    )
    assert (found.hidden, found.norm, found.context, found.kind) == ((7,), "layer", (), "sobolev")
    training = scenario.training
    assert training.predictor is not None
    assert (training.predictor.lr, training.optimiser.lr, training.optimiser.clip) == (0.005, 0.02, 3.0)
    assert windows(scenario) == [4]


@pytest.mark.parametrize(
    ("variant", "changed"),
    [
        ("unconditioned", {"context": ()}),
        ("trace", {"trace": 0.8}),
        ("auxiliary", {"auxiliary": 1.0}),
        ("critic", {"kind": "critic"}),
        ("sobolev", {"kind": "sobolev"}),
    ],
)
@pytest.mark.parametrize("name", ALONE)
def test_a_variant_moves_one_lever(name: str, variant: str, changed: dict[str, Any]) -> None:
    plain, moved = load(name).resolve().channels[0], load(name).resolve(variant).channels[0]
    assert moved == plain.model_copy(update={"gradient": plain.gradient.model_copy(update=changed)})


@pytest.mark.parametrize(
    ("name", "variant", "discount"),
    [("copy", "discounted", 0.5), ("repeat-copy", "discounted", 0.5), ("char-lm", "undiscounted", 1.0)],
)
def test_a_variant_moves_the_discount_alone(name: str, variant: str, discount: float) -> None:
    plain, moved = load(name).resolve().channels[0], load(name).resolve(variant).channels[0]
    changed = plain.gradient.model_copy(update={"discount": discount})
    assert moved == plain.model_copy(update={"gradient": changed}) != plain


@pytest.mark.parametrize(("name", "kind"), [("copy", "Copy"), ("repeat-copy", "RepeatCopy")])
def test_copying_acts_and_codes(name: str, kind: str) -> None:
    scenario = load(name).resolve()
    agent = scenario.agents["copier"]
    assert agent.acts
    assert agent.observes == ("symbol",)
    assert agent.objective is not None
    assert (agent.objective.kind, agent.objective.target) == ("coding", "target")
    assert env(scenario)["id"] == f"antiphon/{kind}-v0"
    assert env(scenario)["threshold"] == 0.15
    assert windows(scenario) == [3]
    assert windows(load(name).resolve("locked")) == ["episode"]
    assert scenario.channels[0].gradient.context == ("time_left", "upcoming")
    fast = some(load(name).resolve("fast_sg").training.predictor)
    assert fast.lr == 0.001


def test_char_lm_reads_further_back_where_it_is_long() -> None:
    template = load("char-lm")
    assert tuple(template.variants)[:4] == ("long", "detached", "local", "decoupled")
    assert windows(template.resolve()) == [5]
    assert windows(template.resolve("long")) == [40]
    assert env(template.resolve(values={"text": "moby_dick"}))["text"] == "moby_dick"
    assert template.resolve().channels[0].gradient.discount == 0.9
    assert template.resolve("local").channels[0].gradient.target == "next"


def test_two_timescales() -> None:
    template = load("two-timescales")
    assert tuple(template.variants) == (
        "locked",
        "detached",
        "local",
        "decoupled",
        "sobolev",
        "sobolev_label",
    )
    scenario = template.resolve()
    assert env(scenario) == {"id": "antiphon/CountDigits-v0", "data": "digits", "levels": 2, "window": 4}
    assert scenario.readouts == ("B",)
    assert windows(scenario) == [4, 16]
    assert windows(template.resolve("locked")) == [16]
    assert scenario.agents["B"].clock.phase == -1
    assert scenario.agents["B"].observes == ()
    (message,) = messages(scenario)
    assert (message.name, message.size, message.norm) == ("A->B", 64, "batch")
    assert message.gradient.context == ("count_so_far", "to.state", "to.phase")
    for channel in states(scenario):
        assert (channel.coupling, channel.gradient.scale) == ("decoupled", 0.1)
    for variant in ("locked", "detached"):
        assert {c.coupling for c in states(template.resolve(variant))} == {"detached"}
    wide = template.resolve(values={"T": 3, "data": "mnist"})
    assert windows(wide) == [3, 9]
    assert env(wide)["window"] == 3


def test_three_timescales() -> None:
    template = load("three-timescales")
    scenario = template.resolve()
    assert windows(scenario) == [2, 4, 8]
    assert windows(template.resolve(values={"T": 3, "TT": 9})) == [3, 9, 27]
    assert windows(template.resolve("locked")) == [8]
    assert [agent.clock.period for agent in scenario.agents.values()] == [1, 2, 4]
    targets = [agent.objective.target for agent in scenario.agents.values() if agent.objective]
    assert targets == ["odd", "threes", "sevens"]
    assert {channel.read for channel in messages(template.resolve(values={"read": "concat"}))} == {"concat"}


def test_clockwork_ticks_at_four_rates() -> None:
    scenario = load("clockwork").resolve()
    assert [agent.clock.period for agent in scenario.agents.values()] == [1, 2, 4, 8]
    assert windows(scenario) == [4, 8, 16, 32]
    assert windows(load("clockwork").resolve("locked")) == [32]
    assert scenario.waves() == (("every1",), ("every2",), ("every4",), ("every8",))
    up = {c.name: c.read for c in messages(scenario) if c.link.delay == 0}
    assert up == {"every1->every2": "concat", "every2->every4": "concat", "every4->every8": "concat"}
    down = {c.name: (c.read, c.link.delay) for c in messages(scenario) if c.name not in up}
    assert down == dict.fromkeys(("every8->every4", "every4->every2", "every2->every1"), ("last", 1))
    assert [agent.observes for agent in scenario.agents.values()] == [("char", "age"), ("age",), ("age",), ()]
    assert [name for name, agent in scenario.agents.items() if agent.objective] == ["every1"]
