"""The library: every scenario resolves in every variant, warns of nothing unmeant, and is what its name promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from antiphon.scenarios import (
    ChannelSpec,
    EnvSpec,
    NetworkSpec,
    Scenario,
    catalogue,
    library_names,
    load,
    warnings,
)
from tests.kit.some import some

NAMES = library_names()
THEORY = "hyperplane"
"""In which gradients are looked at, not a task to be learned: its variants are its own."""
COUPLED = {"locked": "locked", "detached": "detached", "long": "detached", "cut": "detached"}
"""Variants whose channels are not decoupled."""
PARTLY = ("mnist-split", "cartpole-prior")
"""Scenarios with other channels, which are locked in every variant."""
OF_ITS_OWN = (
    "capture-flag",
    "char-lm",
    "clockwork",
    "copy",
    "repeat-copy",
    "three-timescales",
    "two-timescales",
)
"""Scenarios in which every agent has an objective of its own, or is reached by its state alone."""
WINDOWS = {"clockwork": 3, "three-timescales": 2, "two-timescales": 1}
"""Scenarios whose agents have shorter windows where no locked channel joins them, and how many kinds of these."""
SMALL = {"big-corporation": {"agents": 24}}


def cases() -> list[tuple[str, str]]:
    return [(name, variant) for name in NAMES for variant in load(name).variants]


def taught(scenario: Scenario) -> list[ChannelSpec]:
    """The channels that the variants are about: messages, or states where there is no message."""
    messages = [channel for channel in scenario.channels if not channel.state]
    return messages or list(scenario.channels)


@pytest.mark.parametrize(("name", "variant"), cases())
def test_every_variant_resolves_round_trips_and_is_not_warned_of(name: str, variant: str) -> None:
    scenario = load(name).resolve(variant, SMALL.get(name, {}))
    assert Scenario.from_yaml(scenario.to_yaml()) == scenario
    assert Scenario.from_graph(scenario.to_graph()) == scenario
    assert Scenario.model_validate(scenario.model_dump()) == scenario
    assert Scenario.model_validate_json(scenario.model_dump_json(by_alias=True)) == scenario
    assert warnings(scenario) == []


@pytest.mark.cases(2)
@pytest.mark.parametrize("name", [name for name in NAMES if name not in (THEORY, "feudal-keydoor")])
def test_the_four_variants_and_every_kind_of_credit(name: str) -> None:
    template = load(name)
    assert template.resolve() == template.resolve("unlocked" if name == "unlocked" else "decoupled")
    for variant in {"locked", "detached", "local", "decoupled"} & set(template.variants):
        channels = taught(template.resolve(variant, SMALL.get(name, {})))
        expected = {COUPLED.get(variant, "decoupled")}
        if (name, variant) == ("unlocked", "local"):
            expected = {"unlocked"}
        assert {c.coupling.name for c in channels} == expected | ({"locked"} if name in PARTLY else set())
        if variant == "local":
            assert {c.gradient.kind for c in channels if c.coupling.name != "locked"} == {"local"}
    choices = template.parameters["gradient"].choices if "gradient" in template.parameters else None
    for kind in choices or ():
        values = {key: kind for key in ("gradient", "upper") if key in template.parameters}
        assert kind in {
            c.gradient.kind for c in template.resolve(values=values | SMALL.get(name, {})).channels
        }


def test_catalogue() -> None:
    templates = catalogue()
    assert tuple(templates) == NAMES
    for name, template in templates.items():
        assert (template.name, template.source) == (name, f"{name}.yaml")
        assert template.description
        silent = {key for key, parameter in template.parameters.items() if not parameter.description}
        assert silent <= {"batch", "coupling", "data", "steps"}


# --- what single scenarios are -----------------------------------------------------------------------------


def layers(scenario: Scenario) -> list[tuple[str, tuple[int, ...]]]:
    return [(n.kind, n.hidden) for n in networks(scenario)]


def networks(scenario: Scenario) -> list[NetworkSpec]:
    found = [agent.network for agent in scenario.agents.values()]
    return [network for network in found if isinstance(network, NetworkSpec)]


def env(scenario: Scenario) -> dict[str, Any]:
    assert isinstance(scenario.env, EnvSpec)
    return scenario.env.kwargs


def windows(scenario: Scenario) -> list[int | str]:
    return [scenario.window(group) for group in scenario.locked_groups()]


def couplings(scenario: Scenario) -> list[str]:
    return [channel.coupling.name for channel in scenario.channels]


def contexts(scenario: Scenario) -> set[tuple[str, ...]]:
    return {channel.gradient.context for channel in taught(scenario)}


def inputs(scenario: Scenario) -> list[tuple[str, ...] | None]:
    return [channel.input and channel.input.context for channel in scenario.channels]


def links(scenario: Scenario) -> set[tuple[float, int]]:
    return {(channel.link.drop, channel.link.delay) for channel in scenario.channels}


def periods(scenario: Scenario) -> list[int]:
    return [agent.clock.period for agent in scenario.agents.values()]


def observed(scenario: Scenario) -> list[tuple[str, ...]]:
    return [agent.observes for agent in scenario.agents.values()]


CORPORATION = {
    "data": "digits",
    "patches": 32,
    "hold": 6,
    "episode": "example",
    "sampling": "with_replacement",
}
COUNTING = {"data": "digits", "levels": 2, "window": 4}
FACTS: list[tuple[str, str | None, dict[str, Any], Callable[[Scenario], Any], Any]] = [
    ("digits-mlp", None, {}, layers, [("mlp", (128,))] * 3 + [("mlp", ())]),
    ("digits-mlp", None, {}, contexts, {("label",)}),
    ("digits-mlp", None, {}, lambda s: [a.align for a in s.agents.values()], [None, True, True, True]),
    ("digits-mlp", None, {}, lambda s: (s.training.batch, s.training.steps), (64, 1000)),
    ("mnist-mlp", None, {}, lambda s: (s.training.batch, s.training.steps), (256, 5000)),
    ("mnist-mlp", None, {}, lambda s: some(s.training.optimiser.schedule).kind, "cosine"),
    ("mnist-mlp", None, {"delay": 2, "coupling": "delayed"}, links, {(0.0, 2)}),
    ("mnist-split", None, {"split": 1}, couplings, ["decoupled"] + ["locked"] * 4),
    ("mnist-split", None, {"split": 5}, couplings, ["locked"] * 4 + ["decoupled"]),
    ("mnist-cnn", None, {"depth": 4}, lambda s: [k for k, _ in layers(s)], ["conv"] * 3 + ["mlp"]),
    ("deep-mlp", None, {}, lambda s: len(s.agents), 21),
    ("cifar10-mlp", None, {}, layers, [("mlp", (1000,))] * 4 + [("mlp", ())]),
    ("pipelined", None, {}, lambda s: len(s.waves()), 1),
    ("pipelined", "locked", {}, lambda s: len(s.waves()), 4),
    ("eyes", None, {}, observed, [("left_half",), (), ("right_half",)]),
    ("unlocked", None, {"input": "linear"}, lambda s: set(inputs(s)), {("image",)}),
    ("sparse-updates", None, {"p_update": 0.05}, lambda s: {a.p_update for a in s.agents.values()}, {0.05}),
    ("lossy", None, {}, links, {(0.2, 3)}),
    ("lossy", None, {}, inputs, [(f"patch_{n}", "held", "age") for n in (1, 2, 3)]),
    ("lossy", "si_alone", {}, inputs, [(f"patch_{n}",) for n in (1, 2, 3)]),
    ("lossy", "si_alone", {}, lambda s: set(couplings(s)), {"unlocked"}),
    ("lossy", "without_si", {}, lambda s: (set(inputs(s)), links(s)), ({None}, {(0.2, 3)})),
    ("lossy", "loss_free", {}, lambda s: (set(inputs(s)), links(s)), ({None}, {(0.0, 3)})),
    ("corporation", None, {}, env, CORPORATION),
    ("corporation", None, {}, lambda s: s.readouts, ("n00", "n08", "n16", "n24")),
    ("corporation", None, {}, lambda s: s.agents["n07"].observes, ("patch_7",)),
    ("corporation", None, {}, links, {(0.0, 1)}),
    ("corporation", None, {"input": "mlp"}, lambda s: inputs(s)[0], ("patch_2", "held", "age")),
    ("corporation", "locked", {}, windows, ["episode"]),
    ("big-corporation", None, {}, lambda s: len(s.agents), 300),
    ("copy", None, {}, windows, [3]),
    ("copy", "locked", {}, windows, ["episode"]),
    ("copy", None, {}, contexts, {("time_left", "upcoming")}),
    ("copy", "unconditioned", {}, contexts, {()}),
    ("copy", "auxiliary", {}, lambda s: s.channels[0].gradient.auxiliary, 1.0),
    ("copy", "discounted", {}, lambda s: s.channels[0].gradient.discount, 0.5),
    ("copy", "fast_sg", {}, lambda s: some(s.training.predictor).lr, 0.001),
    ("repeat-copy", None, {"cell": "gru", "hidden": 9}, lambda s: networks(s)[0].size, 9),
    ("char-lm", None, {}, windows, [5]),
    ("char-lm", "long", {}, windows, [40]),
    ("char-lm", None, {}, lambda s: s.channels[0].gradient.discount, 0.9),
    ("char-lm", "undiscounted", {}, lambda s: s.channels[0].gradient.discount, 1.0),
    ("two-timescales", None, {}, env, COUNTING),
    ("two-timescales", None, {}, windows, [4, 16]),
    ("two-timescales", "locked", {}, windows, [16]),
    ("two-timescales", None, {"T": 3}, windows, [3, 9]),
    ("two-timescales", None, {}, contexts, {("count_so_far", "to.state", "to.phase")}),
    ("three-timescales", None, {}, windows, [2, 4, 8]),
    ("three-timescales", None, {}, periods, [1, 2, 4]),
    ("clockwork", None, {}, periods, [1, 2, 4, 8]),
    ("clockwork", None, {}, windows, [4, 8, 16, 32]),
    ("clockwork", None, {}, observed, [("char", "age"), ("age",), ("age",), ()]),
    ("cartpole-team", None, {}, lambda s: s.agents["motor"].observes, ()),
    ("cartpole-prior", None, {}, windows, [16, 16]),
    ("cartpole-prior", None, {}, periods, [1, 1, 8]),
    ("cartpole-prior", "locked", {}, windows, [16]),
    ("feudal-keydoor", "random", {}, lambda s: s.agents["manager"].learn, False),
]


@pytest.mark.parametrize(("name", "variant", "values", "read", "expected"), FACTS)
def test_it_is_what_its_name_promises(
    name: str, variant: str | None, values: dict[str, Any], read: Callable[[Scenario], Any], expected: Any
) -> None:
    assert read(load(name).resolve(variant, values)) == expected


def test_a_corporation_with_the_label_known_to_adjacent_agents_only() -> None:
    template, values = load("corporation"), {"context": "adjacent", "agents": 16, "readouts": 1}
    scenario = template.resolve(values=values)
    adjacent = {channel.sender for channel in scenario.inputs_of("n00")}
    assert 0 < len(adjacent) < 15
    for channel in scenario.channels:
        assert channel.gradient.context == (("label",) if channel.sender in adjacent else ("returned",))
    local = template.resolve("local", values)
    assert {c.sender for c in local.channels if c.coupling.name == "decoupled"} == adjacent
    for channel in template.resolve("relayed", values).channels:
        assert channel.gradient.kind == ("local" if channel.sender in adjacent else "linear")


@pytest.mark.parametrize(
    "name", ["cartpole-team", "referential-game", "referential-reward", "speaker-listener"]
)
def test_synthetic_gradients_of_policies_know_what_the_sender_observes(name: str) -> None:
    scenario = load(name).resolve()
    (channel,) = scenario.channels
    assert channel.gradient.context == scenario.agents[channel.sender].observes
