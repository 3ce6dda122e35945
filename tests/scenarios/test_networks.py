"""Built-in networks as data: what each kind has, what it does not use, and how it is written."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.errors import ScenarioError
from antiphon.scenarios import NetworkSpec, Scenario, warnings
from antiphon.scenarios.spec import plain

RECURRENT = ("rnn", "leaky", "gru", "lstm")


def alone(**network: Any) -> Scenario:
    agent = {
        "observes": ["image"],
        "network": network,
        "objective": {"kind": "classification", "target": "label"},
    }
    return Scenario.model_validate({"scenario": "x", "env": {"id": "x"}, "agents": {"a": agent}})


@pytest.mark.parametrize("kind", RECURRENT)
def test_recurrent_kinds_are_written_with_the_size_of_their_cell(kind: str) -> None:
    network = NetworkSpec.model_validate(kind)
    assert network.recurrent
    assert plain(network) == {"kind": kind, "size": 128}
    scenario = alone(kind=kind, size=7, encoder=[5, 6], cell_norm="batch", norm="layer", activation="tanh")
    assert Scenario.from_yaml(scenario.to_yaml()) == scenario
    assert warnings(scenario) == []


@pytest.mark.parametrize(
    ("network", "keys"),
    [
        ({"kind": "lstm", "hidden": [3]}, ["hidden"]),
        ({"kind": "lstm", "leak": 0.3}, ["leak"]),
        ({"kind": "leaky", "leak": 0.3}, []),
        ({"kind": "mlp", "size": 3, "encoder": [2]}, ["size", "encoder"]),
        ({"kind": "conv", "cell_norm": "layer"}, ["cell_norm"]),
    ],
)
def test_keys_that_a_kind_does_not_use(network: dict[str, Any], keys: list[str]) -> None:
    kind = network["kind"]
    expected = [f"agent a: network.{key} is not used by a network of kind {kind}" for key in keys]
    assert warnings(alone(**network)) == expected


@pytest.mark.parametrize(
    ("network", "line"),
    [
        ({"kind": "lstm", "size": 0}, "network.size: must be at least 1, not 0"),
        ({"kind": "leaky", "leak": 0}, "network.leak: must be greater than 0, not 0.0"),
        ({"kind": "gru", "cell_norm": "group"}, "network.cell_norm: unknown cell_norm 'group'; known:"),
    ],
)
def test_refused(network: dict[str, Any], line: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        alone(**network)
    assert str(caught.value).startswith(f"agents.a.{line}")
