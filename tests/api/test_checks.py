"""Checks from Python: the lines of `antiphon check`."""

from __future__ import annotations

from pathlib import Path

import pytest

import antiphon
from tests.engine.numbers import one_line
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.kit.commands import Commands

BLIND = scenario_of(
    {"a": {"observes": ["image"]}, "b": {"objective": CLASSIFY}},
    [{"from": "a", "to": "b", "size": 4, "gradient": "linear"}],
)
WRONG = """\
scenario: wrong
env: {id: antiphon/Digits-v0}
agents:
  a: {observes: [imge], objective: {kind: classification, target: label}}
training: {batch: 0}
"""


@pytest.mark.parametrize("name", ["digits-mlp", "toy", "blind.yaml", "wrong.yaml"])
def test_it_finds_what_the_command_prints(name: str, here: Path, cli: Commands) -> None:
    Path("blind.yaml").write_text(BLIND.to_yaml())
    Path("wrong.yaml").write_text(WRONG)
    found = antiphon.check(name)
    assert cli.code("check", name) == (0 if found.ok else 2)
    assert str(found).splitlines() == [*cli.err.splitlines(), *cli.out.splitlines()]
    assert found.ok == (name != "wrong.yaml")


def test_an_object_a_variant_and_values_are_checked() -> None:
    found = antiphon.check(BLIND)
    assert found.ok
    assert "give gradient.context [label]" in next(iter(found.warnings))
    assert repr(antiphon.check("digits-mlp", variant="locked")).endswith("digits-mlp.yaml: ok")
    assert "'lr': must be greater than 0" in str(antiphon.check("digits-mlp", values={"lr": 0.0}))
    with one_line(r"no scenario 'nothing'; .*; a file is given with its ending, \.yaml$"):
        antiphon.check("nothing")
