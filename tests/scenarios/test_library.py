"""The library: every scenario in every variant resolves, and says what its name promises."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.scenarios import EnvSpec, NetworkSpec, Scenario, catalogue, library_names, load, warnings

NAMES = ("corporation", "digits-mlp", "eyes", "mnist-cnn", "mnist-mlp", "mnist-split")
VARIANTS = ("locked", "detached", "local", "decoupled")


def network(scenario: Scenario, agent: str) -> NetworkSpec:
    found = scenario.agents[agent].network
    assert isinstance(found, NetworkSpec)
    return found


def kwargs(scenario: Scenario) -> dict[str, Any]:
    assert isinstance(scenario.env, EnvSpec)
    return scenario.env.kwargs


def test_catalogue() -> None:
    assert library_names() == NAMES
    templates = catalogue()
    assert tuple(templates) == NAMES
    for name, template in templates.items():
        assert template.name == name
        assert tuple(template.variants)[:4] == VARIANTS
        assert template.description
        assert template.source == f"{name}.yaml"


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", NAMES)
def test_every_variant_resolves_and_round_trips(name: str, variant: str) -> None:
    scenario = load(name).resolve(variant)
    assert Scenario.from_yaml(scenario.to_yaml()) == scenario
    assert Scenario.from_graph(scenario.to_graph()) == scenario
    expected = {"locked": "locked", "detached": "detached"}.get(variant, "decoupled")
    kinds = {channel.coupling for channel in scenario.channels}
    assert kinds == ({expected, "locked"} if name == "mnist-split" else {expected})
    if variant == "local":
        assert {c.gradient.kind for c in scenario.channels if c.coupling == "decoupled"} == {"local"}
    reached = not any("reached by no learning signal" in line for line in warnings(scenario))
    assert reached == (variant != "detached")


def test_the_decoupled_variant_is_the_default() -> None:
    for template in catalogue().values():
        assert template.resolve() == template.resolve("decoupled")


@pytest.mark.parametrize(
    ("name", "batch", "width", "steps"), [("digits-mlp", 64, 128, 1000), ("mnist-mlp", 256, 256, 5000)]
)
def test_chains_of_layers(name: str, batch: int, width: int, steps: int) -> None:
    scenario = load(name).resolve()
    assert list(scenario.agents) == ["n0", "n1", "n2", "n3"]
    assert scenario.waves() == (("n0",), ("n1",), ("n2",), ("n3",))
    assert scenario.readouts == ("n3",)
    assert [network(scenario, agent).hidden for agent in scenario.agents] == [(width,)] * 3 + [()]
    assert [agent.align for agent in scenario.agents.values()] == [None, True, True, True]
    assert scenario.agents["n0"].observes == ("image",)
    assert all(
        channel.size is None and channel.gradient.context == ("label",) for channel in scenario.channels
    )
    assert (scenario.training.batch, scenario.training.steps) == (batch, steps)
    schedule = scenario.training.optimiser.schedule
    assert (schedule is not None and schedule.kind == "cosine") == (name == "mnist-mlp")


def test_chain_parameters() -> None:
    values = {
        "depth": 6,
        "width": 32,
        "context": [],
        "delay": 2,
        "coupling": "delayed",
        "gradient": "mlp",
        "lr": 0.01,
    }
    scenario = load("mnist-mlp").resolve(values=values)
    assert list(scenario.agents)[-1] == "n5"
    channel = scenario.channels[0]
    assert (channel.coupling, channel.link.delay) == ("delayed", 2)
    assert (channel.gradient.hidden, channel.gradient.context) == ((1024,), ())
    assert scenario.training.optimiser.lr == 0.01


def test_mnist_split_has_one_channel_that_is_not_locked() -> None:
    for split in (1, 5):
        scenario = load("mnist-split").resolve(values={"split": split})
        couplings = [channel.coupling for channel in scenario.channels]
        assert couplings == ["locked"] * (split - 1) + ["decoupled"] + ["locked"] * (5 - split)


def test_mnist_cnn_is_convolutions_and_a_linear_classifier() -> None:
    scenario = load("mnist-cnn").resolve(values={"depth": 4})
    assert [network(scenario, agent).kind for agent in scenario.agents] == ["conv", "conv", "conv", "mlp"]
    assert [network(scenario, agent).pool for agent in scenario.agents] == [("max",), ("avg",), ("avg",), ()]
    assert network(scenario, "n0").filter == 5
    assert network(scenario, "n3").hidden == ()
    assert {(channel.gradient.kind, channel.gradient.hidden) for channel in scenario.channels} == {
        ("mlp", (128,))
    }


def test_eyes() -> None:
    scenario = load("eyes").resolve(values={"data": "mnist"})
    assert kwargs(scenario) == {"data": "mnist"}
    assert {name: agent.observes for name, agent in scenario.agents.items()} == {
        "left": ("left_half",),
        "mind": (),
        "right": ("right_half",),
    }
    assert [(channel.name, channel.size) for channel in scenario.channels] == [
        ("left->mind", 32),
        ("right->mind", 32),
    ]


def test_corporation() -> None:
    scenario = load("corporation").resolve()
    assert kwargs(scenario) == {"data": "digits", "patches": 32, "hold": 6, "episode": "example"}
    assert scenario.readouts == ("n00", "n08", "n16", "n24")
    assert [name for name, agent in scenario.agents.items() if agent.objective] == list(scenario.readouts)
    assert scenario.agents["n07"].observes == ("patch_7",)
    assert {(c.port, c.size, c.norm, c.link.delay) for c in scenario.channels} == {("out", 16, "layer", 1)}
    assert {c.gradient.context for c in scenario.channels} == {("label",)}
    assert scenario.waves() == (tuple(scenario.agents),)
    assert network(scenario, "n00") == NetworkSpec(hidden=(64,), norm="layer")


def test_corporation_locked_learns_over_the_whole_episode() -> None:
    scenario = load("corporation").resolve("locked")
    assert [scenario.window(group) for group in scenario.locked_groups()] == ["episode"]
    short = load("corporation").resolve("locked", {"unroll": 1})
    assert any("no credit passes" in line for line in warnings(short))


def test_corporation_with_the_label_known_to_adjacent_agents_only() -> None:
    template = load("corporation")
    values = {"context": "adjacent", "agents": 16, "readouts": 1}
    scenario = template.resolve(values=values)
    adjacent = {channel.sender for channel in scenario.inputs_of("n00")}
    assert 0 < len(adjacent) < 15
    for channel in scenario.channels:
        known = ("label",) if channel.sender in adjacent else ("returned",)
        assert (channel.gradient.kind, channel.gradient.context) == ("linear", known)
    local = template.resolve("local", values)
    assert {c.sender for c in local.channels if c.coupling == "decoupled"} == adjacent
    assert {c.coupling for c in local.channels} == {"decoupled", "detached"}
    relayed = template.resolve("relayed", values)
    assert {c.coupling for c in relayed.channels} == {"decoupled"}
    for channel in relayed.channels:
        assert channel.gradient.kind == ("local" if channel.sender in adjacent else "linear")
