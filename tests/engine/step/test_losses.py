"""Judging: what the objectives say of a window, by hand (semantics 1, 21)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.agents.network import OBJECTIVE
from antiphon.engine.core.records import AgentTick
from antiphon.engine.core.updates import WindowLoss
from antiphon.engine.simulation import Simulation
from antiphon.engine.step.backward import ObjectiveEvaluator
from tests.engine.recurring import BATCH, GOAL, STEPS, make, played
from tests.numerics.played import Played

SEER: dict[str, Any] = {"observes": ["x"], "network": {"kind": "mlp", "hidden": []}}


def masked(present: Tensor) -> Played:
    """Targets that are no number where there is none."""
    source = played(endless=True)
    source.shown["y"] = torch.where(present.unsqueeze(2), source.shown["y"], torch.nan)
    source.shown["_y"] = present
    return source


def ticked(simulation: Simulation, steps: int) -> WindowLoss:
    """What is said of the open window of the first unit after some ticks; nothing has been learned."""
    for step in range(steps):
        simulation.backend.tick(step, simulation.world.step_signals)
        simulation.world.advance()
    system = simulation.backend.system
    return ObjectiveEvaluator(system).window(system.groups[0].tape)


def parts(simulation: Simulation) -> list[AgentTick]:
    return [part for tick in simulation._system.groups[0].tape.ticks for part in tick.parts]


def by_hand(simulation: Simulation) -> Tensor:
    """[ticks, B]: the mean over components of the squared errors."""
    return torch.stack(
        [
            (part.ports[OBJECTIVE] - part.step_signals.signals["y"]).square().mean(1).detach()
            for part in parts(simulation)
        ]
    )


def test_losses_are_summed_over_ticks_and_averaged_over_environments() -> None:
    with make(played(endless=True), unroll=3) as simulation:
        verdict = ticked(simulation, 3)
        expected = by_hand(simulation)
        assert verdict.total is not None
        assert verdict.samples is not None
        assert verdict.total.requires_grad
        assert not verdict.samples.requires_grad
        torch.testing.assert_close(verdict.total.detach(), expected.sum() / BATCH)
        torch.testing.assert_close(verdict.samples, expected.sum(0))
        said = verdict.losses["a"]
        assert not said.loss.requires_grad
        torch.testing.assert_close(said.loss, expected.sum().unsqueeze(0) / BATCH)
        assert said.count == 3 * BATCH


def test_what_is_absent_counts_nothing_and_the_divisor_stays_the_batch() -> None:
    present = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    present[0, :3] = present[2, 1] = True
    with make(masked(present), unroll=3) as simulation:
        verdict = ticked(simulation, 3)
        expected = torch.where(present[:3], by_hand(simulation), 0.0)
        assert verdict.total is not None
        assert verdict.samples is not None
        torch.testing.assert_close(verdict.total.detach(), expected.sum() / BATCH)
        torch.testing.assert_close(verdict.samples, expected.sum(0))
        assert int(verdict.losses["a"].count) == 4
        assert bool(verdict.losses["a"].score.isfinite())
        learned = list(simulation.agents["a"].parameters.values())
        for gradient in torch.autograd.grad(verdict.total, learned):  # where the target is no number, too
            assert bool(gradient.isfinite().all())
            assert bool(gradient.any())


def test_the_weight_is_of_the_loss_alone() -> None:
    verdicts = []
    for weight in (1.0, 0.25):
        with make(played(endless=True), objective={**GOAL, "weight": weight}) as simulation:
            verdicts.append(ticked(simulation, 2))
    one, quarter = verdicts
    assert one.total is not None
    assert quarter.total is not None
    assert torch.equal(0.25 * one.total, quarter.total)
    assert torch.equal(0.25 * one.losses["a"].loss, quarter.losses["a"].loss)
    assert torch.equal(one.losses["a"].score, quarter.losses["a"].score)


def test_several_agents_of_a_unit_are_summed_and_told_apart() -> None:
    others = {"b": {**SEER, "objective": GOAL}}
    locked = [{"from": "a", "to": "b", "size": 2, "coupling": "locked"}]
    with make(played(endless=True), others=others, channels=locked) as simulation:
        verdict = ticked(simulation, 2)
        assert set(verdict.losses) == {"a", "b"}
        assert verdict.total is not None
        torch.testing.assert_close(
            verdict.total.detach().unsqueeze(0), verdict.losses["a"].loss + verdict.losses["b"].loss
        )
        assert verdict.samples is not None
        torch.testing.assert_close(verdict.samples.sum() / BATCH, verdict.total.detach())


def test_who_has_no_objective_or_is_not_drawn_is_not_judged() -> None:
    others = {"b": {**SEER, "objective": GOAL}}
    channels = [{"from": "a", "to": "b", "size": 2, "coupling": "locked"}]
    with make(played(endless=True), others=others, channels=channels, objective=None) as simulation:
        assert set(ticked(simulation, 2).losses) == {"b"}
    with make(played(endless=True)) as simulation:
        simulation.backend.system.agents["a"].agent_disabled = True
        verdict = ticked(simulation, 2)
        assert verdict.total is None
        assert verdict.samples is None
        assert verdict.losses == {}


def test_only_an_examples_last_step_counts_where_that_is_asked() -> None:
    document: dict[str, Any] = {
        "id": "antiphon/Digits-v0",
        "hold": 3,
        "episode": "example",
    }
    goal = {"kind": "classification", "target": "label"}
    for when, count in (("each", 6), ("last", 2)):
        own: dict[str, Any] = {
            "observes": ["image"],
            "objective": {**goal, "when": when},
            "network": {"kind": "mlp"},
        }
        with make(document, unroll=6, **own) as simulation:
            verdict = ticked(simulation, 6)
            assert verdict.losses["a"].count == count * BATCH
            steps = [
                p.step_signals.step
                for p in parts(simulation)
                if simulation.backend.evaluator.error(p) is not None
            ]
            assert steps == (list(range(6)) if when == "each" else [2, 5])


def test_an_error_is_the_derivative_of_the_loss_by_the_outputs_per_sample() -> None:
    present = torch.ones(STEPS, BATCH, dtype=torch.bool)
    present[:, 1] = False
    with make(masked(present), unroll=2) as simulation:
        judge, total = simulation.backend.evaluator, ticked(simulation, 2).total
        assert total is not None
        for part in parts(simulation):
            error = judge.error(part)
            assert error is not None
            output, target = part.ports[OBJECTIVE], part.step_signals.signals["y"]
            expected = torch.where(
                present[0].unsqueeze(1), output - target, 0.0
            ).detach()  # of (e1² + e2²) / 2
            torch.testing.assert_close(error, expected)
        total.backward()  # type: ignore[no-untyped-call]  # the graph is still there
    with make(masked(present), unroll=2) as simulation:
        ticked(simulation, 1)
        (part,) = parts(simulation)
        del part.step_signals.signals["y"]
        assert simulation.backend.evaluator.error(part) is None


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_an_error_is_weighted_as_its_loss(weight: float) -> None:
    with make(played(endless=True), objective={**GOAL, "weight": weight}) as simulation:
        ticked(simulation, 1)
        (part,) = parts(simulation)
        error = simulation.backend.evaluator.error(part)
        assert error is not None
        expected = weight * (part.ports[OBJECTIVE] - part.step_signals.signals["y"])
        torch.testing.assert_close(error, expected.detach())
