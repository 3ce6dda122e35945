"""Warnings: settings that run and cost a training; and what a learning signal reaches, by scale and discount."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.base.errors import ScenarioError
from antiphon.scenarios import Scenario, warnings
from tests.scenarios.made import OBJECTIVE


def chain(
    *channels: dict[str, Any], training: dict[str, Any] | None = None, **agents: dict[str, Any]
) -> Scenario:
    """A chain a -> b (with an objective) whose parts are changed as given."""
    plain: dict[str, Any] = {
        "a": {"observes": ["image"]},
        "b": {"observes": ["image"], "objective": OBJECTIVE},
    }
    names = {**plain, **agents}
    made = {name: {"observes": ["image"], **plain.get(name, {}), **agents.get(name, {})} for name in names}
    ends = [{"from": "a", "to": "b", "gradient": {"context": ["label"]}, **channel} for channel in channels]
    env = {"id": "antiphon/Digits-v0", "hold": 2}
    data = {"scenario": "x", "env": env, "agents": made, "channels": ends, "training": training or {}}
    return Scenario.model_validate(data)


@pytest.mark.parametrize(
    ("gradient", "warned"),
    [({"kind": "linear"}, True), ({}, False), ({"kind": "linear", "context": []}, False), ("local", False)],
)
def test_a_predictor_of_a_classifier_s_gradient_without_the_label(gradient: Any, warned: bool) -> None:
    if gradient == "local":
        gradient = {"kind": "local", "target": "label"}
    line = "channel a->b: predicts gradients without the label, on which they depend; give gradient.context [label]"
    assert warnings(chain({"gradient": gradient})) == [line] * warned


def test_a_locked_channel_whose_delay_is_a_window() -> None:
    late = {"coupling": "locked", "link": {"delay": 1}}
    line = "channel a->b: no gradient passes, as the delay is a whole window; use unroll: episode"
    assert warnings(chain(late)) == [line]
    assert warnings(chain(late, a={"clock": {"unroll": 2}}, b={"clock": {"unroll": 2}})) == []


def test_delayed_channels_on_a_cycle() -> None:
    there, back = (
        {"coupling": "delayed"},
        {"from": "b", "to": "a", "coupling": "delayed", "link": {"delay": 1}},
    )
    (line,) = warnings(chain(there, back))
    assert line.startswith("agents a, b: wait for each other's gradients over delayed channels")
    assert warnings(chain(there, {**back, "coupling": "decoupled"})) == []


@pytest.mark.parametrize(("split", "warned"), [("test", True), ("validation", False)])
def test_scores_of_the_test_split_that_select(split: str, warned: bool) -> None:
    evaluate = {"period": 100, "split": split, "keep_best": "accuracy", "patience": {"loss": 2}}
    line = "training.evaluate: keep_best and patience by the test split, so its score is no test; use split: validation"
    assert warnings(chain({}, training={"evaluate": evaluate})) == [line] * warned
    assert warnings(chain({}, training={"evaluate": {"period": 100, "split": split}})) == []


def test_an_evaluation_after_the_end_is_refused() -> None:
    with pytest.raises(
        ScenarioError, match=r"^training.evaluate.period: 200 is more than training.steps, 100; "
    ):
        chain({}, training={"steps": 100, "evaluate": {"period": 200}})


# --- what a learning signal reaches (semantics 3) -------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "coupling", "reached"),
    [
        ({"scale": 0}, "decoupled", "bc"),  # a's parameters are not moved, but it returns a gradient to c
        ({"discount": 0}, "decoupled", "ab"),  # a learns, and returns none
        ({"scale": 0}, "locked", "b"),  # a and c learn as one
        ({"discount": 0}, "locked", "abc"),
    ],
)
def test_scale_weighs_what_is_learned_and_discount_what_is_returned(
    weights: dict[str, Any], coupling: str, reached: str
) -> None:
    scenario = chain({"gradient": weights}, {"from": "c", "to": "a", "coupling": coupling}, c={})
    assert scenario.relations.reached == {*reached}


def test_a_signal_travels_over_several_channels() -> None:
    for coupling, reached in (("decoupled", "abc"), ("locked", "abc"), ("detached", "ab")):
        assert chain({}, {"from": "c", "to": "a", "coupling": coupling}, c={}).relations.reached == {*reached}
    assert chain({"coupling": "detached"}, {"from": "c", "to": "a"}, c={}).relations.reached == {"b"}
