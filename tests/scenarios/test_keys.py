"""The keys of documents: what is said of a key that is not there, and the two spellings of some."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.scenarios import (
    AgentSpec,
    ChannelSpec,
    DocumentError,
    GradientSpec,
    NetworkSpec,
    ObjectiveSpec,
    Scenario,
    Template,
    TrainingSpec,
)

OF_OTHERS: list[tuple[type[Any], dict[str, Any], str]] = [
    (ObjectiveSpec, {"kind": "coding", "weight": 2}, "weight: coding has no weight"),
    (
        GradientSpec,
        {"kind": "linear", "network": None},
        "network: linear has no network; leave it out, or use local",
    ),
]
"""Parts of documents with keys that other kinds have, and the line of each."""


@pytest.mark.parametrize(("part", "keys", "line"), OF_OTHERS, ids=lambda value: str(value)[:30])
def test_a_key_of_other_kinds_is_told_which(part: type[Any], keys: dict[str, Any], line: str) -> None:
    with pytest.raises(DocumentError) as caught:
        part.model_validate(keys)
    told = [str(one) for one in caught.value.separate()]
    assert any(one.startswith(line) for one in told), told


@pytest.mark.parametrize(
    ("part", "key"),
    [
        *((AgentSpec, key) for key in ("back", "bound", "symbols", "apply", "prefix", "head", "tied")),
        (ChannelSpec, "length"),
        (NetworkSpec, "type"),
        (TrainingSpec, "betas"),
    ],
)
def test_a_key_of_another_part_is_unknown(part: type[Any], key: str) -> None:
    with pytest.raises(DocumentError, match=f"{key}: unknown key '{key}'; known: "):
        part.model_validate({key: 1})


SPELLED = """
scenario: both
parameters: {lr: {default: 0.01}}
variants: {fast: {lr: 0.5}}
env: {id: antiphon/Digits-v0}
graph: {kind: tree, agents: 3, neighbors: 2}
agent:
  observes: [image]
  optimizer: {kind: adam}
  readout: {optimiser: {kind: sgd, learning_rate: 0.25}, objective: {kind: classification, target: label}}
channel:
  size: 4
  gradient:
    {kind: linear, optimizer: {learning_rate: 0.125}}
training:
  optimizer: {kind: sgd,

    learning_rate: $lr}
telemetry: {every: 7}
"""


def test_both_spellings_of_a_key_are_one_and_the_standard_one_is_written() -> None:
    text = Template.from_yaml(SPELLED).resolve("fast").to_yaml()
    standard = {
        "learning_rate": "lr",
        "neighbors": "neighbours",
        "optimizer": "optimiser",
        "every": "period",
    }
    plain = SPELLED
    for other, key in standard.items():
        plain = plain.replace(f"{other}:", f"{key}:")
        assert other not in text
    assert text == Template.from_yaml(plain).resolve(values={"lr": 0.5}).to_yaml()
    assert Scenario.from_yaml(text).to_yaml() == text
