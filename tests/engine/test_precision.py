"""`training.precision: bf16`: networks and predictors under autocast, all that is kept and all that crosses a channel in float32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import antiphon
from tests.kit.native import kernel
from tests.reference.backend import Chosen, reference

DOCUMENT = """
scenario: precision
env: {{id: antiphon/Digits-v0}}
agents:
  a: {{observes: [left_half], network: {network}}}
  b: {{observes: [right_half], network: {network}}}
  c: {{network: {{kind: mlp, hidden: [8], norm: layer}}, objective: {{kind: classification, target: label}}}}
channels:
- {{from: a, to: c, size: 4, {channel}}}
- {{from: b, to: c, size: 4, {channel}}}
training: {{batch: 6, steps: 2, optimiser: {{kind: sgd, lr: 0.05}}, precision: {precision}}}
"""
NETWORKS = ("{kind: mlp, hidden: [8], norm: batch}", "{kind: conv, hidden: [4]}", "{kind: gru, hidden: [6]}")
CHANNELS = (
    "coupling: locked",
    "gradient: {kind: linear, context: [label]}",
    "gradient: {kind: mlp, hidden: [8]}",
    "gradient: {kind: local, target: label}",
    "gradient: {kind: sobolev, hidden: [8], context: [label]}",
    "coupling: unlocked, input: {kind: linear}",
)
CASES = [(NETWORKS[i % 3], channel) for i, channel in enumerate(CHANNELS)] + [(NETWORKS[1], CHANNELS[2])]
"""Every channel with one of the networks."""


def floats(found: Any) -> Iterator[Tensor]:
    """Yield the tensors of numbers in a state."""
    values = found.values() if isinstance(found, dict) else found if isinstance(found, list | tuple) else ()
    for value in values:
        yield from floats(value)
    if isinstance(found, Tensor) and found.is_floating_point():
        yield found


def state_of(document: str, backend: Chosen = "cohort", steps: int = 2) -> dict[str, Any]:
    """Return the state after some steps: parameters, statistics, optimisers, messages."""
    scenario = antiphon.Scenario.from_yaml(document)
    with antiphon.Simulation(scenario, backend=backend) as simulation:
        for _ in range(steps):
            simulation.step()
        return simulation.running.backend.state_dict()


def numbers(state: dict[str, Any]) -> Tensor:
    """Return the parameters of agents and predictors, and their statistics, as one vector."""
    kept = [state[key] for key in ("learners", "predictors", "inputs")]
    return torch.cat([one.detach().flatten() for one in floats(kept)])


class Own(nn.Sequential):
    """A module of one's own."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Linear(inputs, outputs))


def scenario_of(network: Any) -> antiphon.Scenario:
    """Return a scenario of one agent with a network from Python."""
    return antiphon.Scenario(
        scenario="own",
        env={"id": "antiphon/Digits-v0"},
        agents={
            "a": {
                "observes": ["image"],
                "network": network,
                "objective": {"kind": "classification", "target": "label"},
            }
        },
        training={"batch": 4, "precision": "bf16"},
    )


def test_a_module_of_ones_own_runs_under_autocast_and_native_refuses_it() -> None:
    seen = []

    class Seen(Own):
        def forward(self, x: Tensor) -> Tensor:
            found = super().forward(x)
            seen.append(found.dtype)
            return found

    with antiphon.Simulation(scenario_of(Seen)) as simulation:
        seen.clear()
        simulation.step()
        assert set(seen) == {torch.bfloat16}
        if kernel() is not None:
            with pytest.raises(
                antiphon.ScenarioError, match="precision: the native kernel computes in float32"
            ):
                antiphon.Simulation(simulation.scenario, backend="native")


@pytest.mark.cases(1)
@pytest.mark.parametrize(("network", "channel"), CASES)
def test_what_is_kept_is_float32_and_the_backends_agree(network: str, channel: str) -> None:
    bf16, float32 = (
        DOCUMENT.format(network=network, channel=channel, precision=precision)
        for precision in ("bf16", "float32")
    )
    found = state_of(bf16)
    assert {tensor.dtype for tensor in floats(found)} == {torch.float32}
    moved, other, full = numbers(found), numbers(state_of(bf16, reference)), numbers(state_of(float32))
    way = (full - numbers(state_of(float32, steps=0))).norm()
    assert 0 < (moved - full).norm() < 0.1 * way  # a number of bfloat16 has 8 bits: 0.4 %
    assert (moved - other).norm() < 0.05 * way
