"""Warnings: what runs but is probably not meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import torch
import yaml

from antiphon.comms.synthetic_gradients import DirectGradient
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario, warnings
from antiphon.scenarios.sender_passes import setting_that_may_open
from tests.scenarios.made import OBJECTIVE

TOKENS = (
    "channel a->b: a {} gradient of tokens before a classification: most of the returned gradient is noise of the labels, and "
    "in a GPT of ours all direct kinds ended worse than detached; use kind lens or local, or compare with coupling: detached"
)


def advice(
    *channels: dict[str, Any], training: dict[str, Any] | None = None, **agents: dict[str, Any]
) -> list[str]:
    """The warnings of a chain a -> b (with an objective) whose parts are changed as given."""
    plain: dict[str, Any] = {
        "a": {"observes": ["image"]},
        "b": {"observes": ["image"], "objective": OBJECTIVE},
    }
    make = {
        name: {"observes": ["image"], **plain.get(name, {}), **agents.get(name, {})}
        for name in {**plain, **agents}
    }
    ends = [{"from": "a", "to": "b", **channel} for channel in channels]
    data = {"scenario": "x", "env": {"id": "x"}, "agents": make, "channels": ends, "training": training or {}}
    return warnings(Scenario.model_validate(data))


def test_nothing_to_say() -> None:
    assert advice({}) == []
    assert advice({"coupling": "locked"}) == []
    assert advice({"coupling": "delayed", "horizon": 4}) == []


@pytest.mark.parametrize(
    "channel",
    [
        {"coupling": "detached"},
        {"gradient": {"scale": 0, "discount": 0}},
        {"gradient": {"scale": 0}},
    ],
)
def test_agents_that_no_signal_reaches(channel: dict[str, Any]) -> None:
    assert advice(channel) == ["agent a: reached by no learning signal"]
    assert advice(channel, a={"learn": False}) == []


class Wide(DirectGradient):
    """A kind with rules of its own."""

    control: ClassVar[str | None] = "is a control"

    class Options(DirectGradient.Options):
        """Keys of a wide gradient.

        Attributes:
            width: Of nothing.
        """

        width: int = 1

        def advice(self, shape: tuple[int, ...] | None, *, at_sites: bool) -> Iterator[str]:
            if self.width > 8:
                yield f"a width of {self.width} for messages {shape} is wide"

        def refusals(
            self, shape: tuple[int, ...] | None, *, sends_maps: bool | None
        ) -> Iterator[tuple[str, str]]:
            if shape is None:
                yield "width", f"{self.width}, but the size is not declared, and maps are sent: {sends_maps}"


def test_a_kind_gives_advice_of_its_own() -> None:
    kind = {"kind": Wide, "width": 9}
    line = "channel a->b: a width of 9 for messages (4, 2, 2) is wide"
    assert advice({"size": [4, 2, 2], "gradient": kind}) == ["channel a->b: is a control", line]
    for own in (kind, "linear", {"kind": "linear"}):  # the default too, where it is written
        assert advice({"coupling": "locked", "gradient": own}) == [
            "channel a->b: gradient is not used by a locked channel"
        ]
    assert advice({"coupling": "locked"}) == []


def test_a_kind_refuses_messages_by_itself() -> None:
    line = r"^channels\[0\].gradient.width: 9, but the size is not declared, and maps are sent: False$"
    with pytest.raises(ScenarioError, match=line):
        advice({"gradient": {"kind": Wide, "width": 9}})
    advice({"coupling": "detached", "gradient": {"kind": Wide, "width": 9}})  # not used


def test_an_agent_that_observes_its_own_target() -> None:
    copy = {"observes": ["image"], "objective": {"kind": "regression", "target": "image"}}
    assert advice({}, b=copy) == [
        "agent b: observes its own target 'image', which it can copy; leave out one of them"
    ]
    assert advice({}, b={**copy, "observes": ["label"]}) == []


def test_signal_travels_over_several_channels() -> None:
    chain = [{}, {"from": "c", "to": "a"}]
    assert advice(*chain, c={}) == []
    chain[1]["coupling"] = "detached"
    assert advice(*chain, c={}) == ["agent c: reached by no learning signal"]
    chain[1]["coupling"] = "locked"
    assert advice(*chain, c={}) == []
    chain = [{"coupling": "detached"}, {"from": "c", "to": "a"}]
    assert advice(*chain, c={}) == ["agents a, c: reached by no learning signal"]


@pytest.mark.parametrize(
    ("weights", "coupling", "unreached"),
    [
        (
            {"scale": 0},
            "decoupled",
            "agent a",
        ),  # its parameters are not moved, but it returns a gradient to c
        ({"discount": 0}, "decoupled", "agent c"),  # it learns, and returns none
        ({"scale": 0}, "locked", "agents a, c"),  # they learn as one
        ({"discount": 0}, "locked", None),
    ],
)
def test_scale_weighs_what_is_learned_and_discount_what_is_returned(
    weights: dict[str, Any], coupling: str, unreached: str | None
) -> None:
    lines = advice({"gradient": weights}, {"from": "c", "to": "a", "coupling": coupling}, c={})
    expected = [f"{unreached}: reached by no learning signal"] if unreached else []
    assert [line for line in lines if "reached" in line] == expected


def test_locked_channels_whose_credit_is_lost() -> None:
    lost = "channel a->b: no gradient passes, as the delay is a whole window; use unroll: episode"
    slow = {"coupling": "locked", "link": {"delay": 1}}
    assert advice(slow) == [lost, "agent a: reached by no learning signal"]
    unrolled = {"clock": {"unroll": 2}}
    assert advice(slow, a=unrolled, b=unrolled) == []
    whole = {"clock": {"unroll": "episode"}}
    assert advice(slow, a=whole, b=whole) == []


def test_channels_that_nobody_reads() -> None:
    late = "channel a->b: not read before step 14, and training.steps is 13"
    link = {"link": {"delay": 10}}
    clocks = {"a": {"clock": {"period": 4, "phase": -2}}, "b": {"clock": {"period": 7, "phase": 6}}}
    assert advice(link, training={"steps": 13}, **clocks) == [late]
    assert advice(link, training={"steps": 14}, **clocks) == []


@pytest.mark.parametrize(
    ("channel", "lines"),
    [
        ({"input": {"context": ["image"]}}, ["input is not used where the link loses nothing"]),
        (
            {"feedback": {"kind": "fa", "of": "b"}, "coupling": "locked"},
            ["feedback.of is not used by feedback of kind fa"],
        ),
        (
            {"link": {"drop": 0.5}, "input": {"context": ["image"], "learn": False, "optimiser": {}}},
            ["input.optimiser is not used by a synthetic input that does not learn"],
        ),
        ({"link": {"drop": 0.5}, "input": {"context": ["image"], "learn": False}}, []),
        ({"link": {"drop": 0.5}, "input": {"context": ["image"], "optimiser": {}}}, []),
        (
            {"link": {"delay": [0, 1]}, "gradient": {"kind": "local", "target": "label"}},
            ["the second value of link.delay is not used by a decoupled channel"],
        ),
        ({"link": {"delay": [0, 1]}}, []),
        (
            {
                "link": {"delay": [0, 1]},
                "gradient": {"kind": "local", "target": "label", "context": ["returned"]},
            },
            [],
        ),
        ({"link": {"delay": [0, 1]}, "gradient": {"kind": "sobolev_label", "target": "label"}}, []),
        ({"horizon": 3}, ["horizon is not used by a decoupled channel"]),
        ({"norm": "none"}, ["norm is not used by a channel without a size"]),
    ],
)
def test_keys_that_a_channel_does_not_use(channel: dict[str, Any], lines: list[str]) -> None:
    assert advice(channel) == [f"channel a->b: {line}" for line in lines]


@pytest.mark.parametrize(
    ("agent", "lines"),
    [
        ({"network": {"kind": "conv", "hidden": [3], "size": 3, "pool": ["max"]}}, []),
        (
            {"network": {"hidden": [], "activation": "tanh"}},
            ["network.activation is not used without hidden layers"],
        ),
        ({"network": {"kind": "lstm", "hidden": [3]}}, []),
        ({"network": {"kind": "leaky", "rate": 0.3}}, []),
        ({"learn": False, "optimiser": {}}, ["optimiser is not used by an agent that does not learn"]),
    ],
)
def test_keys_that_an_agent_does_not_use(agent: dict[str, Any], lines: list[str]) -> None:
    assert advice({"size": 2, "coupling": "locked"}, a=agent) == [f"agent a: {line}" for line in lines]


def test_keys_that_the_rest_of_a_scenario_leaves_without_effect() -> None:
    assert advice({}, a={"share": "g"}) == ["agent a: share is not used by the only agent of its group"]
    assert advice({}, a={"share": "g"}, c={"share": "g", "objective": OBJECTIVE}) == []
    predictor, line = (
        {"predictor": {"lr": 0.1}},
        "training: predictor is not used where no channel has a predictor",
    )
    own = {"optimiser": {"lr": 0.2}}
    for channel in (
        {"coupling": "locked"},
        {"gradient": own},
        {"gradient": {"learn": False, "context": ["image"]}},
    ):
        assert line in "".join(advice(channel, training=predictor))
    unlocked = {"coupling": "unlocked", "input": {"context": ["image"]}, "gradient": own}
    for channel in ({}, unlocked):
        assert advice(channel, training=predictor) == []
    discounted: dict[str, Any] = {"gradient": {"discount": 0.9, "context": ["label"]}}
    why = "where no sender reads messages or has a state: nobody bootstraps from its prediction"
    assert advice(discounted) == [f"channel a->b: gradient.discount is not used {why}"]
    assert advice(discounted, a={"network": "gru"}) == []
    assert advice(discounted, {"from": "b", "to": "c", **discounted}, c={"objective": OBJECTIVE}) == []
    line = "agent b: fan_in is not used by an agent with one incoming channel"
    for kind in ("attention", "mean", "sum"):
        assert advice({}, b={"fan_in": kind}) == [line]
    assert advice({}, b={"fan_in": {"kind": "attention", "heads": 2}}) == []
    assert advice({}, {"from": "c"}, b={"fan_in": "mean"}, c={}) == []
    line = "channel a->b: gradient.context is not used by your own network, which reads the message alone"
    local = {"kind": "local", "target": "label", "network": torch.nn.Linear(4, 10)}
    assert advice({"size": 4, "gradient": {**local, "context": ["image"]}}) == [line]
    assert advice({"size": 4, "gradient": local}) == []
    line = "training: sweep is not used where no agent sends messages"
    alone = {"a": {"objective": OBJECTIVE}}
    assert advice(training={"sweep": True}, **alone) == [line]
    assert advice({}, training={"sweep": True}) == []
    line = "agent b: align is not used where every message is read at the step at which it is sent; leave it out, or write "
    assert advice({}, b={"align": True}) == [f"{line}link.delay"]
    for late in ({"delay": 1}, {"delay": 0}, {"delay": "auto"}, {"drop": 0.5}):
        assert advice({"link": late}, b={"align": True}) == []
    assert advice({}, b={"align": True}, a={"clock": {"period": 2}}) == []
    unlocked = {"coupling": "unlocked", "input": {"context": ["image"]}}
    assert advice(unlocked, b={"align": True}) == []


@pytest.mark.parametrize(
    ("weights", "warned"),
    [
        ({"reward": 0}, True),
        ({"reward": 0.5}, False),
        ({"reward": 0, "label": 0.5}, False),
        ({"reward": 0, "label": 0}, True),
    ],
)
def test_a_policy_without_a_reward(weights: dict[str, float], warned: bool) -> None:
    goal = {"kind": "ppo", "reward": weights}
    found = advice({}, b={"objective": goal, "acts": True})
    line = "agent b: learns from no reward, as all weights of objective.reward are 0; give one another weight"
    assert (line in found) is warned


LOST = "loses every message: right for a control; else give it a link.drop below 1"
UNREACHED = "agent a: reached by no learning signal"
SI = {"kind": "linear", "context": ["image"]}


@pytest.mark.parametrize(
    ("channel", "lines"),
    [
        ({"link": {"drop": 1}}, [UNREACHED, f"channel a->b: {LOST}"]),
        ({"link": {"drop": 1}, "gradient": {"kind": "local", "target": "label"}}, [f"channel a->b: {LOST}"]),
        ({"coupling": "unlocked", "input": SI, "gradient": {"scale": 0, "discount": 0}}, [UNREACHED]),
        (
            {"gradient": {"scale": 0, "discount": 0, "clip": 2}},
            [UNREACHED, "channel a->b: gradient.clip is not used where scale and discount are 0"],
        ),
        (
            {"coupling": "unlocked", "input": SI, "link": {"bits": 3}},
            ["channel a->b: noise and bits only affect the training of its synthetic input"],
        ),
        (
            {"coupling": "unlocked", "input": "linear"},
            ["channel a->b: its synthetic input has no context and predicts the mean; give it observations"],
        ),
        (
            {"gradient": "critic"},
            ["channel a->b: a critic alone is a baseline from which little is learned; use kind sobolev"],
        ),
        ({"size": [5, 8], "gradient": "linear"}, [TOKENS.format("linear")]),
        ({"size": [3, 5, 8], "gradient": "linear"}, []),
    ],
)
def test_what_a_channel_will_hardly_do(channel: dict[str, Any], lines: list[str]) -> None:
    assert advice(channel) == lines


def test_a_value_that_is_never_measured() -> None:
    data = {
        "scenario": "x",
        "env": {"id": "x"},
        "agents": {"b": {"observes": ["image"], "objective": OBJECTIVE}},
    }
    for steps, lines in (
        (99, ["telemetry.value: measures nothing before step 100, and training.steps is 99"]),
        (100, []),
    ):
        watched = {**data, "training": {"steps": steps}, "telemetry": {"value": {"period": 100}}}
        assert warnings(Scenario.model_validate(watched)) == lines


@pytest.mark.parametrize(
    ("evaluate", "lines"),
    [
        ({"period": 100}, []),
        ({"period": 101, "patience": {"loss": 3}}, []),  # that nothing is evaluated is said where it is built
        ({"period": 25, "patience": {"loss": 3}}, []),
        (
            {"period": 25, "patience": {"loss": 3, "a.loss": 4}},
            [
                "patience {a.loss: 4} never ends the run, as it is evaluated 4 times, every 25 of 100 training.steps"
            ],
        ),
    ],
)
def test_evaluations_too_few_to_end_a_run(evaluate: dict[str, Any], lines: list[str]) -> None:
    agents = {"a": {"observes": ["image"], "objective": OBJECTIVE}}
    training = {"steps": 100, "evaluate": evaluate}
    scenario = Scenario.model_validate(
        {"scenario": "x", "env": {"id": "x"}, "agents": agents, "training": training}
    )
    assert warnings(scenario) == [f"training.evaluate: {line}" for line in lines]


@pytest.mark.parametrize(
    ("explore", "lines"),
    [(100, []), (101, ["agent a: objective.explore: 101 steps, and training.steps is 100; use at most 100"])],
)
def test_what_explores_longer_than_it_learns(explore: int, lines: list[str]) -> None:
    player = {"observes": ["x"], "acts": True, "objective": {"kind": "q", "explore": explore}}
    data = {"scenario": "x", "env": {"id": "x"}, "agents": {"a": player}, "training": {"steps": 100}}
    assert warnings(Scenario.model_validate(data)) == lines


@pytest.mark.parametrize("read", ["mean", "concat"])
def test_a_fast_reader_reads_the_last(read: str) -> None:
    assert advice({"read": read}, a={"clock": {"period": 4}}, b={"clock": {"period": 4}}) == [
        f"channel a->b: read {read} is the same as read last: its receiver ticks at least as often as its sender"
    ]


def test_many_are_counted() -> None:
    channels = [{"key": key, "horizon": 3} for key in range(6)]
    assert advice(*channels) == [
        "channels a->b, a->b:1, a->b:2, a->b:3, … (6 in all): horizon is not used by a decoupled channel"
    ]


def test_a_shadow_does_not_use_what_forms_its_injection() -> None:
    shadow = {
        "scale": 0,
        "discount": 0,
        "clip": 1,
        "schedule": {"kind": "cosine"},
    }
    keys = ("schedule", "clip")
    assert advice({"gradient": shadow, "link": {"delay": 1}}) == [
        "agent a: reached by no learning signal",
        *(f"channel a->b: gradient.{key} is not used where scale and discount are 0" for key in keys),
    ]


def test_what_a_gradient_of_no_scale_and_one_without_parameters_do_not_use() -> None:
    schedule: dict[str, Any] = {"scale": 0, "schedule": "cosine"}
    line = "channel a->b: gradient.schedule is not used where scale is 0"
    assert advice({"gradient": schedule}) == ["agent a: reached by no learning signal", line]
    assert advice({"gradient": {**schedule, "scale": 0.5}}) == []
    lens = {"kind": "lens", "network": torch.nn.Linear(4, 10)}
    keys = {"context": ["image"], "learn": False, "optimiser": {"lr": 0.1}}
    assert advice({"size": 4, "gradient": {**lens, **keys}}) == [
        "channel a->b: gradient.context is not used by a lens, which reads the message alone",
        *(
            f"channel a->b: gradient.{key} is not used by a lens, of which nothing is trained"
            for key in ("learn", "optimiser")
        ),
    ]
    assert advice({"size": 4, "gradient": {**lens, "scale": 0.5, "clip": 1, "schedule": "linear"}}) == []


def test_a_shadow_of_a_state_trains_no_auxiliary_task() -> None:
    """Its head would predict a gradient that nothing injects."""
    state = {"from": "b", "to": "b", "key": "state"}
    shadow = {"scale": 0, "discount": 0, "auxiliary": 0.5}
    lines = advice({"coupling": "locked"}, {**state, "gradient": shadow}, b={"network": "gru"})
    assert lines == [
        "channel b->b:state: gradient.auxiliary is not used where scale and discount are 0",
    ]


@pytest.mark.parametrize(
    ("channel", "warned"),
    [
        ({"size": [16, 16, 16]}, True),
        ({"size": [16, 16, 16], "gradient": {"sites": True}}, False),
        ({"size": [16, 16, 16], "coupling": "detached"}, False),
        ({"size": [16, 8, 8]}, False),
    ],
)
def test_a_dense_gradient_of_large_maps(channel: dict[str, Any], warned: bool) -> None:
    line = (
        "channel a->b: a linear gradient has 4,096 x 4,096 parameters, for messages [16, 16, 16]; smaller, but not "
        "always as accurate: `sites: true` (one at every pixel), conv, local"
    )
    lines = advice({"coupling": "decoupled", **channel})
    assert [one for one in lines if "parameters" in one] == [line] * warned


@pytest.mark.parametrize(
    ("context", "kind", "warned"),
    [((), "ppo", True), (("label",), "a2c", True), (("image",), "ppo", False), ((), "classification", False)],
)
def test_a_synthetic_gradient_of_a_policy_knows_what_its_sender_observes(
    context: tuple[str, ...], kind: str, warned: bool
) -> None:
    goal = {"kind": kind, "target": "label"} if kind == "classification" else {"kind": kind}
    document = {
        "scenario": "small",
        "env": {"id": "antiphon/Digits-v0"},
        "agents": {"a": {"observes": ["image"]}, "b": {"objective": goal, "acts": kind != "classification"}},
        "channels": [{"from": "a", "to": "b", "size": 4, "gradient": {"context": list(context)}}],
    }
    found = [
        line for line in warnings(Scenario.model_validate(document)) if "averages over all states" in line
    ]
    assert found == ["channel a->b: " + BLIND] * warned


def test_the_setting_that_may_open_a_gate_is_not_refused() -> None:
    """`passes: all` is for one channel of a sender: of two, what their predictors do not read is named."""
    clock = {"unroll": 4}
    reads = {"observes": ["image"], "clock": clock, "objective": {"kind": "ppo", "epochs": 4}, "acts": True}
    for receivers, opens in (
        ("b", "gradient: {context: [image], passes: auto}"),
        ("bc", "gradient.context: [image]"),
    ):
        document: dict[str, Any] = {
            "scenario": "small",
            "env": {"id": "antiphon/Digits-v0"},
            "agents": {
                "a": {"observes": ["image"], "clock": clock},
                "b": reads,
                "c": {"observes": ["image"], "clock": clock, "objective": OBJECTIVE},
            },
            "channels": [
                {"from": "a", "to": name, "size": 4, "gradient": {"passes": "first", "context": []}}
                for name in receivers
            ],
        }
        scenario = Scenario.model_validate(document)
        names = [channel.name for channel in scenario.channels]
        setting = setting_that_may_open(scenario.relations, names)
        assert setting == opens
        advised = yaml.safe_load(setting.removeprefix("gradient.").removeprefix("gradient: "))
        for channel in document["channels"]:
            channel["gradient"].update(advised)
        Scenario.model_validate(document)


BLIND = (
    "a synthetic gradient of a policy without the sender's observations averages over all states that share a "
    "message; add the sender's observations to gradient.context"
)


@pytest.mark.parametrize(
    ("unroll", "of_a"), [(16, "every 16 steps, not every 4"), ("episode", "once an episode, not every 4")]
)
def test_an_unroll_that_a_locked_group_replaces_is_warned_of(unroll: int | str, of_a: str) -> None:
    clocks: dict[str, Any] = {"a": {"clock": {"unroll": 4}}, "b": {"clock": {"unroll": unroll}}}
    lines = [line for line in advice({"coupling": "locked"}, **clocks) if "clock.unroll" in line]
    assert lines == [
        f"agent a: learns {of_a} as its clock.unroll says: agents a, b learn as one network; give them the same unroll"
    ]
    assert advice({"coupling": "locked"}, b=clocks["b"]) == []  # a's is not given
    assert advice({"coupling": "locked"}, a=clocks["a"], b=clocks["a"]) == []
    assert "clock.unroll" not in "".join(advice({}, **clocks))
    policy = {"objective": {"kind": "ppo"}, "acts": True}  # learns every 16 ticks by default
    lines = advice({"coupling": "locked"}, a={"clock": {"unroll": 32}}, b=policy)
    assert lines == []


def test_what_another_variant_intends_is_known_by_what_it_is_about_not_by_its_words() -> None:
    def variant(coupling: str, unroll: int) -> Scenario:
        agents = {"a": {"observes": ["image"], "clock": {"unroll": 4}}}
        agents["b"] = {"observes": ["image"], "objective": OBJECTIVE, "clock": {"unroll": unroll}}
        channels = [{"from": "a", "to": "b", "coupling": coupling}]
        return Scenario(scenario="x", env="x", agents=agents, channels=channels)

    lines = warnings(variant("locked", 8))
    assert len(lines) == 1
    assert lines[0].startswith("agent a: learns every 8 steps, not every 4")
    assert warnings(variant("locked", 8), [variant("locked", 16)]) == lines
    assert warnings(variant("locked", 8), [variant("locked", 16), variant("decoupled", 8)]) == []


@pytest.mark.parametrize("kind", ["ppo", "q"])
def test_minibatches_of_no_further_pass_are_warned_of(kind: str) -> None:
    def of(**keys: int) -> list[str]:
        return advice({"coupling": "locked"}, b={"acts": True, "objective": {"kind": kind, **keys}})

    line = "agent b: objective.minibatches is not used where epochs is 1: the first pass is over all environments"
    assert of(epochs=1, minibatches=8) == [line]
    assert of(epochs=2, minibatches=8) == of(epochs=1) == []


def test_settings_of_a_policy_without_effect_are_warned_of() -> None:
    def of(**keys: Any) -> list[str]:
        return advice({"coupling": "locked"}, b={"acts": True, "objective": {"kind": "ppo", **keys}})

    line = "agent b: objective.clip is not used where epochs is 1: in the first pass all ratios are 1"
    assert of(epochs=1, clip=0.1) == [line]
    assert of(epochs=2, clip=0.1) == []
    line = "agent b: its critic learns nothing, as objective.value is 0; give value a weight above 0"
    assert of(value=0, critic={"observes": ["image"]}) == [line]
    assert of(value=0) == of(critic={"observes": ["image"]}) == []


@pytest.mark.parametrize("kind", ["linear", {"kind": "local", "target": "label"}])
def test_a_predictor_that_never_learns_is_warned_of(kind: Any) -> None:
    gradient = kind if isinstance(kind, dict) else {"kind": kind}
    line = (
        "channel a->b: gradient.learn is false from the start, so the predicted gradient stays 0; let it learn, or make it "
        "detached"
    )
    assert advice({"gradient": {**gradient, "learn": False}}) == [line]
    assert advice({"gradient": gradient}) == []


def test_a_predictor_of_the_users_may_be_trained_before() -> None:
    def trained(inputs: int, outputs: int) -> torch.nn.Module:
        return torch.nn.Linear(inputs, outputs)

    assert advice({"gradient": {"kind": trained, "learn": False}}) == []


def test_a_synthetic_gradient_that_trains_nothing_is_warned_of() -> None:
    line = (
        "channel a->b: its sender does not learn, so its synthetic gradient trains nothing; make it detached"
    )
    frozen = {"a": {"learn": False}}
    assert advice({}, **frozen) == [line]
    assert advice({"coupling": "detached"}, **frozen) == []
    assert advice({}) == []
    through = {**frozen, "c": {}}  # what the sender of b returns to c is made of it
    assert line not in advice({}, {"from": "c", "to": "a"}, **through)
