"""What the channels claim, at toy budgets: the direction of each effect, with a margin and a seed.

The figures themselves come from studies (`benchmarks/results`). Six layers of 64 on the embedded digits, 300 steps;
seeds 0 and 1: locked .99, detached .61-.65, all others as noted.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from antiphon import Simulation
from antiphon.scenarios import Scenario, load
from antiphon.scenarios.channel_specs import InputSpec

STEPS = 300


@cache
def accuracy(coupling: str = "decoupled", seed: int = 0, **values: Any) -> float:
    scenario = load("digits-mlp").resolve(
        None, {"depth": 6, "width": 64, "steps": STEPS, "coupling": coupling, **values}
    )
    return trained(scenario, seed)


def trained(scenario: Scenario, seed: int = 0) -> float:
    with Simulation(scenario, seed=seed) as simulation:
        simulation.run()
        return simulation.evaluate().accuracy


def changed(steps: int = STEPS, **changes: Any) -> Scenario:
    """The chain with every channel, or every agent, changed."""
    scenario = load("digits-mlp").resolve(None, {"depth": 6, "width": 64, "steps": steps})
    agents = changes.pop("agents", {})
    fields = {name: getattr(scenario, name) for name in type(scenario).model_fields}
    fields["channels"] = [channel.model_copy(update=changes) for channel in scenario.channels]
    fields["agents"] = {name: agent.model_copy(update=agents) for name, agent in scenario.agents.items()}
    return Scenario(**fields)


@pytest.mark.parametrize(
    "kind", ["linear", *(pytest.param(k, marks=pytest.mark.nightly) for k in ("sobolev", "sobolev_label"))]
)
def test_every_kind_that_carries_credit_leaves_detached_behind(kind: str) -> None:
    """.96-.98; the least margin seen is .32."""
    assert accuracy(gradient=kind) > accuracy("detached") + 0.2


@pytest.mark.parametrize("kind", ["fa", pytest.param("dfa", marks=pytest.mark.long)])
def test_feedback_alignment_learns(kind: str) -> None:
    """.93-.98."""
    assert accuracy("locked", feedback=kind) > accuracy("detached") + 0.15


@pytest.mark.nightly
def test_complete_unlock_composes() -> None:
    """No layer ever reads a real message, and yet they fit together when they are connected: .97-.98 (1,000 steps)."""
    model = InputSpec(kind="mlp", context=("image",), hidden=(128,))
    unlocked = trained(changed(1_000, coupling="unlocked", input=model))
    assert unlocked > accuracy("detached", steps=1_000) + 0.15


def test_a_fifth_of_the_updates_is_enough_to_leave_detached_behind() -> None:
    """.72-.73."""
    assert trained(changed(agents={"p_update": 0.2})) > accuracy("detached") + 0.1
