"""The library: every scenario resolves in every variant, warns of nothing unmeant, and is what its name promises."""

from __future__ import annotations

import pytest

from antiphon.scenarios import (
    ChannelSpec,
    Scenario,
    catalogue,
    library_names,
    load,
    warnings,
)
from tests.kit.tiers import sampled

NAMES = library_names()
THEORY = "hyperplane"
"""In which gradients are looked at, not a task to be learned: its variants are its own."""
COUPLED = {"locked": "locked", "detached": "detached", "long": "detached", "cut": "detached"}
"""Variants whose channels are not decoupled."""
PARTLY = ("mnist-split", "cartpole-prior")
"""Scenarios with other channels, which are locked in every variant."""
SMALL = {"big-corporation": {"agents": 24}}


def cases() -> list[tuple[str, str]]:
    return [(name, variant) for name in NAMES for variant in load(name).variants]


def taught(scenario: Scenario) -> list[ChannelSpec]:
    """The channels that the variants are about: messages, or states where there is no message."""
    messages = [channel for channel in scenario.channels if not channel.state]
    return messages or list(scenario.channels)


@pytest.mark.parametrize(("name", "variant"), sampled(cases(), 4))
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


def test_a_corporation_with_the_label_known_to_adjacent_agents_only() -> None:
    template, values = load("corporation"), {"context": "adjacent", "agents": 16, "readouts": 1}
    scenario = template.resolve(values=values)
    adjacent = {channel.sender for channel in scenario.relations.inputs["n00"]}
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
    assert set(scenario.relations.context(channel)) >= set(scenario.agents[channel.sender].observes)
