"""Shapes: what each agent takes in and each channel carries, found before anything is allocated."""

from __future__ import annotations

from typing import Any

import pytest
from gymnasium.spaces import Discrete

from antiphon.engine.build.shapes import Shapes, objective_in, resolve
from antiphon.envs import registry
from antiphon.envs.signal import Description, Signal
from antiphon.errors import ScenarioError
from antiphon.scenarios.agent_specs import AgentSpec
from tests.engine.numbers import one_line
from tests.engine.scenes import CLASSIFY, scenario_of

Document = dict[str, Any]


def shapes(agents: dict[str, Document], channels: list[Document], **options: Any) -> Shapes:
    scenario = scenario_of(agents, channels, options)
    return resolve(scenario, registry.describe(scenario.env))


def test_inputs_are_what_is_seen_and_told() -> None:
    agents: dict[str, Document] = {
        "a": {"observes": ["image", "left_half"], "network": {"hidden": [7, 5]}},
        "b": {"observes": ["right_half"], "objective": CLASSIFY},
        "c": {"fan_in": "sum", "objective": CLASSIFY},
    }
    channels: list[Document] = [
        {"from": "a", "to": "b"},
        {"from": "a", "to": "b", "key": 1, "size": 3},
        {"from": "a", "to": "c", "size": 4, "port": "p"},
        {"from": "b", "to": "c", "size": 4},
    ]
    found = shapes(agents, channels)
    assert found.inputs == {"a": (96,), "b": (32 + 5 + 3,), "c": (4,)}
    assert found.messages == {"a->b": (5,), "a->b:1": (3,), "a->c": (4,), "b->c": (4,)}
    assert [(h.name, h.size, h.norm) for h in found.heads["a"]] == [
        ("to_b_1", (3,), "batch"),
        ("port_p", (4,), "batch"),
    ]
    assert [(h.name, h.size) for h in found.heads["b"]] == [("objective", (10,)), ("to_c", (4,))]


@pytest.mark.parametrize(
    ("hold", "clock", "norm"),
    [(1, {}, "batch"), (3, {}, "layer"), (3, {"period": 3}, "batch"), (3, {"period": 2}, "layer")],
)
def test_batch_norm_is_for_agents_that_tick_once_per_example(hold: int, clock: Document, norm: str) -> None:
    agents: dict[str, Document] = {"a": {"observes": ["image"], "clock": clock}, "b": {"objective": CLASSIFY}}
    (head,) = shapes(agents, [{"from": "a", "to": "b", "size": 3}], hold=hold).heads["a"]
    assert head.norm == norm


def test_hidden_messages_may_go_round_in_a_cycle() -> None:
    agents: dict[str, Document] = {
        "a": {"observes": ["image"], "network": {"hidden": [7]}},
        "b": {"objective": CLASSIFY},
    }
    link = {"link": {"delay": 1}}
    channels = [
        {"from": "a", "to": "b", **link},
        {"from": "b", "to": "a", **link},
        {"from": "b", "to": "b", **link},
    ]
    assert shapes(agents, channels).inputs == {"a": (64 + 128,), "b": (7 + 128,)}


def test_feature_maps_stay_feature_maps() -> None:
    conv = {"kind": "conv", "hidden": [3, 4], "pool": ["none", "max"]}
    agents: dict[str, Document] = {
        "a": {"observes": ["image"], "network": conv},
        "b": {"network": conv},
        "c": {"objective": CLASSIFY},
    }
    found = shapes(agents, [{"from": "a", "to": "b"}, {"from": "b", "to": "c"}])
    assert found.inputs == {"a": (1, 8, 8), "b": (4, 4, 4), "c": (16,)}
    assert found.messages == {"a->b": (4, 4, 4), "b->c": (4, 2, 2)}


CONV = {"kind": "conv", "hidden": [3]}
AB: list[Document] = [{"from": "a", "to": "b", "size": 3}]
WRONG: list[tuple[dict[str, Document], list[Document], str]] = [
    (
        {"a": {"observes": ["imag"], "objective": CLASSIFY}},
        [],
        r"agents\.a\.observes: no signal 'imag'; did you mean 'image'\?",
    ),
    (
        {"a": {"observes": ["label"], "objective": CLASSIFY}},
        [],
        r"agents\.a\.observes: 'label' is a training-only signal",
    ),
    (
        {"a": {"observes": ["image"], "objective": {**CLASSIFY, "target": "labl"}}},
        [],
        r"agents\.a\.objective\.target: no signal 'labl'; did you mean 'label'\?",
    ),
    (
        {"a": {"observes": ["image"], "objective": {**CLASSIFY, "target": "image"}}},
        [],
        r"agents\.a\.objective: classification does not fit the target 'image' \(floats, shape \[1, 8, 8\]\)",
    ),
    (
        {"a": {"observes": ["image"], "objective": {"kind": "regression", "target": "label"}}},
        [],
        r"agents\.a\.objective: regression does not fit the target 'label' \(10 classes",
    ),
    (
        {"a": {"observes": ["image"]}, "b": {"objective": CLASSIFY}},
        [{**AB[0], "gradient": {"context": ["labels"]}}],
        r"channels\[a->b\]\.gradient\.context: no signal 'labels'",
    ),
    (
        {"a": {"observes": ["image"]}, "b": {"objective": CLASSIFY}},
        [{**AB[0], "gradient": {"kind": "local", "target": "labels"}}],
        r"channels\[a->b\]\.gradient\.target: no signal 'labels'",
    ),
    (
        {
            "a": {"observes": ["image"]},
            "b": {"objective": CLASSIFY, "fan_in": "sum"},
            "c": {"observes": ["image"]},
        },
        [{"from": "a", "to": "b"}, {"from": "c", "to": "b", "size": 3}],
        r"agents\.b\.fan_in: sum needs messages of one size, got a->b \[128\], c->b \[3\]",
    ),
    (
        {"a": {"observes": ["image"]}, "b": {"objective": CLASSIFY, "network": CONV}},
        AB,
        r"agents\.b: a conv network needs \[channels, height, width\] inputs of one height and width, got \[3\]",
    ),
    (
        {"a": {"observes": ["image"], "network": CONV}, "b": {"objective": CLASSIFY, "network": CONV}},
        [{"from": s, "to": r, "link": {"delay": 1}} for s, r in ("ab", "ba")],
        r"agents.a: a, b: each waits for the other's message to know its input; give one of the channels between them a size",
    ),
    (
        {"a": {"observes": ["image"]}, "b": {"observes": ["image"], "objective": CLASSIFY}},
        [],
        r"agents\.a: it has no objective and no channel leaves it; nothing could use it",
    ),
]


@pytest.mark.parametrize(("agents", "channels", "expected"), WRONG)
def test_what_does_not_fit_is_one_clear_line(
    agents: dict[str, Document], channels: list[Document], expected: str
) -> None:
    with one_line(expected):
        shapes(agents, channels)


def test_labels_at_sites_are_no_choice_among_actions() -> None:
    """As many outputs as actions, but of two sites with two classes each."""
    marks = {"marks": Signal(shape=(2,), classes=2), "mark": Signal(classes=4)}
    env = Description(signals=marks, example_counts={}, action_space=Discrete(4))

    def outputs(target: str) -> int | None:
        goal = {"kind": "classification", "target": target}
        found = objective_in("a", AgentSpec.model_validate({"acts": True, "objective": goal}), env)
        return None if found is None else found[1]

    assert outputs("mark") == 4
    with pytest.raises(ScenarioError, match=r"agents.a.acts: the environment has 4 actions"):
        outputs("marks")
