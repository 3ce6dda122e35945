"""The library: every scenario in every variant resolves, and says what its name promises."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.scenarios import EnvSpec, NetworkSpec, Scenario, catalogue, library_names, load, warnings

NAMES = (
    "big-corporation",
    "cifar10-cnn",
    "cifar10-mlp",
    "corporation",
    "deep-mlp",
    "digits-mlp",
    "eyes",
    "lossy",
    "mnist-cnn",
    "mnist-mlp",
    "mnist-split",
    "pipelined",
    "ring-of-many",
    "sparse-updates",
    "unlocked",
)
VARIANTS = ("locked", "detached", "local", "decoupled")
IN_TIME = ("char-lm", "clockwork", "copy", "repeat-copy", "three-timescales", "two-timescales")
"""Recurrent agents: see test_library_in_time."""
WORLDS = (
    "cartpole-team",
    "feudal-keydoor",
    "referential-game",
    "referential-reward",
    "speaker-listener",
)
"""Agents that talk and act: see test_library_of_worlds."""
THEORY = ("hyperplane",)
"""Scenarios in which gradients are looked at, not tasks to be learned: their variants are their own."""
SMALL = {"big-corporation": {"agents": 24}}
KINDS = ("critic", "sobolev", "sobolev_label", "local")


def network(scenario: Scenario, agent: str) -> NetworkSpec:
    found = scenario.agents[agent].network
    assert isinstance(found, NetworkSpec)
    return found


def kwargs(scenario: Scenario) -> dict[str, Any]:
    assert isinstance(scenario.env, EnvSpec)
    return scenario.env.kwargs


def test_catalogue() -> None:
    assert library_names() == tuple(sorted((*NAMES, *IN_TIME, *WORLDS, *THEORY)))
    templates = catalogue()
    assert tuple(templates) == library_names()
    for name, template in templates.items():
        assert template.name == name
        assert tuple(template.variants)[:4] == VARIANTS or name in ("char-lm", "feudal-keydoor", *THEORY)
        assert template.description
        assert template.source == f"{name}.yaml"


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", NAMES)
def test_every_variant_resolves_and_round_trips(name: str, variant: str) -> None:
    scenario = load(name).resolve(variant, SMALL.get(name, {}))
    assert Scenario.from_yaml(scenario.to_yaml()) == scenario
    assert Scenario.from_graph(scenario.to_graph()) == scenario
    expected = {"locked": "locked", "detached": "detached"}.get(variant, "decoupled")
    if (name, variant) == ("unlocked", "local"):
        expected = "unlocked"
    kinds = {channel.coupling for channel in scenario.channels}
    assert kinds == ({expected, "locked"} if name == "mnist-split" else {expected})
    if variant == "local":
        predicted = ("decoupled", "unlocked")
        assert {c.gradient.kind for c in scenario.channels if c.coupling in predicted} == {"local"}


def cases() -> list[tuple[str, str]]:
    return [(name, variant) for name in NAMES for variant in load(name).variants]


@pytest.mark.parametrize(("name", "variant"), cases())
def test_no_variant_does_what_is_not_meant(name: str, variant: str) -> None:
    """Nothing is said but that keys of other variants are not used, and that `detached` reaches nobody."""
    found = [line for line in warnings(load(name).resolve(variant)) if " is not used " not in line]
    reached = not any("reached by no learning signal" in line for line in found)
    assert reached == (variant != "detached")
    assert len(found) == (variant == "detached")


@pytest.mark.parametrize("name", NAMES)
def test_kinds_of_credit_are_a_choice(name: str) -> None:
    template = load(name)
    choices = template.parameters["gradient"].choices or ()
    assert set(KINDS) < set(choices)
    if name not in ("big-corporation", "corporation"):
        for kind in choices:
            scenario = template.resolve(values={"gradient": kind})
            assert kind in {channel.gradient.kind for channel in scenario.channels}


def test_the_default_is_the_decoupled_variant_or_the_unlocked() -> None:
    for name in NAMES:
        variant = "unlocked" if name == "unlocked" else "decoupled"
        assert load(name).resolve() == load(name).resolve(variant)


def test_every_parameter_is_explained_unless_it_is_plain() -> None:
    for template in catalogue().values():
        silent = {name for name, parameter in template.parameters.items() if not parameter.help}
        assert silent <= {"batch", "coupling", "data", "steps"}


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
    assert {(c.input, c.link.drop) for c in scenario.channels} == {(None, 0.0)}
    assert {agent.p_update for agent in scenario.agents.values()} == {1.0}


def test_corporation_over_bad_links() -> None:
    values = {"drop": 0.2, "delay": 2, "input": "mlp", "p_update": 0.5}
    scenario = load("corporation").resolve(values=values)
    assert {(c.link.drop, c.link.delay) for c in scenario.channels} == {(0.2, 2)}
    assert {agent.p_update for agent in scenario.agents.values()} == {0.5}
    for channel in scenario.channels:
        assert channel.input is not None
        own = f"patch_{int(channel.receiver[1:])}"
        assert channel.input.context == (own, "held", "age")


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


def test_sparse_updates() -> None:
    scenario = load("sparse-updates").resolve(values={"p_update": 0.05})
    assert {name: agent.p_update for name, agent in scenario.agents.items()} == dict.fromkeys(
        scenario.agents, 0.05
    )


def test_unlocked_hears_what_it_makes_of_the_image() -> None:
    scenario = load("unlocked").resolve(values={"input": "linear"})
    assert {channel.coupling for channel in scenario.channels} == {"unlocked"}
    for channel in scenario.channels:
        assert channel.input is not None
        assert (channel.input.kind, channel.input.context) == ("linear", ("image",))


def test_deep_mlp_has_21_layers() -> None:
    assert len(load("deep-mlp").resolve().agents) == 21


def test_cifar10_scenarios_have_a_stand_in() -> None:
    for name in ("cifar10-cnn", "cifar10-mlp"):
        assert kwargs(load(name).resolve()) == {"data": "cifar10"}
        assert kwargs(load(name).resolve(values={"data": "shapes"})) == {"data": "shapes"}
    scenario = load("cifar10-mlp").resolve()
    assert [network(scenario, agent).hidden for agent in scenario.agents] == [(1000,)] * 4 + [()]
    convolved = load("cifar10-cnn").resolve()
    assert [network(convolved, agent).hidden for agent in convolved.agents] == [(128,), (128,), ()]
    assert {channel.gradient.kind for channel in convolved.channels} == {"conv"}


def test_pipelined_ticks_in_one_wave() -> None:
    template = load("pipelined")
    assert template.resolve().waves() == (("n0", "n1", "n2", "n3"),)
    assert len(template.resolve("locked").waves()) == 4


def test_lossy() -> None:
    template = load("lossy")
    assert tuple(template.variants) == (*VARIANTS, "with_si", "without_si", "si_alone", "loss_free")
    assert template.resolve("with_si") == template.resolve()
    links = {(channel.link.drop, channel.link.delay) for channel in template.resolve().channels}
    assert links == {(0.2, 3)}
    contexts = [c.input.context for c in template.resolve().channels if c.input]
    assert contexts == [(f"patch_{number}", "held", "age") for number in (1, 2, 3)]
    alone = template.resolve("si_alone").channels
    assert [(c.coupling, c.input and c.input.context) for c in alone] == [
        ("unlocked", (f"patch_{number}",)) for number in (1, 2, 3)
    ]
    for variant in ("locked", "without_si", "loss_free"):
        channels = template.resolve(variant).channels
        assert {channel.input for channel in channels} == {None}
        assert {channel.link.drop for channel in channels} == {0.2 if variant == "without_si" else 0.0}


def test_big_corporation() -> None:
    scenario = load("big-corporation").resolve()
    assert len(scenario.agents) == 300
    kinds = {network(scenario, agent) for agent in scenario.agents}
    assert len(kinds) >= 3
    degrees = sorted(len(scenario.inputs_of(agent)) for agent in scenario.agents)
    assert degrees[0] == 2
    assert degrees[-1] > 20
    assert scenario.agents["n123"].observes == ("patch_123",)
