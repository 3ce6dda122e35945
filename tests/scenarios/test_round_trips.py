"""Random scenarios: YAML, Python and networkx say exactly the same; random rubbish gets our own error."""

from __future__ import annotations

import math
from typing import Any

import networkx as nx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antiphon.errors import ScenarioError
from antiphon.scenarios import (
    AgentSpec,
    ChannelSpec,
    ClockSpec,
    GradientSpec,
    NetworkSpec,
    Scenario,
    Template,
    warnings,
)

NAMES = ["a", "B", "no", "1", "n-1", "null", "true", "1e3", "x_", "012"]
SIGNALS = st.lists(
    st.sampled_from(["image", "label", "on", "to.phase", "patch_3", "0x1"]), unique=True, max_size=3
)
FRACTIONS = st.floats(0, 1, exclude_max=True)
NORMS = st.sampled_from(["batch", "layer", "none"])
WORDS = st.text(max_size=8).filter(lambda text: "$" not in text)
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


SCHEDULES = st.one_of(
    st.fixed_dictionaries(
        {"kind": st.just("steps"), "at": st.just([0.25, 0.5])}, optional={"factor": FRACTIONS}
    ),
    st.fixed_dictionaries({"kind": st.sampled_from(["cosine", "linear"])}, optional={"warmup": FRACTIONS}),
)
OPTIMISERS = some(
    kind=st.sampled_from(["sgd", "adam", "adamw"]),
    lr=st.floats(1e-8, 10),
    momentum=FRACTIONS,
    betas=st.tuples(FRACTIONS, FRACTIONS),
    weight_decay=st.floats(0, 1),
    schedule=st.none() | SCHEDULES,
)
NETWORKS = st.one_of(
    st.just("mlp"),
    some(hidden=st.lists(st.integers(1, 512), min_size=1, max_size=3), norm=st.none() | NORMS),
    st.fixed_dictionaries(
        {"kind": st.just("conv"), "hidden": st.just([4, 8]), "pool": st.just(["max", "none"])}
    ),
)
CELLS = st.fixed_dictionaries(
    {"kind": st.sampled_from(["rnn", "leaky", "gru", "lstm"])},
    optional={
        "size": st.integers(1, 64),
        "encoder": st.lists(st.integers(1, 64), max_size=2),
        "norm": st.none() | NORMS,
        "cell_norm": NORMS,
        "leak": st.floats(0.1, 1),
    },
)
GRADIENTS = st.one_of(
    st.sampled_from(["linear", "mlp"]),
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(["linear", "mlp", "critic", "sobolev", "sobolev_label", "local"]),
            "target": st.just("label"),
        },
        optional={
            "context": SIGNALS,
            "scale": st.floats(0, 10),
            "schedule": st.none() | SCHEDULES,
            "clip": st.none() | st.floats(0.1, 10),
            "discount": st.floats(0, 1),
            "apply": st.booleans(),
            "hidden": st.lists(st.integers(1, 64), min_size=1, max_size=2),
            "norm": NORMS,
            "sites": st.none() | st.booleans(),
            "optimiser": OPTIMISERS,
        },
    ),
)


OF_STATES = some(
    kind=st.sampled_from(["linear", "mlp", "sobolev"]),
    trace=FRACTIONS,
    span=st.integers(1, 8),
    auxiliary=st.floats(0, 2),
    discount=st.floats(0, 1),
    context=SIGNALS,
)
INPUTS = st.one_of(
    st.sampled_from(["linear", "mlp"]),
    some(
        kind=st.sampled_from(["linear", "mlp"]),
        context=st.lists(st.sampled_from(["image", "held", "age", "from.phase"]), unique=True, max_size=3),
        hidden=st.lists(st.integers(1, 64), min_size=1, max_size=2),
        norm=NORMS,
        sites=st.none() | st.booleans(),
        optimiser=OPTIMISERS,
    ),
)


@st.composite
def clocks(draw: st.DrawFn) -> dict[str, Any]:
    period = draw(st.sampled_from([1, 2, 4]))
    return {
        "period": period,
        "phase": draw(st.integers(-period, period - 1)),
        "unroll": draw(st.sampled_from([1, 2])),
    }


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """A valid document: zero-delay channels run forwards in the drawn order of names only."""
    remembering = draw(st.booleans())
    names = draw(st.permutations(NAMES))[: draw(st.integers(1, 6))]
    agents = {
        name: draw(
            st.fixed_dictionaries(
                {
                    "observes": SIGNALS.filter(bool),
                    "network": CELLS if remembering else NETWORKS,
                    "clock": clocks(),
                },
                optional={
                    "objective": st.fixed_dictionaries(
                        {
                            "kind": st.sampled_from(["classification", "regression", "coding"]),
                            "target": st.just("label"),
                        },
                        optional={"when": st.sampled_from(["each", "last"]), "weight": st.floats(0.1, 2)},
                    ),
                    "optimiser": OPTIMISERS,
                    "learn": st.booleans(),
                    "weights": st.just("runs/x:a"),
                    "p_update": st.floats(0.01, 1),
                },
            )
        )
        for name in names
    }
    agents[names[-1]]["objective"] = {"kind": "classification", "target": "label"}
    channels: list[dict[str, Any]] = []
    for sender, receiver in draw(
        st.lists(st.tuples(st.sampled_from(names), st.sampled_from(names)), max_size=8)
    ):
        forwards = names.index(sender) < names.index(receiver)
        coupling = draw(st.sampled_from(["locked", "delayed", "detached", "decoupled", "unlocked"]))
        link = {
            "delay": draw(st.integers(0 if forwards else 1, 3)),
            "drop": 0 if coupling == "locked" else draw(FRACTIONS),
            **draw(some(noise=st.floats(0, 2), bits=st.none() | st.integers(1, 16), rate=st.floats(0.1, 1))),
            **draw(some(back=st.none() | st.integers(0, 3))),
        }
        channel = {"from": sender, "to": receiver, "key": len(channels), "coupling": coupling, "link": link}
        channel |= draw(some(gradient=GRADIENTS, staleness=st.integers(1, 20), norm=NORMS))
        if coupling == "unlocked" or draw(st.booleans()):
            channel["input"] = draw(INPUTS)
        if draw(st.booleans()):
            channel["feedback"] = "fa"
        if draw(st.booleans()):
            channel |= {
                "size": draw(st.sampled_from([4, [2, 3], [1, 2, 3], [1, 2, 3, 2]])),
                "port": f"p{len(channels)}",
            }
        if (
            "input" not in channel
            and coupling != "unlocked"
            and not link["drop"]
            and link.get("rate", 1) == 1
        ):
            channel["read"] = draw(st.sampled_from(["last", "mean"]))
        channels.append(channel)
    if remembering:
        coupling = draw(st.sampled_from(["locked", "detached", "decoupled"]))
        state = {"carries": "state", "coupling": coupling, "gradient": draw(OF_STATES)}
        whole = coupling == "locked"  # a group of which some wait for the episode is refused
        channels += [{"from": name, "to": name, **state} for name in names if whole or draw(st.booleans())]
    env = {
        "id": draw(WORDS),
        **draw(st.dictionaries(WORDS.filter(lambda key: key != "id"), DATA, max_size=3)),
    }
    top = draw(
        some(
            description=st.text(max_size=40),
            telemetry=some(
                every=st.integers(1, 9),
                histograms=st.booleans(),
                value=st.none() | st.fixed_dictionaries({"every": st.integers(1, 9)}),
            ),
        )
    )
    training = draw(
        some(
            batch=st.integers(1, 99),
            steps=st.integers(1, 99),
            optimiser=OPTIMISERS,
            predictor=OPTIMISERS,
            on_divergence=st.sampled_from(["stop", "quarantine"]),
            bound=st.none() | st.floats(1, 100),
        )
    )
    return {
        "scenario": "random",
        "env": env,
        "agents": agents,
        "channels": channels,
        "training": training,
        **top,
    }


@given(documents())
@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow])
def test_forms_round_trip_exactly(document: dict[str, Any]) -> None:
    scenario = Scenario.model_validate(document)
    text = scenario.to_yaml()
    again = Scenario.from_yaml(text)
    assert again == scenario
    assert again.to_yaml() == text
    graph = scenario.to_graph()
    assert Scenario.from_graph(graph) == scenario
    assert Scenario.from_graph(nx.MultiDiGraph(graph.copy())) == scenario
    assert Template.from_yaml(text).resolve() == scenario
    assert all("\n" not in line for line in warnings(scenario))


TEXTS = ["", "no", "012", "1e-3", "a: b", "# a", "é 𢞽", "a\nb\n", *" ~'\"\r\x85\u2028\ufeff"]


@pytest.mark.parametrize("text", [*TEXTS, "\x00\x07", "-" * 300])
def test_any_text_survives(text: str) -> None:
    agent = {"observes": ["image"], "objective": {"kind": "regression", "target": "label"}}
    env = {"id": text, "key": [text, {"inner": text}]}
    document = {"scenario": "x", "description": text, "env": env, "agents": {"a": agent}}
    scenario = Scenario.model_validate(document)
    assert Scenario.from_yaml(scenario.to_yaml()) == scenario


@given(documents())
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
def test_what_follows_is_sound(document: dict[str, Any]) -> None:
    scenario = Scenario.model_validate(document)
    level = {name: number for number, wave in enumerate(scenario.waves()) for name in wave}
    assert sorted(level) == sorted(scenario.agents)
    messages = [channel for channel in scenario.channels if not channel.state]
    for channel in messages:
        assert channel.link.delay > 0 or level[channel.sender] < level[channel.receiver]
        assert channel in scenario.inputs_of(channel.receiver)
        assert channel in scenario.outputs_of(channel.sender)
    groups = scenario.locked_groups()
    assert sorted(name for group in groups for name in group) == sorted(scenario.agents)
    of = {name: group for group in groups for name in group}
    assert all(of[c.sender] == of[c.receiver] for c in scenario.channels if c.coupling == "locked")
    for channel in scenario.channels:
        assert not channel.state or scenario.memory_of(channel.sender) is channel
    for group in groups:
        memory = scenario.memory_of(group[0])
        if memory is not None and memory.coupling == "locked":
            assert scenario.window(group) == "episode"
            continue
        clocks_of = [scenario.agents[name].clock for name in group]
        assert scenario.window(group) == math.lcm(*(clock.period * int(clock.unroll) for clock in clocks_of))


SPECS = (Scenario, AgentSpec, ChannelSpec, ClockSpec, GradientSpec, NetworkSpec)
KEYS = sorted({key for spec in SPECS for key in spec.model_fields})
KEYS += [
    "from",
    "to",
    "graph",
    "agent",
    "channel",
    "parameters",
    "variants",
    "default",
    "choices",
    "known_to",
]
LEAVES = st.one_of(
    st.sampled_from(
        [*KEYS, "chain", "small_world", "$a", "$", "a$b", "local", "mlp", "episode", "label", "list", "int"]
    ),
    *(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=5),
        st.sampled_from([10**400, -1, 0, 2]),
    ),
)
RUBBISH = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=25,
)


def problem_of(template: Template) -> str | None:
    try:
        template.resolve()
    except ScenarioError as error:
        return str(error)
    return None


@given(st.dictionaries(st.sampled_from(KEYS), RUBBISH, max_size=6), st.booleans())
@settings(max_examples=60)
def test_rubbish_is_refused_with_our_error_alone(rubbish: dict[str, Any], graph: bool) -> None:
    data = {"scenario": "x", "env": {"id": "x"}, "agents": {"a": rubbish}, "channels": [rubbish], **rubbish}
    if graph:
        data |= {"graph": {"kind": "chain", "agents": 2, **rubbish}, "agent": rubbish, "channel": rubbish}
    assert "\n" not in (problem_of(Template("x", "", {}, {}, "", "x", data, {})) or "")


@given(st.text(max_size=60) | st.text(alphabet="ab:[]{}-!&*#|>'\"%@ \n\t,?~012", max_size=60))
@settings(max_examples=200)
def test_any_text_is_refused_with_our_error_alone(text: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        Scenario.from_yaml(text, "f.yaml")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("f.yaml")
