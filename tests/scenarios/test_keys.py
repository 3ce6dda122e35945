"""The keys of documents: how many there are, that each is used somewhere, and what is said of a key that is not there."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import antiphon
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
    json_schema,
)
from antiphon.scenarios.channel_specs import SampleSpec

ROOT = Path(__file__).parents[2]
MOST = 117
OF_OTHERS: list[tuple[type[Any], dict[str, Any], str]] = [
    (ObjectiveSpec, {"kind": "coding", "weight": 2}, "weight: coding has no weight"),
    (
        GradientSpec,
        {"kind": "linear", "network": None},
        "network: linear has no network; leave it out, or use local",
    ),
]
"""Parts of documents with keys that other kinds have, and the line of each."""


def names(schema: Any) -> Iterator[str]:
    """Yield the names of all properties in a JSON Schema."""
    if isinstance(schema, Mapping):
        properties = schema.get("properties", {})
        yield from properties
        for key, value in schema.items():
            if key in ("properties", "$defs"):
                for part in value.values():
                    yield from names(part)
            elif key not in ("default", "enum", "const"):
                yield from names(value)
    elif isinstance(schema, list):
        for part in schema:
            yield from names(part)


def own_schema() -> Any:
    """The schema of scenarios without environments that other tests have registered."""
    schema = json_schema()
    env = schema["$defs"]["EnvSpec"]
    env["anyOf"] = [branch for branch in env["anyOf"] if '"const": "tests/' not in json.dumps(branch)]
    return schema


KEYS = sorted(set(names(own_schema())))


@pytest.mark.long
def test_there_are_not_many() -> None:
    schema = json_schema()
    branches = schema["$defs"]["EnvSpec"]["anyOf"]
    schema["$defs"]["EnvSpec"]["anyOf"] = branches[-1:]  # environments have options of their own
    assert len(set(names(schema))) <= MOST


def keys_of(value: Any) -> Iterator[str]:
    """Yield the keys of a parsed document, and of all in it."""
    if isinstance(value, Mapping):
        yield from value
    for part in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from keys_of(part)


def keys_of_code(source: str) -> Iterator[str]:
    """Yield the keys of the dicts that code writes, and what it calls a class of a document's parts with."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Dict):
            yield from (str(key.value) for key in node.keys if isinstance(key, ast.Constant))
        elif isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called.endswith("Spec") or called in ("Scenario", "dict"):
                yield from (keyword.arg for keyword in node.keywords if keyword.arg)


@pytest.mark.long
def test_each_is_used_by_a_scenario_a_study_a_document_of_the_tests_or_a_page() -> None:
    unused = set(KEYS)
    documents = [path.read_text(encoding="utf-8") for path in (ROOT / "scenarios").glob("*/*.yaml")]
    for page in (ROOT / "docs").rglob("*.md"):
        documents += re.findall(
            r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
        )
    for text in documents:
        unused -= {key for document in yaml.load_all(text, yaml.CSafeLoader) for key in keys_of(document)}
    refused = {
        Path(__file__),
        ROOT / "tests/scenarios/test_refusals.py",
    }  # they write what may not stand there
    code = [*(ROOT / "docs/gallery").glob("*.py"), *sorted((ROOT / "tests/contracts").glob("*.py"))]
    for path in dict.fromkeys([*code, *(ROOT / "tests").rglob("*.py")]):
        if not unused:
            break
        if path not in refused:
            unused -= set(keys_of_code(path.read_text(encoding="utf-8")))
    assert unused == set()


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


@pytest.mark.parametrize(
    ("part", "kinds"),
    [
        (ObjectiveSpec, "a2c, classification, coding"),
        (SampleSpec, "argmax, gaussian, gumbel, latent, reinforce"),
    ],
)
def test_a_missing_kind_is_told_which_there_are(part: type[Any], kinds: str) -> None:
    with pytest.raises(DocumentError, match=f"kind: is missing; known: {kinds}"):
        part.model_validate({"size": 1})


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


@pytest.mark.parametrize(
    ("there", "here", "line"),
    [
        (
            "neighbors: 2",
            "neighbors: 2, neighbours: 2",
            ":6: graph.neighbors: is another spelling of 'neighbours', which is given too; keep one",
        ),
        ("observes: [image]", "optimiser: {}", "9: agent.optimizer: is another spelling of 'optimiser'"),
        (
            "learning_rate: $lr",
            "learning_rate: -1, momentum: $lr",
            ":18: training.optimiser.lr: must be greater than 0",
        ),
    ],
)
def test_two_spellings_at_once_are_refused_and_errors_have_their_line(
    there: str, here: str, line: str
) -> None:
    with pytest.raises(DocumentError, match=re.escape(line)):
        Template.from_yaml(SPELLED.replace(there, here)).resolve()


def test_help_shows_keys_with_defaults_and_no_validators() -> None:
    shown = str(inspect.signature(antiphon.Scenario))
    assert shown.startswith("(*, scenario, env, agents, description=''")
    assert "Validator" not in shown
    assert "function" not in shown
    assert str(inspect.signature(antiphon.scenarios.ChannelSpec)).endswith("horizon=16, **data)")
