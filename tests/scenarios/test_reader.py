"""The YAML reader: none of YAML's traps, and a line number in every error."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.base.errors import ScenarioError
from antiphon.scenarios import Scenario
from antiphon.scenarios.yaml_text import read


def value(text: str) -> Any:
    return read(f"key: {text}\n", "f.yaml").data["key"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("012", 12),
        ("0o17", 15),
        ("true", True),
        ("~", None),
        ("", None),
        ("!!str 12", "12"),
        ("'012'", "012"),
    ],
)
def test_scalars(text: str, expected: Any) -> None:
    found = value(text)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    "word",
    ["no", "yes", "on", "off", "y", "n", "NO", "12:30", "1_000", "0b11", "2026-11-20", "1e", "e3", "="],
)
def test_words_stay_words(word: str) -> None:
    assert value(word) == word
    assert read(f"{word}: 1\n", "f.yaml").data == {word: 1}


def test_anchors_are_values() -> None:
    document = read("a: &x {b: [1, 2]}\nc: *x\n", "f.yaml")
    assert document.data == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}}


def test_merge_keys_add_what_a_mapping_lacks() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b\n  y: 2\n  z: {w: 2}\nc: {<<: [*a, *b], x: 3}\nd: &d\n  <<: *b\n  v: 4\ne: {<<: *d}\n"
    document = read(text, "f.yaml")
    merged = {"y": 1, "z": {"w": 2}, "x": 3}
    of_d = {"v": 4, "y": 2, "z": {"w": 2}}
    assert document.data["c"] == merged
    assert document.data["d"] == of_d
    assert document.data["e"] == of_d


def test_lines_of_paths() -> None:
    lines = read("a:\n  b:\n    - 1\n    - {c: 2,\n       d: 3}\n", "f.yaml").lines
    assert lines[()] == 1
    assert lines["a", "b"] == 2
    assert lines["a", "b", 0] == 3
    assert lines["a", "b", 1, "c"] == 4
    assert lines["a", "b", 1, "d"] == 5


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "a: 1\nb: [1, 2\nc: 3\n",
            ":3: broken YAML: did not find expected ',' or ']', while parsing a flow sequence",
        ),
        (
            "a: 1\nagents\n  b: 2\n",
            ":2: broken YAML: could not find expected ':', while scanning a simple key",
        ),
        ("a: 1\n--- \nb: 1\n", ":2: broken YAML: but found another document, expected a single document in"),
        ("", ":1: a scenario is a mapping of keys; begin with 'scenario: NAME'"),
        ("a: 1\nb: 2\na: 3\n", ":3: a: is given twice, first in line 1; keep one"),
        ("? [a]\n: 1\n", ":1: a key is a word, not a list or mapping"),
        ("a: !!python/object/apply:os.popen [ls]\n", ":1: a: tag"),
        ("a: &x [1, *x]\n", ":1: broken YAML: found unconstructable recursive node"),
        ("a: \ud800\n", ": broken YAML: 'utf-8' codec can't encode"),
    ],
)
def test_refused(text: str, line: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        read(text, "f.yaml")
    assert str(caught.value).startswith(f"f.yaml{line}")


SMALL = """\
scenario: small
env: {id: antiphon/Digits-v0}
agents:
  A: {observes: [image]}
  B: {objective: {kind: classification, target: label}}
channels:
  - {from: A, to: B}
"""


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("to: B", "to: C", "7: channels[0].to: no agent 'C'; known: A, B"),
        ("observes: [image]", "network: {hiden: [1]}", "4: agents.A.network.hiden: unknown key 'hiden';"),
        ("env: {id", "env: {ID", "2: env.id: is missing"),
        (
            "to: B}",
            "to: B, link: {delay: 1e-3}}",
            "7: channels[0].link.delay: must be a whole number of steps from 0 to 1024, ",
        ),
        (
            "  - {from: A, to: B}",
            "  - {from: A, to: B}\n  - {from: B, to: A}",
            "7: channels[0]: zero-delay cycle A -> B -> A; give one of these a link delay of 1 or more",
        ),
    ],
)
def test_errors_of_scenarios_name_the_line(old: str, new: str, line: str) -> None:
    assert old in SMALL
    assert Scenario.from_yaml(SMALL, "mine.yaml").scenario == "small"
    with pytest.raises(ScenarioError) as caught:
        Scenario.from_yaml(SMALL.replace(old, new), "mine.yaml")
    assert str(caught.value).startswith(f"mine.yaml:{line}")
