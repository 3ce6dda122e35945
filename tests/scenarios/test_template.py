"""Templates: parameters, variants, and where errors point."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.base.errors import ScenarioError
from antiphon.scenarios import Template

TEXT = """\
scenario: small
description: costs $5
variants:
  locked: {coupling: locked, unroll: episode}
  wide: {width: 512}
parameters:
  width: {default: 8, description: units}
  coupling: {choices: [locked, decoupled], default: decoupled}
  unroll: {default: 1}
  lr: {default: 1e-3}
  context: {default: [label]}
  name: {default: image}
  learns: {default: true}
env: {id: antiphon/Digits-v0}
agents:
  a: {observes: [$name], network: {hidden: [$width, $width]}, clock: {unroll: $unroll}}
  b: {objective: {kind: classification, target: label}, clock: {unroll: $unroll}}
channels:
  - {from: a, to: b, coupling: $coupling, gradient: {context: $context, learn: $learns}}
training: {optimiser: {lr: $lr}}
"""


@pytest.fixture
def template() -> Template:
    """A template with a parameter of every type."""
    return Template.from_yaml(TEXT, "small.yaml")


def refused(text: str, **values: Any) -> str:
    with pytest.raises(ScenarioError) as caught:
        Template.from_yaml(text, "f.yaml").resolve(values=values)
    return str(caught.value)


def test_values_go_before_variants_and_variants_before_defaults(template: Template) -> None:
    assert template.resolve_values("locked", {"coupling": "decoupled", "context": []}) == {
        "width": 8,
        "coupling": "decoupled",
        "unroll": "episode",
        "lr": 0.001,
        "context": (),
        "name": "image",
        "learns": True,
    }
    with pytest.raises(ScenarioError, match=r"^small has no variant 'lockt'; did you mean 'locked'\?$"):
        template.resolve("lockt")
    plain = Template.from_yaml(template.resolve().to_yaml(), "plain.yaml")
    assert plain.resolve("detached").channels[0].coupling.name == "detached"
    with pytest.raises(ScenarioError, match=r"^small has no variant 'wide'; known: decoupled, detached, loc"):
        plain.resolve("wide")
    with pytest.raises(ScenarioError, match=r"no parameter 'width'; it has none$"):
        plain.resolve(values={"width": 3})
    assert "$" not in template.resolve("wide").to_yaml().replace("$5", "")
    assert template.resolve("locked").channels[0].coupling.name == "locked"
    assert template.resolve("wide", {"width": 3}).agents["a"].network.hidden == (3, 3)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"widht": 3}, "small has no parameter 'widht'; did you mean 'width'?"),
        ({"steps": 5}, "small has no parameter 'steps'; it is an option: write --steps 5"),
        ({"width": 0}, "small.yaml:16: agents.a.network.hidden[0]: must be at least 1, not 0"),
        ({"coupling": "lokced"}, "parameter 'coupling': unknown value 'lokced'; did you mean"),
        (
            {"context": "label"},
            "small.yaml:19: channels[0].gradient.context: must be a list, not the word 'label'; write [label]",
        ),
        (
            {"unroll": 0},
            "small.yaml:16: agents.a.clock.unroll: must be a whole number of ticks from 1, or 'episode', not 0",
        ),
        ({"lr": float("nan")}, "small.yaml:20: training.optimiser.lr: must be a finite number, not nan"),
    ],
)
def test_refused_values(template: Template, values: dict[str, Any], line: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        template.resolve(values=values)
    assert str(caught.value).startswith(line)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("[$name]", "[$nmae]", "16: agents.a.observes[0]: no parameter 'nmae'; did you mean 'name'?"),
        (" a: {", " $name: {", "15: agents: key '$name': '$name' can replace a value, not a key"),
        ("wide: {width", "wide: {wdth", "5: variants.wide.wdth: no parameter 'wdth'; did you mean 'width'?"),
        ("default: 8, ", "", "7: parameters.width.default: is missing"),
        ("{default: 8,", "{type: int, default: 8,", "7: parameters.width.type: unknown key 'type'; known: "),
        (
            "default: decoupled",
            "default: lokced",
            "8: parameters.coupling.default: unknown value 'lokced'; did you",
        ),
        (
            "[$name]",
            "[image]",
            "12: parameters.name: is used nowhere; write $name in place of a value, or leave",
        ),
        ("choices: [locked, decoupled]", "choices: [locked, [a]]", "8: parameters.coupling.choices[1]:"),
        ("scenario: small\n", "", "1: scenario: is missing"),
        ("training:", "channel: {}\ntraining:", "20: channel: is for a generated graph, and there is no"),
    ],
)
def test_refused_documents(old: str, new: str, line: str) -> None:
    assert old in TEXT
    assert refused(TEXT.replace(old, new, 1)).startswith(f"f.yaml:{line}")


COMPARED = """
scenario: compared
env: antiphon/Digits-v0
agents:
  eye: {observes: [image]}
  mind: {observes: [image], network: gru, objective: {kind: GOAL, target: label}}
channels: [CHANNELS]
"""
CHAINED = """
graph: {kind: chain, agents: 3, split: 1}
agent: {observes: [image]}
channel: {size: 4, split: {size: 4, SPLIT}}
"""


def couplings(channels: str, goal: str = "classification", more: str = "") -> dict[str, list[str]]:
    text = COMPARED.replace("CHANNELS", channels).replace("GOAL", goal) + more
    template = Template.from_yaml(text)
    return {
        variant: [f"{channel.coupling.name} {channel.gradient.kind}" for channel in scenario.channels]
        for variant in ("locked", "decoupled", "detached", "local")
        for scenario in [template.resolve(variant)]
    }


@pytest.mark.parametrize(
    ("channels", "more", "count"),
    [
        ("{from: eye, to: mind}, {from: eye, to: mind, key: 1, size: 3}", "", 2),
        ("{from: eye, to: mind, coupling: {kind: decoupled}}", "", 1),
        ("{from: eye, to: mind}", CHAINED.replace("SPLIT", "coupling: decoupled"), 3),
        ("{from: eye, to: mind}", CHAINED.replace("SPLIT", "gradient: {context: [image]}"), 3),
    ],
    ids=["keys", "mapping", "generated beside written", "some of the generated"],
)
def test_every_decoupled_channel_has_the_coupling_of_a_variant(channels: str, more: str, count: int) -> None:
    found = couplings(channels, more=more)
    kinds = {"locked": "ridge", "decoupled": "ridge", "detached": "ridge"}
    expected = {name: [f"{name} {kind}"] * count for name, kind in kinds.items()}
    assert found == {**expected, "local": ["decoupled local"] * count}
