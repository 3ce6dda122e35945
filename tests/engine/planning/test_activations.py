"""What is said of the activations that autograd keeps, held against what it does keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from antiphon.engine.build.builder import build_to_look
from antiphon.engine.planning.activations import KeptActivations, most_kept
from antiphon.engine.planning.cost_model import CostModel
from antiphon.engine.planning.plan import plan
from antiphon.envs import describe
from antiphon.scenarios import Scenario, load
from tests.commands import Commands
from tests.contracts.builders import GOAL, TOLD, Document, levels
from tests.engine.step.test_sweep import DETACHED, LOCKED, chain, kept, swept, wide


def most(scene: Document, sweep: bool) -> int:
    scenario = Scenario.model_validate(swept(scene, sweep))
    system = build_to_look(scenario, describe(scenario.env))
    return most_kept(system, CostModel(system))


def wide_chain(count: int, channel: Document) -> Document:
    scene = chain(count, channel)
    for agent in scene["agents"].values():
        agent["network"] = wide
    return scene


@pytest.mark.parametrize("channel", [DETACHED, TOLD, LOCKED])
@pytest.mark.parametrize("sweep", [True, False])
def test_the_estimate_is_what_is_kept(channel: Document, sweep: bool) -> None:
    """But for what the objective keeps of its outputs."""
    measured = kept(6, sweep, channel)
    assert 0.9 * measured <= most(wide_chain(6, channel), sweep) <= 1.1 * measured


def test_earlier_ticks_of_a_window_wait_for_its_last() -> None:
    agent: dict[str, Any] = {"clock": {"unroll": 3}}
    one = most(chain(4, TOLD), sweep=False) / 4
    assert most(chain(4, TOLD, agent=agent), sweep=True) == pytest.approx((4 * 2 + 1) * one, rel=0.1)
    assert most(chain(4, TOLD, agent=agent), sweep=False) == pytest.approx(4 * 3 * one, rel=0.1)


def test_what_has_to_wait_counts_beside_the_largest() -> None:
    scene = wide_chain(4, TOLD)
    scene["agents"]["m1"]["objective"] = GOAL  # known after the step
    found = plan(Scenario.model_validate(swept(scene))).activations
    (waits,) = [some for some in found if some.obstacle is not None]
    assert waits == KeptActivations(("m1",), waits.each, "the target goal is known after the step")
    others = [some.each for some in found if some.obstacle is None]
    assert most(scene, sweep=True) == waits.each + max(others)


def test_a_stack_has_one_graph_and_the_reference_one_order() -> None:
    found = plan(Scenario.model_validate(swept(levels(count=3))))
    a, b = found.activations
    assert (len(a.agents), len(b.agents)) == (3, 3)
    assert found.memory.activations == 3 * max(a.each, b.each)
    scene = chain(4, TOLD)
    scenario = Scenario.model_validate(swept(scene))
    ours, theirs = (plan(scenario, backend=name) for name in ("cohort", "reference"))
    assert (ours.sweep, theirs.sweep) == (True, False)
    assert theirs.memory.activations == most(scene, sweep=False)


@pytest.mark.parametrize("sweep", [True, False])
def test_show_names_what_is_kept_and_what_has_to_wait(sweep: bool, here: Path, cli: Commands) -> None:
    scenario = load("digits-mlp").resolve("decoupled", {"depth": 3}).with_training(sweep=sweep)
    Path("mine.yaml").write_text(scenario.to_yaml(), encoding="utf-8")
    found = cli.json("show mine.yaml")["plan"]
    assert found["sweep"] is sweep
    assert found["activations"][0]["each"] > 0
    text = cli("show mine.yaml")
    assert ("kept for backward" in text) is sweep
    if sweep:
        first = text[text.index("kept for backward") :].splitlines()[2]
        assert first.startswith("n0 ")
        assert first.rstrip().endswith("gone before the next one's forward")
